"""Which rows of the catalogue a subset takes: an index of every row, and the choice."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from data import console, sampling
from data.artefacts import schema
from data.artefacts.folder import Artefact, Folder
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.parts import read_part
from data.errors import ManifestError, SubsetError
from data.subset import families
from data.subset.config import SubsetConfig

_INDEXED = ["uid", "title", "content", "split", "sample_key", "source", "byte_offset"]
_BY_SAMPLE = ["sample_key", "uid", "byte_offset", "source"]
_BY_FILE = ["source", "byte_offset"]
_NOTHING = np.uint64(xxhash.xxh3_64_intdigest(b""))
# Families are counted by size: the name of a range, and where it begins.
_SIZES = [
    ("of_2", 2), ("of_3", 3), ("of_4_to_9", 4), ("of_10_to_99", 10), ("of_100_and_more", 100),
    ("", np.inf),
]  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """Which rows a subset takes of which split, in order."""

    part: np.ndarray
    """Position of the row's shard in the list of shards, [rows]."""
    row: np.ndarray
    """Position of the row in its shard, [rows]."""
    size: np.ndarray
    """Bytes of the row's title, content and attributes, [rows]."""
    family: np.ndarray
    """Hash of the first row of the row's family, [rows] uint64."""

    def take(self, places: np.ndarray | slice) -> "Chosen":
        """Return the rows at some places."""
        return Chosen(*(getattr(self, name)[places] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Choice:
    """The rows that a subset takes."""

    rows: dict[str, Chosen]
    """Of each split that has any."""
    counts: Counts
    """``duplicate``, ``leaked`` and ``near_leaked`` rows, which no subset takes, ``near_duplicate``
    ones where one a family is asked for, and ``beyond_size``: eligible, but not asked for."""
    families: dict[str, Any]
    """Of the different rows of the whole catalogue, from ``family_sizes``."""


def choose_from(clean: Folder, config: SubsetConfig, parent: Manifest) -> Choice:
    """Choose the rows of a clean catalogue, as ``choose``.

    Raises:
        ManifestError: a shard is missing or foreign.
        SubsetError: there are fewer eligible train rows than asked for.
    """
    index = build_index(clean, parent.parts, parent.attributes)
    if index.num_rows != parent.counts.kept:
        hint = "a shard is missing or foreign: make the folder again with --overwrite true"
        expected = f"{parent.counts.kept:,} rows"
        raise ManifestError(config.clean, expected, f"{index.num_rows:,}", hint)
    return choose(index, config)


def build_index(
    clean: Folder, parts: Sequence[Artefact], attributes: Sequence[str] = ()
) -> pa.Table:
    """Index every row of the catalogue by what decides whether it is taken.

    Args:
        clean: the shards.
        parts: of the shards.
        attributes: of the rows; they count for their size alone.

    Returns:
        [rows] ``sample_key``, ``uid``, ``source``, ``byte_offset``, ``split``, ``part``,
        ``row``, ``size`` of its texts in bytes, ``text``, ``content`` and ``name``: xxh3 64-bit
        hashes of (title, content), content and the normalised title, ``signature`` and ``bands``
        of the content, as ``families.sign``. Two texts among a million share a hash with a chance
        of 3 in 10^8.
    """
    tables = []
    with console.Progress("index", None, "rows") as progress:
        for place, part in enumerate(parts):
            table = read_part(clean, part.path, [*_INDEXED, *attributes], listed=part)
            form = schema.with_attributes(schema.CLEAN, attributes)
            schema.check(table, form, clean.path(part.path))
            tables.append(index_part(table, place))
            progress.advance(table.num_rows)
    return pa.concat_tables(tables)


def index_part(table: pa.Table, part: int) -> pa.Table:
    """Index the rows of one part, as ``build_index``."""
    titles, contents = table.column("title"), table.column("content")
    named, texts = titles.to_pylist(), contents.to_pylist()
    hashes = [xxhash.xxh3_64_intdigest(text.encode()) for text in texts]
    both = [
        xxhash.xxh3_64_intdigest(title.encode(), content)
        for title, content in zip(named, hashes, strict=True)
    ]
    names = [sampling.title_key(title) for title in named]
    # Rows that say nothing do not say the same.
    spoken = [content or title for title, content in zip(named, texts, strict=True)]
    signatures, keys = families.sign(spoken)
    further = (name for name in table.column_names if name not in _INDEXED)
    sizes = pc.add(pc.binary_length(titles), pc.binary_length(contents))
    for name in further:
        sizes = pc.add(sizes, pc.binary_length(table.column(name)))
    columns = {
        "part": pa.repeat(pa.scalar(part, pa.int32()), len(hashes)),
        "row": pa.array(range(len(hashes)), pa.int32()),
        "size": sizes,
        "text": pa.array(both, pa.uint64()),
        "content": pa.array(hashes, pa.uint64()),
        "name": pa.array(names, pa.uint64()),
        "signature": _fixed(signatures),
        "bands": _fixed(keys),
    }
    index = table.select(["sample_key", "uid", "source", "byte_offset", "split"])
    for name, column in columns.items():
        index = index.append_column(name, column)
    return index


def _fixed(values: np.ndarray) -> pa.Array:
    """Store a matrix as a column of its rows' bytes."""
    width = values.shape[1] * values.itemsize
    buffers = [None, pa.py_buffer(np.ascontiguousarray(values))]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(values), buffers)


def choose(index: pa.Table, config: SubsetConfig) -> Choice:
    """Choose the rows of each split from ``build_index``.

    Raises:
        SubsetError: there are fewer eligible train rows than asked for.
    """
    order = _sorted(index, _BY_SAMPLE if config.order == "sample" else _BY_FILE)
    with console.Waiting("grouping near duplicates"):
        family, is_head = (column[order] for column in find_families(index, config.similarity))
    # Never of a column of strings, which would be put together in one of 2 GiB at most.
    content, text, part, row, size = (
        index.column(name).take(order).to_numpy()
        for name in ("content", "text", "part", "row", "size")
    )
    split = pc.index_in(index.column("split"), pa.array(schema.SPLITS)).take(order).to_numpy()
    is_train = split == schema.SPLITS.index("train")
    rules = {
        "duplicate": ~_first_of_each(text),
        "leaked": ~is_train & np.isin(content, content[is_train]),
        "near_leaked": ~is_train & np.isin(family, family[is_train]),
        "near_duplicate": is_train & ~is_head & (config.near_duplicates == "once"),
    }
    eligible, dropped = np.ones(len(text), dtype=bool), {}
    for reason, falls in rules.items():
        dropped[reason] = int((eligible & falls).sum())
        eligible &= ~falls
    limits = {"train": config.size, "validation": config.validation, "test": config.test}
    rows, chosen = Chosen(part, row, size, family), {}
    for code, name in enumerate(schema.SPLITS):
        places = np.flatnonzero(eligible & (split == code))
        if name == "train":
            _check_size(config, len(places))
        places = places[: limits[name]]
        if len(places):
            chosen[name] = rows.take(places)
    kept = sum(len(rows.row) for rows in chosen.values())
    dropped["beyond_size"] = int(eligible.sum()) - kept
    dropped = {reason: count for reason, count in sorted(dropped.items()) if count}
    sizes = family_sizes(family[~rules["duplicate"]])
    return Choice(chosen, Counts(index.num_rows, kept, dropped), sizes)


def _sorted(index: pa.Table, keys: list[str]) -> np.ndarray:
    order: np.ndarray = pc.sort_indices(index, [(key, "ascending") for key in keys]).to_numpy()
    return order


def find_families(index: pa.Table, similarity: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the family of each row of an index.

    Returns:
        ``text`` of the family's first row in sample-key order, [rows] uint64, and whether the row
        has the text of the first train row of its family, [rows] bool.
    """
    order = _sorted(index, _BY_SAMPLE)

    def ordered(name: str) -> pa.ChunkedArray:
        return index.column(name).take(order)

    def matrix(name: str, kind: type) -> np.ndarray:
        column = ordered(name).combine_chunks()
        values: np.ndarray = np.frombuffer(column.buffers()[1], kind)
        return values.reshape(len(column), -1)

    text = ordered("text").to_numpy()
    name, content = (ordered(name).to_numpy() for name in ("name", "content"))
    alike = [name, np.where(content == _NOTHING, name, content)]
    heads = families.join(
        alike, matrix("signature", np.uint8), matrix("bands", np.uint32), similarity
    )
    family, is_head = np.empty_like(text), np.empty(len(text), dtype=bool)
    family[order] = text[heads]
    is_train = pc.equal(ordered("split"), "train").to_numpy()
    first = np.unique(heads[is_train], return_index=True)[1]
    is_head[order] = np.isin(text, text[is_train][first])
    return family, is_head


def family_sizes(family: np.ndarray) -> dict[str, Any]:
    """Count the families of two rows and more, in all and by size, and their rows."""
    sizes = np.unique(family, return_counts=True)[1]
    sizes = sizes[sizes > 1]
    facts = {"families": len(sizes), "rows": int(sizes.sum())}
    for (name, least), (_, above) in itertools.pairwise(_SIZES):
        if count := int(((sizes >= least) & (sizes < above)).sum()):
            facts[name] = count
    return facts | {"largest": int(sizes.max(initial=1))}


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
