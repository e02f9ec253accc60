"""The verdict: each threshold met, missed, not measured and not asked."""

import numpy as np
import pytest

from inference.config import Thresholds
from inference.evaluate.bootstrap import Sample
from inference.evaluate.verdict import Verdict, judge


def _sample(value: float, spread: float = 0.0) -> Sample:
    return Sample(value, value + spread * np.linspace(-1, 1, 101), 50)


def _judge(asked: Thresholds | None = None, **own: float) -> Verdict:
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
    return judge(samples, "adapter", "Adapter", "base", asked or Thresholds())


def test_every_threshold_met() -> None:
    found = _judge()
    assert found.headline == "Ship it: every threshold is met"
    assert [line.key for line in found.lines if line.passed is None] == [
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
    found = _judge(**own)
    assert key in [line.key for line in found.failed]
    assert says in found.headline
    assert found.headline.startswith("Do not ship")


def test_a_threshold_that_is_null_is_told_but_not_judged() -> None:
    found = _judge(Thresholds(repetition=None), repetition=90.0)
    assert not found.failed
    line = next(line for line in found.lines if line.key == "repetition")
    assert line.told == "90.0% of word 4-grams; not judged"


def test_thresholds_of_everything() -> None:
    asked = Thresholds(gain_over_nearest=0.0, unsupported=0.1)
    assert [line.key for line in _judge(asked).failed] == ["gain_over_nearest", "unsupported"]


def test_what_was_not_measured_is_no_reason_to_ship() -> None:
    samples = {"unseen": {"adapter": {"ended": _sample(100.0)}}}
    found = judge(samples, "adapter", "Adapter", None, Thresholds())
    assert found.headline.startswith("Nothing against it")


def test_a_gain_must_be_sure() -> None:
    samples = {
        "unseen": {
            "adapter": {"rougeL": _sample(16.0, spread=3.0)},
            "title": {"rougeL": _sample(15.0)},
        }
    }
    found = judge(samples, "adapter", "Adapter", None, Thresholds())
    assert [line.key for line in found.failed] == ["gain_over_title"]


def test_what_was_not_measured_is_not_judged() -> None:
    found = judge({}, "adapter", "Adapter", None, Thresholds())
    assert {line.passed for line in found.lines} == {None}
    assert found.headline == "Nothing could be judged"
