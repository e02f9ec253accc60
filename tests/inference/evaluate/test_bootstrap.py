"""Bootstrap intervals: they hold the truth as often as they say, and differences are paired."""

import numpy as np
import pytest

from inference.evaluate.metrics import Estimate, percent, perplexity, ratio, resample, weights


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


def test_one_row_has_no_interval() -> None:
    assert resample({"m": _mean(np.array([3.0]))}, 200, 1)["m"].estimate() == Estimate(3.0)


def test_what_is_not_defined_is_none_and_never_nan() -> None:
    table = np.zeros((5, 2))
    assert resample({"m": (table, percent)}, 200, 1)["m"].estimate() == Estimate(None)
    rare = np.zeros((50, 2))
    rare[0] = 1
    # Most resamples hold the row, but too many do not.
    assert resample({"m": (rare, percent)}, 200, 1)["m"].estimate() == Estimate(100.0)


def test_nothing_to_score() -> None:
    assert resample({}, 200, 1) == {}
