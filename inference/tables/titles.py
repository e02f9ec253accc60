"""Titles from whatever a user has: a subset, clean shards, Parquet, Arrow, CSV, JSON lines, text.

Streams record batches in input order with bounded memory. Knows nothing of models.
"""

import contextlib
import io
import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from data import text
from data.artefacts import manifest, schema
from data.artefacts.dataset import Subset
from data.artefacts.folder import Artefact, Folder, digest_all
from data.artefacts.manifest import Parent
from data.artefacts.parts import inspect_part, open_part, read_batches
from data.errors import ConfigError, ManifestError, SourceError
from data.sources import kinds, streams
from inference.config import GenerateConfig
from inference.tables import columnar, json_lines, text_files
from inference.tables.columnar import TABLES
from inference.tables.text_files import Asked, Row

REJECTED = pa.schema(
    [
        pa.field("uid", pa.string()),
        pa.field("title", pa.string()),
        pa.field("reason", pa.string()),
    ]
)
"""Titles that no description can be written for: ``empty_title``, ``prompt_too_long``, or why the
row could not be read: ``wrong_type``, ``wrong_field_count``, ``invalid_json``, ``invalid_utf8``,
``not_an_object``, ``line_too_long``; then ``title`` is what there is of the row."""

_START = 2**16
_MAX_GZIP_RATIO = 200


@dataclass(frozen=True)
class Titles:
    """An input of titles, not read yet."""

    digest: str
    """Of the input."""
    rows: int | None
    """How many there are, where that is known beforehand."""
    batches: Callable[[], Iterator[pa.RecordBatch]]
    """Opens the input anew: batches of schema TITLES in input order; the columns to carry through
    follow, as they are."""
    parent: Parent | None = None
    """The manifest of the input, where one of our stages made it."""
    is_repaired: bool = False
    """Whether the titles are not as the file has them, but repaired."""


def find(config: GenerateConfig, for_prompts: bool = False) -> Titles:
    """Find the titles that a config names, and all that can be wrong with them as a whole.

    Args:
        config: names them, and the columns.
        for_prompts: repair the titles of files as the training titles were, and let rows that
            cannot be read come with their reason; else they are as they stand, and such a row is
            an error. Our own clean and subset folders are repaired already.

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
    if names:
        return _for(_from_parts(config, folder, names), config, for_prompts)
    if folder.is_local and Path(folder.path()).is_dir():
        raise SourceError(config.titles, "a file or folder of titles", "an empty folder")
    return _for(_from_file(config), config, for_prompts)


def _for(found: Titles, config: GenerateConfig, for_prompts: bool) -> Titles:
    """Give the titles of a file the form that is asked for."""
    change = partial(_repair) if for_prompts else partial(_check_rows, config.titles)

    def opened() -> Iterator[pa.RecordBatch]:
        return (change(batch) for batch in found.batches())

    return Titles(found.digest, found.rows, opened, found.parent, for_prompts)


def _repair(batch: pa.RecordBatch) -> pa.RecordBatch:
    place = batch.schema.get_field_index("title")
    repaired = text.repair_column(batch.column(place))
    return batch.set_column(place, batch.schema.field(place), repaired)


def _check_rows(where: str, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Pass on rows that can all be read.

    Raises:
        SourceError: one cannot.
    """
    refused = batch.column("refused")
    if refused.null_count < len(refused):
        place = pc.index(refused.is_valid(), True).as_py()
        shown = repr(batch.column("title")[place].as_py()[:80])
        raise SourceError(where, "readable rows", f"{refused[place].as_py()}: {shown}")
    return batch


def _asked(config: GenerateConfig) -> Asked:
    kept = tuple(config.keep_columns)
    return Asked(config.titles, config.title_column, config.uid_column, kept, config.limit)


def _from_file(config: GenerateConfig) -> Titles:
    url, asked = config.titles, _asked(config)
    ending = posixpath.splitext(url.lower().removesuffix(".gz"))[1]
    with streams.open_url(url) as file:
        if ending not in (*TABLES, *READERS):
            known = ", ".join([*TABLES, *READERS])
            raise SourceError(url, f"a name that ends in {known}", posixpath.basename(url))
        digest = _digest(file)
        _check_start(url, file, ending)
    if ending in TABLES:
        table = TABLES[ending]
        kept = columnar.check(asked, columnar.read_schema(url, table))

        def read() -> Iterator[pa.RecordBatch]:
            return columnar.named(columnar.read(url, table, asked), asked, kept)

        return Titles(digest, None, read)
    survey, rows = READERS[ending]
    with _opened(url) as file:
        types = survey(file, asked)

    def opened() -> Iterator[pa.RecordBatch]:
        with _opened(url) as file:
            batches = text_files.batches(rows(file, asked, types), types)
            yield from text_files.limited(batches, config.limit)

    return Titles(digest, None, opened)


def _digest(file: IO[bytes]) -> str:
    """Digest a file as xxh3-128, hexadecimal, and rewind it."""
    state = xxhash.xxh3_128()
    while piece := file.read(2**22):
        state.update(piece)
    file.seek(0)
    digest: str = state.hexdigest()
    return digest


def _check_start(where: str, file: IO[bytes], ending: str) -> None:
    """Check that a file is what its name says, and that gzip is sound to its end.

    Raises:
        SourceError: it is empty, of another kind, or a gzip stream that is damaged or a bomb.
    """
    with _unpacked(where, file) as (unpacked, is_gzip):
        start = unpacked.read(_START)
        if not is_gzip and not start:
            raise SourceError(where, "rows", "an empty file")
        if ending not in TABLES:
            is_json = READERS[ending] is _JSON
            kind = kinds.recognise(start) if is_json else kinds.no_text(start)
            if ending == ".csv" and (table := kinds.other_table(start)):
                kind = table
            if kind is not None and kind.name != kinds.LINES:
                expected = {".txt": "text in UTF-8", ".csv": "CSV in UTF-8"}.get(
                    ending, kinds.LINES
                )
                to = "titles.jsonl" if kind.record else f"titles{ending}"
                mend = kind.hint(where, is_gzip, to=to)
                raise SourceError(where, expected, kind.name, mend)
        while is_gzip and unpacked.read(2**22):
            pass


@contextlib.contextmanager
def _unpacked(url: str, stored: IO[bytes]) -> Iterator[tuple[IO[bytes], bool]]:
    """Give a file's bytes in order, uncompressed, and whether they come out of gzip."""
    is_gzip = stored.read(len(streams.GZIP)) == streams.GZIP
    stored.seek(0)
    mend = f"where the file is sound, unpack it first: gzip -dk {url}"
    raw: Any = streams.gunzip(stored, url, _MAX_GZIP_RATIO, mend) if is_gzip else stored
    with io.BufferedReader(raw, 2**20) as file:
        yield file, is_gzip


@contextlib.contextmanager
def _opened(url: str) -> Iterator[IO[bytes]]:
    with streams.open_url(url) as stored, _unpacked(url, stored) as (file, _):
        yield file


def _from_stage(config: GenerateConfig, folder: Folder) -> Titles:
    made = manifest.read(folder)
    asked = _asked(config)
    parent = made.as_parent(manifest.absolute(config.titles))
    split = config.split
    if made.stage == "subset":
        rows = sum(each.rows for each in made.outputs if each.path.startswith(f"{split}/"))
        if not rows:
            held = ", ".join(sorted({each.path.split("/")[0] for each in made.outputs}))
            raise SourceError(config.titles, f"rows of split {split}", f"only {held}")
        subset = Subset.open(config.titles)
        return Titles(
            made.digest, rows, lambda: columnar.named(subset.batches(split), asked), parent
        )
    if made.stage == "clean":
        kept = config.keep_columns

        def opened() -> Iterator[pa.RecordBatch]:
            return columnar.named(_split(folder, made.parts, split, kept), asked)

        return Titles(made.digest, None, opened, parent)
    expected = "the output of clean or subset, or a file of titles"
    raise ManifestError(config.titles, expected, f"that of {made.stage}")


def _from_parts(config: GenerateConfig, folder: Folder, names: list[str]) -> Titles:
    parts = [name for name in names if name.lower().endswith(".parquet")]
    if not parts:
        found = ", ".join(names[:3]) or "nothing"
        raise SourceError(config.titles, "Parquet files", found)
    asked = _asked(config)
    described = [inspect_part(folder, name) for name in parts]
    schemas = [_part_schema(folder, name) for name in parts]
    kept = columnar.unify(asked, [columnar.check(asked, each) for each in schemas])

    def read() -> Iterator[pa.RecordBatch]:
        for name in parts:
            with open_part(folder, name) as file:
                yield from columnar.parquet_batches(file, asked.columns)

    digest = digest_all([each.digest for each in described])
    rows = sum(each.rows for each in described)
    return Titles(digest, rows, lambda: columnar.named(read(), asked, kept))


def _part_schema(folder: Folder, name: str) -> pa.Schema:
    with open_part(folder, name) as file:
        return file.schema_arrow


def _split(
    folder: Folder, parts: Sequence[Artefact], split: str, kept: list[str]
) -> Iterator[pa.RecordBatch]:
    known = [name for name in kept if name in schema.CLEAN.names]
    columns = list(dict.fromkeys(["uid", "title", "split", *known]))
    for batch in read_batches(folder, columns, listed=parts):
        yield batch.filter(pc.equal(batch.column("split"), split))


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


_JSON = json_lines.survey_json, json_lines.json_rows
READERS: dict[str, tuple[Callable[[IO[bytes], Asked], pa.Schema], Callable[..., Iterator[Row]]]] = {
    ".csv": (text_files.survey_csv, text_files.csv_rows),
    ".json": _JSON,
    ".jsonl": _JSON,
    ".ndjson": _JSON,
    ".txt": (text_files.survey_text, text_files.text_rows),
}
"""By ending: what looks at the whole file beforehand, and what reads its rows."""
