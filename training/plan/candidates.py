"""Ways of running a batch: candidates, estimates by formula, what was measured. Pure.

What a candidate takes is measured elsewhere; the estimates here only keep hopeless ones from being
tried and order the search.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Checkpointing = Literal["none", "unsloth", "every"]
Attention = Literal["auto", "sdpa", "flash_attention_2", "eager"]
Family = tuple[Checkpointing, Attention]

MARGIN = 0.1
"""Share of the memory limit that a chosen candidate leaves free: more batches fragment the heap
more. On a GPU, 40 steps took 4 % above the plan's peak, the third run of a process 7 %."""

OUT_OF_MEMORY = "out of memory"
"""The fault of a candidate that does not fit."""

_HALVINGS = 6
# Without Unsloth, TRL makes the logits of so many tokens at a time, in 32 bits and several copies.
_CHUNK, _CHUNK_BYTES = 256, 16
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
        """Count the layers of a model that keep their activations."""
        return layers if self.checkpointing == "none" else self.keep_layers

    def at_once(self, layers: int) -> int:
        """Count the layers whose activations are in memory at the same time.

        Those of the layers that keep them are gone before the others are recomputed one by one.
        """
        return max(self.kept(layers), 1)

    @property
    def is_recorded(self) -> bool:
        """Whether its layers' launches may be recorded, see ``training.loop.graphs``."""
        return self.checkpointing == "none"

    @property
    def family(self) -> Family:
        """What a model that is loaded can no longer change."""
        return ("every" if self.checkpointing == "none" else self.checkpointing, self.attention)

    def __str__(self) -> str:
        way = {"none": "keep all", "every": "recompute", "unsloth": "offload"}[self.checkpointing]
        kept = f", {self.keep_layers} kept" if self.keep_layers else ""
        attention = "" if self.attention == "auto" else f", {self.attention}"
        return f"{self.micro_batch} x {self.accumulation}, {way}{kept}{attention}"


@dataclass(frozen=True)
class ModelShape:
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
    """Whether Unsloth's kernels keep less."""
    frozen_bytes: int = 0
    """Of the base's weights; 0: as many as the precision takes, without quantisation."""


@dataclass(frozen=True)
class MemoryEstimate:
    """By formula, to within some 30 %."""

    peak_bytes: int
    fixed_bytes: int
    """Of it, what takes the same for any micro-batch: weights, gradients, optimizer."""
    flop_a_token: float


@dataclass(frozen=True)
class Speed:
    """What bounds the speed of all candidates on this machine."""

    flops: float
    """FLOP/s of large matrix products."""
    row_tokens: dict[int, float]
    """Tokens of a row on average, padding included, by the rows at a time."""
    shared: int = 0
    """Of them, those that all rows begin with: layers that are recorded may see them once."""


@dataclass(frozen=True)
class Measured:
    """What a candidate took on the machine."""

    candidate: Candidate
    estimated_bytes: int = 0
    peak_bytes: int = 0
    """Over the longest rows of the subset, with evaluation and saving."""
    samples_per_second: float = 0.0
    """Of the batches that count, or of one where it was left."""
    tokens_per_second: float = 0.0
    """Likewise; without padding."""
    step_seconds: tuple[float, ...] = ()
    """Of batches of short, middling and long rows, where steps are quick seen the second time: the
    first pass compiles and allocates for some."""
    step_tokens: tuple[int, ...] = ()
    """Of the same batches, with padding."""
    glance_seconds: float = 0.0
    """Of the batch of middling length, to compare others by."""
    is_left: bool = False
    """Whether it was left after that batch, as another is surely faster."""
    cold_seconds: float = 0.0
    """What its process compiled and allocated, over all its first steps."""
    recording_seconds: float = 0.0
    """Of CUDA graphs, for all the shapes of a run; no part of its steps."""
    evaluation_seconds: float = 0.0
    """A validation row."""
    saving_seconds: float = 0.0
    measuring_seconds: float = 0.0
    """Of the measuring itself."""
    fault: str = ""
    """Why there are no figures; empty: there are."""

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Measured":
        """Build one from the result of ``dataclasses.asdict``.

        Raises:
            KeyError, TypeError: it is none.
        """
        lists = {name: tuple(value[name]) for name in ("step_seconds", "step_tokens")}
        return cls(**value | {"candidate": Candidate(**value["candidate"])} | lists)

    def fits(self, limit: int) -> bool:
        """Return whether it ran to the end and left the margin."""
        return not self.fault and not self.is_left and self.peak_bytes <= limit * (1 - MARGIN)

    @property
    def mean_step(self) -> float:
        """Seconds of a step of the run on average."""
        return self.candidate.micro_batch * self.candidate.accumulation / self.samples_per_second


def micro_batches(batch: int) -> list[int]:
    """List the numbers of rows at a time that make exactly a batch, largest first."""
    return [batch // 2**i for i in range(_HALVINGS) if batch % 2**i == 0]


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
    ways: list[Checkpointing] = ["every", "unsloth"] if unsloth else ["every"]
    kept = sorted({layers * i // _KEPT_STEPS for i in range(_KEPT_STEPS)})
    grid = []
    for attention, way, rows in itertools.product(attentions, ways, micro_batches(batch)):
        grid += [Candidate(rows, batch // rows, way, k, attention) for k in kept]
        if way == "every":
            grid.append(Candidate(rows, batch // rows, "none", 0, attention))
    return grid


def estimate(candidate: Candidate, shape: ModelShape, optimizer_bytes: int = 8) -> MemoryEstimate:
    """Estimate memory and arithmetic by formula; AdamW keeps ``optimizer_bytes`` a trained weight.

    Counted are the widths of what a Llama layer's backward pass reads: with Unsloth's kernels
    eight of the hidden width, the keys and values and two of the intermediate width; four and two
    more without. The factors were set against TinyLlama on a GPU (the figures are in the tests).
    """
    tokens = candidate.micro_batch * shape.longest
    widths = 8 * shape.hidden + 2 * shape.kv_hidden + 2 * shape.intermediate
    if not shape.fused:
        widths += 4 * shape.hidden + 2 * shape.intermediate
    layer = tokens * shape.weight_bytes * widths
    redone = shape.layers - candidate.kept(shape.layers)
    parked = candidate.checkpointing == "unsloth"
    inputs = 0 if parked else redone * tokens * shape.hidden * shape.weight_bytes
    weights = shape.frozen_bytes or shape.parameters * shape.weight_bytes
    fixed = weights + shape.trainable * (8 + optimizer_bytes)
    peak = fixed + inputs + candidate.at_once(shape.layers) * layer
    if shape.fused:
        peak += tokens * shape.vocabulary * shape.weight_bytes // 2
    else:
        peak += _CHUNK * shape.vocabulary * _CHUNK_BYTES
    # A head or embedding is left out, so that the arithmetic is a lower bound.
    matrices = shape.parameters - shape.vocabulary * shape.hidden
    return MemoryEstimate(
        peak_bytes=peak,
        fixed_bytes=fixed,
        flop_a_token=2 * matrices * (2 + redone / shape.layers),
    )
