"""Ways to break an invented line, each of which must end in quarantine for its own reason.

Pure: a good line in, a broken one out. For the command ``synthesize``, and for the tests that feed
every way to the cleaning; the reasons are those of ``data.artefacts.schema``.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from data.artefacts import schema
from data.synthetic import draws

_STREAM = 5
_TOO_LONG = 4 * 2**20 + 1
_TOO_LONG_AT = (700, 70_000, 1_400_000)
"""Records that are broken by their length: few, as each takes 4 MiB."""
_FIELDS = ("uid", "title", "content")


@dataclass(frozen=True)
class Breakage:
    """One way to break a line."""

    reason: str
    """Why the line goes to quarantine."""
    form: str
    """What is wrong with it, for a person."""
    apply: Callable[[bytes], bytes]
    """Breaks a line of ``records.lines``; both are without their newline."""


def choose(seed: int, place: int, share: float) -> Breakage | None:
    """Choose how a record is broken, if at all: each reason as often, and each form of a reason.

    Of all records, counted from 0, the share of 0 to 1 is broken; with any, a few are too long
    besides.
    """
    if share and place in _TOO_LONG_AT:
        forms = FORMS["line_too_long"]
        return forms[_TOO_LONG_AT.index(place) % len(forms)]
    word = draws.word(seed, _STREAM, place)
    if (word >> 11) * 2.0**-53 >= share:
        return None
    rest, reason = divmod(word, len(_COMMON))
    forms = FORMS[_COMMON[reason]]
    return forms[rest % len(forms)]


def _replace(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def apply(line: bytes) -> bytes:
        if old not in line:
            raise ValueError(f"expected {old!r} in the line, found {line[:80]!r}")
        return line.replace(old, new, 1)

    return apply


def _instead(text: bytes) -> Callable[[bytes], bytes]:
    return lambda _line: text


def _without(field: str) -> Callable[[bytes], bytes]:
    return lambda line: json.dumps(
        {name: value for name, value in json.loads(line).items() if name != field}
    ).encode()


def _set(field: str, value: object) -> Callable[[bytes], bytes]:
    return lambda line: json.dumps(json.loads(line) | {field: value}).encode()


_TITLE, _CONTENT, _END = b'"title": "', b'"content": "', b"]}"

_INVALID_JSON: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda line: line[: len(line) // 2],
    "a quote is missing": _replace(b'", "title"', b', "title"'),
    "a comma at the end of the object": _replace(_END, b"],}"),
    "a comma behind the object": lambda line: line + b",",
    "a bare word": _replace(_TITLE, b'"title": Untitled, "was": "'),
    "single quotes": _replace(b'"title"', b"'title'"),
    "two objects on a line": lambda line: line + line,
    "a field twice": _replace(_TITLE, b'"title": "", "title": "'),
    "a field twice, once escaped": _replace(_TITLE, b'"\\u0074itle": "", "title": "'),
    "a raw tab": _replace(_TITLE, _TITLE + b"\t"),
    "a raw NUL": _replace(_CONTENT, _CONTENT + b"\0"),
    "half a surrogate pair": _replace(_TITLE, _TITLE + b"\\ud83d "),
    "an unknown escape": _replace(_CONTENT, _CONTENT + b"\\x92"),
    "no JSON": _instead(b"uid;title;content"),
}
_INVALID_UTF8 = {
    "Latin-1 in the title": _replace(_TITLE, _TITLE + b"Caf\xe9 "),
    "cp1252 in the content": _replace(_CONTENT, _CONTENT + b"It\x92s "),
    "in a field that nobody reads": _replace(_END, b'], "note": "\xff"}'),
    "overlong": _replace(_TITLE, _TITLE + b"\xc0\xaf"),
    "a sequence that stops early": _replace(_CONTENT, _CONTENT + b"\xe2\x82 "),
    "half a surrogate pair as UTF-8": _replace(_TITLE, _TITLE + b"\xed\xa0\x80"),
    "beyond Unicode": _replace(_CONTENT, _CONTENT + b"\xf5\x80\x80\x80"),
}
_NOT_AN_OBJECT = {
    "an array": b'["uid", "title", "content"]',
    "a text": b'"{uid, title, content}"',
    "null": b"null",
    "a number": b"17",
    "a fraction": b"-1.5e3",
    "true": b"true",
    "false": b"false",
}
_WRONG_VALUES = {
    "a number": 17,
    "a fraction": 1.5,
    "null": None,
    "an array": ["a", "b"],
    "an object": {"en": "a"},
    "true": True,
}


_FORMS = {
    "invalid_json": _INVALID_JSON,
    "invalid_utf8": _INVALID_UTF8,
    "not_an_object": {form: _instead(text) for form, text in _NOT_AN_OBJECT.items()},
    "missing_field": {
        **{f"no {field}": _without(field) for field in _FIELDS},
        "a field in another case": _replace(b'"title"', b'"Title"'),
        "an empty object": _instead(b"{}"),
    },
    "wrong_type": {
        f"{form} as {field}": _set(field, value)
        for field in _FIELDS
        for form, value in _WRONG_VALUES.items()
    },
    "line_too_long": {
        "a record": _replace(_CONTENT, _CONTENT + b"x" * _TOO_LONG),
        "no record": _instead(b"x" * _TOO_LONG),
    },
}
FORMS = {
    reason: tuple(Breakage(reason, form, apply) for form, apply in forms.items())
    for reason, forms in _FORMS.items()
}
"""Every form, by reason."""
_COMMON = tuple(reason for reason in schema.REASONS if reason != "line_too_long")
