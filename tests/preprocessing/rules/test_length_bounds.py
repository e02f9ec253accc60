"""What is said of a text's length before its repair holds after it."""

import html.entities

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from data import text
from preprocessing.rules import length_bounds

PIECES = [
    *("word", "a", "  ", " ", "\n", "\t", "\x00", "\x1b[31m", "amp;", "quot;", "#65;", ";"),
    *(
        "&amp; ",
        "&amp;\t",
        "&#38 ",
        "&amp;",
        "&AMP",
        "&#38;",
        "&#x26;",
        "&lt",
        "&nbsp;",
        " &nbsp; ",
        "&zwnj;",
        "&NewLine;",
    ),
    *("&#0000000000000000000000000000065;", "&CounterClockwiseContourIntegral;", "&Creme;"),
    *("&#x92;", "&filig;", "ﬃ", "\u0958", "\u0301", "Ã©", "â€™", "Â ", "Ｗ", "“"),
]
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=12).map("".join)
valid = texts.map(lambda t: t.encode("utf-8", "ignore").decode())


def code_points(texts: list[str]) -> np.ndarray:
    return np.array([len(text) for text in texts])


@settings(max_examples=1000)
@given(st.lists(valid, min_size=1, max_size=8), st.integers(0, 60))
def test_what_is_sure_before_the_repair_holds_after_it(raw: list[str], enough: int) -> None:
    column = pa.array(raw, pa.string())
    lengths = [len(text.repair(each)) for each in raw]
    least, most = (
        length_bounds.shortest(column, enough).tolist(),
        length_bounds.longest(column, code_points(raw)).tolist(),
    )
    for low, length, high in zip(least, lengths, most, strict=True):
        assert 0 <= low <= length <= high


@settings(max_examples=300)
@given(st.integers(54, 65), valid)
def test_what_follows_the_part_looked_at_takes_nothing_from_it(length: int, rest: str) -> None:
    raw = "a" * length + rest
    least = length_bounds.shortest(pa.array([raw]), 6)[0]
    assert least == 51  # of 54 bytes looked at, three may be lost at the ends
    assert least <= len(text.repair(raw))


@settings(max_examples=300)
@given(st.integers(0, 5), st.sampled_from(["w", "9", "aZ"]), valid)
def test_of_a_low_bound_a_word_at_the_start_is_enough(enough: int, word: str, rest: str) -> None:
    raw = (word * 8)[: enough + 3] + rest
    least = length_bounds.shortest(pa.array(["", raw, "é"], pa.string()), enough).tolist()
    assert least == [0, enough, 0]
    assert enough <= len(text.repair(raw))


def test_a_word_that_ends_too_soon_or_is_not_ascii_is_looked_at_as_others_are() -> None:
    column = pa.array(["abc", "éabc", "ab c", "abc", "&lt;"], pa.string())
    assert length_bounds.shortest(column, 1).tolist() == [0, 0, 1, 0, 0]


def test_plain_texts_are_decided_at_once() -> None:
    column = pa.array(["a" * 99, "a" * 500, "a " * 80, "", "a &amp; b"], pa.string())
    assert length_bounds.shortest(column, 100).tolist() == [96, 145, 145, 0, 0]
    lengths = code_points(column.to_pylist())
    assert length_bounds.longest(column, lengths).tolist() == [99, 500, 160, 0, 9]


def test_a_slice_of_a_column_is_read_where_it_lies() -> None:
    column = pa.array(["& & &  " * 50, "a" * 300, "&nbsp;" * 60, "short"], pa.string()).slice(1)
    assert length_bounds.shortest(column, 200).tolist() == [245, 0, 2]


def test_what_the_first_look_leaves_open_is_looked_at_farther() -> None:
    column = pa.array(["&quot;" * 8 + "a" * 90, "AT &amp; T " * 9, "AT&amp;T " * 9], pa.string())
    # Of all 138 bytes, the last time of 49, then 129: 8 references of 6, perhaps with spaces.
    assert length_bounds.shortest(column, 100).tolist() == [71, 33, 0]
    assert length_bounds.shortest(column, 1).tolist() == [62, 14, 0]


def test_only_texts_that_are_asked_for_are_looked_at() -> None:
    column = pa.array(["a" * 9, "b" * 9, "c" * 9], pa.string())
    where = np.array([True, False, True])
    assert length_bounds.shortest(column, 1, where).tolist() == [1, 0, 1]
    assert length_bounds.shortest(column, 6, where).tolist() == [6, 0, 6]


def test_no_reference_is_shorter_than_what_it_stands_for() -> None:
    for name in html.entities.html5:
        assert len(text.repair(f"a&{name}b")) <= len(name) + 3
