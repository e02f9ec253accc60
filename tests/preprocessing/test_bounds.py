"""What is said of a text's length before its repair holds after it."""

import html.entities

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing import bounds, text

PIECES = [
    *("word", "a", "  ", " ", "\n", "\t", "\x00", "\x1b[31m", "amp;", "quot;", "#65;"),
    *("&amp;", "&AMP", "&#38;", "&#x26;", "&lt", "&nbsp;", " &nbsp; ", "&zwnj;", "&NewLine;"),
    *("&#0000000000000000000000000000065;", "&CounterClockwiseContourIntegral;", "&Creme;"),
    *("&#x92;", "&filig;", "ﬃ", "\u0958", "\u0301", "Ã©", "â€™", "Â ", "Ｗ", "“"),
]
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=12).map("".join)
valid = texts.map(lambda t: t.encode("utf-8", "ignore").decode())


@settings(deadline=None, derandomize=True, max_examples=1000)
@given(st.lists(valid, min_size=1, max_size=8), st.integers(1, 60))
def test_what_is_sure_before_the_repair_holds_after_it(raw: list[str], limit: int) -> None:
    column = pa.array(raw, pa.string())
    lengths = [len(text.repair(each)) for each in raw]
    shorter = bounds.surely_shorter(column, limit).to_pylist()
    longer = bounds.surely_longer(column, limit).to_pylist()
    for length, is_shorter, is_longer in zip(lengths, shorter, longer, strict=True):
        assert not is_shorter or 0 < length < limit
        assert not is_longer or length > limit


def test_plain_texts_are_decided_at_once() -> None:
    column = pa.array(["a" * 99, "a" * 100, "a" * 103, "a " * 80, ""], pa.string())
    assert bounds.surely_shorter(column, 100).to_pylist() == [True, False, False, False, False]
    assert bounds.surely_longer(column, 100).to_pylist() == [False, False, True, True, False]


def test_a_slice_of_a_column_is_read_where_it_lies() -> None:
    column = pa.array(["& & &  " * 50, "a" * 300, "&nbsp;" * 60, "short"], pa.string()).slice(1)
    assert bounds.surely_longer(column, 200).to_pylist() == [True, False, False]


def test_no_reference_is_shorter_than_what_it_stands_for() -> None:
    for name in html.entities.html5:
        assert len(text.repair(f"a&{name}b")) <= len(name) + 3
