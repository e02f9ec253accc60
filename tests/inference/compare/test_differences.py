"""Differences of reports: their intervals hold, are narrowed by common rows, and need no text."""

from typing import Any

import numpy as np
import pytest

from inference.compare import differences
from inference.compare.differences import Judged
from tests.reports import estimate, make_report


def _judged(name: str, values: list[float] | None = None, **scores: Any) -> Judged:
    """A run's report whose rows have these ROUGE-L scores, and whose figures are as given."""
    report = make_report(texts=["A text."] * len(values or [1.0]), run=name)
    report["sides"]["unseen"]["scores"]["adapter"].update(scores)
    for row, value in zip(report["rows"], values or [], strict=False):
        row["texts"]["adapter"]["scores"]["rougeL"] = value
    return Judged(name, "adapter", report)


def test_independent_intervals_add_in_squares() -> None:
    one = _judged("a", rougeL={"value": 30.0, "low": 26.0, "high": 33.0})
    other = _judged("b", rougeL={"value": 20.0, "low": 18.0, "high": 23.0})
    found = differences.difference(one, other, "unseen", "rougeL")
    assert found == {"value": 10.0, "low": 10.0 - 5.0, "high": pytest.approx(10.0 + 13**0.5)}


def test_rows_that_go_together_narrow_the_interval_and_opposite_ones_widen_it() -> None:
    rows = [1.0, 5.0, 9.0, 4.0]
    first = _judged("a", rows, rougeL=estimate(30.0, 2.0))
    widths = []
    for values in (rows, [9.0, 5.0, 1.0, 6.0]):
        own = _judged("b", values, rougeL=estimate(20.0, 2.0))
        found = differences.difference(own, first, "unseen", "rougeL")
        assert found
        widths.append(found["high"] - found["low"])
    assert widths[0] == pytest.approx(0, abs=1e-6)
    assert widths[1] == pytest.approx(8)


def test_other_rows_are_separate_samples() -> None:
    one, other = _judged("a", [1.0, 2.0, 3.0]), _judged("b", [1.0, 2.0, 3.0])
    assert differences.correlation(one, other, "unseen", "rougeL") == pytest.approx(1)
    other.report["rows"][0]["uid"] = "another"
    assert differences.correlation(one, other, "unseen", "rougeL") == 0


def test_what_one_did_not_measure_has_no_difference() -> None:
    one, other = _judged("a"), _judged("b", rougeL={"value": None, "low": None, "high": None})
    assert differences.difference(one, other, "unseen", "rougeL") is None
    assert differences.difference(one, other, "seen", "no such metric") is None
    sure = _judged("b", rougeL={"value": 20.0, "low": None, "high": None})
    found = differences.difference(one, sure, "unseen", "rougeL")
    assert found == {"value": 10.0, "low": None, "high": None}


def test_the_interval_holds_as_often_as_it_says() -> None:
    """Means of 60 pairs of rows that go together: 95 % of 400 intervals hold the difference."""
    draw = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        common = draw.normal(size=60)
        columns = [common + draw.normal(size=60) + shift for shift in (1.0, 0.0)]
        judged = []
        for name, own in zip("ab", columns, strict=True):
            reach = 2.0 * float(own.std(ddof=1)) / 60**0.5
            judged.append(_judged(name, own.tolist(), rougeL=estimate(float(own.mean()), reach)))
        found = differences.difference(*judged, "unseen", "rougeL")
        assert found
        held += found["low"] <= 1.0 <= found["high"]
    assert 370 <= held <= 392


def test_names_are_as_short_as_they_can_be() -> None:
    report = make_report()
    names = differences.name_all({"x/a/one": report, "x/b/one": report, "x/two/": report})
    assert [own.name for own in names] == ["a/one", "b/one", "two"]


def test_several_systems_of_a_report_are_named_apart() -> None:
    report = make_report()
    report["verdicts"].append(report["verdicts"][0] | {"candidate": "base", "label": "Other"})
    names = [own.name for own in differences.name_all({"x/one": report})]
    assert names == ["one, Adapter", "one, Other"]
