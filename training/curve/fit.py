"""The law loss = a + b * rows^-c through the losses of runs, and the intervals around it.

Pure: numbers in, numbers out. An interval is 95 % of bootstrap resamples. Each resample draws the
validation rows anew, the same for all sizes, and moves each size by how much runs of several seeds
differ. The seeds' spread and how far the law passes by the sizes' losses are both noise: the one
that says more of it counts. What a handful of runs cannot say of their own spread widens it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.curve.config import FEWEST

Floats = NDArray[np.float64]

RESAMPLES = 1_000
_EXPONENTS = np.geomspace(0.05, 1.0, 80)
# Before any seed was compared, runs are taken to differ by this share of their loss, as surely as
# two comparisons would tell.
_USUAL_SPREAD, _USUAL_WEIGHT = 0.003, 2


@dataclass(frozen=True)
class Law:
    """loss = a + b * (rows / unit)^-c; one law, or several as arrays [laws]."""

    a: Floats
    b: Floats
    c: Floats
    unit: float

    def at(self, rows: float) -> Floats:
        """Return the loss at a number of rows, of each law."""
        loss: Floats = self.a + self.b * (rows / self.unit) ** -self.c
        return loss

    @property
    def factor(self) -> Floats:
        """The b of a + b * rows^-c."""
        factor: Floats = self.b * self.unit**self.c
        return factor

    def each(self) -> Iterator["Law"]:
        """Yield several laws one by one."""
        for a, b, c in zip(self.a, self.b, self.c, strict=True):
            yield Law(a, b, c, self.unit)

    def gains_little_from(self, share: float) -> float:
        """Return the rows from which twice as many lower the loss by less than a share of it.

        Infinity where none are enough; 0 where the law is flat.
        """
        a, b, c = float(self.a), float(self.b), float(self.c)
        excess = b * (1 - share - 2.0**-c)
        if excess <= 0:
            return 0.0
        if share * a * 1e12 <= excess:
            return float("inf")
        return float(self.unit * (excess / (share * a)) ** (1 / c))


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """The losses by size and what they tell."""

    sizes: list[int]
    losses: list[Interval]
    """Of each size, the mean over its seeds."""
    fall: Interval
    """Loss of the smallest size less that of the largest."""
    spread: float
    """Standard deviation of runs that differ in their seed alone, in nats."""
    law: Law | None
    """None: fewer than three sizes."""
    laws: Law | None
    """Of the resamples."""
    noise: Floats
    """What a single run adds to each of those laws, [resamples]."""

    def foretell(self, rows: int) -> Interval:
        """Return the loss that a run on so many rows should reach.

        Raises:
            ValueError: there is no law.
        """
        if self.law is None or self.laws is None:
            raise ValueError("no law goes through fewer than three sizes")
        value = float(self.law.at(rows))
        return _around(value, self.laws.at(rows) + self.noise)


def fit(sizes: Floats, losses: Floats, weights: Floats) -> Law:
    """Fit laws by least squares: a and b in closed form for each exponent, then the best exponent.

    Args:
        sizes: rows, [sizes].
        losses: [laws, sizes].
        weights: of each size, [sizes].

    Returns:
        [laws], with a and b of 0 or more and c from 0.05 to 1: no learner is known to gain faster
        than by 1 / rows for long, and slower than that no few sizes tell from a line.
    """
    unit = float(sizes[-1])
    x = (sizes / unit) ** -_EXPONENTS[:, None]  # [exponents, sizes]
    w = weights / weights.sum()
    mean_x, mean_xx = x @ w, (x * x) @ w  # [exponents]
    mean_y = (losses @ w)[:, None]  # [laws, 1]
    mean_xy = losses @ (x * w).T  # [laws, exponents]
    b = np.maximum((mean_xy - mean_x * mean_y) / (mean_xx - mean_x**2), 0.0)
    a = mean_y - b * mean_x
    b = np.where(a < 0, mean_xy / mean_xx, b)
    a = np.maximum(a, 0.0)
    # What differs between exponents of the mean squared residual.
    rest = a * a + 2 * a * b * mean_x + b * b * mean_xx - 2 * a * mean_y - 2 * b * mean_xy
    best = np.argmin(rest, axis=1)[:, None]
    a, b = (np.take_along_axis(values, best, 1)[:, 0] for values in (a, b))
    return Law(a, b, _EXPONENTS[best[:, 0]], unit)


def estimate(rows: list[int], nats: Floats, tokens: Floats, seed: int) -> Curve:
    """Fit the law through runs, and resample it.

    Args:
        rows: that each run trained on, [runs]; at least one.
        nats: cost of the validation rows to each run, by blocks of rows, [runs, blocks].
        tokens: of those blocks, [blocks].
        seed: of the resamples.
    """
    sizes, place, counts = np.unique(rows, return_inverse=True, return_counts=True)
    mean = np.zeros((len(sizes), len(rows)))
    mean[place, np.arange(len(rows))] = 1 / counts[place]  # [sizes, runs]
    by_run, by_size = nats.sum(1) / tokens.sum(), mean @ nats
    losses = by_size.sum(1) / tokens.sum()
    freedom = len(rows) - len(sizes) + _USUAL_WEIGHT
    usual = _USUAL_WEIGHT * (_USUAL_SPREAD * losses.mean()) ** 2
    variance = (((by_run - losses[place]) ** 2).sum() + usual) / freedom
    has_law = len(sizes) >= FEWEST
    numbers, weights = sizes.astype(float), counts.astype(float)
    law = fit(numbers, losses[None], weights) if has_law else None
    scale = _misfit(law, numbers, losses, weights / variance) if law else 1.0

    draw = np.random.default_rng(seed)
    drawn = draw.multinomial(len(tokens), np.full(len(tokens), 1 / len(tokens)), RESAMPLES)
    # Of few comparisons the spread itself is unsure: it is drawn as well.
    spread = scale * np.sqrt(variance * freedom / draw.chisquare(freedom, RESAMPLES))
    moved = draw.standard_normal((RESAMPLES, len(sizes))) * spread[:, None] / np.sqrt(counts)
    resampled = (drawn @ by_size.T) / (drawn @ tokens)[:, None] + moved
    return Curve(
        sizes=[int(size) for size in sizes],
        losses=[_around(float(losses[i]), resampled[:, i]) for i in range(len(sizes))],
        fall=_around(float(losses[0] - losses[-1]), resampled[:, 0] - resampled[:, -1]),
        spread=float(np.sqrt(variance)),
        law=Law(law.a[0], law.b[0], law.c[0], law.unit) if law else None,
        laws=fit(numbers, resampled, weights) if has_law else None,
        noise=draw.standard_normal(RESAMPLES) * spread,
    )


def _misfit(law: Law, sizes: Floats, losses: Floats, weights: Floats) -> float:
    """Return how many times as far as seeds explain the law passes by the losses, at least 1.

    Known as Birge's ratio: the root of chi-squared by its degrees of freedom.
    """
    freedom = len(sizes) - FEWEST
    if not freedom:
        return 1.0
    missed = np.array([float(law.at(size)[0]) for size in sizes]) - losses
    return max(1.0, float(np.sqrt((weights * missed**2).sum() / freedom)))


def _around(value: float, resampled: Floats) -> Interval:
    """Return a figure with its interval, which holds it whatever the resamples lean to."""
    low, high = (float(edge) for edge in np.quantile(resampled, (0.025, 0.975)))
    return Interval(value, min(low, value), max(high, value))
