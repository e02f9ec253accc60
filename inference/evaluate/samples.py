"""Which rows are asked about: held-out ones that no run was trained on, and as many trained ones.

Reads subsets and clean shards; knows nothing of models. Lineage decides what a run was trained
on, and a row that it was trained on is never called unseen.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from data.artefacts import manifest, schema
from data.artefacts.dataset import Subset
from data.artefacts.folder import Folder
from data.artefacts.manifest import Manifest, Parent
from data.artefacts.parts import read_batches
from data.errors import ManifestError, SubsetError
from data.sampling import normalise_title

log = logging.getLogger("catalogue")

COLUMNS = ["uid", "title", "content"]
SideName = Literal["unseen", "seen"]


@dataclass(frozen=True)
class Trained:
    """Rows that a model was trained on."""

    digest: str
    rows: pa.Table
    """``uid``, ``title``, ``content``; memory-mapped, in the subset's order."""

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
    """Rows that could not be asked about, by reason."""

    def __len__(self) -> int:
        return len(self.uids)


def trained_on(parent: Parent, subset: str, known: Manifest) -> list[Trained]:
    """Open the rows that a run was trained on, found through its lineage.

    Args:
        parent: the run, as its manifest or that of its texts names it.
        subset: path of the subset that is asked about.
        known: its manifest.

    Raises:
        ManifestError: a subset is not where it was, or is another one now.
    """
    found = []
    for each in parent.made_from:
        if each.stage != "subset":
            continue
        path = subset if each.digest == known.digest else each.path
        expected = f"the subset that {parent.path} was trained on ({each.digest[:12]})"
        mend = "put it back or make it again, as unseen rows cannot be told without it"
        if not Folder(path).exists(manifest.NAME):
            raise ManifestError(path, expected, "none", mend)
        other = Subset.open(path)
        if other.record.digest != each.digest:
            raise ManifestError(path, expected, f"another ({other.record.digest[:12]})", mend)
        found.append(Trained(each.digest, other.rows("train", COLUMNS)))
    return found


def trained_before(made: Manifest, subset: str, known: Manifest) -> list[Trained]:
    """Open what the adapter that a run went on from was trained on, as far as that is known."""
    earlier = made.config.get("init_adapter")
    if not earlier:
        return []
    folder = Path(earlier).parent
    try:
        first = manifest.read(Folder(str(folder)), "train")
    except ManifestError:
        log.warning("%s is no run of ours: what it was trained on is not checked", folder)
        return []
    parent = first.as_parent(str(folder))
    return [*trained_on(parent, subset, known), *trained_before(first, subset, known)]


def unseen(path: str, split: str, rows: int | None, trained: Sequence[Trained]) -> EvalSet:
    """Choose held-out rows of a subset.

    Raises:
        SubsetError: the split is empty, or a run was trained on one of its rows.
    """
    own = Subset.open(path)
    table = own.rows(split, COLUMNS)
    if not table.num_rows:
        raise SubsetError(path, f"rows of split {split}", "none")
    others = [each for each in trained if each.digest != own.record.digest]
    taken = _is_trained(table, others) if others else [False] * table.num_rows
    if any(taken):
        first = table.column("uid")[taken.index(True)].as_py()
        expected = f"{split} rows that no run was trained on"
        found = f"{sum(taken):,} that one was, uid {first} first"
        mend = "name the run's own subset, or give other rows with --held_out"
        raise SubsetError(path, expected, found, mend)
    return _side("unseen", table, rows, {})


def held_out(path: str, rows: int | None, trained: Sequence[Trained]) -> EvalSet:
    """Choose rows of clean shards or of a subset's test split, without those trained on.

    Raises:
        SubsetError: none is left.
    """
    folder = Folder(path)
    made = manifest.read(folder)
    if made.stage == "subset":
        table = Subset.open(path).rows("test", COLUMNS)
    elif made.stage == "clean":
        batches = list(read_batches(folder, [*COLUMNS, "sample_key"], listed=made.parts))
        plain = [field for field in schema.CLEAN if field.name in {*COLUMNS, "sample_key"}]
        whole = pa.Table.from_batches(batches, pa.schema(plain) if not batches else None)
        table = whole.sort_by([("sample_key", "ascending"), ("uid", "ascending")]).select(COLUMNS)
    else:
        raise ManifestError(path, "the output of clean or subset", f"that of {made.stage}")
    taken = _is_trained(table, trained)
    side = _side("unseen", table.filter(pc.invert(pa.array(taken, pa.bool_()))), rows,
                 {"trained_on": sum(taken)})  # fmt: skip
    if not len(side):
        raise SubsetError(path, "rows that no run was trained on", f"none of {len(taken):,}")
    return side


def seen(trained: Sequence[Trained], rows: int) -> EvalSet:
    """Choose rows that every run was trained on: the first of the smallest subset."""
    if not trained:
        return EvalSet("seen", [], [], [])
    by_size = sorted(trained, key=lambda each: each.rows.num_rows)
    table = by_size[0].rows
    for other in by_size[1:]:
        if other.digest != by_size[0].digest:
            texts = set(_texts(other.rows))
            common = [text in texts for text in _texts(table)]
            table = table.filter(pa.array(common, pa.bool_()))
    return _side("seen", table, rows, {})


def only(side: EvalSet, places: Sequence[int], gone: dict[str, int]) -> EvalSet:
    """Keep the rows at some places; ``gone`` counts the others by reason."""
    return EvalSet(
        side.name,
        [side.uids[place] for place in places],
        [side.titles[place] for place in places],
        [side.references[place] for place in places],
        dict(Counter(side.left_out) + Counter(gone)),
    )


def _is_trained(table: pa.Table, trained: Sequence[Trained]) -> list[bool]:
    """Mark the rows whose uid, title or description a run was trained on."""
    uids, titles, contents = _facts(table)
    marked = [False] * table.num_rows
    for each in trained:
        known = [set(values) for values in _facts(each.rows)]
        for place, row in enumerate(zip(uids, titles, contents, strict=True)):
            marked[place] |= any(value in held for value, held in zip(row, known, strict=True))
    return marked


def _facts(table: pa.Table) -> tuple[list[Any], list[Any], list[Any]]:
    """Give uids, and hashes of normalised titles and of descriptions."""
    titles = (normalise_title(title) for title in table.column("title").to_pylist())
    return (
        table.column("uid").to_pylist(),
        [xxhash.xxh3_64_intdigest(title.encode()) for title in titles],
        [xxhash.xxh3_64_intdigest(text.encode()) for text in table.column("content").to_pylist()],
    )


def _texts(table: pa.Table) -> Iterable[int]:
    both = zip(table.column("title").to_pylist(), table.column("content").to_pylist(), strict=True)
    return (xxhash.xxh3_64_intdigest(f"{title}\0{text}".encode()) for title, text in both)


def _side(name: SideName, table: pa.Table, rows: int | None, left_out: dict[str, int]) -> EvalSet:
    """Take the first rows that have a title and a description."""
    blank = pc.or_(
        pc.equal(pc.utf8_trim_whitespace(table.column("title")), ""),
        pc.equal(pc.utf8_trim_whitespace(table.column("content")), ""),
    )
    told = table.filter(pc.invert(blank))
    told = told if rows is None else told.slice(0, rows)
    gone = left_out | {"empty": pc.sum(blank).as_py() or 0}
    uids, titles, contents = (told.column(each).to_pylist() for each in COLUMNS)
    return EvalSet(
        name,
        uids,
        titles,
        contents,
        {reason: count for reason, count in gone.items() if count},
    )
