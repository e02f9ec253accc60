"""Rows of Parquet and Arrow files: each row's uid, title and kept columns.

Only the columns that are asked for are read. A text that is no UTF-8 costs its row alone.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.artefacts.folder import Folder
from data.errors import SourceError
from data.sources import streams
from inference.tables.text_files import MEND, Asked, limited

_BATCH = 4_096
_ARROW_FILE = b"ARROW1"


def unify(asked: Asked, found: list[pa.Schema]) -> pa.Schema:
    """Give the kept columns of several files one type each.

    Raises:
        SourceError: there is none.
    """
    try:
        return pa.unify_schemas(found, promote_options="permissive")
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise SourceError(asked.where, "kept columns of one type", reason) from error


def parquet_batches(file: pq.ParquetFile, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """Read the columns that a Parquet file has of those asked for."""
    names = [name for name in file.schema_arrow.names if name in columns]
    yield from file.iter_batches(batch_size=_BATCH, columns=names)


def _parquet(file: IO[bytes], columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file) as opened:
        yield from parquet_batches(opened, columns)


def _arrow(file: IO[bytes], columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    for batch in _arrow_reader(file):
        names = [name for name in batch.schema.names if name in columns]
        for start in range(0, batch.num_rows, _BATCH):
            yield batch.select(names).slice(start, _BATCH)


def _arrow_reader(file: IO[bytes]) -> Any:
    is_file = file.read(len(_ARROW_FILE)) == _ARROW_FILE
    file.seek(0)
    if not is_file:
        return pa.ipc.open_stream(file)
    reader = pa.ipc.open_file(file)
    return (reader.get_batch(i) for i in range(reader.num_record_batches))


def _arrow_schema(file: IO[bytes]) -> pa.Schema:
    is_file = file.read(len(_ARROW_FILE)) == _ARROW_FILE
    file.seek(0)
    return (pa.ipc.open_file if is_file else pa.ipc.open_stream)(file).schema


@dataclass(frozen=True)
class Table:
    """How a file of typed columns is read."""

    read_schema: Callable[[IO[bytes]], pa.Schema]
    read: Callable[[IO[bytes], tuple[str, ...]], Iterator[pa.RecordBatch]]


TABLES = {
    ".parquet": Table(pq.read_schema, _parquet),
    ".arrow": Table(_arrow_schema, _arrow),
    ".feather": Table(_arrow_schema, _arrow),
}


def read_schema(url: str, table: Table) -> pa.Schema:
    """Read the columns' names and types.

    Raises:
        SourceError: the file is damaged.
    """
    with readable(url), _source(url) as file:
        return table.read_schema(file)


def read(url: str, table: Table, asked: Asked) -> Iterator[pa.RecordBatch]:
    """Read the batches of a file, with the columns that it has of those asked for."""
    with _source(url) as file:
        yield from table.read(file, asked.columns)


@contextlib.contextmanager
def _source(url: str) -> Iterator[Any]:
    """Open a file; a local one is mapped, so that memory holds only what is looked at."""
    with streams.open_url(url) as file:
        if not Folder(url).is_local:
            yield file
            return
        with pa.memory_map(Folder(url).path()) as mapped:
            yield mapped


def check(asked: Asked, found: pa.Schema) -> pa.Schema:
    """Check the columns of typed rows, and give the schema of those to keep.

    Raises:
        SourceError: one is missing, there twice, or holds no texts.
    """
    asked.check(found.names)
    for name in asked.columns[:2]:
        if name in found.names and pa.types.is_nested(found.field(name).type):
            expected, kind = f"texts in column {name!r}", str(found.field(name).type)
            raise SourceError(asked.where, expected, kind, MEND)
    return pa.schema([found.field(name) for name in asked.kept])


@contextlib.contextmanager
def readable(where: str) -> Iterator[None]:
    """Tell damaged rows; what the machine or the network is at fault for stays as it is.

    Raises:
        SourceError: the rows are damaged.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        # Arrow's own faults of the data are OSErrors too, but never of a kind or with a number.
        if isinstance(error, OSError) and (error.errno is not None or type(error) is not OSError):
            raise
        found = str(error).splitlines()[0]
        raise SourceError(where, "readable rows", found) from error


def named(
    batches: Iterator[pa.RecordBatch], asked: Asked, kept: pa.Schema | None = None
) -> Iterator[pa.RecordBatch]:
    """Bring batches to schema TITLES; positions stand in for uids; stop at the limit."""
    position = 0
    with readable(asked.where):
        for batch in limited(batches, asked.limit):
            yield _columns(batch, position, asked, kept)
            position += batch.num_rows


def _columns(
    batch: pa.RecordBatch, position: int, asked: Asked, kept: pa.Schema | None
) -> pa.RecordBatch:
    names = batch.schema.names
    asked.check(names)
    title, is_title = _texts(batch.column(asked.title))
    places = pa.array(range(position, position + batch.num_rows), pa.int64()).cast(pa.string())
    uid, is_uid = places, True
    if asked.columns[1] in names:
        uid, is_uid = _texts(batch.column(asked.columns[1]))
    refused = pc.if_else(pc.and_(is_title, is_uid), pa.scalar(None, pa.string()), "invalid_utf8")
    columns = {
        "uid": pc.coalesce(uid, places),
        "title": pc.coalesce(title, pa.scalar("")),
        "refused": refused
        if isinstance(refused, pa.Array)
        else pa.nulls(batch.num_rows, pa.string()),
    }
    for name in asked.kept:
        column = batch.column(name)
        columns[name] = column if kept is None else column.cast(kept.field(name).type)
    made = pa.record_batch(columns)
    made.validate(full=True)
    return made


def _texts(column: pa.Array) -> tuple[pa.StringArray, Any]:
    """Give a column as texts, and which of them are UTF-8: readers let other bytes pass."""
    try:
        texts = column.cast(pa.string())
        texts.validate(full=True)
    except pa.ArrowInvalid:
        raw = column.cast(pa.binary()).to_pylist()
        decoded = [None if each is None else each.decode("utf-8", "replace") for each in raw]
        good = [each is None or each.decode("utf-8", "ignore").encode() == each for each in raw]
        return pa.array(decoded, pa.string()), pa.array(good)
    return texts, True
