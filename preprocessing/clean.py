"""The Dask driver of ``clean``: raw lines in, Parquet shards, quarantine and manifest out.

It only splits the input, submits blocks, commits parts and writes the manifest; what happens
to a row is in ``parse``, ``text`` and ``rules``. A part is a pure function of its block and the
settings, so a retried or restarted task writes the same bytes again.
"""

import dataclasses
import json
import posixpath
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from data import console, sampling
from data.artefacts import manifest, schema
from data.artefacts.folder import Artefact, Folder, digest_all
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.parts import commit_with_quarantine, part_name, recall
from data.artefacts.stage import stage
from data.cluster.client import connect
from data.cluster.parts import run_parts
from data.errors import OutputError, QuarantineError, SourceError
from data.sources import streams
from preprocessing import hints, source
from preprocessing.config import LENGTH_EDGES, CleanConfig
from preprocessing.fields import Fields
from preprocessing.files import SourceFile, file_facts, modified
from preprocessing.source import Lines

if TYPE_CHECKING:  # what workers alone need is imported where they do: a driver starts sooner
    from preprocessing.parse import Records

STAGE = "clean"
_SHOWN_LINES = 3
# Blocks handed out beyond the running ones: enough that no worker waits, few enough that a gzip
# stream's decompressed blocks stay in memory.
_AHEAD = 2
# The most that deflate shrinks (https://zlib.net/zlib_tech.html).
_MOST_DEFLATED = 1_032


@dataclass(frozen=True)
class RawBlock:
    """One unit of work: a byte range of a plain file, or records sent along."""

    index: int
    file: SourceFile
    start: int
    stop: int
    lines: "Lines | Records | None" = None
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
    """Descriptions by length, in the bins of ``LENGTH_EDGES``: those ``read``, as the file
    has them, and those ``kept``, repaired."""
    outputs: tuple[Artefact, ...]
    first_broken: tuple[str, ...] = ()
    """The first quarantined lines, for a person."""
    hidden: int = 0
    """Records that quarantined lines hold beyond one each."""


@streams.in_one_pass()
def run(config: CleanConfig) -> Manifest:
    """Clean a source into a folder of shards.

    Returns:
        The manifest, written now or by an earlier run.

    Raises:
        SourceError: the input is missing, empty, truncated, or no row of it passes the rules.
        QuarantineError: too many lines are broken.
        OutputError: the folder holds another output.
    """
    files = hints.find(config)
    identity = manifest.identify(config, inputs=[file_facts(file) for file in files])
    # No later run could go on from these: the input itself has to change, or the rules.
    spoiled_by = (SourceError, QuarantineError)
    with stage(STAGE, config, config.out, identity, spoiled_by=spoiled_by) as work:
        if work.finished:
            _check_unedited(config, files, work.finished)
            console.say(f"{config.out} is already finished for this input and config")
            return work.finished
        hints.say_columns(config)
        hints.say_forms(files)
        parts = _run_blocks(config, files)
        _check_outcome(config, files, parts)
        result = work.finish(
            outputs=tuple(output for part in parts for output in part.outputs),
            counts=sum((part.counts for part in parts), Counts()),
            inputs=_inputs(files, parts),
            facts={"parts": len(parts), "content_lengths": _lengths(parts)},
        )
    hints.say_hidden(files, ((part.file, part.hidden) for part in parts))
    console.say(manifest.funnel(result))
    console.say(f"{config.out} finished in {result.seconds:.1f} s")
    return result


def _check_unedited(config: CleanConfig, files: list[SourceFile], finished: Manifest) -> None:
    """Read those files anew that were written since, as sizes and samples miss small edits.

    Raises:
        OutputError: one holds other bytes than the finished output was made of.
    """
    began = modified(posixpath.join(config.out, manifest.NAME)) - finished.seconds
    for file, earlier in zip(files, finished.inputs, strict=True):
        if modified(file.url) > began:
            blocks = _blocks(config, [file])
            digests = [(block.lines or _read(block, config)).digest for block in blocks]
            if digest_all(digests) != earlier.digest:
                hint = "use --overwrite true"
                raise OutputError(file.url, "what the output was made of", "other bytes", hint)


def _run_blocks(config: CleanConfig, files: list[SourceFile]) -> list[CleanPart]:
    """Run every block on the cluster; return the parts in order."""
    stored = sum(file.size for file in files)
    unread = sum(file.size * (1 if file.is_exact else _MOST_DEFLATED) for file in files)
    shortest = min(shortest_record(config, file) for file in files)
    settings = dataclasses.replace(config, overwrite=False)
    parts: list[CleanPart] = []
    counts = Counts()
    with (
        connect(config.workers, config.scheduler, packages=("data", "preprocessing")) as client,
        console.Progress("clean", stored, "B") as progress,
    ):
        began = time.perf_counter()

        def arguments(block: RawBlock) -> tuple[RawBlock, Any, CleanConfig]:
            lines = block.lines and client.scatter(block.lines, hash=False)
            return dataclasses.replace(block, lines=None), lines, settings

        tasks, blocks = (clean_part, verify_part), _blocks(config, files)
        made = run_parts(
            client, Folder(config.out), blocks, tasks, arguments, _AHEAD, _count(config, files)
        )
        for block, part in made:
            parts.append(part)
            counts += part.counts
            unread -= part.size
            rate = counts.read / (time.perf_counter() - began)
            progress.advance(block.read, rows=f"{counts.read:,}", rows_per_s=f"{rate:,.0f}")
            if is_too_broken(config, counts, unread // shortest):
                raise _too_broken(config, files, parts, counts)
    return sorted(parts, key=lambda part: part.index)


def _count(config: CleanConfig, files: list[SourceFile]) -> int:
    """Count the blocks where all are byte ranges; 0 where data is sent along with some."""
    if Fields.of(config).uid is None or not all(file.is_ranged for file in files):
        return 0
    return sum(len(source.ranges(file.size, config.block_bytes)) for file in files)


def _blocks(config: CleanConfig, files: list[SourceFile]) -> Iterator[RawBlock]:
    """Cut the files into blocks; the cut depends on their content alone."""
    index = 0
    fields = Fields.of(config)
    limits = config.block_bytes, config.max_line_bytes
    for file in files:
        if file.is_ranged and fields.uid is not None:
            for start, stop in source.ranges(file.size, config.block_bytes):
                yield RawBlock(index, file, start, stop, read=stop - start)
                index += 1
            continue
        start = read = 0
        blocks: Iterator[tuple[Lines | Records, int]]
        if file.is_lines and fields.uid is not None:
            blocks = source.read_packed(file, *limits)
        else:
            from preprocessing import forms

            blocks = forms.records(file, fields, *limits)
        for lines, at in blocks:
            yield RawBlock(index, file, start, start + lines.size, lines, at - read)
            index, start, read = index + 1, start + lines.size, at


def clean_part(block: RawBlock, lines: "Lines | Records | None", config: CleanConfig) -> CleanPart:
    """Clean one block and commit its part; runs on a worker."""
    from preprocessing import forms, rules

    lines = lines or _read(block, config)
    records = _split(lines) if isinstance(lines, Lines) else lines
    parsed = forms.parse(records, block.file, Fields.of(config), config.max_line_bytes)
    lengths = rules.code_points(parsed.rows.column("content"))
    kept, dropped = rules.clean_rows(parsed.rows, config.rules, lengths)
    kept = _repair_attributes(kept, config.attributes)
    if parsed.blank:
        dropped["blank_line"] = parsed.blank
    where = f"{block.file.name} bytes {block.start:,} to {block.stop:,}"
    unit = "row" if block.file.form in ("parquet", "arrow") else "byte"
    counts = Counts.tally(where, parsed.lines, kept.num_rows, dropped, parsed.quarantine)
    facts = {
        "counts": dataclasses.asdict(counts),
        "digest": lines.digest,
        "lengths": {
            "read": rules.count_lengths(lengths).tolist(),
            "kept": rules.count_lengths(rules.code_points(kept.column("content"))).tolist(),
        },
        "hidden": sum(
            forms.hidden(row["line"], row["reason"]) for row in parsed.quarantine.to_pylist()
        ),
        "shown": [
            f"{row['source']} {unit} {row['byte_offset']:,} {row['reason']}: {row['line'][:80]!r}"
            for row in parsed.quarantine.slice(0, _SHOWN_LINES).to_pylist()
        ],
    }
    table = order_rows(add_sampling(kept, config))
    name = part_name(block.index)
    outputs = commit_with_quarantine(Folder(config.out), name, table, parsed.quarantine, facts)
    return _part(block, lines, facts, outputs)


def _split(lines: Lines) -> "Records":
    from preprocessing.parse import Records, line_bounds

    starts, stops = line_bounds(lines.data)
    return Records(lines.data, starts, stops, starts + lines.offset, lines.size, lines.digest)


def verify_part(block: RawBlock, lines: "Lines | Records | None", config: CleanConfig) -> CleanPart:
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
        where, hint = f"{block.file.url} from byte {block.start:,}", "use --overwrite true"
        raise OutputError(where, "what the interrupted run read", "other bytes", hint)
    return _part(block, lines, facts, outputs)


def _part(
    block: RawBlock, lines: "Lines | Records", facts: dict[str, Any], outputs: tuple[Artefact, ...]
) -> CleanPart:
    return CleanPart(
        index=block.index,
        file=block.file.name,
        size=lines.size,
        digest=lines.digest,
        counts=Counts(**facts["counts"]),
        lengths=facts["lengths"],
        outputs=outputs,
        first_broken=tuple(facts["shown"]),
        hidden=facts.get("hidden", 0),
    )


def _read(block: RawBlock, config: CleanConfig) -> Lines:
    with block.file.open() as file:
        return source.read_lines(file, block.start, block.stop, config.max_line_bytes)


def _repair_attributes(table: pa.Table, names: list[str]) -> pa.Table:
    from data import text

    for name in names:
        place = table.schema.get_field_index(name)
        repaired = text.repair_column(table.column(name).combine_chunks())
        table = table.set_column(place, table.schema.field(name), repaired)
    return table


def add_sampling(table: pa.Table, config: CleanConfig) -> pa.Table:
    """Add ``split`` and ``sample_key`` to repaired rows: RAW in, CLEAN out."""
    keys = sampling.sample_keys(table.column("uid").to_pylist(), config.seed)
    assigned = sampling.splits(table.column("title").to_pylist(), config.seed, config.shares)
    columns = {name: table.column(name) for name in table.column_names}
    columns["sample_key"] = pa.array(keys, pa.uint64())
    columns["split"] = pa.array(assigned, pa.string())
    full = schema.with_attributes(schema.CLEAN, config.attributes)
    return pa.table([columns[name] for name in full.names], schema=full)


def order_rows(table: pa.Table) -> pa.Table:
    """Sort a part by sample key, then uid, then offset, so that reading a key range is cheap."""
    keys = [(name, "ascending") for name in ("sample_key", "uid", "byte_offset")]
    return table.sort_by(keys)


def is_too_broken(config: CleanConfig, counts: Counts, unread: int) -> bool:
    """Whether the broken lines are too many for the unread ones, at most, to make up for."""
    broken = sum(counts.quarantined.values())
    return broken > config.max_quarantined_share * (counts.read + unread)


def shortest_record(config: CleanConfig, file: SourceFile) -> int:
    """Return the bytes that a record of a file has at least."""
    if file.form == "table":
        return len(file.columns)  # separators and the newline
    fields = Fields.of(config)
    record: dict[str, Any] = dict.fromkeys(fields.required, "")
    if fields.uid is not None and not fields.is_strict:
        record[fields.uid] = 0
    # A character is a byte or more, in any encoding.
    return len(json.dumps(record, ensure_ascii=False, separators=(",", ":")))


def _too_broken(
    config: CleanConfig, files: list[SourceFile], parts: list[CleanPart], counts: Counts
) -> QuarantineError:
    broken = f"{sum(counts.quarantined.values()):,} of {counts.read:,} lines read so far"
    expected = f"at most {config.max_quarantined_share:.2%} broken lines"
    hint = _hint(config, files, parts)
    if not hint:
        in_order = sorted(parts, key=lambda part: part.index)
        lines = [line for part in in_order for line in part.first_broken][:_SHOWN_LINES]
        first = "\n  ".join(lines)
        hint = f"accept more with --max_quarantined_share; the first of them:\n  {first}"
    return QuarantineError(config.source, expected, broken, hint)


def _hint(config: CleanConfig, files: list[SourceFile], parts: list[CleanPart]) -> str:
    """Describe what helps with the file that holds the most broken lines."""
    worst: tuple[SourceFile, dict[str, int]] = (files[0], {})
    for file in files:
        broken = sum((part.counts for part in parts if part.file == file.name), Counts())
        if sum(broken.quarantined.values()) > sum(worst[1].values()):
            worst = file, broken.quarantined
    return hints.hint(config, *worst) if worst[1] else ""


def _check_outcome(config: CleanConfig, files: list[SourceFile], parts: list[CleanPart]) -> None:
    counts = sum((part.counts for part in parts), Counts())
    if is_too_broken(config, counts, 0):
        raise _too_broken(config, files, parts, counts)
    if counts.read == 0:
        raise SourceError(config.source, "records", "none", "fetch it again")
    if counts.kept == 0:
        fallen = counts.dropped | {
            f"quarantined as {why}": n for why, n in counts.quarantined.items()
        }
        most = max(fallen, key=lambda reason: fallen[reason])
        hint = "widen --rules.content_min and --rules.content_max"
        if most == "blank_line":
            hint = "fetch it again"
        elif most not in counts.dropped:
            hint = (
                _hint(config, files, parts)
                or "python -m data synthesize shows what lines look like"
            )
        fate = f"none of {counts.read:,}, most of them {most}"
        raise SourceError(config.source, "rows that pass the rules", fate, hint)


def _inputs(files: list[SourceFile], parts: list[CleanPart]) -> tuple[Artefact, ...]:
    by_file: dict[str, list[CleanPart]] = {file.name: [] for file in files}
    for part in parts:
        by_file[part.file].append(part)
    return tuple(
        Artefact(
            manifest.absolute(file.where),
            sum(part.counts.read for part in by_file[file.name]),
            sum(part.size for part in by_file[file.name]),
            digest_all([part.digest for part in by_file[file.name]]),
        )
        for file in files
    )


def _lengths(parts: list[CleanPart]) -> dict[str, list[int]]:
    sums = {
        name: [sum(column) for column in zip(*(part.lengths[name] for part in parts), strict=True)]
        for name in ("read", "kept")
    }
    return {"edges": LENGTH_EDGES, **sums}
