"""Words, numbers and units of a title: what counts, and what a text keeps of them."""

import pytest

from inference.fidelity import compare, content_words, measures, numbers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Green Kettles of 2001", {"green", "kettle"}),
        ("Café, CAFÉ", {"café"}),
        ("with for and", set()),
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
