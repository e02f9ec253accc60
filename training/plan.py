"""Ways of running a batch: candidates, estimates by formula, what was measured, the prediction.

Pure: shapes and measurements in, a choice out. What a candidate takes is measured elsewhere; the
estimates here only keep hopeless ones from being tried and order the search.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, linear_regression, median, pstdev
from typing import Any, Literal

from training.config import TrainConfig

Checkpointing = Literal["none", "unsloth", "every"]
Attention = Literal["auto", "sdpa", "flash_attention_2", "eager"]
Family = tuple[Checkpointing, Attention]
Start = tuple[Family, float]
"""Of a measuring process: what it ran, and the seconds it compiled and allocated."""

MARGIN = 0.1
"""Share of the memory limit that a chosen candidate leaves free: more batches fragment the heap
more. On a GPU, 40 steps took 4 % above the plan's peak, the third run of a process 7 %."""

# What a new process compiles took 11.7 to 14.1 s in three runs of one setting on one GPU.
_START_SPREAD = 0.2
_LEAST_INTERVAL = 0.03
_HALVINGS = 4
_KEPT_STEPS = 11


@dataclass(frozen=True)
class Candidate:
    """One way to run a batch."""

    micro_batch: int
    accumulation: int
    checkpointing: Checkpointing
    keep_layers: int
    """Of the layers that recompute otherwise, so many keep their activations."""
    attention: Attention = "auto"

    def kept(self, layers: int) -> int:
        """Tell how many of a model's layers keep their activations."""
        return layers if self.checkpointing == "none" else self.keep_layers

    def held(self, layers: int) -> int:
        """Tell the activations of how many layers stand in memory at once.

        Those of the layers that keep them are gone before the others are recomputed one by one.
        """
        return max(self.kept(layers), 1)

    @property
    def family(self) -> Family:
        """What a loaded model cannot change any more."""
        return ("every" if self.checkpointing == "none" else self.checkpointing, self.attention)

    def __str__(self) -> str:
        way = {"none": "keep all", "every": "recompute", "unsloth": "offload"}[self.checkpointing]
        kept = f", {self.keep_layers} kept" if self.keep_layers else ""
        attention = "" if self.attention == "auto" else f", {self.attention}"
        return f"{self.micro_batch} x {self.accumulation}, {way}{kept}{attention}"


@dataclass(frozen=True)
class Shape:
    """What decides how much memory and arithmetic a model takes."""

    layers: int
    hidden: int
    intermediate: int
    kv_hidden: int
    """Width of keys, and of values."""
    vocabulary: int
    parameters: int
    trainable: int
    weight_bytes: int
    """Of one weight and one activation."""
    longest: int
    """Tokens of the longest row of a micro-batch that goes through the model whole."""
    fused: bool
    """Whether Unsloth's kernels keep less and make the logits in pieces."""


@dataclass(frozen=True)
class Estimate:
    """By formula, to within some 30 %."""

    peak_bytes: int
    layer_bytes: int
    """What a layer that keeps its activations takes."""
    flop_a_token: float


@dataclass(frozen=True)
class Measured:
    """What a candidate took on the machine."""

    candidate: Candidate
    estimated_bytes: int = 0
    peak_bytes: int = 0
    """Over the longest rows of the subset, with evaluation and saving."""
    samples_per_second: float = 0.0
    """Of batches seen the second time: the first pass compiles and allocates for some."""
    tokens_per_second: float = 0.0
    """Likewise; without padding."""
    step_seconds: tuple[float, ...] = ()
    """Of batches of short, middling and long rows, seen the second time."""
    step_tokens: tuple[int, ...] = ()
    """Of the same batches, with padding."""
    cold_seconds: float = 0.0
    """What its process compiled and allocated, over all its first steps."""
    evaluation_seconds: float = 0.0
    """A validation row."""
    saving_seconds: float = 0.0
    measuring_seconds: float = 0.0
    """What it took to find all this out."""
    fault: str = ""
    """Why there are no figures; empty: there are."""

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Measured":
        """Make one of what ``dataclasses.asdict`` gave.

        Raises:
            KeyError, TypeError: it is none.
        """
        lists = {name: tuple(value[name]) for name in ("step_seconds", "step_tokens")}
        return cls(**value | {"candidate": Candidate(**value["candidate"])} | lists)

    def fits(self, limit: int) -> bool:
        """Tell whether it ran and left the margin."""
        return not self.fault and self.peak_bytes <= limit * (1 - MARGIN)


@dataclass(frozen=True)
class Length:
    """How long a run is."""

    steps: int
    evaluated_rows: int
    """In all evaluations together."""
    checkpoints: int


@dataclass(frozen=True)
class Choice:
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
    """Candidates that the estimate ruled out."""

    def to_json(self) -> str:
        """Give the text of ``plan.json``."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Choice":
        """Read the text of ``plan.json``.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        value: dict[str, Any] = json.loads(text)
        value["candidate"] = Candidate(**value["candidate"])
        value["length"] = Length(**value["length"])
        value["measured"] = tuple(Measured.from_dict(each) for each in value["measured"])
        value["starts"], value["skipped"] = tuple(value["starts"]), tuple(value["skipped"])
        return cls(**value)

    @property
    def chosen(self) -> Measured:
        """The measurement of the candidate chosen."""
        return next(each for each in self.measured if each.candidate == self.candidate)

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

    def for_length(self, length: Length) -> "Choice":
        """Predict another run's time from the same measurements."""
        low, seconds, high = predict(self.chosen, length, self.starts)
        return replace(self, length=length, seconds=seconds, low=low, high=high)

    def compare(self, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Set the prediction against what a run took.

        Args:
            lines: of the run's ``metrics.jsonl``.
        """
        actual = max((line["seconds"] for line in lines), default=0.0)
        return {
            "candidate": str(self.candidate),
            "predicted_seconds": round(self.seconds, 1),
            "low": round(self.low, 1),
            "high": round(self.high, 1),
            "actual_seconds": round(actual, 1),
            "predicted_peak_gib": round(self.chosen.peak_bytes / 2**30, 3),
        }


def candidates(
    batch: int, layers: int, unsloth: bool, attentions: Sequence[Attention] = ("auto",)
) -> list[Candidate]:
    """List all ways to run a batch, largest micro-batches first.

    Args:
        batch: rows a step; micro-batches times accumulation give exactly this.
        layers: of the model.
        unsloth: whether its checkpointing is there, which parks activations in the host's memory.
        attentions: kernels to try.
    """
    micro = [batch // 2**i for i in range(_HALVINGS) if batch % 2**i == 0]
    ways: list[Checkpointing] = ["every", "unsloth"] if unsloth else ["every"]
    kept = sorted({layers * i // _KEPT_STEPS for i in range(_KEPT_STEPS)})
    found = []
    for attention in attentions:
        for way in ways:
            for rows in micro:
                found += [Candidate(rows, batch // rows, way, k, attention) for k in kept]
                if way == "every":
                    found.append(Candidate(rows, batch // rows, "none", 0, attention))
    return found


def estimate(candidate: Candidate, shape: Shape, optimizer_bytes: int = 8) -> Estimate:
    """Estimate memory and arithmetic by formula.

    Counted are the widths of what a Llama layer's backward pass reads: with Unsloth's kernels
    eight of the hidden width, the keys and values and two of the intermediate width; four and two
    more without. The factors were set against TinyLlama on a GPU (the figures stand in the tests).

    Args:
        candidate: to estimate.
        shape: of the model and the rows.
        optimizer_bytes: state of AdamW a trained weight.
    """
    tokens = candidate.micro_batch * shape.longest
    widths = 8 * shape.hidden + 2 * shape.kv_hidden + 2 * shape.intermediate
    if not shape.fused:
        widths += 4 * shape.hidden + 2 * shape.intermediate
    layer = tokens * shape.weight_bytes * widths
    redone = shape.layers - candidate.kept(shape.layers)
    parked = candidate.checkpointing == "unsloth"
    inputs = 0 if parked else redone * tokens * shape.hidden * shape.weight_bytes
    a_logit = shape.weight_bytes / 2 if shape.fused else shape.weight_bytes + 8
    fixed = shape.parameters * shape.weight_bytes + shape.trainable * (8 + optimizer_bytes)
    peak = fixed + inputs + candidate.held(shape.layers) * layer
    peak += int(tokens * shape.vocabulary * a_logit)
    return Estimate(
        peak_bytes=peak,
        layer_bytes=layer,
        flop_a_token=2 * shape.parameters * (2 + redone / shape.layers),
    )


def predict(
    chosen: Measured, length: Length, starts: Sequence[float]
) -> tuple[float, float, float]:
    """Predict the seconds of a run: lowest, likeliest, highest.

    The batches measured are spread evenly over all lengths, so their mean is the run's. The
    interval is two standard errors of the steps to each side, of what their tokens do not explain,
    with what one start differs from another; 3 % at least.

    Args:
        chosen: way to run.
        length: of the run.
        starts: seconds that processes of its family compiled and allocated.
    """
    steps = chosen.step_seconds
    mean = fmean(steps)
    start = median(starts)
    rest = length.evaluated_rows * chosen.evaluation_seconds
    rest += length.checkpoints * chosen.saving_seconds
    seconds = start + length.steps * mean + rest
    steps_apart = length.steps * 2 * _unexplained(chosen) / math.sqrt(len(steps))
    start_apart = max(_START_SPREAD * start, 2 * pstdev(starts))
    apart = max(_LEAST_INTERVAL * seconds, math.hypot(steps_apart, start_apart))
    return seconds - apart, seconds, seconds + apart


def starts_like(candidate: Candidate, starts: Sequence[Start]) -> tuple[float, ...]:
    """Give the seconds that processes of a candidate's family compiled and allocated.

    Without the first process of all where there are others: a run finds on disk what that one had
    to compile. Offloading allocates what recomputing does not, so other families tell little.

    Args:
        candidate: to run.
        starts: of all measuring processes, in their order.
    """
    own = [(place, told) for place, (kin, told) in enumerate(starts) if kin == candidate.family]
    later = [told for place, told in own if place]
    return tuple(later or [told for _, told in own])


def _unexplained(chosen: Measured) -> float:
    """Give the standard deviation of the step times around a line over their tokens."""
    steps, tokens = chosen.step_seconds, chosen.step_tokens
    if len(set(tokens)) < 2:
        return pstdev(steps)
    slope, start = linear_regression(tokens, steps)
    return pstdev([s - slope * t - start for s, t in zip(steps, tokens, strict=True)])


def length(config: TrainConfig, rows: int, validation_rows: int, processes: int = 1) -> Length:
    """Tell how many steps, evaluations and checkpoints a run has.

    Args:
        config: of the run.
        rows: to train on.
        validation_rows: of one evaluation.
        processes: that share the rows.
    """
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
    """Give the class of an amount of memory: 0 for nearly all of it, each next one for less.

    Args:
        free: bytes to run in.
        total: bytes of the device.
        step: share by which a class may vary; within one of ``MARGIN`` a plan always fits.
    """
    return int(math.log(total / min(max(free, 1), total)) / -math.log(1 - step))
