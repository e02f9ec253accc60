"""The verdict: what was measured against what was asked, a line a question. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from inference.config import Thresholds
from inference.evaluate.bootstrap import Estimate, Sample

Group = Literal["learned", "recites", "faithful"]
Samples = dict[str, dict[str, dict[str, Sample]]]
"""By side, candidate and metric."""

_UNMEASURED = "not measured"
_SAYS = {
    "learned": "it has not learned to describe",
    "recites": "it recites its training texts",
    "title_kept": "it strays from the title",
    "unsupported": "it invents numbers",
    "ended": "its texts do not end",
    "repetition": "it repeats itself",
}


@dataclass(frozen=True)
class Line:
    """One question and its answer."""

    group: Group
    key: str
    """The threshold's name."""
    question: str
    told: str
    """What was measured, and what was asked."""
    passed: bool | None
    """None: not asked, or not measured."""


@dataclass(frozen=True)
class Verdict:
    """All lines of one candidate."""

    candidate: str
    label: str
    lines: tuple[Line, ...]

    @property
    def failed(self) -> list[Line]:
        """The lines whose threshold is not met."""
        return [line for line in self.lines if line.passed is False]

    @property
    def headline(self) -> str:
        """The verdict in a sentence."""
        if not self.failed:
            if not any(line.passed for line in self.lines):
                return "Nothing could be judged"
            if any(line.told.startswith(_UNMEASURED) for line in self.lines):
                return "Nothing against it: every threshold that could be measured is met"
            return "Ship it: every threshold is met"
        says = dict.fromkeys(_SAYS.get(line.key) or _SAYS[line.group] for line in self.failed)
        *first, last = says
        return "Do not ship: " + (", ".join(first) + " and " if first else "") + last


class _Judge:
    """Collects the lines of one candidate."""

    def __init__(self, samples: Samples, names: dict[str, str | None], asked: Thresholds) -> None:
        self._samples = samples
        self._names = names
        self._asked = asked
        self.lines: list[Line] = []

    def find(self, side: str, who: str, metric: str) -> Sample | None:
        """Find a sample of a candidate named by its role."""
        name = self._names.get(who)
        found = self._samples.get(side, {}).get(name or "", {}).get(metric)
        return found if found is not None and np.isfinite(found.value) else None

    def add(
        self, group: Group, key: str, question: str, told: str | None,
        judge: Callable[[float], bool | None], asked: str,
    ) -> None:  # fmt: skip
        """Add a line: ``told`` is None where nothing was measured; ``asked`` words the limit."""
        limit = getattr(self._asked, key)
        if told is None:
            self.lines.append(Line(group, key, question, _UNMEASURED, None))
        elif limit is None:
            self.lines.append(Line(group, key, question, f"{told}; not judged", None))
        else:
            line = f"{told}; asked: {asked.format(limit)}"
            self.lines.append(Line(group, key, question, line, judge(limit)))


def judge(
    samples: Samples, candidate: str, label: str, base: str | None, asked: Thresholds
) -> Verdict:
    """Judge one candidate.

    Args:
        samples: of all candidates on both sides.
        candidate: whom to judge.
        label: its name for people.
        base: its base, where it has one.
        asked: the thresholds.
    """
    names = {"own": candidate, "base": base, "title": "title", "nearest": "nearest",
             "reference": "reference"}  # fmt: skip
    court = _Judge(samples, names, asked)
    _learned(court)
    _recites(court)
    _faithful(court)
    return Verdict(candidate, label, tuple(court.lines))


def _learned(court: _Judge) -> None:
    own, base = (
        court.find("unseen", "own", "perplexity"),
        court.find("unseen", "base", "perplexity"),
    )
    told, drop = None, Estimate(None)
    if own and base:
        share = Sample(1 - own.value / base.value, 1 - own.drawn / base.drawn, own.rows)
        drop = share.estimate()
        fall = f"{drop.value:.1%} lower{_range(drop, '{:.1%}')}"
        told = f"perplexity {own.value:.2f}, base {base.value:.2f}: {fall}"
    court.add("learned", "perplexity_drop", "Does it predict unseen descriptions better?", told,
              lambda limit: drop.low is not None and drop.low >= limit and drop.low > 0,
              "surely {:.0%} lower")  # fmt: skip
    for who, key, question in (
        ("base", "gain_over_base", "Does it write better than its base?"),
        ("title", "gain_over_title", "Does it say more than the title?"),
        ("nearest", "gain_over_nearest", "Does it beat copying the nearest trained row?"),
    ):
        mine, other = court.find("unseen", "own", "rougeL"), court.find("unseen", who, "rougeL")
        gain, told = Estimate(None), None
        if mine and other:
            gain = mine.minus(other).estimate()
            told = (
                f"ROUGE-L {mine.value:.1f}, {_WHO[who]} {other.value:.1f}: "
                f"{gain.value:+.1f}{_range(gain, '{:+.1f}')}"
            )
        low = gain.low
        court.add("learned", key, question, told,
                  lambda limit, low=low: low is not None and low > limit, "surely above {:+.1f}")  # type: ignore[misc]  # fmt: skip


_WHO = {"base": "base", "title": "title", "nearest": "nearest row"}


def _recites(court: _Judge) -> None:
    for side, question in (
        ("unseen", "Does it answer unseen titles with training texts?"),
        ("seen", "Does it give back the texts of trained titles?"),
    ):
        recited = court.find(side, "own", "recited")
        told = (
            f"{recited.value:.1f}% of texts{_range(recited.estimate(), '{:.1f}')}"
            if recited
            else None
        )
        court.add("recites", f"recited_{side}", question, told,
                  _at_most(recited.value / 100 if recited else 0), "at most {:.0%}")  # fmt: skip
    seen, unseen = (
        court.find("seen", "own", "perplexity"),
        court.find("unseen", "own", "perplexity"),
    )
    gap = unseen.value / seen.value if seen and unseen else 0.0
    told = (
        f"perplexity {unseen.value:.2f} unseen, {seen.value:.2f} trained: {gap:.2f} times"
        if seen and unseen else None
    )  # fmt: skip
    court.add("recites", "perplexity_gap", "Does it know trained descriptions by heart?", told,
              _at_most(gap), "at most {:.2g} times")  # fmt: skip
    copied, real = (
        court.find("unseen", "own", "copied"),
        court.find("unseen", "reference", "copied"),
    )
    excess = copied.value - real.value if copied and real else 0.0
    told = (
        f"{copied.value:.0f}% of characters, real descriptions {real.value:.0f}%"
        if copied and real else None
    )  # fmt: skip
    court.add("recites", "excess_copied", "Does it copy more than real descriptions do?", told,
              _at_most(excess / 100), "at most {:.0%} more")  # fmt: skip


def _faithful(court: _Judge) -> None:
    kept, real = (court.find("unseen", who, "title_words") for who in ("own", "reference"))
    share = kept.value / real.value if kept and real and real.value else 0.0
    told = (
        f"{kept.value:.0f}% of its words, real descriptions {real.value:.0f}%"
        if kept and real else None
    )  # fmt: skip
    court.add("faithful", "title_kept", "Does it speak of the title's product?", told,
              lambda limit: share >= limit, "at least {:.0%} of the real ones' share")  # fmt: skip
    invented = court.find("unseen", "own", "unsupported")
    told = f"{invented.value:.0f}% of its numbers" if invented else None
    court.add("faithful", "unsupported", "Does it invent numbers?", told,
              _at_most(invented.value / 100 if invented else 0), "at most {:.0%}")  # fmt: skip
    ended = court.find("unseen", "own", "ended")
    told = f"{ended.value:.1f}% of texts" if ended else None
    court.add("faithful", "ended", "Does it come to an end?", told,
              lambda limit: ended is not None and ended.value / 100 >= limit,
              "at least {:.0%}")  # fmt: skip
    again = court.find("unseen", "own", "repetition")
    told = f"{again.value:.1f}% of word 4-grams" if again else None
    court.add("faithful", "repetition", "Does it repeat itself?", told,
              _at_most(again.value / 100 if again else 0), "at most {:.0%}")  # fmt: skip


def _at_most(value: float) -> Callable[[float], bool]:
    return lambda limit: value <= limit


def _range(estimate: Estimate, form: str) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" ({form.format(estimate.low)} to {form.format(estimate.high)})"


def as_dict(verdict: Verdict) -> dict[str, Any]:
    """Give a verdict as plain values."""
    return {
        "candidate": verdict.candidate,
        "label": verdict.label,
        "headline": verdict.headline,
        "passed": not verdict.failed,
        "lines": [vars(line) for line in verdict.lines],
    }
