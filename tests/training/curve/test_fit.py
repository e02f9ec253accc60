"""The law and its intervals: known laws come back, and intervals cover what they promise."""

import math

import numpy as np
import pytest

from training.curve import fit
from training.curve.fit import Floats, Law

SIZES = np.array([500.0, 1_000.0, 2_000.0, 4_000.0])


def law(a: float, b: float, c: float) -> Law:
    return Law(np.array(a), np.array(b), np.array(c), 1.0)


def runs(
    losses: dict[int, list[float]], blocks: int = 60, noise: float = 0.0, seed: int = 1
) -> tuple[list[int], Floats, Floats]:
    """Runs of these losses on blocks of rows, some of which are harder than others for all."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(80, 400, blocks).astype(float)
    harder = draw.normal(0, 0.3, blocks)
    harder -= (harder * tokens).sum() / tokens.sum() * (noise == 0)
    rows = [size for size, own in losses.items() for _ in own]
    of_runs = np.array([loss for own in losses.values() for loss in own])
    return rows, tokens * (of_runs[:, None] + harder), tokens


@pytest.mark.parametrize("a", [0.0, 1.5, 3.0])
@pytest.mark.parametrize("c", [0.1, 0.35, 0.8])
def test_a_known_law_comes_back(a: float, c: float) -> None:
    truth = law(a, 0.5 * 500**c, c)
    losses = np.array([[float(truth.at(size)) for size in SIZES]])
    fitted = fit.fit(SIZES, losses, np.ones(4))
    assert float(fitted.c[0]) == pytest.approx(c, rel=0.03)
    assert float(fitted.at(40_000)[0]) == pytest.approx(float(truth.at(40_000)), abs=0.02)
    assert float(fitted.at(2_000)[0]) == pytest.approx(float(truth.at(2_000)), abs=1e-3)


def test_a_weighted_size_pulls_the_law() -> None:
    losses = np.array([[3.0, 2.7, 2.6, 2.6]])
    light, heavy = (fit.fit(SIZES, losses, np.array([1, 1, 1, last])) for last in (0.1, 1e6))
    assert float(heavy.at(4_000)[0]) == pytest.approx(2.6, abs=1e-3)
    assert float(light.at(4_000)[0]) < 2.599


def test_losses_that_rise_give_a_flat_law() -> None:
    fitted = fit.fit(SIZES, np.array([[2.0, 2.1, 2.2, 2.3]]), np.ones(4))
    assert (float(fitted.a[0]), float(fitted.b[0])) == (pytest.approx(2.15), 0)


def test_neither_part_is_negative() -> None:
    # In a straight line of log(rows) down to less than 0.
    fitted = fit.fit(SIZES, np.array([[1.0, 0.6, 0.3, 0.05]]), np.ones(4))
    assert float(fitted.a[0]) == 0
    assert float(fitted.at(1e6)[0]) > 0


def test_doubling_gains_little_from_where_it_does() -> None:
    steep = law(2.0, 50.0, 0.5)
    rows = steep.gains_little_from(0.01)
    gain = 1 - float(steep.at(2 * rows)) / float(steep.at(rows))
    assert gain == pytest.approx(0.01)
    assert law(0.0, 5.0, 0.3).gains_little_from(0.01) == math.inf
    assert law(2.0, 0.0, 0.3).gains_little_from(0.01) == 0


def test_the_interval_covers_the_truth() -> None:
    """200 curves of laws, rows and seeds drawn at random; the truth is that of all rows."""
    draw, covered = np.random.default_rng(3), 0
    for number in range(200):
        c = draw.uniform(0.15, 0.9)
        truth = law(draw.uniform(0, 3), draw.uniform(0.2, 1.2) * 500**c, c)
        losses = {
            int(size): [float(truth.at(size)) * draw.normal(1, 0.004) for _ in range(seeds)]
            for size, seeds in zip(SIZES, (3, 2, 2, 1), strict=True)
        }
        curve = fit.estimate(*runs(losses, noise=1, seed=number), seed=0)
        interval = curve.foretell(16_000)
        covered += interval.low <= float(truth.at(16_000)) <= interval.high
    assert 176 <= covered <= 200


def test_all_sizes_see_the_same_rows() -> None:
    """Harder rows move all sizes alike: the fall is far surer than each loss."""
    curve = fit.estimate(*runs({500: [3.0], 1_000: [2.9], 2_000: [2.8]}), seed=0)
    own, fall = curve.losses[0], curve.fall
    assert fall.value == pytest.approx(0.2)
    assert 0.1 < fall.low < fall.high < 0.3
    assert own.high - own.low > fall.high - fall.low


def test_seeds_that_differ_widen_the_interval() -> None:
    alike = {500: [3.0, 3.0], 1_000: [2.9, 2.9], 2_000: [2.8]}
    apart = {500: [3.1, 2.9], 1_000: [3.0, 2.8], 2_000: [2.8]}
    near, far = (fit.estimate(*runs(losses), seed=0) for losses in (alike, apart))
    assert far.spread > 5 * near.spread
    widths = [curve.foretell(8_000).high - curve.foretell(8_000).low for curve in (near, far)]
    assert widths[1] > 1.5 * widths[0]


def test_a_law_that_does_not_fit_widens_the_interval() -> None:
    straight = {500: [3.0], 1_000: [2.9], 2_000: [2.82], 4_000: [2.756]}
    bent = {500: [3.0], 1_000: [2.8], 2_000: [2.9], 4_000: [2.756]}
    near, far = (fit.estimate(*runs(losses), seed=0) for losses in (straight, bent))
    widths = [curve.foretell(8_000).high - curve.foretell(8_000).low for curve in (near, far)]
    assert widths[1] > 2 * widths[0]


def test_two_sizes_have_no_law() -> None:
    curve = fit.estimate(*runs({500: [3.0], 1_000: [2.9]}), seed=0)
    assert (curve.sizes, curve.law) == ([500, 1_000], None)
    with pytest.raises(ValueError, match="no law"):
        curve.foretell(2_000)


def test_the_same_runs_give_the_same_figures() -> None:
    losses = {500: [3.0, 3.01], 1_000: [2.9], 2_000: [2.8]}
    one, other = (fit.estimate(*runs(losses), seed=7).foretell(8_000) for _ in range(2))
    assert one == other
