"""The Dask driver of ``generate``: an adapter and titles in, descriptions as Parquet out.

It cuts the titles into parts by position, hands them to workers, commits parts and writes the
manifest. A part is a pure function of its titles, the weights and the settings, so a restart writes
only what is missing.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash

from data import console
from data.artefacts import manifest, schema
from data.artefacts.folder import Artefact, Folder
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.parts import commit_with_quarantine, list_parts, part_name, read_part, recall
from data.artefacts.run import Run
from data.artefacts.stage import Work, stage
from data.errors import ModelError, SourceError
from inference import engine
from inference.config import GenerateConfig
from inference.engine import Completion, Request, Settings
from inference.tables import text_files, titles
from inference.tables.titles import Titles

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger("catalogue")

STAGE = "generate"
_WARN_CUT = 0.01
# Some ten seconds of a GPU, some minutes of a CPU: what an interruption costs, and the fewer parts
# there are, the seldomer slots stand empty at the end of one.
_PART_ROWS = {"cuda": 8_192, "cpu": 2_048}
# Seconds between a worker's words on how far its part is.
_TELL_EVERY = 0.5


@dataclass(frozen=True)
class TitleBlock:
    """One unit of work."""

    index: int
    rows: pa.Table
    """Schema TITLES."""
    topic: str = ""
    """Of Dask's events, where the worker tells how far it is; none: it tells nothing."""


@dataclass(frozen=True)
class GeneratedPart:
    """What became of one block."""

    index: int
    counts: Counts
    outputs: tuple[Artefact, ...]
    figures: dict[str, int]
    """Sums over the rows: ``new_tokens``, ``characters``, ``cut`` and ``empty``."""
    hashes: bytes
    """xxh3-64 of each description, eight bytes a row: to count those that are there twice."""
    is_new: bool = True
    """Whether this run wrote it."""


def run(config: GenerateConfig) -> Manifest:
    """Write descriptions of all titles.

    Returns:
        The manifest, written or found finished.

    Raises:
        SourceError: the titles are missing, empty or without a column of titles.
        ModelError: the model or adapter is missing or does not fit its base.
        OutputError: the folder holds another output.
    """
    found = titles.find(config, for_prompts=True)
    model = Run.open(config.run)
    settings = _settings(config, model)
    identity = manifest.identify(
        config,
        titles=found.digest,
        weights=model.digest,
        prompt=dataclasses.asdict(model.prompt),
        max_new_tokens=settings.max_new_tokens,
        precision="bf16" if settings.device == "cuda" else "float32",
        settings=model.settings,
        # Outputs without it hold draws of an earlier noise.
        **({"noise": engine.NOISE} if settings.temperature else {}),
        **({"titles_repaired": True} if found.is_repaired else {}),
    )
    with stage(
        STAGE, config, config.out, identity,
        spoiled_by=(SourceError, ModelError), keeps=lambda: bool(list_parts(Folder(config.out))),
    ) as work:  # fmt: skip
        if work.finished:
            console.say(f"{config.out} is already finished for these titles, weights and settings")
            return work.finished
        parts = _run_parts(config, model, settings, found)
        result = _finish(work, model, found, parts)
    _summarise(config, result, settings)
    return result


def _settings(config: GenerateConfig, model: Run) -> Settings:
    from dask.system import CPU_COUNT

    threads = max(int(CPU_COUNT) // (config.workers or 1), 1)
    return Settings.of(config, model, engine.choose(config.engine, model), threads)


def _environments(config: GenerateConfig, settings: Settings) -> list[dict[str, str]]:
    """Give each worker its environment: a GPU of its own, or its share of the cores."""
    if settings.device == "cuda":
        gpus = engine.visible_gpus()
        workers = config.workers or len(gpus)
        return [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(workers)]
    # Threads that wait by spinning starve each other where the cores are busy: 33 s instead of
    # 1.9 s for 64 rows of the sample's model on two busy cores.
    env = {"OMP_NUM_THREADS": str(settings.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    return [env] * (config.workers or 1)


def _run_parts(
    config: GenerateConfig, model: Run, settings: Settings, found: Titles
) -> list[GeneratedPart]:
    from data.cluster.client import connect, results

    finished = set(list_parts(Folder(config.out)))
    # The manifest of the run is the driver's business; workers need the weights only.
    bare = dataclasses.replace(model, record=None)
    total = None if found.rows is None else min(found.rows, config.limit or found.rows)
    env = None if config.scheduler else _environments(config, settings)
    parts: list[GeneratedPart] = []
    with (
        console.Progress("generate", total, "rows") as bar,
        # On a GPU a second thread tokenises and writes while the first decodes.
        connect(
            config.workers,
            config.scheduler,
            threads=2 if settings.device == "cuda" else 1,
            memory_limit=0,
            env=env,
            packages=("data", "inference"),
        ) as client,
    ):
        follower = _Follower(bar)
        topic = f"generate-{id(client):x}-{time.time_ns():x}"
        client.subscribe_topic(topic, follower.hear)

        def submit(block: TitleBlock, attempt: int) -> "Future":
            return _submit(client, block, finished, (config, bare, settings), attempt)

        blocks = _blocks(found, config.part_rows or _PART_ROWS[settings.device], topic)
        for block, part in results(client, blocks, submit, ahead=1):
            parts.append(part)
            follower.finish(block, part)
        client.unsubscribe_topic(topic)
    if not parts:
        raise SourceError(config.titles, "titles", "none")
    return sorted(parts, key=lambda part: part.index)


class _Follower:
    """Moves the bar by what workers tell of parts in work, and sets it right by finished ones."""

    def __init__(self, bar: console.Progress) -> None:
        self._bar = bar
        self._began = time.perf_counter()
        self._told: dict[int, tuple[int, int]] = {}
        """By part in work: rows and tokens."""
        self._finished: set[int] = set()
        self._rows = self._tokens = self._shown = 0
        # Events come in a thread of Dask's.
        self._one_at_a_time = threading.Lock()

    def hear(self, event: tuple[float, tuple[int, int, int]]) -> None:
        """Hear how many rows and tokens of a part there are by now, since it was begun."""
        _, (index, rows, tokens) = event
        with self._one_at_a_time:
            if index not in self._finished:
                self._told[index] = (rows, tokens)
                self._show()

    def finish(self, block: TitleBlock, part: GeneratedPart) -> None:
        """Count a finished part."""
        with self._one_at_a_time:
            self._told.pop(part.index, None)
            self._finished.add(part.index)
            self._rows += block.rows.num_rows
            self._tokens += part.figures["new_tokens"] if part.is_new else 0
            self._show()

    def _show(self) -> None:
        rows = self._rows + sum(rows for rows, _ in self._told.values())
        tokens = self._tokens + sum(tokens for _, tokens in self._told.values())
        rate = tokens / (time.perf_counter() - self._began)
        self._bar.advance(rows - self._shown, tokens_per_second=f"{rate:,.0f}")
        self._shown = rows


class _Teller:
    """Tells the driver now and then how far a part is; sums, so that a lost event does no harm."""

    def __init__(self, block: TitleBlock) -> None:
        self._block = block
        self._rows = self._tokens = 0
        self._last = 0.0

    def __call__(self, rows: int, tokens: int) -> None:
        """Hear of more rows and tokens from the engine."""
        from distributed import get_worker

        self._rows, self._tokens = self._rows + rows, self._tokens + tokens
        now = time.monotonic()
        if self._block.topic and now - self._last >= _TELL_EVERY:
            self._last = now
            # Rows may be written again with fewer slots, where memory ran out.
            done = min(self._rows, self._block.rows.num_rows)
            get_worker().log_event(self._block.topic, (self._block.index, done, self._tokens))


def _blocks(found: Titles, part_rows: int, topic: str) -> Iterator[TitleBlock]:
    for index, rows in enumerate(titles.parts(found, part_rows)):
        yield TitleBlock(index, rows, topic)


def _submit(
    client: "Client",
    block: TitleBlock,
    finished: set[str],
    work: tuple[GenerateConfig, Run, Settings],
    attempt: int,
) -> "Future":
    is_finished = part_name(block.index) in finished
    task = verify_part if is_finished else write_part
    name = f"generate-{id(client):x}-{block.index:05d}-{attempt}"
    return client.submit(task, block, *work, key=name, pure=False)


_ENGINES: dict[tuple[str, str, Settings], engine.Engine] = {}
# A worker has several threads, but loads one model.
_ONE_AT_A_TIME = threading.Lock()


def _engine(model: Run, settings: Settings) -> engine.Engine:
    """Give this worker's engine, loaded once."""
    key = (model.digest, model.settings, settings)
    with _ONE_AT_A_TIME:
        if key not in _ENGINES:
            _ENGINES.clear()
            _ENGINES[key] = engine.load(model, settings)
        return _ENGINES[key]


def write_part(
    block: TitleBlock, config: GenerateConfig, model: Run, settings: Settings
) -> GeneratedPart:
    """Write the descriptions of one block and commit its part; runs on a worker."""
    writer = _engine(model, settings)
    with engine.heard_by(_Teller(block)):
        table, rejected = describe_titles(block.rows, writer, model, settings)
    quarantined = {
        item["values"]: item["counts"]
        for item in rejected.column("reason").value_counts().to_pylist()
    }
    counts = Counts(block.rows.num_rows, table.num_rows, {}, quarantined)
    counts.check(f"{config.titles} part {block.index}")
    figures = _figures(table)
    facts = {"counts": dataclasses.asdict(counts), "figures": figures}
    name = part_name(block.index)
    outputs = commit_with_quarantine(Folder(config.out), name, table, rejected, facts)
    return GeneratedPart(block.index, counts, outputs, figures, _hashes(table))


def describe_titles(
    rows: pa.Table, writer: engine.Engine, model: Run, settings: Settings
) -> tuple[pa.Table, pa.Table]:
    """Write a description for each title that can have one.

    Args:
        rows: N titles, schema TITLES and the columns to carry through.
        writer: the engine.
        model: for its prompt.
        settings: for the limit of tokens and the seed.

    Returns:
        Schema GENERATED with the columns carried through, and schema REJECTED; together N rows,
        each in the order of the input.
    """
    listed = rows.select(text_files.TITLES.names).to_pylist()
    requests = [
        Request(row["uid"], model.prompt.render(row["title"], row["uid"])) for row in listed
    ]
    reasons = [
        row["refused"] or _refusal(row["title"], room)
        for row, room in zip(listed, writer.room(requests), strict=True)
    ]
    wanted = [place for place, reason in enumerate(reasons) if reason is None]
    written = writer.generate([requests[place] for place in wanted])
    made = [
        _row(listed[place], text, settings) for place, text in zip(wanted, written, strict=True)
    ]
    refused = [
        row | {"reason": reason} for row, reason in zip(listed, reasons, strict=True) if reason
    ]
    table = pa.Table.from_pylist(made, schema=schema.GENERATED)
    for carried in rows.schema.names[len(text_files.TITLES) :]:
        column = rows.column(carried).take(pa.array(wanted, pa.int64()))
        table = table.append_column(rows.schema.field(carried), column)
    return table, pa.Table.from_pylist(refused, schema=titles.REJECTED)


def _refusal(title: str, room: int) -> str | None:
    """Tell why no description can be written; None where one can."""
    if not title.strip():
        return "empty_title"
    return "prompt_too_long" if room < 1 else None


def _row(title: dict[str, str], written: Completion, settings: Settings) -> dict[str, Any]:
    return {
        "uid": title["uid"],
        "title": title["title"],
        "description": written.text,
        "finish_reason": written.finish_reason,
        "prompt_tokens": written.prompt_tokens,
        "new_tokens": written.new_tokens,
        "seed": settings.seed,
    }


def _figures(table: pa.Table) -> dict[str, int]:
    descriptions = table.column("description").to_pylist()
    return {
        "new_tokens": sum(table.column("new_tokens").to_pylist()),
        "characters": sum(len(text) for text in descriptions),
        "cut": table.column("finish_reason").to_pylist().count("length"),
        "empty": sum(not text for text in descriptions),
    }


def _hashes(table: pa.Table) -> bytes:
    descriptions = table.column("description").to_pylist()
    return b"".join(xxhash.xxh3_64_digest(text.encode()) for text in descriptions)


def verify_part(
    block: TitleBlock, config: GenerateConfig, model: Run, settings: Settings
) -> GeneratedPart:
    """Describe a part that an earlier run committed; write it again where it does not hold."""
    earlier = recall(Folder(config.out), part_name(block.index))
    if earlier is None:
        return write_part(block, config, model, settings)
    facts, outputs = earlier
    counts = Counts(**facts["counts"])
    written = read_part(Folder(config.out), part_name(block.index), ["description"])
    figures, hashes = facts["figures"], _hashes(written)
    return GeneratedPart(block.index, counts, outputs, figures, hashes, is_new=False)


def _finish(work: Work, model: Run, found: Titles, parts: list[GeneratedPart]) -> Manifest:
    config: GenerateConfig = work.config
    counts = sum((part.counts for part in parts), Counts())
    new_tokens = sum(part.figures["new_tokens"] for part in parts if part.is_new)
    sums = {name: sum(part.figures[name] for part in parts) for name in parts[0].figures}
    rows = max(counts.kept, 1)
    parents = [model.record.as_parent(manifest.absolute(config.run))] if model.record else []
    if found.parent:
        parents.append(found.parent)
    return work.finish(
        inputs=(Artefact(manifest.absolute(config.titles), counts.read, 0, found.digest),),
        outputs=tuple(output for part in parts for output in part.outputs),
        counts=counts,
        made_from=tuple(parents),
        facts={
            "prompt": dataclasses.asdict(model.prompt),
            "max_new_tokens": work.identity["max_new_tokens"],
            "new_tokens": sums["new_tokens"],
            "cut_share": round(sums["cut"] / rows, 4),
            "empty": sums["empty"],
            "duplicates": _duplicates(parts),
            "mean_characters": round(sums["characters"] / rows, 1),
            "tokens_per_second": round(new_tokens / work.seconds, 1),
        },
    )


def _duplicates(parts: list[GeneratedPart]) -> int:
    """Count the descriptions that another one before says word for word."""
    hashes = np.frombuffer(b"".join(part.hashes for part in parts), dtype=np.uint64)
    return len(hashes) - len(np.unique(hashes))


def _summarise(config: GenerateConfig, result: Manifest, settings: Settings) -> None:
    facts = result.facts
    console.say(manifest.funnel(result))
    console.say(
        f"{config.out} finished in {result.seconds:.1f} s, loading included: "
        f"{facts['new_tokens']:,} tokens, {facts['tokens_per_second']:,.0f} tokens/s, "
        f"{facts['mean_characters']:.0f} characters a description, {facts['cut_share']:.1%} cut at "
        f"the limit, {facts['empty']:,} empty, {facts['duplicates']:,} said before"
    )
    if facts["cut_share"] > _WARN_CUT:
        console.say(
            f"warning: {facts['cut_share']:.1%} were cut at {settings.max_new_tokens} tokens; "
            "allow more with --max_new_tokens"
        )
