"""Small charts as SVG text, coloured by the page's own CSS: light, dark and without any script.

Pure: numbers in, markup out.
"""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from inference.evaluate.metrics import Floats

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
    drawn = [_thin(line) for line in series if len(line.x) > 1]
    return _draw(drawn, (x_label, y_label), name, headroom=1.05)


def histogram(values: Sequence[tuple[str, str, Floats]], x_label: str, name: str) -> str:
    """Draw distributions as outlines on one axis: label, colour and numbers of each.

    The name is for screen readers.
    """
    values = [(label, colour, numbers) for label, colour, numbers in values if len(numbers)]
    if not values:
        return ""
    everything = np.concatenate([numbers for _, _, numbers in values])
    low, high = float(everything.min()), float(everything.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    outlines = []
    for label, colour, numbers in values:
        shares = np.histogram(numbers, edges)[0] / len(numbers) * 100
        y = np.concatenate([[0], np.repeat(shares, 2), [0]])
        outlines.append(Series(label, colour, np.repeat(edges, 2), y))
    return _draw(outlines, (x_label, "% of texts"), name, headroom=1.08, is_filled=True)


def _draw(
    series: list[Series], labels: tuple[str, str], name: str, headroom: float,
    is_filled: bool = False,
) -> str:  # fmt: skip
    if not series:
        return ""
    low, high = min(line.x.min() for line in series), max(line.x.max() for line in series)
    top = max(line.y.max() for line in series) * headroom or 1.0
    x, y = _scale(low, high, _LEFT, _WIDTH - _RIGHT), _scale(0, top, _HEIGHT - _BOTTOM, _TOP)
    inside = [_axes((low, high), top, x, y, labels)]
    for line in series:
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(line.x, line.y, strict=True))
        if is_filled:
            inside.append(f'<polygon class="area {line.colour}" points="{points}"/>')
        inside.append(f'<polyline class="line {line.colour}" points="{points}"/>')
    keys = "".join(
        f'<span class="key"><i class="{line.colour}"></i>{html.escape(line.label)}</span>'
        for line in series
    )
    return (
        f'<div class="legend">{keys}</div>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(name)}">'
        f"{''.join(inside)}</svg>"
    )


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
    means = (np.add.reduceat(values, starts) / sizes for values in (series.x, series.y))
    return Series(series.label, series.colour, *means)


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _axes(
    span: tuple[float, float], top: float, x: Callable[[float], float],
    y: Callable[[float], float], labels: tuple[str, str],
) -> str:  # fmt: skip
    right, below, middle = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, (_LEFT + _WIDTH - _RIGHT) / 2
    across, along = (html.escape(label) for label in labels)
    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(at):.1f}" y2="{y(at):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y(at) + 4:.1f}" class="end">{_number(at)}</text>'
        for at in _ticks(0, top)
    ]
    parts += [
        f'<text x="{x(at):.1f}" y="{below + 16}" class="mid">{_number(at)}</text>'
        for at in _ticks(*span)
    ]
    return (
        f"{''.join(parts)}"
        f'<text x="{middle}" y="{_HEIGHT - 6}" class="mid name">{across}</text>'
        f'<text transform="translate(11 {below / 2}) rotate(-90)" class="mid name">{along}</text>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """List round numbers between two, five or so."""
    raw = (high - low) / 5
    if raw <= 0 or not math.isfinite(raw):
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * power for unit in (1, 2, 5, 10) if unit * power >= raw)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or value == round(value) else f"{value:.3g}"
