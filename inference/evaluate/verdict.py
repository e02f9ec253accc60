"""The verdict: measured figures against thresholds, a line a question. Pure."""

from collections.abc import Callable
from functools import partial
from operator import ge, gt, le
from typing import Any, Literal

import numpy as np

from inference.config import Thresholds
from inference.evaluate.metrics import Estimate, Sample

Group = Literal["learned", "recites", "faithful"]
Samples = dict[str, dict[str, dict[str, Sample]]]
"""By side, system and metric."""
Answer = tuple[str, float | None]
"""The figures in words, and the one to compare with the threshold; None: it has no interval."""

_UNMEASURED = "not measured"
_SAYS = {
    "learned": "it has not learned to describe",
    "recites": "it recites its training texts",
    "title_kept": "it strays from the title",
    "unsupported": "it invents numbers",
    "ended": "its texts do not end",
    "repetition": "it repeats itself",
}


def judge(
    samples: Samples, candidate: str, label: str, base: str | None, thresholds: Thresholds
) -> dict[str, Any]:
    """Judge one system against its base, the baselines and the thresholds, a line a question.

    Returns:
        The verdict as ``report.json`` holds it; ``passed`` of a line is None where it has no
        threshold or was not measured.
    """
    keys = {"own": candidate, "base": base}

    def find(figure: str) -> Sample | None:
        side, role, metric = figure.split()
        sample = samples.get(side, {}).get(keys.get(role, role) or "", {}).get(metric)
        return sample if sample is not None and np.isfinite(sample.value) else None

    lines = []
    for group, key, question, figures, measure, is_met, limit_text in _QUESTIONS:
        limit, passed = getattr(thresholds, key), None
        measured = [sample for figure in figures if (sample := find(figure))]
        text = _UNMEASURED
        if len(measured) == len(figures):
            text, value = measure(*measured)
            if limit is None:
                text += "; not judged"
            else:
                text += f"; asked: {limit_text.format(limit)}"
                passed = value is not None and is_met(value, limit)
        lines.append({"group": group, "key": key, "question": question, "told": text,
                      "passed": passed})  # fmt: skip
    failed = [line for line in lines if line["passed"] is False]
    return {"candidate": candidate, "label": label, "headline": _headline(lines, failed),
            "passed": not failed, "lines": lines}  # fmt: skip


def _headline(lines: list[dict[str, Any]], failed: list[dict[str, Any]]) -> str:
    """Sum up all lines in a sentence."""
    if failed:
        says = dict.fromkeys(_SAYS.get(line["key"]) or _SAYS[line["group"]] for line in failed)
        *first, last = says
        return "Do not ship: " + (", ".join(first) + " and " if first else "") + last
    if not any(line["passed"] for line in lines):
        return "Nothing could be judged"
    if any(line["told"].startswith(_UNMEASURED) for line in lines):
        return "Nothing against it: every threshold that could be measured is met"
    return "Ship it: every threshold is met"


def _drop(own: Sample, base: Sample) -> Answer:
    drop = Sample(1 - own.value / base.value, 1 - own.drawn / base.drawn, own.rows).estimate()
    fall = f"{drop.value:.1%} lower{_interval(drop, '{:.1%}')}"
    return f"perplexity {own.value:.2f}, base {base.value:.2f}: {fall}", drop.low


def _gain(name: str, own: Sample, other: Sample) -> Answer:
    gain = own.minus(other).estimate()
    points = f"{gain.value:+.1f}{_interval(gain, '{:+.1f}')}"
    return f"ROUGE-L {own.value:.1f}, {name} {other.value:.1f}: {points}", gain.low


def _recited(own: Sample) -> Answer:
    interval = _interval(own.estimate(), "{:.1f}")
    return f"{own.value:.1f}% of texts{interval}", own.value / 100


def _gap(unseen: Sample, seen: Sample) -> Answer:
    gap = unseen.value / seen.value
    return f"perplexity {unseen.value:.2f} unseen, {seen.value:.2f} trained: {gap:.2f} times", gap


def _excess(own: Sample, real: Sample) -> Answer:
    text = f"{own.value:.0f}% of characters, real descriptions {real.value:.0f}%"
    return text, (own.value - real.value) / 100


def _title_kept(own: Sample, real: Sample) -> Answer:
    text = f"{own.value:.0f}% of its words, real descriptions {real.value:.0f}%"
    return text, own.value / real.value if real.value else 0.0


def _share(form: str, own: Sample) -> Answer:
    return form.format(own.value), own.value / 100


def _interval(estimate: Estimate, form: str) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" ({form.format(estimate.low)} to {form.format(estimate.high)})"


def _is_sure_drop(low: float, limit: float) -> bool:
    return low >= limit and low > 0


_QUESTIONS: tuple[
    tuple[Group, str, str, tuple[str, ...], Callable[..., Answer],
          Callable[[float, float], bool], str], ...
] = (
    ("learned", "perplexity_drop", "Does it predict unseen descriptions better?",
     ("unseen own perplexity", "unseen base perplexity"), _drop,
     _is_sure_drop, "surely {:.0%} lower"),
    ("learned", "gain_over_base", "Does it write better than its base?",
     ("unseen own rougeL", "unseen base rougeL"), partial(_gain, "base"),
     gt, "surely above {:+.1f}"),
    ("learned", "gain_over_title", "Does it say more than the title?",
     ("unseen own rougeL", "unseen title rougeL"), partial(_gain, "title"),
     gt, "surely above {:+.1f}"),
    ("learned", "gain_over_nearest", "Does it beat copying the nearest trained row?",
     ("unseen own rougeL", "unseen nearest rougeL"), partial(_gain, "nearest row"),
     gt, "surely above {:+.1f}"),
    ("recites", "recited_unseen", "Does it answer unseen titles with training texts?",
     ("unseen own recited",), _recited, le, "at most {:.0%}"),
    ("recites", "recited_seen", "Does it give back the texts of trained titles?",
     ("seen own recited",), _recited, le, "at most {:.0%}"),
    ("recites", "perplexity_gap", "Does it know trained descriptions by heart?",
     ("unseen own perplexity", "seen own perplexity"), _gap, le, "at most {:.2g} times"),
    ("recites", "excess_copied", "Does it copy more than real descriptions do?",
     ("unseen own copied", "unseen reference copied"), _excess, le, "at most {:.0%} more"),
    ("faithful", "title_kept", "Does it speak of the title's product?",
     ("unseen own title_words", "unseen reference title_words"), _title_kept,
     ge, "at least {:.0%} of the real ones' share"),
    ("faithful", "unsupported", "Does it invent numbers?",
     ("unseen own unsupported",), partial(_share, "{:.0f}% of its numbers"),
     le, "at most {:.0%}"),
    ("faithful", "ended", "Does it come to an end?",
     ("unseen own ended",), partial(_share, "{:.1f}% of texts"), ge, "at least {:.0%}"),
    ("faithful", "repetition", "Does it repeat itself?",
     ("unseen own repetition",), partial(_share, "{:.1f}% of word 4-grams"),
     le, "at most {:.0%}"),
)  # fmt: skip
"""Threshold's group and name, the question, the figures as «side role metric», what measures them,
when the threshold is met, and its wording."""
