"""The Dask driver of ``generate``: an adapter and titles in, descriptions as Parquet out.

It cuts the titles into parts by position, hands them to workers, commits parts and writes the
manifest. A part is a pure function of its titles, the weights and the settings, so a restart writes
only what is missing.
"""

import dataclasses
import itertools
import threading
import time
from dataclasses import dataclass
from typing import Any

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
from data.cluster.client import connect, cores
from data.cluster.parts import run_parts
from data.errors import ModelError, SourceError
from inference import engine, selection
from inference.config import GenerateConfig
from inference.engine import Completion, Request, Settings
from inference.generate.checks import add_checks
from inference.generate.progress import PartReporter, PartsProgress
from inference.tables import text_files, titles
from inference.tables.text_files import ATTRIBUTE
from inference.tables.titles import Titles

STAGE = "generate"
_WARN_CUT = 0.01
# Some ten seconds of a GPU, some minutes of a CPU: what an interruption costs, and the fewer parts
# there are, the seldomer slots stand empty at the end of one.
_PART_ROWS = {"cuda": 8_192, "cpu": 2_048}


@dataclass(frozen=True)
class TitleBlock:
    """One unit of work."""

    index: int
    rows: pa.Table
    """Schema TITLES."""
    topic: str
    """Of the cluster's events, where the worker reports how far it is."""


@dataclass(frozen=True)
class GeneratedPart:
    """What became of one block."""

    index: int
    counts: Counts
    outputs: tuple[Artefact, ...]
    figures: dict[str, int]
    """Sums over the rows: ``characters``, ``cut``, ``loops`` and ``empty``; ``new_tokens`` of all
    texts, kept or not."""
    hashes: bytes
    """xxh3-64 of each description, eight bytes a row: to count those that are there twice."""
    is_new: bool = True
    """Whether this run wrote it."""


def run(config: GenerateConfig) -> Manifest:
    """Write descriptions of all titles.

    Returns:
        The manifest, written now or by an earlier run.

    Raises:
        SourceError: the titles are missing, empty or without a column of titles.
        ModelError: the model or adapter is missing or does not fit its base.
        OutputError: the folder holds another output.
    """
    model = Run.open(config.run)
    source = titles.find(config, for_prompts=True, attributes=model.prompt.attributes)
    threads = max(cores() // (config.workers or 1), 1)
    settings = Settings.of(config, model, engine.choose(config.engine, model), threads)
    identity = manifest.identify(
        config,
        titles=source.digest,
        weights=model.digest,
        prompt=model.prompt.recorded,
        max_new_tokens=settings.max_new_tokens,
        end_after=settings.end_after,
        best_of=config.texts_per_title,
        usual_tokens=model.mean_completion_tokens,
        precision="bf16" if settings.device == "cuda" else "float32",
        settings=model.settings,
        # Outputs without it hold draws of an earlier noise.
        **({"noise": engine.NOISE} if settings.temperature else {}),
        **({"titles_repaired": True} if source.is_repaired else {}),
        **({"checks": True} if config.checks else {}),
    )
    with stage(
        STAGE, config, config.out, identity,
        spoiled_by=(SourceError, ModelError), keeps=lambda: bool(list_parts(Folder(config.out))),
    ) as work:  # fmt: skip
        if work.finished:
            console.say(f"{config.out} is already finished for these titles, weights and settings")
            return work.finished
        parts = _run_blocks(config, model, settings, source)
        result = _finish(work, model, source, parts)
    _summarise(config, result, settings)
    return result


def worker_environments(config: GenerateConfig, settings: Settings) -> list[dict[str, str]]:
    """Return the environment of each worker: a GPU of its own, or its share of the cores."""
    if settings.device == "cuda":
        gpus = engine.visible_gpus()
        workers = config.workers or len(gpus)
        kept = engine.caches()
        return [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} | kept for i in range(workers)]
    # Threads that wait by spinning starve each other where the cores are busy: 33 s instead of
    # 1.9 s for 64 rows of the sample's model on two busy cores.
    env = {"OMP_NUM_THREADS": str(settings.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    return [env] * (config.workers or 1)


def _run_blocks(
    config: GenerateConfig, model: Run, settings: Settings, source: Titles
) -> list[GeneratedPart]:
    """Run every block on the cluster; return the parts in order."""
    # The manifest of the run is the driver's business; workers need the weights only.
    total = None if source.rows is None else min(source.rows, config.limit or source.rows)
    environments = None if config.scheduler else worker_environments(config, settings)
    if total and environments:
        texts = total * config.texts_per_title // len(environments)
        settings = dataclasses.replace(settings, texts=texts)
    work = (config, dataclasses.replace(model, record=None), settings)
    parts: list[GeneratedPart] = []
    tables = titles.parts(source, config.part_rows or _PART_ROWS[settings.device])
    first = list(itertools.islice(tables, 1))  # read while what workers are forked from imports
    with (
        console.Progress("generate", total, "rows") as bar,
        # On a GPU a second thread tokenises and writes while the first decodes.
        connect(
            config.workers,
            config.scheduler,
            threads=2 if settings.device == "cuda" else 1,
            memory_limit=0,
            env=environments,
            packages=("data", "inference"),
        ) as client,
    ):
        bar.advance(0, now="loading the model")
        progress = PartsProgress(bar)
        topic = f"generate-{id(client):x}-{time.time_ns():x}"
        client.subscribe_topic(topic, progress.hear)
        rest = enumerate(itertools.chain(first, tables))
        blocks = (TitleBlock(index, rows, topic) for index, rows in rest)
        for block, part in run_parts(
            client,
            Folder(config.out),
            blocks,
            (write_part, verify_part),
            lambda each: (each, *work),
        ):
            parts.append(part)
            new_tokens = part.figures["new_tokens"] if part.is_new else 0
            progress.finish(part.index, block.rows.num_rows, new_tokens)
        client.unsubscribe_topic(topic)
    if not parts:
        raise SourceError(config.titles, "titles", "none")
    return sorted(parts, key=lambda part: part.index)


_ENGINES: dict[tuple[str, str, Settings], engine.Engine] = {}
# A worker has several threads, but loads one model.
_LOADING = threading.Lock()


def _engine(model: Run, settings: Settings) -> engine.Engine:
    """Return this worker's engine, loaded once."""
    key = (model.digest, model.settings, settings)
    with _LOADING:
        if key not in _ENGINES:
            _ENGINES.clear()
            _ENGINES[key] = engine.load(model, settings)
        return _ENGINES[key]


def write_part(
    block: TitleBlock, config: GenerateConfig, model: Run, settings: Settings
) -> GeneratedPart:
    """Write the descriptions of one block and commit its part; runs on a worker."""
    writer = _engine(model, settings)
    reporter = PartReporter(block.topic, block.index, block.rows.num_rows, config.texts_per_title)
    with engine.heard_by(reporter):
        table, rejected, new_tokens = describe_titles(block.rows, writer, model, config)
    where = f"{config.titles} part {block.index}"
    counts = Counts.tally(where, block.rows.num_rows, table.num_rows, {}, rejected)
    figures = _figures(table) | {"new_tokens": new_tokens}
    facts = {"counts": dataclasses.asdict(counts), "figures": figures}
    name = part_name(block.index)
    outputs = commit_with_quarantine(Folder(config.out), name, table, rejected, facts)
    return GeneratedPart(block.index, counts, outputs, figures, _hashes(table))


def describe_titles(
    rows: pa.Table, writer: engine.Engine, model: Run, config: GenerateConfig
) -> tuple[pa.Table, pa.Table, int]:
    """Write a description for each title that can have one.

    Args:
        rows: N titles, schema TITLES, the columns to carry through and those of attributes.
        writer: the engine.
        model: for its prompts.
        config: how many texts are written and kept.

    Returns:
        Schema GENERATED with the columns carried through, and schema REJECTED; together N rows,
        each in the order of the input. And how many tokens were written.
    """
    listed = rows.select(text_files.TITLES.names).to_pylist()
    own = {name: rows.column(ATTRIBUTE + name).to_pylist() for name in model.prompt.attributes}
    about = model.prompt.about_rows(own, rows.num_rows)
    requests = [
        Request(row["uid"], model.render(row["title"], row["uid"], lines), about=lines)
        for row, lines in zip(listed, about, strict=True)
    ]
    reasons = [
        row["refused"]
        or ("empty_title" if not row["title"].strip() else None)
        or ("prompt_too_long" if room < 1 else None)
        for row, room in zip(listed, writer.room(requests), strict=True)
    ]
    places = [place for place, reason in enumerate(reasons) if reason is None]
    chosen = [listed[place] for place in places]
    titles_of = [row["title"] for row in chosen]
    ranked = selection.write(
        writer,
        [requests[place] for place in places],
        titles_of,
        config.texts_per_title,
        model.mean_completion_tokens,
    )
    described = [
        _row(row, texts[0][1], config.seed) for row, texts in zip(chosen, ranked, strict=True)
    ]
    refused = [
        row | {"reason": reason} for row, reason in zip(listed, reasons, strict=True) if reason
    ]
    table = pa.Table.from_pylist(described, schema=schema.GENERATED)
    of_attributes = len(rows.schema) - len(own)
    for carried in rows.schema.names[len(text_files.TITLES) : of_attributes]:
        column = rows.column(carried).take(pa.array(places, pa.int64()))
        table = table.append_column(rows.schema.field(carried), column)
    if config.keep_all:
        table = table.append_column(schema.CANDIDATES, _candidates(ranked))
    if config.checks:
        table = add_checks(table, config.keep_columns, [about[place] for place in places])
    new_tokens = sum(text.new_tokens for texts in ranked for _, text in texts)
    return table, pa.Table.from_pylist(refused, schema=titles.REJECTED), new_tokens


def _candidates(ranked: list[list[tuple[float, Completion]]]) -> pa.Array:
    """Build the column of all texts, the best first."""
    rows = [
        [
            {"description": text.text, "finish_reason": text.finish_reason,
             "new_tokens": text.new_tokens, "score": score}
            for score, text in texts
        ]
        for texts in ranked
    ]  # fmt: skip
    return pa.array(rows, schema.CANDIDATES.type)


def _row(title: dict[str, str], written: Completion, seed: int) -> dict[str, Any]:
    return {
        "uid": title["uid"],
        "title": title["title"],
        "description": written.text,
        "finish_reason": written.finish_reason,
        "prompt_tokens": written.prompt_tokens,
        "new_tokens": written.new_tokens,
        "seed": seed,
    }


def _figures(table: pa.Table) -> dict[str, int]:
    descriptions = table.column("description").to_pylist()
    return {
        "characters": sum(len(text) for text in descriptions),
        "cut": table.column("finish_reason").to_pylist().count("length"),
        "loops": table.column("finish_reason").to_pylist().count("loop"),
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


def _finish(work: Work, model: Run, source: Titles, parts: list[GeneratedPart]) -> Manifest:
    config: GenerateConfig = work.config
    counts = sum((part.counts for part in parts), Counts())
    new_tokens = sum(part.figures["new_tokens"] for part in parts if part.is_new)
    sums = {name: sum(part.figures[name] for part in parts) for name in parts[0].figures}
    rows = max(counts.kept, 1)
    parents = [model.record.as_parent(manifest.absolute(config.run))] if model.record else []
    if source.parent:
        parents.append(source.parent)
    return work.finish(
        inputs=(Artefact(manifest.absolute(config.titles), counts.read, 0, source.digest),),
        outputs=tuple(output for part in parts for output in part.outputs),
        counts=counts,
        made_from=tuple(parents),
        facts={
            "prompt": model.prompt.recorded,
            "max_new_tokens": work.identity["max_new_tokens"],
            "new_tokens": sums["new_tokens"],
            "cut_share": round(sums["cut"] / rows, 4),
            "loops": sums["loops"],
            "empty": sums["empty"],
            "duplicates": _duplicates(parts),
            "mean_characters": round(sums["characters"] / rows, 1),
            "tokens_per_second": round(new_tokens / work.seconds, 1),
        },
    )


def _duplicates(parts: list[GeneratedPart]) -> int:
    """Count the descriptions that repeat an earlier one word for word."""
    hashes = np.frombuffer(b"".join(part.hashes for part in parts), dtype=np.uint64)
    return len(hashes) - len(np.unique(hashes))


def _summarise(config: GenerateConfig, result: Manifest, settings: Settings) -> None:
    facts = result.facts
    console.say(manifest.funnel(result))
    console.say(
        f"{config.out} finished in {result.seconds:.1f} s, loading included: "
        f"{facts['new_tokens']:,} tokens, {facts['tokens_per_second']:,.0f} tokens/s, "
        f"{facts['mean_characters']:.0f} characters a description, {facts['cut_share']:.1%} cut at "
        f"the limit, {facts['loops']:,} stopped as they looped, {facts['empty']:,} empty, "
        f"{facts['duplicates']:,} said before"
    )
    if facts["cut_share"] > _WARN_CUT:
        console.item(
            "warning: ",
            f"{facts['cut_share']:.1%} were cut at {settings.max_new_tokens} tokens; "
            "allow more with --max_new_tokens",
            "yellow",
        )
