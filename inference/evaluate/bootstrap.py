"""Bootstrap intervals over rows: the same resamples for every candidate, so differences are paired.

Pure numpy. A score is a function of sums over rows, so a resample is a vector of weights and all
resamples are one matrix product (Efron 1979; Koehn 2004 for corpus scores).
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]
"""Sums [samples, k] -> scores [samples]; NaN where a score is not defined."""

_Key = TypeVar("_Key", bound=Hashable)
_AT_ONCE = 4_000_000
_LEAST_DEFINED = 0.95


@dataclass(frozen=True)
class Estimate:
    """A score with its interval; None where it is not defined, as for a single row."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Sample:
    """A score of all rows and of every resample."""

    value: float
    drawn: Floats
    """[resamples]"""
    rows: int

    def estimate(self, level: float = 0.95) -> Estimate:
        """Return the score with its percentile interval."""
        if not np.isfinite(self.value):
            return Estimate(None)
        drawn = self.drawn[np.isfinite(self.drawn)]
        if self.rows < 2 or len(drawn) < _LEAST_DEFINED * len(self.drawn):
            return Estimate(float(self.value))
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        return Estimate(float(self.value), float(low), float(high))

    def minus(self, other: "Sample") -> "Sample":
        """Return the paired difference: both of the same rows and resamples."""
        return Sample(self.value - other.value, self.drawn - other.drawn, self.rows)


def weights(rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Draw how often each row stands in each resample: batches of [some resamples, rows]."""
    draw = np.random.default_rng(seed)
    step = max(_AT_ONCE // max(rows, 1), 1)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        yield draw.multinomial(rows, np.full(rows, 1 / rows), size=count).astype(np.float64)


def resample(
    stats: dict[_Key, tuple[Floats, Score]], resamples: int, seed: int
) -> dict[_Key, Sample]:
    """Score all rows and every resample.

    Args:
        stats: by name, what each row adds [rows, k] and the score of the sums.
        resamples: how many.
        seed: the same one gives the same resamples.
    """
    if not stats:
        return {}
    everything = np.concatenate([table for table, _ in stats.values()], axis=1)
    rows = len(everything)
    sums = np.concatenate([batch @ everything for batch in weights(rows, resamples, seed)])
    total = everything.sum(axis=0, keepdims=True)
    samples: dict[_Key, Sample] = {}
    at = 0
    for name, (table, score) in stats.items():
        piece = slice(at, at + table.shape[1])
        at = piece.stop
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            value, drawn = score(total[:, piece])[0], score(sums[:, piece])
        samples[name] = Sample(float(value), drawn, rows)
    return samples


def ratio(sums: Floats) -> Floats:
    """Score sums [samples, 2] as the first over the second."""
    scores: Floats = np.full(len(sums), np.nan)
    np.divide(sums[:, 0], sums[:, 1], out=scores, where=sums[:, 1] != 0)
    return scores


def percent(sums: Floats) -> Floats:
    """Score sums [samples, 2] as a percentage."""
    return 100 * ratio(sums)


def perplexity(sums: Floats) -> Floats:
    """Score sums of negative log-likelihoods and tokens [samples, 2], weighted by tokens."""
    return np.asarray(np.exp(ratio(sums)))
