"""Records to rows: a block of them in, a RAW table and its quarantine out.

Pure: no I/O, no Dask.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from data.artefacts import schema
from preprocessing import objects
from preprocessing.config import COLUMNS
from preprocessing.fields import Fields
from preprocessing.objects import Text

_NEWLINE = 10


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
    lengths = records.stops - records.starts
    good, bad, whole = objects.parse(
        text or records.text, lengths, fields, max_line_bytes, records.first
    )
    return Parsed.of(records, good, whole, bad, max_line_bytes, source, fields)


def line_bounds(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Find where each line starts and stops, newline excluded. Both [lines], int64."""
    view = np.frombuffer(data, dtype=np.uint8)
    stops = np.flatnonzero(view == _NEWLINE)
    if len(view) and view[-1] != _NEWLINE:
        stops = np.append(stops, len(view))
    starts = np.concatenate([[0], stops[:-1] + 1]) if len(stops) else stops
    return starts.astype(np.int64), stops.astype(np.int64)


def _with_line(text: pa.Table, source: str, offsets: np.ndarray, fields: Fields) -> pa.Table:
    names = [name for name, _ in fields.attributes]
    full = schema.with_attributes(schema.RAW, names)
    columns = {name: text.column(name) for name in (*COLUMNS, *names)}
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
