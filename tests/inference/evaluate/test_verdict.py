"""The verdict: thresholds surely met, surely missed, with too few rows to tell, not measured."""

from typing import Any

import numpy as np
import pytest

from inference.config import Thresholds
from inference.evaluate.metrics import Sample, ratio, resample
from inference.evaluate.verdict import judge, sentence

OTHERS = {"base": "base", "alone": "alone"}
NOTHING = dict.fromkeys(Thresholds.__dataclass_fields__)


def _sample(value: float, spread: float = 0.0, rows: int = 300) -> Sample:
    return Sample(value, value + spread * np.linspace(-1, 1, 101), rows)


def _texts(part: int, whole: int = 300) -> Sample:
    share = 100 * part / whole
    return Sample(share, np.full(101, share), whole, count=(part, whole))


def _judge(thresholds: Thresholds | None = None, **own: Sample) -> dict[str, Any]:
    """Judge an adapter that is fine but for some figures."""
    fine = {"perplexity": _sample(4.0), "rougeL": _sample(30.0), "recited": _texts(0),
            "copied": _sample(20.0), "title_words": _sample(60.0), "inventing": _texts(9),
            "ended": _texts(297), "repeating": _texts(2), "repetition": _sample(1.0)}  # fmt: skip
    alone = {"alone": {"rougeL": own.pop("alone")}} if "alone" in own else {}
    seen = {"perplexity": _sample(3.0), "recited": own.pop("back", _texts(20))}
    samples = {
        "unseen": {
            "adapter": fine | own,
            "base": {"perplexity": _sample(8.0), "rougeL": _sample(10.0)},
            "title": {"rougeL": _sample(15.0)},
            **alone,
            "nearest": {"rougeL": _sample(18.0)},
            "reference": {"copied": _sample(15.0), "title_words": _sample(65.0)},
        },
        "seen": {"adapter": seen},
    }
    return judge(samples, "adapter", "Adapter", OTHERS, thresholds or Thresholds())


def _keys(verdict: dict[str, Any], outcome: str) -> list[str]:
    return [line["key"] for line in verdict["lines"] if line["outcome"] == outcome]


def _line(verdict: dict[str, Any], key: str) -> dict[str, Any]:
    return next(line for line in verdict["lines"] if line["key"] == key)


def test_every_threshold_met() -> None:
    verdict = _judge()
    assert verdict["headline"] == "Ship it: every threshold is surely met"
    assert {line["outcome"] for line in verdict["lines"]} == {"met"}
    assert verdict["passed"] is True


def test_neighbours_are_asked_about_only_where_prompts_show_them() -> None:
    assert "gain_over_alone" not in [line["key"] for line in _judge()["lines"]]
    verdict = _judge(alone=_sample(25.0))
    assert _line(verdict, "gain_over_alone")["outcome"] == "met"
    assert verdict["headline"] == "Ship it: every threshold is surely met"


def test_every_default_is_judged() -> None:
    assert None not in vars(Thresholds()).values()


@pytest.mark.parametrize(
    ("own", "key", "says"),
    [
        ({"perplexity": _sample(7.9)}, "perplexity_drop", "has not learned"),
        ({"rougeL": _sample(12.0)}, "gain_over_title", "has not learned"),
        ({"rougeL": _sample(10.0)}, "gain_over_base", "has not learned"),
        ({"rougeL": _sample(18.0)}, "gain_over_nearest", "not beat copying the nearest trained"),
        ({"alone": _sample(31.0)}, "gain_over_alone", "neighbours in its prompts do not help"),
        ({"recited": _texts(30)}, "recited_unseen", "recites"),
        ({"back": _texts(120)}, "recited_seen", "recites"),
        ({"perplexity": _sample(6.1)}, "perplexity_gap", "recites"),
        ({"copied": _sample(46.0)}, "excess_copied", "recites"),
        ({"title_words": _sample(50.0)}, "title_kept", "strays from the title"),
        ({"inventing": _texts(60)}, "unsupported", "invents numbers"),
        ({"ended": _texts(270)}, "ended", "do not end"),
        ({"repeating": _texts(30)}, "repetition", "repeats itself"),
    ],
)
def test_a_threshold_missed(own: dict[str, Sample], key: str, says: str) -> None:
    verdict = _judge(**own)
    assert key in _keys(verdict, "missed")
    assert says in verdict["headline"]
    assert verdict["headline"].startswith("Do not ship")
    assert verdict["passed"] is _line(verdict, key)["passed"] is False


@pytest.mark.parametrize(
    ("own", "key"),
    [
        ({"perplexity": _sample(7.5, 0.4)}, "perplexity_drop"),
        ({"rougeL": _sample(16.0, 3.0)}, "gain_over_title"),
        ({"perplexity": _sample(5.9, 0.5)}, "perplexity_gap"),
        ({"copied": _sample(39.0, 3.0)}, "excess_copied"),
        ({"title_words": _sample(53.0, 3.0)}, "title_kept"),
        ({"recited": _texts(12)}, "recited_unseen"),
        ({"back": _texts(80)}, "recited_seen"),
        ({"inventing": _texts(28)}, "unsupported"),
        ({"ended": _texts(286)}, "ended"),
        ({"repeating": _texts(15)}, "repetition"),
    ],
)
def test_an_interval_on_both_sides_is_too_few_rows(own: dict[str, Sample], key: str) -> None:
    verdict = _judge(**own)
    assert _line(verdict, key)["outcome"] == "too_few"
    assert _line(verdict, key)["passed"] is None


def test_64_texts_of_which_none_recites_are_too_few_for_5_percent() -> None:
    verdict = _judge(recited=_texts(0, 64))
    line = _line(verdict, "recited_unseen")
    assert sentence(line) == (
        "Does it recite? 0 of 64 texts, at most 5.6%; asked: at most 5.0%; "
        "too few rows to tell: about 72 would"
    )
    assert (line["outcome"], line["passed"], line["rows_needed"]) == ("too_few", None, 72)
    assert verdict["passed"] is None
    assert verdict["headline"] == (
        "Nothing against it, but 1 question has too few rows to tell: Does it recite?"
    )
    assert _line(_judge(recited=_texts(0, 71)), "recited_unseen")["outcome"] == "too_few"
    assert _line(_judge(recited=_texts(0, 72)), "recited_unseen")["outcome"] == "met"


def test_open_questions_are_no_reason_to_call_a_run_unfit_but_a_missed_one_is() -> None:
    few = {name: _texts(0, 8) for name in ("recited", "inventing", "repeating", "back")}
    verdict = _judge(ended=_texts(8, 8), **few)
    assert verdict["headline"] == (
        "Nothing against it, but 5 questions have too few rows to tell: Does it recite? "
        "Does it give back the texts of trained titles? Does it invent numbers? And 2 more"
    )
    verdict = _judge(recited=_texts(0, 8), inventing=_texts(8, 8), title_words=_sample(1.0))
    assert verdict["headline"] == "Do not ship: it strays from the title and it invents numbers"


@pytest.mark.parametrize(
    ("own", "key", "says"),
    [
        ({"ended": _texts(297)}, "ended",
         "Ends by itself: 297 of 300 texts, at least 97.1%; asked: at least 95.0%"),
        ({"ended": _texts(60)}, "ended",
         "Often does not end by itself: 60 of 300 texts, at most 25.0%; asked: at least 95.0%"),
        ({"recited": _texts(0)}, "recited_unseen",
         "Does not recite: 0 of 300 texts, at most 1.2%; asked: at most 5.0%"),
        ({"repeating": _texts(15), "ended": _texts(297), "repetition": _sample(2.6)}, "repetition",
         "Does it repeat itself? 15 of 300 texts (2.8% to 8.1%), 3 run away, 2.6% of word 4-grams "
         "repeated; asked: at most 5.0%; too close to tell: it stands at the threshold"),
        ({"inventing": _texts(150)}, "unsupported",
         "Invents numbers: 150 of 300 texts, at least 44.2%; asked: at most 10.0%"),
        ({"rougeL": _sample(16.0, 3.0)}, "gain_over_base",
         "Writes better than its base: ROUGE-L 16.0 against 10.0, +6.0 (+3.1 to +8.9) points; "
         "asked: above +0.0"),
    ],
)  # fmt: skip
def test_lines_are_claims(own: dict[str, Sample], key: str, says: str) -> None:
    assert sentence(_line(_judge(**own), key)) == says


def test_three_texts_that_loop_cannot_spoil_the_line() -> None:
    """A mean of 4-grams would: it is 10.9 % here."""
    few = _texts(3)
    verdict = _judge(repeating=few, repetition=_sample(10.9))
    assert _line(verdict, "repetition")["outcome"] == "met"


@pytest.mark.parametrize(
    ("part", "whole", "needed"),
    [(0, 8, 72), (1, 64, 160), (5, 50, 110), (14, 300, 17_000), (15, 300, None)],
)
def test_how_many_rows_would_tell_of_a_share(part: int, whole: int, needed: int | None) -> None:
    line = _line(_judge(recited=_texts(part, whole)), "recited_unseen")
    assert (line["outcome"], line["rows_needed"]) == ("too_few", needed)


def test_how_many_rows_would_tell_of_another_figure() -> None:
    # +1 point with an interval that reaches 2.88 below: 2.88**2 times the rows.
    line = _line(_judge(rougeL=_sample(16.0, 3.0)), "gain_over_title")
    assert line["rows_needed"] == 2_500
    assert line["told"].endswith("too few rows to tell: about 2,500 would")
    line = _line(_judge(rougeL=_sample(15.001, 3.0)), "gain_over_title")
    assert line["rows_needed"] is None
    assert line["told"].endswith("too close to tell: it stands at the threshold")
    line = _line(_judge(rougeL=_sample(16.0, 3.0, rows=12)), "gain_over_title")
    assert (line["outcome"], line["rows_needed"]) == ("too_few", 20)


def test_texts_that_copy_nothing_say_little_where_they_are_few() -> None:
    nothing, real = _sample(0.0, rows=20), Thresholds(excess_copied=0.02)
    line = _line(_judge(real, copied=_sample(0.0)), "excess_copied")
    assert line["outcome"] == "met"
    line = _line(_judge(Thresholds(excess_copied=0.0), copied=nothing), "excess_copied")
    assert line["high"] == pytest.approx(0.168 - 0.15, abs=1e-3)
    assert line["outcome"] == "too_few"


def test_a_threshold_that_is_null_is_told_but_not_judged() -> None:
    verdict = _judge(Thresholds(repetition=None), repeating=_texts(250))
    assert verdict["headline"] == "Ship it: every threshold is surely met"
    line = _line(verdict, "repetition")
    assert line["outcome"] == "not_judged"
    assert line["told"].startswith("250 of 300 texts (78.")
    assert line["told"].endswith("not judged")


def test_thresholds_of_nothing() -> None:
    verdict = _judge(Thresholds(**NOTHING))
    assert verdict["headline"] == "Nothing could be judged"
    assert verdict["passed"] is True


def test_what_was_not_measured_is_no_reason_to_ship() -> None:
    samples = {"unseen": {"adapter": {"ended": _texts(300)}}}
    verdict = judge(samples, "adapter", "Adapter", {}, Thresholds())
    assert verdict["headline"].startswith("Nothing against it: every threshold that could be")


def test_what_was_not_measured_is_not_judged() -> None:
    verdict = judge({}, "adapter", "Adapter", {}, Thresholds())
    assert {line["outcome"] for line in verdict["lines"]} == {"not_measured"}
    assert {line["passed"] for line in verdict["lines"]} == {None}
    assert verdict["headline"] == "Nothing could be judged"
    # Real descriptions without a word of their titles are nothing to be measured by.
    own, real = ({"title_words": _sample(value)} for value in (5.0, 0.0))
    verdict = judge({"unseen": {"adapter": own, "reference": real}}, "adapter", "", {},
                    Thresholds())  # fmt: skip
    assert _line(verdict, "title_kept")["outcome"] == "not_measured"


# How often «surely met» is wrong ------------------------------------------------------------------


def _wrong(outcomes: list[str]) -> float:
    return outcomes.count("met") / len(outcomes)


@pytest.mark.parametrize("rows", [64, 300])
@pytest.mark.parametrize(
    ("metric", "key", "share"),
    [("repeating", "repetition", 0.05), ("ended", "ended", 0.95), ("back", "recited_seen", 0.3)],
)
def test_a_share_at_its_threshold_is_seldom_called_met(
    metric: str, key: str, share: float, rows: int
) -> None:
    counts = np.random.default_rng(rows).binomial(rows, share, size=1_000)
    alone = Thresholds(**NOTHING | {key: share})
    outcomes = {
        count: _line(_judge(alone, **{metric: _texts(int(count), rows)}), key)["outcome"]
        for count in set(counts)
    }
    assert _wrong([outcomes[count] for count in counts]) <= 0.05


SKEWED = {
    "few loop": lambda draw, size: 0.0176 - 0.8 * (draw.random(size) < 0.022),
    "few are good": lambda draw, size: 0.8 * (draw.random(size) < 0.022) - 0.0176,
    "some loop": lambda draw, size: 0.05 - draw.uniform(0.1, 0.9, size) * (draw.random(size) < 0.1),
    "long tail below": lambda draw, size: 1 - draw.exponential(1.0, size),
    "long tail above": lambda draw, size: draw.exponential(1.0, size) - 1,
    "even": lambda draw, size: draw.normal(0.0, 1.0, size),
}


@pytest.mark.parametrize(
    ("name", "rows"),
    [("few loop", 300), ("few are good", 300), ("some loop", 64), ("some loop", 300)]
    + [(name, rows) for name in list(SKEWED)[3:] for rows in (20, 300)],
)
def test_a_mean_at_its_threshold_is_seldom_called_met(name: str, rows: int) -> None:
    """The mean of every distribution is 0, which is no gain; plain percentiles fail here."""
    values = SKEWED[name](np.random.default_rng(rows), (1_000, rows))
    tables = {trial: (np.stack([row, np.ones(rows)], axis=1), ratio)
              for trial, row in enumerate(values)}  # fmt: skip
    title = {"rougeL": Sample(0.0, np.zeros(2_000), rows, np.zeros(rows))}
    outcomes = []
    for own in resample(tables, 2_000, 1).values():
        samples = {"unseen": {"own": {"rougeL": own}, "title": title}}
        verdict = judge(samples, "own", "Own", {}, Thresholds())
        outcomes.append(_line(verdict, "gain_over_title")["outcome"])
    assert _wrong(outcomes) <= 0.05
