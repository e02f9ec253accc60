"""Small charts as SVG text, coloured by the page's own CSS: light, dark and without any script.

Pure: numbers in, markup out.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.evaluate.metrics import Floats

_WIDTH, _HEIGHT = 520, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 40
_BINS = 24
_MOST_POINTS = 300


_FENCE = 3
"""Interquartile ranges beyond the quartiles from which on values are no part of what is drawn."""


@dataclass(frozen=True)
class Series:
    """A line of a chart."""

    label: str
    colour: str
    """Name of a CSS class: ``adapter``, ``base``, ``reference``, ``other``."""
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    """Ends of intervals, a whisker a point, or a band."""
    is_band: bool = False


def lines(
    series: Sequence[Series], x_label: str, y_label: str, name: str, is_log: bool = False
) -> str:
    """Draw lines, on a logarithmic x axis where asked; an empty string where there is nothing.

    What lies far above the rest, as the losses of a run's first steps, is cut at the edge, and how
    much that is stands below. The name is for screen readers.
    """
    drawn = [_thin(line) for line in series if len(line.x) > 1 or line.low is not None]
    if not drawn:
        return ""
    everything = np.concatenate([line.y for line in drawn])
    edges = [end for line in drawn for end in (line.low, line.high) if end is not None]
    low, high = _readable(everything)
    if edges:
        # Of a wide interval no more than as much again as the figures themselves take.
        ends, least, most = np.concatenate(edges), everything.min(), everything.max()
        low = float(min(least, max(ends.min(), 2 * least - most)))
        high = float(max(most, min(ends.max(), 2 * most - least)))
    beyond = int((everything > high).sum())
    note = f"{beyond:,} points above {_number(high)} are cut, up to {_number(everything.max())}"
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    frame = _Frame.around(drawn, low - margin, high + margin, is_log)
    return _draw(drawn, frame, (x_label, y_label), name, note=note if beyond else "")


def histogram(values: Sequence[tuple[str, str, Floats]], x_label: str, name: str) -> str:
    """Draw distributions as outlines on one axis: label, colour and numbers of each.

    The few that lie far outside are counted in the first and last bin, and told below. The name is
    for screen readers.
    """
    values = [(label, colour, numbers) for label, colour, numbers in values if len(numbers)]
    if not values:
        return ""
    everything = np.concatenate([numbers for _, _, numbers in values])
    low, high = _readable(everything)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    outlines = []
    for label, colour, numbers in values:
        shares = np.histogram(numbers.clip(low, high), edges)[0] / len(numbers) * 100
        y = np.concatenate([[0], np.repeat(shares, 2), [0]])
        outlines.append(Series(label, colour, np.repeat(edges, 2), y))
    beyond = int((everything > high).sum() + (everything < low).sum())
    far = everything.max() if everything.max() > high else everything.min()
    note = f"{beyond:,} beyond, up to {_number(far)}, are in the outermost bar" if beyond else ""
    top = max(line.y.max() for line in outlines) * 1.08
    frame = _Frame.around(outlines, 0.0, top or 1.0)
    return _draw(outlines, frame, (x_label, "% of texts"), name, is_filled=True, note=note)


def measured(label: str, x: Floats, estimates: Sequence[dict[str, float | None]]) -> Series:
    """Return estimates as points with whiskers; where one has no interval it has no width."""
    ends = {
        end: np.array([own["value"] if own[end] is None else own[end] for own in estimates], float)
        for end in ("value", "low", "high")
    }
    return Series(label, "adapter", x, ends["value"], ends["low"], ends["high"])


def sizes(curve: dict[str, Any]) -> str:
    """Draw what a training curve measured and foretells: loss by rows, on a logarithmic axis."""

    def column(points: Sequence[dict[str, Any]], name: str) -> Floats:
        return np.array([point[name] for point in points], np.float64)

    def series(label: str, colour: str, points: Sequence[dict[str, Any]], is_band: bool) -> Series:
        x, y, low, high = (column(points, name) for name in ("rows", "loss", "low", "high"))
        return Series(label, colour, x, y, low, high, is_band)

    drawn = [series("measured", "adapter", curve["sizes"], False)]
    if curve["band"]:
        drawn.insert(0, series("law, with 95 % of further runs", "reference", curve["band"], True))
    if curve["foretold"]:
        drawn.append(series("foretold", "base", [curve["foretold"]], False))
    return lines(drawn, "train rows", "nats a token", "Loss by rows", is_log=True)


def _readable(values: Floats) -> tuple[float, float]:
    """Return between which values most lie, so that a few outliers do not squash the rest."""
    first, third = np.quantile(values, [0.25, 0.75])
    reach = _FENCE * (third - first)
    low, high = float(values.min()), float(values.max())
    return (max(low, first - reach), min(high, third + reach)) if reach else (low, high)


@dataclass(frozen=True)
class _Frame:
    """The ends of a chart's axes."""

    left: float
    right: float
    bottom: float
    top: float
    is_log: bool = False

    @classmethod
    def around(
        cls, series: Sequence[Series], bottom: float, top: float, is_log: bool = False
    ) -> "_Frame":
        left = float(min(line.x.min() for line in series))
        right = float(max(line.x.max() for line in series))
        if is_log:
            left, right = left / 1.15, right * 1.15
        return cls(left, right, bottom, top, is_log)

    def x(self, value: float) -> float:
        ends = (value, self.left, self.right)
        if self.is_log:
            ends = (math.log(value), math.log(self.left), math.log(self.right))
        at, left, right = ends
        share = (at - left) / ((right - left) or 1.0)
        return _LEFT + share * (_WIDTH - _RIGHT - _LEFT)

    def y(self, value: float) -> float:
        share = (value - self.bottom) / ((self.top - self.bottom) or 1.0)
        return _HEIGHT - _BOTTOM + min(max(share, 0.0), 1.0) * (_TOP - _HEIGHT + _BOTTOM)


def _draw(
    series: Sequence[Series], frame: _Frame, labels: tuple[str, str], name: str,
    is_filled: bool = False, note: str = "",
) -> str:  # fmt: skip
    inside = [_axes(frame, labels)]
    for line in series:
        pairs = [(frame.x(a), frame.y(b)) for a, b in zip(line.x, line.y, strict=True)]
        if is_filled:
            inside.append(f'<polygon class="area {line.colour}" points="{_points(pairs)}"/>')
        inside += _intervals(line, frame)
        inside.append(f'<polyline class="line {line.colour}" points="{_points(pairs)}"/>')
        if line.low is not None and not line.is_band:
            inside += [
                f'<circle class="point {line.colour}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
                for x, y in pairs
            ]
    keys = "".join(
        f'<span class="key"><i class="{line.colour}"></i>{html.escape(line.label)}</span>'
        for line in series
    )
    below = f'<p class="missing">{html.escape(note)}</p>' if note else ""
    return (
        f'<div class="legend">{keys}</div>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(name)}">'
        f"{''.join(inside)}</svg>{below}"
    )


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def _intervals(line: Series, frame: _Frame) -> list[str]:
    """Draw intervals as a band, or as a whisker a point."""
    if line.low is None or line.high is None:
        return []
    columns = [line.x, line.low, line.high]
    ends = [(frame.x(x), frame.y(a), frame.y(b)) for x, a, b in zip(*columns, strict=True)]
    if line.is_band:
        around = [(x, a) for x, a, _ in ends] + [(x, b) for x, _, b in reversed(ends)]
        return [f'<polygon class="area {line.colour}" points="{_points(around)}"/>']
    return [f'<path class="line {line.colour}" d="M{x:.1f} {a:.1f}V{b:.1f}"/>' for x, a, b in ends]


def funnel(stages: Sequence[tuple[str, int, str]]) -> str:
    """Draw counts as bars with their names: label, count and colour of each."""
    most = max((count for _, count, _ in stages), default=0) or 1
    rows = [
        f'<div class="bar"><span>{html.escape(label)}</span>'
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{colour}" width="{max(100 * count / most, 0.4):.2f}" height="10"/></svg>'
        f"<b>{count:,}</b></div>"
        for label, count, colour in stages
    ]
    return f'<div class="bars">{"".join(rows)}</div>'


def _thin(series: Series) -> Series:
    """Average neighbours, so that a long curve stays a few kilobytes."""
    step = math.ceil(len(series.x) / _MOST_POINTS)
    if step == 1 or series.low is not None:
        return series
    starts = np.arange(0, len(series.x), step)
    sizes = np.diff(np.append(starts, len(series.x)))
    x, y = (np.add.reduceat(values, starts) / sizes for values in (series.x, series.y))
    return Series(series.label, series.colour, x, y)


def _axes(frame: _Frame, labels: tuple[str, str]) -> str:
    right, below, middle = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, (_LEFT + _WIDTH - _RIGHT) / 2
    across, along = (html.escape(label) for label in labels)
    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{frame.y(at):.1f}" '
        f'y2="{frame.y(at):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{frame.y(at) + 4:.1f}" class="end">{_number(at)}</text>'
        for at in _ticks(frame.bottom, frame.top)
    ]
    ticks = _powers if frame.is_log else _ticks
    parts += [
        f'<text x="{frame.x(at):.1f}" y="{below + 16}" class="mid">{_number(at)}</text>'
        for at in ticks(frame.left, frame.right)
    ]
    return (
        f"{''.join(parts)}"
        f'<text x="{middle}" y="{_HEIGHT - 6}" class="mid name">{across}</text>'
        f'<text transform="translate(11 {below / 2}) rotate(-90)" class="mid name">{along}</text>'
    )


def _powers(low: float, high: float) -> list[float]:
    """List round numbers for a logarithmic axis: 1, 2, 5 and their powers of ten, six at most."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [unit * 10.0**power for power in powers for unit in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside[:: math.ceil(len(inside) / 6) or 1]


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
