"""Settings of ``curve``. Imports nothing heavy."""

from dataclasses import dataclass, field

from data.artefacts.manifest import placement
from data.errors import ConfigError
from training.config import TrainConfig, at_least

FEWEST = 3
"""Sizes that a law of three numbers goes through."""


@dataclass(frozen=True)
class CurveConfig(TrainConfig):
    """Tell how many rows are enough: train on nested sizes of a subset and foretell larger ones.

    Takes a training recipe. Every size is trained from nothing. Run it again after an interruption:
    it goes on.
    """

    out: str = placement("data/store/curves/all")
    """Folder for the curve, its subsets and its runs; local."""

    sizes: list[int] = field(default_factory=list)
    """Train rows of each size, rising, at least three: '[500,1000,2000,4000]'."""

    seeds: int | None = None
    """Runs of each size, which differ in their seed. None: up to 3, fewer for large sizes, so that
    all further seeds together cost no more than the largest size's first run."""

    predict: int | None = None
    """Rows whose loss is foretold; none: all of the subset's, or ten times the largest size where
    that is all of them."""

    evaluate: bool = False
    """Let `inference evaluate` judge the first seed's runs on the subset's test rows as well."""

    overwrite: bool = placement(False)
    """Replace an earlier curve; runs that are the same are taken as they are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        flag, sizes = "--sizes", ", ".join(map(str, self.sizes)) or "none"
        if len(self.sizes) < FEWEST:
            expected = f"at least {FEWEST} sizes, such as '[500,1000,2000]'"
            raise ConfigError(flag, expected, sizes)
        if self.sizes[0] < 1 or sorted(set(self.sizes)) != self.sizes:
            raise ConfigError(flag, "numbers of rows from 1 on, each larger than the last", sizes)
        at_least("--seeds", 1, self.seeds)
        at_least("--predict", 1, self.predict)
