"""Records of JSON that are there, but inside something else: what it is, and what takes it off.

Pure: the first bytes or the text of a file in, a kind with its filter out; None for anything else.
"""

import json
import re
import shlex
from codecs import BOM_UTF8
from collections.abc import Iterable
from typing import Any

from data.sources import foreign
from data.sources.kind import TABLE, USUAL, Kind, load_object, loads, to_columns, whole_lines

_ENOUGH, _SHOWN = 3, 40
_SCRIPT = re.compile(
    r"(\)\]\}',?|(while|for)\s*\([^)\n]*\);|((var|let|const)\s+)?[\w.$]+\s*=|[\w.$]+\()\s*[\[{]"
)
_SPLIT = re.compile(r'"columns"\s*:\s*\[\s*"')
_ARRAYS = "jq -c '{uid: (.[0] | tostring), title: .[1], content: .[2]}'"


def lines(text: str) -> Kind | None:
    """Recognise lines that hold a record each, inside something.

    Args:
        text: the start of a file that does not begin with an object.
    """
    if _SCRIPT.match(text):
        advice = "take off what stands before and behind the JSON"
        return Kind("code around JSON, such as JavaScript", advice=advice)
    first = whole_lines(text[: 2**15])[:_ENOUGH]
    if all(_is_quoted(line) for line in first) and first:
        return Kind("JSON lines, each inside quotes", "jq -c fromjson")
    values = [loads(line) for line in first]
    if len(first) == _ENOUGH and all(_is_row(value) for value in values):
        return Kind("a JSON array a line, not an object", _ARRAYS)
    begins = [line.find("{") for line in first]
    rest = [load_object(line[at:]) for line, at in zip(first, begins, strict=True)]
    if len(first) == _ENOUGH and all(0 < at <= _SHOWN for at in begins) and all(rest):
        before = first[0][: begins[0]]
        return Kind(f"JSON lines with {before!r} or the like before each", "sed 's/^[^{]*//'")
    return None


def _is_quoted(line: str) -> bool:
    value = loads(line) if line.startswith('"') else None
    return isinstance(value, str) and bool(load_object(value))


def _is_row(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 1
        and not any(isinstance(item, dict) for item in value)
    )


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
    first = whole_lines(text)[:1]
    if len(whole_lines(text)) > 1 and load_object(first[0]) is not None:
        return None  # several objects
    if re.match(r'\s*\{\s*"(columns|index|data)"\s*:\s*\[', text) and _SPLIT.search(text):
        name = "one JSON object of columns and data"
        return Kind(name, TABLE.format("json").replace("read())", "read()), orient='split'", 1))
    if key := re.match(r'\s*\{\s*"([^"\\]+)"\s*:\s*\[\s*\{', text):
        name = f"one JSON object that holds its records in {key[1]!r}"
        return Kind(name, f"jq -c '.\"{key[1]}\"[]'")
    if key := re.match(r'\s*\{\s*"([^"\\]+)"\s*:\s*\{\s*"', text):
        if key[1].lower() in USUAL:
            return Kind("one JSON object that holds a column a key", TABLE.format("json"))
        return Kind("one JSON object that holds a record a key", "jq -c '.[]'")
    if _holds_columns(text):
        return Kind("one JSON object that holds a column a key", TABLE.format("json"))
    return None


def _holds_columns(text: str) -> bool:
    """Whether text is one object of lists that are all of the same length, or too long to say."""
    record = load_object(text.strip())
    if record is None:
        return bool(re.match(r'\s*\{\s*"[^"\\]+"\s*:\s*\[', text)) and "}" not in text
    lengths = {len(value) if isinstance(value, list) else 0 for value in record.values()}
    return len(lengths) == 1 and 0 not in lengths and len(record) > 1
