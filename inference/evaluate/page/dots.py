"""Figures with their intervals as dots on one scale: a row a system, a line a dot.

Pure. Names and figures are text of the page, so that they are read at any width and without the
picture; only the scale is drawn.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from inference.evaluate.page.markup import number, span, text

_WIDTH, _HEIGHT, _MIDDLE = 100, 10, 5
_FAR = 4
"""A figure that lies so many times as far out as the next one is drawn at the edge."""


@dataclass(frozen=True)
class Dot:
    """A figure and its interval."""

    name: str
    shade: str
    """Name of a CSS class: ``adapter``, ``base``, ``reference``, ``other``."""
    estimate: dict[str, Any]
    """``value``, ``low`` and ``high``."""
    is_hollow: bool = False


@dataclass(frozen=True)
class Row:
    """What stands beside its dots."""

    label: str
    about: str
    dots: Sequence[Dot]


def draw(
    rows: Sequence[Row], metric: dict[str, Any], sign: str = "", is_centred: bool = False
) -> str:
    """Draw rows on a common scale; an empty string where nothing was measured.

    Args:
        rows: those without a figure are left out.
        metric: ``unit`` and ``digits``, and ``is_log`` where its scale is logarithmic.
        sign: ``+`` for differences.
        is_centred: draw the line of no difference.
    """
    rows = [row for row in rows if any(dot.estimate["value"] is not None for dot in row.dots)]
    if not rows:
        return ""
    low, high = _ends(rows, bool(metric.get("is_log")))
    place = _place(low, high, bool(metric.get("is_log")))
    zero = f'<path class="zero" d="M{place(0):.2f} 0V{_HEIGHT}"/>' if is_centred else ""
    body = "".join(
        f'<div class="dot-row"><div class="dot-label">{text(row.label)}<small>{text(row.about)}'
        f"</small></div><div>{''.join(_lines(row, metric, sign, place, zero))}</div></div>"
        for row in rows
    )
    ends = "".join(f"<span>{number(end, metric, sign)}</span>" for end in (low, high))
    return f'<div class="dots">{body}<div class="dot-scale" aria-hidden="true">{ends}</div></div>'


def _ends(rows: Sequence[Row], is_log: bool) -> tuple[float, float]:
    """Choose the ends of the scale: all that can be read, without what lies far out."""
    estimates = [dot.estimate for row in rows for dot in row.dots]
    values = sorted(own["value"] for own in estimates if own["value"] is not None)
    edges = [own[end] for own in estimates for end in ("low", "value", "high")]
    edges = [edge for edge in edges if edge is not None]
    low, high = min(edges), max(edges)
    if is_log:
        return low / 1.05, high * 1.05
    low, high = min(low, 0.0), max(high, 0.0)
    reach = [abs(value) for value in values]
    *others, last = sorted(reach)
    if others and others[-1] and last > _FAR * others[-1]:
        near = [edge for edge in edges if abs(edge) <= _FAR * others[-1]]
        low, high = min(*near, 0.0), max(*near, 0.0)
    return (low, high) if high > low else (0.0, 1.0)


def _place(low: float, high: float, is_log: bool) -> Callable[[float], float]:
    """Return where a figure is drawn; outside of the scale at its edge."""

    def place(value: float) -> float:
        ends = (math.log(v) for v in (max(value, low), low, high)) if is_log else (value, low, high)
        at, first, last = ends
        return 2 + (_WIDTH - 4) * min(max((at - first) / (last - first), 0.0), 1.0)

    return place


def _lines(
    row: Row, metric: dict[str, Any], sign: str, place: Callable[[float], float], zero: str
) -> Iterator[str]:
    for dot in row.dots:
        own = dot.estimate
        if own["value"] is None:
            continue
        at = place(own["value"])
        drawn = f'<path class="rail" d="M0 {_MIDDLE}H{_WIDTH}"/>{zero}'
        if own["low"] is not None and own["high"] is not None:
            begin, end = place(own["low"]), place(own["high"])
            drawn += f'<path class="reach" d="M{begin:.2f} {_MIDDLE}H{end:.2f}"/>'
        # A line without length and with round ends is a dot that no scaling squeezes.
        drawn += f'<path class="dot" d="M{at:.2f} {_MIDDLE}h0"/>'
        if dot.is_hollow:
            drawn += f'<path class="hole" d="M{at:.2f} {_MIDDLE}h0"/>'
        told = f"{number(own['value'], metric, sign)} <small>{span(own, metric, sign)}</small>"
        yield (
            f'<div class="dot-line {dot.shade}"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            f'preserveAspectRatio="none" aria-hidden="true">{drawn}</svg><span class="dot-told">'
            f'<small class="dot-name">{text(dot.name)}</small> {told}</span></div>'
        )
