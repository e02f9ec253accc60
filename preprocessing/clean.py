"""The Dask driver of ``clean``: raw lines in, Parquet shards, quarantine and manifest out.

It only splits the input, submits blocks, commits parts and writes the manifest; what happens
to a row is in ``parse``, ``text`` and ``rules``. A part is a pure function of its block and the
settings, so a retried or restarted task writes the same bytes again.
"""

import dataclasses
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from data import console, sampling
from data.artefacts import manifest, schema
from data.artefacts.folder import Artefact, Folder, digest_all
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.parts import commit_with_quarantine, list_parts, part_name, recall
from data.artefacts.stage import stage
from data.errors import OutputError, QuarantineError, SourceError
from preprocessing import advice, parse, rules, source
from preprocessing.config import CleanConfig
from preprocessing.source import Lines, SourceFile

if TYPE_CHECKING:
    from distributed import Client, Future

STAGE = "clean"
_SHOWN_LINES = 3
# Blocks handed out beyond the running ones: enough that no worker waits, few enough that a gzip
# stream's decompressed blocks stay in memory.
_AHEAD = 2
# How many good lines the unread rest may hold: bytes of the shortest record and its newline,
# and the most that deflate shrinks (https://zlib.net/zlib_tech.html).
_SHORTEST_RECORD = len(b'{"uid":"","title":"","content":""}\n')
_MOST_DEFLATED = 1_032


@dataclass(frozen=True)
class RawBlock:
    """One unit of work: a byte range of a plain file, or decompressed lines sent along."""

    index: int
    file: SourceFile
    start: int
    stop: int
    lines: Lines | None = None
    read: int = 0
    """Stored bytes of the file that are read once this block is: for the progress bar."""


@dataclass(frozen=True)
class CleanPart:
    """What became of one block."""

    index: int
    file: str
    size: int
    """Bytes of the block in the uncompressed stream."""
    digest: str
    """xxh3-128 of those bytes."""
    counts: Counts
    lengths: dict[str, list[int]]
    """Descriptions by length, in the bins of ``rules.LENGTH_EDGES``: those ``read``, as the file
    has them, and those ``kept``, repaired."""
    outputs: tuple[Artefact, ...]
    shown: tuple[str, ...] = ()
    """The first quarantined lines, for a person."""


def run(config: CleanConfig) -> Manifest:
    """Clean a source into a folder of shards.

    Returns:
        The manifest, written or found finished.

    Raises:
        SourceError: the input is missing, empty, truncated, or no row of it passes the rules.
        QuarantineError: too many lines are broken.
        OutputError: the folder holds another output.
    """
    files = source.find(config.source)
    identity = manifest.identify(config, inputs=[source.file_facts(file) for file in files])
    # No later run could go on from these: the input itself has to change, or the rules.
    spoiled_by = (SourceError, QuarantineError)
    with stage(STAGE, config, config.out, identity, spoiled_by=spoiled_by) as work:
        if work.finished:
            console.say(f"{config.out} is already finished for this input and config")
            return work.finished
        parts = _run_blocks(config, files)
        _check_outcome(config, files, parts)
        result = work.finish(
            outputs=tuple(output for part in parts for output in part.outputs),
            counts=sum((part.counts for part in parts), Counts()),
            inputs=_inputs(files, parts),
            facts={"parts": len(parts), "content_lengths": _lengths(parts)},
        )
    console.say(manifest.funnel(result))
    console.say(f"{config.out} finished in {result.seconds:.1f} s")
    return result


def _run_blocks(config: CleanConfig, files: list[SourceFile]) -> list[CleanPart]:
    """Run every block on the cluster; give the parts in order."""
    from data.cluster.client import connect, results

    finished = _finished_parts(Folder(config.out))
    stored = sum(file.size for file in files)
    unread = sum(file.size * (_MOST_DEFLATED if file.compressed else 1) for file in files)
    settings = dataclasses.replace(config, overwrite=False)
    parts: list[CleanPart] = []
    counts = Counts()
    with (
        connect(config.workers, config.scheduler, packages=("data", "preprocessing")) as client,
        console.Progress("clean", stored, "B") as progress,
    ):
        began = time.perf_counter()

        def submit(block: RawBlock, attempt: int) -> "Future":
            is_finished = part_name(block.index) in finished
            return _submit(client, block, settings, is_finished, attempt)

        for block, part in results(client, _blocks(config, files), submit, _AHEAD):
            parts.append(part)
            counts += part.counts
            unread -= part.size
            rate = counts.read / (time.perf_counter() - began)
            progress.advance(block.read, rows=f"{counts.read:,}", rows_per_s=f"{rate:,.0f}")
            if _is_too_broken(config, counts, unread):
                raise _too_broken(config, files, parts, counts)
    return sorted(parts, key=lambda part: part.index)


def _blocks(config: CleanConfig, files: list[SourceFile]) -> Iterator[RawBlock]:
    """Cut the files into blocks; the cut depends on their content alone."""
    index = 0
    for file in files:
        if not file.compressed:
            for start, stop in source.ranges(file.size, config.block_bytes):
                yield RawBlock(index, file, start, stop, read=stop - start)
                index += 1
            continue
        start = read = 0
        limits = config.block_bytes, config.max_line_bytes, config.max_gzip_ratio
        for lines, at in source.read_gzip(file, *limits):
            yield RawBlock(index, file, start, start + lines.size, lines, at - read)
            index, start, read = index + 1, start + lines.size, at


def _finished_parts(folder: Folder) -> set[str]:
    return set(list_parts(folder))


def _submit(
    client: "Client", block: RawBlock, config: CleanConfig, is_finished: bool, attempt: int
) -> "Future":
    lines: Any = block.lines
    if lines is not None:
        lines = client.scatter(lines, hash=False)
    bare = dataclasses.replace(block, lines=None)
    task = verify_part if is_finished else clean_part
    name = f"clean-{id(client):x}-{block.index:05d}-{attempt}"
    return client.submit(task, bare, lines, config, key=name, pure=False)


def clean_part(block: RawBlock, lines: Lines | None, config: CleanConfig) -> CleanPart:
    """Clean one block and commit its part; runs on a worker."""
    lines = lines or _read(block, config)
    parsed = parse.parse_lines(lines.data, lines.offset, block.file.name, config.max_line_bytes)
    kept, dropped = rules.clean_rows(parsed.rows, config.rules)
    if parsed.blank:
        dropped["blank_line"] = parsed.blank
    reasons = parsed.quarantine.column("reason").value_counts().to_pylist()
    quarantined = {item["values"]: item["counts"] for item in reasons}
    counts = Counts(parsed.lines, kept.num_rows, dropped, quarantined)
    counts.check(f"{block.file.name} bytes {block.start:,} to {block.stop:,}")
    shown = _shown(parsed.quarantine)
    lengths = {
        "read": rules.count_lengths(parsed.rows.column("content")).tolist(),
        "kept": rules.count_lengths(kept.column("content")).tolist(),
    }
    facts = {
        "counts": dataclasses.asdict(counts),
        "digest": lines.digest,
        "lengths": lengths,
        "shown": shown,
    }
    table = order_rows(add_sampling(kept, config))
    name = part_name(block.index)
    outputs = commit_with_quarantine(Folder(config.out), name, table, parsed.quarantine, facts)
    return _part(block, lines, facts, outputs)


def _part(
    block: RawBlock, lines: Lines, facts: dict[str, Any], outputs: tuple[Artefact, ...]
) -> CleanPart:
    counts, shown = Counts(**facts["counts"]), tuple(facts["shown"])
    return CleanPart(
        index=block.index,
        file=block.file.name,
        size=lines.size,
        digest=lines.digest,
        counts=counts,
        lengths=facts["lengths"],
        outputs=outputs,
        shown=shown,
    )


def _read(block: RawBlock, config: CleanConfig) -> Lines:
    with block.file.open() as file:
        return source.read_lines(file, block.start, block.stop, config.max_line_bytes)


def _shown(quarantine: pa.Table) -> list[str]:
    return [
        f"{row['source']} byte {row['byte_offset']:,} {row['reason']}: {row['line'][:80]!r}"
        for row in quarantine.slice(0, _SHOWN_LINES).to_pylist()
    ]


def add_sampling(table: pa.Table, config: CleanConfig) -> pa.Table:
    """Add ``split`` and ``sample_key`` to repaired rows: RAW in, CLEAN out."""
    keys = sampling.sample_keys(table.column("uid").to_pylist(), config.seed)
    assigned = sampling.splits(table.column("title").to_pylist(), config.seed, config.shares)
    columns = {name: table.column(name) for name in table.column_names}
    columns["sample_key"] = pa.array(keys, pa.uint64())
    columns["split"] = pa.array(assigned, pa.string())
    return pa.table([columns[name] for name in schema.CLEAN.names], schema=schema.CLEAN)


def order_rows(table: pa.Table) -> pa.Table:
    """Sort a part by sample key, then uid, then offset, so that reading a key range is cheap."""
    keys = [(name, "ascending") for name in ("sample_key", "uid", "byte_offset")]
    return table.sort_by(keys)


def verify_part(block: RawBlock, lines: Lines | None, config: CleanConfig) -> CleanPart:
    """Describe a part that an earlier run committed; clean it again where it does not hold.

    Raises:
        OutputError: the input is no longer what that run read.
    """
    earlier = recall(Folder(config.out), part_name(block.index))
    if earlier is None:
        return clean_part(block, lines, config)
    facts, outputs = earlier
    lines = lines or _read(block, config)
    if lines.digest != facts["digest"]:
        where, mend = f"{block.file.url} from byte {block.start:,}", "use --overwrite true"
        raise OutputError(where, "what the interrupted run read", "other bytes", mend)
    return _part(block, lines, facts, outputs)


def _is_too_broken(config: CleanConfig, counts: Counts, unread: int) -> bool:
    """Tell whether the broken lines are too many for the unread bytes to make up for."""
    broken = sum(counts.quarantined.values())
    return broken > config.max_quarantined_share * (counts.read + unread // _SHORTEST_RECORD)


def _too_broken(
    config: CleanConfig, files: list[SourceFile], parts: list[CleanPart], counts: Counts
) -> QuarantineError:
    found = f"{sum(counts.quarantined.values()):,} of {counts.read:,} lines read so far"
    expected = f"at most {config.max_quarantined_share:.2%} broken lines"
    mend = _mend_lines(files, parts)
    if not mend:
        in_order = sorted(parts, key=lambda part: part.index)
        lines = itertools.chain.from_iterable(part.shown for part in in_order)
        shown = "\n  ".join(itertools.islice(lines, _SHOWN_LINES))
        mend = f"accept more with --max_quarantined_share; the first of them:\n  {shown}"
    return QuarantineError(config.source, expected, found, mend)


def _mend_lines(files: list[SourceFile], parts: list[CleanPart]) -> str:
    """Tell what helps with the file that holds the most broken lines."""
    by_file: dict[str, Counts] = {}
    for part in parts:
        by_file[part.file] = by_file.get(part.file, Counts()) + part.counts
    broken = {name: sum(counts.quarantined.values()) for name, counts in by_file.items()}
    worst = max(files, key=lambda file: broken.get(file.name, 0))
    reasons = by_file[worst.name].quarantined
    return advice.mend_lines(worst, reasons) if reasons else ""


def _check_outcome(config: CleanConfig, files: list[SourceFile], parts: list[CleanPart]) -> None:
    counts = sum((part.counts for part in parts), Counts())
    if _is_too_broken(config, counts, 0):
        raise _too_broken(config, files, parts, counts)
    if counts.read == 0:
        raise SourceError(config.source, "JSON lines", "no line")
    if counts.kept == 0:
        fallen = counts.dropped | {
            f"quarantined as {why}": n for why, n in counts.quarantined.items()
        }
        most = max(fallen, key=lambda reason: fallen[reason])
        found = f"none of {counts.read:,}, most of them {most}"
        mend = "widen --rules.content_min and --rules.content_max"
        if most not in counts.dropped:
            mend = (
                _mend_lines(files, parts) or "python -m data synthesize shows what lines look like"
            )
        raise SourceError(config.source, "rows that pass the rules", found, mend)


def _inputs(files: list[SourceFile], parts: list[CleanPart]) -> tuple[Artefact, ...]:
    by_file: dict[str, list[CleanPart]] = {}
    for part in parts:
        by_file.setdefault(part.file, []).append(part)
    inputs = []
    for file in files:
        own = by_file.get(file.name, [])
        inputs.append(
            Artefact(
                manifest.absolute(file.url),
                sum(part.counts.read for part in own),
                sum(part.size for part in own),
                digest_all([part.digest for part in own]),
            )
        )
    return tuple(inputs)


def _lengths(parts: list[CleanPart]) -> dict[str, list[int]]:
    sums = {
        name: [sum(column) for column in zip(*(part.lengths[name] for part in parts), strict=True)]
        for name in ("read", "kept")
    }
    return {"edges": rules.LENGTH_EDGES, **sums}
