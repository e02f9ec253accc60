"""Rows with their texts: what is marked, which rows are the worst, and how many have room."""

import re
from typing import Any

import pytest

from inference.evaluate.page import texts
from tests.reports import make_report, make_row


def _worst(report: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Of each missed line its key and the uids that are shown."""
    return [
        (line["key"], re.findall(r"<small>(u\d+)</small></h3>", cards))
        for line, cards in texts.worst(report, report["verdicts"][0])
    ]


def test_stretches_are_marked_and_may_lie_in_each_other() -> None:
    assert texts.marked("a b 7 c", [(2, 5)], [(4, 5)]) == (
        'a <mark class="copied">b </mark>'
        '<mark class="copied"><mark class="number">7</mark></mark> c'
    )
    assert texts.marked("<7>", [], [(1, 2)]) == '&lt;<mark class="number">7</mark>&gt;'
    assert texts.marked("", [], []) == "<em>empty</em>"


def test_the_rows_that_invent_most_come_first() -> None:
    written = [
        "It has 1.",
        "It is fine.",
        "It has 1, 22 and 333.",
        "It has 44 and 55.",
        "It has 6.",
    ]
    [(key, uids)] = _worst(make_report(texts=written, missed=["unsupported"]))
    assert key == "unsupported"
    assert uids == ["u2", "u3", "u0"]


@pytest.mark.parametrize(
    ("key", "scores", "first"),
    [
        ("title_kept", [{"title_words": 90.0}, {"title_words": 10.0}], "u1"),
        ("repetition", [{"repetition": 5.0}, {"repetition": 60.0}], "u1"),
        ("excess_copied", [{"copied": 80.0}, {"copied": 20.0}], "u0"),
        ("ended", [{"ended": 100.0}, {"ended": 0.0}], "u1"),
        ("gain_over_nearest", [{"rougeL": 12.0}, {"rougeL": 3.0}], "u1"),
        ("gain_over_title", [{"rougeL": 12.0}, {"rougeL": 3.0}], "u1"),
        ("perplexity_drop", [{"perplexity": 9.0}, {"perplexity": 4.0}], "u0"),
    ],
)
def test_each_missed_line_shows_its_worst_rows(
    key: str, scores: list[dict[str, float]], first: str
) -> None:
    report = make_report(texts=["One.", "Two."], missed=[key])
    for row, own in zip(report["rows"], scores, strict=False):
        row["texts"]["adapter"]["scores"].update(own)
    [(line, uids)] = _worst(report)
    assert line == key
    assert uids[0] == first


def test_rows_that_do_not_fail_are_not_shown() -> None:
    report = make_report(texts=["One.", "Two."], missed=["ended"])
    for row, share in zip(report["rows"], (100.0, 0.0), strict=False):
        row["texts"]["adapter"]["scores"]["ended"] = share
    assert _worst(report) == [("ended", ["u1"])]


def test_a_met_line_shows_none() -> None:
    assert _worst(make_report(missed=[])) == []


def test_every_line_of_a_verdict_has_a_rule() -> None:
    from inference.evaluate.verdict import QUESTIONS

    assert {question.key for question in QUESTIONS} == set(texts._RULES)


def test_a_card_names_missing_title_words_and_the_nearest_training_text() -> None:
    report = make_report(texts=["A lamp."], title="Brass Kettle")
    card = texts.card(report["rows"][0], report["candidates"][:1], report, "a remark")
    assert "Title words missing: Brass, Kettle" in card
    assert "Most alike training text, 40%" in card
    assert '<p class="note">a remark</p>' in card


def test_attributes_support_numbers() -> None:
    row = make_row(0, "unseen", "Kettle", "It holds 7 litres.")
    report = make_report()
    assert "mark class" in texts.card(row, report["candidates"][:1], report)
    row["attributes"] = {"size": "7 l"}
    assert "mark class" not in texts.card(row, report["candidates"][:1], report)
