"""What a file is, from its first bytes, where it is not the JSON lines that it should be.

Pure: bytes in, a name and the command that helps out. It decides nothing about single lines: a
file counts as another kind only where most of what is seen of it cannot be JSON lines.
"""

import ast
import dataclasses
import json
import re
import warnings
from codecs import BOM_UTF8
from typing import Any

from data.sources import foreign, tables, wrapped
from data.sources.kind import LINES, TABLE, Form, Kind, load_object, loads, whole_lines

_TO_LINES = "import sys, json, {0}; [print(json.dumps(row)) for row in {1}]"
_DICTS = 'python3 -c "' + _TO_LINES.format("ast", "map(ast.literal_eval, sys.stdin)") + '"'
_MIXED = (
    'python3 -c "import sys, ast, json; d = json.JSONDecoder(); '
    "[print(json.dumps(ast.literal_eval(row) if row[1:2] == chr(39) else d.decode(row))) "
    'for row in sys.stdin]"'
)
_DICT_LIST = (
    'python3 -c "import sys, ast, json; '
    '[print(json.dumps(row)) for row in ast.literal_eval(sys.stdin.read())]"'
)
_ARRAYS = "jq -c '.[] | {uid: (.[0] | tostring), title: .[1], content: .[2]}'"

_MAGIC = (
    (b"\x1f\x8b", "gzip inside gzip", "gzip -dc"),
    (b"PK\x03\x04", "a zip archive", "funzip"),
    (b"\x1f\x9d", "compress (.Z)", "gzip -dc"),
    (b"BZh", "bzip2", "bzip2 -dc"),
    (b"\xfd7zXZ\x00", "xz", "xz -dc"),
    (b"\x5d\x00\x00", "lzma", "xz --format=lzma -dc"),
    (b"\x28\xb5\x2f\xfd", "zstandard", "zstd -dc"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
    (b"PAR1", "Parquet", TABLE.format("parquet")),
    (b"ARROW1\x00", "an Arrow file", TABLE.format("feather")),
    (b"\xff\xff\xff\xff", "an Arrow stream", ""),
    (b"\xff\xfe\x00\x00", "UTF-32", "iconv -f UTF-32 -t UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32", "iconv -f UTF-32 -t UTF-8"),
    (b"\xff\xfe", "UTF-16", "iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "UTF-16", "iconv -f UTF-16 -t UTF-8"),
)
_FORMS: dict[str, Form] = {
    "Parquet": "parquet", "an Arrow file": "arrow", "an Arrow stream": "arrow",
}  # fmt: skip
# Before Arrow 0.15 a stream began with the length of its schema, and that with where its root is.
_OLD_STREAM = re.compile(rb"[^\0].\0\0\x10\0\0\0", re.DOTALL)
_UTF_32 = re.compile(rb"(\0\0\0[\t-~]){2}|(?:[\t-~]\0\0\0){2}")
_TAR, _TAR_AT = b"ustar", 257
# The start of an object that may go on behind what is seen of it.
_PRETTY = re.compile(r'\{[ \t]*\r?\n\s*"')
_VALUE = re.compile(r"[\"\]\-0-9]|(null|true|false)\b")
_RECORDS = "write each record as an object with uid, title and content"
_OBJECT = re.compile(r"^\s*\{\s*\"", re.MULTILINE)
_DICT = re.compile(r"\{\s*[uU]?'")
# Lines in a row that are objects: then it is JSON lines, whatever follows.
_ENOUGH = 3
_LOOKED_AT = 50
_DECODER = json.JSONDecoder()


def recognise(start: bytes, separator: str | None = None) -> Kind:
    """Recognise what a file is.

    Args:
        start: its first bytes, some 64 KiB, uncompressed where the file is gzip.
        separator: of the cells, where the file is a table; none: found.

    Returns:
        The kind; ``LINES`` where the file is, or may yet be, JSON lines.
    """
    return no_text(start, separator) or _text(
        start.decode("utf-8", "replace").lstrip("\ufeff"), separator
    )


def is_columnar(start: bytes) -> bool:
    """Whether a file is Parquet or Arrow."""
    return bool(_OLD_STREAM.match(start)) or any(
        start.startswith(magic) and name in _FORMS for magic, name, _ in _MAGIC
    )


def no_text(start: bytes, separator: str | None = None) -> Kind | None:
    """Recognise a file that is no text in UTF-8, or none of the user's; None for any other."""
    for magic, name, command in _MAGIC:
        if start.startswith(magic):
            return Kind(name, command, form=_FORMS.get(name, ""))
    if _OLD_STREAM.match(start):
        return Kind("an Arrow stream", form="arrow")
    if start[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return Kind("a tar archive", "tar -xOf -")
    if unmarked := _UTF_32.match(start):
        order = "BE" if unmarked[1] else "LE"
        command = f"iconv -f UTF-32{order} -t UTF-8"
        return Kind("UTF-32 without its mark", command, encoding=f"utf-32-{order.lower()}")
    # JSON begins with ASCII: every other byte is then 0 in UTF-16 without a mark.
    if start[1:4:2] == b"\0\0" and start[0] and start[2]:
        command = "iconv -f UTF-16LE -t UTF-8"
        return Kind("UTF-16 without its mark", command, encoding="utf-16-le")
    if start[0:4:2] == b"\0\0" and start[1] and start[3]:
        command = "iconv -f UTF-16BE -t UTF-8"
        return Kind("UTF-16 without its mark", command, encoding="utf-16-be")
    return foreign.of_bytes(start.removeprefix(BOM_UTF8), separator)


def _text(text: str, separator: str | None) -> Kind:
    begun = text.lstrip()
    if separator and begun and not begun.startswith(("{", "[")):
        return tables.recognise(begun, separator) or tables.otherwise(begun, separator)
    if begun.startswith("{"):
        return _objects(begun)
    if begun.startswith("["):
        return foreign.with_comments(begun) or wrapped.lines(begun) or _array(begun)
    return (
        foreign.code(begun)
        or wrapped.lines(begun)
        or tables.recognise(begun)
        or foreign.of_text(begun)
        or Kind(LINES, form="lines")
    )


def mixed(start: bytes) -> Kind | None:
    """Recognise lines of JSON with Python dictionaries between them; None for anything else."""
    lines = whole_lines(start.removeprefix(BOM_UTF8).decode("utf-8", "replace"))
    others = [line for line in lines if load_object(line) is None]
    if len(others) < len(lines) and any(_dict(line) for line in others[:_LOOKED_AT]):
        return Kind("JSON lines with Python dictionaries between them", _MIXED)
    return None


def _objects(text: str) -> Kind:
    """Distinguish JSON lines from other ways of writing objects one after the other."""
    lines = whole_lines(text)
    records = [record for line in lines[:_ENOUGH] if (record := load_object(line)) is not None]
    if len(records) == _ENOUGH:
        return Kind(LINES, record=records[0], form="lines")
    records = [record for line in lines if (record := load_object(line)) is not None]
    commas = [record for line in lines if line.endswith(",") and (record := load_object(line[:-1]))]
    if len(commas) > len(records):
        command = "sed 's/,[[:space:]]*$//'"
        name = "objects with a comma after each line"
        return Kind(name, command, record=commas[0], form="lines", separator=",")
    others = [line for line in lines if load_object(line) is None]
    dicts = [record for line in others[:_LOOKED_AT] if (record := _dict(line))]
    if len(dicts) > len(records):
        return Kind("Python dictionaries, one a line", _DICTS, record=dicts[0], form="dicts")
    if records and 2 * len(records) >= len(lines):
        return Kind(LINES, record=records[0], form="lines")
    if _DICT.match(text) and not records and not _OBJECT.search(text):
        return _other_dicts(text, lines)
    return _run_together(text)


def _other_dicts(text: str, lines: list[str]) -> Kind:
    """Describe Python dictionaries, none of which stands on a line of its own."""
    if any(_dict(line.removesuffix(",")) for line in lines if line.endswith(",")):
        return Kind("Python dictionaries with a comma behind each line", "sed 's/,[[:space:]]*$//'")
    if "\r" in text and "\n" not in text and len(lines) == 1:
        return Kind("Python dictionaries that end in a bare CR", r"tr '\r' '\n'")
    return Kind("Python dictionaries", form="dicts")


def _run_together(text: str) -> Kind:
    """Recognise objects that do not stand on a line each."""
    pretty = Kind("pretty-printed JSON, an object over several lines", "jq -c .", form="objects")
    try:
        first, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return pretty if _PRETTY.match(text) else Kind(LINES, form="lines")
    gap = re.match(r"[\s,]*", text[end:])
    between = gap[0] if gap else ""
    if text[end + len(between) : end + len(between) + 1] == "{":
        if "\r" in between and "\n" not in between:
            name = "lines that end in a bare CR"
            return Kind(name, r"tr '\r' '\n'", record=first, form="lines", separator="\r")
        if "\n" not in between:
            name = "objects without line breaks between them"
            return Kind(name, "jq -c .", record=first, form="objects")
    if "\n" in text[:end]:
        return dataclasses.replace(pretty, record=first)
    return Kind(LINES, record=first, form="lines")


def _array(text: str) -> Kind:
    """Distinguish one JSON array of records from lines that hold an array each."""
    inner = text[1:].lstrip()
    begun = inner.lstrip("[ \r\n\t")
    line, _, rest = text.partition("\n")
    is_lines = (
        bool(rest.strip()) and not begun.startswith("{") and loads(line) is not NotImplemented
    )
    if not inner.strip("] \r\n\t"):
        return Kind("an empty JSON array", advice="fetch it again")
    if inner.startswith("[") and not is_lines and (not begun or _VALUE.match(begun)):
        return Kind("a JSON array of arrays, not of objects", _ARRAYS)
    if "{" not in inner and not is_lines and _VALUE.match(begun):
        return Kind("a JSON array of values, not of objects", advice=_RECORDS)
    if is_lines or "{" not in inner:
        return Kind(LINES, form="lines")
    inner = begun
    if re.match(r"\{\s*'", inner):
        return Kind("a list of Python dictionaries", _DICT_LIST)
    try:
        first, _ = _DECODER.raw_decode(inner)
    except (ValueError, RecursionError):
        first = None
    return Kind("one JSON array", "jq -c '.[]'", record=first, form="objects")


def _dict(line: str) -> dict[str, Any] | None:
    """Parse a line that is a Python dictionary; None for any other, and for JSON or nearly so."""
    if foreign.is_loose_json(line):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in texts
            value = ast.literal_eval(line)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return value if isinstance(value, dict) else None
