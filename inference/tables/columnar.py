"""Rows of Parquet and Arrow files: each row's uid, title and kept columns.

Only selected columns are read. A text that is no UTF-8 costs its row alone.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.artefacts.folder import Folder
from data.errors import SourceError
from data.prompt import attribute_texts
from data.sources import streams
from inference.tables.text_files import ATTRIBUTE, HINT, Selection, limited

ENDINGS = (".parquet", ".arrow", ".feather")
_BATCH = 4_096
_ARROW_FILE = b"ARROW1"


def unify(selection: Selection, schemas: list[pa.Schema]) -> pa.Schema:
    """Find one type for each kept column of several files.

    Raises:
        SourceError: there is none.
    """
    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise SourceError(selection.where, "kept columns of one type", reason) from error


def parquet_batches(file: pq.ParquetFile, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """Read the columns that a Parquet file has of those selected."""
    names = [name for name in file.schema_arrow.names if name in columns]
    yield from file.iter_batches(batch_size=_BATCH, columns=names)


@contextlib.contextmanager
def _opened(url: str, ending: str) -> Iterator[tuple[pa.Schema, Callable[..., Any]]]:
    """Open a file: its schema, and what reads batches of the columns that are passed to it.

    A local one is mapped, so that memory holds only what is looked at.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(streams.open_url(url))
        if Folder(url).is_local:
            file = stack.enter_context(pa.memory_map(Folder(url).path()))
        if ending == ".parquet":
            parquet = stack.enter_context(pq.ParquetFile(file))
            yield parquet.schema_arrow, partial(parquet_batches, parquet)
            return
        is_stream = file.read(len(_ARROW_FILE)) != _ARROW_FILE
        file.seek(0)
        reader = pa.ipc.open_stream(file) if is_stream else pa.ipc.open_file(file)
        yield reader.schema, partial(_arrow_batches, reader, is_stream)


def _arrow_batches(
    reader: Any, is_stream: bool, columns: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    names = [name for name in reader.schema.names if name in columns]
    several = (reader.get_batch(i) for i in range(0 if is_stream else reader.num_record_batches))
    for batch in reader if is_stream else several:
        for start in range(0, batch.num_rows, _BATCH):
            yield batch.select(names).slice(start, _BATCH)


def read_schema(url: str, ending: str) -> pa.Schema:
    """Read the columns' names and types.

    Raises:
        SourceError: the file is damaged.
    """
    with readable(url), _opened(url, ending) as (columns, _):
        return columns


def read(url: str, ending: str, selection: Selection) -> Iterator[pa.RecordBatch]:
    """Read the batches of a file, with the columns that it has of those selected."""
    with _opened(url, ending) as (_, batches):
        yield from batches(selection.columns)


def check(selection: Selection, columns: pa.Schema) -> pa.Schema:
    """Check the columns of typed rows, and return the schema of those to carry along.

    Raises:
        SourceError: one is missing, there twice, or holds no texts.
    """
    selection.check(columns.names)
    for name in selection.columns[:2]:
        if name in columns.names and pa.types.is_nested(columns.field(name).type):
            expected, kind = f"texts in column {name!r}", str(columns.field(name).type)
            raise SourceError(selection.where, expected, kind, HINT)
    kept = (columns.field(name) for name in selection.kept)
    return pa.schema([*kept, *selection.about(columns.names)])


@contextlib.contextmanager
def readable(where: str) -> Iterator[None]:
    """Report damaged rows as such; a fault of the machine or the network is raised as it is.

    Raises:
        SourceError: the rows are damaged.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        # Arrow's own faults of the data are OSErrors too, but never of a kind or with a number.
        if isinstance(error, OSError) and (error.errno is not None or type(error) is not OSError):
            raise
        raise SourceError(where, "readable rows", str(error).splitlines()[0]) from error


def named(
    batches: Iterator[pa.RecordBatch], selection: Selection, kept: pa.Schema | None = None
) -> Iterator[pa.RecordBatch]:
    """Bring batches to schema TITLES; positions stand in for uids; stop at the limit."""
    position = 0
    with readable(selection.where):
        for batch in limited(batches, selection.limit):
            yield _columns(batch, position, selection, kept)
            position += batch.num_rows


def _columns(
    batch: pa.RecordBatch, position: int, selection: Selection, kept: pa.Schema | None
) -> pa.RecordBatch:
    names = batch.schema.names
    selection.check(names)
    title, is_title = _texts(batch.column(selection.title))
    places = pa.array(range(position, position + batch.num_rows), pa.int64()).cast(pa.string())
    own = selection.columns[1]
    uid, is_uid = _texts(batch.column(own) if own in names else places)
    is_utf8 = pc.and_(is_title, is_uid)
    about = {}
    for name in selection.attributes:
        lacking = pa.nulls(batch.num_rows, pa.string())
        value, is_value = _texts(batch.column(name) if name in names else lacking)
        about[ATTRIBUTE + name], is_utf8 = value, pc.and_(is_utf8, is_value)
    columns = {
        "uid": pc.coalesce(uid, places),
        "title": pc.coalesce(title, pa.scalar("")),
        "refused": pc.if_else(is_utf8, pa.scalar(None, pa.string()), "invalid_utf8"),
    }
    for name in selection.kept:
        column = batch.column(name)
        columns[name] = column if kept is None else column.cast(kept.field(name).type)
    titles = pa.record_batch(columns | about)
    titles.validate(full=True)
    return titles


def _texts(column: pa.Array) -> tuple[pa.StringArray, pa.BooleanArray]:
    """Return a column as texts, and which of them are UTF-8: readers let other bytes pass."""
    if pa.types.is_nested(column.type):
        texts = pa.array(attribute_texts(column), pa.string())
        return texts, pc.not_equal(texts, "\ufffd")
    try:
        texts = column.cast(pa.string())
        texts.validate(full=True)
    except pa.ArrowInvalid:
        raw = column.cast(pa.binary()).to_pylist()
        texts = [None if text is None else text.decode("utf-8", "replace") for text in raw]
        is_utf8 = [text is None or text.decode("utf-8", "ignore").encode() == text for text in raw]
        return pa.array(texts, pa.string()), pa.array(is_utf8, pa.bool_())
    return texts, pa.repeat(True, len(column))
