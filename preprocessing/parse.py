"""Bytes to rows: a block of JSON lines in, a RAW table and its quarantine out.

Pure: no I/O, no Dask. pyarrow's JSON parser alone decides whether a line is a record, in bulk
where a block is whole and piece by piece where it is not, so a line's fate never depends on its
neighbours or on how the input was cut. Python's parser only names the reason of a refusal.

A record is one JSON object a line whose ``uid``, ``title`` and ``content`` are strings; other
fields are ignored. A field that is there twice makes the line ambiguous and so invalid. Records
with other names, lists or attributes are read by ``mapped``.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from data.artefacts import schema
from preprocessing import mapped
from preprocessing.fields import Fields, Number
from preprocessing.mapped import Text

_FIELDS = ("uid", "title", "content")
_TEXT = pa.schema([pa.field(name, pa.string()) for name in _FIELDS])
_OPTIONS = pj.ParseOptions(explicit_schema=_TEXT, unexpected_field_behavior="ignore")
_BLANK = b" \t\r"
_NEWLINE, _RETURN, _OPEN, _CLOSE = 10, 13, 123, 125


@dataclass(frozen=True)
class Records:
    """The records of one block: lines, rows of a table, objects; not parsed yet."""

    data: bytes
    starts: np.ndarray
    """Of the records in ``data``, int64 [records]."""
    stops: np.ndarray
    offsets: np.ndarray
    """Where they start in the uncompressed file; row numbers in a file of columns."""
    size: int = 0
    """Bytes of the block in the uncompressed file."""
    digest: str = ""
    """xxh3-128 of those."""
    first: int = 0
    """Number of the first record in its file, from 0, where that is needed."""

    @property
    def text(self) -> Text:
        """The records alone."""
        return Text(self.data, self.starts, self.stops)


@dataclass(frozen=True)
class Parsed:
    """What one block of records held."""

    rows: pa.Table
    """Schema RAW, in file order."""
    quarantine: pa.Table
    """Schema QUARANTINE, in file order."""
    lines: int
    blank: int
    """Lines of white space only: counted, but neither rows nor faults."""

    @classmethod
    def of(
        cls, records: Records, good: np.ndarray, rows: pa.Table, bad: list[tuple[int, str]],
        limit: int, source: str, fields: Fields,
    ) -> "Parsed":  # fmt: skip
        """Put together what became of records.

        Args:
            records: all of them.
            good: indices of those that are rows.
            rows: texts of ``good``, in the columns of RAW and the attributes.
            bad: index and reason of each that is quarantined.
            limit: bytes of a record; of a longer one a byte more is kept.
            source: name of the file.
            fields: with the attributes.
        """
        whole = _with_line(rows, source, records.offsets[good], fields)
        quarantine = _quarantine(records, bad, source, limit)
        blank = len(records.starts) - len(good) - len(bad)
        return cls(whole, quarantine, len(records.starts), blank)

    def with_quarantined(self, **columns: list[Any]) -> "Parsed":
        """Return the same with other values in columns of the quarantine."""
        table = self.quarantine
        for name, values in columns.items():
            field = schema.QUARANTINE.field(name)
            place = table.schema.get_field_index(name)
            table = table.set_column(place, field, pa.array(values, field.type))
        return dataclasses.replace(self, quarantine=table)


def parse_lines(data: bytes, offset: int, source: str, max_line_bytes: int) -> Parsed:
    """Parse a block of whole lines.

    Args:
        data: lines, the last with or without its newline.
        offset: of ``data`` in the uncompressed stream.
        source: goes into both tables.
        max_line_bytes: a longer line is quarantined, its newline not counted.

    Returns:
        Rows, quarantined lines and counts; ``lines = rows + quarantine + blank``.
    """
    starts, stops = line_bounds(data)
    records = Records(data, starts, stops, starts + offset)
    return parse_records(records, source, Fields(), max_line_bytes)


def parse_records(
    records: Records, source: str, fields: Fields, max_line_bytes: int, text: Text | None = None
) -> Parsed:
    """Parse a block of JSON objects.

    Args:
        records: of the block.
        source: goes into both tables.
        fields: to read.
        max_line_bytes: a longer record is quarantined.
        text: the records as JSON, where they stand in other words in the file.
    """
    data, starts, stops = text or records.text
    lengths = records.stops - records.starts
    if not fields.is_plain:
        good, bad, whole = mapped.parse(
            Text(data, starts, stops), lengths, fields, max_line_bytes, records.first
        )
        return Parsed.of(records, good, whole, bad, max_line_bytes, source, fields)
    plain = _bulk(data, starts, stops) if _fits(lengths, max_line_bytes) else None
    good, bad = np.arange(len(starts)), list[tuple[int, str]]()
    if plain is None:
        good, bad, plain = _one_by_one(data, starts, stops, lengths, max_line_bytes)
    return Parsed.of(records, good, plain, bad, max_line_bytes, source, fields)


def _fits(lengths: np.ndarray, limit: int) -> bool:
    return not len(lengths) or int(lengths.max()) <= limit


def line_bounds(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Find where each line starts and stops, newline excluded. Both [lines], int64."""
    view = np.frombuffer(data, dtype=np.uint8)
    stops = np.flatnonzero(view == _NEWLINE)
    if len(view) and view[-1] != _NEWLINE:
        stops = np.append(stops, len(view))
    starts = np.concatenate([[0], stops[:-1] + 1]) if len(stops) else stops
    return starts.astype(np.int64), stops.astype(np.int64)


def _bulk(data: bytes, starts: np.ndarray, stops: np.ndarray) -> pa.Table | None:
    """Parse a block at once; None unless every line is a record beyond doubt.

    That every line opens with ``{`` and closes with ``}`` is needed besides as many rows as
    lines: pyarrow reads ``{…}{…}`` as two rows and an object over two lines as one, and a line
    ``null`` crashes it (26.0.1). With both, row i is line i: inside an open object or array
    ``}`` is never followed by ``{``, so no object can reach from one such line into the next.
    """
    if not len(starts):
        return _TEXT.empty_table()
    view = np.frombuffer(data, dtype=np.uint8)
    if int((stops - starts).min()) < 2:
        return None
    last = stops - 1
    last = last - (view[last] == _RETURN)
    if not ((view[starts] == _OPEN).all() and (view[last] == _CLOSE).all()):
        return None
    return _records(data, len(starts)) if _is_utf8(data) else None


def _is_utf8(data: bytes) -> bool:
    """Check bytes with Arrow's own validator: pyarrow's parser does not."""
    if data.isascii():
        return True
    bounds = pa.py_buffer(np.array([0, len(data)], dtype=np.int32))
    text = pa.StringArray.from_buffers(1, bounds, pa.py_buffer(data))
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _records(data: bytes, lines: int) -> pa.Table | None:
    """Let pyarrow parse lines that all open and close an object; None unless all are records."""
    reading = pj.ReadOptions(use_threads=False, block_size=len(data) + 1)
    try:
        table = pj.read_json(pa.BufferReader(data), read_options=reading, parse_options=_OPTIONS)
    except pa.ArrowInvalid:
        return None
    missing = any(table.column(name).null_count for name in _FIELDS)
    return None if missing or table.num_rows != lines else table.select(_FIELDS)


def _one_by_one(
    data: bytes, starts: np.ndarray, stops: np.ndarray, lengths: np.ndarray, max_line_bytes: int
) -> tuple[np.ndarray, list[tuple[int, str]], pa.Table]:
    """Sort the lines of a broken block into records and refused lines.

    Returns:
        Indices of the records [rows], (index, reason) of the refused lines, the records' text.
    """
    likely: list[int] = []
    bad: list[tuple[int, str]] = []
    tables: list[pa.Table] = []
    lines = [data[a:b].strip(_BLANK) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
    for index, line in enumerate(lines):
        reason = _reason(line, int(lengths[index]), max_line_bytes)
        if reason is None or (reason == "invalid_json" and _record_after_all(line)):
            likely.append(index)
        elif reason:
            bad.append((index, reason))
    good = _bisect(lines, likely, tables)
    bad = sorted(bad + [(index, "invalid_json") for index in set(likely) - set(good)])
    table = pa.concat_tables(tables) if tables else _TEXT.empty_table()
    return np.array(good, dtype=np.int64), bad, table


def _record_after_all(line: bytes) -> bool:
    """Whether pyarrow takes a line that Python's parser refused, say, as nested too deeply."""
    return line.startswith(b"{") and line.endswith(b"}") and _records(line, 1) is not None


def _bisect(lines: list[bytes], indices: Sequence[int], tables: list[pa.Table]) -> list[int]:
    """Parse lines in bulk, halving where pyarrow refuses; return the accepted indices in order."""
    if not indices:
        return []
    table = _records(b"\n".join(lines[index] for index in indices), len(indices))
    if table is not None:
        tables.append(table)
        return list(indices)
    if len(indices) == 1:
        return []
    middle = len(indices) // 2
    return _bisect(lines, indices[:middle], tables) + _bisect(lines, indices[middle:], tables)


def _reason(line: bytes, length: int, max_line_bytes: int) -> str | None:
    """Name why a line is no record; empty for a blank line, None for a likely record."""
    if length > max_line_bytes:
        return "line_too_long"
    if not line:
        return ""
    try:
        value = json.loads(
            line.decode(), object_pairs_hook=_once, parse_int=Number, parse_float=Number
        )
    except UnicodeDecodeError:
        return "invalid_utf8"
    except (ValueError, RecursionError):
        return "invalid_json"
    return _reason_of_value(value)


def _reason_of_value(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "not_an_object"
    if any(name not in value for name in _FIELDS):
        return "missing_field"
    texts = [value[name] for name in _FIELDS]
    if any(type(text) is not str for text in texts):
        return "wrong_type"
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, written as an escape
        return "invalid_json"
    return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, refusing one of our fields given twice."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        if any(names.count(name) > 1 for name in _FIELDS):
            raise ValueError("a field is there twice")
    return value


def _with_line(text: pa.Table, source: str, offsets: np.ndarray, fields: Fields) -> pa.Table:
    names = [name for name, _ in fields.attributes]
    full = schema.with_attributes(schema.RAW, names)
    columns = {name: pc.coalesce(text.column(name), pa.scalar("")) for name in (*_FIELDS, *names)}
    columns["source"] = pa.repeat(source, len(offsets))
    columns["byte_offset"] = pa.array(offsets, pa.int64())
    return pa.table([columns[name] for name in full.names], schema=full)


def _quarantine(records: Records, bad: list[tuple[int, str]], source: str, limit: int) -> pa.Table:
    lines = []
    for index, reason in bad:
        start, stop = int(records.starts[index]), int(records.stops[index])
        # The same bytes wherever the input was cut: a cut line holds one byte beyond the limit.
        if reason == "line_too_long":
            stop = min(stop, start + limit + 1)
        stop = min(stop, start + schema.QUARANTINED_LINE_BYTES)
        lines.append(records.data[start:stop])
    return pa.table(
        [
            pa.repeat(source, len(bad)),
            pa.array([int(records.offsets[index]) for index, _ in bad], pa.int64()),
            pa.array(lines, pa.binary()),
            pa.array([reason for _, reason in bad], pa.string()),
        ],
        schema=schema.QUARANTINE,
    )
