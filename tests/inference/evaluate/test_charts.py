"""Charts: all that is drawn lies inside, and nothing to draw draws nothing."""

import re

import numpy as np
import pytest

from inference.evaluate import charts
from inference.evaluate.charts import Series


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


def test_equal_numbers_are_drawn_too() -> None:
    assert "nan" not in charts.histogram([("one", "base", np.zeros(4))], "x", "Zeros")


def test_nothing_to_draw() -> None:
    none = np.array([])
    assert charts.lines([Series("loss", "adapter", none, none)], "x", "y", "Loss") == ""
    assert charts.histogram([("one", "base", none)], "x", "Nothing") == ""


def test_names_are_escaped() -> None:
    assert "<i>" not in charts.funnel([("<i>", 3, "base")])
    assert "&lt;i&gt;" in charts.funnel([("<i>", 3, "base"), ("none", 0, "adapter")])
