"""The picture of a curve: runs, law, band and what is foretold; quality below where measured."""

import math
from typing import Any

import numpy as np

from data import charts
from training.curve.summary import QUALITY
from training.loop import metrics

_INK, _RUN, _LAW, _FORETOLD = "#1f2933", "#2f6f9f", "#7b8794", "#c8553d"
# Labels of sizes nearer to each other than this ratio would touch.
_NEAREST = 1.45


def draw(values: dict[str, Any], title: str) -> bytes:
    """Draw the values of ``curve.json`` as a PNG."""
    from matplotlib.figure import Figure

    quality = [size for size in values["sizes"] if "quality" in size]
    panels = 3 if quality else 1
    figure = Figure(figsize=(9, 5 if panels == 1 else 8.4), dpi=130, layout="constrained")
    axes = figure.subplots(
        panels, 1, sharex=True, squeeze=False, height_ratios=(2.6, 1.2, 1.2)[:panels]
    )[:, 0]
    _draw_losses(axes[0], values)
    if quality:
        _draw_scores(axes[1], quality, {"rougeL": _RUN})
        _draw_scores(axes[2], quality, {"repeating": _FORETOLD, "ended": _RUN})
        axes[1].set_ylabel("ROUGE-L", color=_INK)
        axes[2].set_ylabel("% of texts", color=_INK)
        axes[2].legend(frameon=False, labelcolor=_INK, fontsize=9, loc="lower right",
                       bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)  # fmt: skip
    for own in axes:
        metrics.tidy(own)
    _scale(axes[-1], values)
    axes[-1].set_xlabel("train rows", color=_INK)
    figure.suptitle(title, x=0.012, ha="left", color=_INK, fontsize=12, fontweight="bold")
    return charts.picture(figure)


def _draw_losses(axes: Any, values: dict[str, Any]) -> None:
    if band := values["band"]:
        rows, loss, low, high = (
            np.array([point[name] for point in band]) for name in ("rows", "loss", "low", "high")
        )
        axes.fill_between(rows, low, high, color=_LAW, alpha=0.18, linewidth=0,
                          label="95 % of further runs")  # fmt: skip
        law = values["law"]
        name = f"{law['a']:.3g} + {law['b']:.3g} · rows^-{law['c']:.2f}"
        axes.plot(rows, loss, color=_LAW, linewidth=1.6, label=name)
    runs = values["runs"]
    axes.plot([run["rows"] for run in runs], [run["loss"] for run in runs], "o", color=_RUN,
              markersize=6, alpha=0.7, label="runs", linestyle="none")  # fmt: skip
    if own := values["foretold"]:
        below, above = own["loss"] - own["low"], own["high"] - own["loss"]
        axes.errorbar([own["rows"]], [own["loss"]], [[below], [above]], fmt="D", color=_FORETOLD,
                      markersize=6, capsize=4, linewidth=1.6, label="foretold")  # fmt: skip
    axes.set_ylabel("validation loss per token (nats)", color=_INK)
    # Above the curve, which may be anywhere.
    axes.legend(frameon=False, labelcolor=_INK, fontsize=9, loc="lower right",
                bbox_to_anchor=(1, 1), ncols=4, borderaxespad=0.2)  # fmt: skip


def _draw_scores(axes: Any, sizes: list[dict[str, Any]], colours: dict[str, str]) -> None:
    for key, colour in colours.items():
        measured = [(s["rows"], s["quality"][key]) for s in sizes if s["quality"].get(key)]
        points = [(rows, score) for rows, score in measured if score["value"] is not None]
        rows = [place for place, _ in points]
        value, low, high = (
            np.array([_edge(score, name) for _, score in points], float)
            for name in ("value", "low", "high")
        )
        axes.errorbar(rows, value, [value - low, high - value], fmt="o-", color=colour,
                      markersize=5, capsize=3, linewidth=1.4, label=QUALITY[key])  # fmt: skip


def _edge(score: dict[str, Any], name: str) -> float:
    """Return an edge of an interval; too few rows have none."""
    return float(score["value"] if score[name] is None else score[name])


def _scale(axes: Any, values: dict[str, Any]) -> None:
    """Name the sizes on a logarithmic axis, as many as have room."""
    sizes = {size["rows"] for size in values["sizes"]}
    if values["foretold"]:
        sizes.add(values["foretold"]["rows"])
    ends = math.log(max(sizes) / min(sizes)) or 1.0
    axes.set_xscale("log")
    axes.set_xlim(min(sizes) / math.exp(0.05 * ends), max(sizes) * math.exp(0.05 * ends))
    nearest = max(_NEAREST, math.exp(ends / 9))
    shown: list[int] = []
    for size in sorted(sizes, reverse=True):
        if not shown or shown[-1] / size >= nearest:
            shown.append(size)
    axes.set_xticks(shown, [f"{size:,}" for size in shown])
    axes.minorticks_off()
