"""A plan: the candidate chosen, what was measured, and the time that a run should take. Pure."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import linear_regression, median, pstdev
from typing import Any

from training.config import TrainConfig
from training.plan.candidates import Candidate, Family, Measured

Start = tuple[Family, float]
"""Of a worker process: what it ran, and the seconds it compiled and allocated."""

# What a new process compiles took 11.7 to 14.1 s in three runs of one setting on one GPU.
_START_SPREAD = 0.2
_LEAST_INTERVAL = 0.03
# Of a run's time that its start may be while it is known of the first process alone.
_START_SHARE = 0.05


@dataclass(frozen=True)
class Length:
    """How long a run is."""

    steps: int
    evaluated_rows: int
    """In all evaluations together."""
    checkpoints: int


@dataclass(frozen=True)
class Plan:
    """A plan: what to run, why, and what it should take."""

    candidate: Candidate
    device: str
    limit_bytes: int
    measured: tuple[Measured, ...]
    length: Length
    seconds: float
    """Predicted for the whole training, from the first step to the last."""
    low: float
    high: float
    rows: int
    """To train on, for the prediction of runs of another length."""
    validation_rows: int
    whole_length: int
    """Tokens of the longest row of a micro-batch that goes through the model whole; a micro-batch
    with a longer row goes through in pieces."""
    starts: tuple[float, ...]
    """Seconds that processes which ran its family compiled and allocated at their start."""
    skipped: tuple[str, ...] = ()
    """Candidates that were not measured."""
    trained: int = 0
    """Weights, whose gradients several devices exchange at each step."""
    exchange_seconds: float = 0.0
    """Of a step, no part of what was measured on one device."""

    def to_json(self) -> str:
        """Return the text of ``plan.json``."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Read the text of ``plan.json``.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        value: dict[str, Any] = json.loads(text)
        value["candidate"] = Candidate(**value["candidate"])
        value["length"] = Length(**value["length"])
        value["measured"] = tuple(Measured.from_dict(item) for item in value["measured"])
        value["starts"], value["skipped"] = tuple(value["starts"]), tuple(value["skipped"])
        return cls(**value)

    @property
    def chosen(self) -> Measured:
        """The measurement of the candidate chosen."""
        return next(m for m in self.measured if m.candidate == self.candidate)

    def apply(self, config: TrainConfig) -> TrainConfig:
        """Put the choice into a run's settings."""
        chosen = self.candidate
        return replace(
            config,
            optimisation=replace(
                config.optimisation,
                micro_batch_size=chosen.micro_batch,
                max_tokens=chosen.micro_batch * self.whole_length,
                gradient_checkpointing=chosen.checkpointing,
                keep_layers=chosen.keep_layers,
                attention=chosen.attention,
            ),
        )

    def for_length(self, length: Length, exchange: float = 0.0) -> "Plan":
        """Predict another run's time from the same measurements, and seconds of exchange a step."""
        low, seconds, high = predict(self.chosen, length, self.starts, exchange)
        return replace(
            self, length=length, seconds=seconds, low=low, high=high, exchange_seconds=exchange
        )

    def compare(self, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Compare the prediction with the lines of a run's ``metrics.jsonl``."""
        actual = max((line["seconds"] for line in lines), default=0.0)
        return {
            "candidate": str(self.candidate),
            "predicted_seconds": round(self.seconds, 1),
            "low": round(self.low, 1),
            "high": round(self.high, 1),
            "actual_seconds": round(actual, 1),
            "predicted_peak_gib": round(self.chosen.peak_bytes / 2**30, 3),
        }


def predict(
    chosen: Measured, length: Length, starts: Sequence[float], exchange: float = 0.0
) -> tuple[float, float, float]:
    """Predict the seconds of a run: lowest, likeliest, highest.

    The interval is two standard errors of the steps to each side, of what their tokens do not
    explain, and how much the starts differ, which are the seconds that processes of the family
    compiled and allocated; 3 % at least.
    """
    steps, mean = chosen.step_seconds, chosen.mean_step
    start = median(starts)
    rest = length.evaluated_rows * chosen.evaluation_seconds
    rest += length.checkpoints * chosen.saving_seconds
    rest += chosen.recording_seconds
    seconds = start + length.steps * (mean + exchange) + rest
    steps_apart = length.steps * 2 * _unexplained(chosen) / math.sqrt(len(steps))
    start_apart = max(_START_SPREAD * start, 2 * pstdev(starts))
    apart = max(_LEAST_INTERVAL * seconds, math.hypot(steps_apart, start_apart))
    return seconds - apart, seconds, seconds + apart


def starts_like(candidate: Candidate, starts: Sequence[Start]) -> tuple[float, ...]:
    """Return the seconds that processes of a candidate's family compiled and allocated.

    Without the first process of all where there are others: a run finds on disk what that one had
    to compile. Offloading allocates what recomputing does not, so other families do not count.
    """
    own = {
        place: seconds
        for place, (family, seconds) in enumerate(starts)
        if family == candidate.family
    }
    later = [seconds for place, seconds in own.items() if place]
    return tuple(later or own.values())


def hangs_on_start(chosen: Measured, length: Length, starts: Sequence[Start]) -> bool:
    """Return whether a run is short beside its start, which only the first process of all had.

    That one compiled what later ones find on disk.
    """
    own = starts_like(chosen.candidate, starts)
    _, seconds, _ = predict(chosen, length, own)
    is_known = any(family == chosen.candidate.family for family, _ in starts[1:])
    return not is_known and own[0] > _START_SHARE * seconds


def _unexplained(chosen: Measured) -> float:
    """Return the standard deviation of the step times around a line over their tokens."""
    steps, tokens = chosen.step_seconds, chosen.step_tokens
    if len(set(tokens)) < 2:
        return pstdev(steps)
    slope, start = linear_regression(tokens, steps)
    return pstdev([s - slope * t - start for s, t in zip(steps, tokens, strict=True)])


def length(config: TrainConfig, rows: int, validation_rows: int, processes: int = 1) -> Length:
    """Count the steps, evaluations and checkpoints of a run, whose rows the processes share."""
    how, kept = config.optimisation, config.checkpoints
    steps = how.max_steps or math.ceil(how.epochs * math.ceil(rows / how.batch_size))
    # The last step is evaluated and saved as well.
    evaluations = math.ceil(steps / kept.eval_steps) if kept.eval_steps else 0
    saved = math.ceil(steps / kept.save_steps)
    if kept.keep_best and kept.eval_steps and validation_rows:
        # Where each evaluation is the best so far; those at a regular checkpoint count once.
        both = steps // math.lcm(kept.eval_steps, kept.save_steps)
        is_apart = steps % kept.eval_steps and steps % kept.save_steps
        saved = steps // kept.eval_steps + steps // kept.save_steps - both + bool(is_apart)
    return Length(steps, evaluations * math.ceil(validation_rows / processes), saved)


def memory_class(free: int, total: int, step: float) -> int:
    """Return the class of an amount of memory: 0 for nearly all of it, each next one for less.

    Args:
        free: bytes to run in.
        total: bytes of the device.
        step: share by which a class may vary; within one of ``MARGIN`` a plan always fits.
    """
    return int(math.log(total / min(max(free, 1), total)) / -math.log(1 - step))
