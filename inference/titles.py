"""Titles from whatever a user has: a subset, clean shards, Parquet, Arrow, CSV, JSON lines, text.

Streams record batches in input order with bounded memory. Knows nothing of models.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from data import manifest, schema, shards
from data.errors import ConfigError, ManifestError, SourceError
from data.manifest import Parent
from data.shards import Folder, digest_all, digest_file
from inference.config import GenerateConfig

TITLES = pa.schema([pa.field("uid", pa.string()), pa.field("title", pa.string())])
REJECTED = pa.schema([*TITLES, pa.field("reason", pa.string())])
"""Titles that no description can be written for: ``empty_title`` or ``prompt_too_long``."""

_MEND = "name the columns with --title_column and --uid_column"
_BATCH = 4_096
_ARROW_FILE = b"ARROW1"


@dataclass(frozen=True)
class Titles:
    """An input of titles, not read yet."""

    digest: str
    """Of the input."""
    rows: int | None
    """How many there are, where that is known beforehand."""
    batches: Callable[[], Iterator[pa.RecordBatch]]
    """Opens the input anew: batches of schema TITLES in input order, without nulls; the columns
    to carry through follow, as they are."""
    parent: Parent | None = None
    """The manifest of the input, where one of our stages made it."""


def find(config: GenerateConfig) -> Titles:
    """Find the titles that a config names.

    Raises:
        SourceError: nothing is there, it is empty, or it has no column of titles.
        ConfigError: a column to keep has the name of one of the output's.
    """
    if taken := set(config.keep_columns) & set(schema.GENERATED.names):
        expected = f"names other than {', '.join(schema.GENERATED.names)}"
        raise ConfigError("--keep_columns", expected, ", ".join(sorted(taken)))
    folder = Folder(config.titles)
    names = folder.names()
    if manifest.is_output(names):
        return _from_stage(config, folder)
    if names or not folder.is_local:
        return _from_parts(config, folder, names)
    path = Path(folder.path())
    if not path.is_file():
        found = "an empty folder" if path.is_dir() else "none"
        raise SourceError(config.titles, "a file or folder of titles", found)
    if path.stat().st_size == 0:
        raise SourceError(config.titles, "rows", "an empty file")
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    reader = _READERS.get(suffixes[-1] if suffixes else "")
    if reader is None:
        raise SourceError(config.titles, f"a name that ends in {', '.join(_READERS)}", path.name)
    return Titles(digest_file(path), None, lambda: _named(reader(path), config))


def _from_stage(config: GenerateConfig, folder: Folder) -> Titles:
    made = manifest.read(folder)
    parent = made.as_parent(manifest.absolute(config.titles))
    split = config.split
    if made.stage == "subset":
        rows = sum(each.rows for each in made.outputs if each.path.startswith(f"{split}/"))
        if not rows:
            held = ", ".join(sorted({each.path.split("/")[0] for each in made.outputs}))
            raise SourceError(config.titles, f"rows of split {split}", f"only {held}")
        root = Path(folder.path()) / split
        return Titles(made.digest, rows, lambda: _named(_streams(root), config), parent)
    if made.stage == "clean":
        kept = config.keep_columns

        def opened() -> Iterator[pa.RecordBatch]:
            return _named(_split(folder, split, kept), config)

        return Titles(made.digest, None, opened, parent)
    expected = "the output of clean or subset, or a file of titles"
    raise ManifestError(config.titles, expected, f"that of {made.stage}")


def _from_parts(config: GenerateConfig, folder: Folder, names: list[str]) -> Titles:
    parts = [name for name in names if name.endswith(".parquet")]
    if not parts:
        found = ", ".join(names[:3]) or "nothing"
        raise SourceError(config.titles, "Parquet files", found)
    described = [shards.inspect_part(folder, name) for name in parts]

    def read() -> Iterator[pa.RecordBatch]:
        for name in parts:
            with shards.open_part(folder, name) as file:
                yield from file.iter_batches(batch_size=_BATCH)

    digest = digest_all([each.digest for each in described])
    return Titles(digest, sum(each.rows for each in described), lambda: _named(read(), config))


def _split(folder: Folder, split: str, kept: list[str]) -> Iterator[pa.RecordBatch]:
    known = [name for name in kept if name in schema.CLEAN.names]
    columns = list(dict.fromkeys(["uid", "title", "split", *known]))
    for batch in shards.read_batches(folder, columns):
        yield batch.filter(pc.equal(batch.column("split"), split))


def _streams(root: Path) -> Iterator[pa.RecordBatch]:
    for file in sorted(root.glob("*.arrow")):
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
            yield from reader


def _parquet(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=_BATCH)


def _arrow(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        if source.read(6) == _ARROW_FILE:
            reader = pa.ipc.open_file(source)
            yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
            return
        source.seek(0)
        yield from pa.ipc.open_stream(source)


def _check_quotes(path: Path) -> None:
    """Refuse a quote that opens and is not closed, in whose text pyarrow hides the rows after it.

    Raises:
        SourceError: a quoted field does not end before a comma or the end of the line.
    """
    whole = 0
    with _opened(path) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
        rows = csv.reader(text, strict=True)
        try:
            for _ in rows:
                whole = rows.line_num
        except csv.Error as error:
            expected = "quotes that close before a comma or the end of the line"
            found = f"in the row from line {whole + 1:,} on: {error}"
            mend = 'write a quote within a quoted field as ""'
            raise SourceError(str(path), expected, found, mend) from error


def _csv(path: Path) -> Iterator[pa.RecordBatch]:
    _check_quotes(path)
    # Quoted fields may hold line breaks, and every column is text: a title may be a number.
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    with _opened(path) as file:
        header = pyarrow.csv.open_csv(file, parse_options=parse).schema.names
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()))
    with _opened(path) as file:
        yield from pyarrow.csv.open_csv(file, parse_options=parse, convert_options=convert)


def _json(path: Path) -> Iterator[pa.RecordBatch]:
    # Texts that look like dates are texts, and a column of texts may begin with nulls.
    with _opened(path) as file:
        first = pyarrow.json.open_json(file).schema
    guessed = [each for each in first if str(each.type).startswith(("timestamp", "null"))]
    texts = pa.schema([(each.name, pa.string()) for each in guessed])
    parse = pyarrow.json.ParseOptions(explicit_schema=texts)
    with _opened(path) as file:
        yield from pyarrow.json.open_json(file, parse_options=parse)


def _text(path: Path) -> Iterator[pa.RecordBatch]:
    lines: list[str] = []
    with _opened(path) as file:
        for line in file:
            lines.append(line.decode("utf-8-sig").rstrip("\r\n"))
            if len(lines) == _BATCH:
                yield pa.record_batch({"title": lines})
                lines = []
    if lines:
        yield pa.record_batch({"title": lines})


def _opened(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


_READERS = {
    ".parquet": _parquet, ".arrow": _arrow, ".feather": _arrow, ".csv": _csv, ".json": _json,
    ".jsonl": _json, ".txt": _text,
}  # fmt: skip


def _named(batches: Iterator[pa.RecordBatch], config: GenerateConfig) -> Iterator[pa.RecordBatch]:
    """Bring batches to schema TITLES; positions stand in for uids; stop at the limit."""
    left, position = config.limit, 0
    try:
        for batch in batches:
            piece = batch if left is None else batch.slice(0, left)
            yield _columns(piece, position, config)
            position += piece.num_rows
            if left is not None and (left := left - piece.num_rows) == 0:
                return
    except (pa.ArrowException, UnicodeDecodeError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the machine's fault, not that of the titles
        found = str(error).splitlines()[0]
        raise SourceError(config.titles, "readable rows", found) from error


def _columns(batch: pa.RecordBatch, position: int, config: GenerateConfig) -> pa.RecordBatch:
    names = batch.schema.names
    uid_column = config.uid_column or ("uid" if "uid" in names else None)
    for name in (config.title_column, uid_column, *config.keep_columns):
        if name is not None and names.count(name) != 1:
            raise SourceError(config.titles, f"one column {name!r}", ", ".join(names), _MEND)
    titles = pc.coalesce(batch.column(config.title_column).cast(pa.string()), pa.scalar(""))
    places = pa.array(range(position, position + batch.num_rows), pa.int64()).cast(pa.string())
    uids: Any = places
    if uid_column:
        uids = pc.coalesce(batch.column(uid_column).cast(pa.string()), places)
    kept = {name: batch.column(name) for name in config.keep_columns}
    made = pa.record_batch({"uid": uids, "title": titles} | kept)
    made.validate(full=True)  # readers let bytes that are no UTF-8 pass
    return made


def parts(titles: Titles, part_rows: int) -> Iterator[pa.Table]:
    """Cut the titles into parts of equal size by position; the last may be shorter."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in titles.batches():
        rest = batch
        while rest.num_rows:
            piece = rest.slice(0, part_rows - count)
            held.append(piece)
            count += piece.num_rows
            rest = rest.slice(piece.num_rows)
            if count == part_rows:
                yield pa.Table.from_batches(held)
                held, count = [], 0
    if held:
        yield pa.Table.from_batches(held)
