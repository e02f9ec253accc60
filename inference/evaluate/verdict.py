"""The verdict: measured figures against thresholds, a claim a line. Pure.

One rule for all: a threshold is surely met where the whole interval of the figure is on its right
side, surely missed where the whole is on the wrong one, and else there are too few rows to tell.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from operator import ge, gt, le, truediv
from typing import Any, Literal

import numpy as np

from inference.config import Thresholds
from inference.evaluate.metrics import FEWEST, Estimate, Sample, combine, exact_interval

Group = Literal["learned", "recites", "faithful"]
Outcome = Literal["met", "missed", "too_few", "not_judged", "not_measured"]
Samples = dict[str, dict[str, dict[str, Sample]]]
"""By side, system and metric."""

VERSION = 2
"""Of the rule and of what the thresholds mean: with another one a report is made anew."""
_MOST_ROWS = 100_000
"""Rows that nobody will evaluate: the figure stands at the threshold."""
_SPELT = 3
"""Open questions that the headline names."""


def _share(own: Sample, *_: Sample) -> Estimate:
    """Return the first figure, a percentage, as a share, 0 to 1."""
    estimate = own.estimate()
    return Estimate(*(None if end is None else end / 100 for end in vars(estimate).values()))


@dataclass(frozen=True)
class Question:
    """What is asked of a run, and how the answer is put."""

    group: Group
    key: str
    """Name of the threshold."""
    asks: str
    claim: str
    """What is true where the threshold is met."""
    fault: str
    """What is true where it is missed."""
    headline: str
    """The same in the verdict's one sentence."""
    figures: tuple[str, ...]
    """What is measured, as «side role metric»."""
    limit: str
    """The threshold in words."""
    is_met: Callable[[float, float], bool]
    answer: str = "{figure}"
    """``{0}``, ``{1}``: the values of the figures; ``{figure}``: what is judged."""
    form: str = "{:.1%}"
    """Of what is judged."""
    measure: Callable[..., Estimate] = _share
    """What is judged, in the threshold's unit."""
    is_optional: bool = False
    """Whether it is only asked where it was measured."""


def judge(
    samples: Samples, candidate: str, label: str, others: dict[str, str], thresholds: Thresholds
) -> dict[str, Any]:
    """Judge one system against others, the baselines and the thresholds, a line a question.

    Args:
        samples: the scores.
        candidate: key of the system.
        label: its name for people.
        others: keys of its ``base`` and of itself ``alone``, without neighbours in its prompts.
        thresholds: what it must reach.

    Returns:
        The verdict as ``report.json`` holds it. ``passed`` of a line is None where it has no
        threshold, was not measured or has too few rows to tell; that of all lines is False where
        one is missed, None where one has too few rows.
    """
    keys = {"own": candidate} | others

    def find(figure: str) -> Sample | None:
        side, role, metric = figure.split()
        sample = samples.get(side, {}).get(keys.get(role, role), {}).get(metric)
        return sample if sample is not None and np.isfinite(sample.value) else None

    questions = [q for q in QUESTIONS if not q.is_optional or all(map(find, q.figures))]
    lines = [_line(question, find, getattr(thresholds, question.key)) for question in questions]
    outcomes = {line["outcome"] for line in lines}
    passed = False if "missed" in outcomes else None if "too_few" in outcomes else True
    return {"candidate": candidate, "label": label, "headline": _headline(questions, lines),
            "passed": passed, "lines": lines}  # fmt: skip


def sentence(line: dict[str, Any]) -> str:
    """Put a line in a sentence: a claim with its figures, or a question with them."""
    claim, told = line["claim"], line["told"]
    return f"{claim} {told}" if claim.endswith("?") else f"{claim}: {told}"


def _headline(questions: list[Question], lines: list[dict[str, Any]]) -> str:
    """Sum up all lines in a sentence."""
    by_outcome: dict[Outcome, list[Question]] = {}
    for question, line in zip(questions, lines, strict=True):
        by_outcome.setdefault(line["outcome"], []).append(question)
    if missed := by_outcome.get("missed"):
        *first, last = dict.fromkeys(question.headline for question in missed)
        return "Do not ship: " + (", ".join(first) + " and " if first else "") + last
    if unsure := by_outcome.get("too_few"):
        count = "1 question has" if len(unsure) == 1 else f"{len(unsure)} questions have"
        asks = " ".join(question.asks for question in unsure[:_SPELT])
        more = f" And {len(unsure) - _SPELT} more" if len(unsure) > _SPELT else ""
        return f"Nothing against it, but {count} too few rows to tell: {asks}{more}"
    if "met" not in by_outcome:
        return "Nothing could be judged"
    if "not_measured" in by_outcome:
        return "Nothing against it: every threshold that could be measured is surely met"
    return "Ship it: every threshold is surely met"


def _line(
    question: Question, find: Callable[[str], Sample | None], limit: float | None
) -> dict[str, Any]:
    """Answer one question."""
    line: dict[str, Any] = {
        "group": question.group, "key": question.key, "question": question.asks,
        "claim": question.asks, "told": "not measured", "outcome": "not_measured", "passed": None,
        **vars(Estimate(None)), "limit": limit, "rows": None, "rows_needed": None,
    }  # fmt: skip
    samples = [sample for figure in question.figures if (sample := find(figure))]
    if len(samples) < len(question.figures):
        return line
    estimate = question.measure(*samples)
    if estimate.value is None or not np.isfinite(estimate.value):
        return line
    rows, count = samples[0].rows, samples[0].count if question.measure is _share else None
    outcome, needed = "not_judged", None
    if limit is not None:
        outcome = _outcome(question, estimate, limit)
    if limit is not None and outcome == "too_few":
        needed = _rows_needed(question, estimate, limit, rows, count)
    text = question.answer.format(
        *(sample.value for sample in samples),
        figure=_figure(question, estimate, count, outcome),
        runaways=_runaways(find("unseen own ended")),
    )
    asked = "; not judged" if limit is None else f"; asked: {question.limit.format(limit)}"
    advice = f"; {_advice(estimate, needed)}" if outcome == "too_few" else ""
    return line | {
        "claim": {"met": question.claim, "missed": question.fault}.get(outcome, question.asks),
        "told": text + asked + advice, "outcome": outcome,
        "passed": {"met": True, "missed": False}.get(outcome),
        **vars(estimate), "rows": rows, "rows_needed": needed,
    }  # fmt: skip


def _outcome(question: Question, estimate: Estimate, limit: float) -> Outcome:
    if estimate.low is None or estimate.high is None:
        return "too_few"
    sides = {question.is_met(end, limit) for end in (estimate.low, estimate.high)}
    return "too_few" if len(sides) > 1 else "met" if sides == {True} else "missed"


def _rows_needed(
    question: Question, estimate: Estimate, limit: float, rows: int, count: tuple[int, int] | None
) -> int | None:
    """Estimate how many rows would tell if the figure stays; None: hardly any number.

    A share is looked up in exact intervals; others narrow with the root of the rows.
    """
    value, low, high = vars(estimate).values()
    if count:
        share = count[0] / count[1]
        sizes = range(count[1] + 1, _MOST_ROWS + 1)
        place = bisect_left(sizes, True, key=partial(_tells, question, share, limit))
        return _rounded(sizes[place]) if place < len(sizes) else None
    if low is None or high is None:
        return FEWEST
    away, reach = abs(value - limit), value - low if value > limit else high - value
    if not away or reach**2 * rows > _MOST_ROWS * away**2:
        return None
    return _rounded(math.ceil((reach / away) ** 2 * rows))


def _tells(question: Question, share: float, limit: float, rows: int) -> bool:
    low, high = exact_interval(share * rows, rows)
    return question.is_met(low, limit) == question.is_met(high, limit)


def _rounded(rows: int) -> int:
    """Round up to two digits."""
    step = int(10 ** max(len(str(rows)) - 2, 0))
    return -(-rows // step) * step


def _advice(estimate: Estimate, needed: int | None) -> str:
    if estimate.low is None:
        return f"too few rows to tell: it takes {needed} at least"
    if needed is None:
        return "too close to tell: it stands at the threshold"
    return f"too few rows to tell: about {needed:,} would"


def _figure(
    question: Question, estimate: Estimate, count: tuple[int, int] | None, outcome: str
) -> str:
    """Put what is judged in words: texts of all texts, or a figure, and its interval."""
    form, low, high = question.form.format, estimate.low, estimate.high
    text = f"{count[0]:,} of {count[1]:,} texts" if count else form(estimate.value)
    if low is None or high is None:
        return text
    if not count or (outcome not in ("met", "missed") and low > 0 and high < 1):
        return f"{text} ({form(low)} to {form(high)})"
    is_most = low == 0 or (high < 1 and (question.is_met is le) == (outcome == "met"))
    return f"{text}, " + (f"at most {form(high)}" if is_most else f"at least {form(low)}")


def _runaways(ended: Sample | None) -> str:
    """Put in words how many texts did not end by themselves, where that is known."""
    if not ended or not ended.count:
        return ""
    part, whole = ended.count
    return f", {whole - part:,} run away"


def _drop(own: Sample, base: Sample) -> Estimate:
    return combine(lambda one, other: 1 - one / other, own, base).estimate()


def _gain(own: Sample, other: Sample) -> Estimate:
    return own.minus(other).estimate()


def _quotient(own: Sample, real: Sample) -> Estimate:
    return combine(truediv, own, real).estimate()


def _gap(unseen: Sample, seen: Sample) -> Estimate:
    return combine(truediv, unseen, seen, are_paired=False).estimate()


def _excess(own: Sample, real: Sample) -> Estimate:
    """Return the paired difference as a share, at most as sure as one of whole texts.

    Where hardly a text copies, no resample knows of those that might.
    """
    estimate = _share(own.minus(real))
    if estimate.high is None:
        return estimate
    most = exact_interval(own.value / 100 * own.rows, own.rows)[1] - real.value / 100
    return replace(estimate, high=max(estimate.high, most))


def _falls(share: float, limit: float) -> bool:
    return share >= limit and share > 0


def _rouge(other: str) -> tuple[str, ...]:
    return ("unseen own rougeL", f"unseen {other} rougeL")


_LEARNED = "it has not learned to describe"
_RECITES = "it recites its training texts"
_ROUGE = "ROUGE-L {0:.1f} against {1:.1f}, {figure} points"
QUESTIONS = (
    Question(
        "learned", "perplexity_drop", "Does it predict unseen descriptions better?",
        "Predicts unseen descriptions better", "Hardly predicts unseen descriptions better",
        _LEARNED, ("unseen own perplexity", "unseen base perplexity"), "at least {:.1%} lower",
        _falls,
        "perplexity {0:.2f} against the base's {1:.2f}, {figure} lower", measure=_drop,
    ),
    Question(
        "learned", "gain_over_base", "Does it write better than its base?",
        "Writes better than its base", "Writes no better than its base", _LEARNED,
        _rouge("base"), "above {:+.1f}", gt, _ROUGE, "{:+.1f}", _gain,
    ),
    Question(
        "learned", "gain_over_title", "Does it say more than the title?",
        "Says more than the title", "Says no more than the title", _LEARNED,
        _rouge("title"), "above {:+.1f}", gt, _ROUGE, "{:+.1f}", _gain,
    ),
    Question(
        "learned", "gain_over_nearest", "Does it beat copying the nearest trained row?",
        "Beats copying the nearest trained row", "Does not beat copying the nearest trained row",
        "it does not beat copying the nearest trained row",
        _rouge("nearest"), "above {:+.1f}", gt, _ROUGE, "{:+.1f}", _gain,
    ),
    Question(
        "learned", "gain_over_alone", "Do the neighbours in its prompts help?",
        "The neighbours in its prompts help", "The neighbours in its prompts do not help",
        "the neighbours in its prompts do not help",
        _rouge("alone"), "above {:+.1f}", gt, _ROUGE, "{:+.1f}", _gain, is_optional=True,
    ),
    Question(
        "recites", "recited_unseen", "Does it recite?", "Does not recite",
        "Recites for unseen titles", _RECITES, ("unseen own recited",), "at most {:.1%}", le,
    ),
    Question(
        "recites", "recited_seen", "Does it give back the texts of trained titles?",
        "Does not give back the texts of trained titles", "Gives back the texts of trained titles",
        _RECITES, ("seen own recited",), "at most {:.1%}", le,
    ),
    Question(
        "recites", "perplexity_gap", "Does it know trained descriptions by heart?",
        "Does not know trained descriptions by heart", "Knows trained descriptions by heart",
        _RECITES, ("unseen own perplexity", "seen own perplexity"), "at most {:.2g} times", le,
        "perplexity {0:.2f} unseen, {1:.2f} trained, {figure} times", "{:.2f}", _gap,
    ),
    Question(
        "recites", "excess_copied", "Does it copy more than real descriptions do?",
        "Copies hardly more than real descriptions do", "Copies more than real descriptions do",
        _RECITES, ("unseen own copied", "unseen reference copied"), "at most {:+.1%}", le,
        "{0:.0f}% of characters against {1:.0f}%, {figure}", "{:+.1%}", _excess,
    ),
    Question(
        "faithful", "title_kept", "Does it speak of the title's product?",
        "Speaks of the title's product", "Strays from the title's product",
        "it strays from the title", ("unseen own title_words", "unseen reference title_words"),
        "at least {:.1%}", ge,
        "{0:.0f}% of the title's words against {1:.0f}% in real descriptions, {figure} as many",
        measure=_quotient,
    ),
    Question(
        "faithful", "unsupported", "Does it invent numbers?", "Does not invent numbers",
        "Invents numbers", "it invents numbers", ("unseen own inventing",), "at most {:.1%}", le,
    ),
    Question(
        "faithful", "ended", "Does it end by itself?", "Ends by itself",
        "Often does not end by itself", "its texts do not end", ("unseen own ended",),
        "at least {:.1%}", ge,
    ),
    Question(
        "faithful", "repetition", "Does it repeat itself?", "Does not repeat itself",
        "Repeats itself", "it repeats itself",
        ("unseen own repeating", "unseen own repetition"), "at most {:.1%}", le,
        "{figure}{runaways}, {1:.1f}% of word 4-grams repeated",
    ),
)  # fmt: skip
