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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import xxhash

from data import cli, manifest, schema, shards
from data.errors import ModelError, SourceError
from data.manifest import Counts, Manifest
from data.shards import Artefact, Folder
from inference import engine, titles
from inference.config import GenerateConfig
from inference.engine import Completion, Model, Request, Settings
from inference.titles import Titles

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger("catalogue")

STAGE = "generate"
_WARN_CUT = 0.01
# Some ten seconds of a GPU, some minutes of a CPU: what an interruption costs, and the fewer parts
# there are, the seldomer slots stand empty at the end of one.
_PART_ROWS = {"cuda": 8_192, "cpu": 2_048}


@dataclass(frozen=True)
class Block:
    """One unit of work."""

    index: int
    rows: pa.Table
    """Schema TITLES."""


@dataclass(frozen=True)
class Part:
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
    began = time.perf_counter()
    found = titles.find(config)
    model = engine.find_model(config.run)
    settings = _settings(config, model)
    folder = Folder(config.out)
    identity = manifest.identify(
        config,
        titles=found.digest,
        weights=model.digest,
        prompt=dataclasses.asdict(model.prompt),
        max_new_tokens=settings.max_new_tokens,
        precision="bf16" if settings.device == "cuda" else "float32",
    )
    done = manifest.begin(folder, STAGE, identity, config.overwrite)
    if done:
        cli.say(f"{config.out} is already finished for these titles, weights and settings")
        return done
    try:
        parts = _run_parts(config, model, settings, found)
    except (SourceError, ModelError):
        # Nothing to go on from: let the mended command start in a clean folder.
        if not shards.list_parts(folder):
            manifest.abandon(folder)
        raise
    result = _manifest(config, identity, model, found, parts, time.perf_counter() - began)
    result.write(folder)
    _summarise(config, result, settings)
    return result


def _settings(config: GenerateConfig, model: Model) -> Settings:
    device = engine.choose_device(config.device)
    # The longest description that was seen, with an eighth to spare; the end of sequence too.
    longest = model.longest + model.longest // 8 + 1
    return Settings(
        max_new_tokens=config.max_new_tokens or longest,
        temperature=config.temperature,
        top_p=config.top_p,
        seed=config.seed,
        batch_size=config.batch_size,
        engine=_choose_engine(config, model),
        device=device,
        memory_limit=config.memory_limit,
        threads=None if device == "cuda" else _threads(config),
    )


def _choose_engine(config: GenerateConfig, model: Model) -> Literal["fast", "reference"]:
    """Choose the fast engine where it supports the model."""
    if config.engine == "reference":
        return "reference"
    from inference import fast

    if fast.supports(model):
        return "fast"
    if config.engine == "fast":
        expected = "a Llama without sliding window"
        raise ModelError(model.base, expected, "another model", "use --engine reference")
    log.warning("engine: reference, as the fast one does not support this model")
    return "reference"


def _threads(config: GenerateConfig) -> int:
    from dask.system import CPU_COUNT

    return max(int(CPU_COUNT) // (config.workers or 1), 1)


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
    config: GenerateConfig, model: Model, settings: Settings, found: Titles
) -> list[Part]:
    from data.cluster import connect, results

    finished = set(shards.list_parts(Folder(config.out)))
    # The manifest of the run is the driver's business; workers need the weights only.
    bare = dataclasses.replace(model, made=None)
    total = None if found.rows is None else min(found.rows, config.limit or found.rows)
    env = None if config.scheduler else _environments(config, settings)
    parts: list[Part] = []
    with (
        # On a GPU a second thread tokenises and writes while the first decodes.
        connect(
            config.workers,
            config.scheduler,
            threads=2 if settings.device == "cuda" else 1,
            memory_limit=0,
            env=env,
            packages=("data", "inference"),
        ) as client,
        cli.Progress("generate", total, "rows") as progress,
    ):
        began, tokens = time.perf_counter(), 0

        def submit(block: Block, attempt: int) -> "Future":
            return _submit(client, block, finished, (config, bare, settings), attempt)

        blocks = _blocks(found, config.part_rows or _PART_ROWS[settings.device])
        for block, part in results(client, blocks, submit, ahead=1):
            parts.append(part)
            tokens += part.figures["new_tokens"] if part.is_new else 0
            rate = tokens / (time.perf_counter() - began)
            progress.advance(block.rows.num_rows, tokens_per_second=f"{rate:,.0f}")
    if not parts:
        raise SourceError(config.titles, "titles", "none")
    return sorted(parts, key=lambda part: part.index)


def _blocks(found: Titles, part_rows: int) -> Iterator[Block]:
    for index, rows in enumerate(titles.parts(found, part_rows)):
        yield Block(index, rows)


def _submit(
    client: "Client",
    block: Block,
    finished: set[str],
    work: tuple[GenerateConfig, Model, Settings],
    attempt: int,
) -> "Future":
    is_finished = shards.part_name(block.index) in finished
    task = verify_part if is_finished else write_part
    name = f"generate-{id(client):x}-{block.index:05d}-{attempt}"
    return client.submit(task, block, *work, key=name, pure=False)


_ENGINES: dict[tuple[str, Settings], engine.Engine] = {}
# A worker has several threads, but loads one model.
_ONE_AT_A_TIME = threading.Lock()


def _engine(model: Model, settings: Settings) -> engine.Engine:
    """Give this worker's engine, loaded once."""
    key = (model.digest, settings)
    with _ONE_AT_A_TIME:
        if key not in _ENGINES:
            _ENGINES.clear()
            _ENGINES[key] = _load(model, settings)
        return _ENGINES[key]


def _load(model: Model, settings: Settings) -> engine.Engine:
    if settings.engine == "reference":
        return engine.ReferenceEngine(model, settings)
    from inference import fast

    return fast.FastEngine(model, settings)


def write_part(block: Block, config: GenerateConfig, model: Model, settings: Settings) -> Part:
    """Write the descriptions of one block and commit its part; runs on a worker."""
    table, rejected = describe_titles(block.rows, _engine(model, settings), model, settings)
    quarantined = {
        item["values"]: item["counts"]
        for item in rejected.column("reason").value_counts().to_pylist()
    }
    counts = Counts(block.rows.num_rows, table.num_rows, {}, quarantined)
    counts.check(f"{config.titles} part {block.index}")
    figures = _figures(table)
    facts = {"counts": dataclasses.asdict(counts), "figures": figures}
    name = shards.part_name(block.index)
    outputs = shards.commit_with_quarantine(Folder(config.out), name, table, rejected, facts)
    return Part(block.index, counts, outputs, figures, _hashes(table))


def describe_titles(
    rows: pa.Table, writer: engine.Engine, model: Model, settings: Settings
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
    listed = rows.select(titles.TITLES.names).to_pylist()
    requests = [
        Request(row["uid"], model.prompt.render(row["title"], row["uid"])) for row in listed
    ]
    reasons = [
        _refusal(row["title"], room)
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
    for carried in rows.schema.names[len(titles.TITLES) :]:
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


def verify_part(block: Block, config: GenerateConfig, model: Model, settings: Settings) -> Part:
    """Describe a part that an earlier run committed; write it again where it does not hold."""
    earlier = shards.recall(Folder(config.out), shards.part_name(block.index))
    if earlier is None:
        return write_part(block, config, model, settings)
    facts, outputs = earlier
    counts = Counts(**facts["counts"])
    written = shards.read_part(Folder(config.out), shards.part_name(block.index), ["description"])
    figures, hashes = facts["figures"], _hashes(written)
    return Part(block.index, counts, outputs, figures, hashes, is_new=False)


def _manifest(
    config: GenerateConfig,
    identity: dict[str, Any],
    model: Model,
    found: Titles,
    parts: list[Part],
    seconds: float,
) -> Manifest:
    counts = sum((part.counts for part in parts), Counts())
    new_tokens = sum(part.figures["new_tokens"] for part in parts if part.is_new)
    sums = {name: sum(part.figures[name] for part in parts) for name in parts[0].figures}
    rows = max(counts.kept, 1)
    parents = [model.made.as_parent(manifest.absolute(config.run))] if model.made else []
    if found.parent:
        parents.append(found.parent)
    return Manifest(
        stage=STAGE,
        config=manifest.config_dict(config),
        identity=identity,
        inputs=(Artefact(manifest.absolute(config.titles), counts.read, 0, found.digest),),
        outputs=tuple(output for part in parts for output in part.outputs),
        counts=counts,
        made_from=tuple(parents),
        facts={
            "prompt": dataclasses.asdict(model.prompt),
            "max_new_tokens": identity["max_new_tokens"],
            "new_tokens": sums["new_tokens"],
            "cut_share": round(sums["cut"] / rows, 4),
            "empty": sums["empty"],
            "duplicates": _duplicates(parts),
            "mean_characters": round(sums["characters"] / rows, 1),
            "tokens_per_second": round(new_tokens / seconds, 1),
        },
        versions=manifest.versions(),
        seconds=round(seconds, 3),
    )


def _duplicates(parts: list[Part]) -> int:
    """Count the descriptions that another one before says word for word."""
    hashes = np.frombuffer(b"".join(part.hashes for part in parts), dtype=np.uint64)
    return len(hashes) - len(np.unique(hashes))


def _summarise(config: GenerateConfig, result: Manifest, settings: Settings) -> None:
    facts = result.facts
    cli.say(manifest.funnel(result))
    cli.say(
        f"{config.out} finished in {result.seconds:.1f} s, loading included: "
        f"{facts['new_tokens']:,} tokens, {facts['tokens_per_second']:,.0f} tokens/s, "
        f"{facts['mean_characters']:.0f} characters a description, {facts['cut_share']:.1%} cut at "
        f"the limit, {facts['empty']:,} empty, {facts['duplicates']:,} said before"
    )
    if facts["cut_share"] > _WARN_CUT:
        cli.say(
            f"warning: {facts['cut_share']:.1%} were cut at {settings.max_new_tokens} tokens; "
            "allow more with --max_new_tokens"
        )
