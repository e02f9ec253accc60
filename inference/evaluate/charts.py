"""Small charts as SVG text, coloured by the page's own CSS: light, dark and without any script.

Pure: numbers in, markup out.
"""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from inference.evaluate.bootstrap import Floats

_WIDTH, _HEIGHT = 520, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 40
_BINS = 24
_MOST_POINTS = 300


@dataclass(frozen=True)
class Series:
    """A line of a chart."""

    label: str
    colour: str
    """Name of a CSS class: ``adapter``, ``base``, ``reference``, ``other``."""
    x: Floats
    y: Floats


def lines(series: Sequence[Series], x_label: str, y_label: str, name: str) -> str:
    """Draw lines; an empty string where there is nothing to draw."""
    drawn = [_thin(each) for each in series if len(each.x) > 1]
    if not drawn:
        return ""
    low, high = min(each.x.min() for each in drawn), max(each.x.max() for each in drawn)
    top = max(each.y.max() for each in drawn) * 1.05 or 1.0
    x, y = _scale(low, high, _LEFT, _WIDTH - _RIGHT), _scale(0, top, _HEIGHT - _BOTTOM, _TOP)
    paths = []
    for each in drawn:
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(each.x, each.y, strict=True))
        paths.append(f'<polyline class="line {each.colour}" points="{points}"/>')
    return _figure(_axes((low, high), top, x, y, (x_label, y_label)) + "".join(paths), drawn, name)


def histogram(values: Sequence[tuple[str, str, Floats]], x_label: str, name: str) -> str:
    """Draw distributions as outlines on one axis, in shares of the texts.

    Args:
        values: label, colour and numbers of each.
        x_label: of the numbers.
        name: of the whole, for screen readers.
    """
    held = [each for each in values if len(each[2])]
    if not held:
        return ""
    everything = np.concatenate([each[2] for each in held])
    low, high = float(everything.min()), float(everything.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    made = []
    for label, colour, numbers in held:
        shares = np.histogram(numbers, edges)[0] / len(numbers) * 100
        x = np.repeat(edges, 2)
        y = np.concatenate([[0], np.repeat(shares, 2), [0]])
        made.append(Series(label, colour, x, y))
    return _steps(made, (low, high), x_label, name)


def _steps(made: list[Series], span: tuple[float, float], x_label: str, name: str) -> str:
    top = max(float(each.y.max()) for each in made) * 1.08 or 1.0
    x = _scale(*span, _LEFT, _WIDTH - _RIGHT)
    y = _scale(0, top, _HEIGHT - _BOTTOM, _TOP)
    paths = []
    for each in made:
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(each.x, each.y, strict=True))
        paths.append(f'<polygon class="area {each.colour}" points="{points}"/>')
        paths.append(f'<polyline class="line {each.colour}" points="{points}"/>')
    return _figure(_axes(span, top, x, y, (x_label, "% of texts")) + "".join(paths), made, name)


def funnel(stages: Sequence[tuple[str, int, str]]) -> str:
    """Draw counts as bars with their names: label, count and colour of each."""
    most = max((count for _, count, _ in stages), default=0) or 1
    rows = [
        f'<div class="bar"><span>{html.escape(label)}</span>'
        f'<i class="{colour}" style="width:{max(100 * count / most, 0.4):.2f}%"></i>'
        f"<b>{count:,}</b></div>"
        for label, count, colour in stages
    ]
    return f'<div class="bars">{"".join(rows)}</div>'


def _thin(series: Series) -> Series:
    """Average neighbours, so that a long curve stays a few kilobytes."""
    step = math.ceil(len(series.x) / _MOST_POINTS)
    if step == 1:
        return series
    starts = np.arange(0, len(series.x), step)
    sizes = np.diff(np.append(starts, len(series.x)))
    means = (np.add.reduceat(each, starts) / sizes for each in (series.x, series.y))
    return Series(series.label, series.colour, *means)


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _axes(
    span: tuple[float, float], top: float, x: Callable[[float], float],
    y: Callable[[float], float], labels: tuple[str, str],
) -> str:  # fmt: skip
    parts = []
    for value in _ticks(0, top):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
                     f'y1="{y(value):.1f}" y2="{y(value):.1f}"/>')  # fmt: skip
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" class="end">{_told(value)}</text>'
        )
    for value in _ticks(*span):
        parts.append(
            f'<text x="{x(value):.1f}" y="{_HEIGHT - _BOTTOM + 16}" class="mid">'
            f"{_told(value)}</text>"
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 6}" class="mid name">{html.escape(labels[0])}</text>'
    )
    parts.append(f'<text transform="translate(11 {(_HEIGHT - _BOTTOM) / 2}) rotate(-90)" '
                 f'class="mid name">{html.escape(labels[1])}</text>')  # fmt: skip
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Give round numbers between two, five or so."""
    raw = (high - low) / 5
    if raw <= 0 or not math.isfinite(raw):
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= raw)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step) + 1)]


def _told(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or value == round(value) else f"{value:.3g}"


def _figure(inside: str, series: Sequence[Series], name: str) -> str:
    keys = "".join(
        f'<span class="key"><i class="{each.colour}"></i>{html.escape(each.label)}</span>'
        for each in series
    )
    return (
        f'<div class="legend">{keys}</div>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(name)}">'
        f"{inside}</svg>"
    )
