"""Pictures of where rows went and how long their texts are: numbers in, a PNG out.

Pure: no I/O, no display. matplotlib is loaded only once something is drawn; callers check
``available`` first, as it comes with the extra ``train``.
"""

import importlib.util
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GREY, _BLUE, _RED, _INK = "#c9ced6", "#2f6db5", "#c8553d", "#333333"
_LONG_RATIO = 8
"""From here on, longest to shortest, lengths are drawn on a logarithmic axis."""
_BINS = 40
_FEW_DECADES, _FEW_BARS = 3, 5


@dataclass(frozen=True)
class Lengths:
    """Texts counted by their length in code points."""

    edges: Sequence[int]
    """Where the bins begin, rising; the last bin has no end. An edge 0 is the bin of no text."""
    kept: Sequence[int]
    """Texts in each bin."""
    read: Sequence[int] | None = None
    """The same for the texts before any was dropped, where that is known."""
    low: int | None = None
    """Shortest length that the rules keep, inclusive; None or 0: any."""
    high: int | None = None
    """Longest; None: any."""
    what: str = "description"


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def bins(lengths: NDArray[np.int64], what: str) -> Lengths:
    """Count lengths in bins that suit them: even ones, or even ratios where they differ widely.

    Args:
        lengths: [texts] code points, at least one.
        what: names the texts.
    """
    filled = lengths[lengths > 0]
    low, high = (int(filled.min()), int(filled.max())) if len(filled) else (1, 1)
    spaced = np.geomspace if high > _LONG_RATIO * low else np.linspace
    edges = np.unique(np.append(0, spaced(low, high + 1, _BINS + 1).round().astype(np.int64)))
    places = np.searchsorted(edges, lengths, side="right") - 1
    return Lengths(edges.tolist(), np.bincount(places, minlength=len(edges)).tolist(), what=what)


def picture(figure: Any) -> bytes:
    """Return a figure as a PNG."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def draw(title: str, funnel: Sequence[tuple[str, int]], lengths: Lengths | None) -> Any:
    """Draw the funnel, and the lengths beside it where there are any.

    Args:
        title: of the whole.
        funnel: names and counts: first what was read, last what was kept, between them the drops.
        lengths: None for the funnel alone.

    Returns:
        A figure of matplotlib: axes of the lengths, if any, then of the funnel.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13 if lengths else 7.5, 4.6), dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=11, color=_INK)
    if lengths:
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        _draw_lengths(left, lengths)
    else:
        right = figure.subplots()
    _draw_funnel(right, funnel)
    return figure


def _draw_lengths(axes: Any, lengths: Lengths) -> None:
    """Draw a bar a bin; empty texts are counted in the title, as they would dwarf the others."""
    before = lengths.kept if lengths.read is None else lengths.read
    first = 1 if lengths.edges[0] == 0 else 0
    edges, read, kept = (
        np.array(counts[first:], dtype=float) for counts in (lengths.edges, before, lengths.kept)
    )
    # The last bin has no end: drawn as wide as the one before, and most often empty.
    ends = np.append(edges[1:], edges[-1] ** 2 / edges[-2] if len(edges) > 1 else edges[-1] + 1)
    used = np.flatnonzero(read + kept)
    drawn = slice(used[0], used[-1] + 1) if len(used) else slice(0, 1)
    edges, ends, read, kept = edges[drawn], ends[drawn], read[drawn], kept[drawn]
    if lengths.read is not None:
        axes.bar(edges, read, ends - edges, align="edge", color=_GREY, label="read, as in the file")
    axes.bar(edges, kept, ends - edges, align="edge", color=_BLUE, label="kept, repaired")
    _draw_bounds(axes, lengths)
    _scale(axes, float(edges[0]), float(ends[-1]), len(edges))
    axes.set_xlabel(f"{lengths.what} length, characters")
    axes.set_ylabel("rows")
    empty = before[0] if first else 0
    axes.set_title(f"not drawn: {empty:,} empty ones" if empty else "", fontsize=9, loc="right")
    _tidy(axes)
    if lengths.read is not None or lengths.low or lengths.high:
        axes.legend(frameon=False, fontsize=9)


def _scale(axes: Any, low: float, high: float, bars: int) -> None:
    """Choose the axes: lengths from low to high, over so many bars."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if high > _LONG_RATIO * low:
        axes.set_xscale("log")
        decades = math.log10(high / low)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < _FEW_DECADES else (1,)))
    # A few bars from edge to edge would not look like bars.
    axes.set_xmargin(0.05 if bars >= _FEW_BARS else 0.6)
    axes.set_ymargin(0.15)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(_plain)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10), integer=True))
    axes.yaxis.set_major_formatter(_plain)


def _draw_bounds(axes: Any, lengths: Lengths) -> None:
    low, high = lengths.low or 0, lengths.high
    label = f"bounds: {low:,} or more" if high is None else f"bounds: {low:,} to {high:,}"
    bounds = [bound for bound in (low, high) if bound]
    for number, bound in enumerate(bounds):
        # The upper bound is inclusive, so its own length lies left of the line.
        at = bound + 1 if bound == high else bound
        named = {} if number else {"label": label}
        axes.axvline(at, color=_RED, linestyle="--", linewidth=1.2, **named)


def _draw_funnel(axes: Any, funnel: Sequence[tuple[str, int]]) -> None:
    """Draw what was read, what each reason took away from it, and what stayed."""
    total = max(funnel[0][1], 1)
    left = 0
    for place, (_, count) in enumerate(funnel):
        is_end = place in (0, len(funnel) - 1)
        left = count if is_end else left - count
        color = (_GREY if place == 0 else _BLUE) if is_end else _RED
        start = 0 if is_end else left
        # An edge shows where a bar is thinner than a pixel.
        axes.barh(place, count, left=start, color=color, edgecolor=color, height=0.7)
        # Beside its bar: right of it, or left where no room is on the right.
        end = count if is_end else left + count
        fits = end < 0.72 * total
        x = end if fits else (total if is_end else left)
        label = f" {count:,}  ({count / total:.1%}) "
        inside = is_end and not fits
        axes.text(x, place, label, va="center", ha="left" if fits else "right", fontsize=8.5,
                  color="white" if inside and place else _INK)  # fmt: skip
    axes.set_yticks(range(len(funnel)), [name for name, _ in funnel], fontsize=9)
    axes.set_ylim(max(len(funnel), 4) - 0.4, -0.6)
    axes.set_xlim(0, total)
    axes.set_xticks([])
    _tidy(axes)
    axes.spines["bottom"].set_visible(False)


def _plain(value: float, _place: int) -> str:
    return f"{value:,.0f}" if value == round(value) else ""


def _tidy(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=9, colors=_INK)
