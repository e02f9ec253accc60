"""Rows of Parquet and Arrow files: batches of the columns that are read, and batches to rows.

``byte_offset`` is the row's number in its file. A null is a ``missing_field``; a quarantined row
is kept as JSON.
"""

import contextlib
import json
import mmap
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.artefacts.folder import Folder, digest_bytes
from data.errors import SourceError
from data.prompt import attribute_texts
from data.sources import header
from preprocessing.fields import Fields
from preprocessing.files import SourceFile
from preprocessing.parse import Parsed, Records

# Read at once: fewer than so many bytes, as a text that a file holds once may be in each row.
_ROWS = 1_024
_BYTES = 2**23
_ARROW_FILE = b"ARROW1"
# Behind the footer: its length and the magic bytes.
_FOOTER_END = 4 + len(_ARROW_FILE)
# Bytes of a batch where a file cannot be mapped.
_LARGEST_BATCH = 2**28
_SHOWN_TYPE = 60
_ALONE = "give each a file of its own"


def records(
    file: SourceFile,
    stream: Any,
    tell: Callable[[], int],
    fields: Fields,
    block_bytes: int,
) -> Iterator[tuple[Records, int]]:
    """Read a file's blocks in order, each with the stored bytes read so far.

    A block is an Arrow stream of the columns that are read, of ``block_bytes`` or little more.

    Raises:
        SourceError: the file is damaged, or a column that should hold text does not.
    """
    with _readable(file.url), contextlib.ExitStack() as stack:
        if file.packing and file.form == "parquet":
            stream, tell = _spool(stream, stack), lambda: file.size
        elif file.form == "arrow" and (mapped := _map(file)):
            stream, tell = mapped, lambda: file.size
        batches = _batches(stream, file, fields)
        first = done = 0
        while waiting := _block(batches, block_bytes):
            table = pa.Table.from_batches(waiting).replace_schema_metadata()
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            data = sink.getvalue().to_pybytes()
            rows = np.arange(first, first + table.num_rows)
            nothing = np.zeros(len(rows), np.int64)
            at = max(done, min(tell(), file.size))
            yield Records(data, nothing, nothing, rows, len(data), digest_bytes(data), first), at
            first, done = first + table.num_rows, at


def _spool(stream: IO[bytes], stack: contextlib.ExitStack) -> IO[bytes]:
    """Unpack a file to disk, as it is not read in order."""
    unpacked: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the stack
    stack.callback(unpacked.close)
    shutil.copyfileobj(stream, unpacked, 2**20)
    unpacked.seek(0)
    return unpacked


def _batches(stream: Any, file: SourceFile, fields: Fields) -> Iterator[pa.RecordBatch]:
    names = list(fields.names)
    if file.form == "parquet":
        parquet = pq.ParquetFile(stream, buffer_size=2**20, pre_buffer=False)
        _check(file.url, parquet.schema_arrow, fields)
        # Reading raises where columns are encrypted; looking at their metadata ends the process.
        next(parquet.iter_batches(1, columns=names, use_threads=False), None)
        _check_one(stream, parquet.metadata, file.where)
        for group in range(parquet.num_row_groups):
            rows = _rows_at_once(parquet, stream, group, names)
            for batch in parquet.iter_batches(rows, [group], names, use_threads=False):
                yield _plain(_sound(batch))
        return
    is_mapped = isinstance(stream, mmap.mmap)
    source = (
        pa.BufferReader(stream) if is_mapped else pa.PythonFile(_Bounded(stream, file.url), "r")
    )
    if not file.is_arrow_stream:  # a file of batches holds a stream
        source.read(len(_ARROW_FILE) + 2)
    places = [place for place, name in enumerate(file.columns) if name in names]
    options = pa.ipc.IpcReadOptions(included_fields=places or None)
    reader = pa.ipc.open_stream(source, options=options)
    _check(file.url, reader.schema, fields)
    for batch in reader:
        chosen = _sound(batch.select(names))
        rows = min(max(_BYTES * batch.num_rows // max(chosen.nbytes, 1), 1), _ROWS)
        for start in range(0, batch.num_rows, rows):
            yield _plain(chosen.slice(start, rows))
            if is_mapped and hasattr(stream, "madvise"):  # what was read may go
                stream.madvise(mmap.MADV_DONTNEED)
    _check_end(source, file)


def _check_one(stream: IO[bytes], about: pq.FileMetaData, where: str) -> None:
    """Check that a Parquet file is one: a second one's footer may fit the first one's columns.

    Between the last column and the footer are then as many bytes as the first file has, or more,
    and few in a file alone: so many are looked at.

    Raises:
        SourceError: it is several.
    """
    ends = [0]
    for group in range(about.num_row_groups):
        column = about.row_group(group).column(about.num_columns - 1)
        pages = filter(None, (column.dictionary_page_offset, column.data_page_offset))
        ends.append(min(pages, default=0) + column.total_compressed_size)
    footer = stream.seek(0, 2) - about.serialized_size - 8
    stream.seek(0)
    left, before = footer - max(ends), b""
    while left > 0 and (piece := stream.read(min(left + 8, 2**20))):
        if b"PAR1PAR1" in before + piece:
            raise SourceError(where, "one Parquet file", "several in one", _ALONE)
        left, before = left - len(piece), piece[-7:]


def _check_end(source: Any, file: SourceFile) -> None:
    """Read on behind the last batch, which nothing but a file's footer may follow.

    What is packed is read to its end with that, where a checksum stands.

    Raises:
        SourceError: something follows, such as a second stream.
    """
    left, tail = 0, b""
    while piece := source.read(2**20):
        left += len(piece) if piece.strip(b"\0") else 0
        tail = (tail + piece)[-_FOOTER_END:]
    footer = 0 if file.is_arrow_stream else int.from_bytes(tail[:4], "little") + _FOOTER_END
    if left != footer:
        raise SourceError(file.where, "one Arrow file or stream", "more behind its end", _ALONE)


def _map(file: SourceFile) -> mmap.mmap | None:
    """Map a plain Arrow file on a disk, as a batch of any size is one piece; None for others."""
    if file.packing or not Folder(file.url).is_local:
        return None
    with file.open() as stored:
        return mmap.mmap(stored.fileno(), 0, access=mmap.ACCESS_READ)


class _Bounded:
    """The bytes of an Arrow file whose batches have to be read whole.

    Raises:
        SourceError: one is too large for that.
    """

    def __init__(self, stream: IO[bytes], url: str) -> None:
        self._stream, self._url = stream, url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, size: int = -1) -> bytes:
        """Read at most so many bytes."""
        if size > _LARGEST_BATCH:
            expected = f"batches of at most {_LARGEST_BATCH:,} bytes in a packed or remote file"
            hint = "bring it to a disk, unpacked"
            raise SourceError(self._url, expected, f"one of {size:,}", hint)
        return self._stream.read(size)


def _rows_at_once(parquet: pq.ParquetFile, stream: IO[bytes], group: int, names: list[str]) -> int:
    """Return how many rows of a group to read at once: by the longest text of its dictionaries."""
    about = parquet.metadata.row_group(group)
    leaves = [about.column(i) for i in range(about.num_columns)]
    leaves = [leaf for leaf in leaves if leaf.path_in_schema.partition(".")[0] in names]
    stored = sum(leaf.total_uncompressed_size for leaf in leaves)
    if stored * about.num_rows <= _BYTES:
        return _ROWS
    paths = [leaf.path_in_schema for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    probe = pq.ParquetFile(
        stream, metadata=parquet.metadata, read_dictionary=paths, pre_buffer=False
    )
    row = next(probe.iter_batches(1, [group], names, use_threads=False))
    longest: int = stored // about.num_rows + 1
    for column in row.columns:
        while pa.types.is_list(column.type):
            column = column.values
        if pa.types.is_dictionary(column.type):
            longest += pc.max(pc.binary_length(column.dictionary)).as_py() or 0
    return min(max(_BYTES // longest, 1), _ROWS)


def _sound(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Check all offsets of a batch, as Arrow trusts those of a file and reads beyond its memory.

    Texts that are no UTF-8 pass: they cost their row alone.
    """
    batch.validate()
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            values = column.dictionary
            values.view(_binary(values.type)).validate(full=True)
            pa.DictionaryArray.from_arrays(column.indices, values)  # checks the indices
        else:
            column.view(_binary(column.type)).validate(full=True)
    return batch


def _binary(kind: pa.DataType) -> pa.DataType:
    """Return the type of the same buffers whose texts are bytes."""
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_binary(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_binary(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_binary(kind.value_type)))
    texts = {
        pa.string(): pa.binary(),
        pa.large_string(): pa.large_binary(),
        pa.string_view(): pa.binary_view(),
    }
    return texts.get(kind, kind)


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Write values of types that Arrow hardly computes with in others."""
    columns = [pc.run_end_decode(column) if pa.types.is_run_end_encoded(column.type) else column
               for column in batch.columns]  # fmt: skip
    cast = [column.cast(_plain_type(column.type)) for column in columns]
    return pa.RecordBatch.from_arrays(cast, batch.schema.names)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    return {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(kind, kind)


def _check(url: str, schema: pa.Schema, fields: Fields) -> None:
    if missing := [name for name in fields.names if name not in schema.names]:
        columns = ", ".join(schema.names)
        raise SourceError(url, f"a column {missing[0]}", columns, "name others with --columns")
    if twice := [name for name in fields.names if schema.names.count(name) > 1]:
        hint = "give each column a name of its own"
        raise SourceError(url, "a schema with each name once", f"{twice[0]!r} twice", hint)
    hint = "name another with --columns '{title: …, content: …}'"
    for name in fields.names:
        shown = str(schema.field(name).type)[:_SHOWN_TYPE]
        try:
            column = pa.array([], schema.field(name).type)
            empty = _plain(pa.RecordBatch.from_arrays([column], [name]))
            texts, _ = _texts(pa.chunked_array(empty.columns), fields, name)
            empty.take(texts.cast(pa.int64()))
        except pa.ArrowNotImplementedError as error:
            raise SourceError(url, f"text in column {name}", shown, hint) from error
        kind = _values(empty.schema.field(name).type)
        if pa.types.is_list(kind):
            kind = _values(kind.value_type)
        is_ours = name in (fields.title, fields.content)
        if is_ours and not _is_text(kind) and not pa.types.is_null(kind):
            raise SourceError(url, f"text in column {name}", shown, hint)


def _values(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    texts = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
    return kind in texts


def _block(batches: Iterator[pa.RecordBatch], block_bytes: int) -> list[pa.RecordBatch]:
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        waiting.append(batch)
        size += batch.nbytes
        if size >= block_bytes:
            break
    return waiting


@contextlib.contextmanager
def _readable(url: str) -> Iterator[None]:
    """Report damaged files as such; a fault of the machine or the network is raised as it is."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        # Arrow's own faults of the data are OSErrors too, but never of a kind or with a number.
        if isinstance(error, OSError) and (error.errno is not None or type(error) is not OSError):
            raise
        raise header.damaged(url, error) from error


def parse(block: Records, source: str, fields: Fields, max_line_bytes: int) -> Parsed:
    """Turn a block's columns into rows."""
    table = pa.ipc.open_stream(block.data).read_all()
    count = table.num_rows
    numbers = pa.array(block.offsets, pa.int64()).cast(pa.string())
    texts = {name: _texts(table.column(name), fields, name) for name in fields.names}
    reasons = np.full(count, "", dtype=object)
    sizes = np.zeros(count, np.int64)
    for name in fields.required:
        column, is_utf8 = texts[name]
        sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy(False)
        reasons[~is_utf8] = "invalid_utf8"
        reasons[column.is_null().to_numpy(False)] = "wrong_type"
    for name in fields.required:
        reasons[table.column(name).is_null().to_numpy()] = "missing_field"
    reasons[sizes > max_line_bytes] = "line_too_long"
    ours = {
        "uid": numbers if fields.uid is None else texts[fields.uid][0],
        "title": texts[fields.title][0],
        "content": texts[fields.content][0],
    } | {name: texts[theirs][0].fill_null("") for name, theirs in fields.attributes}
    good, bad = np.flatnonzero(reasons == ""), np.flatnonzero(reasons != "")
    lines = [json.dumps(row, default=_shown, ensure_ascii=False).encode("utf-8", "surrogateescape")
             for row in _rows(table.take(bad))]  # fmt: skip
    starts, stops = np.zeros(count, np.int64), np.zeros(count, np.int64)
    stops[bad] = np.cumsum([len(line) for line in lines])
    starts[bad] = stops[bad] - [len(line) for line in lines]
    kept = Records(b"".join(lines), starts, stops, block.offsets)
    refused = [(int(i), str(reasons[i])) for i in bad]
    rows = pa.table(ours).take(good)
    return Parsed.of(kept, good, rows, refused, max_line_bytes, source, fields)


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return rows as values, each text as bytes."""
    for place, field in enumerate(table.schema):
        column, kind = table.column(place), field.type
        if _is_text(kind):
            table = table.set_column(place, field.name, column.cast(pa.large_binary()))
        elif pa.types.is_list(kind) and _is_text(kind.value_type):
            table = table.set_column(place, field.name, column.cast(pa.list_(pa.large_binary())))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _shown(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _texts(column: pa.ChunkedArray, fields: Fields, name: str) -> tuple[pa.StringArray, np.ndarray]:
    """Return a column as texts, null where a value is none, and which of them are UTF-8."""
    values = column.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    if pa.types.is_list(kind) and name in fields.required and _is_text(_values(kind.value_type)):
        options = pc.CastOptions(pa.list_(pa.string()), allow_invalid_utf8=True)
        values = pc.binary_join(values.cast(options=options), " ")
    if pa.types.is_nested(values.type):
        values = pa.array(attribute_texts(values), pa.string())
    if name == fields.uid and pa.types.is_floating(values.type):
        values = _digits(values)
    is_utf8 = np.ones(len(values), dtype=bool)
    if not _is_text(values.type):
        return values.cast(pa.string()), is_utf8
    raw = values.cast(pa.large_binary()).cast(pa.binary())
    valid, offsets, data = raw.buffers()
    text = pa.StringArray.from_buffers(len(raw), offsets, data, valid, -1, raw.offset)
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        decoded = [None if t is None else t.decode("utf-8", "replace") for t in raw.to_pylist()]
        is_utf8 = np.array([t is None or t.decode("utf-8", "replace").encode() == t
                            for t in raw.to_pylist()])  # fmt: skip
        text = pa.array(decoded, pa.string())
    return text, is_utf8


def _digits(numbers: pa.Array) -> pa.Array:
    """Write numbers as a uid, whole ones as those of integers; null where one is none or inexact.

    pandas makes floats of whole numbers where one is missing.
    """
    wide, exact = numbers.cast(pa.float64()), 2.0 ** (53 if numbers.type == pa.float64() else 24)
    sure = pc.less(pc.abs(wide), exact)
    whole = pc.if_else(pc.and_(sure, pc.equal(pc.floor(wide), wide)), wide, None)
    texts = pc.if_else(sure, numbers.cast(pa.string()), None)
    return pc.coalesce(whole.cast(pa.int64()).cast(pa.string()), texts)
