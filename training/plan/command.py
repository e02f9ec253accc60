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
from training import distributed, hardware, job
from training.config import PlanConfig, TrainConfig
from training.distributed import Ranks
from training.plan import candidates, plan
from training.plan.candidates import Candidate, Measured
from training.plan.plan import Ledger, Plan
from training.plan.search import HOPELESS, Search
from training.plan.worker import Host, WorkerHandle

log = logging.getLogger("catalogue")

STAGE = "plan"
NAME = "plan.json"
_RUN_ONLY = ("epochs", "max_steps", "learning_rate", "schedule", "warmup_steps", "weight_decay")
_PLANNED = (
    "micro_batch_size", "max_tokens", "gradient_checkpointing", "keep_layers", "attention",
)  # fmt: skip
# Counted into what a plan depends on, so that a change of plan.json makes new ones.
_FORMAT = 5


def resolve(
    config: TrainConfig, subset: Subset, processes: Ranks
) -> tuple[TrainConfig, Plan | None]:
    """Put a plan's choice into a run's settings, where one is asked for.

    Args:
        config: of the run.
        subset: to train on.
        processes: of the run; the first one plans.

    Raises:
        ConfigError: the batch cannot be shared out evenly among the processes.
        ModelError: there is no such plan, or nothing fits.
    """
    if config.plan is None:
        return config, None
    own = local_path(config.out, "--out") / NAME
    if own.exists() and not config.overwrite:  # of the run that is gone on with
        choice = _read(own)
    elif config.plan == "auto":
        config.optimisation.accumulation(processes.count)  # refused by every process alike
        planned, count = _as_plan(config), processes.count
        choice = processes.first(lambda: find_or_make(planned, subset, count))
    else:
        path = Path(config.plan)
        choice = _read(path / NAME if path.is_dir() else path)
    log.info("plan: %s", choice.candidate)
    return choice.apply(config), choice


def _as_plan(config: TrainConfig) -> PlanConfig:
    return PlanConfig(**{name: getattr(config, name) for name in TrainConfig.__dataclass_fields__})


def _read(path: Path) -> Plan:
    try:
        return Plan.from_json(path.read_text())
    except (OSError, KeyError, TypeError, ValueError, StopIteration) as error:
        mend = "make one: python -m training plan"
        raise ModelError(str(path), "a plan of ours", type(error).__name__, mend) from error


def run(config: PlanConfig) -> Plan:
    """Plan, and print what was found.

    Raises:
        ConfigError: the batch cannot be shared out evenly among the processes.
        ManifestError: the subset is missing or unfinished.
        ModelError: the base is missing, or nothing fits.
    """
    subset = job.open_subset(config.subset)
    processes = distributed.join()
    config.optimisation.accumulation(processes.count)  # refused by every process alike
    choice = processes.first(lambda: find_or_make(config, subset, processes.count))
    processes.end()
    return choice


def find_or_make(config: PlanConfig, subset: Subset, processes: int = 1) -> Plan:
    """Take the plan made here for these settings, or make it.

    Args:
        config: of the plan.
        subset: to train on.
        processes: that share each batch, on a device each; what one of them takes is measured.
    """
    identity = _identify(_share(config, processes), subset)
    kept = local_path(os.path.join(config.plans, manifest.identity_digest(identity)), "--plans")
    with stage(STAGE, config, str(kept), identity) as work:
        if work.finished:
            work.finished.check(work.folder)
            choice = _read(kept / NAME)
            _show(choice)
            console.say(f"planned before: {kept / NAME}")
            return _for_run(config, choice, processes)
        ledger = Ledger(work.folder, config.steps)
        choice = make(config, kept, ledger, processes)
        text = choice.to_json().encode()
        work.folder.commit(NAME, text)
        ledger.close()
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
    console.say(f"written: {kept / NAME}; use it with: python -m training run --plan auto …")
    return choice


def _identify(config: PlanConfig, subset: Subset) -> dict[str, Any]:
    """Collect what the choice depends on; not how long the run is or how fast it learns."""
    identity = job.identify(config, subset)
    how = identity["optimisation"]
    for name in (*_RUN_ONLY, *_PLANNED):
        how.pop(name)
    for name in ("init_adapter", "checkpoints", "seed", "steps", "exhaustive"):
        identity.pop(name)
    identity["format"] = _FORMAT
    identity["memory_limit"] = config.memory_limit
    here = hardware.look()
    identity["hardware"] = here.facts()
    asked = parse_memory(config.memory_limit) if config.memory_limit else here.free_bytes
    # A host's free memory comes and goes, and a plan for a processor seldom comes near it.
    step = candidates.MARGIN if here.card else 0.5
    room = plan.memory_class(min(asked, here.free_bytes), here.total_bytes, step)
    identity["memory_class"] = room
    return identity


def _share(config: PlanConfig, processes: int) -> PlanConfig:
    """Give the settings of one process alone."""
    how = config.optimisation
    share = replace(how, batch_size=how.batch_size // processes, micro_batch_size=None)
    return replace(config, optimisation=share)


def _for_run(config: TrainConfig, choice: Plan, processes: int) -> Plan:
    """Predict this run's time, whose length may be another one than the plan's."""
    rows, validation = choice.rows, choice.validation_rows
    return choice.for_length(plan.length(config, rows, validation, processes))


def make(config: PlanConfig, kept: Path, ledger: Ledger, processes: int = 1) -> Plan:
    """Measure candidates in processes of their own and choose.

    Args:
        config: of the plan.
        kept: folder for what is written meanwhile.
        ledger: of what an interrupted plan measured already.
        processes: that share each batch.

    Raises:
        ModelError: nothing fits.
    """
    scratch = kept / f".tmp-measure-{os.getpid()}"
    share = _share(config, processes)
    rows = share.optimisation.batch_size
    bench = WorkerHandle(share, scratch, ledger)
    try:
        ground = bench.start(Candidate(rows, 1, "every", 0))
        asked = parse_memory(config.memory_limit) if config.memory_limit else ground.free_bytes
        limit = min(asked, ground.free_bytes)
        on_gpu = not ground.device.startswith("cpu")
        attentions: list[candidates.Attention] = ["auto"]
        if _may_flash(ground):
            attentions.append("flash_attention_2")
        may_offload = ground.backend == "unsloth" and on_gpu
        grid = candidates.candidates(rows, ground.shape.layers, may_offload, attentions)
        eight_bit = config.optimisation.optimizer == "adamw_8bit" and on_gpu
        search = Search(grid, ground.shape, limit, 2 if eight_bit else 8, bench.measure)
        if processes > 1:
            console.say(f"each of {processes} devices takes {rows} rows of a step; of one of them:")
        _show_estimates(search, ground, limit)
        search.run(config.exhaustive)
        bench.close()
    finally:
        bench.close(patience=0.0)
        shutil.rmtree(scratch, ignore_errors=True)
    told = plan.length(config, ground.rows, ground.validation_rows, processes)
    choice = _choose(search, ground, limit, told, ledger.starts)
    _show(choice)
    return choice


def _may_flash(ground: Host) -> bool:
    # Unsloth takes flash attention by itself where it is installed.
    return ground.has_flash and ground.backend == "transformers"


def _choose(
    search: Search, ground: Host, limit: int, told: plan.Length, starts: list[plan.Start]
) -> Plan:
    best = search.best()
    if best is None:
        tried = "; ".join(f"{m.candidate}: {_outcome(m, limit)}" for m in search.found.values())
        expected = f"a way to run that leaves {candidates.MARGIN:.0%} of {limit / 2**30:.2f} GiB"
        mend = "lower --optimisation.batch_size or --max_length, or take a smaller base"
        raise ModelError("plan", expected, f"none ({tried or 'none worth a try'})", mend)
    own = plan.starts_like(best.candidate, starts)
    low, seconds, high = plan.predict(best, told, own)
    return Plan(
        best.candidate, ground.device, limit, tuple(search.found.values()), told, seconds, low,
        high, ground.rows, ground.validation_rows, ground.shape.longest, own,
        tuple(str(each) for each in search.skipped),
    )  # fmt: skip


def _gib(amount: float) -> str:
    return f"{amount / 2**30:.2f}"


def _outcome(measured: Measured, limit: int) -> str:
    if measured.fault:
        return measured.fault
    if measured.fits(limit):
        return "fits"
    return f"over {1 - candidates.MARGIN:.0%} of the limit"


def _show_estimates(search: Search, ground: Host, limit: int) -> None:
    console.say(
        f"{ground.device}, {ground.backend}, limit {_gib(limit)} GiB; longest row "
        f"{ground.longest} tokens, micro-batches with rows over {ground.shape.longest} in pieces; "
        "estimated peak GiB:\n"
    )
    rows = []
    for candidate in search.grid:
        if candidate.keep_layers and candidate.keep_layers * 2 != ground.shape.layers:
            continue
        told = candidates.estimate(candidate, ground.shape, search.optimizer_bytes)
        worth = "" if told.peak_bytes <= HOPELESS * limit else "not tried"
        rows.append([str(candidate), _gib(told.peak_bytes), f"{told.flop_a_token:.2e}", worth])
    console.say(
        console.table(rows, ("micro-batch x accumulation", "peak GiB", "FLOP a token", "")) + "\n"
    )


def _show(choice: Plan) -> None:
    limit = choice.limit_bytes
    rows = [
        [
            ("> " if each.candidate == choice.candidate else "  ") + str(each.candidate),
            f"{each.samples_per_second:.1f}" if not each.fault else "",
            f"{each.tokens_per_second:,.0f}" if not each.fault else "",
            _gib(each.peak_bytes) if not each.fault else "",
            _gib(limit - each.peak_bytes) if not each.fault else "",
            _gib(each.estimated_bytes),
            _outcome(each, limit),
        ]
        for each in choice.measured
    ]
    header = ("  measured", "samples/s", "tokens/s", "peak GiB", "left GiB", "estimated", "")
    console.say(console.table(rows, header))
    told = choice.length
    console.say(
        f"\nchosen: {choice.candidate}; {told.steps:,} steps in {_time(choice.seconds)} "
        f"({_time(choice.low)} to {_time(choice.high)})"
    )


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
