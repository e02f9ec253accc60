"""Titles found by free questions: on literal rows, on the sample, on the real records."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from data.artefacts.folder import Folder
from data.artefacts.parts import list_parts, read_part
from inference.ask import index, search
from preprocessing.__main__ import main as preprocess
from tests.builders import write_clean
from tests.phrasings import questions

TITLES = (
    "The Prophet",
    "The Prophet (Illustrated)",
    "Acme Copper Kettle, 2-Litre, Red",
    "Acme Copper Kettle, 2-Litre, Blue",
    "What to Expect When You're Expecting",
    "It",
    "Café Society: A Memoir",
    "The Wandering Lighthouse (A Novel from Foxley)",
    "The Hidden Staircase of Windermoor: A Mystery",
    "O Alquimista",
    "</script><b>Bold</b> & Co",
    "100% Cotton Shirt -- Men's",
)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    rows = [(f"u{i}", title, "text") for i, title in enumerate(TITLES)]
    clean = write_clean(tmp_path_factory.mktemp("search") / "clean", rows, parts=2)
    with closing(index.open_index(index.build(str(clean)))) as opened:
        yield opened


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("What is The Prophet about?", "The Prophet"),
        ("What is The Prophet (Illustrated) about?", "The Prophet (Illustrated)"),
        ("me fale sobre o alquimista", "O Alquimista"),
        ("O que é “It”?", "It"),
        ("tell me about cafe society: a memoir", "Café Society: A Memoir"),
        ("What is CAFÉ SOCIETY like", "Café Society: A Memoir"),
        ("is What to Expect When You're Expecting any good", TITLES[4]),
        ("whats what to expect when youre expectng", TITLES[4]),
        ("the wanderng lighthosue", TITLES[7]),
        ("hiden staircase", TITLES[8]),
        ("Acme kettle in red", TITLES[2]),
        ("Acme copper kettle 2 litre blue, please", TITLES[3]),
        ("</script><b>bold</b> & co?", TITLES[10]),
        ("mens cotton shirt", TITLES[11]),
        ('NEAR(mens cotton shirt) OR *"', TITLES[11]),
    ],
)
def test_the_title_meant_comes_first(db: sqlite3.Connection, question: str, title: str) -> None:
    found = search.find(db, question)
    assert found[0].title == title
    assert search.is_sure(found)


def test_two_titles_alike_are_left_open(db: sqlite3.Connection) -> None:
    found = search.find(db, "What is the Acme copper kettle like?")
    assert {match.title for match in found[:2]} == {TITLES[2], TITLES[3]}
    assert not search.is_sure(found)


@pytest.mark.parametrize("question", ["how deep is the ocean", "xyzzy", "?!", "", "quanto custa"])
def test_nothing_is_meant_by_other_questions(db: sqlite3.Connection, question: str) -> None:
    assert not search.is_sure(search.find(db, question))


def test_records_of_one_title_are_one_match(tmp_path: Path) -> None:
    rows = [("a", "The Prophet", "one"), ("b", "The Prophet", "two"), ("c", "The Poet", "three")]
    clean = write_clean(tmp_path / "clean", rows, parts=1)
    with closing(index.open_index(index.build(str(clean)))) as opened:
        first = search.find(opened, "The Prophet")[0]
    assert (first.title, first.records) == ("The Prophet", 2)


def test_titles_are_suggested_while_typing(db: sqlite3.Connection) -> None:
    for typed in ("What is the Wand", "wanderi", "o alq"):
        found = search.find(db, typed, typing=True)
        assert found[0].title in (TITLES[7], TITLES[9])


def test_scores_fall_and_lie_between_0_and_1(db: sqlite3.Connection) -> None:
    for title in TITLES:
        scores = [match.score for match in search.find(db, title)]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)


def test_a_question_of_any_length_is_answered(db: sqlite3.Connection) -> None:
    assert search.find(db, "kettle " * 3_000 + "copper acme red")[0].title == TITLES[2]
    search.find(db, "".join(chr(c) for c in range(32, 3_000)))


def found_shares(clean: Path, count: int) -> dict[bool, tuple[float, float]]:
    """For whole titles and parts: the share found first, and among the first five."""
    titles = [
        title
        for name in list_parts(Folder(str(clean)))
        for title in read_part(Folder(str(clean)), name, ["title"]).column(0).to_pylist()
    ]
    tally: dict[bool, list[int]] = {True: [], False: []}
    with closing(index.open_index(index.build(str(clean)))) as db:
        for question, title, is_whole in questions(titles, count, seed=7, slips=0.4):
            listed = [match.title for match in search.find(db, question)]
            tally[is_whole].append(listed.index(title) if title in listed else 99)
    return {
        is_whole: (
            sum(place == 0 for place in places) / len(places),
            sum(place < 5 for place in places) / len(places),
        )
        for is_whole, places in tally.items()
    }


def test_200_questions_on_the_sample(root: Path, tmp_path: Path) -> None:
    recipe = str(root / "preprocessing/recipes/sample.yaml")
    source = str(root / "data/sample/trn.json.gz")
    words = ("--config", recipe, "--source", source, "--out", str(tmp_path / "clean"))
    assert preprocess(["clean", *words, "--workers", "1"]) == 0
    found = found_shares(tmp_path / "clean", 200)
    assert found[True][0] >= 0.95
    assert found[False][1] >= 0.90


@pytest.mark.real
def test_100_questions_on_the_real_records(real_records: Path, tmp_path: Path) -> None:
    rules = ("--rules.content_min", "100", "--rules.content_max", "2000")
    words = ("--source", str(real_records), "--out", str(tmp_path / "clean"), "--workers", "1")
    assert preprocess(["clean", *words, *rules, "--max_quarantined_share", "0.5"]) == 0
    found = found_shares(tmp_path / "clean", 200)
    assert found[True][0] >= 0.95
    assert found[False][1] >= 0.90
