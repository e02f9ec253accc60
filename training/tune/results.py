"""What a search ends with: its table, ``best.yaml``, ``tune.png`` and the facts of its manifest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from data import charts, console
from data.artefacts.folder import Folder
from training.config import TrainConfig
from training.loop import metrics
from training.tune import halving
from training.tune.config import Range, Space, TuneConfig, applied
from training.tune.halving import SHARES, Trial

RECIPE, PICTURE = "best.yaml", "tune.png"
# Times the lowest loss: what is higher is not shown.
_HIGHEST = 1.5
_MOST_TICKS = 8
_DIVERGED = "diverges with a second seed"
_INK, _COLOURS = "#1f2933", ("#2f6f9f", "#c8553d", "#4f8a5b", "#7b5ea7", "#b8860b", "#7b8794")


@dataclass(frozen=True)
class Spent:
    """What a search took."""

    steps: int
    """Optimizer steps of all trials."""
    whole_steps: int
    """Steps that all trials would take to their ends."""
    seconds: float
    training_seconds: float
    """Of the seconds, those in the training loop, evaluation and saving included."""
    is_over: bool = False
    """Whether more was wanted than the budget pays for."""

    @property
    def overhead(self) -> float:
        """Return the share of the time that went into starting, loading and planning."""
        return 1 - min(self.training_seconds / self.seconds, 1.0) if self.seconds else 0.0


def name_of(values: dict[str, Any]) -> str:
    """Name a trial by its values."""
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def announcement(count: int, config: TuneConfig, seconds: float) -> str:
    """Say what a search will do, and what it should take.

    Args:
        count: trials.
        config: of the search.
        seconds: that a whole run should take; 0: not known yet.
    """
    _, second, last = halving.places(count)
    runs = halving.cost(count)
    total = f", about {console.duration(runs * seconds)}" if seconds else ""
    within = f" within {config.budget}" if config.budget else ""
    what = f"{count:,} trial{'' if count == 1 else 's'} of {', '.join(config.space.dimensions)}"
    return (
        f"{what}{within}: all to a ninth of their steps, {second} to a third, {last} to the end, "
        f"the best with a second seed; some {runs:.1f} whole runs{total}"
    )


def facts(trials: Sequence[Trial], spent: Spent) -> dict[str, Any]:
    """Return the facts of the manifest."""
    best = halving.best(trials)
    assert best  # noqa: S101  # the search ends with an error where there is none
    return {
        "best": best.values,
        "best_trial": f"trials/{best.number:03d}",
        "validation_loss": best.losses[-1],
        "validation_loss_second_seed": best.repeated,
        "trials": [
            {"values": t.values, "losses": list(t.losses), "second_seed": _finite(t.repeated),
             "fault": t.fault or _fault_again(t)} for t in trials
        ],
        "steps": spent.steps,
        "whole_steps": spent.whole_steps,
        "seconds": round(spent.seconds, 1),
        "overhead": round(spent.overhead, 4),
    }  # fmt: skip


def _fault_again(trial: Trial) -> str:
    return "" if trial.repeated is None or math.isfinite(trial.repeated) else _DIVERGED


def _finite(loss: float | None) -> float | None:
    return None if loss is None or not math.isfinite(loss) else loss


def summary(config: TuneConfig, trials: Sequence[Trial], spent: Spent) -> str:
    """Return the table of the trials, what was spent, and where the best recipe is."""
    best = halving.best(trials)
    assert best  # noqa: S101
    names = list(config.space.dimensions)
    ranking = sorted(trials, key=lambda t: (bool(t.fault), -len(t.losses), _last(t), t.number))
    rows = [
        [
            "> " if trial is best else "  ", str(trial.number + 1),
            *(f"{trial.values[name]:g}" for name in names), _steps(trial), *_outcome(trial),
        ]
        for trial in ranking
    ]  # fmt: skip
    lines = [
        console.table(rows, ("", "trial", *names, "steps", "loss", "")),
        f"\n{spent.steps:,} steps in {console.duration(spent.seconds)}, {spent.overhead:.0%} of "
        f"it outside training; whole runs of all trials: {spent.whole_steps:,} steps",
    ]
    if spent.is_over:
        lines.append("the budget is spent: what else was wanted is left out")
    if edges := _edges(config.space, best):
        lines.append(f"at the edge of what was tried: {edges}; a wider --space may be better still")
    if not best.is_finished:
        lines.append("no trial came to its end within the budget: this one led so far")
    recipe = Path(config.out) / RECIPE
    lines.append(f"{recipe} is the best recipe, validation loss {_interval(best)}")
    return "\n".join(lines)


def _last(trial: Trial) -> float:
    return trial.losses[-1] if trial.losses else float("inf")


def _steps(trial: Trial) -> str:
    if not trial.steps:
        return ""
    reached = trial.steps[len(trial.losses) - 1] if trial.losses else 0
    return f"{reached:,} of {trial.steps[-1]:,}"


def _outcome(trial: Trial) -> tuple[str, str]:
    if trial.fault:
        return "", f"given up: {trial.fault}"[:80]
    if not trial.losses:
        return "", "not begun"
    return _interval(trial), _fault_again(trial) if trial.is_finished else "halted"


def _interval(trial: Trial) -> str:
    """Tell a loss; of two seeds the mean, and both."""
    if not trial.is_finished or trial.repeated is None or not math.isfinite(trial.repeated):
        return f"{_last(trial):.4f}"
    low, high = sorted((trial.losses[-1], trial.repeated))
    return f"{trial.loss:.4f} ({low:.4f} to {high:.4f})"


def _edges(space: Space, best: Trial) -> str:
    """Name the settings whose best value is the lowest or the highest of at least three."""
    sides = {
        name: side
        for name, side in space.dimensions.items()
        if not isinstance(side, Range) and len(side) > 2
    }
    edges = [name for name, side in sides.items() if best.values[name] in (min(side), max(side))]
    return " and ".join(f"{name} {best.values[name]:g}" for name in edges)


def write(config: TuneConfig, trials: Sequence[Trial], out: Path) -> list[Path]:
    """Write the best recipe and the picture; return their paths."""
    best = halving.best(trials)
    assert best  # noqa: S101
    folder = Folder(str(out))
    folder.commit(RECIPE, _recipe(config, best, len(trials)).encode())
    folder.commit(PICTURE, _picture(config, trials))
    return [out / RECIPE, out / PICTURE]


def _recipe(config: TuneConfig, best: Trial, count: int) -> str:
    import yaml

    # The loss is that of the best of these evaluations.
    kept = config.checkpoints.by_thirds(best.steps[-1])
    recipe = replace(applied(config, best.values), checkpoints=kept)
    changed = _changed(recipe, TrainConfig())
    for name, value in best.values.items():
        section, key = ("lora", "r") if name == "rank" else ("optimisation", name)
        changed.setdefault(section, {})[key] = value
    trials = f"{count} trials" if count > 1 else "1 trial"
    about = (
        f"# Found by python -m training tune among {trials} on {config.subset}:\n"
        f"# validation loss {_interval(best)} nats a token.\n"
    )
    return about + yaml.safe_dump(changed, sort_keys=False)


def _changed(value: Any, default: Any) -> dict[str, Any]:
    """Return the fields that differ from the defaults, but those that only say where work runs."""
    result: dict[str, Any] = {}
    for field in fields(value):
        own, usual = getattr(value, field.name), getattr(default, field.name)
        if own == usual or not field.metadata.get("identity", True):
            continue
        if is_dataclass(own) and not isinstance(own, type):
            own = _changed(own, usual if is_dataclass(usual) else type(own)())
        result[field.name] = own
    return result


def _picture(config: TuneConfig, trials: Sequence[Trial]) -> bytes:
    """Draw loss against the rate, a line a batch size: at the first rung, and at the end."""
    from matplotlib.figure import Figure

    names = list(config.space.dimensions)
    across = "learning_rate" if "learning_rate" in names else names[0]
    others = [name for name in names if name != across]
    figure = Figure(figsize=(11, 4.8), dpi=120, layout="constrained")
    panels = zip(figure.subplots(1, 2), (0, len(SHARES) - 1), strict=True)
    titles = ("after a ninth of the steps; off the top: far worse", "at the end; bars: two seeds")
    for (axes, rung), title in zip(panels, titles, strict=True):
        groups: dict[str, list[Trial]] = {}
        for trial in sorted(trials, key=lambda t: t.values[across]):
            if len(trial.losses) > rung and not trial.fault:
                key = ", ".join(f"{name} {trial.values[name]:g}" for name in others)
                groups.setdefault(key, []).append(trial)
        _draw(axes, {key: groups[key] for key in sorted(groups, key=_natural)}, across, rung)
        _scale(axes, sorted({trial.values[across] for trial in trials}))
        axes.set_title(title, fontsize=10, color=_INK, loc="left")
    figure.suptitle("Validation loss, nats a token", fontsize=11, color=_INK)
    return charts.picture(figure)


def _natural(key: str) -> list[float]:
    return [float(word) for word in key.replace(",", "").split() if word[0].isdigit()]


def _draw(axes: Any, groups: dict[str, list[Trial]], across: str, rung: int) -> None:
    for place, (key, group) in enumerate(groups.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        rates = [trial.values[across] for trial in group]
        losses = [_shown(trial, rung) for trial in group]
        axes.plot(rates, losses, "o-", color=colour, linewidth=1.4, markersize=5, label=key or None)
        for trial, rate in zip(group, rates, strict=True):
            if rung and trial.repeated is not None and math.isfinite(trial.repeated):
                axes.plot([rate] * 2, [trial.losses[-1], trial.repeated], color=colour, linewidth=4,
                          alpha=0.35, solid_capstyle="butt")  # fmt: skip
    low, high = axes.get_ylim()
    least = min((t.losses[rung] for group in groups.values() for t in group), default=low)
    # What diverged would press all others to the bottom; its lines leave the picture at the top.
    axes.set_ylim(low if high < _HIGHEST * least else 0.95 * least, min(high, _HIGHEST * least))
    axes.set_xlabel(across.replace("_", " "), color=_INK)
    metrics.tidy(axes)
    if any(groups):
        axes.legend(frameon=False, fontsize=9)


def _shown(trial: Trial, rung: int) -> float:
    """Return the loss of a trial in the picture: at the end the mean of its seeds."""
    return trial.loss if rung and math.isfinite(trial.loss) else trial.losses[rung]


def _scale(axes: Any, values: list[float]) -> None:
    """Let an axis show the values that were tried, or of very many the powers of ten."""
    if min(values) > 0:
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 1.3, max(values) * 1.3)
    if len(values) <= _MOST_TICKS:
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
