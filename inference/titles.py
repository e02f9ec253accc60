"""Titles from whatever holds them, as one stream of record batches in input order.

A subset, clean shards, Parquet, CSV, JSON lines or text, plain or gzip. Memory stays bounded
whatever the number of titles. Reads only; knows nothing of models or of Dask.
"""

import csv
import gzip
import json
import posixpath
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from data import manifest, shards
from data.errors import SourceError
from data.manifest import Manifest
from data.shards import Artefact, Folder, digest_all

TITLES = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
    ]
)
"""A title and the uid that its description will bear; an empty title is the empty string."""

_ROWS_AT_ONCE = 4_096
# Far above the longest title known (1,999 characters) with a long description beside it.
_MAX_LINE_BYTES = 16 * 2**20
_FORMS = {
    ".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json", ".txt": "text",
}  # fmt: skip
_KINDS = "a subset, clean shards, Parquet, .csv, .json, .jsonl or .txt"
Row = tuple[str | None, str | None]


@dataclass(frozen=True)
class Query:
    """Which titles to read."""

    path: str
    split: str = "test"
    """Of a subset or of clean shards."""
    title_column: str = "title"
    uid_column: str | None = None
    """None: ``uid`` where there is one, else the row's position."""
    limit: int | None = None


@dataclass(frozen=True)
class Titles:
    """A source of titles that was found; ``read`` streams it, as often as asked."""

    query: Query
    form: str
    """``subset``, ``clean``, ``parquet``, ``csv``, ``json`` or ``text``."""
    files: tuple[str, ...] = ()
    """In reading order; none for a subset and for clean shards."""
    record: Manifest | None = None
    """Of a subset or of clean shards."""


def find(query: Query) -> Titles:
    """Find out what a path holds.

    Raises:
        SourceError: nothing, or nothing that titles can be read from.
        ManifestError: an unfinished folder of ours.
    """
    from fsspec.core import url_to_fs

    fs, root = url_to_fs(query.path)
    if fs.isdir(root):
        return _find_in_folder(query)
    if not fs.exists(root):
        raise SourceError(query.path, "a file or folder of titles", "nothing there")
    form = _FORMS.get(posixpath.splitext(root.removesuffix(".gz"))[1].lower())
    if form is None or (form == "parquet" and root.endswith(".gz")):
        raise SourceError(query.path, f"titles as {_KINDS}", "a file of another kind")
    return Titles(query, form, (query.path,))


def _find_in_folder(query: Query) -> Titles:
    folder = Folder(query.path)
    names = folder.names()
    if manifest.NAME in names or "begun.json" in names:
        record = manifest.read(folder)
        if record.stage in ("subset", "clean"):
            return Titles(query, record.stage, record=record)
        raise SourceError(query.path, f"titles as {_KINDS}", f"the output of {record.stage}")
    files = [name for name in names if name.endswith(".parquet") and name[0] not in "._"]
    if not files:
        found = f"{names[0]!r} and no .parquet file" if names else "an empty folder"
        raise SourceError(query.path, f"titles as {_KINDS}", found)
    return Titles(query, "parquet", tuple(posixpath.join(query.path, name) for name in files))


def scan(titles: Titles) -> tuple[int, tuple[Artefact, ...], str]:
    """Read everything once, so that a fault is told before a model is loaded.

    Returns:
        The number of titles, what they were read from, and a digest of that: the manifest's
        of a subset or of clean shards, else one of the files' bytes.

    Raises:
        SourceError: a file is empty, truncated or no such thing, or a column is missing.
    """
    rows = sum(batch.num_rows for batch in read(titles))
    if not rows:
        raise SourceError(titles.query.path, "titles", "none")
    if titles.record:
        return rows, titles.record.outputs, titles.record.digest
    inputs = tuple(_describe(url, rows if len(titles.files) == 1 else 0) for url in titles.files)
    return rows, inputs, digest_all([each.digest for each in inputs])


def _describe(url: str, rows: int) -> Artefact:
    state = xxhash.xxh3_128()
    size = 0
    with _open(url) as file:
        while piece := file.read(2**22):
            state.update(piece)
            size += len(piece)
    return Artefact(manifest.absolute(url), rows, size, state.hexdigest())


def read(titles: Titles) -> Iterator[pa.RecordBatch]:
    """Stream titles: record batches of schema ``TITLES`` in input order, ``limit`` rows at most.

    Raises:
        SourceError: as for ``scan``.
    """
    query = titles.query
    left = query.limit
    for batch in _batches(titles):
        if left is not None:
            batch = batch.slice(0, left)
            left -= batch.num_rows
        if batch.num_rows:
            yield batch
        if left == 0:
            return


def _batches(titles: Titles) -> Iterator[pa.RecordBatch]:
    query = titles.query
    if titles.form in _TABLES:
        position = 0
        for where, table in _TABLES[titles.form](titles):
            yield from _from_table(table, query, where, position)
            position += table.num_rows
        return
    rows = _ROWS[titles.form](query)
    numbered = enumerate(rows)
    while some := list(islice(numbered, _ROWS_AT_ONCE)):
        uids = [str(position) if uid is None else uid for position, (uid, _) in some]
        yield pa.record_batch([uids, [title or "" for _, (_, title) in some]], schema=TITLES)


def _from_table(
    table: pa.Table, query: Query, where: str, position: int
) -> Iterator[pa.RecordBatch]:
    """Take the two columns of a table whose first row has a position in the input."""
    titles = pc.fill_null(_text(table, query.title_column, where), "")
    name = _uid_name(query, table.column_names, where)
    if name is None:
        places = range(position, position + table.num_rows)
        uids: Any = pa.chunked_array([pa.array(map(str, places), pa.string())])
    else:
        uids = _text(table, name, where, pa.types.is_integer)
        if uids.null_count:
            raise SourceError(where, f"a uid in every row of {name!r}", f"{uids.null_count} nulls")
    yield from pa.table([uids, titles], schema=TITLES).to_batches()


def _text(
    table: pa.Table, name: str, where: str, also: Callable[[Any], bool] | None = None
) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise _no_column(where, name, table.column_names)
    column = table.column(name)
    kind = column.type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_text = pa.types.is_string(plain) or pa.types.is_large_string(plain)
    if not (is_text or pa.types.is_string_view(plain) or (also and also(plain))):
        raise SourceError(where, f"text in column {name!r}", str(kind))
    return column.cast(plain).cast(pa.string())


def _uid_name(query: Query, names: list[str], where: str) -> str | None:
    """Name the column that holds the uid; None where the position stands for it."""
    if query.uid_column and query.uid_column not in names:
        raise _no_column(where, query.uid_column, names)
    return query.uid_column or ("uid" if "uid" in names else None)


def _no_column(where: str, name: str, names: list[str]) -> SourceError:
    shown = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
    mend = "name another with --title_column or --uid_column"
    return SourceError(where, f"a column {name!r}", shown or "no column", mend)


def _subset_tables(titles: Titles) -> Iterator[tuple[str, pa.Table]]:
    from data import subset

    query = titles.query
    rows = subset.load(query.path)
    if query.split not in rows:
        raise SourceError(query.path, f"a split {query.split}", ", ".join(rows))
    chosen = rows[query.split].with_format("arrow")
    for start in range(0, len(chosen), _ROWS_AT_ONCE):
        yield query.path, chosen[start : start + _ROWS_AT_ONCE]


def _clean_tables(titles: Titles) -> Iterator[tuple[str, pa.Table]]:
    query = titles.query
    wanted = [query.title_column, query.uid_column or "uid", "split"]
    try:
        for batch in shards.read_batches(Folder(query.path), wanted, _ROWS_AT_ONCE):
            table = pa.table(batch)
            yield query.path, table.filter(pc.equal(table.column("split"), query.split))
    except (pa.ArrowInvalid, KeyError) as error:
        raise SourceError(query.path, "clean shards", _first_line(error)) from error


def _parquet_tables(titles: Titles) -> Iterator[tuple[str, pa.Table]]:
    query = titles.query
    for url in titles.files:
        with _open(url) as file:
            try:
                parquet = pq.ParquetFile(file)
                names = parquet.schema_arrow.names
                if query.title_column not in names:
                    raise _no_column(url, query.title_column, names)
                uid = _uid_name(query, names, url)
                columns = [query.title_column, *([uid] if uid else [])]
                for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=columns):
                    yield url, pa.table(batch)
            except (pa.ArrowException, OSError) as error:
                raise SourceError(url, "a Parquet file", _first_line(error)) from error


def _open(url: str) -> IO[bytes]:
    import fsspec

    opened: IO[bytes] = fsspec.open(url, "rb").open()
    return opened


def _lines(url: str) -> Iterator[tuple[str, str]]:
    """Stream the lines of a text file, each with where it stands; line ends are cut off."""
    with _open(url) as stored:
        file: Any = gzip.GzipFile(fileobj=stored) if url.endswith(".gz") else stored
        number = 0
        while line := _read_line(file, f"{url} line {number + 1:,}"):
            number += 1
            where = f"{url} line {number:,}"
            try:
                # Some editors put a mark at a file's start.
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                found = f"byte {line[error.start]:#04x} at position {error.start:,}"
                raise SourceError(where, "UTF-8", found) from error
            yield where, text.removesuffix("\n").removesuffix("\r")


def _read_line(file: IO[bytes], where: str) -> bytes:
    try:
        line = file.readline(_MAX_LINE_BYTES + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(where, "a whole gzip file", _first_line(error)) from error
    if len(line) > _MAX_LINE_BYTES:
        raise SourceError(where, f"at most {_MAX_LINE_BYTES:,} bytes a line", "a longer one")
    return line


def _text_rows(query: Query) -> Iterator[Row]:
    if query.uid_column:
        raise SourceError(query.path, f"a column {query.uid_column!r}", "a text file has none")
    for _, line in _lines(query.path):
        yield None, line


def _json_rows(query: Query) -> Iterator[Row]:
    lines = ((where, line) for where, line in _lines(query.path) if line.strip())
    first = next(lines, None)
    if first is None:
        return
    # The first line decides whether there are uids, so that none can be missing further on.
    names = list(_parse_object(*first))
    name = _uid_name(query, names, first[0])
    for where, line in chain([first], lines):
        record = _parse_object(where, line)
        for each in (query.title_column, *([name] if name else [])):
            if each not in record:
                raise _no_column(where, each, list(record))
        title = record[query.title_column]
        if title is not None and not isinstance(title, str):
            raise SourceError(where, f"text in {query.title_column!r}", repr(title)[:80])
        yield (None if name is None else _uid(record[name], where, name)), _valid(title, where)


def _parse_object(where: str, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SourceError(where, "a JSON object", _first_line(error)) from error
    if not isinstance(record, dict):
        raise SourceError(where, "a JSON object", type(record).__name__)
    return record


def _uid(value: Any, where: str, name: str) -> str:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(_valid(str(value), where))
    raise SourceError(where, f"text or a whole number in {name!r}", repr(value)[:80])


def _valid(text: str | None, where: str) -> str | None:
    """Refuse half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    try:
        (text or "").encode()
    except UnicodeEncodeError as error:
        raise SourceError(where, "valid Unicode", f"{text!r}"[:80]) from error
    return text


def _csv_rows(query: Query) -> Iterator[Row]:
    # The reader wants the line ends, as a quoted field may hold some.
    lines = (line + "\n" for _, line in _lines(query.path))
    rows = csv.reader(lines, strict=True)
    try:
        header = next((row for row in rows if row), None)
        if header is None:
            return
        if query.title_column not in header:
            raise _no_column(query.path, query.title_column, header)
        name = _uid_name(query, header, query.path)
        title_at, uid_at = header.index(query.title_column), header.index(name) if name else None
        for row in rows:
            if row and len(row) != len(header):
                where = f"{query.path} line {rows.line_num:,}"
                raise SourceError(where, f"{len(header)} fields", f"{len(row)}")
            if row:
                yield (None if uid_at is None else row[uid_at]), row[title_at]
    except csv.Error as error:
        where = f"{query.path} line {rows.line_num:,}"
        raise SourceError(where, "a line of CSV", _first_line(error)) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


_TABLES = {"subset": _subset_tables, "clean": _clean_tables, "parquet": _parquet_tables}
_ROWS = {"text": _text_rows, "json": _json_rows, "csv": _csv_rows}
