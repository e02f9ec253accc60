"""Bytes to rows: a block of JSON lines in, a RAW table and its quarantine out.

Pure: no I/O, no Dask. pyarrow's JSON parser alone decides whether a line is a record, in bulk
where a block is whole and piece by piece where it is not, so a line's fate never depends on its
neighbours or on how the input was cut. Python's parser only names the reason of a refusal.

A record is one JSON object a line whose ``uid``, ``title`` and ``content`` are strings; other
fields are ignored. A field that is there twice makes the line ambiguous and so invalid.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from data.artefacts import schema

_FIELDS = ("uid", "title", "content")
_TEXT = pa.schema([pa.field(name, pa.string()) for name in _FIELDS])
_OPTIONS = pj.ParseOptions(explicit_schema=_TEXT, unexpected_field_behavior="ignore")
_BLANK = b" \t\r"
_NEWLINE, _RETURN, _OPEN, _CLOSE = 10, 13, 123, 125


@dataclass(frozen=True)
class Parsed:
    """What one block of lines held."""

    rows: pa.Table
    """Schema RAW, in file order."""
    quarantine: pa.Table
    """Schema QUARANTINE, in file order."""
    lines: int
    blank: int
    """Lines of white space only: counted, but neither rows nor faults."""


def parse_lines(
    data: bytes, offset: int, source: str, max_line_bytes: int, attributes: Sequence[str] = ()
) -> Parsed:
    """Parse a block of whole lines.

    Args:
        data: lines, the last with or without its newline.
        offset: of ``data`` in the uncompressed stream.
        source: goes into both tables.
        max_line_bytes: a longer line is quarantined, its newline not counted.
        attributes: further fields to keep as text.

    Returns:
        Rows, quarantined lines and counts; ``lines = rows + quarantine + blank``.
    """
    starts, stops = _line_bounds(data)
    whole = _bulk(data, starts, stops, max_line_bytes)
    good, bad = np.arange(len(starts)), list[tuple[int, str]]()
    if whole is None:
        good, bad, whole = _one_by_one(data, starts, stops, max_line_bytes)
    blank = len(starts) - len(good) - len(bad)
    rows = _with_line(whole, source, starts[good] + offset)
    for name, column in _attributes(data, starts[good], stops[good], attributes).items():
        rows = rows.append_column(pa.field(name, pa.string(), nullable=False), pa.array(column))
    quarantine = _quarantine(data, starts, stops, bad, source, offset, max_line_bytes)
    return Parsed(rows, quarantine, len(starts), blank)


def _line_bounds(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Find where each line starts and stops, newline excluded. Both [lines], int64."""
    view = np.frombuffer(data, dtype=np.uint8)
    stops = np.flatnonzero(view == _NEWLINE)
    if len(view) and view[-1] != _NEWLINE:
        stops = np.append(stops, len(view))
    starts = np.concatenate([[0], stops[:-1] + 1]) if len(stops) else stops
    return starts.astype(np.int64), stops.astype(np.int64)


def _bulk(
    data: bytes, starts: np.ndarray, stops: np.ndarray, max_line_bytes: int
) -> pa.Table | None:
    """Parse a block at once; None unless every line is a record beyond doubt.

    That every line opens with ``{`` and closes with ``}`` is needed besides as many rows as
    lines: pyarrow reads ``{…}{…}`` as two rows and an object over two lines as one, and a line
    ``null`` crashes it (26.0.1). With both, row i is line i: inside an open object or array
    ``}`` is never followed by ``{``, so no object can reach from one such line into the next.
    """
    if not len(starts):
        return _TEXT.empty_table()
    view = np.frombuffer(data, dtype=np.uint8)
    if int((stops - starts).max()) > max_line_bytes or int((stops - starts).min()) < 2:
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
    data: bytes, starts: np.ndarray, stops: np.ndarray, max_line_bytes: int
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
        reason = _reason(line, int(stops[index] - starts[index]), max_line_bytes)
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


class _Number(str):
    """A JSON number as its digits: of any length, and yet no text."""


def _reason(line: bytes, length: int, max_line_bytes: int) -> str | None:
    """Name why a line is no record; empty for a blank line, None for a likely record."""
    if length > max_line_bytes:
        return "line_too_long"
    if not line:
        return ""
    try:
        value = json.loads(
            line.decode(), object_pairs_hook=_once, parse_int=_Number, parse_float=_Number
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


def _attributes(
    data: bytes, starts: np.ndarray, stops: np.ndarray, names: Sequence[str]
) -> dict[str, list[str]]:
    """Read the attributes of records: text, numbers as their digits, else empty."""
    if not names:
        return {}
    records = [
        json.loads(data[start:stop], parse_int=str, parse_float=str)
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
    ]
    values = {name: [record.get(name) for record in records] for name in names}
    return {
        name: [value if isinstance(value, str) else "" for value in column]
        for name, column in values.items()
    }


def _with_line(text: pa.Table, source: str, offsets: np.ndarray) -> pa.Table:
    columns = [pc.coalesce(text.column(name), pa.scalar("")) for name in _FIELDS]
    lines = pa.array(offsets, pa.int64())
    return pa.table([*columns, pa.repeat(source, len(offsets)), lines], schema=schema.RAW)


def _quarantine(
    data: bytes,
    starts: np.ndarray,
    stops: np.ndarray,
    bad: list[tuple[int, str]],
    source: str,
    offset: int,
    max_line_bytes: int,
) -> pa.Table:
    lines = []
    for index, reason in bad:
        start, stop = int(starts[index]), int(stops[index])
        # The same bytes wherever the input was cut: a cut line holds one byte beyond the limit.
        if reason == "line_too_long":
            stop = min(stop, start + max_line_bytes + 1)
        lines.append(data[start : min(stop, start + schema.QUARANTINED_LINE_BYTES)])
    return pa.table(
        [
            pa.repeat(source, len(bad)),
            pa.array([int(starts[index]) + offset for index, _ in bad], pa.int64()),
            pa.array(lines, pa.binary()),
            pa.array([reason for _, reason in bad], pa.string()),
        ],
        schema=schema.QUARANTINE,
    )
