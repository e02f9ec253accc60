"""Settings of the commands. Imports nothing heavy."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from data.artefacts.manifest import OPTIONAL, placement
from data.console import parse_memory
from data.errors import ConfigError
from data.prompt import SHOPPER, Prompt

TRACKERS = {
    **{name: name for name in (
        "clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "kubeflow", "mlflow",
        "neptune", "swanlab", "tensorboard", "trackio", "wandb",
    )},
    "azure_ml": "azureml", "flyte": "flytekit",
}  # fmt: skip
"""Trackers that the Trainer knows, with the module of each."""
_ALL_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def at_least(flag: str, low: float, value: float | None) -> None:
    """Check a lower bound; None is allowed.

    Raises:
        ConfigError: the value is smaller.
    """
    if value is not None and value < low:
        raise ConfigError(flag, f"at least {low}", str(value))


@dataclass(frozen=True)
class LoraSettings:
    """Shape of the adapter (LoRA, https://arxiv.org/abs/2106.09685)."""

    r: int = 16
    """Rank of every low-rank update."""

    alpha: int = 16
    """Scale: an update counts alpha / r, or alpha / sqrt(r) with use_rslora."""

    dropout: float = 0.0
    """Share of an update's inputs dropped in training; 0 is fastest under Unsloth."""

    use_rslora: bool = True
    """Scale by the square root of r (rsLoRA, https://arxiv.org/abs/2312.03732)."""

    target_modules: list[str] = field(default_factory=lambda: list(_ALL_PROJECTIONS))
    """Names of the linear layers that get an update."""

    def __post_init__(self) -> None:
        at_least("--lora.r", 1, self.r)
        at_least("--lora.alpha", 1, self.alpha)
        if not 0 <= self.dropout < 1:
            raise ConfigError("--lora.dropout", "0 to below 1", str(self.dropout))
        if not self.target_modules:
            raise ConfigError("--lora.target_modules", "names of layers", "none")


@dataclass(frozen=True)
class TinyBase:
    """A Llama so small that a CPU trains it in a minute, made from the subset's own text."""

    vocabulary: int = 2_000
    """Tokens at most; a tiny subset has fewer."""

    hidden: int = 64
    """Width of the model."""

    intermediate: int = 192
    """Width of its feed-forward layers."""

    layers: int = 2
    """Number of layers."""

    heads: int = 4
    """Query heads a layer."""

    kv_heads: int = 2
    """Key and value heads a layer; divides heads."""

    steps: int = 1_200
    """Steps of pre-training on titles and descriptions, without any prompt."""

    batch_size: int = 8
    """Rows a step of pre-training."""

    tokens: int = 2_048
    """Tokens of a row that pre-training reads; where descriptions name their product early, few
    tokens teach that faster."""

    learning_rate: float = 1e-2
    """Highest rate of pre-training."""

    def __post_init__(self) -> None:
        for name in ("hidden", "intermediate", "layers", "heads", "kv_heads", "batch_size"):
            at_least(f"--tiny.{name}", 1, getattr(self, name))
        at_least("--tiny.tokens", 2, self.tokens)
        # 256 bytes and the three special tokens are always in.
        at_least("--tiny.vocabulary", 260, self.vocabulary)
        at_least("--tiny.steps", 0, self.steps)
        if self.hidden % (2 * self.heads):
            expected = f"a multiple of twice heads={self.heads}"
            raise ConfigError("--tiny.hidden", expected, str(self.hidden))
        if self.heads % self.kv_heads:
            expected = f"a divisor of heads={self.heads}"
            raise ConfigError("--tiny.kv_heads", expected, str(self.kv_heads))


@dataclass(frozen=True)
class Optimisation:
    """How the adapter learns. One step sees batch_size rows, micro_batch_size at a time."""

    batch_size: int = 32
    """Rows an optimizer step, on all devices together."""

    micro_batch_size: int | None = None
    """Rows at a time; divides batch_size. None: the whole batch at once."""

    max_tokens: int | None = None
    """Tokens a micro-batch at most, rows times the longest of them; one with more, which holds a
    rare long row, goes through the model in pieces: same step, less memory. None: any number."""

    epochs: float = 3.0
    """Passes over the train rows; max_steps wins where set."""

    max_steps: int | None = None
    """Stop after so many optimizer steps."""

    learning_rate: float = 1e-3
    """Highest rate, reached after the warm-up."""

    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Course of the rate after the warm-up; linear and cosine end at 0."""

    warmup_steps: float = 0.03
    """Steps that raise the rate from 0: 1 and above a number of steps, below 1 a share of all."""

    weight_decay: float = 0.01
    """Of AdamW."""

    optimizer: Literal["adamw_torch", "adamw_torch_fused", "adamw_8bit"] = "adamw_torch"
    """adamw_8bit needs a GPU; without one adamw_torch takes its place, with a warning."""

    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0: never."""

    precision: Literal["auto", "bf16", "fp16", "float32"] = "auto"
    """Of weights and arithmetic; auto: bf16 where the GPU has it of its own, fp16 with a gradient
    scaler on older ones (T4, V100, RTX 20), float32 without a GPU."""

    gradient_checkpointing: Literal["none", "unsloth", "every"] = "none"
    """Recompute activations instead of keeping them: not, Unsloth's way, or in every layer."""

    keep_layers: int = 0
    """Number of last layers that keep their activations while the others recompute them."""

    attention: Literal["auto", "sdpa", "flash_attention_2", "eager"] = "auto"
    """Kernel of the attention; auto: the backend's own choice. Unsloth always takes its own."""

    order: Literal["random", "by_length"] = "by_length"
    """Order of the rows, keyed by seed and epoch; by_length puts rows of like length in a batch."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "micro_batch_size", "max_tokens", "max_steps"):
            at_least(f"--optimisation.{name}", 1, getattr(self, name))
        for name in ("keep_layers", "warmup_steps", "weight_decay", "max_grad_norm"):
            at_least(f"--optimisation.{name}", 0, getattr(self, name))
        for name in ("epochs", "learning_rate"):
            value = getattr(self, name)
            if not value > 0:  # a NaN as well
                raise ConfigError(f"--optimisation.{name}", "more than 0", str(value))
        if self.batch_size % self.micro_batch:
            expected = f"a divisor of batch_size={self.batch_size}"
            raise ConfigError("--optimisation.micro_batch_size", expected, str(self.micro_batch))
        if self.warmup_steps >= 1 and self.warmup_steps != int(self.warmup_steps):
            expected = "a share below 1 or a whole number of steps"
            raise ConfigError("--optimisation.warmup_steps", expected, str(self.warmup_steps))

    @property
    def micro_batch(self) -> int:
        """Rows that go through the model at a time, on one device."""
        return self.micro_batch_size or self.batch_size

    def rows_at_a_time(self, processes: int = 1) -> int:
        """Rows at a time on each of several devices, which share the batch."""
        return min(self.micro_batch, self.batch_size // processes)

    def accumulation(self, processes: int = 1) -> int:
        """Micro-batches of a device whose gradients add up to one step.

        Raises:
            ConfigError: the batch cannot be shared out evenly.
        """
        rows = self.rows_at_a_time(processes)
        if not rows or self.batch_size % (rows * processes):
            expected = f"a multiple of {max(rows, 1)} rows x {processes} devices"
            raise ConfigError("--optimisation.batch_size", expected, str(self.batch_size))
        return self.batch_size // (rows * processes)


@dataclass(frozen=True)
class Checkpoints:
    """When to evaluate on the validation rows and when to save."""

    eval_steps: int | None = None
    """Evaluate after so many steps and at the end; none: never."""

    save_steps: int = 200
    """Save after so many steps and at the end; a resumed run goes on from there."""

    save_total_limit: int = placement(2)
    """Checkpoints kept, the best among them."""

    keep_best: bool = False
    """Save whenever the validation loss is the lowest so far, and make the adapter from that."""

    patience: int | None = None
    """Stop after so many evaluations without a better one; none: train to the end."""

    def __post_init__(self) -> None:
        at_least("--checkpoints.eval_steps", 1, self.eval_steps)
        at_least("--checkpoints.save_steps", 1, self.save_steps)
        # The newest one may be half-written when the machine stops.
        at_least("--checkpoints.save_total_limit", 2, self.save_total_limit)
        at_least("--checkpoints.patience", 1, self.patience)
        if self.eval_steps is None and (self.keep_best or self.patience):
            reason = "keep_best chooses" if self.keep_best else "patience judges"
            expected = f"a number of steps, as {reason} by validation loss"
            raise ConfigError("--checkpoints.eval_steps", expected, "none")

    def by_thirds(self, steps: int) -> "Checkpoints":
        """Evaluate after each third of so many steps and keep the best, so that runs compare."""
        third = math.ceil(steps / 3)
        return replace(
            self, eval_steps=third, save_steps=min(third, self.save_steps), keep_best=True,
            patience=None,
        )  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """Fine-tune a LoRA adapter on a subset, so that a title becomes its description.

    Run it again after an interruption: it goes on from the newest checkpoint.
    """

    subset: str = placement("data/store/subsets/all")
    """Folder of the subset; local, as it is memory-mapped."""

    out: str = placement("data/store/runs/all")
    """Folder for the adapter, checkpoints, metrics and loss curve; local."""

    base: str = "unsloth/tinyllama"
    """Model to adapt: an id on the Hugging Face hub or a local folder; unused where tiny is set."""

    tiny: TinyBase | None = None
    """Where set, a tiny base is built from the subset first, into the run's own folder."""

    backend: Literal["auto", "unsloth", "transformers"] = "auto"
    """What trains; auto takes unsloth where it imports, and prints its choice."""

    quantize: Literal["nf4"] | None = field(default=None, metadata=OPTIONAL)
    """Hold the base in 4 bits while training (QLoRA: NF4, double quantisation), a quarter of the
    memory; the adapter is then used on the base as it is. None: in the precision of the arithmetic.
    """

    init_adapter: str | None = None
    """Go on from this adapter of the same base and LoRA settings, with a fresh schedule."""

    prompt: Prompt = field(default_factory=lambda: Prompt(instruction=list(SHOPPER)))
    """How a title becomes a prompt."""

    loss_on: Literal["completion", "full"] = "completion"
    """Learn the description only, or the prompt as well."""

    max_length: int = 512
    """Tokens a row at most, prompt, description and end-of-sequence together."""

    max_truncated_share: float = placement(0.01)
    """Refuse to train when a larger share of the descriptions does not fit into max_length."""

    lora: LoraSettings = field(default_factory=LoraSettings)
    """Shape of the adapter."""

    optimisation: Optimisation = field(default_factory=Optimisation)
    """How the adapter learns."""

    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    """When to evaluate and save."""

    seed: int = 3407
    """Decides the adapter's first weights and the order of the rows."""

    logging_steps: int = placement(1)
    """Write a line of metrics after so many steps."""

    report_to: list[str] = field(default_factory=list, metadata={"identity": False})
    """Trackers that the Trainer knows, such as trackio and tensorboard; none are needed."""

    tokenized: str = placement("data/store/tokenized")
    """Folder where tokenised rows are kept for the next run; local."""

    plan: str | None = placement(None)
    """Take micro-batch, checkpointing and attention from a plan: auto, which makes it where there
    is none for this machine, or the path of a plan.json. None: take them from here."""

    plans: str = placement("data/store/plans")
    """Folder where plans are kept; local."""

    memory_limit: str | None = placement(None)
    """Use no more GPU memory than this, 11.65GiB for instance, to stand in for a smaller card."""

    preview: int = placement(0)
    """Only show so many rows as the model would see them, the learned tokens in colour."""

    overwrite: bool = placement(False)
    """Replace the output of an earlier run."""

    def __post_init__(self) -> None:
        # Room for a prompt, a token of the description and the end-of-sequence.
        at_least("--max_length", 8, self.max_length)
        at_least("--logging_steps", 1, self.logging_steps)
        at_least("--preview", 0, self.preview)
        if not 0 <= self.max_truncated_share <= 1:
            raise ConfigError("--max_truncated_share", "0 to 1", str(self.max_truncated_share))
        if strange := [name for name in self.report_to if name not in TRACKERS]:
            raise ConfigError("--report_to", f"some of {', '.join(TRACKERS)}", ", ".join(strange))
        if self.memory_limit is not None:
            parse_memory(self.memory_limit)
        checkpointing = self.optimisation.gradient_checkpointing
        if self.backend == "transformers" and checkpointing == "unsloth":
            expected = "none or every, as the backend is transformers"
            raise ConfigError("--optimisation.gradient_checkpointing", expected, checkpointing)

    @classmethod
    def of(cls, config: "TrainConfig") -> Self:
        """Return the settings of a run alone, of a command that has more."""
        names = TrainConfig.__dataclass_fields__
        return cls(**{name: getattr(config, name) for name in names})


@dataclass(frozen=True)
class PlanConfig(TrainConfig):
    """Measure which micro-batch and checkpointing fit this machine and are fastest.

    Takes a training recipe. The plan is kept for `run --plan auto` with the same recipe.
    """

    steps: int = 6
    """Batches of all lengths measured a candidate, each twice; fewer and once where steps take
    seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("--steps", 2, self.steps)
