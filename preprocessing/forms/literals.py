"""Python dictionaries, one a line, as ``repr`` writes them: to JSON, and then to rows.

Never evaluated. One regular expression finds the texts of a whole block, and replacements turn
their quotes and escapes into JSON's, in bulk; pyarrow's parser then says whether all of it was
right. A line that the two do not agree on is read by ``ast.literal_eval`` alone. A line of JSON
is read as such. A dictionary with one of our fields twice is ambiguous and so invalid.
"""

import ast
import itertools
import json
import re
import warnings
from typing import Any

import numpy as np
import pyarrow.compute as pc

from preprocessing.fields import Fields
from preprocessing.objects import Text, is_regular
from preprocessing.parse import Parsed, Records, line_bounds, parse_records

# Escapes that JSON has not, once those of quotes and backslashes are out of the way; and those of
# them that have no counterpart in JSON.
_OTHER_ESCAPE, _NO_ESCAPE = re.compile(rb"\\[^nrtbfu]"), re.compile(rb"\\[^nrtbfux]")
_WORDS = ((b"None", b"null"), (b"True", b"true"), (b"False", b"false"))
_NEWLINE, _SINGLE_QUOTE, _DOUBLE_QUOTE, _SPACE = 10, 39, 34, 32
# What is converted together: small enough for a processor's cache.
_PIECE_BYTES = 2**20
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_PAIR, _SINGLE, _DOUBLE, _BETWEEN = b"\x01", b"\x02", b"\x03", b"\x00"
_ESCAPED = re.compile(rb"""\\['"\\]""")
_HIDDEN = {b"\\\\": _PAIR, b"\\'": _SINGLE, b'\\"': _DOUBLE}


def parse(block: Records, source: str, fields: Fields, max_line_bytes: int) -> Parsed:
    """Parse a block of lines."""
    text = block.text
    if len(text.starts) and text.starts[0]:  # behind the end of a line that is too long
        text = Text.of(text.lines)
    quick = _convert(text)
    if quick and is_regular(quick):
        parsed = parse_records(block, source, fields, max_line_bytes, quick)
        if not pc.any(pc.equal(parsed.quarantine["reason"], "invalid_json")).as_py():
            return parsed
    parsed = parse_records(
        block, source, fields, max_line_bytes, _line_by_line(text, quick, fields)
    )
    reasons = [
        "invalid_dict" if reason == "invalid_json" else reason
        for reason in parsed.quarantine["reason"].to_pylist()
    ]
    return parsed.with_quarantined(reason=reasons)


def _line_by_line(text: Text, quick: Text | None, fields: Fields) -> Text:
    """Write lines of Python dictionaries as JSON; leave those that are none as they stand."""
    theirs = quick.lines if quick else [b""] * len(text.starts)
    pairs = zip(text.lines, theirs, strict=True)
    # JSON as such: in Python a backslash before a slash, say, stays.
    return Text.of(
        [line if _loads(line) else ours if _loads(ours) else _by_ast(line, fields)
         for line, ours in pairs]
    )  # fmt: skip


def _convert(text: Text) -> Text | None:
    """Write all lines as JSON at once; None where that cannot be right for one of them."""
    begins = np.searchsorted(text.starts, np.arange(0, len(text.data), _PIECE_BYTES))
    bounds = [*np.unique(text.starts[begins[begins < len(text.starts)]]).tolist(), len(text.data)]
    pieces = [_converted(text.data[start:stop]) for start, stop in itertools.pairwise(bounds)]
    joined = b"\n".join(piece for piece in pieces if piece is not None)
    starts, stops = line_bounds(joined)
    if None in pieces or not pieces or len(starts) != len(text.starts):
        return None
    return Text(joined, starts, stops)


def _converted(data: bytes) -> bytes | None:
    """Write the lines of a piece as JSON, the end of the last one left out.

    Lines whose quotes are all single and come in pairs need no look at their texts.
    """
    if any(mark in data for mark in (_PAIR, _SINGLE, _DOUBLE, _BETWEEN)):
        return None
    hidden = _ESCAPED.sub(lambda match: _HIDDEN[match[0]], data)
    other = _OTHER_ESCAPE.search(hidden)
    if other and _NO_ESCAPE.search(hidden):
        return None
    hidden = hidden.removesuffix(b"\n")
    view = np.frombuffer(hidden, dtype=np.uint8)
    ends, singles, doubles = (
        np.flatnonzero(view == mark) for mark in (_NEWLINE, _SINGLE_QUOTE, _DOUBLE_QUOTE)
    )
    starts, stops = np.append(0, ends + 1), np.append(ends, len(view))
    odd = np.diff(np.searchsorted(singles, stops), prepend=0) & 1
    quoted = np.flatnonzero(odd | (np.diff(np.searchsorted(doubles, stops), prepend=0) > 0))
    runs, texts, at = list[bytes](), list[bytes](), 0
    for start, stop in zip(starts[quoted].tolist(), stops[quoted].tolist(), strict=True):
        at = _part(hidden, (start, stop), at, runs, texts)
    runs.append(hidden[at:])
    pieces = itertools.zip_longest(_requote(runs), texts, fillvalue=b"")
    joined = b"".join(itertools.chain.from_iterable(pieces))
    if other:
        joined = joined.replace(b"\\x", b"\\u00")
    for code, own in ((_PAIR, b"\\\\"), (_SINGLE, b"'"), (_DOUBLE, b'\\"')):
        if code in joined:
            joined = joined.replace(code, own)
    return joined


def _part(
    data: bytes, line: tuple[int, int], at: int, runs: list[bytes], texts: list[bytes]
) -> int:
    """Part a line at its texts with double quotes around or in them, each behind its run.

    Args:
        data: with the line.
        line: where it starts and stops.
        at: where the run begins that reaches into it.
        runs: gets those that end in it.
        texts: gets its own, with JSON's quotes.

    Returns:
        Where the last run begins, that reaches beyond it.
    """
    place, stop = line
    begun, before = at, len(runs)
    while (quote := data.find(b'"', place, stop)) >= 0:
        # An odd number of single quotes: the double one stands inside a text.
        is_inside = data.count(b"'", place, quote) & 1
        start = data.rfind(b"'", place, quote) if is_inside else quote
        place = data.find(b"'" if is_inside else b'"', quote + 1, stop) + 1
        if not place:
            break
        text = data[start:place]
        if is_inside:
            text = b'"%b"' % text[1:-1].replace(b'"', b'\\"')
        runs.append(data[at:start])
        texts.append(text)
        at = place
    if quote >= 0 or data.count(b"'", place, stop) & 1:  # some quote is alone: no dictionary
        runs[before:], texts[before:] = [data[begun : line[0]]], [b" " + data[slice(*line)]]
        return stop
    return at


def _requote(runs: list[bytes]) -> list[bytes]:
    """Write JSON's quotes and words in runs whose single quotes all stand around texts."""
    view = np.frombuffer(bytearray(_BETWEEN.join(runs)), dtype=np.uint8)
    quotes = np.flatnonzero(view == _SINGLE_QUOTE)

    def outside(places: np.ndarray) -> np.ndarray:
        of_gaps: np.ndarray = places[(np.searchsorted(quotes, places) & 1) == 0]
        return of_gaps

    for word, ours in _WORDS:
        places = np.flatnonzero(view[: -len(word)] == word[0])
        for shift, byte in enumerate(word[1:], 1):
            places = places[view[places + shift] == byte]
        places = outside(places)
        for shift, byte in enumerate(ours):
            view[places + shift] = byte
    # Python 2 wrote u before its texts.
    prefixes = np.flatnonzero((view[:-1] | 32) == 117)
    following = view[prefixes + 1]
    view[outside(prefixes[(following == _SINGLE_QUOTE) | (following == 0)])] = _SPACE
    view[quotes] = _DOUBLE_QUOTE
    return view.tobytes().split(_BETWEEN)


def _loads(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _by_ast(line: bytes, fields: Fields) -> bytes:
    """Write one line as JSON by Python's own parser; leave it as it is where that refuses it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in texts
            tree = ast.parse(line.strip().decode(), mode="eval").body
            value = ast.literal_eval(tree)
        if not isinstance(tree, ast.Dict):
            return b"[]"  # as little an object as it is
        names = [key.value for key in tree.keys if isinstance(key, ast.Constant)]
        if any(names.count(name) > 1 for name in fields.names):
            return line
        numbers = {
            key.value: digits
            for key, item in zip(tree.keys, tree.values, strict=True)
            if isinstance(key, ast.Constant) and (digits := _digits(line, item))
        }
        value |= {name: {} for name in fields.required if isinstance(value.get(name), set)}
        texts = (f"{json.dumps(str(name))}: {numbers.get(name) or json.dumps(item, default=_other)}"
                 for name, item in value.items())  # fmt: skip
        return f"{{{', '.join(texts)}}}".encode()
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return line


def _other(value: Any) -> Any:
    """Return what stands for a value that JSON has not: a set's in order, an object for bytes."""
    return sorted(value, key=repr) if isinstance(value, set) else {}


def _digits(line: bytes, item: Any) -> str | None:
    """Return a number as it is written, where JSON writes it so."""
    digits = line.strip()[item.col_offset : item.end_col_offset].decode("utf-8", "replace")
    return digits if item.lineno == 1 and _NUMBER.fullmatch(digits) else None
