"""Words, numbers and units of a title: what counts, and what a text keeps of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import words
from inference.fidelity import (
    Checks,
    Number,
    check,
    compare,
    content_words,
    measures,
    numbers,
    repeated,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Green Kettles of 2001", {"green", "kettle"}),
        ("Café, CAFÉ", {"café"}),
        ("with for and", set()),
        ("Kettle Tales (Hardcover)", {"kettle", "tale"}),
        ("glass bus", {"glass", "bus"}),
        ("Чайник из стали", {"чайник", "стали"}),
        ("यह केतली", {"केतली"}),
        ("강철 냄비", {"강철", "냄비"}),
        ("鉄瓶は茶", {"鉄瓶", "瓶は", "は茶"}),
        ("茶", {"茶"}),
        ("🎉 !!!", set()),
        ("", set()),
    ],
)
def test_content_words(text: str, words: set[str]) -> None:
    assert content_words(text) == words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,000.50 and 1000.5", {"1000.5"}),
        ("007 or 7", {"7"}),
        ("2.0", {"2"}),
        ("chapters 1,2", {"1", "2"}),
        ("١٢٫٥ و ١٬٠٠٠", {"12.5", "1000"}),
        ("１２．５、３個", {"12.5", "3"}),
        ("१२ मिनट", {"12"}),
        ("none", set()),
    ],
)
def test_numbers(text: str, expected: set[str]) -> None:
    assert numbers(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12-inch", {("12", "in")}),
        ('12" wide', {("12", "in")}),
        ("12 inches", {("12", "in")}),
        ("2 Liters", {("2", "l")}),
        ("500ml, 5 men", {("500", "ml"), ("5", "")}),
        ("50%", {("50", "%")}),
        ("٥٠٪ or ５０％", {("50", "%")}),
        ("５ｋｇ", {("5", "kg")}),
    ],
)
def test_measures(text: str, expected: set[tuple[str, str]]) -> None:
    assert measures(text) == expected


def test_a_number_is_kept_with_its_unit_only() -> None:
    assert compare("holds 2 quarts", "Kettle 2 liters", "")["title_numbers"] == (0, 1)
    assert compare("holds 2 litres", "Kettle 2 liters", "")["title_numbers"] == (1, 1)
    assert compare("holds 2 litres", "Kettle 2", "")["title_numbers"] == (1, 1)


def test_a_number_is_supported_by_title_or_record() -> None:
    counts = compare("From 1999: 12 pieces, 3 lids", "Pot Set, 12 pieces", "Made in 1999.")
    assert counts == {"title_words": (1, 2), "title_numbers": (1, 1), "unsupported": (1, 3)}


def test_a_character_that_stands_alone_is_found_among_others() -> None:
    assert compare("緑茶です。", "茶 12個", "")["title_words"] == (1, 2)


def test_a_number_is_the_same_in_other_digits() -> None:
    counts = compare("غلاية ١٢ لتر، ٧", "Kettle 12 l", "")
    assert (counts["title_numbers"], counts["unsupported"]) == ((0, 1), (1, 2))
    assert compare("غلاية ١٢ لتر", "Kettle 12", "")["title_numbers"] == (1, 1)


# What a reader is told ----------------------------------------------------------------------------


def test_words_and_numbers_are_those_that_title_and_text_write() -> None:
    text = "A quiet kettle of 1998, 12 litres. 1998! Whistles, whistles, whistles a lot."
    assert check(
        text, "Don't Boil: the QUIET Copper Kettles, kettle (Hardcover)", "12 l"
    ) == Checks(
        ["QUIET", "Kettles"],
        ["Don't", "Boil", "Copper"],
        [Number(18, 22, "1998", "1998"), Number(35, 39, "1998", "1998")],
        0.0,
    )
    assert check(text, "", "").unsupported_numbers == ["1998", "12"]
    assert check("It boils water now. It boils water now.", "", "").repeated_share == 0.2
    assert check("", "Kettle 2", "") == Checks([], ["Kettle"], [], 0.0)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("for 1,000.50 or 1000.5", ["1,000.50"]),
        ("鉄瓶は１２個です", ["１２"]),
        ("غلاية ١٢٫٥ لتر", ["١٢٫٥"]),
        ("Ünïcode Straße ﬃ 7", ["7"]),
        # A soft hyphen folds away, and a mark joins what stood before it.
        ("e\u00ad\u0301 3", ["3"]),
    ],
)
def test_numbers_are_placed_in_texts_of_any_script(text: str, written: list[str]) -> None:
    checks = check(text, "", "")
    assert checks.unsupported_numbers == written
    assert [text[number.begin : number.end] for number in checks.unsupported][:1] == written


@pytest.mark.parametrize(
    ("text", "title", "unsupported"),
    [
        ("Live in 1998.", "Hits '98", []),
        ("Live in ’98.", "Hits 1998", []),
        ("Of the '90s, the 90s, the 90's.", "Hits 1990", []),
        ("Of the 1990s.", "Hits of the '90s", []),
        ("He died in 1842.", "Papers, 1839-42", []),
        ("Of 1839–42.", "Papers 1839, 1842", []),
        ("Of 1942.", "Papers, 1839-42", ["1942"]),
        ("98 of them.", "Hits 1998", ["98"]),
        ("A man of 6'11.", "Hits 1911", ["6", "11"]),
        ("Of 1997.", "Hits '98", ["1997"]),
    ],
)
def test_a_year_is_the_same_in_two_digits(text: str, title: str, unsupported: list[str]) -> None:
    assert check(text, title, "").unsupported_numbers == unsupported
    assert check(text, "", title).unsupported_numbers == unsupported


_PIECES = [
    *(
        "Kettle",
        "kettles",
        "STRASSE",
        "straße",
        "don't",
        "of",
        "Hardcover",
        "鉄瓶",
        "茶",
        "は",
        "강철",
    ),
    *("12", "1,000.5", "1000.50", "'98", "1998", "1839-42", "90s", "１２", "١٢٫٥", "5kg", "7"),
    *(" ", "  ", ", ", ". ", "-", "'", "\u00ad", "\u200d", "\u0301", "ﾞ", "ﬃ", "İ", "ﾡￂ", "é"),
]
_TEXTS = st.lists(st.sampled_from(_PIECES), max_size=14).map("".join) | st.text(max_size=30)


@given(_TEXTS, _TEXTS, _TEXTS)
def test_a_reader_is_told_what_evaluation_counts(text: str, title: str, record: str) -> None:
    checks, counts = check(text, title, record), compare(text, title, record)
    kept, missing = checks.title_words_kept, checks.title_words_missing
    assert counts["title_words"] == (len(kept), len(kept) + len(missing))
    assert content_words(title) <= {word for each in kept + missing for word in content_words(each)}
    assert all(word in title for word in kept + missing)
    assert counts["unsupported"][0] == len(checks.unsupported_numbers)
    assert {number.value for number in checks.unsupported} <= numbers(text)
    for number in checks.unsupported:
        assert number.text == text[number.begin : number.end]
        assert number.value in words.fold(number.text).replace(",", "")
    again, grams = repeated(text)
    assert checks.repeated_share == (again / grams if grams else 0)
