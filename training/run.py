"""The driver of ``run``: a memory-mapped subset in, a LoRA adapter with its record out.

Splits the work among the modules and keeps the folder in order; computes nothing itself.
"""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data import cli, faults, manifest, shards
from data.errors import CatalogueError, ModelError
from data.manifest import Counts, Manifest
from data.shards import Folder
from training import checkpoints, inputs, model, planning, ranks, record
from training.config import TrainConfig
from training.inputs import Prepared, Subset
from training.model import Loaded
from training.ranks import Ranks

if TYPE_CHECKING:
    from training.loop import Outcome

log = logging.getLogger("catalogue")

STAGE = "train"


def run(config: TrainConfig) -> Manifest | None:
    """Train an adapter, or go on with it; or only show some rows, where ``preview`` asks for it.

    Raises:
        ManifestError: the subset is missing or unfinished.
        ModelError: the base, its tokenizer or the adapter to go on from is missing or unfit.
        BatchError: rows or losses must not be trained on.
        OutputError: the folder holds another output.
    """
    began = time.perf_counter()
    # Read when torch loads. By default OpenMP's threads spin while they wait: two processes on
    # two cores then get 4 steps/s of a tiny model each, with a short spin 20 (alone: 44 and 36).
    os.environ.setdefault("GOMP_SPINCOUNT", "500")
    if config.preview:
        from training import preview

        preview.show(config)
        return None
    subset = inputs.open_subset(config.subset)
    processes = ranks.join()
    if not processes.is_first:  # which says it all
        log.setLevel(logging.ERROR)
    result = _run(config, subset, processes, began)
    processes.end()
    return result


def _run(config: TrainConfig, subset: Subset, processes: Ranks, began: float) -> Manifest:
    out = shards.local_path(config.out, "--out")
    config, choice = planning.resolve(config, subset, processes)
    folder, identity = Folder(str(out)), inputs.identify(config, subset)
    done = processes.first(lambda: manifest.begin(folder, STAGE, identity, config.overwrite))
    if done:
        if processes.is_first:
            cli.say(f"{config.out} is already finished for this subset and config")
        return done
    if choice and processes.is_first:
        folder.commit("plan.json", choice.to_json().encode())
    try:
        with _machine_named(config, out, processes):
            prepared = inputs.prepare(config, subset, out, processes)
            loaded, outcome = _train(config, prepared, out, processes)
    except CatalogueError:
        # Nothing to go on from: leave no folder that refuses the corrected command.
        if processes.is_first and not any((out / "checkpoints").glob("checkpoint-*")):
            manifest.abandon(folder)
        raise
    if not processes.is_first:
        processes.wait()
        return manifest.read(folder, STAGE)
    seen = prepared.train.seen
    with _machine_named(config, out, processes):
        facts = record.finish(config, prepared, loaded, outcome, choice, processes.count)
    result = Manifest(
        stage=STAGE,
        config=manifest.config_dict(config),
        identity=identity,
        inputs=subset.record.outputs,
        outputs=record.artefacts(out),
        counts=Counts(seen.rows + seen.left_out, seen.rows, seen.dropped),
        made_from=(subset.parent,),
        facts=facts,
        versions=manifest.versions(),
        seconds=round(time.perf_counter() - began, 3),
    )
    result.write(folder)
    processes.wait()
    record.tell(config, result)
    return result


def _train(
    config: TrainConfig, prepared: Prepared, out: Path, processes: Ranks
) -> tuple[Loaded, "Outcome"]:
    # Only now: it imports trl, which Unsloth must come before.
    from training import loop, sft

    asked = config.optimisation.optimizer
    if sft.optimizer(config) != asked:
        log.warning("optimizer: adamw_torch, as %s needs a GPU", asked)
    precision = inputs.precision(config)
    loaded = model.load(config, prepared.base, prepared.backend, precision)
    validation = prepared.validation.rows if prepared.validation else None
    job = loop.Job(
        config, loaded, prepared.train.rows, validation, precision,
        out / "checkpoints", out / "metrics.jsonl", processes,
    )  # fmt: skip
    resume = processes.first(lambda: checkpoints.newest(job.checkpoints))
    return loaded, loop.train(job, resume)


@contextlib.contextmanager
def _machine_named(config: TrainConfig, out: Path, processes: Ranks) -> Iterator[None]:
    """Let a full disk be told by the run's folder, and too little memory by what helps a run.

    Raises:
        OSError: the disk is full; libraries tell it in errors of their own.
        ModelError: there is too little memory.
    """
    try:
        yield
    except CatalogueError:
        raise
    except Exception as error:
        if faults.fills_disk(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out)) from error
        if memory := faults.lacking(error):
            rows = config.optimisation.rows_at_a_time(processes.count)
            mend = (
                "lower --optimisation.micro_batch_size, set --optimisation.gradient_checkpointing "
                "or let --plan auto choose"
            )
            raise ModelError(memory, f"room for {rows} rows at a time", "too little", mend) from (
                error
            )
        raise
