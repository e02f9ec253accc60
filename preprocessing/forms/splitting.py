"""Where records start and stop in text that begins where a record may begin.

Pure: UTF-8 bytes in, bounds out. Nothing is parsed: a record may still prove broken.
"""

import functools
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_NEWLINE, _QUOTE, _OPEN, _CLOSE = 10, 34, 123, 125
_SEPARATORS = b" \t\r\n,[]"
# What stands between objects and is none: text in quotes whole, and no comma or bracket.
_STRAY = re.compile(rb'(?:"(?:[^"\\\n]|\\[^\n])*+"|[^,\n\[\]"]|")+')


@dataclass(frozen=True)
class Bounds:
    """Records of a piece of text."""

    starts: np.ndarray
    """Of the records, int64 [records]."""
    stops: np.ndarray
    used: int
    """Where the first record that may go on behind the piece starts."""
    depth: int = 0
    """Brackets that were opened between records, less those closed."""


def lines(data: bytes, final: bool) -> Bounds:
    """Find lines, their newline left out."""
    view = np.frombuffer(data, dtype=np.uint8)
    stops = np.flatnonzero(view == _NEWLINE)
    starts = np.concatenate([[0], stops + 1])
    used = int(starts[-1])
    if final and used < len(data):
        return Bounds(starts, np.append(stops, len(data)), len(data))
    return Bounds(starts[:-1], stops, used)


def rows(data: bytes, final: bool, separator: str, limit: int) -> Bounds:
    """Find the rows of a table (RFC 4180): a row ends at a newline that is in no quotes.

    Quotes open only at the start of a cell, and close only before a separator or newline. A row
    whose quotes do not close so, or only beyond ``limit`` bytes, ends with its line.
    """
    within, last = _row(separator, False, False), _row(separator, not final, final)
    starts, stops = array("q"), array("q")  # a list of integers takes five times the memory
    at, end = 0, len(data)
    while at < end:
        # No more than this is looked at, so that a row is the same wherever the piece ends.
        until = min(at + limit + 1, end)
        match = (within if until < end else last).match(data, at, until)
        if not match and until == end and not final:
            break
        stop = match.end() if match else data.find(b"\n", at) + 1
        if not (stop or final):
            break
        stop = stop or end
        starts.append(at)
        stops.append(stop - 1 if data[stop - 1] == _NEWLINE else stop)
        at = stop
    return Bounds(np.array(starts, np.int64), np.array(stops, np.int64), at)


@functools.cache
def _row(separator: str, is_open: bool, is_last: bool) -> re.Pattern[bytes]:
    """Return what fits a row of a piece that may go on, or that the file ends with."""
    comma = re.escape(separator).encode()
    quoted = rb'"[^"]*+(?:""[^"]*+)*+"'
    end = rb"\Z" if is_last else rb"(?!)"
    # In a piece that goes on, quotes that are open at its end may still close.
    plain = rb"[^%b\n]*+" % comma
    if is_open:
        plain = rb'(?!"[^"]*+(?:""[^"]*+)*+"?\r?\Z)' + plain
    # Atomic: a quoted cell stays one where the row has no end yet.
    cell = rb"(?>%b(?=%b|\r?\n|\r?%b)\r?|%b)" % (quoted, comma, end, plain)
    return re.compile(rb"%b(?:%b%b)*+(?:\n|%b)" % (cell, comma, cell, end))


@functools.cache
def sound_row(separator: str) -> re.Pattern[bytes]:
    """Return what fits a row, no object of JSON, whose quotes all pair as they should."""
    comma = re.escape(separator).encode()
    cell = rb'(?:"[^"]*+(?:""[^"]*+)*+"\r?|(?!")[^%b\n]*+)' % comma
    return re.compile(rb"(?!\{[\"'][^\0]*\}\r?\Z)%b(?:%b%b)*+" % (cell, comma, cell))


def objects(data: bytes, final: bool) -> Bounds:
    """Find JSON objects one after the other, in an array or not, and what stray text is between.

    Returns:
        Objects from brace to brace, and each stray value, as records. Where the text ends inside
        an object or text in quotes, ``used`` is where that starts, ``final`` or not.
    """
    opens, closes, cut = _braces(data)
    starts, stops = opens[: len(closes)], closes + 1
    end = len(data) if final and not cut else int(stops[-1]) if len(stops) else 0
    between = _outside(data, starts, stops, end)
    if between.strip(_SEPARATORS):
        edges, until = [0, *stops.tolist()], [*starts.tolist(), end]
        stray = np.array([bounds for edge, stop in zip(edges, until, strict=True)
                          if stop > edge for bounds in _stray(edge, data[edge:stop])])  # fmt: skip
        both = np.concatenate([np.stack([starts, stops], 1), stray.reshape(-1, 2)])
        both = both[np.argsort(both[:, 0])].astype(np.int64)
        starts, stops = both[:, 0], both[:, 1]
    depth = between.count(b"[") - between.count(b"]")
    return Bounds(starts, stops, end, depth)


def hidden(line: bytes, reason: str) -> int:
    """Count the records that a quarantined line or row holds beyond one, as far as they are seen.

    Those are objects on one line, or rows that end in a bare CR where others do not.
    """
    if reason == "wrong_columns":
        return len(re.findall(rb"\r(?!\n|\Z)", line))
    if reason not in ("invalid_json", "not_an_object", "line_too_long", "invalid_csv"):
        return 0
    begun = [at for at in objects(line, final=True).starts.tolist() if line[at] == _OPEN]
    return max(len(begun) - 1, 0)


def _outside(data: bytes, starts: np.ndarray, stops: np.ndarray, end: int) -> bytes:
    """Return the text before ``end`` that is in none of the objects."""
    edges = np.zeros(end + 1, dtype=np.int8)
    edges[starts] += 1
    edges[stops] -= 1
    is_outside = np.cumsum(edges, dtype=np.int8)[:end] == 0
    view = np.frombuffer(data, dtype=np.uint8, count=end)
    return bytes(view[is_outside])


def _stray(edge: int, gap: bytes) -> Iterator[tuple[int, int]]:
    """Find the values between two objects that start at byte ``edge``."""
    for match in _STRAY.finditer(gap.rstrip(_SEPARATORS)):
        value = match[0].strip()
        if value:
            start = edge + match.start() + match[0].index(value)
            yield start, start + len(value)


def _braces(data: bytes) -> tuple[np.ndarray, np.ndarray, bool]:
    """Find the braces of the outermost objects.

    Returns:
        Opening braces [n or n + 1], closing ones [n], and whether the text ends inside an object
        or text in quotes.
    """
    hidden = data
    if b"\\" in data:
        hidden = data.replace(b"\\\\", b"..").replace(b'\\"', b"..")
    view = np.frombuffer(hidden, dtype=np.uint8)
    quotes = np.flatnonzero(view == _QUOTE)
    braces = np.flatnonzero((view == _OPEN) | (view == _CLOSE))
    braces = braces[(np.searchsorted(quotes, braces) & 1) == 0]
    is_open = view[braces] == _OPEN
    level = np.cumsum(np.where(is_open, 1, -1))
    # A closing brace too many closes nothing.
    level -= np.minimum.accumulate(np.minimum(level, 0)) if len(level) else 0
    before = np.concatenate([[0], level[:-1]]) if len(level) else level
    opens = braces[is_open & (level == 1)]
    closes = braces[~is_open & (level == 0) & (before == 1)]
    return opens, closes, bool(len(quotes) & 1) or len(opens) > len(closes)
