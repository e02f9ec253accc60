"""Pieces of the page: everything said by people, records and models is escaped."""

import base64
import dataclasses
import importlib.resources
import json
import re
from html import escape
from html.parser import HTMLParser

import pytest

from data.sources.location import Location
from inference.ask import STATES, Answer, Copied
from inference.ask.index import Record
from inference.fidelity import Checks, Number
from inference.serve import cards

EVIL = """<script>alert('x')</script><img src=x onerror=alert(1)>"&amp;"""


def answer(**changed: object) -> Answer:
    told = {
        "question": EVIL, "status": "answered", "title": EVIL, "seed": 1, "temperature": 0.3,
        "matches": [{"title": EVIL, "score": 0.9, "records": 1},
                    {"title": EVIL + "2", "score": 0.5, "records": 1}],
        "answer": EVIL, "finish_reason": "length", "new_tokens": 3, "base_answer": EVIL,
        "record": Record(EVIL, EVIL, EVIL, "train", EVIL, 12), "training": "trained",
        "copied": [Copied(3, 9, EVIL[3:9], "training", EVIL, EVIL)],
        "checks": Checks([EVIL], [EVIL], [Number(0, 5, EVIL[:5], EVIL)], 0.0),
    }  # fmt: skip
    return Answer(**(told | changed))  # type: ignore[arg-type]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("status", ["answered", "invented"])
def test_markup_is_shown_as_text(state: str, status: str) -> None:
    made = answer(training=state, status=status)
    html = "".join(
        [
            cards.status(EVIL, is_error=True),
            cards.answer_card(made, is_whole=True),
            cards.base_card(made, is_whole=False),
            cards.evidence_card(made, Location(EVIL, EVIL, EVIL)),
            cards.heading(7, EVIL),
            cards.empty_card(EVIL),
        ]
    )
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert not tags.seen & {"script", "img"}
    assert not {name for name in tags.attributes if name.startswith("on")}
    assert html.count(f'<span class="tb-where">{escape(EVIL)}') == 2


def test_copied_stretches_are_marked() -> None:
    copied = [Copied(4, 8, "red ", "record", "u", "T"), Copied(10, 14, "<b> ", "training")]
    html = cards.marked("the red ke<b> tle", copied, [])
    assert re.findall("<mark[^>]*>([^<]*)</mark>", html) == ["red ", "&lt;b&gt; "]
    assert "in this title&#x27;s own record" in html
    assert "in several texts" in html
    assert re.sub("</?mark[^>]*>", "", html) == "the red ke&lt;b&gt; tle"


def test_numbers_are_marked_within_beside_and_across_copied_stretches() -> None:
    text = "In 1998 & 12 of 1,000.5 <b>"
    numbers = [Number(3, 7, "1998", "1998"), Number(10, 12, "12", "12"),
               Number(16, 23, "1,000.5", "1000.5")]  # fmt: skip
    html = cards.marked(text, [Copied(8, 21, text[8:21], "training")], numbers)
    said = ' title="not supported by title or record"'
    assert html.replace(said, "") == (
        'In <u>1998</u> <mark title="in several texts">&amp; <u>12</u> of <u>1,000</u></mark>'
        "<u>.5</u> &lt;b&gt;"
    )
    assert html.count(said) == 4


def test_what_is_untrue_is_told_under_the_answer() -> None:
    checks = Checks(
        ["Green"], ["Kettle", "<b>"], [Number(at, at + 2, "12", "12") for at in (0, 4)], 0.0
    )
    html = cards.answer_card(answer(answer="12, 12", copied=[], checks=checks), is_whole=True)
    assert "Title words: 1 of 3 kept, missing: Kettle, &lt;b&gt;." in html
    assert re.search("Not supported by title or record: <u[^>]*>12</u>[.]", html)
    assert len(re.findall("<u [^>]*>12</u>", html)) == 3
    fine = Checks(["Green"], [], [], 0.0)
    html = cards.answer_card(answer(checks=fine), is_whole=True)
    assert "Title words: 1 of 1 kept." in html
    assert "Not supported" not in html
    assert "Title words" not in cards.answer_card(answer(checks=None), is_whole=True)
    assert "Title words" not in cards.base_card(answer(), is_whole=True)


def test_the_download_is_the_answer() -> None:
    made = answer()
    html = cards.evidence_card(made)
    held = re.search('href="data:application/json;base64,([^"]+)"', html)
    assert held is not None
    expected = json.loads(json.dumps(dataclasses.asdict(made)))
    del expected["record"]["attributes"]  # it has none
    assert json.loads(base64.b64decode(held[1])) == expected
    assert "download=" not in cards.evidence_card(made, is_whole=False)


def test_an_answer_says_how_it_ended() -> None:
    assert "limit" in cards.answer_card(answer(), is_whole=True)
    assert "limit" not in cards.answer_card(answer(finish_reason="stop"), is_whole=True)
    assert "nothing to say" in cards.answer_card(answer(answer=" ", copied=[]), is_whole=True)
    assert "invented" in cards.answer_card(answer(status="invented"), is_whole=True)


def test_nothing_is_loaded_from_elsewhere() -> None:
    style = importlib.resources.files("inference.serve").joinpath("page.css").read_text("utf-8")
    assert ".tb-card" in style
    assert "wavy" in style  # a number is told apart from a copied stretch without its colour
    assert not re.search(r"https?://|url\(|@import", style)


def test_attributes_stand_below_the_record_and_markup_in_them_is_text() -> None:
    about = {"brand": EVIL, "shoe_size": "43", "price": ""}
    record = Record("u", "Boot", "Warm.", "train", "raw.json", 1, about)
    card = cards.evidence_card(answer(record=record))
    assert f"Brand: {escape(EVIL)}; Shoe size: 43</p>" in card
    assert "Price" not in card
    plain = answer(record=Record("u", "Boot", "Warm.", "train", "raw.json", 1))
    assert "Brand" not in cards.evidence_card(plain)
    assert "attributes" not in json.loads(plain.as_json())["record"]
    assert json.loads(answer(record=record).as_json())["record"]["attributes"] == about
