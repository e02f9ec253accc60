"""The driver of ``plan``: measure the candidates on this machine, choose, write ``plan.json``.

A plan is kept under ``plans`` by what it depends on: the hardware, the subset, the base and the
settings but the length of the run. ``run --plan auto`` finds it there, or makes it.
"""

import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from data import console
from data.artefacts import manifest
from data.artefacts.dataset import Subset
from data.artefacts.folder import Artefact, digest_bytes, local_path
from data.artefacts.stage import stage
from data.console import parse_memory
from data.errors import ModelError
from training import hardware, job, processes
from training.config import PlanConfig, TrainConfig
from training.plan import candidates, plan
from training.plan.candidates import Candidate, Measured
from training.plan.measuring import Journal, WorkerHandle
from training.plan.plan import Plan
from training.plan.search import HOPELESS, Search
from training.plan.worker import Host
from training.processes import Ranks

log = logging.getLogger("catalogue")

STAGE = "plan"
NAME = "plan.json"
_RUN_ONLY = ("epochs", "max_steps", "learning_rate", "schedule", "warmup_steps", "weight_decay")
_PLANNED = (
    "micro_batch_size", "max_tokens", "gradient_checkpointing", "keep_layers", "attention",
)  # fmt: skip
# Counted into what a plan depends on, so that another form or way of choosing makes new ones.
_FORMAT = 10


def resolve(config: TrainConfig, subset: Subset, ranks: Ranks) -> tuple[TrainConfig, Plan | None]:
    """Apply the plan that ``--plan`` names to a run's settings; the first process makes it.

    Raises:
        ConfigError: the batch cannot be shared out evenly among the processes.
        ModelError: there is no such plan, or nothing fits.
    """
    if config.plan is None:
        return config, None
    own = local_path(config.out, "--out") / NAME
    if own.exists() and not config.overwrite:  # of the run that is resumed
        choice = _read(own)
    elif config.plan == "auto":
        settings = PlanConfig.of(config)
        choice = _plan_in_first(settings, subset, ranks)
    else:
        path = Path(config.plan)
        choice = _read(path / NAME if path.is_dir() else path)
    log.info("plan: %s", choice.candidate)
    return choice.apply(config), choice


def _read(path: Path) -> Plan:
    try:
        return Plan.from_json(path.read_text(encoding="utf-8"))
    except (OSError, KeyError, TypeError, ValueError, StopIteration) as error:
        hint = "make one: python -m training plan"
        raise ModelError(str(path), "a plan of ours", type(error).__name__, hint) from error


def run(config: PlanConfig) -> Plan:
    """Plan, and print the measurements and the choice.

    Raises:
        ConfigError: the batch cannot be shared out evenly among the processes.
        ManifestError: the subset is missing or unfinished.
        ModelError: the base is missing, or nothing fits.
    """
    subset = job.open_subset(config.subset, config.prompt.attributes)
    ranks = processes.join()
    choice = _plan_in_first(config, subset, ranks)
    ranks.end()
    return choice


def _plan_in_first(config: PlanConfig, subset: Subset, ranks: Ranks) -> Plan:
    config.optimisation.accumulation(ranks.count)  # every process refuses it alike
    choice = ranks.first(lambda: find_or_make(config, subset, ranks.count))
    exchange = ranks.seconds_to_add(choice.trained)
    choice = choice.for_length(choice.length, exchange)
    if exchange and ranks.is_first:
        took = f"{1e3 * exchange:.1f} ms to exchange gradients at a step"
        console.say(f"with {took}: {_duration(choice)}")
    return choice


def find_or_make(config: PlanConfig, subset: Subset, devices: int = 1) -> Plan:
    """Return the plan made here earlier for these settings, or make it.

    Of several devices, which share each batch, the share of one is measured.
    """
    identity = identify(_share(config, devices), subset)
    kept = local_path(os.path.join(config.plans, manifest.identity_digest(identity)), "--plans")
    with stage(STAGE, config, str(kept), identity) as work:
        if work.finished:
            work.finished.check(work.folder)
            choice = _read(kept / NAME)
            # This run may have another length than the plan's.
            rows, validation = choice.rows, choice.validation_rows
            choice = choice.for_length(plan.length(config, rows, validation, devices))
            _show(choice)
            console.say(f"planned before: {kept / NAME}")
            return choice
        journal = Journal(work.folder, config.steps)
        choice = _make(config, kept, journal, devices)
        text = choice.to_json().encode()
        work.folder.commit(NAME, text)
        journal.close()
        work.finish(
            inputs=subset.record.outputs,
            outputs=(Artefact(NAME, 0, len(text), digest_bytes(text)),),
            made_from=(subset.parent,),
            facts={
                "chosen": str(choice.candidate),
                "device": choice.device,
                "samples_per_second": round(choice.chosen.samples_per_second, 1),
                "predicted_seconds": round(choice.seconds, 1),
            },
        )
    console.say(f"written: {kept / NAME}")
    return choice


def identify(config: PlanConfig, subset: Subset) -> dict[str, Any]:
    """Collect what the choice depends on; not how long the run is or how fast it learns."""
    identity = job.identify(config, subset)
    how = identity["optimisation"]
    for name in (*_RUN_ONLY, *_PLANNED):
        how.pop(name)
    for name in ("init_adapter", "checkpoints", "seed", "steps"):
        identity.pop(name)
    identity["format"] = _FORMAT
    identity["memory_limit"] = config.memory_limit
    here = hardware.look()
    identity["hardware"] = here.facts()
    # A host's free memory comes and goes, and a plan for a processor seldom comes near it.
    step = candidates.MARGIN if here.card else 0.5
    limit = _limit(config, here.free_bytes)
    identity["memory_class"] = plan.memory_class(limit, here.total_bytes, step)
    return identity


def _limit(config: PlanConfig, free_bytes: int) -> int:
    limit = parse_memory(config.memory_limit) if config.memory_limit else free_bytes
    return min(limit, free_bytes)


def _share(config: PlanConfig, devices: int) -> PlanConfig:
    """Return the settings of one process alone."""
    how = config.optimisation
    share = replace(how, batch_size=how.batch_size // devices, micro_batch_size=None)
    return replace(config, optimisation=share)


def _make(config: PlanConfig, kept: Path, journal: Journal, devices: int) -> Plan:
    """Measure candidates in processes of their own and choose.

    Raises:
        ModelError: nothing fits.
    """
    scratch = kept / f".tmp-measure-{os.getpid()}"
    share = _share(config, devices)
    rows = share.optimisation.batch_size
    worker = WorkerHandle(share, scratch, journal)
    try:
        host = worker.start(Candidate(rows, 1, "none", 0))
        limit = _limit(config, host.free_bytes)
        on_gpu = not host.device.startswith("cpu")
        attentions: list[candidates.Attention] = ["auto"]
        # Unsloth uses flash attention by itself where it is installed.
        if host.has_flash and host.backend == "transformers":
            attentions.append("flash_attention_2")
        may_offload = host.backend == "unsloth" and on_gpu
        grid = candidates.candidates(rows, host.shape.layers, may_offload, attentions)
        eight_bit = config.optimisation.optimizer == "adamw_8bit" and on_gpu
        search = Search(grid, host.shape, limit, 2 if eight_bit else 8, host.speed, worker.measure)
        if devices > 1:
            console.say(f"each of {devices} devices takes {rows} rows of a step; of one of them:")
        _show_estimates(search, host, limit)
        length = plan.length(config, host.rows, host.validation_rows, devices)
        search.run()
        best = search.best()
        if best and plan.hangs_on_start(best, length, journal.starts):
            worker.close()
            search.repeat(best, rival=0.0)  # as far as its start
        worker.close()
    finally:
        worker.close(patience=0.0)
        shutil.rmtree(scratch, ignore_errors=True)
    choice = _choose(search, host, limit, length, journal.starts)
    _show(choice)
    return choice


def _choose(
    search: Search, host: Host, limit: int, length: plan.Length, starts: list[plan.Start]
) -> Plan:
    best = search.best()
    if best is None:
        tried = "; ".join(f"{m.candidate}: {_outcome(m, limit)}" for m in search.results.values())
        expected = f"a way to run that leaves {candidates.MARGIN:.0%} of {limit / 2**30:.2f} GiB"
        hint = "lower --optimisation.batch_size or --max_length, or take a smaller base"
        raise ModelError("plan", expected, f"none ({tried or 'none worth a try'})", hint)
    own = plan.starts_like(best.candidate, starts)
    low, seconds, high = plan.predict(best, length, own)
    return Plan(
        best.candidate, host.device, limit, tuple(search.results.values()), length, seconds, low,
        high, host.rows, host.validation_rows, host.shape.longest, own,
        tuple(map(str, search.skipped)), host.shape.trainable,
    )  # fmt: skip


def _gib(amount: float) -> str:
    return f"{amount / 2**30:.2f}"


def _outcome(measured: Measured, limit: int) -> str:
    if measured.fault:
        return measured.fault
    if measured.is_left:
        return "left, as it is slower"
    if measured.fits(limit):
        return "fits"
    return f"over {1 - candidates.MARGIN:.0%} of the limit"


def _show_estimates(search: Search, host: Host, limit: int) -> None:
    console.say(
        f"{host.device}, {host.backend}, limit {_gib(limit)} GiB; longest row {host.longest} "
        f"tokens, micro-batches with rows over {host.shape.longest} in pieces; "
        "estimated peak GiB:\n"
    )
    rows = []
    for candidate in search.grid:
        if candidate.keep_layers and candidate.keep_layers * 2 != host.shape.layers:
            continue
        estimate = candidates.estimate(candidate, host.shape, search.optimizer_bytes)
        peak, flop = _gib(estimate.peak_bytes), f"{estimate.flop_a_token:.2e}"
        note = "" if estimate.peak_bytes <= HOPELESS * limit else "not tried"
        rows.append([str(candidate), peak, flop, note])
    header = ("micro-batch x accumulation", "peak GiB", "FLOP a token", "")
    console.say(console.table(rows, header) + "\n")


def _show(choice: Plan) -> None:
    rows = []
    for m in choice.measured:
        name = ("> " if m.candidate == choice.candidate else "  ") + str(m.candidate)
        speeds = (f"{m.samples_per_second:.1f}", f"{m.tokens_per_second:,.0f}")
        figures = [*speeds, _gib(m.peak_bytes), _gib(choice.limit_bytes - m.peak_bytes)]
        figures = [""] * len(figures) if m.fault else figures
        rows.append([name, *figures, _gib(m.estimated_bytes), _outcome(m, choice.limit_bytes)])
    header = ("  measured", "samples/s", "tokens/s", "peak GiB", "left GiB", "estimated", "")
    console.say(console.table(rows, header))
    console.say(f"\nchosen: {choice.candidate}; {_duration(choice)}")


def _duration(choice: Plan) -> str:
    low, seconds, high = map(_time, (choice.low, choice.seconds, choice.high))
    return f"{choice.length.steps:,} steps in {seconds} ({low} to {high})"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
