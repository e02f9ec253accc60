"""What of an answer its record supports."""

import pytest

from inference.ask.grounding import split

RECORD = "A kettle of 1,200 ml, made in 1998. It weighs 2 kg."


@pytest.mark.parametrize(
    ("text", "supported", "others"),
    [
        ("It holds 1200 ml. It is red.", "It holds 1200 ml. It is red.", []),
        ("It holds 900 ml. It is a red one.", "It is a red one.", ["It holds 900 ml."]),
        ("See No. 7 for more. It is of 1998.", "It is of 1998.", ["See No. 7 for more."]),
        ("He said \"for 7 years!\" It is mine.", "It is mine.", ["He said \"for 7 years!\""]),
        ("Steel, 2 kg; 30 cups a day; a red lid", "Steel, 2 kg; a red lid", ["30 cups a day;"]),
        ("A red kettle\n12 cups at once\nIts cord", "A red kettle\nIts cord", ["12 cups at once"]),
        ("A lid/ It boils 5 cups/ It is of steel", "It is of steel", ["A lid/ It boils 5 cups/"]),
        ("Made of 3 parts", "", ["Made of 3 parts"]),
        ("The Kettle 9000 is here.", "The Kettle 9000 is here.", []),
        ("电池续航12小时。颜色是蓝色的。", "颜色是蓝色的。", ["电池续航12小时。"]),
        ("A book by J. K. Rowling. It is of 1997.", "A book by J. K. Rowling.", ["It is of 1997."]),
        ("", "", []),
    ],
)  # fmt: skip
def test_sentences_with_numbers_that_nothing_supports_are_left_out(
    text: str, supported: str, others: list[str]
) -> None:
    assert split(text, "Kettle 9000", RECORD) == (supported, others)


def test_an_answer_only_grows_while_it_is_written() -> None:
    text = "It holds 1,200 ml. It cost 30 dollars in 1998. Dr. Who has 5 of them, you 2. Buy it"
    shown, others = "", list[str]()
    for length in range(len(text) + 1):
        now, left_out = split(text[:length], "Kettle", RECORD, is_whole=False)
        assert now.startswith(shown)
        assert left_out[: len(others)] == others
        shown, others = now, left_out
    assert shown == "It holds 1,200 ml."
    assert split(text, "Kettle", RECORD)[0] == "It holds 1,200 ml. Buy it"
