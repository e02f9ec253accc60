"""Titles from whatever a user has: a subset, clean shards, Parquet, Arrow, CSV, JSON lines, text.

Streams record batches in input order with bounded memory. Knows nothing of models.
"""

import contextlib
import io
import itertools
import logging
import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from data import text
from data.artefacts import manifest, schema
from data.artefacts.dataset import Subset
from data.artefacts.folder import Folder, digest_all
from data.artefacts.manifest import Manifest, Parent
from data.artefacts.parts import inspect_part, open_part, read_batches
from data.errors import ConfigError, ManifestError, SourceError
from data.sources import kinds, streams, tables
from data.sources.kind import LINES
from inference.config import GenerateConfig
from inference.tables import columnar, json_lines, text_files
from inference.tables.text_files import ATTRIBUTE, Row, Selection

log = logging.getLogger("catalogue")

REJECTED = pa.schema([(name, pa.string()) for name in ("uid", "title", "reason")])
"""Titles that no description can be written for: ``empty_title``, ``prompt_too_long``, or why the
row could not be read: ``wrong_type``, ``wrong_field_count``, ``invalid_json``, ``invalid_utf8``,
``not_an_object``, ``line_too_long``; then ``title`` is the beginning of the row."""

RECORD = "content"
"""The column that holds a title's own description, in our own stages' rows for one."""

_FORMS = {".txt": "text in UTF-8", ".csv": "CSV in UTF-8"}
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
    follow, as they are, then those of attributes, named ``ATTRIBUTE`` and the attribute's name."""
    parent: Parent | None = None
    """The manifest of the input, where one of our stages made it."""
    is_repaired: bool = False
    """Whether the titles are not as the file has them, but repaired."""


def find(
    config: GenerateConfig, for_prompts: bool = False, attributes: Sequence[str] = ()
) -> Titles:
    """Find the titles that a config names, and check all that concerns them as a whole.

    Args:
        config: names them, and the columns.
        for_prompts: repair the titles of files as the training titles were, and let rows that
            cannot be read come with their reason; else they are as they stand, and such a row is
            an error. Our own clean and subset folders are repaired already.
        attributes: that prompts show; a file may lack them.

    Raises:
        ManifestError: rows of one of our stages lack an attribute.
        SourceError: nothing is there, it is empty, or it has no column of titles.
        ConfigError: a column to keep has the name of one of the output's.
    """
    output = [
        *schema.GENERATED.names,
        *(schema.CHECKS.names if config.checks else ()),
        *([schema.CANDIDATES.name] if config.keep_all else ()),
    ]
    if reserved := set(config.keep_columns) & set(output):
        expected = f"names other than {', '.join(output)}"
        raise ConfigError("--keep_columns", expected, ", ".join(sorted(reserved)))
    folder = Folder(config.titles)
    names = folder.names()
    columns = (config.title_column, config.uid_column, tuple(config.keep_columns))
    selection = Selection(config.titles, *columns, config.limit, tuple(attributes))
    if manifest.is_output(names):
        if config.checks and RECORD not in selection.kept:
            selection = replace(selection, kept=(*selection.kept, RECORD))
        return _from_stage(folder, selection, config.split)
    if names:
        titles = _from_parts(folder, selection, names)
    elif folder.is_local and Path(folder.path()).is_dir():
        raise SourceError(config.titles, "a file or folder of titles", "an empty folder")
    else:
        titles = _from_file(selection)
    change = _repair if for_prompts else partial(_check_rows, config.titles)
    return replace(titles, batches=lambda: map(change, titles.batches()), is_repaired=for_prompts)


def _repair(batch: pa.RecordBatch) -> pa.RecordBatch:
    for place, name in enumerate(batch.schema.names):
        if name == "title" or name.startswith(ATTRIBUTE):
            column = pc.coalesce(batch.column(place).cast(pa.string()), "")
            batch = batch.set_column(place, name, text.repair_column(column))
    return batch


def _check_rows(where: str, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Pass on rows that can all be read.

    Raises:
        SourceError: one cannot.
    """
    refused = batch.column("refused")
    if refused.null_count < len(refused):
        place = pc.index(refused.is_valid(), True).as_py()
        title = batch.column("title")[place].as_py()[:80]
        raise SourceError(where, "readable rows", f"{refused[place].as_py()}: {title!r}")
    return batch


def _from_file(selection: Selection) -> Titles:
    url = selection.where
    ending = posixpath.splitext(url.lower().removesuffix(".gz"))[1]
    with streams.open_url(url) as file:
        if ending not in (*columnar.ENDINGS, *READERS):
            endings = ", ".join([*columnar.ENDINGS, *READERS])
            raise SourceError(url, f"a name that ends in {endings}", posixpath.basename(url))
        digest = _digest(file)
        _check_start(url, file, ending)
    if ending in columnar.ENDINGS:
        kept = columnar.check(selection, columnar.read_schema(url, ending))
        _warn_of_lacking(url, kept)

        def read() -> Iterator[pa.RecordBatch]:
            return columnar.named(columnar.read(url, ending, selection), selection, kept)

        return Titles(digest, None, read)
    survey, rows = READERS[ending]
    with _opened(url) as file:
        types = survey(file, selection)
    _warn_of_lacking(url, types)

    def parse() -> Iterator[pa.RecordBatch]:
        with _opened(url) as file:
            # No further than the survey of the columns' types.
            first = itertools.islice(rows(file, selection, types), selection.limit)
            batches = text_files.batches(first, types)
            yield from text_files.limited(batches, selection.limit)

    return Titles(digest, None, parse)


def _warn_of_lacking(where: str, columns: pa.Schema) -> None:
    """Warn of the attributes that prompts will go without."""
    of_attributes = (column for column in columns if column.name.startswith(ATTRIBUTE))
    lacking = [c.name.removeprefix(ATTRIBUTE) for c in of_attributes if c.type == pa.null()]
    if lacking:
        log.warning("%s: no column %s: prompts go without", where, " and no ".join(lacking))


def _digest(file: IO[bytes]) -> str:
    """Digest a file as xxh3-128, hexadecimal, and rewind it."""
    state = xxhash.xxh3_128()
    while piece := file.read(2**22):
        state.update(piece)
    file.seek(0)
    return str(state.hexdigest())


def _check_start(where: str, file: IO[bytes], ending: str) -> None:
    """Check that a file is what its name says, and that gzip is sound to its end.

    Raises:
        SourceError: it is empty, of another kind, or a gzip stream that is damaged or a bomb.
    """
    with _unpacked(where, file) as (unpacked, is_gzip):
        start = unpacked.read(_START)
        if not is_gzip and not start:
            raise SourceError(where, "rows", "an empty file")
        if ending not in columnar.ENDINGS:
            is_json = READERS[ending] is _JSON
            kind = kinds.recognise(start) if is_json else kinds.no_text(start)
            if ending == ".csv" and (table := tables.other(start)):
                kind = table
            if kind is not None and kind.name != LINES:
                expected = _FORMS.get(ending, LINES)
                to = "titles.jsonl" if kind.record else f"titles{ending}"
                raise SourceError(where, expected, kind.name, kind.hint(where, is_gzip, to=to))
        while is_gzip and unpacked.read(2**22):
            pass


@contextlib.contextmanager
def _unpacked(url: str, stored: IO[bytes]) -> Iterator[tuple[IO[bytes], bool]]:
    """Open a file's bytes in order, uncompressed, and say whether they come out of gzip."""
    is_gzip = stored.read(len(streams.GZIP)) == streams.GZIP
    stored.seek(0)
    hint = f"where the file is sound, unpack it first: gzip -dk {url}"
    raw: Any = streams.gunzip(stored, url, _MAX_GZIP_RATIO, hint) if is_gzip else stored
    with io.BufferedReader(raw, 2**20) as file:
        yield file, is_gzip


@contextlib.contextmanager
def _opened(url: str) -> Iterator[IO[bytes]]:
    with streams.open_url(url) as stored, _unpacked(url, stored) as (file, _):
        yield file


def _from_stage(folder: Folder, selection: Selection, split: str) -> Titles:
    record = manifest.read(folder)
    parent = record.as_parent(manifest.absolute(selection.where))
    record.check_attributes(selection.where, selection.attributes)
    if record.stage == "subset":
        subset = Subset.open(selection.where)
        rows = subset.count(split)
        if not rows:
            splits = ", ".join(sorted({file.path.split("/")[0] for file in record.outputs}))
            raise SourceError(selection.where, f"rows of split {split}", f"only {splits}")
        open_batches = partial(subset.batches, split)
    elif record.stage == "clean":
        rows = None
        open_batches = partial(_clean_batches, folder, record, split, selection.carried)
    else:
        expected = "the output of clean or subset, or a file of titles"
        raise ManifestError(selection.where, expected, f"that of {record.stage}")
    return Titles(record.digest, rows, lambda: columnar.named(open_batches(), selection), parent)


def _clean_batches(
    folder: Folder, record: Manifest, split: str, carried: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    names = dict.fromkeys(["uid", "title", "split", *carried])
    there = schema.with_attributes(schema.CLEAN, record.attributes).names
    columns = [name for name in names if name in there]
    for batch in read_batches(folder, columns, listed=record.parts):
        yield batch.filter(pc.equal(batch.column("split"), split))


def _from_parts(folder: Folder, selection: Selection, names: list[str]) -> Titles:
    parts = [name for name in names if name.lower().endswith(".parquet")]
    if not parts:
        raise SourceError(selection.where, "Parquet files", ", ".join(names[:3]) or "nothing")
    artefacts = [inspect_part(folder, name) for name in parts]
    schemas = []
    for name in parts:
        with open_part(folder, name) as file:
            schemas.append(columnar.check(selection, file.schema_arrow))
    kept = columnar.unify(selection, schemas)
    _warn_of_lacking(selection.where, kept)

    def read() -> Iterator[pa.RecordBatch]:
        for name in parts:
            with open_part(folder, name) as file:
                yield from columnar.parquet_batches(file, selection.columns)

    digest = digest_all([artefact.digest for artefact in artefacts])
    rows = sum(artefact.rows for artefact in artefacts)
    return Titles(digest, rows, lambda: columnar.named(read(), selection, kept))


def parts(titles: Titles, part_rows: int) -> Iterator[pa.Table]:
    """Cut the titles into parts of equal size by position; the last may be shorter."""
    part: list[pa.RecordBatch] = []
    count = 0
    for batch in titles.batches():
        rest = batch
        while rest.num_rows:
            piece = rest.slice(0, part_rows - count)
            part.append(piece)
            count += piece.num_rows
            rest = rest.slice(piece.num_rows)
            if count == part_rows:
                yield pa.Table.from_batches(part)
                part, count = [], 0
    if part:
        yield pa.Table.from_batches(part)


_JSON = json_lines.survey_json, json_lines.json_rows
READERS: dict[str, tuple[Callable[..., pa.Schema], Callable[..., Iterator[Row]]]] = {
    ".csv": (text_files.survey_csv, text_files.csv_rows),
    ".json": _JSON,
    ".jsonl": _JSON,
    ".ndjson": _JSON,
    ".txt": (text_files.survey_text, text_files.text_rows),
}
"""By ending: what checks the whole file beforehand, and what reads its rows."""
