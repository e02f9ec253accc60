"""Shapes of what is built: the adapter, and a tiny base. Imports nothing heavy."""

from dataclasses import dataclass, field

from data.errors import ConfigError

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
    """Tokens at most; a tiny subset makes fewer."""

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
    """Tokens of a row that pre-training reads; where a description names its product early, a
    short beginning teaches that faster."""

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
