"""Charts: all that is drawn lies inside, and nothing to draw draws nothing."""

import re

import numpy as np
import pytest

from inference.evaluate.page import charts
from inference.evaluate.page.charts import Series


def _points(svg: str) -> list[tuple[float, float]]:
    listed = re.findall(r'points="([^"]+)"', svg)
    pairs = (pair.split(",") for points in listed for pair in points.split())
    return [(float(x), float(y)) for x, y in pairs]


@pytest.mark.parametrize("count", [2, 5_000])
def test_a_line_lies_inside_and_stays_small(count: int) -> None:
    x = np.arange(count, dtype=float)
    svg = charts.lines([Series("loss", "adapter", x, 3 / (1 + x))], "step", "nats", "Loss")
    points = _points(svg)
    assert 2 <= len(points) <= 300
    assert all(0 <= x <= 520 and 0 <= y <= 250 for x, y in points)


def test_a_histogram_is_in_shares_and_lies_inside() -> None:
    values = [("one", "adapter", np.array([1.0, 2, 3, 400])), ("other", "base", np.array([5.0]))]
    svg = charts.histogram(values, "characters", "Lengths")
    assert all(0 <= x <= 520 and 0 <= y <= 250 for x, y in _points(svg))
    assert svg.count("<polygon") == 2


def test_an_outlier_does_not_squash_the_rest() -> None:
    near = np.linspace(100, 500, 99)
    svg = charts.histogram([("one", "adapter", np.append(near, 90_000))], "characters", "Lengths")
    ticks = [float(tick.replace(",", "")) for tick in re.findall(r'class="mid">([\d,.]+)<', svg)]
    assert max(ticks) < 2_000
    assert "1 beyond, up to 90,000, are in the outermost bar" in svg
    assert "beyond" not in charts.histogram([("one", "adapter", near)], "characters", "Lengths")


def test_the_first_steps_of_a_loss_are_cut_and_told() -> None:
    y = np.concatenate([[90.0, 40.0], np.linspace(2.2, 2.0, 98)])
    svg = charts.lines([Series("loss", "adapter", np.arange(100.0), y)], "step", "nats", "Loss")
    assert "2 points above" in svg
    assert "cut, up to 90" in svg
    heights = [height for _, height in _points(svg)]
    assert max(heights[2:]) - min(heights[2:]) > 40


def test_a_curve_has_whiskers_a_band_and_sizes_on_a_logarithmic_axis() -> None:
    sizes = [{"rows": 10**k, "loss": 4.0 - k, "low": 3.9 - k, "high": 4.1 - k} for k in (2, 3)]
    foretold = {"rows": 10_000, "loss": 0.2, "low": 0.1, "high": 0.4, "seconds": None}
    svg = charts.sizes({"sizes": sizes, "band": [*sizes, foretold], "foretold": foretold})
    assert len(re.findall(r'<path class="line', svg)) == 3
    assert svg.count('class="area reference"') == 1
    first, second = np.diff(_centres(svg))
    assert first == pytest.approx(second, abs=0.2)
    alone = charts.sizes({"sizes": sizes, "band": [], "foretold": None})
    assert "foretold" not in alone


def _centres(svg: str) -> list[float]:
    return [float(x) for x in re.findall(r'cx="([\d.]+)"', svg)]


def test_equal_numbers_are_drawn_too() -> None:
    assert "nan" not in charts.histogram([("one", "base", np.zeros(4))], "x", "Zeros")


def test_nothing_to_draw() -> None:
    none = np.array([])
    assert charts.lines([Series("loss", "adapter", none, none)], "x", "y", "Loss") == ""
    assert charts.histogram([("one", "base", none)], "x", "Nothing") == ""


def test_names_are_escaped() -> None:
    assert "<i>" not in charts.funnel([("<i>", 3, "base")])
    assert "&lt;i&gt;" in charts.funnel([("<i>", 3, "base"), ("none", 0, "adapter")])
