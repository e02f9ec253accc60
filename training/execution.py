"""A run from its first step to its manifest, or to the step where it halts for now.

Several runs may share a loaded model, one after the other.
"""

import contextlib
import errno
import gc
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from data import console, neighbours
from data.artefacts import manifest
from data.artefacts.dataset import Subset
from data.artefacts.folder import Artefact, Folder, digest_file
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.run import BASE, RunFacts
from data.artefacts.stage import Work, stage
from data.cli import faults
from data.errors import CatalogueError, ManifestError, ModelError
from training import hardware
from training.config import TrainConfig
from training.job import Job
from training.loop import checkpoints, metrics
from training.model.adapter import save_adapter
from training.model.backend import count_trainable, load_model, quietly
from training.processes import Ranks

if TYPE_CHECKING:
    from training.loop.trainer import Outcome
    from training.plan.plan import Plan

log = logging.getLogger("catalogue")

STAGE = "train"
# Moved folders can make a chain of cycles return to itself.
_MOST_CYCLES = 20


def claim(config: TrainConfig, identity: dict[str, Any]) -> AbstractContextManager[Work]:
    """Claim a run's folder; one with checkpoints outlives a fault of the input.

    Raises:
        OutputError: the folder holds another output, or another process writes it.
    """
    folder = Path(config.out) / "checkpoints"
    keeps = lambda: any(folder.glob("checkpoint-*"))  # noqa: E731
    return stage(STAGE, config, config.out, identity, keeps=keeps)


def advance(
    job: Job, subset: Subset, identity: dict[str, Any], lender: "Lender",
    choice: "Plan | None" = None, halt_at: int | None = None,
) -> Manifest | None:  # fmt: skip
    """Start a run, or go on with it, to its end or to a step.

    Args:
        job: of the run.
        subset: that it trains on.
        identity: what decides the adapter, from ``job.identify``.
        lender: of the model.
        choice: the plan that the run's settings come from.
        halt_at: optimizer step after which it is evaluated, saved and left; None: none.

    Returns:
        Its manifest; None where it was left unfinished.

    Raises:
        BatchError: a loss is not finite, or the weights do not move.
        ModelError: there is too little memory.
    """
    with claim(job.config, identity) as work:
        if work.finished:
            return work.finished
        with explained_faults(job.config, job.out, job.ranks):
            model = lender.lend(job)
            outcome = train(job, model, halt_at)
            return finish(work, job, subset, model, outcome, choice) if outcome else None


class Lender:
    """Lends one loaded model to runs that differ in how they learn, not in what they load.

    Each gets it with the first weights of its adapter, as if it were loaded anew.
    """

    def __init__(self) -> None:
        self._loaded: Any = None
        self._model: Any = None
        self._first: dict[str, Any] = {}

    def lend(self, job: Job) -> Any:
        """Return the model; who borrowed it before must be done with it."""
        config, how = job.config, job.config.optimisation
        loaded = (config.lora, config.seed, how.gradient_checkpointing, how.attention)
        if loaded != self._loaded:
            self._model = None
        # What the last borrower's optimizer held is free from here on.
        gc.collect()
        hardware.forget_peak()
        if self._model is None:
            with console.Waiting("loading the base"):
                self._model = load_model(config, job.base, job.backend, job.precision)
            self._first = {name: p.detach().clone() for name, p in self._trainable()}
            self._loaded = loaded
        for name, parameter in self._trainable():
            parameter.data.copy_(self._first[name])
            parameter.grad = None
        return self._model

    def _trainable(self) -> Iterator[tuple[str, Any]]:
        return ((name, p) for name, p in self._model.named_parameters() if p.requires_grad)


def train(job: Job, model: Any, halt_at: int | None = None) -> "Outcome | None":
    """Train from the newest checkpoint, or from the start.

    Returns:
        The figures; None where it halted before its last step.
    """
    # Only now: it imports trl, which Unsloth must come before.
    from training.loop import arguments, trainer

    optimizer = job.config.optimisation.optimizer
    if arguments.optimizer(job.config) != optimizer:
        log.warning("optimizer: adamw_torch, as %s needs a GPU", optimizer)
    resume = job.ranks.first(lambda: checkpoints.newest(job.checkpoints))
    return trainer.train(job, model, resume, halt_at)


def finish(
    work: Work, job: Job, subset: Subset, model: Any, outcome: "Outcome", choice: "Plan | None"
) -> Manifest:
    """Write the adapter, its picture and the manifest."""
    facts, seen = _write(job, model, outcome, choice), job.train.seen
    return work.finish(
        inputs=subset.record.outputs,
        outputs=_outputs(job),
        counts=Counts(seen.rows + seen.left_out, seen.rows, seen.dropped),
        made_from=(subset.parent,),
        facts=facts,
    )


def _write(job: Job, model: Any, outcome: "Outcome", choice: "Plan | None") -> dict[str, Any]:
    """Write the adapter and the picture; return the facts for the manifest."""
    config, base, is_ours = job.config, job.base, job.config.tiny is not None
    is_local = Path(config.base).expanduser().is_dir()
    base_name = str(base.folder.resolve()) if is_local else base.name
    # Beside the adapter in the run's folder, wherever that is moved.
    name = f"../{BASE}" if is_ours else base_name
    with quietly():
        save_adapter(model, job.tokenizer, job.out / "adapter", name)
    if job.near:
        with pa.memory_map(job.near.path) as rows:
            Folder(str(job.out)).commit(neighbours.NAME, rows.read_buffer())
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
        chat=job.chat,
    )
    return {
        **facts.as_facts(),
        "loss_on": config.loss_on,
        "backend": job.backend.name,
        "backend_why": job.backend.why,
        **_arithmetic(job, lines),
        "trainable_parameters": count_trainable(model),
        **_learned(config, lines, outcome),
        "processes": job.ranks.count,
        **hardware.machine(),
        **({"plan": compared} if compared else {}),
        **_rows(job),
    }


def _arithmetic(job: Job, lines: list[metrics.Line]) -> dict[str, Any]:
    return {
        "precision": job.precision,
        "quantize": job.config.quantize,
        # By fp16's gradient scaler; None: there was none.
        "skipped_steps": metrics.last(lines, "skipped_steps"),
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
        "mean_tokens": round(seen.tokens / seen.rows, 1),
        "truncated": seen.truncated,
        "truncated_uids": list(seen.truncated_uids),
        "left_out_uids": list(seen.left_out_uids),
    }


def _title(job: Job) -> str:
    name = "tiny base" if job.config.tiny else os.path.basename(job.base.name.rstrip("/"))
    return f"{name}, LoRA r={job.config.lora.r}, {job.train.seen.rows:,} rows"


def _outputs(job: Job) -> tuple[Artefact, ...]:
    """Describe what a later stage reads: the adapter, the tiny base, the metrics, neighbours."""
    out, shown = job.out, [neighbours.NAME] if job.near else []
    files = [out / name for name in ("metrics.jsonl", "loss.png", *shown)]
    for name in ("adapter", BASE):
        files += sorted(path for path in (out / name).glob("*") if path.is_file())
    return tuple(
        Artefact(str(file.relative_to(out)), 0, file.stat().st_size, digest_file(file))
        for file in files
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
