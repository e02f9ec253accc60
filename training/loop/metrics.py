"""Figures of a run: ``metrics.jsonl``, a line a logged step, and their picture ``loss.png``."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Line = dict[str, Any]

_INK, _TRAIN, _VALIDATION, _RATE = "#1f2933", "#2f6f9f", "#c8553d", "#7b8794"


def read(path: Path) -> list[Line]:
    """Read the lines that are whole; a machine that stops may leave half a line."""
    lines: list[Line] = []
    if not path.exists():
        return lines
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def trim(path: Path, step: int) -> list[Line]:
    """Drop the lines after a step, which a resumed run will write again; return those left."""
    lines = [line for line in read(path) if line["step"] <= step]
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text("".join(_text(line) for line in lines), encoding="utf-8")
    os.replace(temporary, path)
    return lines


def append(path: Path, line: Line) -> None:
    """Add a line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_text(line))


def _text(line: Line) -> str:
    return json.dumps(line) + "\n"


def last(lines: list[Line], name: str) -> Any:
    """Return the last value of a figure; None where there is none."""
    return next((line[name] for line in reversed(lines) if name in line), None)


def final_loss(lines: list[Line]) -> float:
    """Return the mean training loss of the last tenth of the logged steps."""
    losses = [line["loss"] for line in lines if "loss" in line]
    last = losses[-max(1, len(losses) // 10) :]
    return float(np.mean(last)) if last else float("nan")


def best_validation(lines: list[Line]) -> tuple[int, float] | None:
    """Return step and loss of the best evaluation; None where there was none."""
    losses = {line["step"]: line["validation_loss"] for line in lines if "validation_loss" in line}
    return next(((step, losses[step]) for step in ranked(losses)), None)


def ranked(losses: Mapping[int, float]) -> list[int]:
    """Order steps by their loss, the lowest first and of equal ones the earlier.

    Args:
        losses: by step; a step whose loss is not finite is left out, as it is never a best one.
    """
    finite = [step for step, loss in losses.items() if math.isfinite(loss)]
    return sorted(finite, key=lambda step: (losses[step], step))


def draw(
    lines: list[Line], path: Path, title: str, plan: dict[str, Any] | None = None,
    earlier: Sequence[list[Line]] = (),
) -> None:  # fmt: skip
    """Draw training and validation loss above the learning rate and, with a plan, the time.

    Args:
        lines: of ``metrics.jsonl``, in order of steps.
        path: of the PNG.
        title: above the picture.
        plan: what was predicted, from ``Plan.compare``.
        earlier: lines of the cycles that this run goes on from, the first one first.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = 3 if plan else 2
    figure, axes = pyplot.subplots(
        panels, 1, sharex=True, figsize=(9, 5.6 if panels == 2 else 7),
        height_ratios=(4, 1, 1.6)[:panels], layout="constrained",
    )  # fmt: skip
    cycles = _lay_end_to_end([*earlier, lines])
    try:
        _draw_losses(axes[0], cycles)
        _draw_rates(axes[1], cycles)
        if plan:
            begin = cycles[-2][-1]["step"] if len(cycles) > 1 else 0
            _draw_time(axes[2], cycles[-1], plan, begin)
        axes[-1].set_xlabel("optimizer step", color=_INK)
        figure.suptitle(title, x=0.012, ha="left", color=_INK, fontsize=12, fontweight="bold")
        figure.savefig(path, dpi=130, metadata={"Software": None})
    finally:
        pyplot.close(figure)


def _lay_end_to_end(cycles: Sequence[list[Line]]) -> list[list[Line]]:
    """Let the steps of each cycle follow those of the one before; leave out empty ones."""
    result: list[list[Line]] = []
    for cycle in filter(None, cycles):
        begin = result[-1][-1]["step"] if result else 0
        result.append([line | {"step": line["step"] + begin} for line in cycle])
    return result


def _draw_losses(axes: Any, cycles: list[list[Line]]) -> None:
    longest = max(len(cycle) for cycle in cycles)
    window = max(1, longest // 50)
    for number, lines in enumerate(cycles):
        is_last = number == len(cycles) - 1
        _draw_trained(axes, lines, window, is_last)
        _draw_evaluated(axes, lines, is_last)
        if len(cycles) > 1:
            begin = cycles[number - 1][-1]["step"] if number else 0
            axes.axvline(begin, color=_RATE, linewidth=0.8, linestyle=":")
            axes.annotate(
                f"cycle {number + 1}", (begin, 1), xycoords=("data", "axes fraction"),
                xytext=(4, -10), textcoords="offset points", color=_RATE, fontsize=9,
            )  # fmt: skip
    axes.set_ylim(*_range(cycles))
    axes.set_ylabel("loss per token (nats)", color=_INK)
    # Above the curves, which may be anywhere.
    axes.legend(
        frameon=False, labelcolor=_INK, loc="lower right", bbox_to_anchor=(1, 1), ncols=2,
        borderaxespad=0.2,
    )  # fmt: skip
    tidy(axes)


def _range(cycles: list[list[Line]]) -> tuple[float, float]:
    """Begin the axis at 0, but not where that would press all curves to its top."""
    names = ("loss", "validation_loss")
    losses = [line[name] for lines in cycles for line in lines for name in names if name in line]
    low, high = min(losses), max(losses)
    room = max(high - low, 0.02 * high)
    return (0.0 if low < high / 2 else low - 0.2 * room, high + 0.15 * room)


def _series(lines: list[Line], name: str) -> np.ndarray:
    """Return steps and values of a figure, [2, points]."""
    points = [(line["step"], line[name]) for line in lines if name in line]
    return np.array(points, float).reshape(-1, 2).T


def _draw_trained(axes: Any, lines: list[Line], window: int, with_label: bool) -> None:
    steps, loss = _series(lines, "loss")
    if window > 1:
        axes.plot(steps, loss, color=_TRAIN, alpha=0.22, linewidth=0.8)
    label = "training" if window == 1 else f"training, mean of {window} steps"
    axes.plot(
        steps, _smooth(loss, window), color=_TRAIN, linewidth=1.8,
        label=label if with_label else None,
    )  # fmt: skip


def _draw_evaluated(axes: Any, lines: list[Line], with_label: bool) -> None:
    steps, losses = _series(lines, "validation_loss")
    if not len(steps):
        return
    axes.plot(
        steps, losses, color=_VALIDATION, linewidth=1.6, marker="o",
        markersize=3.5, label="validation" if with_label else None,
    )  # fmt: skip
    best = best_validation(lines)
    if best and with_label:
        # At the right edge to the left of its point, or it would be cut off.
        side = "right" if best[0] > 0.9 * lines[-1]["step"] else "center"
        axes.annotate(
            f"best {best[1]:.3f}", best, xytext=(0, -14), textcoords="offset points",
            ha=side, color=_VALIDATION, fontsize=9,
            bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1},
        )  # fmt: skip


def _draw_rates(axes: Any, cycles: list[list[Line]]) -> None:
    for lines in cycles:
        steps, rates = _series(lines, "learning_rate")
        if len(steps):
            axes.fill_between(steps, rates, color=_RATE, alpha=0.25, linewidth=0)
            axes.plot(steps, rates, color=_RATE, linewidth=1.2)
            axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("learning rate", color=_INK)
    tidy(axes)


def _draw_time(axes: Any, lines: list[Line], plan: dict[str, Any], begin: int) -> None:
    """Draw the time taken beside the plan's prediction and its interval."""
    steps, seconds = _series(lines, "seconds")
    unit, name = (60.0, "minutes") if max(plan["high"], seconds.max()) > 300 else (1.0, "seconds")
    end = steps.max()
    axes.fill_between(
        [begin, end], [0, plan["low"] / unit], [0, plan["high"] / unit],
        color=_VALIDATION, alpha=0.18, linewidth=0,
    )  # fmt: skip
    axes.plot(
        [begin, end], [0, plan["predicted_seconds"] / unit], color=_VALIDATION, linewidth=1.2,
        linestyle="--", label="predicted by the plan",
    )  # fmt: skip
    axes.plot(steps, seconds / unit, color=_TRAIN, linewidth=1.6, label="taken")
    axes.set_ylim(bottom=0)
    axes.set_ylabel(name, color=_INK)
    axes.legend(frameon=False, labelcolor=_INK, fontsize=9)
    tidy(axes)


def _smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Average over the last ``window`` values, over fewer at the start."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    smooth: np.ndarray = (sums[ends] - sums[starts]) / (ends - starts)
    return smooth


def tidy(axes: Any) -> None:
    """Draw axes as all pictures of training have them."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#cbd2d9")
    axes.tick_params(colors=_INK, labelsize=9)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
