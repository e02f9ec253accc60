r"""Records that differ in their strings alone, read by arrow-rs in two thirds of pyarrow's time.

Pure. arrow-rs takes commas for spaces, any signs and digits for a number, control characters for
text, the last of a field's values, and ``\ud842\udfb7`` for another character: what is read here is
proved to hold none of it. The first record is JSON to Python's parser; all others have
as many strings, with the same bytes between them; a field that is there twice leaves another one
null; as many characters beyond U+FFFF are read as are written out.
"""

import io
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
from arro3.io import read_json

_NEWLINE, _SPACE, _QUOTE, _BACKSLASH, _OPEN, _CLOSE = b'\n "\\{}'
# The first byte of a character beyond U+FFFF is this or more.
_FOUR_BYTES = 0xF0
# What is looked at together before arrow-rs parses, and the rows of its batches.
_CHECKED_BYTES, _ROWS_TOGETHER = 2**21, 2**12


def read(
    data: bytes, starts: np.ndarray, stops: np.ndarray, first_record: Any, names: tuple[str, ...]
) -> pa.Table | None:
    """Read records that are alike.

    Args:
        data: lines.
        starts: of the records in ``data``, one at least: int64 [records].
        stops: of the records.
        first_record: what Python's parser makes of the first one.
        names: of the fields that are read.

    Returns:
        [records] strings, a column a name; None where records may be of another kind.
    """
    # An error about another kind may hold a NUL of the record's, which ends the process.
    if (
        not isinstance(first_record, dict) or first_record.keys() != set(names)
        or not all(isinstance(text, str) for text in first_record.values())
        or max("".join(names), default="") > "\uffff"
        or starts[0] or (starts[1:] != stops[:-1] + 1).any() or stops[-1] < len(data) - 1
    ):  # fmt: skip
        return None
    view, strings = np.frombuffer(data, np.uint8), 2 * len(names)
    model = _between(view, starts[:1], stops[:1], strings)
    steps = np.searchsorted(starts, range(0, len(data), _CHECKED_BYTES))
    for first, last in itertools.pairwise(np.unique([*steps, len(starts)])):
        between = _between(view, starts[first:last], stops[first:last], strings)
        if not between or any((a != b).any() for a, b in zip(between, model, strict=True)):
            return None
    types = pa.schema([(name, pa.string()) for name in names])
    try:
        batches = read_json(io.BytesIO(data), types, batch_size=_ROWS_TOGETHER)
        table = pa.RecordBatchReader.from_stream(batches).read_all()
    except pa.ArrowInvalid:
        return None
    chunks = [chunk for column in table.columns for chunk in column.chunks]
    is_whole = table.num_rows == len(starts) and not any(chunk.null_count for chunk in chunks)
    texts = [np.frombuffer(chunk.buffers()[2] or b"", np.uint8) for chunk in chunks]
    return table if is_whole and sum(map(_beyond_bmp, texts)) == _beyond_bmp(view) else None


def _beyond_bmp(view: np.ndarray) -> int:
    """Count the characters beyond U+FFFF in bytes of UTF-8."""
    if view.max(initial=0) < _FOUR_BYTES:  # a fifth of the time
        return 0
    return int(np.count_nonzero(view >= _FOUR_BYTES))


def _between(
    view: np.ndarray, starts: np.ndarray, stops: np.ndarray, strings: int
) -> tuple[np.ndarray, ...]:
    """Look at what is between the strings of records; nothing where they are not so many each.

    Returns:
        How many bytes lie between one string and the next, two at most, and the first two from
        there on: each [records, strings - 1].
    """
    view = view[starts[0] : stops[-1] + 1]
    starts, stops = starts - starts[0], stops - starts[0]
    newlines = stops[stops < len(view)]
    if np.count_nonzero(view < _SPACE) != len(newlines) or (view[newlines] != _NEWLINE).any():
        return ()
    quotes = np.flatnonzero(view == _QUOTE)
    is_escaped = view[quotes - 1] == _BACKSLASH
    if (view[quotes[is_escaped] - 2] == _BACKSLASH).any():  # a string may end there
        return ()
    quotes = quotes[~is_escaped]
    if len(quotes) != 2 * strings * len(starts):
        return ()
    quotes = quotes.reshape(len(starts), 2 * strings)
    ends, begins = quotes[:, 1:-1:2], quotes[:, 2::2]
    apart = begins - ends - 1
    is_sure = (
        (quotes[:, 0] == starts + 1).all() and (view[starts] == _OPEN).all()
        and (quotes[:, -1] == stops - 2).all() and (view[stops - 1] == _CLOSE).all()
        and apart.max(initial=0) <= 2
    )  # fmt: skip
    return (apart, view[ends + 1], view[ends + 2]) if is_sure else ()
