"""Intervals: they hold the truth as often as they say, and differences are paired."""

import math

import numpy as np
import pytest

from inference.evaluate.metrics import (
    Estimate,
    Sample,
    combine,
    exact_interval,
    percent,
    perplexity,
    ratio,
    resample,
    share,
    weights,
)


def _mean(values: np.ndarray) -> tuple[np.ndarray, object]:
    return np.stack([values, np.ones(len(values))], axis=1), ratio


def test_intervals_cover_the_truth_in_about_95_of_100() -> None:
    draw = np.random.default_rng(5)
    hits = 0
    for trial in range(300):
        values = draw.exponential(2.0, size=120)
        estimate = resample({"mean": _mean(values)}, 400, trial)["mean"].estimate()
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= 2.0 <= estimate.high
    assert 0.91 * 300 <= hits <= 0.98 * 300


def test_intervals_of_a_ratio_of_sums_cover_the_truth() -> None:
    draw = np.random.default_rng(6)
    hits = 0
    for trial in range(300):
        tokens = draw.integers(20, 200, size=120).astype(float)
        nats = tokens * draw.normal(1.5, 0.4, size=120)
        table = np.stack([nats, tokens], axis=1)
        estimate = resample({"p": (table, perplexity)}, 400, trial)["p"].estimate()
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= np.exp(1.5) <= estimate.high
    assert 0.91 * 300 <= hits <= 0.98 * 300


def test_differences_are_paired() -> None:
    draw = np.random.default_rng(7)
    hard = draw.normal(50, 20, size=200)
    samples = resample({"one": _mean(hard + 1), "other": _mean(hard)}, 500, 1)
    gain = samples["one"].minus(samples["other"]).estimate()
    assert (gain.value, gain.low, gain.high) == pytest.approx((1, 1, 1))
    apart = samples["one"].estimate()
    assert apart.high is not None
    assert apart.low is not None
    assert apart.high - apart.low > 4


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.arange(50.0)
    one, same, other = (
        resample({"m": _mean(values)}, 200, seed)["m"].estimate() for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_every_resample_holds_as_many_rows() -> None:
    drawn = np.concatenate(list(weights(40, 70, 1)))
    assert drawn.shape == (70, 40)
    assert (drawn.sum(axis=1) == 40).all()


@pytest.mark.parametrize("rows", [1, 2, 19])
def test_few_rows_have_no_interval(rows: int) -> None:
    values = np.arange(rows, dtype=float) * 2
    estimate = resample({"m": _mean(values)}, 200, 1)["m"].estimate()
    assert estimate == Estimate(rows - 1.0)


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [
        (0, 64, 0.0, 5.6),
        (0, 300, 0.0, 1.22),
        (32, 64, 37.23, 62.77),
        (297, 300, 97.11, 99.79),
        (1, 1, 2.5, 100.0),
        (300, 300, 98.78, 100.0),
        (5_000, 100_000, 4.87, 5.14),
    ],
)
def test_exact_intervals(part: int, whole: int, low: float, high: float) -> None:
    """Clopper and Pearson's, as tables and R's binom.test have them."""
    ends = [100 * end for end in exact_interval(part, whole)]
    assert ends == pytest.approx([low, high], abs=0.01)


@pytest.mark.parametrize(("part", "whole"), [(1, 2), (3, 7), (2, 40), (39, 40), (150, 200)])
def test_exact_intervals_leave_out_2_5_percent_on_each_side(part: int, whole: int) -> None:
    def chance(share: float, counts: range) -> float:
        return sum(math.comb(whole, k) * share**k * (1 - share) ** (whole - k) for k in counts)

    low, high = exact_interval(part, whole)
    assert chance(low, range(part, whole + 1)) == pytest.approx(0.025)
    assert chance(high, range(part + 1)) == pytest.approx(0.025)


def test_a_share_of_texts_has_an_exact_interval() -> None:
    table = np.stack([np.arange(12) < 3, np.ones(12)], axis=1).astype(float)
    sample = resample({"s": (table, share)}, 200, 1)["s"]
    assert sample.count == (3, 12)
    low, high = exact_interval(3, 12)
    assert sample.estimate() == Estimate(25.0, 100 * low, 100 * high)
    # A difference of two shares is none itself.
    assert sample.minus(sample).count is None


def test_figures_of_other_rows_are_combined_a_block_at_a_time() -> None:
    one = Sample(6.0, np.array([6.0, 9.0]), 40, np.array([5.0, 7.0]))
    other = Sample(3.0, np.array([2.0, 3.0]), 30, np.array([2.0]))
    quotient = combine(np.divide, one, other, are_paired=False)
    assert (quotient.value, quotient.rows) == (2.0, 30)
    assert quotient.drawn.tolist() == [3.0, 3.0]
    assert quotient.without.tolist() == [5 / 3, 7 / 3, 3.0]


def test_what_is_not_defined_is_none_and_never_nan() -> None:
    table = np.zeros((5, 2))
    assert resample({"m": (table, percent)}, 200, 1)["m"].estimate() == Estimate(None)
    rare = np.zeros((50, 2))
    rare[0] = 1
    # Most resamples hold the row, but too many do not.
    assert resample({"m": (rare, percent)}, 200, 1)["m"].estimate() == Estimate(100.0)


def test_nothing_to_score() -> None:
    assert resample({}, 200, 1) == {}
