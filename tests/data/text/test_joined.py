"""Edits of many texts at once equal the edit of each."""

import html

import numpy as np
import pyarrow as pa
import pytest
from ftfy import fixes
from hypothesis import given, settings
from hypothesis import strategies as st

from data.text import joined
from data.text.joined import Joined

PIECES = [
    *("&", ";", "#", "x", "a", " ", "\t", "<", "é", "amp", "lt;", "&&", "&#", "&#x", "38;", "\x00"),
    *(
        "&quot;",
        "&nGt;",
        "&nLt;",
        "&notit;",
        "&amp",
        "&#x92;",
        "&#0;",
        "&#1;",
        "&#xD800",
        "&Creme;",
    ),
    *("&CounterClockwiseContourIntegral;", "&#000000000000000000000000000000000000065;", "&#x2019"),
    *(
        "&" + "é" * 20 + ";",
        "&" + "a" * 33 + ";",
        "&" + "a" * 40,
        "’",
        "“",
        "\r",
        "\n",
        "\r\n",
        "ʼ",
    ),
]
TEXTS = st.lists(st.lists(st.sampled_from(PIECES), max_size=9).map("".join), max_size=6)


@pytest.fixture(params=[1, 40, 2**20], autouse=True)
def small_pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined, "_PIECE_BYTES", request.param)


def column(texts: list[str]) -> pa.StringArray:
    """Return the texts as a column that lies inside another, as those of a filtered table do."""
    return pa.array(["&before;", *texts, "behind “"], pa.string()).slice(1, len(texts))


@settings(max_examples=300)
@given(TEXTS)
def test_unescaping_equals_that_of_the_library(texts: list[str]) -> None:
    assert joined.unescape(column(texts)).to_pylist() == [html.unescape(text) for text in texts]


def test_every_named_reference_is_unescaped() -> None:
    texts = [f"a&{name}b &{name}" for name in html.entities.html5]
    assert joined.unescape(column(texts)).to_pylist() == [html.unescape(text) for text in texts]


def test_a_text_of_very_many_references_is_unescaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined, "_MOST_REFERENCES", 3)
    assert joined.unescape(column(["&lt;" * 4, "&gt;"])).to_pylist() == ["<<<<", ">"]


@settings(max_examples=300)
@given(TEXTS)
def test_quotes_and_line_ends_become_those_of_ftfy(texts: list[str]) -> None:
    expected = [fixes.fix_line_breaks(fixes.uncurl_quotes(text)) for text in texts]
    assert joined.straighten(column(texts)).to_pylist() == expected


@settings(max_examples=300)
@given(st.lists(st.text("a \t\n\x0b\x0cé"), max_size=6))
def test_white_space_is_collapsed(texts: list[str]) -> None:
    assert joined.collapse(column(texts)).to_pylist() == [" ".join(text.split()) for text in texts]


def test_references_end_where_they_can_go_no_further() -> None:
    texts = Joined.of(column(["a&amp;b&c", "&", "&d e&#12;", "&" + "f" * 40]))
    places, windows, lengths = texts.references()
    assert places.tolist() == [1, 7, 9, 10, 14, 19]
    assert lengths.tolist() == [5, 2, 1, 2, 5, 0]
    assert [bytes(window).rstrip() for window in windows] == [
        b"&amp;", b"&c", b"&", b"&d", b"&#12;", b"",
    ]  # fmt: skip


def test_bytes_are_counted_added_up_and_removed_by_text() -> None:
    texts = Joined.of(column(["abc", "", "de"]))
    places = np.array([0, 2, 4])
    assert texts.count(places).tolist() == [2, 0, 1]
    assert texts.add(places, np.array([5, 6, 7])).tolist() == [11, 0, 7]
    assert texts.without(places).column().to_pylist() == ["b", "", "d"]
    assert texts.cut(np.array([1, 3]), np.array([2, 5])).to_pylist() == [b"b", b"de"]


def test_pieces_are_the_whole_column_in_order() -> None:
    texts = ["a" * 30, "", "b" * 50, "c", "", "d"]
    pieces = [piece.to_pylist() for piece in joined.pieces(column(texts))]
    assert [text for piece in pieces for text in piece] == texts
    assert all(pieces)
    assert [len(piece) for piece in joined.pieces(column([]))] == [0]


@given(st.lists(st.booleans(), max_size=40))
def test_the_places_of_a_mask_are_those_that_numpy_finds(values: list[bool]) -> None:
    mask = np.array(values, dtype=bool)
    for start in range(len(mask) + 1):
        assert joined.flatnonzero(mask[start:]).tolist() == np.flatnonzero(mask[start:]).tolist()


@pytest.mark.parametrize("ending", ["", "&", "&quot", "&quot;", "&CounterClockwiseContourIntegral"])
def test_a_reference_at_the_very_end_is_seen_whole(ending: str) -> None:
    texts = ["a" * 40 + ending, ending]
    assert joined.unescape(pa.array(texts)).to_pylist() == [html.unescape(each) for each in texts]
