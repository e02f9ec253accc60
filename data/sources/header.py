"""The columns of a file: a table's header, a schema, the fields of the first records.

Only names: whether a record has them is the parser's business.
"""

import ast
import csv
import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import IO, Any

from data.console import first_line
from data.errors import SourceError
from data.sources.kind import Kind

_ARROW_FILE = b"ARROW1"


def of_text(start: bytes, kind: Kind, where: str) -> tuple[str, ...]:
    """Return the names of the columns of text, each as it is written.

    Args:
        start: of the file, in UTF-8.
        kind: of the file.
        where: names it in errors.

    Raises:
        SourceError: a table has a column twice.
    """
    text = start.decode("utf-8", "replace")
    if kind.form == "table":
        rows = csv.reader(io.StringIO(text, newline=None), delimiter=kind.separator)
        names = next((row for row in rows if row), [])
        if twice := [name for i, name in enumerate(names) if name and name in names[:i]]:
            hint = "give each column a name of its own"
            raise SourceError(where, "a header with each name once", f"{twice[0]!r} twice", hint)
        return tuple(names)
    records = _objects(text) if kind.form == "objects" else _lines(kind, text)
    return tuple(dict.fromkeys(str(name) for record in records for name in record))


def _lines(kind: Kind, text: str) -> Iterator[dict[str, Any]]:
    lines = (text.replace("\r", "\n") if kind.separator == "\r" else text).split("\n")
    for line in lines:
        record = _python(line) if kind.form == "dicts" else _json(line.strip().removesuffix(","))
        if isinstance(record, dict):
            yield record


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder, at = json.JSONDecoder(), 0
    while True:
        at = text.find("{", at)
        if at < 0:
            return
        try:
            record, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        yield record


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _python(line: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in texts
            return ast.literal_eval(line.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return _json(line)


def of_schema(
    open_file: Callable[[], AbstractContextManager[IO[bytes]]], form: str, where: str
) -> tuple[str, ...]:
    """Return the names of the columns of a Parquet or Arrow file.

    Raises:
        SourceError: it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_file() as stored:
            if form == "parquet":
                return tuple(pq.read_schema(stored).names)
            is_file = stored.read(len(_ARROW_FILE)) == _ARROW_FILE
            stored.seek(0)
            reader = pa.ipc.open_file(stored) if is_file else pa.ipc.open_stream(stored)
            return tuple(reader.schema.names)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and (error.errno is not None or type(error) is not OSError):
            raise
        raise damaged(where, error) from error


def has_nested(
    open_file: Callable[[], AbstractContextManager[IO[bytes]]], names: list[str]
) -> bool:
    """Whether a Parquet file has columns of such names inside another column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_file() as stored:
        columns = pq.read_schema(stored)
    inside = {item.name for column in columns if pa.types.is_struct(column.type)
              for item in column.type}  # fmt: skip
    return bool(inside & set(names))


def damaged(where: str, error: Exception) -> SourceError:
    """Describe a fault of a Parquet or Arrow file."""
    fault, hint = first_line(error), "fetch it again"
    if "magic bytes not found in footer" in fault:
        fault = "a file that breaks off: its footer is not there"
    if "ecrypt" in fault or "encrypted" in fault:
        fault, hint = "Parquet that is encrypted", "write it without encryption, where its keys are"
    return SourceError(where, "readable rows", fault, hint)
