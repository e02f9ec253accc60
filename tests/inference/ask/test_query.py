"""What a question names: folding, weights, quotes, spans."""

import re
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.ask.query import FRAME, fold, named_title, quoted, spans, terms, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Café DuNord", "cafe dunord"),
        ("STRASSE straße", "strasse strasse"),
        ("Men's Boots", "mens boots"),
        ("l’été", "lete"),
        ("Ação & Reação", "acao & reacao"),
        ("plain", "plain"),
    ],
)
def test_case_accents_and_apostrophes_fold(text: str, expected: str) -> None:
    assert fold(text) == expected


def test_words_leave_out_punctuation_and_underscores() -> None:
    assert words("12-Inch, (Pack_of 2) — “New”!") == ["12", "inch", "pack", "of", "2", "new"]
    assert words(" ?!… ") == []


@given(st.text())
def test_folding_twice_is_folding_once(text: str) -> None:
    assert words(" ".join(words(text))) == words(text)


@given(st.text())
def test_accents_and_case_never_matter(text: str) -> None:
    assert words(text.casefold()) == words(text)


def test_words_around_a_title_weigh_little() -> None:
    weights = {term.word: term.weight for term in terms("What is the Acme kettle like?")}
    assert weights["acme"] == weights["kettle"] == 1
    assert max(weights[word] for word in ("what", "is", "the", "like")) < 0.5


def test_a_title_of_such_words_alone_keeps_its_weight() -> None:
    assert {term.weight for term in terms("What Is This About?")} == {1.0}


def test_what_is_quoted_weighs_most() -> None:
    weights = {term.word: term.weight for term in terms("Is “The Kettle” a nice gift?")}
    assert weights["the"] == weights["kettle"] == 1
    assert weights["gift"] < 0.5


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ('What is "The Prophet" about?', ["The Prophet"]),
        ("What is 'The Prophet' about?", ["The Prophet"]),
        ("o que é «O Profeta»?", ["O Profeta"]),
        ("What's the dog's name?", []),
        ('a 12" wheel and a 14" one', []),
        ('say "?!"', []),
    ],
)
def test_quotes_are_told_from_apostrophes_and_inches(question: str, expected: list[str]) -> None:
    assert quoted(question) == expected


def test_every_run_of_words_is_a_span() -> None:
    assert spans("The Red Hat") == ["the", "the red", "the red hat", "red", "red hat", "hat"]
    assert len(spans("word " * 5_000)) == 60 * 61 // 2


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the Acme Kettle 2-L like?", "Acme Kettle 2-L"),
        ("Me fale sobre a Chaleira Acme, por favor", "Chaleira Acme"),
        ('Describe "An Odd Thing" to me', "An Odd Thing"),
        ("what is this?", "what is this?"),
    ],
)
def test_the_title_is_guessed_from_the_question(question: str, expected: str) -> None:
    assert named_title(question) == expected


def test_frame_words_are_folded_themselves() -> None:
    assert all(words(word) == [word] for word in FRAME)


@pytest.mark.parametrize(
    "text",
    [
        *("\u201c", "\u00ab", "'", '"', "a'", " 'a", '"a ', "what ", "\u0301\u0323", "a b c "),
        *("a", "1", "\0", "<", "&#", "\u202e"),
    ],
)
def test_a_long_text_takes_time_in_its_length_alone(text: str) -> None:
    long = (text * 60_000)[:60_000]
    began = time.process_time()
    for look in (terms, quoted, named_title, spans):
        look(long)
    # Some 0.1 s; what is quadratic took from 3 to 40 s.
    assert time.process_time() - began < 1.5


@given(st.text(alphabet="ab \"'_\u201c\u201d", max_size=16))
def test_plain_marks_quote_as_an_expression_would(text: str) -> None:
    plain = text.replace("\u201c", "").replace("\u201d", "")
    one = re.compile(r"(?<!\w)[\"']([^\"]+?)[\"'](?!\w)")
    assert quoted(plain) == [each for each in one.findall(plain) if words(each)]


@given(st.text(max_size=20))
def test_accents_fold_as_in_the_whole_text(text: str) -> None:
    parts = unicodedata.normalize("NFKD", text)
    plain = "".join(each for each in parts if not unicodedata.combining(each))
    assert fold(text) == fold(plain)
