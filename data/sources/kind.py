"""What a file is, as all who look into files say it, and the usual names of our columns."""

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

LINES = "JSON lines"
Form = Literal["lines", "dicts", "objects", "table", "parquet", "arrow", ""]
TABLE = (
    "python3 -c \"import sys, io, pandas; pandas.read_{}(io.BytesIO(sys.stdin.buffer.read()))"
    ".to_json(sys.stdout, orient='records', lines=True)\""
)  # fmt: skip
"""Shell command that writes what pandas reads as JSON lines."""


@dataclass(frozen=True)
class Kind:
    """What a file is."""

    name: str
    """``LINES``, or for a person: ``a zip archive``."""
    filter: str = ""
    """Shell command that reads such a file and writes JSON lines, or comes nearer to them."""
    advice: str = ""
    """What to do where no command turns it into lines; ``PATH`` stands for the file's own."""
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
        name = shlex.quote(path)
        if not filters:
            return self.advice.replace("PATH", name)
        first = [f"gzip -dc {name}"] if is_gzip else [f"{filters.pop(0)} < {name}"]
        return f"convert it: {' | '.join(first + filters)} > {to}"


_ALIASES = {
    "uid": ("uid", "asin", "id", "sku", "product_id", "item_id", "ean", "isbn"),
    "title": ("title", "name", "product_name", "product_title", "product"),
    "content": ("content", "description", "desc", "product_description", "text", "body", "summary"),
}
USUAL = frozenset(name for names in _ALIASES.values() for name in names)
"""Names that our columns often have."""


def to_columns(names: Iterable[str]) -> dict[str, str] | None:
    """Guess which of a record's own fields are ours; None where one has no likely name."""
    lower = {str(name).strip().lower(): str(name) for name in reversed(list(names))}
    theirs = {
        ours: next((lower[name] for name in likely if name in lower), None)
        for ours, likely in _ALIASES.items()
    }
    columns = {ours: name for ours, name in theirs.items() if name is not None}
    return columns if len(columns) == len(_ALIASES) else None


def loads(line: str) -> Any:
    """Parse a line of JSON; ``NotImplemented`` where it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return NotImplemented


def load_object(line: str) -> dict[str, Any] | None:
    """Parse a line that is an object of JSON; None for any other."""
    value = loads(line) if line.startswith("{") else None
    return value if isinstance(value, dict) else None


def whole_lines(text: str) -> list[str]:
    """Return the lines that hold something; the last, which may be cut, only where it is alone."""
    lines = text.split("\n")
    whole = lines[:-1] if len(lines) > 1 and lines[-1] else lines
    return [line.strip() for line in whole if line.strip()]
