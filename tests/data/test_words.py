"""Words in any script: rouge-score's own where the text is ASCII, none lost where it is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenize import tokenize

from data import words


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_texts_have_rouge_scores_own_words(text: str) -> None:
    assert words.words(text) == tokenize(text, None)
    assert words.apart(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Чайник из стали", ["чайник", "из", "стали"]),
        ("Straße, STRASSE", ["strasse", "strasse"]),
        ("cafe\u0301 CAFÉ", ["café", "café"]),
        ("यह केतली", ["यह", "केतली"]),
        ("غلاية ١٢ لتر", ["غلاية", "12", "لتر"]),
        ("می\u200cخواهم", ["میخواهم"]),
        ("이 주전자", ["이", "주전자"]),
        ("鉄瓶、15個", ["鉄", "瓶", "15", "個"]),
        ("コーヒー", ["コ", "ー", "ヒ", "ー"]),
        ("ต้มน้ำ", ["ต้", "ม", "น้", "ำ"]),
        ("ＡＢＣ１２３　ｶﾞ", ["abc123", "ガ"]),
        ("iPhone 15 ケース for 男性", ["iphone", "15", "ケ", "ー", "ス", "for", "男", "性"]),
        ("Kettle 🎉❤️", ["kettle", "🎉", "❤️"]),
        ("«!!!» … ™", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words.words(text) == expected


def test_characters_are_set_apart_in_scripts_without_spaces_only() -> None:
    assert words.apart("Lampe für 男性。").split() == ["Lampe", "für", "男", "性", "。"]
    assert [words.is_unspaced(text) for text in ("Lampe für", "한국어", "男", "ต้ม")] == [
        False, False, True, True,
    ]  # fmt: skip


@given(st.text() | st.lists(st.sampled_from("aé\u0301\u00ad１カﾞﾡￂß가ᄀ")).map("".join))
def test_every_folded_character_has_its_place(text: str) -> None:
    places, folded = words.places(text), words.fold(text)
    assert len(places) == len(folded)
    assert places == sorted(places)
    assert all(0 <= begin < end <= len(text) for begin, end in places)


def test_a_place_is_the_sign_that_was_folded() -> None:
    assert words.places("aß") == [(0, 1), (1, 2), (1, 2)]
    assert words.places("e\u0301x") == [(0, 2), (2, 3)]
    # What folds together across signs is one place.
    assert words.places("xe\u00ad\u0301y") == [(0, 1), (1, 4), (4, 5)]
