"""What a file is, from its first bytes, where it is not the JSON lines that it should be.

Pure: bytes in, a name and the command that helps out. It decides nothing about single lines: a
file counts as another kind only where most of what is seen of it cannot be JSON lines.
"""

import ast
import csv
import dataclasses
import io
import itertools
import json
import re
import shlex
import warnings
from codecs import BOM_UTF8
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from data.sources import foreign

LINES = "JSON lines"
Form = Literal["lines", "dicts", "objects", "table", "parquet", "arrow", ""]
_TO_LINES = "import sys, json, {0}; [print(json.dumps(row)) for row in {1}]"
_CSV = 'python3 -c "' + _TO_LINES.format("csv", "csv.DictReader(sys.stdin{})") + '"'
_DICTS = 'python3 -c "' + _TO_LINES.format("ast", "map(ast.literal_eval, sys.stdin)") + '"'
_TABLE = (
    "python3 -c \"import sys, io, pandas; pandas.read_{}(io.BytesIO(sys.stdin.buffer.read()))"
    ".to_json(sys.stdout, orient='records', lines=True)\""
)  # fmt: skip
_DICT_LIST = (
    'python3 -c "import sys, ast, json; '
    '[print(json.dumps(row)) for row in ast.literal_eval(sys.stdin.read())]"'
)
_ARRAYS = "jq -c '.[] | {uid: (.[0] | tostring), title: .[1], content: .[2]}'"
_SEPARATORS = {",": "CSV", "\t": "tab-separated", ";": "CSV with semicolons", "|": "CSV with bars"}

_MAGIC = (
    (b"\x1f\x8b", "gzip inside gzip", "gzip -dc"),
    (b"PK\x03\x04", "a zip archive", "funzip"),
    (b"BZh", "bzip2", "bzip2 -dc"),
    (b"\xfd7zXZ\x00", "xz", "xz -dc"),
    (b"\x28\xb5\x2f\xfd", "zstandard", "zstd -dc"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
    (b"PAR1", "Parquet", _TABLE.format("parquet")),
    (b"ARROW1\x00", "an Arrow file", _TABLE.format("feather")),
    (b"\xff\xff\xff\xff", "an Arrow stream", ""),
    (b"\xff\xfe\x00\x00", "UTF-32", "iconv -f UTF-32 -t UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32", "iconv -f UTF-32 -t UTF-8"),
    (b"\xff\xfe", "UTF-16", "iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "UTF-16", "iconv -f UTF-16 -t UTF-8"),
)
_FORMS: dict[str, Form] = {
    "Parquet": "parquet", "an Arrow file": "arrow", "an Arrow stream": "arrow",
}  # fmt: skip
_TAR, _TAR_AT = b"ustar", 257
# The start of an object that may go on behind what is seen of it.
_PRETTY = re.compile(r'\{[ \t]*\r?\n\s*"')
_SHOWN_COLUMNS, _SHOWN_TEXT = 8, 80
# Lines in a row that are objects: then it is JSON lines, whatever follows.
_ENOUGH = 3
_LOOKED_AT = 50
_DECODER = json.JSONDecoder()
_NO_JSON = object()


@dataclass(frozen=True)
class Kind:
    """What a file is."""

    name: str
    """``LINES``, or for a person: ``a zip archive``."""
    filter: str = ""
    """Shell command that reads such a file and writes JSON lines, or comes nearer to them."""
    advice: str = ""
    """What to do where no command turns it into lines."""
    record: dict[str, Any] | None = None
    """The first record, where there is one."""
    form: Form = ""
    """How its records are read, where they can be; empty for any other file."""
    separator: str = ""
    """Of the columns of a table; of lines, the byte behind them that is no newline."""
    encoding: str = ""
    """That it seems to be in, where nothing in it says so."""

    def hint(
        self, path: str, is_gzip: bool = False, then: str = "", to: str = "lines.jsonl"
    ) -> str:
        """Return the command that turns the file into one that can be read.

        Args:
            path: of the file.
            is_gzip: whether the start that was recognised comes out of gzip.
            then: a further filter.
            to: name of the file to write.
        """
        filters = [command for command in (self.filter, then) if command]
        if not filters:
            return self.advice
        name = shlex.quote(path)
        first = [f"gzip -dc {name}"] if is_gzip else [f"{filters.pop(0)} < {name}"]
        return f"convert it: {' | '.join(first + filters)} > {to}"


def recognise(start: bytes, separator: str | None = None) -> Kind:
    """Recognise what a file is.

    Args:
        start: its first bytes, some 64 KiB, uncompressed where the file is gzip.
        separator: of the cells, where the file is a table; none: found.

    Returns:
        The kind; ``LINES`` where the file is, or may yet be, JSON lines.
    """
    return no_text(start, separator) or _text(
        start.removeprefix(BOM_UTF8).decode("utf-8", "replace"), separator
    )


def is_columnar(start: bytes) -> bool:
    """Whether a file is Parquet or Arrow."""
    return any(start.startswith(magic) and name in _FORMS for magic, name, _ in _MAGIC)


def no_text(start: bytes, separator: str | None = None) -> Kind | None:
    """Recognise a file that is no text in UTF-8, or none of the user's; None for any other."""
    for magic, name, command in _MAGIC:
        if start.startswith(magic):
            return Kind(name, command, form=_FORMS.get(name, ""))
    if start[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return Kind("a tar archive", "tar -xOf -")
    # JSON begins with ASCII: every other byte is then 0 in UTF-16 without a mark.
    if start[1:4:2] == b"\0\0" and start[0] and start[2]:
        command = "iconv -f UTF-16LE -t UTF-8"
        return Kind("UTF-16 without its mark", command, encoding="utf-16-le")
    if start[0:4:2] == b"\0\0" and start[1] and start[3]:
        command = "iconv -f UTF-16BE -t UTF-8"
        return Kind("UTF-16 without its mark", command, encoding="utf-16-be")
    if other := foreign.of_bytes(start.removeprefix(BOM_UTF8), separator):
        return Kind(other.name, other.filter, other.advice)
    return None


def other_table(start: bytes) -> Kind | None:
    """Recognise a table whose values are not separated by commas; None for anything else."""
    table = _table(start.removeprefix(BOM_UTF8).decode("utf-8", "replace").lstrip())
    return table if table and not table.name.startswith("a table (CSV)") else None


def _text(text: str, separator: str | None) -> Kind:
    begun = text.lstrip()
    if separator and begun and not begun.startswith(("{", "[")):
        return _table(begun, separator) or _otherwise(begun, separator)
    if begun.startswith("{"):
        return _objects(begun)
    if begun.startswith("["):
        if other := foreign.with_comments(begun):
            return Kind(other.name, other.filter, other.advice)
        return _array(begun)
    if table := _table(begun):
        return table
    if other := foreign.of_text(begun):
        return Kind(other.name, other.filter, other.advice)
    return Kind(LINES, form="lines")


def _otherwise(text: str, separator: str) -> Kind:
    """Describe text without the separator that was stated."""
    stated = "tab" if separator == "\t" else separator
    if table := _table(text):
        named = "tab" if table.separator == "\t" else table.separator
        advice = f"leave out --delimiter, or state --delimiter {shlex.quote(named)}"
        return Kind(f"{table.name}, none with {stated!r} between the cells", advice=advice)
    first = text.partition("\n")[0].rstrip()[:_SHOWN_TEXT]
    advice = "state what stands between the cells with --delimiter, or leave it out"
    return Kind(f"no {stated!r} in the first row {first!r}", advice=advice)


def _objects(text: str) -> Kind:
    """Distinguish JSON lines from other ways of writing objects one after the other."""
    lines = _whole_lines(text)
    records = [record for line in lines[:_ENOUGH] if (record := _object(line)) is not None]
    if len(records) == _ENOUGH:
        return Kind(LINES, record=records[0], form="lines")
    records = [record for line in lines if (record := _object(line)) is not None]
    commas = [record for line in lines if line.endswith(",") and (record := _object(line[:-1]))]
    if len(commas) > len(records):
        command = "sed 's/,[[:space:]]*$//'"
        name = "objects with a comma after each line"
        return Kind(name, command, record=commas[0], form="lines", separator=",")
    others = [line for line in lines if _object(line) is None]
    dicts = [record for line in others[:_LOOKED_AT] if (record := _dict(line))]
    if len(dicts) > len(records):
        return Kind("Python dictionaries, one a line", _DICTS, record=dicts[0], form="dicts")
    if records and 2 * len(records) >= len(lines):
        return Kind(LINES, record=records[0], form="lines")
    return _run_together(text)


def _run_together(text: str) -> Kind:
    """Recognise objects that do not stand on a line each."""
    pretty = Kind("pretty-printed JSON, an object over several lines", "jq -c .", form="objects")
    try:
        first, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return pretty if _PRETTY.match(text) else Kind(LINES, form="lines")
    gap = re.match(r"\s*", text[end:])
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
    is_lines = bool(rest.strip()) and not begun.startswith("{") and _json(line) is not _NO_JSON
    if inner.startswith("[") and not is_lines and not begun.startswith("{"):
        return Kind("a JSON array of arrays, not of objects", _ARRAYS)
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


def nested(start: bytes, names: Iterable[str]) -> Kind | None:
    """Recognise records inside other objects of JSON; None for anything else.

    Args:
        start: of the file.
        names: of title and description, as they are asked for.
    """
    text, (title, content) = start.removeprefix(BOM_UTF8).decode("utf-8", "replace"), names

    def likely(record: dict[str, Any]) -> dict[str, str]:
        if {title, content} <= set(record):
            return {"title": title, "content": content}
        return to_columns([*record, *({"uid"} - set(record))]) or {}

    record = foreign.nested(text, likely)
    if record is None:
        return None
    columns = likely(record)
    title, content = columns["title"], columns["content"]
    has = f"has({json.dumps(title)}) and has({json.dumps(content)})"
    name = f"records with {title} and {content} inside other objects"
    return Kind(name, f"jq -c {shlex.quote(f'.. | objects | select({has})')}")


def holder(start: bytes) -> Kind | None:
    """Recognise one JSON object that holds all records under a key; None for anything else."""
    text = start.removeprefix(BOM_UTF8).decode("utf-8", "replace")
    if key := re.match(r'\s*\{\s*"([^"\\]+)"\s*:\s*\[\s*\{', text):
        name = f"one JSON object that holds its records in {key[1]!r}"
        return Kind(name, f"jq -c '.\"{key[1]}\"[]'")
    if re.match(r'\s*\{\s*"[^"\\]+"\s*:\s*\{\s*"', text):
        return Kind("one JSON object that holds a record a key", "jq -c '.[]'")
    if _holds_columns(text):
        return Kind("one JSON object that holds a column a key", _TABLE.format("json"))
    return None


def _holds_columns(text: str) -> bool:
    """Whether text is one object of lists that are all of the same length, or too long to say."""
    record = _object(text.strip())
    if record is None:
        return bool(re.match(r'\s*\{\s*"[^"\\]+"\s*:\s*\[', text)) and "}" not in text
    lengths = {len(value) if isinstance(value, list) else 0 for value in record.values()}
    return len(lengths) == 1 and 0 not in lengths and len(record) > 1


def _table(text: str, stated: str | None = None) -> Kind | None:
    """Recognise a table of values with separators, by its header and its first rows.

    Of the separators that most rows have as often as the header, the one with the most columns.
    """
    if re.match(r"sep=.\r?\n", text):
        return Kind("a table behind a line for Excel", advice="take that off: tail -n +2")
    tables = []
    for separator, name in {stated: "stated"}.items() if stated else _SEPARATORS.items():
        rows = _rows(text, separator)
        columns = [column.strip() for column in rows[0]] if rows else []
        alike = sum(len(row) == len(columns) for row in rows[1:])
        is_header = len(rows) == 1 and to_columns(columns) is not None
        is_table = bool(stated) or is_header or 2 * alike > len(rows) - 1
        if len(columns) > 1 and all(columns) and is_table:
            tables.append((len(columns), separator, name, columns))
    if not tables:
        return None
    _, separator, name, columns = max(tables, key=lambda table: table[0])
    how = "" if separator == "," else f", delimiter={separator!r}".replace("\\t", "\\\\t")
    more = ", …" if len(columns) > _SHOWN_COLUMNS else ""
    listed = ", ".join(columns[:_SHOWN_COLUMNS]) + more
    named = f"a table ({name}) with columns {listed}"
    record = dict.fromkeys(columns, "")
    return Kind(named, _CSV.format(how), record=record, form="table", separator=separator)


def _rows(text: str, separator: str) -> list[list[str]]:
    """Return the first rows of a table; the last, which may be cut, only with all of its cells."""
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=separator)
    try:
        rows.extend(itertools.islice((row for row in reader if row), _LOOKED_AT + 1))
    except csv.Error:  # a cell beyond its limit
        return []
    if rows and not text.endswith("\n") and len(rows[-1]) < len(rows[0]):
        rows.pop()
    return rows[:_LOOKED_AT]


def _whole_lines(text: str) -> list[str]:
    """Return the lines that hold something; the last, which may be cut, only where it is alone."""
    lines = text.split("\n")
    whole = lines[:-1] if len(lines) > 1 and lines[-1] else lines
    return [line.strip() for line in whole if line.strip()]


def _object(line: str) -> dict[str, Any] | None:
    value = _json(line) if line.startswith("{") else None
    return value if isinstance(value, dict) else None


def _json(line: str) -> Any:
    """Parse a line of JSON; ``_NO_JSON`` where it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return _NO_JSON


def _dict(line: str) -> dict[str, Any] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in texts
            value = ast.literal_eval(line)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return value if isinstance(value, dict) else None


_ALIASES = {
    "uid": ("uid", "asin", "id", "sku", "product_id", "item_id", "ean", "isbn"),
    "title": ("title", "name", "product_name", "product_title", "product"),
    "content": ("content", "description", "desc", "product_description", "text", "body", "summary"),
}


def to_columns(names: Iterable[str]) -> dict[str, str] | None:
    """Guess which of a record's own fields are ours; None where one has no likely name."""
    lower = {str(name).lower(): str(name) for name in reversed(list(names))}
    theirs = {
        ours: next((lower[name] for name in likely if name in lower), None)
        for ours, likely in _ALIASES.items()
    }
    columns = {ours: name for ours, name in theirs.items() if name is not None}
    return columns if len(columns) == len(_ALIASES) else None


def to_fields(record: dict[str, Any]) -> str | None:
    """Return the jq filter that renames a record's own fields to ours.

    Returns:
        The filter; empty where the fields are ours already, None where they cannot be guessed.
    """
    columns = to_columns(record)
    if columns is None:
        return None
    values = {ours: _as_text(theirs, record) for ours, theirs in columns.items()}
    if all(value == f".{ours}" for ours, value in values.items()):
        return ""
    return "jq -c '{" + ", ".join(f"{ours}: {value}" for ours, value in values.items()) + "}'"


def _as_text(name: str, record: dict[str, Any]) -> str:
    value = f".{name}" if re.fullmatch(r"[A-Za-z_]\w*", name) else f'."{name}"'
    if isinstance(record[name], list):
        return f'({value} | join(" "))'
    return value if isinstance(record[name], str) else f'({value} // "" | tostring)'
