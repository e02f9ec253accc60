"""The driver of ``subset``: clean shards in, a memory-mapped DatasetDict out; and its loader.

A subset of n holds the n train rows that come first by (sample key, uid, byte offset), so
subsets are nested and the same whatever the shards. Memory: about 400 bytes a catalogue row for
the index, and one range of rows at a time for their text, of at most 2 GiB.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data import console
from data.artefacts import manifest, schema
from data.artefacts.dataset import Subset
from data.artefacts.folder import Artefact, Folder, digest_all, digest_file, local_path
from data.artefacts.manifest import Manifest
from data.artefacts.parts import open_part
from data.artefacts.stage import stage
from data.errors import SubsetError
from data.subset.config import SubsetConfig
from data.subset.rows import Chosen, choose_from

if TYPE_CHECKING:
    from datasets import DatasetDict

STAGE = "subset"
_WORK = ".tmp-data"
# What a smaller subset has from the larger one that it is cut from.
_KEPT = ("clean", "order", "validation", "test", "similarity", "near_duplicates")
# A range of rows: a column of Arrow's strings ends at 2 GiB.
_ROWS_AT_ONCE = 50_000
_BYTES_AT_ONCE = 2**31 - 1
_FAMILY = pa.field("family", pa.uint64())


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
    stored = _stored(schema.with_attributes(schema.SUBSET, parent.attributes))
    identity = manifest.identify(config, clean=parent.digest)
    # There may be fewer rows than asked for: raised before an earlier output is removed.
    earlier = choose_from(clean, config, parent) if config.overwrite else None
    with stage(STAGE, config, config.out, identity) as work:
        if work.finished:
            console.say(f"{config.out} is already finished for this catalogue and config")
            return work.finished
        choice = earlier or choose_from(clean, config, parent)
        rows = {
            split: (len(places.row), _read_chosen(clean, parent.parts, places, stored))
            for split, places in choice.rows.items()
        }
        outputs, facts = _write(rows, out, manifest.identity_digest(identity), stored)
        facts["families"] = choice.families
        if parent.attributes:
            facts["attributes"] = parent.attributes
        made_from = (parent.as_parent(manifest.absolute(config.clean)),)
        result = work.finish(outputs, choice.counts, parent.outputs, made_from, facts)
    console.say(manifest.funnel(result))
    listed = ", ".join(f"{facts['rows'][split]:,} {split}" for split in facts["rows"])
    sizes = choice.families
    console.say(
        f"families: {sizes['rows']:,} of the catalogue's rows are in {sizes['families']:,}, "
        f"at most {sizes['largest']:,} in one"
    )
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
    if "families" not in record.facts:
        hint = "make it again with --overwrite true"
        raise SubsetError(str(source.path), "a subset with families", "an earlier version's", hint)
    kept = {name: record.config[name] for name in _KEPT}
    config = SubsetConfig(**kept, size=size, out=out)
    identity = record.identity | {"size": size}
    with stage(STAGE, config, out, identity) as work:
        if not work.finished:
            rows["train"] = size
            first = {split: (count, _first(source, split, count)) for split, count in rows.items()}
            digest = manifest.identity_digest(identity)
            stored = _stored(source.schema)
            outputs, facts = _write(first, local_path(out, "--out"), digest, stored)
            kept_facts = ("families", "attributes")
            facts |= {name: record.facts[name] for name in kept_facts if name in record.facts}
            counts = record.counts
            dropped = dict(sorted((Counter(counts.dropped) + Counter(beyond_size=beyond)).items()))
            counts = replace(counts, kept=counts.kept - beyond, dropped=dropped)
            work.finish(outputs, counts, record.inputs, record.made_from, facts)
    return Subset.open(out)


def _stored(form: pa.Schema) -> pa.Schema:
    """Return the schema of a dataset's files: datasets knows no columns that refuse nulls."""
    return pa.schema([pa.field(field.name, field.type) for field in form])


def _first(source: Subset, split: str, count: int) -> Iterator[pa.Table]:
    """Read the first rows of a split, in the ranges that ``_read_chosen`` reads."""
    stored = _stored(source.schema)
    rows = source.rows(split, stored.names).slice(0, count)
    texts = ("title", "content", *source.attributes)
    lengths = (pc.binary_length(rows.column(name)).to_numpy() for name in texts)
    for start, stop in ranges(np.sum(list(lengths), axis=0)):
        # Taken, not sliced: a slice keeps the bytes of the rows around it.
        yield rows.cast(stored).take(np.arange(start, stop))


def load(path: str) -> "DatasetDict":
    """Load a finished subset, memory-mapped.

    Raises:
        ManifestError: the folder is no finished subset, or a file of it was changed.
    """
    from datasets import DatasetDict

    subset = Subset.open(path)
    splits = [split for split in schema.SPLITS if subset.count(split)]
    return DatasetDict({split: subset.dataset(split) for split in splits})


def _write(
    rows: Mapping[str, tuple[int, Iterator[pa.Table]]], out: Path, digest: str, stored: pa.Schema
) -> tuple[tuple[Artefact, ...], dict[str, Any]]:
    """Write the dataset, the count and rows of its splits, beside its place and move it there."""
    work = out / _WORK
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    lengths: dict[str, int] = {"longest_title": 0, "longest_content": 0}
    for split, (_, tables) in rows.items():
        _write_stream(work / f"{split}.arrow", tables, stored, lengths)
    _save(work, list(rows), digest)
    for name in sorted(os.listdir(work / "dataset")):
        target = out / name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(work / "dataset" / name, target)
    shutil.rmtree(work)
    counts = {split: count for split, (count, _) in rows.items()}
    return _artefacts(out, counts), {"rows": counts, **lengths}


def _read_chosen(
    clean: Folder, parts: Sequence[Artefact], rows: Chosen, stored: pa.Schema
) -> Iterator[pa.Table]:
    """Read the chosen rows in order, a range at a time, touching only their row groups."""
    place_of_family = stored.get_field_index("family")
    read = stored.remove(place_of_family)
    with console.Progress("write", len(rows.row), "rows") as progress:
        for start, stop in ranges(rows.size):
            chosen = rows.take(slice(start, stop))
            pieces, places = [], []
            for part in np.unique(chosen.part):
                place = np.flatnonzero(chosen.part == part)
                pieces.append(_read_rows(clean, parts[part], chosen.row[place], read))
                places.append(place)
            order = np.argsort(np.concatenate(places), kind="stable")
            table = pa.concat_tables(pieces).take(order)
            yield table.add_column(place_of_family, _FAMILY, pa.array(chosen.family))
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


def _read_rows(clean: Folder, part: Artefact, rows: np.ndarray, form: pa.Schema) -> pa.Table:
    """Read single rows of one shard through the row groups that hold them."""
    with open_part(clean, part.path, part) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        ends = np.cumsum(sizes)
        groups = np.unique(np.searchsorted(ends, rows, side="right"))
        table = file.read_row_groups(groups.tolist(), columns=form.names)
    numbers = np.concatenate(
        [np.arange(ends[group] - sizes[group], ends[group]) for group in groups]
    )
    picked: pa.Table = table.take(np.searchsorted(numbers, rows))
    return picked.select(form.names).cast(form)


def _write_stream(
    path: Path, tables: Iterator[pa.Table], stored: pa.Schema, lengths: dict[str, int]
) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, stored) as writer:
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
