"""The runs of a curve: how many of each size, with which settings, and how long they take."""

from dataclasses import dataclass, replace
from pathlib import Path

from data.artefacts.manifest import Manifest
from training.config import TrainConfig
from training.curve.config import CurveConfig
from training.loop import metrics
from training.plan import plan
from training.plan.plan import Plan

_MOST_SEEDS = 3


@dataclass(frozen=True)
class Planned:
    """One run: the train rows and the seed."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.rows}-{self.seed}"


@dataclass(frozen=True)
class RunTime:
    """How long a run of some steps takes."""

    step: float
    """Seconds of an optimizer step."""
    rest: float
    """Seconds of the evaluations and checkpoints, the same for all sizes."""

    @classmethod
    def of(cls, record: Manifest, seconds: float) -> "RunTime":
        """Measure a finished run that took so many seconds from its first step to its last."""
        facts, trained = record.facts, seconds
        if speed := facts["samples_per_second"]:
            trained = min(seconds, facts["epochs"] * record.counts.kept / speed)
        return cls(trained / facts["steps"], seconds - trained)


def choose(config: CurveConfig) -> list[Planned]:
    """List the runs, the first seed of all sizes first; a change of seed loads the model anew."""
    steps = {size: steps_of(config, size) for size in config.sizes}
    budget = steps[config.sizes[-1]]
    runs = []
    for number in range(config.seeds or _MOST_SEEDS):
        for size in config.sizes:
            if config.seeds is None and number:
                if steps[size] > budget:
                    break
                budget -= steps[size]
            runs.append(Planned(size, config.seed + number))
    return runs


def steps_of(config: TrainConfig, rows: int) -> int:
    """Count the optimizer steps on so many rows."""
    return plan.length(config, rows, 0).steps


def settings(config: CurveConfig, run: Planned, out: Path, subset: Path, base: str) -> TrainConfig:
    """Return a run's settings: the recipe, evaluated after each third, the best third kept."""
    return replace(
        TrainConfig.of(config),
        subset=str(subset),
        out=str(out / run.name),
        base=base,
        tiny=None,
        seed=run.seed,
        checkpoints=config.checkpoints.by_thirds(steps_of(config, run.rows)),
        overwrite=False,
    )


def seconds_of(run: Path) -> float:
    """Read how long a run took from its first step to its last, over all its starts."""
    lines = metrics.read(run / "metrics.jsonl")
    return max((float(line["seconds"]) for line in lines), default=0.0)


def predict(
    config: TrainConfig, rows: int, validation: int, choice: Plan | None, pace: RunTime | None
) -> float | None:
    """Predict the seconds of a run, from a plan or from runs; None: neither says."""
    length = plan.length(config, rows, validation)
    if choice:
        return choice.for_length(length).seconds
    return length.steps * pace.step + pace.rest if pace else None
