"""The driver of ``subset``: clean shards in, a memory-mapped DatasetDict out; and its loader.

A subset of n holds the n train rows that come first by (sample key, uid, byte offset), so
subsets are nested and the same whatever the shards. Memory: about 100 bytes a catalogue row for
the index, and one range of rows at a time for their text, of at most 2 GiB.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from data import console
from data.artefacts import manifest, schema
from data.artefacts.dataset import Subset
from data.artefacts.folder import Artefact, Folder, digest_all, digest_file, local_path
from data.artefacts.manifest import Counts, Manifest, placement
from data.artefacts.parts import open_part, read_part
from data.artefacts.stage import stage
from data.errors import ConfigError, ManifestError, SubsetError

if TYPE_CHECKING:
    from datasets import DatasetDict

STAGE = "subset"
_WORK = ".tmp-data"
# A range of rows: a column of Arrow's strings ends at 2 GiB.
_ROWS_AT_ONCE = 50_000
_BYTES_AT_ONCE = 2**31 - 1
_INDEXED = ["uid", "title", "content", "split", "sample_key", "source", "byte_offset"]
# datasets knows no columns that refuse nulls; the subset's schema is SUBSET without that.
_STORED = pa.schema([pa.field(field.name, field.type) for field in schema.SUBSET])


@dataclass(frozen=True)
class SubsetConfig:
    """Choose rows of the clean catalogue and write them as a memory-mapped dataset.

    Rows with the same title and description are taken once; a held-out row whose description
    also stands among all train rows is left out.
    """

    clean: str = placement("data/store/clean")
    """Folder of the clean shards."""

    out: str = placement("data/store/subsets/all")
    """Folder for the dataset; local, as it is memory-mapped."""

    size: int | None = None
    """Train rows to take; none: all of them."""

    order: Literal["sample", "file"] = "sample"
    """By sample key, or as the file has them (the notebook's head(n), a biased sample)."""

    validation: int = 1_000
    """Validation rows at most."""

    test: int = 1_000
    """Test rows at most."""

    overwrite: bool = placement(False)
    """Replace the output of an earlier run."""

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ConfigError("--size", "at least 1", str(self.size))
        for name in ("validation", "test"):
            if getattr(self, name) < 0:
                raise ConfigError(f"--{name}", "0 or more", str(getattr(self, name)))


@dataclass(frozen=True)
class Chosen:
    """Which rows a subset takes of which split, in order."""

    part: np.ndarray
    """Position of the row's shard in the list of shards, [rows]."""
    row: np.ndarray
    """Position of the row in its shard, [rows]."""
    size: np.ndarray
    """Bytes of the row's title and content, [rows]."""

    def take(self, places: np.ndarray | slice) -> "Chosen":
        """Return the rows at some places."""
        return Chosen(self.part[places], self.row[places], self.size[places])


def run(config: SubsetConfig) -> Manifest:
    """Write a subset.

    Raises:
        ManifestError: the clean folder is missing, unfinished or damaged.
        SubsetError: the catalogue holds fewer train rows than asked for.
        OutputError: the folder holds another output.
    """
    clean = Folder(config.clean)
    parent = manifest.read(clean, "clean")
    out = local_path(config.out, "--out")
    identity = manifest.identify(config, clean=parent.digest)
    # There may be fewer rows than asked for: raised before an earlier output is removed.
    earlier = _choose(clean, config, parent) if config.overwrite else None
    with stage(STAGE, config, config.out, identity) as work:
        if work.finished:
            console.say(f"{config.out} is already finished for this catalogue and config")
            return work.finished
        chosen, counts = earlier or _choose(clean, config, parent)
        rows = {
            split: (len(places.row), _read_chosen(clean, parent.parts, places))
            for split, places in chosen.items()
        }
        outputs, facts = _write(rows, out, manifest.identity_digest(identity))
        made_from = (parent.as_parent(manifest.absolute(config.clean)),)
        result = work.finish(outputs, counts, parent.outputs, made_from, facts)
    console.say(manifest.funnel(result))
    listed = ", ".join(f"{facts['rows'][split]:,} {split}" for split in facts["rows"])
    console.say(f"{config.out} finished in {result.seconds:.1f} s: {listed}")
    return result


def shrink(source: Subset, size: int, out: str) -> Subset:
    """Write the subset of the first train rows of another, or find it written.

    Args:
        source: a finished subset.
        size: train rows to take, at most those of the source.
        out: folder; local.

    Returns:
        The same files, counts and digest as ``run`` with this size makes of the same catalogue.

    Raises:
        SubsetError: the source has fewer train rows.
        OutputError: the folder holds another output.
    """
    record, rows = source.record, dict(source.record.facts["rows"])
    beyond = rows["train"] - size
    if beyond < 0:
        raise SubsetError(str(source.path), f"{size:,} train rows", f"{rows['train']:,}")
    known = {name: record.config[name] for name in ("clean", "order", "validation", "test")}
    config = SubsetConfig(**known | {"size": size, "out": out})
    identity = record.identity | {"size": size}
    with stage(STAGE, config, out, identity) as work:
        if not work.finished:
            rows["train"] = size
            first = {split: (count, _first(source, split, count)) for split, count in rows.items()}
            digest = manifest.identity_digest(identity)
            outputs, facts = _write(first, local_path(out, "--out"), digest)
            counts = record.counts
            dropped = dict(sorted((Counter(counts.dropped) + Counter(beyond_size=beyond)).items()))
            counts = replace(counts, kept=counts.kept - beyond, dropped=dropped)
            work.finish(outputs, counts, record.inputs, record.made_from, facts)
    return Subset.open(out)


def _first(source: Subset, split: str, count: int) -> Iterator[pa.Table]:
    """Read the first rows of a split, in the ranges that ``_read_chosen`` reads."""
    rows = source.rows(split, _STORED.names).slice(0, count)
    lengths = (pc.binary_length(rows.column(name)).to_numpy() for name in ("title", "content"))
    for start, stop in ranges(np.sum(list(lengths), axis=0)):
        # Taken, not sliced: a slice keeps the bytes of the rows around it.
        yield rows.cast(_STORED).take(np.arange(start, stop))


def _choose(
    clean: Folder, config: SubsetConfig, parent: Manifest
) -> tuple[dict[str, Chosen], Counts]:
    index = build_index(clean, parent.parts)
    if index.num_rows != parent.counts.kept:
        hint = "a shard is missing or foreign: make the folder again with --overwrite true"
        expected = f"{parent.counts.kept:,} rows"
        raise ManifestError(config.clean, expected, f"{index.num_rows:,}", hint)
    return choose(index, config)


def load(path: str) -> "DatasetDict":
    """Load a finished subset, memory-mapped.

    Raises:
        ManifestError: the folder is no finished subset, or a file of it was changed.
    """
    from datasets import DatasetDict

    subset = Subset.open(path)
    splits = [split for split in schema.SPLITS if subset.count(split)]
    return DatasetDict({split: subset.dataset(split) for split in splits})


def build_index(clean: Folder, parts: Sequence[Artefact]) -> pa.Table:
    """Index every row of the catalogue by what decides whether it is taken.

    Returns:
        [rows] ``sample_key``, ``uid``, ``source``, ``byte_offset``, ``split``, ``part``,
        ``row``, ``size`` of title and content in bytes, ``text`` and ``content``: xxh3 64-bit
        hashes of (title, content) and content. Two texts among a million share a hash with a
        chance of 3 in 10^8.
    """
    tables = []
    with console.Progress("index", None, "rows") as progress:
        for place, part in enumerate(parts):
            table = read_part(clean, part.path, _INDEXED, listed=part)
            schema.check(table, schema.CLEAN, clean.path(part.path))
            tables.append(index_part(table, place))
            progress.advance(table.num_rows)
    return pa.concat_tables(tables)


def index_part(table: pa.Table, part: int) -> pa.Table:
    """Index the rows of one part, as ``build_index``."""
    titles, contents = table.column("title"), table.column("content")
    hashes = [xxhash.xxh3_64_intdigest(text.encode()) for text in contents.to_pylist()]
    texts = [
        xxhash.xxh3_64_intdigest(title.encode(), content)
        for title, content in zip(titles.to_pylist(), hashes, strict=True)
    ]
    columns = {
        "part": pa.repeat(pa.scalar(part, pa.int32()), len(hashes)),
        "row": pa.array(range(len(hashes)), pa.int32()),
        "size": pc.add(pc.binary_length(titles), pc.binary_length(contents)),
        "text": pa.array(texts, pa.uint64()),
        "content": pa.array(hashes, pa.uint64()),
    }
    index = table.select(["sample_key", "uid", "source", "byte_offset", "split"])
    for name, column in columns.items():
        index = index.append_column(name, column)
    return index


def choose(index: pa.Table, config: SubsetConfig) -> tuple[dict[str, Chosen], Counts]:
    """Choose the rows of each split.

    Returns:
        The chosen rows of each split that has any, and the counts: ``duplicate``, ``leaked``,
        and ``beyond_size`` for rows that were eligible but not asked for.

    Raises:
        SubsetError: there are fewer eligible train rows than asked for.
    """
    by_sample = ["sample_key", "uid", "byte_offset", "source"]
    keys = by_sample if config.order == "sample" else ["source", "byte_offset"]
    order = pc.sort_indices(index, [(key, "ascending") for key in keys])

    def ordered(name: str) -> np.ndarray:
        # Never of a column of strings, which would be put together in one of 2 GiB at most.
        column: np.ndarray = index.column(name).take(order).to_numpy()
        return column

    codes = pc.index_in(index.column("split"), pa.array(schema.SPLITS))
    split = codes.take(order).to_numpy()
    is_first = _first_of_each(ordered("text"))
    content, is_train = ordered("content"), split == schema.SPLITS.index("train")
    leaked = is_first & ~is_train & np.isin(content, content[is_train])
    eligible = is_first & ~leaked
    limits = {"train": config.size, "validation": config.validation, "test": config.test}
    rows = Chosen(ordered("part"), ordered("row"), ordered("size"))
    chosen: dict[str, Chosen] = {}
    for code, name in enumerate(schema.SPLITS):
        places = np.flatnonzero(eligible & (split == code))
        if name == "train":
            _check_size(config, len(places))
        places = places[: limits[name]]
        if len(places):
            chosen[name] = rows.take(places)
    kept = sum(len(rows.row) for rows in chosen.values())
    dropped = {
        "beyond_size": int(eligible.sum()) - kept,
        "duplicate": int((~is_first).sum()),
        "leaked": int(leaked.sum()),
    }
    dropped = {reason: count for reason, count in dropped.items() if count}
    return chosen, Counts(index.num_rows, kept, dropped)


def _first_of_each(values: np.ndarray) -> np.ndarray:
    """Mark the first of each group of equal values: bool [rows]."""
    first = np.zeros(len(values), dtype=bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first


def _check_size(config: SubsetConfig, available: int) -> None:
    if available == 0:
        raise SubsetError(config.clean, "train rows", "none")
    if config.size is not None and config.size > available:
        hint = f"ask for at most --size {available}, or leave --size out for all"
        expected = f"{config.size:,} different train rows"
        raise SubsetError(config.clean, expected, f"{available:,}", hint)


def _write(
    rows: Mapping[str, tuple[int, Iterator[pa.Table]]], out: Path, digest: str
) -> tuple[tuple[Artefact, ...], dict[str, Any]]:
    """Write the dataset, the count and rows of its splits, beside its place and move it there."""
    work = out / _WORK
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    lengths: dict[str, int] = {"longest_title": 0, "longest_content": 0}
    for split, (_, tables) in rows.items():
        _write_stream(work / f"{split}.arrow", tables, lengths)
    _save(work, list(rows), digest)
    for name in sorted(os.listdir(work / "dataset")):
        target = out / name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(work / "dataset" / name, target)
    shutil.rmtree(work)
    counts = {split: count for split, (count, _) in rows.items()}
    return _artefacts(out, counts), {"rows": counts, **lengths}


def _read_chosen(clean: Folder, parts: Sequence[Artefact], rows: Chosen) -> Iterator[pa.Table]:
    """Read the chosen rows in order, a range at a time, touching only their row groups."""
    with console.Progress("write", len(rows.row), "rows") as progress:
        for start, stop in ranges(rows.size):
            chosen = rows.take(slice(start, stop))
            pieces, places = [], []
            for part in np.unique(chosen.part):
                place = np.flatnonzero(chosen.part == part)
                pieces.append(_read_rows(clean, parts[part], chosen.row[place]))
                places.append(place)
            order = np.argsort(np.concatenate(places), kind="stable")
            yield pa.concat_tables(pieces).take(order)
            progress.advance(stop - start)


def ranges(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cut rows of so many bytes into ranges [start, stop) that are small enough to be read."""
    ends = np.cumsum(sizes, dtype=np.int64)
    start = 0
    while start < len(sizes):
        limit = (ends[start - 1] if start else 0) + _BYTES_AT_ONCE
        stop = max(int(np.searchsorted(ends, limit, side="right")), start + 1)
        stop = min(stop, start + _ROWS_AT_ONCE)
        yield start, stop
        start = stop


def _read_rows(clean: Folder, part: Artefact, rows: np.ndarray) -> pa.Table:
    """Read single rows of one shard through the row groups that hold them."""
    with open_part(clean, part.path, part) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        ends = np.cumsum(sizes)
        groups = np.unique(np.searchsorted(ends, rows, side="right"))
        table = file.read_row_groups(groups.tolist(), columns=_STORED.names)
    numbers = np.concatenate(
        [np.arange(ends[group] - sizes[group], ends[group]) for group in groups]
    )
    picked: pa.Table = table.take(np.searchsorted(numbers, rows))
    return picked.select(_STORED.names).cast(_STORED)


def _write_stream(path: Path, tables: Iterator[pa.Table], lengths: dict[str, int]) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, _STORED) as writer:
        for table in tables:
            for name in ("title", "content"):
                longest = pc.max(pc.utf8_length(table.column(name))).as_py()
                lengths[f"longest_{name}"] = max(lengths[f"longest_{name}"], longest)
            writer.write_table(table.combine_chunks())


def _save(work: Path, splits: list[str], digest: str) -> None:
    import datasets
    from datasets.table import MemoryMappedTable

    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    loaded = {}
    for split in splits:
        table = MemoryMappedTable.from_file(str(work / f"{split}.arrow"))
        # A fingerprint by content, where the library's own holds the file's time.
        fingerprint = digest_all([digest, split])[:16]
        loaded[split] = datasets.Dataset(table, fingerprint=fingerprint)
    datasets.DatasetDict(loaded).save_to_disk(str(work / "dataset"))
    if bars:
        datasets.enable_progress_bars()


def _artefacts(out: Path, splits: Iterable[str]) -> tuple[Artefact, ...]:
    artefacts = []
    for split in splits:
        for file in sorted((out / split).glob("*.arrow")):
            with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
                count = sum(batch.num_rows for batch in reader)
            name = f"{split}/{file.name}"
            artefacts.append(Artefact(name, count, file.stat().st_size, digest_file(file)))
    return tuple(artefacts)
