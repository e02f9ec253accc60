"""JSON objects to texts: the fields that are read of every record, or why it is none.

Pure. pyarrow, or ``alike``, reads a block at once where its values are of the kinds of its first
records; a block or record that is not so is read by Python's parser, and confirmed by pyarrow's, so
a record's fate never depends on its neighbours or on how the input was cut. A field that is read
and there twice makes a record ambiguous and so invalid; other fields are ignored.
"""

import json
import re
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from preprocessing import alike
from preprocessing.config import COLUMNS
from preprocessing.fields import Fields, Number

_BLANK = b" \t\r\n"
_LOOKED_AT = 20
_LIST = pa.list_(pa.string())
_NUMBER = rb"(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)(?=[ \t\r\n]*[,}])"
_OPEN, _CLOSE = b"{}"
# What pyarrow parses at a time: what it makes of more leaves the processor's cache.
_TOGETHER_BYTES = 2**20


class Text(NamedTuple):
    """JSON objects in a piece of text."""

    data: bytes
    starts: np.ndarray
    stops: np.ndarray

    @classmethod
    def of(cls, lines: list[bytes]) -> "Text":
        """Put lines one below the other."""
        stops = np.cumsum([len(line) + 1 for line in lines], dtype=np.int64) - 1
        starts = np.concatenate([[0], stops[:-1] + 1]) if len(stops) else stops
        return cls(b"\n".join(lines), starts.astype(np.int64), stops)

    @property
    def lines(self) -> list[bytes]:
        """The records one by one."""
        bounds = zip(self.starts.tolist(), self.stops.tolist(), strict=True)
        return [self.data[start:stop] for start, stop in bounds]


Verdict = tuple[str, ...] | str


def parse(
    text: Text, lengths: np.ndarray, fields: Fields, limit: int, first: int
) -> tuple[np.ndarray, list[tuple[int, str]], pa.Table]:
    """Read records.

    Args:
        text: of the records.
        lengths: of the records as they stand in the file, in bytes.
        fields: to read.
        limit: a longer record is none.
        first: number of the first one in its file.

    Returns:
        Indices of the records, (index, reason) of those refused, and the records' texts: uid,
        title, content and attributes.
    """
    names = [*COLUMNS, *(name for name, _ in fields.attributes)]
    bulk = _bulk(text, lengths, fields, limit, first)
    table, again = bulk or (None, np.arange(len(text.starts)))
    if table is not None and not len(again):
        return np.arange(table.num_rows), [], table
    lines = text.lines
    judged = [(int(i), _judge(lines[i], int(lengths[i]), fields, limit, first + int(i)))
              for i in again]  # fmt: skip
    judged = _confirm(lines, judged)
    texts = [(i, verdict) for i, verdict in judged if isinstance(verdict, tuple)]
    bad = [(i, verdict) for i, verdict in judged if isinstance(verdict, str) and verdict]
    columns = list(zip(*(verdict for _, verdict in texts), strict=True)) or [()] * len(names)
    single = pa.table([pa.array(column, pa.string()) for column in columns], names=names)
    good = np.array([i for i, _ in texts], dtype=np.int64)
    if table is None:
        return good, bad, single
    whole = np.setdiff1d(np.arange(len(text.starts)), again)
    order = np.argsort(np.concatenate([whole, good]), kind="stable")
    rows = pa.concat_tables([table.take(whole), single]).take(order)
    return np.sort(np.concatenate([whole, good])), bad, rows


def _bulk(
    text: Text, lengths: np.ndarray, fields: Fields, limit: int, first: int
) -> tuple[pa.Table, np.ndarray] | None:
    """Read a block at once; None where its records are not of one kind beyond doubt.

    Returns:
        A row a record, and the indices of those that Python's parser has to judge.
    """
    count = len(text.starts)
    if not count or int(lengths.max()) > limit:
        return None
    looked_at = Text(text.data, text.starts[:_LOOKED_AT], text.stops[:_LOOKED_AT])
    first_records = [_load(line) for line in looked_at.lines]
    if (kinds := _kinds(first_records, fields)) is None:
        return None
    table = alike.read(*text, first_records[0], tuple(kinds)) or _of_those_kinds(text, kinds)
    if table is None:
        return None
    joined, doubtful = {}, np.zeros(count, dtype=bool)
    for name in fields.names:
        column = table.column(name).combine_chunks()
        if pa.types.is_list(column.type):
            listed = column
            column = pc.binary_join(listed, " ")
            doubtful |= pc.and_(column.is_null(), listed.is_valid()).to_numpy(False)
        if column.null_count:
            if name in fields.required:
                doubtful |= column.is_null().to_numpy(False)
            column = column.fill_null("")
        joined[name] = column
    columns = {
        "uid": joined[fields.uid]
        if fields.uid is not None
        else pa.array(np.arange(first, first + count)).cast(pa.string()),
        "title": joined[fields.title],
        "content": joined[fields.content],
    } | {name: joined[theirs] for name, theirs in fields.attributes}
    return pa.table(columns), np.flatnonzero(doubtful)


def _of_those_kinds(text: Text, kinds: dict[str, Any]) -> pa.Table | None:
    """Read records by pyarrow, whatever else they hold; None where some are of other kinds."""
    if not is_regular(text) or not is_utf8(text.data):
        return None
    data = text.data
    for name in (name for name, kind in kinds.items() if kind is Number):
        key = re.escape(json.dumps(name).encode())
        data = re.sub(rb"(%b[ \t\r\n]*:[ \t\r\n]*)" % key + _NUMBER, rb'\1"\2"', data)
    types = [(name, _LIST if kind is list else pa.string()) for name, kind in kinds.items()]
    longest = int((text.stops - text.starts).max()) + len(data) - len(text.data)
    return records(data, len(text.starts), longest, pa.schema(types))


def is_regular(text: Text) -> bool:
    """Whether every record opens and closes an object.

    That is needed besides as many rows as records: pyarrow reads ``{…}{…}`` as two rows and an
    object over two lines as one, and a line ``null`` crashes it (26.0.1). With both, row i is
    record i: inside an open object or array ``}`` is never followed by ``{``, so no object can
    reach from one such line into the next.
    """
    if not len(text.starts) or int((text.stops - text.starts).min()) < 2:
        return False
    view = np.frombuffer(text.data, dtype=np.uint8)
    last = text.stops - 1
    last = last - (view[last] == 13)
    return bool((view[text.starts] == _OPEN).all() and (view[last] == _CLOSE).all())


def is_utf8(data: bytes) -> bool:
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


def records(data: bytes, count: int, longest: int, types: pa.Schema) -> pa.Table | None:
    """Let pyarrow parse objects; None unless as many records as that come of it.

    Args:
        data: lines.
        count: of the objects.
        longest: bytes of a line at most.
        types: of the fields that are read.
    """
    # A block holds the longest line and its end, or pyarrow gives up.
    reading = pj.ReadOptions(use_threads=False, block_size=max(_TOGETHER_BYTES, longest + 2))
    options = pj.ParseOptions(explicit_schema=types, unexpected_field_behavior="ignore")
    try:
        table = pj.read_json(pa.BufferReader(data), read_options=reading, parse_options=options)
    except pa.ArrowInvalid:
        return None
    return table if table.num_rows == count else None


def _kinds(records: list[Any], fields: Fields) -> dict[str, Any] | None:
    """Tell text, lists and numbers apart by the first records; None for anything else."""
    kinds: dict[str, Any] = {}
    for record in records:
        if not isinstance(record, dict):
            continue
        for name in fields.names:
            value = record.get(name)
            if value is not None:
                kinds.setdefault(name, type(value))
    numbers = {theirs for _, theirs in fields.attributes} | {fields.uid}
    numbers -= {fields.title, fields.content} | ({fields.uid} if fields.is_strict else set())
    lists = set(fields.names) - {fields.uid}
    if fields.is_strict:
        lists -= {fields.title, fields.content}
    for name, kind in kinds.items():
        if not (kind is str or (kind is Number and name in numbers)
                or (kind is list and name in lists)):  # fmt: skip
            return None
    return {name: kinds.get(name, str) for name in fields.names}


def _judge(line: bytes, length: int, fields: Fields, limit: int, number: int) -> Verdict:
    """Return the texts of a record, or the reason why it is none; empty for a blank line."""
    if length > limit:
        return "line_too_long"
    if not (line := line.strip(_BLANK)):
        return ""
    try:
        record = _load(line, fields.names)
    except UnicodeDecodeError:
        return "invalid_utf8"
    if record is None and line != b"null":
        return _beyond_python(line, fields, number)
    if not isinstance(record, dict):
        return "not_an_object"
    texts = fields.texts(record, number)
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, written as an escape
        return "invalid_json"
    return texts


def _beyond_python(line: bytes, fields: Fields, number: int) -> Verdict:
    """Judge a line that Python's parser refuses: pyarrow's takes some, say, nested deeply."""
    bulk = _bulk(Text.of([line]), np.array([0]), fields, 0, number)
    if bulk is None or len(bulk[1]):
        return "invalid_json"
    return tuple(bulk[0].to_pylist()[0].values())


def _load(line: bytes, names: tuple[str, ...] = ()) -> Any:
    """Parse a line of JSON with its numbers' digits; None where it is none."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            keys = [name for name, _ in pairs]
            if any(keys.count(name) > 1 for name in names):
                raise ValueError("a field is there twice")
        return value

    hooks: dict[str, Any] = {"parse_int": Number, "parse_float": Number}
    try:
        return json.loads(line.decode(), object_pairs_hook=once, **hooks)
    except UnicodeDecodeError:
        if names:
            raise
        return None
    except (ValueError, RecursionError):
        return None


def _confirm(lines: list[bytes], judged: list[tuple[int, Verdict]]) -> list[tuple[int, Verdict]]:
    """Refuse what pyarrow's parser refuses as JSON, though Python's does not."""
    likely = [i for i, verdict in judged if isinstance(verdict, tuple)]
    refused = set(_refused(lines, likely))
    return [(i, "invalid_json" if i in refused else verdict) for i, verdict in judged]


def _refused(lines: list[bytes], indices: list[int]) -> list[int]:
    if not indices:
        return []
    joined = b"\n".join(lines[i] for i in indices)
    longest = max(len(lines[i]) for i in indices)
    if records(joined, len(indices), longest, pa.schema([])) is not None:
        return []
    if len(indices) == 1:
        return indices
    middle = len(indices) // 2
    return _refused(lines, indices[:middle]) + _refused(lines, indices[middle:])
