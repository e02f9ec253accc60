"""The driver of ``run``: prepare, train, and write the adapter, its picture and the manifest."""

import contextlib
import logging

from data import console
from data.artefacts import manifest
from data.artefacts.dataset import Subset
from data.artefacts.folder import Folder, local_path
from data.artefacts.manifest import Manifest
from data.artefacts.stage import Work
from training import execution, job, processes
from training.config import TrainConfig
from training.model.backend import load_model
from training.plan import command
from training.processes import Ranks

log = logging.getLogger("catalogue")


def run(config: TrainConfig) -> Manifest | None:
    """Train an adapter, or go on with it; with ``preview`` only show some rows.

    Raises:
        ManifestError: the subset is missing or unfinished.
        ModelError: the base, its tokenizer or the adapter to go on from is missing or unfit.
        BatchError: rows or losses must not be trained on.
        OutputError: the folder holds another output.
    """
    if config.preview:
        job.preview(config)
        return None
    subset = job.open_subset(config.subset, config.prompt.attributes)
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
    claimed: list[Work] = []  # by the first process alone; what refuses it ends all of them

    def claim_folder() -> Manifest | None:
        claimed.append(claim.enter_context(execution.claim(config, identity)))
        return claimed[0].finished

    if done := ranks.first(claim_folder):
        if ranks.is_first:
            console.say(f"{config.out} is already finished for this subset and config")
        return done
    work = claimed[0] if claimed else None
    if choice and work:
        work.folder.commit("plan.json", choice.to_json().encode())
    with execution.explained_faults(config, out, ranks):
        ready = job.prepare(config, subset, out, ranks)
        with console.Waiting("loading the base"):
            model = load_model(config, ready.base, ready.backend, ready.precision)
        outcome = execution.train(ready, model)
        assert outcome  # noqa: S101  # nothing halts it
        if not work:
            ranks.wait()
            return manifest.read(Folder(config.out), execution.STAGE)
        result = execution.finish(work, ready, subset, model, outcome, choice)
    ranks.wait()
    _report(config, result)
    return result


def _report(config: TrainConfig, record: Manifest) -> None:
    """Print the line that a run ends with, and the plan's prediction against it."""
    facts = record.facts
    best = facts["best_validation_loss"]
    validation = f", best validation loss {best:.4f}" if best is not None else ""
    shown = config.prompt.neighbours
    several = f"{shown} neighbour{'s' if shown > 1 else ''}"
    tokens = f"{facts['mean_tokens']:,.0f} tokens a row with {several}, " if shown else ""
    console.say(
        f"{config.out} finished in {record.seconds:.1f} s: {facts['steps']:,} steps, "
        f"loss {facts['final_loss']:.4f}{validation}, "
        f"{tokens}{facts['samples_per_second']:,.1f} samples/s, "
        f"peak {facts['peak_memory_gib']:.2f} GiB on {facts['device']}"
    )
    if plan := facts.get("plan"):
        console.say(
            f"plan: {plan['predicted_seconds']:,.1f} s predicted, {plan['actual_seconds']:,.1f} s "
            f"taken ({plan['actual_seconds'] / plan['predicted_seconds'] - 1:+.1%})"
        )
