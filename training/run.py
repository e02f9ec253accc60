"""The driver of ``run``: prepare, train, and write the adapter, its picture and the manifest."""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import console
from data.artefacts import manifest
from data.artefacts.dataset import Subset
from data.artefacts.folder import Artefact, Folder, digest_file, local_path
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.run import BASE, RunFacts
from data.artefacts.stage import Work, stage
from data.cli import faults
from data.errors import CatalogueError, ManifestError, ModelError
from training import job, processes
from training.config import TrainConfig
from training.hardware import machine
from training.job import Job
from training.loop import checkpoints, metrics
from training.model.adapter import save_adapter
from training.model.backend import count_trainable, load_model, quietly
from training.plan import command
from training.processes import Ranks

if TYPE_CHECKING:
    from training.loop.trainer import Outcome
    from training.plan.plan import Plan

log = logging.getLogger("catalogue")

STAGE = "train"
# Moved folders can make a chain of cycles return to itself.
_MOST_CYCLES = 20


def run(config: TrainConfig) -> Manifest | None:
    """Train an adapter, or go on with it; with ``preview`` only show some rows.

    Raises:
        ManifestError: the subset is missing or unfinished.
        ModelError: the base, its tokenizer or the adapter to go on from is missing or unfit.
        BatchError: rows or losses must not be trained on.
        OutputError: the folder holds another output.
    """
    # Read when torch loads. By default OpenMP's threads spin while they wait: two processes on
    # two cores then get 4 steps/s of a tiny model each, with a short spin 20 (alone: 44 and 36).
    os.environ.setdefault("GOMP_SPINCOUNT", "500")
    if config.preview:
        job.preview(config)
        return None
    subset = job.open_subset(config.subset)
    ranks = processes.join()
    if not ranks.is_first:  # the first one says everything
        log.setLevel(logging.ERROR)
    with contextlib.ExitStack() as claim:
        result = _run(config, subset, ranks, claim)
    ranks.end()
    return result


def _run(
    config: TrainConfig, subset: Subset, ranks: Ranks, claim: contextlib.ExitStack
) -> Manifest:
    out = local_path(config.out, "--out")
    config, choice = command.resolve(config, subset, ranks)
    identity = job.identify(config, subset)

    def has_checkpoints() -> bool:
        return any((out / "checkpoints").glob("checkpoint-*"))

    claimed: list[Work] = []  # by the first process alone; what refuses it ends all of them

    def claim_folder() -> Manifest | None:
        work = stage(STAGE, config, config.out, identity, keeps=has_checkpoints)
        claimed.append(claim.enter_context(work))
        return claimed[0].finished

    if done := ranks.first(claim_folder):
        if ranks.is_first:
            console.say(f"{config.out} is already finished for this subset and config")
        return done
    work = claimed[0] if claimed else None
    if choice and work:
        work.folder.commit("plan.json", choice.to_json().encode())
    with explained_faults(config, out, ranks):
        ready = job.prepare(config, subset, out, ranks)
        model, outcome = _train(ready)
        if not work:
            ranks.wait()
            return manifest.read(Folder(config.out), STAGE)
        facts = _finish(ready, model, outcome, choice)
    seen = ready.train.seen
    result = work.finish(
        inputs=subset.record.outputs,
        outputs=_outputs(out),
        counts=Counts(seen.rows + seen.left_out, seen.rows, seen.dropped),
        made_from=(subset.parent,),
        facts=facts,
    )
    ranks.wait()
    _report(config, result)
    return result


def _train(job: Job) -> tuple[Any, "Outcome"]:
    # Only now: it imports trl, which Unsloth must come before.
    from training.loop import arguments
    from training.loop.trainer import train

    optimizer = job.config.optimisation.optimizer
    if arguments.optimizer(job.config) != optimizer:
        log.warning("optimizer: adamw_torch, as %s needs a GPU", optimizer)
    model = load_model(job.config, job.base, job.backend, job.precision)
    resume = job.ranks.first(lambda: checkpoints.newest(job.checkpoints))
    return model, train(job, model, resume)


def _finish(job: Job, model: Any, outcome: "Outcome", choice: "Plan | None") -> dict[str, Any]:
    """Write the adapter and the picture; return the facts for the manifest."""
    config, base, is_ours = job.config, job.base, job.config.tiny is not None
    is_local = Path(config.base).expanduser().is_dir()
    base_name = str(base.folder.resolve()) if is_local else base.name
    # Beside the adapter in the run's folder, wherever that is moved.
    name = f"../{BASE}" if is_ours else base_name
    with quietly():
        save_adapter(model, job.tokenizer, job.out / "adapter", name)
    lines = metrics.read(job.metrics)
    compared = choice.compare(lines) if choice else None
    metrics.draw(lines, job.out / "loss.png", _title(job), compared, _cycles_before(config))
    facts = RunFacts(
        base=BASE if is_ours else base_name,
        base_digest=base.digest,
        prompt=config.prompt,
        max_length=config.max_length,
        longest_completion_tokens=job.train.seen.longest_completion,
        mean_completion_tokens=job.completion_tokens[0],
        long_completion_tokens=job.completion_tokens[1],
    )
    return {
        **facts.as_facts(),
        "loss_on": config.loss_on,
        "backend": job.backend.name,
        "backend_why": job.backend.why,
        "trainable_parameters": count_trainable(model),
        **_learned(config, lines, outcome),
        "processes": job.ranks.count,
        **machine(),
        **({"plan": compared} if compared else {}),
        **_rows(job),
    }


def _learned(config: TrainConfig, lines: list[metrics.Line], outcome: "Outcome") -> dict[str, Any]:
    best = metrics.best_validation(lines)
    if config.checkpoints.keep_best and outcome.adapter_validation_loss is not None:
        # The best one that could be had: a disk may have damaged a better one.
        best = (outcome.adapter_step, outcome.adapter_validation_loss)
    return {
        "steps": outcome.steps,
        "epochs": outcome.epochs,
        "tokens": metrics.last(lines, "tokens"),
        "final_loss": metrics.final_loss(lines),
        "best_validation_loss": best[1] if best else None,
        "best_step": best[0] if best else None,
        "adapter_step": outcome.adapter_step,
        "adapter_validation_loss": outcome.adapter_validation_loss,
        "samples_per_second": outcome.samples_per_second,
        "resumed_from_step": outcome.resumed_from_step,
    }


def _cycles_before(config: TrainConfig) -> list[list[metrics.Line]]:
    """Read the figures of the runs that this one goes on from, where they are still there."""
    cycles: list[list[metrics.Line]] = []
    adapter = config.init_adapter
    while adapter and len(cycles) < _MOST_CYCLES:
        run = Path(adapter).resolve().parent
        cycles.insert(0, metrics.read(run / "metrics.jsonl"))
        try:
            adapter = manifest.read(Folder(str(run)), "train").config.get("init_adapter")
        except ManifestError:
            break
    return cycles


def _rows(job: Job) -> dict[str, Any]:
    seen = job.train.seen
    return {
        "tokenized": os.path.basename(job.train.folder),
        "longest_tokens": seen.longest,
        "truncated": seen.truncated,
        "truncated_uids": list(seen.truncated_uids),
        "left_out_uids": list(seen.left_out_uids),
    }


def _title(job: Job) -> str:
    name = "tiny base" if job.config.tiny else os.path.basename(job.base.name.rstrip("/"))
    return f"{name}, LoRA r={job.config.lora.r}, {job.train.seen.rows:,} rows"


def _outputs(out: Path) -> tuple[Artefact, ...]:
    """Describe what a later stage reads: the adapter, the tiny base, the metrics."""
    files = [out / "metrics.jsonl", out / "loss.png"]
    for name in ("adapter", BASE):
        files += sorted(path for path in (out / name).glob("*") if path.is_file())
    return tuple(
        Artefact(str(file.relative_to(out)), 0, file.stat().st_size, digest_file(file))
        for file in files
    )


def _report(config: TrainConfig, record: Manifest) -> None:
    """Print the line that a run ends with, and the plan's prediction against it."""
    facts = record.facts
    best = facts["best_validation_loss"]
    validation = f", best validation loss {best:.4f}" if best is not None else ""
    console.say(
        f"{config.out} finished in {record.seconds:.1f} s: {facts['steps']:,} steps, "
        f"loss {facts['final_loss']:.4f}{validation}, "
        f"{facts['samples_per_second']:,.1f} samples/s, "
        f"peak {facts['peak_memory_gib']:.2f} GiB on {facts['device']}"
    )
    if plan := facts.get("plan"):
        console.say(
            f"plan: {plan['predicted_seconds']:,.1f} s predicted, {plan['actual_seconds']:,.1f} s "
            f"taken ({plan['actual_seconds'] / plan['predicted_seconds'] - 1:+.1%})"
        )


@contextlib.contextmanager
def explained_faults(config: TrainConfig, out: Path, ranks: Ranks) -> Iterator[None]:
    """Name the run's folder where the disk is full, and what helps where memory is short.

    Raises:
        OSError: the disk is full; libraries raise errors of their own for that.
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
            expected = f"room for {config.optimisation.rows_at_a_time(ranks.count)} rows at a time"
            hint = (
                "lower --optimisation.micro_batch_size, set --optimisation.gradient_checkpointing "
                "or let --plan auto choose"
            )
            raise ModelError(memory, expected, "too little", hint) from error
        raise
