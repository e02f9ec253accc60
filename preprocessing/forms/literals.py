"""Python dictionaries, one a line, as ``repr`` writes them: to JSON, and then to rows.

Never evaluated. One regular expression finds the texts of a whole block, and replacements turn
their quotes and escapes into JSON's, in bulk; pyarrow's parser then says whether all of it was
right. A line that the two do not agree on is read by ``ast.literal_eval`` alone. A line of JSON
is read as such. A dictionary with one of our fields twice is ambiguous and so invalid.
"""

import ast
import json
import re
import warnings
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing.fields import Fields
from preprocessing.mapped import Text, is_regular, records
from preprocessing.parse import Parsed, Records, parse_records

_TEXT = re.compile(
    rb"""([uU]?'[^'\\\n]*+(?:\\[^\n][^'\\\n]*+)*+'|[uU]?"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+")"""
)
# Escapes that JSON has not, after pairs of backslashes are out of the way.
_OTHER_ESCAPE = re.compile(rb"""\\[^'"nrtbfux]""")
_WORDS = ((b"None", b"null"), (b"True", b"true"), (b"False", b"false"))
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_PAIR, _SINGLE, _DOUBLE, _BETWEEN = b"\x01", b"\x02", b"\x03", b"\x00"


def parse(records_: Records, source: str, fields: Fields, max_line_bytes: int) -> Parsed:
    """Parse a block of lines."""
    text = to_json(records_.text, fields)
    parsed = parse_records(records_, source, fields, max_line_bytes, text)
    reasons = [
        "invalid_dict" if reason == "invalid_json" else reason
        for reason in parsed.quarantine["reason"].to_pylist()
    ]
    return parsed.with_quarantined(reason=reasons)


def to_json(text: Text, fields: Fields) -> Text:
    """Write lines of Python dictionaries as JSON; leave those that are none as they stand."""
    if not len(text.starts):
        return text
    if text.starts[0]:  # behind the end of a line that is too long
        text = Text.of(text.lines)
    quick = _convert(text)
    doubtful = _doubtful(text) if quick else np.ones(len(text.starts), dtype=bool)
    if quick and not doubtful.any() and _is_json(quick):
        return quick
    own = text.lines
    theirs = quick.lines if quick else own
    return Text.of(
        [
            line if not unsure and _loads(line) else _by_ast(own[place], fields)
            for place, (line, unsure) in enumerate(zip(theirs, doubtful.tolist(), strict=True))
        ]
    )


def _convert(text: Text) -> Text | None:
    """Convert all lines at once; None where lines or texts cannot be kept apart."""
    data = text.data
    if any(mark in data for mark in (_PAIR, _SINGLE, _DOUBLE, _BETWEEN)):
        return None
    hidden = data
    if b"\\" in data:
        hidden = data.replace(b"\\\\", _PAIR)
        hidden = hidden.replace(b"\\'", _SINGLE).replace(b'\\"', _DOUBLE)
    pieces = _TEXT.split(hidden)
    # Python 2 wrote u before its texts.
    texts = [text[1:] if text[0] in b"uU" else text for text in pieces[1::2]]
    between = _BETWEEN.join(pieces[::2])
    for word, ours in _WORDS:
        between = between.replace(word, ours)
    single = _BETWEEN.join([text for text in texts if text[-1] == 39])
    # Its own double quotes, then the single ones around it.
    single = single.replace(b'"', b'\\"').replace(b"'", b'"')
    quoted = iter(single.split(_BETWEEN))
    written = [next(quoted) if text[-1] == 39 else text for text in texts]
    gaps = between.split(_BETWEEN)
    joined = b"".join(chain.from_iterable(zip(gaps, [*written, b""], strict=True)))
    if b"\\x" in joined:
        joined = joined.replace(b"\\x", b"\\u00")
    joined = joined.replace(_SINGLE, b"'").replace(_DOUBLE, b'\\"').replace(_PAIR, b"\\\\")
    lines = joined.split(b"\n")
    count = len(text.starts)
    return Text.of(lines[:count]) if len(lines) in (count, count + 1) else None


def _doubtful(text: Text) -> np.ndarray:
    """Tell which lines hold escapes that JSON has not: bool [lines]."""
    doubtful = np.zeros(len(text.starts), dtype=bool)
    if b"\\" in text.data:
        hidden = text.data.replace(b"\\\\", b"..")
        places = [match.start() for match in _OTHER_ESCAPE.finditer(hidden)]
        doubtful[np.searchsorted(text.starts, places, side="right") - 1] = True
    return doubtful


def _is_json(text: Text) -> bool:
    return is_regular(text) and records(text.data, len(text.starts), pa.schema([])) is not None


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
            return json.dumps(value, default=repr).encode()
        names = [key.value for key in tree.keys if isinstance(key, ast.Constant)]
        if any(names.count(name) > 1 for name in fields.names):
            return line
        numbers = {
            key.value: digits
            for key, item in zip(tree.keys, tree.values, strict=True)
            if isinstance(key, ast.Constant) and (digits := _digits(line, item))
        }
        texts = (f"{json.dumps(str(name))}: {numbers.get(name) or json.dumps(item, default=repr)}"
                 for name, item in value.items())  # fmt: skip
        return f"{{{', '.join(texts)}}}".encode()
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return line


def _digits(line: bytes, item: Any) -> str | None:
    """Return a number as it is written, where JSON writes it so."""
    digits = line.strip()[item.col_offset : item.end_col_offset].decode("utf-8", "replace")
    return digits if item.lineno == 1 and _NUMBER.fullmatch(digits) else None
