"""What a subset is made of."""

from dataclasses import dataclass
from typing import Literal

from data.artefacts.manifest import placement
from data.errors import ConfigError


@dataclass(frozen=True)
class SubsetConfig:
    """Choose rows of the clean catalogue and write them as a memory-mapped dataset.

    Rows with the same title and description are taken once. Rows of nearly the same description,
    or of the same title but for case and punctuation, are a family; a held-out row is left out
    where a row of its family is for training, whatever the size.
    """

    clean: str = placement("data/store/clean")
    """Folder of the clean shards."""

    out: str = placement("data/store/subsets/all")
    """Folder for the dataset; local, as it is memory-mapped."""

    size: int | None = None
    """Train rows to take; none: all of them."""

    order: Literal["sample", "file"] = "sample"
    """By sample key, or as the file has them (the notebook's head(n), a biased sample)."""

    validation: int = 1_000
    """Validation rows at most."""

    test: int = 1_000
    """Test rows at most."""

    similarity: float = 0.7
    """Share of the triples of words of either of two descriptions that both have, from which on
    they are near duplicates: 0.5 to 1 (an estimated Jaccard index)."""

    near_duplicates: Literal["keep", "once"] = "keep"
    """Train on all rows of a family, or on the one of smallest sample key."""

    overwrite: bool = placement(False)
    """Replace the output of an earlier run."""

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ConfigError("--size", "at least 1", str(self.size))
        for name in ("validation", "test"):
            if getattr(self, name) < 0:
                raise ConfigError(f"--{name}", "0 or more", str(getattr(self, name)))
        if not 0.5 <= self.similarity <= 1:
            raise ConfigError("--similarity", "0.5 to 1", str(self.similarity))
