"""The part of the page on judges and votes: only where somebody was asked, and escaped."""

from typing import Any

from inference.evaluate.page import build, judges
from tests.reports import make_report

WON: dict[str, Any] = {
    "one": "adapter", "other": "base", "pairs": 4, "won": 3, "lost": 1, "win_rate": 0.75,
    "low": 0.2, "high": 0.99,
}  # fmt: skip
BIAS = {"position_bias": 0.25, "left": 1, "right": 0, "unjudged": 2}
BILL = {"questions": 10, "asked": 4, "failed": 1, "unclear": 0, "retries": 3, "tokens": 1_234}


def test_it_is_left_out_where_nobody_was_asked() -> None:
    assert judges.section(make_report()) == ""
    assert judges.NAME not in build(make_report(), 10)


def test_what_a_judge_said_stands_there_with_its_bias_and_its_cost() -> None:
    judge = {"model": "<b>m", "control": WON | BIAS, "comparisons": [WON | BIAS], **BILL}
    page = build(make_report() | {"judge": judge, "votes": None}, 10)
    assert "75.0%<small>20.0% to 99.0%</small>" in page
    assert "25.0%<small>1 left, 0 right</small>" in page
    assert "10 questions, 4 of them in this run, 1,234 tokens; 3 retries, 1 stayed" in page
    assert "&lt;b&gt;m saw each pair" in page
    assert "<b>m" not in page


def test_votes_stand_there_with_their_agreement() -> None:
    voted = WON | {"votes": 9, "people": 3, "chance": 0.5,
                   "between": {"same": 3, "of": 4}, "within": {"same": 0, "of": 0}}  # fmt: skip
    votes = {"left_out": 7, "comparisons": [voted]}
    page = judges.section(make_report() | {"votes": votes})
    assert "Adapter against base" in page
    assert "75%<small>of 4</small>" in page
    assert ">–</td>" in page
    assert "7 votes are on other texts" in page
