"""Rows of users' JSON lines: each row's uid, title and kept columns.

Only selected columns are looked at; numbers keep their digits.
"""

import contextlib
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from typing import IO, Any

import pyarrow as pa

from data.errors import SourceError
from data.prompt import attribute_text
from inference.tables.text_files import ATTRIBUTE, SHOWN, Row, Selection, is_unicode, lines, refused

_ROWS = 4_096
# Python parses no longer number, as that takes quadratic time.
_DIGITS = 4_300
_TOO_DEEP = Row("nested too deeply", None, "invalid_json")


class _Number(str):
    """A JSON number as its digits: of any length, and yet no text."""

    __slots__ = ()


class _Twice(dict[str, Any]):
    """An object in which names stand twice."""

    repeated: tuple[str, ...] = ()


def json_rows(file: IO[bytes], selection: Selection, carried: pa.Schema) -> Iterator[Row]:
    """Read the rows of JSON lines; blank lines are none.

    Args:
        file: uncompressed.
        selection: the columns.
        carried: types of those to carry along, from ``survey_json``.
    """
    forms: list[Callable[[Any], Any]] = [
        attribute_text
        if column.name.startswith(ATTRIBUTE) and column.type == pa.string()
        else (_as_text if column.type == pa.string() else _as_value)
        for column in carried
    ]
    for record in _records(file):
        try:
            row = record if isinstance(record, Row) else _row(record, selection)
            row.carried = [form(value) for form, value in zip(forms, row.carried, strict=False)]
        except RecursionError:
            row = _TOO_DEEP
        yield row


def survey_json(file: IO[bytes], selection: Selection) -> pa.Schema:
    """Find the carried columns' types, reading no further than is needed.

    A column of one kind of values keeps it; one of several becomes text.

    Raises:
        SourceError: no row has one of the columns, or none can be read.
    """
    names: dict[str, None] = {}
    types: dict[str, pa.DataType] = dict.fromkeys(selection.kept, pa.null())
    rows: list[list[Any]] = []
    fault = ""
    for place, record in enumerate(_records(file)):
        if place == selection.limit:
            break
        if isinstance(record, Row):
            fault = fault or f"{record.refused} in row {place + 1:,}: {record.title[:80]!r}"
            continue
        names.update(dict.fromkeys(record))
        wanted = (*selection.needed, *selection.attributes)
        if not selection.kept and all(name in names for name in wanted):
            break
        with contextlib.suppress(RecursionError):
            rows.append(_row(record, selection).carried)
        if len(rows) == _ROWS:
            _widen(types, rows)
            rows = []
    if fault and not names:
        raise SourceError(selection.where, "readable rows", fault)
    if names:
        selection.check(list(names))
    _widen(types, rows)
    # Parquet holds no object without a name.
    texts = {name for name, kind in types.items() if kind == pa.null() or "struct<>" in str(kind)}
    kept = [pa.field(name, pa.string() if name in texts else types[name]) for name in types]
    return pa.schema([*kept, *selection.about(names)])


def _widen(types: dict[str, pa.DataType], rows: list[list[Any]]) -> None:
    """Widen the types of columns, in place, to hold more rows' values."""
    for place, name in enumerate(types):
        try:
            values = [_as_value(row[place]) for row in rows if row]
            if any(isinstance(value, float) for value in values):
                # Arrow refuses large whole numbers among others.
                values = [float(value) if type(value) is int else value for value in values]
            both = [types[name], pa.array(values).type]
            schemas = [pa.schema([(name, kind)]) for kind in both]
            types[name] = pa.unify_schemas(schemas, promote_options="permissive").field(name).type
        except (pa.ArrowException, TypeError, ValueError, OverflowError, RecursionError):
            types[name] = pa.string()


def _records(file: IO[bytes]) -> Iterator[dict[str, Any] | Row]:
    """Parse JSON lines: an object, or the row of a line that is none."""
    mark = BOM_UTF8
    for whole, is_whole in lines(file):
        line, mark = whole.removeprefix(mark).strip(b" \t\r\n"), b""
        if not line:
            continue
        if not is_whole:
            yield refused("line_too_long", line[:SHOWN].decode("utf-8", "replace"))
            continue
        try:
            value = _DECODER.decode(line.decode())
        except UnicodeDecodeError:
            yield refused("invalid_utf8", line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            yield refused("invalid_json", line.decode())
        else:
            is_object = isinstance(value, dict)
            yield value if is_object else refused("not_an_object", line.decode())


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    names = [name for name, _ in pairs]
    twice = _Twice(value)
    twice.repeated = tuple(name for name in value if names.count(name) > 1)
    return twice


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_once, parse_int=_Number, parse_float=_Number, parse_constant=_no_number
)


def _row(record: dict[str, Any], selection: Selection) -> Row:
    title, uid = (record.get(name) for name in selection.columns[:2])
    carried = [record.get(name) for name in selection.carried]
    # Parsers disagree on which of two values wins.
    if isinstance(record, _Twice) and set(record.repeated) & set(selection.columns):
        return refused("invalid_json", json.dumps(_as_value(record)))
    if isinstance(title, dict | list) or isinstance(uid, dict | list):
        own = None if isinstance(uid, dict | list) or not is_unicode([uid]) else _scalar(uid)
        return refused("wrong_type", json.dumps(_as_value(record)), own)
    row = Row(_scalar(title) or "", _scalar(uid), None, carried)
    if not is_unicode([row.title, row.uid, *carried]):
        return refused("invalid_json", json.dumps(_as_value(record)))
    return row


def _scalar(value: Any) -> str | None:
    """Return a text as it is, a number by its digits, true and false by name."""
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    return json.dumps(value)


def _as_value(value: Any) -> Any:
    """Return a value with its numbers as such, at any depth."""
    if isinstance(value, _Number):
        if len(value) > _DIGITS:
            return str(value)
        return float(value) if set(value) & set(".eE") else int(value)
    if isinstance(value, list):
        return [_as_value(item) for item in value]
    if isinstance(value, dict):
        return {name: _as_value(item) for name, item in value.items()}
    return value


def _as_text(value: Any) -> str | None:
    if isinstance(value, list | dict):
        return json.dumps(_as_value(value), ensure_ascii=False)
    return _scalar(value)
