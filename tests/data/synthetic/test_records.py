"""The invented catalogue has the real one's fields, order, defects and proportions."""

import html
import json
import re
from typing import Any

import pytest

from data.synthetic.grammar import ADJECTIVES, COLOURS, NOUNS
from data.synthetic.records import lines
from data.text import repair
from tests.demo import noun_of

TOTAL = 24_000
# Counted in the real trn.json: 2,248,619 lines.
REAL = {
    "empty title": 126_834 / 2_248_619,
    "empty content": 749_901 / 2_248_619,
    "both": 1_390_403 / 2_248_619,
}


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(3407, 0, TOTAL, TOTAL)]


def share(texts: list[str], pattern: str) -> float:
    return sum(bool(re.search(pattern, text)) for text in texts) / len(texts)


def contents(records: list[dict[str, Any]]) -> list[str]:
    return [record["content"] for record in records if record["content"]]


def titles(records: list[dict[str, Any]]) -> list[str]:
    return [record["title"] for record in records if record["title"]]


def test_records_have_the_real_fields_sorted_by_a_uid_of_their_own(
    records: list[dict[str, Any]],
) -> None:
    uids = [record["uid"] for record in records]
    assert uids == sorted(set(uids))
    assert all(len(uid) == 10 for uid in uids)
    for record in records[:200]:
        assert list(record) == ["uid", "title", "content", "target_ind", "target_rel"]
        assert len(record["target_ind"]) == len(record["target_rel"]) >= 1


def test_empty_texts_stand_in_the_real_proportions(records: list[dict[str, Any]]) -> None:
    found = {
        "empty title": sum(not record["title"] for record in records),
        "empty content": sum(not record["content"] for record in records),
        "both": sum(bool(record["title"] and record["content"]) for record in records),
    }
    for name, real in REAL.items():
        assert found[name] / TOTAL == pytest.approx(real, abs=0.01)


def test_lengths_are_distributed_as_in_the_real_file(records: list[dict[str, Any]]) -> None:
    lengths = [len(text) for text in contents(records)]
    assert sum(lengths) / len(lengths) == pytest.approx(622, rel=0.08)
    within = sum(400 < length <= 500 for length in lengths) / len(lengths)
    assert within == pytest.approx(0.086, abs=0.02)
    assert max(map(len, titles(records))) <= 1_999


def test_defects_stand_in_the_real_proportions(records: list[dict[str, Any]]) -> None:
    texts = contents(records)
    assert share(texts, "&#?[A-Za-z0-9]+") == pytest.approx(0.16, abs=0.02)
    assert 0.02 <= share(titles(records), "&#?[A-Za-z0-9]+") <= 0.05
    assert 0.12 <= share(texts, "  ") <= 0.18
    assert 0 < share(texts, "\n") < 0.03
    books = [r["content"] for r in records if r["content"] and r["uid"][0] == "0"]
    assert share(books, "This text refers to") == pytest.approx(0.25, abs=0.03)
    both = [record for record in records if record["title"] and record["content"]]
    repeated = 1 - len({record["content"] for record in both}) / len(both)
    assert repeated == pytest.approx(0.05, abs=0.02)
    assert 1 - len({record["title"] for record in both}) / len(both) == pytest.approx(
        0.029, abs=0.015
    )


def test_the_full_file_holds_mojibake_that_shows_only_after_unescaping() -> None:
    stressed = [json.loads(line) for line in lines(1, 0, 4_000, 4_000, defects=25.0)]
    hidden = [text for text in contents(stressed) if "&Atilde;&copy;" in text]
    assert hidden
    assert all("Ã©" in html.unescape(text) and "Ã©" not in repair(text) for text in hidden)


def test_every_description_names_the_noun_of_its_title(records: list[dict[str, Any]]) -> None:
    both = [record for record in records if record["title"] and record["content"]]
    for record in both:
        noun = noun_of(repair(record["title"]))
        assert noun is not None
        assert noun in record["content"].lower()[:300]


def test_no_title_word_but_the_noun_is_a_noun() -> None:
    nouns = set(NOUNS)
    words = {word.lower() for word in (*COLOURS, *ADJECTIVES)}
    assert not nouns & words
    assert noun_of("A title without any") is None


def test_a_record_does_not_depend_on_the_range_it_is_made_in() -> None:
    whole = list(lines(7, 0, 3_000, 3_000))
    assert list(lines(7, 1_020, 1_700, 3_000)) == whole[1_020:1_700]
    assert list(lines(8, 0, 10, 3_000)) != whole[:10]
