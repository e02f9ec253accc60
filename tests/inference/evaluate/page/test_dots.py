"""Dots: figures are text, what is drawn lies inside, and one that is far off squashes none."""

import re
from typing import Any

import pytest

from inference.evaluate.page import dots
from inference.evaluate.page.dots import Dot, Row

PLAIN = {"unit": "%", "digits": 1}


def _estimate(value: float | None, low: float | None = None, high: float | None = None) -> Any:
    return {"value": value, "low": low, "high": high}


def _rows(*values: float | None) -> list[Row]:
    return [Row(f"System {n}", "", [Dot("unseen", "base", _estimate(value))])
            for n, value in enumerate(values)]  # fmt: skip


def _places(html: str) -> list[float]:
    return [float(x) for x in re.findall(r'class="dot" d="M([\d.]+)', html)]


def test_a_figure_and_its_interval_can_be_read_without_the_picture() -> None:
    row = Row("Adapter", "about", [Dot("unseen", "adapter", _estimate(31.25, 30, 33), True)])
    words = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", dots.draw([row], PLAIN)))
    assert "Adapter about unseen 31.2% 30.0 to 33.0%" in words


def test_what_was_not_measured_is_left_out() -> None:
    assert dots.draw(_rows(None), PLAIN) == ""
    assert "System 1" not in dots.draw(_rows(3.0, None), PLAIN)


def test_larger_lies_further_right_and_inside() -> None:
    places = _places(dots.draw(_rows(1.0, 2.0, 3.0), PLAIN))
    assert 0 < places[0] < places[1] < places[2] < 100
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.02)


def test_one_far_off_is_drawn_at_the_edge() -> None:
    html = dots.draw(_rows(1.0, 2.0, 500.0), PLAIN)
    places = _places(html)
    assert places[1] - places[0] > 20
    assert places[2] == 98
    assert "500.0%" in html


def test_a_logarithmic_scale_and_its_line_of_no_difference() -> None:
    places = _places(dots.draw(_rows(1.0, 10.0, 100.0), PLAIN | {"is_log": True}))
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.02)


def test_differences_have_signs_and_a_line_at_zero() -> None:
    html = dots.draw(_rows(-2.0, 2.0), PLAIN, "+", is_centred=True)
    assert "+2.0%" in html
    assert html.count('class="zero" d="M50.00 0') == 2


def test_equal_figures_are_drawn() -> None:
    assert _places(dots.draw(_rows(0.0, 0.0), PLAIN)) == [2.0, 2.0]
    assert "nan" not in dots.draw(_rows(4.0), PLAIN | {"is_log": True})
