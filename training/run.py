"""What a run leaves beside its checkpoints: the adapter, the picture, the facts of its manifest."""

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
from training import distributed, hardware, job
from training.config import TrainConfig
from training.distributed import Ranks
from training.hardware import machine
from training.job import Prepared
from training.loop import checkpoints, loss_curve, metrics
from training.model.adapter import save_adapter
from training.model.backend import Loaded, load_model
from training.plan import command

if TYPE_CHECKING:
    from training.loop.trainer import Outcome
    from training.plan.plan import Plan

# A chain that comes round to itself, as moved folders can make one, has an end as well.
_MOST_CYCLES = 20


def finish(
    config: TrainConfig, prepared: Prepared, loaded: Loaded, outcome: "Outcome",
    choice: "Plan | None", processes: int,
) -> dict[str, Any]:  # fmt: skip
    """Write the adapter and the picture; give the facts for the manifest."""
    out = local_path(config.out, "--out")
    base, is_ours = prepared.base, config.tiny is not None
    is_local = Path(config.base).expanduser().is_dir()
    told = str(base.folder.resolve()) if is_local else base.name
    # Beside the adapter in the run's folder, wherever that is moved.
    name = f"../{BASE}" if is_ours else told
    save_adapter(outcome.model, loaded.tokenizer, out / "adapter", name)
    lines = metrics.read(out / "metrics.jsonl")
    compared = choice.compare(lines) if choice else None
    earlier = _cycles_before(config)
    loss_curve.draw(lines, out / "loss.png", _title(config, prepared), compared, earlier)
    facts = RunFacts(
        base=BASE if is_ours else told,
        base_digest=base.digest,
        prompt=config.prompt,
        max_length=config.max_length,
        longest_completion_tokens=prepared.train.seen.longest_completion,
    )
    return {
        **facts.as_facts(),
        "loss_on": config.loss_on,
        "backend": loaded.backend.name,
        "backend_why": loaded.backend.why,
        "trainable_parameters": loaded.trainable,
        **_learned(config, lines, outcome),
        "processes": processes,
        **machine(),
        **({"plan": compared} if compared else {}),
        **_rows(prepared),
    }


def _learned(config: TrainConfig, lines: list[metrics.Line], outcome: "Outcome") -> dict[str, Any]:
    best = metrics.best_validation(lines)
    if config.checkpoints.keep_best and outcome.kept_loss is not None:
        # The best one that could be had: a disk may have damaged a better one.
        best = (outcome.kept_step, outcome.kept_loss)
    return {
        "steps": outcome.steps,
        "epochs": round(outcome.epochs, 4),
        "tokens": lines[-1].get("tokens") or metrics.last(lines, "tokens"),
        "final_loss": metrics.final_loss(lines),
        "best_validation_loss": best[1] if best else None,
        "best_step": best[0] if best else None,
        "adapter_step": outcome.kept_step,
        "adapter_validation_loss": outcome.kept_loss,
        "samples_per_second": outcome.samples_per_second,
        "resumed_from_step": outcome.resumed_from,
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


def _rows(prepared: Prepared) -> dict[str, Any]:
    seen = prepared.train.seen
    return {
        "tokenized": os.path.basename(prepared.train.folder),
        "longest_tokens": seen.longest,
        "truncated": seen.truncated,
        "truncated_uids": list(seen.truncated_uids),
        "left_out_uids": list(seen.left_out_uids),
    }


def _title(config: TrainConfig, prepared: Prepared) -> str:
    name = "tiny base" if config.tiny else os.path.basename(prepared.base.name.rstrip("/"))
    return f"{name}, LoRA r={config.lora.r}, {prepared.train.seen.rows:,} rows"


def artefacts(out: Path) -> tuple[Artefact, ...]:
    """Describe what a later stage reads: the adapter, the tiny base, the metrics."""
    files = [out / "metrics.jsonl", out / "loss.png"]
    for name in ("adapter", BASE):
        files += sorted(path for path in (out / name).glob("*") if path.is_file())
    return tuple(
        Artefact(str(file.relative_to(out)), 0, file.stat().st_size, digest_file(file))
        for file in files
    )


def tell(config: TrainConfig, record: Manifest) -> None:
    """Print the line that a run ends with, and how the plan fared."""
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
    # Read when torch loads. By default OpenMP's threads spin while they wait: two processes on
    # two cores then get 4 steps/s of a tiny model each, with a short spin 20 (alone: 44 and 36).
    os.environ.setdefault("GOMP_SPINCOUNT", "500")
    if config.preview:
        from training import preview

        preview.show(config)
        return None
    subset = job.open_subset(config.subset)
    processes = distributed.join()
    if not processes.is_first:  # which says it all
        log.setLevel(logging.ERROR)
    with contextlib.ExitStack() as claim:
        result = _run(config, subset, processes, claim)
    processes.end()
    return result


def _run(
    config: TrainConfig, subset: Subset, processes: Ranks, claim: contextlib.ExitStack
) -> Manifest:
    out = local_path(config.out, "--out")
    config, choice = command.resolve(config, subset, processes)
    identity = job.identify(config, subset)

    def has_checkpoints() -> bool:
        return any((out / "checkpoints").glob("checkpoint-*"))

    claimed: list[Work] = []  # by the first process alone; what refuses it ends all of them

    def claim_folder() -> Manifest | None:
        work = stage(STAGE, config, config.out, identity, keeps=has_checkpoints)
        claimed.append(claim.enter_context(work))
        return claimed[0].finished

    done = processes.first(claim_folder)
    work = claimed[0] if claimed else None
    if done:
        if processes.is_first:
            console.say(f"{config.out} is already finished for this subset and config")
        return done
    if choice and work:
        work.folder.commit("plan.json", choice.to_json().encode())
    with _machine_named(config, out, processes):
        prepared = job.prepare(config, subset, out, processes)
        loaded, outcome = _train(config, prepared, out, processes)
    if not work:
        processes.wait()
        return manifest.read(Folder(config.out), STAGE)
    seen = prepared.train.seen
    with _machine_named(config, out, processes):
        facts = finish(config, prepared, loaded, outcome, choice, processes.count)
    result = work.finish(
        inputs=subset.record.outputs,
        outputs=artefacts(out),
        counts=Counts(seen.rows + seen.left_out, seen.rows, seen.dropped),
        made_from=(subset.parent,),
        facts=facts,
    )
    processes.wait()
    tell(config, result)
    return result


def _train(
    config: TrainConfig, prepared: Prepared, out: Path, processes: Ranks
) -> tuple[Loaded, "Outcome"]:
    # Only now: it imports trl, which Unsloth must come before.
    from training.loop import arguments
    from training.loop.trainer import Job, train

    asked = config.optimisation.optimizer
    if arguments.optimizer(config) != asked:
        log.warning("optimizer: adamw_torch, as %s needs a GPU", asked)
    precision = hardware.precision(config)
    loaded = load_model(config, prepared.base, prepared.backend, precision)
    validation = prepared.validation.rows if prepared.validation else None
    job = Job(
        config, loaded, prepared.train.rows, validation, precision,
        out / "checkpoints", out / "metrics.jsonl", processes,
    )  # fmt: skip
    resume = processes.first(lambda: checkpoints.newest(job.checkpoints))
    return loaded, train(job, resume)


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
