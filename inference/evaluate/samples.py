"""Which rows texts are written for: held-out ones that no run was trained on, and trained ones.

Reads subsets and clean shards; knows nothing of models. Lineage decides what a run was trained
on, and a row that it was trained on is never called unseen.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from data.artefacts import manifest
from data.artefacts.dataset import Subset
from data.artefacts.folder import Folder
from data.artefacts.manifest import Manifest, Parent
from data.artefacts.parts import read_batches
from data.errors import ManifestError, SubsetError
from data.sampling import title_key

log = logging.getLogger("catalogue")

COLUMNS = ["uid", "title", "content"]
SideName = Literal["unseen", "seen"]


@dataclass(frozen=True)
class Trained:
    """Rows that a model was trained on."""

    digest: str
    rows: pa.Table
    """``uid``, ``title``, ``content`` and what there is of the attributes that prompts show;
    memory-mapped, in the subset's order."""

    @property
    def texts(self) -> pa.ChunkedArray:
        """The training descriptions."""
        return self.rows.column("content")


@dataclass(frozen=True)
class EvalSet:
    """Rows of one kind, in order."""

    name: SideName
    uids: list[str]
    titles: list[str]
    references: list[str]
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows that no text can be judged for, by reason."""
    attributes: dict[str, list[str]] = field(default_factory=dict)
    """Columns of the attributes that prompts show, by name."""

    @property
    def records(self) -> list[str]:
        """What supports the numbers of texts: the real descriptions, with their attributes."""
        columns = (self.references, *self.attributes.values())
        return ["\n".join(row) for row in zip(*columns, strict=True)]

    def take(self, places: Sequence[int], left_out: dict[str, int]) -> "EvalSet":
        """Return the rows at some places."""

        def taken(column: list[str]) -> list[str]:
            return [column[place] for place in places]

        return EvalSet(
            self.name, taken(self.uids), taken(self.titles), taken(self.references), left_out,
            {name: taken(column) for name, column in self.attributes.items()},
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.uids)


def trained_on(
    parent: Parent, subset: str, record: Manifest, attributes: Sequence[str] = ()
) -> list[Trained]:
    """Open the rows that a run was trained on, by its lineage.

    A subset of the evaluated one's digest is opened at that one's path.

    Raises:
        ManifestError: a subset is not where it was, or is another one now.
    """
    trained = []
    for source in parent.made_from:
        if source.stage != "subset":
            continue
        path = subset if source.digest == record.digest else source.path
        expected = f"the subset that {parent.path} was trained on ({source.digest[:12]})"
        hint = "put it back or make it again, as unseen rows cannot be told without it"
        if not Folder(path).exists(manifest.NAME):
            raise ManifestError(path, expected, "none", hint)
        other = Subset.open(path)
        if other.record.digest != source.digest:
            raise ManifestError(path, expected, f"another ({other.record.digest[:12]})", hint)
        columns = [*COLUMNS, *(name for name in attributes if name in other.attributes)]
        trained.append(Trained(source.digest, other.rows("train", columns)))
    return trained


def trained_before(
    run: Manifest, subset: str, record: Manifest, attributes: Sequence[str] = ()
) -> list[Trained]:
    """Open what the adapter that a run went on from was trained on, where its run is there."""
    earlier = run.config.get("init_adapter")
    if not earlier:
        return []
    folder = Path(earlier).parent
    try:
        first = manifest.read(Folder(str(folder)), "train")
    except ManifestError:
        log.warning("%s is no run of ours: what it was trained on is not checked", folder)
        return []
    parent = first.as_parent(str(folder))
    rest = trained_before(first, subset, record, attributes)
    return [*trained_on(parent, subset, record, attributes), *rest]


def unseen(
    path: str, split: str, rows: int | None, trained: Sequence[Trained],
    attributes: Sequence[str] = (),
) -> EvalSet:  # fmt: skip
    """Choose held-out rows of a subset.

    Raises:
        ManifestError: it lacks an attribute.
        SubsetError: the split is empty, or a run was trained on one of its rows.
    """
    own = Subset.open(path)
    own.record.check_attributes(path, attributes)
    table = own.rows(split, [*COLUMNS, *attributes])
    if not table.num_rows:
        raise SubsetError(path, f"rows of split {split}", "none")
    marks = _is_trained(table, [source for source in trained if source.digest != own.record.digest])
    if any(marks):
        first = table.column("uid")[marks.index(True)].as_py()
        expected = f"{split} rows that no run was trained on"
        leaked = f"{sum(marks):,} that one was, uid {first} first"
        hint = "name the run's own subset, or give other rows with --held_out"
        raise SubsetError(path, expected, leaked, hint)
    return _choose("unseen", table, rows, attributes)


def held_out(
    path: str, rows: int | None, trained: Sequence[Trained], attributes: Sequence[str] = ()
) -> EvalSet:
    """Choose rows of clean shards or of a subset's test split, without those trained on.

    Raises:
        ManifestError: they lack an attribute.
        SubsetError: none is left.
    """
    folder = Folder(path)
    record, columns = manifest.read(folder), [*COLUMNS, *attributes]
    record.check_attributes(path, attributes)
    if record.stage == "subset":
        table = Subset.open(path).rows("test", columns)
    elif record.stage == "clean":
        batches = read_batches(folder, [*columns, "sample_key"], listed=record.parts)
        table = by_sample_key(batches, columns)
    else:
        raise ManifestError(path, "the output of clean or subset", f"that of {record.stage}")
    marks = _is_trained(table, trained)
    side = _choose("unseen", table.filter(pa.array([not mark for mark in marks], pa.bool_())),
                   rows, attributes, trained_on=sum(marks))  # fmt: skip
    if not len(side):
        raise SubsetError(path, "rows that no run was trained on", f"none of {len(marks):,}")
    return side


def by_sample_key(batches: Iterable[pa.RecordBatch], texts: Sequence[str] = COLUMNS) -> pa.Table:
    """Sort rows by sample key and uid, with offsets of 64 bits: text may be more than 2 GiB."""
    wide = [pa.field(name, pa.large_string()) for name in texts]
    schema = pa.schema([*wide, pa.field("sample_key", pa.uint64())])
    columns = (batch.select(schema.names).cast(schema) for batch in batches)
    table = pa.Table.from_batches(columns, schema)
    return table.sort_by([("sample_key", "ascending"), ("uid", "ascending")])


def seen(trained: Sequence[Trained], rows: int, attributes: Sequence[str] = ()) -> EvalSet:
    """Choose rows that every run was trained on: the first of the smallest subset.

    Raises:
        SubsetError: no subset has all attributes that prompts show.
    """
    there = [source for source in trained if set(attributes) <= set(source.rows.column_names)]
    if not there:
        expected = f"one with the attributes {', '.join(attributes)}, which prompts show"
        raise SubsetError("subsets trained on", expected, "none", "judge the runs one by one")
    smallest = min(there, key=lambda source: source.rows.num_rows)
    others = [source for source in trained if source is not smallest]
    table = smallest.rows
    for other in others:
        if other.digest != smallest.digest:
            texts = set(_texts(other.rows))
            common = [text in texts for text in _texts(table)]
            table = table.filter(pa.array(common, pa.bool_()))
    return _choose("seen", table, rows, attributes)


def _is_trained(table: pa.Table, trained: Sequence[Trained]) -> list[bool]:
    """Mark the rows whose uid, title or description a run was trained on."""
    if not trained:
        return [False] * table.num_rows
    keys: tuple[set[Any], ...] = (set(), set(), set())
    for source in trained:
        for values, column in zip(keys, _keys(source.rows), strict=True):
            values.update(column)
    rows = zip(*_keys(table), strict=True)
    return [any(key in values for key, values in zip(row, keys, strict=True)) for row in rows]


def _keys(table: pa.Table) -> Iterator[list[Any]]:
    """Return uids, hashes of normalised titles, and hashes of descriptions, a column each."""
    yield table.column("uid").to_pylist()
    yield [title_key(title) for title in table.column("title").to_pylist()]
    yield [xxhash.xxh3_64_intdigest(text.encode()) for text in table.column("content").to_pylist()]


def _texts(table: pa.Table) -> Iterable[int]:
    both = zip(table.column("title").to_pylist(), table.column("content").to_pylist(), strict=True)
    return (xxhash.xxh3_64_intdigest(f"{title}\0{text}".encode()) for title, text in both)


def _choose(
    name: SideName, table: pa.Table, rows: int | None, attributes: Sequence[str], **left_out: int
) -> EvalSet:
    """Take the first rows that have a title and a description."""
    blank = pc.or_(
        pc.equal(pc.utf8_trim_whitespace(table.column("title")), ""),
        pc.equal(pc.utf8_trim_whitespace(table.column("content")), ""),
    )
    left_out["empty"] = pc.sum(blank).as_py() or 0
    whole = table.filter(pc.invert(blank)).slice(0, rows)
    uids, titles, contents = (whole.column(column).to_pylist() for column in COLUMNS)
    left_out = {why: n for why, n in left_out.items() if n}
    own = {column: whole.column(column).to_pylist() for column in attributes}
    return EvalSet(name, uids, titles, contents, left_out, own)
