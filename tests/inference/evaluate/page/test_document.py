"""The page: verdict before all, no script, and small however many rows there are."""

import base64
import hashlib
import re
from typing import Any

import pytest

from inference.evaluate import page
from tests.reports import make_report

LOREM = "The kettle boils 3 litres of water and whistles when it is done. " * 7


def test_nothing_of_it_is_a_script_and_its_policy_lets_in_its_style_alone() -> None:
    html = page.build(make_report(), 5)
    for banned in ("<script", " style=", " onclick", "javascript:", "src=", "url(", "http://"):
        assert banned not in html
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in html


def test_it_says_first_what_was_judged_and_how_it_stands() -> None:
    html = page.build(make_report(), 5)
    order = ["Evaluation of", "2,000 rows", "3.7 minutes", "cpu, 2 threads", "2026-11-26",
             "Do not ship", "As it writes", "Where it fails", "Five figures", "By kind of title",
             "How many rows are enough", "All figures", "Where the rows went"]  # fmt: skip
    places = [html.index(words) for words in order]
    assert places == sorted(places)
    for link in re.findall(r'<a href="#(\w+)"', html):
        assert html.count(f'id="{link}"') == 1


def test_texts_are_text() -> None:
    evil = "<img src=x onerror=alert(1)>"
    html = page.build(make_report(texts=[evil], title=evil, label=evil), 5)
    assert "<img" not in html
    assert "&lt;img" in html


def test_five_figures_and_their_intervals_stand_as_text() -> None:
    html = page.build(make_report(), 5)
    figures = html.split('id="figures"')[1].split("</section>")[0]
    for name in ("Perplexity", "ROUGE-L", "Copied share", "Title words kept", "invent numbers"):
        assert name in figures
    assert re.search(r"30\.0 <small>29\.0 to 31\.0</small>", figures)


def test_a_missing_curve_and_missing_slices_leave_no_heading() -> None:
    html = page.build(make_report(curve=None, slices=[]), 5)
    assert "How many rows are enough" not in html
    assert "By kind of title" not in html
    assert 'href="#curve"' not in html


def test_a_curve_shows_quality_where_it_was_measured() -> None:
    report = make_report()
    assert "ROUGE-L by rows" in page.build(report, 5)
    for size in report["curve"]["sizes"][1:]:
        size["quality"]["rougeL"] = {"value": None, "low": None, "high": None}
    html = page.build(report, 5)
    assert "ROUGE-L by rows" not in html
    assert "Loss by rows" in html


@pytest.mark.parametrize("asked", [50, 5_000])
def test_five_thousand_rows_stay_below_two_megabytes(asked: int) -> None:
    report: dict[str, Any] = make_report(texts=[f"{LOREM} No. {n}." for n in range(2_500)])
    html = page.build(report, asked)
    assert len(html.encode()) < 2_000_000
    listed = html.split("Unseen titles, one by one")[1]
    shown = re.search(r"<small>([\d,]+) of 2,500, as sampled; all in report.json", listed)
    assert shown
    count = int(shown[1].replace(",", ""))
    assert count == 50 if asked == 50 else 50 < count < 2_500
    assert listed.split("</details></section>")[0].count("<article") >= count
