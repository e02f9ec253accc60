"""The verdict: each threshold met, missed, not measured and not asked."""

from typing import Any

import numpy as np
import pytest

from inference.config import Thresholds
from inference.evaluate.metrics import Sample
from inference.evaluate.verdict import judge


def _sample(value: float, spread: float = 0.0) -> Sample:
    return Sample(value, value + spread * np.linspace(-1, 1, 101), 50)


def _judge(thresholds: Thresholds | None = None, **own: float) -> dict[str, Any]:
    """Judge an adapter that is fine but for some figures."""
    fine = {"perplexity": 4.0, "rougeL": 30.0, "recited": 0.0, "copied": 20.0, "title_words": 60.0,
            "unsupported": 50.0, "ended": 100.0, "repetition": 1.0}  # fmt: skip
    samples = {
        "unseen": {
            "adapter": {name: _sample(value) for name, value in (fine | own).items()},
            "base": {"perplexity": _sample(8.0), "rougeL": _sample(10.0)},
            "title": {"rougeL": _sample(15.0)},
            "nearest": {"rougeL": _sample(40.0)},
            "reference": {"copied": _sample(15.0), "title_words": _sample(65.0)},
        },
        "seen": {"adapter": {"perplexity": _sample(3.0), "recited": _sample(own.get("own", 5.0))}},
    }
    return judge(samples, "adapter", "Adapter", "base", thresholds or Thresholds())


def _failed(verdict: dict[str, Any]) -> list[str]:
    return [line["key"] for line in verdict["lines"] if line["passed"] is False]


def test_every_threshold_met() -> None:
    verdict = _judge()
    assert verdict["headline"] == "Ship it: every threshold is met"
    assert [line["key"] for line in verdict["lines"] if line["passed"] is None] == [
        "gain_over_nearest", "unsupported",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("own", "key", "says"),
    [
        ({"perplexity": 7.9}, "perplexity_drop", "has not learned"),
        ({"rougeL": 12.0}, "gain_over_title", "has not learned"),
        ({"rougeL": 10.0}, "gain_over_base", "has not learned"),
        ({"recited": 6.0}, "recited_unseen", "recites"),
        ({"own": 31.0}, "recited_seen", "recites"),
        ({"perplexity": 6.1}, "perplexity_gap", "recites"),
        ({"copied": 41.0}, "excess_copied", "recites"),
        ({"title_words": 50.0}, "title_kept", "strays from the title"),
        ({"ended": 94.0}, "ended", "do not end"),
        ({"repetition": 11.0}, "repetition", "repeats itself"),
    ],
)
def test_a_threshold_missed(own: dict[str, float], key: str, says: str) -> None:
    verdict = _judge(**own)
    assert key in _failed(verdict)
    assert says in verdict["headline"]
    assert verdict["headline"].startswith("Do not ship")


def test_a_threshold_that_is_null_is_told_but_not_judged() -> None:
    verdict = _judge(Thresholds(repetition=None), repetition=90.0)
    assert not _failed(verdict)
    assert verdict["passed"]
    line = next(line for line in verdict["lines"] if line["key"] == "repetition")
    assert line["told"] == "90.0% of word 4-grams; not judged"


def test_thresholds_of_everything() -> None:
    thresholds = Thresholds(gain_over_nearest=0.0, unsupported=0.1)
    assert _failed(_judge(thresholds)) == ["gain_over_nearest", "unsupported"]


def test_what_was_not_measured_is_no_reason_to_ship() -> None:
    samples = {"unseen": {"adapter": {"ended": _sample(100.0)}}}
    verdict = judge(samples, "adapter", "Adapter", None, Thresholds())
    assert verdict["headline"].startswith("Nothing against it")


def test_a_gain_must_be_sure() -> None:
    samples = {
        "unseen": {
            "adapter": {"rougeL": _sample(16.0, spread=3.0)},
            "title": {"rougeL": _sample(15.0)},
        }
    }
    verdict = judge(samples, "adapter", "Adapter", None, Thresholds())
    assert _failed(verdict) == ["gain_over_title"]


def test_what_was_not_measured_is_not_judged() -> None:
    verdict = judge({}, "adapter", "Adapter", None, Thresholds())
    assert {line["passed"] for line in verdict["lines"]} == {None}
    assert verdict["headline"] == "Nothing could be judged"
