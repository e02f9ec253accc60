"""Tables of text: recognised by their header and their first rows."""

import csv
import io
import itertools
import re
import shlex
from codecs import BOM_UTF8

from data.sources.kind import Kind, to_columns

_CSV = (
    'python3 -c "import sys, json, csv; '
    '[print(json.dumps(row)) for row in csv.DictReader(sys.stdin{})]"'
)
_SEPARATORS = {",": "CSV", "\t": "tab-separated", ";": "CSV with semicolons", "|": "CSV with bars"}
_SHOWN_COLUMNS, _SHOWN_TEXT = 8, 80
_LOOKED_AT = 50
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")


def other(start: bytes) -> Kind | None:
    """Recognise a table whose values are not separated by commas; None for anything else."""
    table = recognise(start.removeprefix(BOM_UTF8).decode("utf-8", "replace").lstrip())
    return table if table and not table.name.startswith("a table (CSV)") else None


def otherwise(text: str, separator: str) -> Kind:
    """Describe text without the separator that was stated."""
    stated = "tab" if separator == "\t" else separator
    if table := recognise(text):
        named = "tab" if table.separator == "\t" else table.separator
        advice = f"leave out --delimiter, or state --delimiter {shlex.quote(named)}"
        return Kind(f"{table.name}, none with {stated!r} between the cells", advice=advice)
    first = text.partition("\n")[0].rstrip()[:_SHOWN_TEXT]
    advice = "state what stands between the cells with --delimiter, or leave it out"
    return Kind(f"no {stated!r} in the first row {first!r}", advice=advice)


def recognise(text: str, stated: str | None = None) -> Kind | None:
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
        is_table = bool(stated) or to_columns(columns) or 2 * alike > len(rows) - 1
        if is_table and _is_header(columns):
            tables.append((len(columns), separator, name, columns))
    if not tables:
        return None
    _, separator, name, columns = max(tables, key=lambda table: table[0])
    how = "" if separator == "," else f", delimiter={separator!r}".replace("\\t", "\\\\t")
    named = [name for name in columns if name]
    more = ", …" if len(named) > _SHOWN_COLUMNS else ""
    listed = ", ".join(named[:_SHOWN_COLUMNS]) + more
    described = f"a table ({name}) with columns {listed}"
    record = dict.fromkeys(columns, "")
    return Kind(described, _CSV.format(how), record=record, form="table", separator=separator)


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


def _is_header(columns: list[str]) -> bool:
    """Whether cells may be names: the first, an index, and the last ones may have none."""
    inner = "\0".join(columns[1:]).rstrip("\0").split("\0")
    is_text = not any(_CONTROL.search(name) for name in columns)
    return is_text and all(inner) and len([*filter(None, columns)]) > 1
