"""Which trial goes on, and how far: successive halving that can go back. Pure.

All trials are trained to the first rung, the best of them to the second, the best of those to the
end (Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943). A halted one keeps its place:
where one that was preferred diverges, or ends up worse than the halted one stood, that one goes on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SHARES = (1 / 9, 1 / 3, 1.0)
"""Of a run's steps, at each rung."""
_REDUCTION = 3
_FINALISTS = 3
"""So many at most are trained with a second seed before the best is chosen."""
_FEW = 9
"""Of fewer trials all finalists get a second seed; of more, a search keeps to half of all steps."""


@dataclass(frozen=True)
class Trial:
    """One combination of values, and how far it came."""

    number: int
    values: dict[str, Any]
    losses: tuple[float, ...] = ()
    """Validation loss at each rung that it reached, nats a token."""
    fault: str = ""
    """Why it cannot go on."""
    seconds: float = 0.0
    """Spent on it, loading and evaluating included."""
    steps: tuple[int, ...] = field(default=())
    """Optimizer steps at each rung."""
    repeated: float | None = None
    """Loss at the end with another seed; infinite where it diverged."""

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end."""
        return len(self.losses) == len(SHARES) and not self.fault

    @property
    def loss(self) -> float:
        """Return its loss at the end, the mean where two seeds ran; infinite before."""
        if not self.is_finished:
            return math.inf
        own = self.losses[-1]
        return own if self.repeated is None else (own + self.repeated) / 2


def places(trials: int) -> tuple[int, ...]:
    """Return how many of so many trials may reach each rung."""
    second = max(min(trials, _FINALISTS), math.ceil(trials / _REDUCTION))
    return trials, second, max(min(trials, _FINALISTS), math.ceil(second / _REDUCTION))


def cost(trials: int) -> float:
    """Return the whole runs that so many trials cost, the second seeds of the best included."""
    counts = places(trials)
    reached = (0.0, *SHARES)
    climbed = zip(counts, reached, SHARES, strict=False)
    return sum(count * (top - low) for count, low, top in climbed) + min(trials, _FINALISTS)


def next_move(trials: Sequence[Trial]) -> tuple[Trial, int] | None:
    """Choose the trial to train next, and the rung to train it to; None: no more is wanted.

    Args:
        trials: all that there will be, those without losses not begun.
    """
    counts = places(len(trials))
    for trial in trials:
        if not trial.losses and not trial.fault:
            return trial, 0
    for rung in range(1, len(SHARES)):
        ranked = sorted((_standing(t, rung - 1), t.number, t) for t in trials)
        for standing, _, trial in ranked[: counts[rung]]:
            if standing < math.inf and len(trial.losses) == rung:
                return trial, rung
    return None


def rung_steps(steps: int, warmup: float) -> tuple[int, ...]:
    """Return the step of each rung of a run; the first one lies well behind the warm-up.

    Args:
        steps: of the whole run.
        warmup: as ``optimisation.warmup_steps``.
    """
    rising = warmup if warmup >= 1 else warmup * steps
    least = min(steps, math.ceil(2 * rising))
    return tuple(max(least, math.ceil(share * steps)) for share in SHARES)


def _standing(trial: Trial, rung: int) -> float:
    """Return the loss by which a trial counts at a rung: what it was there, or worse since."""
    reached = trial.losses[rung:]
    return max(reached) if reached and not trial.fault else math.inf


def finalists(trials: Sequence[Trial]) -> list[Trial]:
    """List the best of those that came to their end, by their first seed, the best first."""
    ended = [trial for trial in trials if trial.is_finished]
    return sorted(ended, key=lambda trial: (trial.losses[-1], trial.number))[:_FINALISTS]


def steps_taken(trials: Sequence[Trial]) -> int:
    """Count the optimizer steps of all trials, second seeds included."""
    own = sum(trial.steps[len(trial.losses) - 1] for trial in trials if trial.losses)
    return own + sum(trial.steps[-1] for trial in trials if trial.repeated is not None)


def next_repeat(trials: Sequence[Trial]) -> Trial | None:
    """Choose the trial to train with a second seed, from its start; None: no more is wanted.

    The best one always; the next ones as long as the search keeps to half of the steps that all
    trials would take to their ends.
    """
    left = sum(trial.steps[-1] for trial in trials if trial.steps) / 2 - steps_taken(trials)
    sound = [trial for trial in finalists(trials) if trial.repeated != math.inf]
    for place, trial in enumerate(sound):
        may = place == 0 or len(trials) < _FEW or trial.steps[-1] <= left
        if trial.repeated is None and may:
            return trial
    return None


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the best: of those with two seeds, else by one; else the one that led farthest."""
    ended = finalists(trials)
    for several in (
        [trial for trial in ended if math.isfinite(trial.loss) and trial.repeated is not None],
        [trial for trial in ended if trial.repeated is None],
    ):
        if several:
            return min(several, key=lambda trial: (trial.loss, trial.number))
    sound = [trial for trial in trials if trial.losses and not trial.fault]
    ranking = lambda trial: (-len(trial.losses), trial.losses[-1], trial.number)  # noqa: E731
    return min(sound, key=ranking, default=None)
