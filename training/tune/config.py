"""Settings of ``tune``. Imports nothing heavy."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from typing import Any

from data.artefacts.manifest import placement
from data.errors import ConfigError
from training.config import TrainConfig, at_least

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
Values = list[float]


@dataclass(frozen=True)
class Range:
    """Any number from low to high, drawn evenly by its logarithm where low is above 0."""

    low: float
    high: float


@dataclass(frozen=True)
class Space:
    """What is tried: each setting a list of values, or {low, high}; those left out stay as are."""

    learning_rate: Values | Range | None = field(
        default_factory=lambda: [1e-4, 2e-4, 5e-4, 1e-3, 2e-3]
    )
    """Highest rates."""

    batch_size: list[int] | None = field(default_factory=lambda: [32, 64, 128])
    """Rows an optimizer step."""

    rank: list[int] | None = None
    """Ranks of the adapter (lora.r)."""

    epochs: Values | Range | None = None
    """Passes over the train rows."""

    warmup_steps: Values | None = None
    """As optimisation.warmup_steps."""

    weight_decay: Values | Range | None = None
    """Of AdamW."""

    def __post_init__(self) -> None:
        if not self.dimensions:
            raise ConfigError("--space", "a setting with values to try", "none")
        for name, values in self.dimensions.items():
            flag = f"--space.{name}"
            if isinstance(values, Range):
                if not 0 <= values.low < values.high < math.inf:
                    found = f"{values.low} to {values.high}"
                    raise ConfigError(flag, "a range from 0, its low end below its high one", found)
            elif not values or len(set(values)) < len(values) or not all(map(isfinite, values)):
                found = ", ".join(map(str, values)) or "none"
                raise ConfigError(flag, "different numbers", found)

    @property
    def dimensions(self) -> dict[str, Values | list[int] | Range]:
        """Return the settings that are searched, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def size(self) -> float:
        """Return the number of combinations; infinite with a range."""
        sides = self.dimensions.values()
        return math.prod(math.inf if isinstance(side, Range) else len(side) for side in sides)


@dataclass(frozen=True)
class TuneConfig(TrainConfig):
    """Search the settings that end with the lowest validation loss.

    Takes a training recipe and changes what ``space`` names. Every trial is a run with the schedule
    of a whole one, halted early where it is behind and gone on with where it is wanted after all.
    """

    out: str = placement("data/store/tunes/all")
    """Folder for the trials, the best recipe and the picture; local."""

    space: Space = field(default_factory=Space)
    """What is tried."""

    trials: int | None = None
    """Combinations to try; none: as many as there are, or 15 of ranges, or as the budget allows."""

    budget: str | None = placement(None)
    """Time to search in, such as 90m or 2h; none: as long as it takes. An interrupted search may go
    on with another one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("--trials", 1, self.trials)
        if self.budget is not None:
            parse_time(self.budget)
        if self.plan not in (None, "auto"):
            raise ConfigError("--plan", "auto or none: each batch size has its own", self.plan)
        if self.space.epochs and self.optimisation.max_steps:
            expected = "none, as max_steps decides how long a run is"
            hint = "set --optimisation.max_steps null"
            raise ConfigError("--space.epochs", expected, str(self.space.epochs), hint)
        if self.init_adapter and self.space.rank:
            expected = "none, as the adapter to go on from has its own"
            raise ConfigError("--space.rank", expected, str(self.space.rank))
        for name, side in self.space.dimensions.items():
            for value in [side.low, side.high] if isinstance(side, Range) else side:
                applied(self, {name: value})  # raises what makes no sense


def parse_time(text: str) -> float:
    """Return the seconds of a time such as 90s, 45m, 2h or 1.5d.

    Raises:
        ConfigError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if not match or not float(match[1]):
        raise ConfigError("--budget", "a time such as 90m or 2h", text)
    return float(match[1]) * _UNITS[match[2]]


def applied(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """Return a recipe with a trial's values in it.

    Raises:
        ConfigError: a value makes no sense.
    """
    how = dict(values)
    lora = replace(config.lora, r=how.pop("rank", config.lora.r))
    batch = how.get("batch_size", config.optimisation.batch_size)
    micro = config.optimisation.micro_batch_size
    how["micro_batch_size"] = math.gcd(batch, micro) if micro else None
    optimisation = replace(config.optimisation, **how)
    return replace(TrainConfig.of(config), lora=lora, optimisation=optimisation)
