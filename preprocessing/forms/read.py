"""Blocks of records out of a file of any form, read in order, and blocks to rows.

JSON lines and Python dictionaries that lie plain on a disk are cut by byte ranges instead
(``source``); both ways a block and its rows depend on the file and the settings alone.
"""

import dataclasses
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from typing import IO

import numpy as np
import pyarrow as pa

from data.artefacts.folder import digest_bytes
from data.errors import SourceError
from data.sources import streams
from preprocessing.fields import Fields
from preprocessing.files import SourceFile
from preprocessing.forms import columnar, literals, separated, splitting
from preprocessing.forms.encoding import Decoder, as_stored
from preprocessing.objects import Text
from preprocessing.parse import Parsed, Records, parse_records

# An object that is not whole after so many bytes holds more than one record.
_LARGEST_OBJECT = 16
# Parsed at once: as many as lines of 128 bytes in a block of the usual size.
_MOST_RECORDS = 2**17


def records(
    file: SourceFile, fields: Fields, block_bytes: int, max_line_bytes: int
) -> Iterator[tuple[Records, int]]:
    """Read a file's blocks in order, each with the stored bytes read so far.

    Memory holds a few blocks, however large the file is.

    Raises:
        SourceError: the file is damaged, or breaks off inside a record.
    """
    with file.open_packed(block_bytes) as (stream, tell):
        if file.form in ("parquet", "arrow"):
            yield from columnar.records(file, stream, tell, fields, block_bytes)
        else:
            yield from _Text(file, block_bytes, max_line_bytes).records(stream, tell)


class _Text:
    """Cuts a stream of text into blocks: each holds the records that end in its bytes."""

    def __init__(self, file: SourceFile, block_bytes: int, max_line_bytes: int) -> None:
        self._file, self._block_bytes, self._limit = file, block_bytes, max_line_bytes
        self._decoder = Decoder(file.encoding)
        # Text behind the last whole record, where it starts in the file, and the records before.
        self._rest, self._at, self._first = b"", 0, 0
        self._is_skipping = False
        self._has_header = file.form == "table"
        self._depth = 0

    def records(self, stream: IO[bytes], tell: Callable[[], int]) -> Iterator[tuple[Records, int]]:
        """Read the blocks of the stream, each with ``tell()`` behind it."""
        raw, begun = streams.read_exactly(stream, self._block_bytes), False
        while raw or not begun:
            read, following = tell(), streams.read_exactly(stream, self._block_bytes)
            text = self._decode(raw, final=not following)
            if not begun:
                text = self._without_mark(text)
            if self._file.is_cr:
                text = text.replace(b"\r", b"\n")
            block = self._cut(text, final=not following)
            yield Records(*block, len(raw), digest_bytes(raw), self._first), read
            self._first += len(block[1])
            raw, begun = following, True

    def _decode(self, raw: bytes, final: bool) -> bytes:
        try:
            return self._decoder.decode(raw, final)
        except UnicodeError as error:  # UTF-16 and UTF-32 alone: other faults cost a record
            encoding = self._file.encoding
            hint = f"state the order of its bytes: --encoding {encoding}-le or {encoding}-be"
            raise SourceError(self._file.where, f"the mark of {encoding}", "none", hint) from error

    def _without_mark(self, text: bytes) -> bytes:
        if text.startswith(BOM_UTF8):
            self._at = int(self._decoder.places(text, np.array([len(BOM_UTF8)]))[0])
            return text[len(BOM_UTF8) :]
        self._at = self._decoder.mark
        return text

    def _cut(self, text: bytes, final: bool) -> tuple[bytes, np.ndarray, np.ndarray, np.ndarray]:
        """Return the text of whole records, and their starts, stops and places in the file."""
        data = self._rest + text
        begin = self._skip(data) if self._is_skipping else 0
        bounds = self._split(data[begin:] if begin else data, final)
        starts, stops, used = bounds.starts + begin, bounds.stops + begin, bounds.used + begin
        self._depth += bounds.depth
        if len(data) - used > self._limit + 1 and not final and not self._is_skipping:
            starts, stops, used = self._begin_skipping(data, starts, stops, used)
        if self._has_header:
            starts, stops = self._without_header(data, starts, stops)
        offsets = self._decoder.places(data, np.append(starts, used)) + self._at
        self._at, self._rest = int(offsets[-1]), data[used:]
        if self._file.form == "objects":
            self._check(final, starts, stops)
        return data[:used], starts, stops, offsets[:-1]

    def _split(self, data: bytes, final: bool) -> splitting.Bounds:
        if self._file.form == "objects":
            return splitting.objects(data, final)
        if self._file.form == "table":
            return splitting.rows(data, final, self._file.separator, self._limit)
        return splitting.lines(data, final)

    def _without_header(
        self, data: bytes, starts: np.ndarray, stops: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Leave out the row with the columns' names, and what is blank before it."""
        for place, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
            if data[start:stop].strip():
                self._has_header = False
                return starts[place + 1 :], stops[place + 1 :]
        return starts[:0], stops[:0]

    def _begin_skipping(
        self, data: bytes, starts: np.ndarray, stops: np.ndarray, used: int
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Cut a line without an end one byte beyond the limit; leave the rest of it out."""
        if self._file.form == "objects":
            return starts, stops, used
        self._is_skipping = True
        return np.append(starts, used), np.append(stops, used + self._limit + 1), len(data)

    def _skip(self, data: bytes) -> int:
        newline = data.find(b"\n") + 1
        self._is_skipping = not newline
        return newline or len(data)

    def _check(self, final: bool, starts: np.ndarray, stops: np.ndarray) -> None:
        """Check that no object is too long to be one record, and that the last one is whole.

        Raises:
            SourceError: it is not.
        """
        most = _LARGEST_OBJECT * self._limit
        if len(self._rest) > most or (len(starts) and int((stops - starts).max()) > most):
            found = f"one of more than {most:,} from byte {self._at:,}"
            hint = "records that are one object's values: jq -c '.[]' makes lines of them"
            raise SourceError(self._file.url, f"objects of at most {most:,} bytes", found, hint)
        if final and (self._rest.strip() or (self._depth > 0 and self._file.is_array)):
            what = "a JSON array that breaks off" if self._file.is_array else "JSON that breaks off"
            at = self._at + len(self._rest) - len(self._rest.lstrip(b" \t\r\n,"))
            found = f"{what} at byte {at:,}"
            raise SourceError(self._file.url, "a whole file", found, "fetch it again")


def parse(records: Records, file: SourceFile, fields: Fields, max_line_bytes: int) -> Parsed:
    """Parse one block of a file; one of very many records, such as blank lines, in pieces."""
    if file.form in ("parquet", "arrow"):
        return columnar.parse(records, file.name, fields, max_line_bytes)
    if len(records.starts) <= _MOST_RECORDS:
        return _parse(records, file, fields, max_line_bytes)
    pieces = (_piece(records, at) for at in range(0, len(records.starts), _MOST_RECORDS))
    parsed = [_parse(piece, file, fields, max_line_bytes) for piece in pieces]
    return Parsed(
        pa.concat_tables([piece.rows for piece in parsed]).combine_chunks(),
        pa.concat_tables([piece.quarantine for piece in parsed]).combine_chunks(),
        sum(piece.lines for piece in parsed),
        sum(piece.blank for piece in parsed),
    )


def _piece(records: Records, at: int) -> Records:
    """Cut some records out of a block, from one on."""
    starts, stops = (bounds[at : at + _MOST_RECORDS] for bounds in (records.starts, records.stops))
    begin, end = int(starts[0]), int(stops[-1])
    return dataclasses.replace(
        records,
        data=records.data[begin:end],
        starts=starts - begin,
        stops=stops - begin,
        offsets=records.offsets[at : at + _MOST_RECORDS],
        first=records.first + at,
    )


def _parse(records: Records, file: SourceFile, fields: Fields, max_line_bytes: int) -> Parsed:
    if file.form == "table":
        parsed = separated.parse(records, file, fields, max_line_bytes)
    elif file.form == "dicts":
        parsed = literals.parse(records, file.name, fields, max_line_bytes)
    else:
        text = _joined(records) if file.form == "objects" or file.has_commas else None
        parsed = parse_records(records, file.name, fields, max_line_bytes, text)
    if file.encoding == "utf-8" or not parsed.quarantine.num_rows:
        return parsed
    lines = [as_stored(line) for line in parsed.quarantine["line"].to_pylist()]
    return parsed.with_quarantined(line=lines)


def _joined(records: Records) -> Text:
    """Put objects one below the other, without commas behind them."""
    lines = [line.rstrip() for line in records.text.lines]
    return Text.of([line.removesuffix(b",") for line in lines])
