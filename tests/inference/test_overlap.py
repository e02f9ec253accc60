"""Copied spans and nearest training texts: equal to brute force, whatever the blocks."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.overlap import Copies, copied_from, find_copies, find_nearest

WORDS = ("kettle", "lämp", "a", "the", "green", "日本", "boils water", "steel", "😀", "of")


def _texts(rows: int, seed: int, most: int = 14) -> list[str]:
    draw = random.Random(seed)  # noqa: S311
    return [" ".join(draw.choices(WORDS, k=draw.randint(0, most))) for _ in range(rows)]


def _column(texts: list[str], pieces: int = 1) -> pa.ChunkedArray:
    step = -(-len(texts) // pieces)
    return pa.chunked_array(
        [pa.array(texts[i : i + step], pa.string()) for i in range(0, len(texts), step)],
        pa.string(),
    )


def _brute_longest(text: str, joined: str) -> list[int]:
    """From each place on, the longest span that stands in the training texts."""
    found, end = [], 0
    for start in range(len(text)):
        end = max(end, start)
        while end < len(text) and text[start : end + 1] in joined:
            end += 1
        found.append(end - start)
    return found


def _covered(points: list[int], least: int) -> float:
    marked = [False] * len(points)
    for start, length in enumerate(points):
        if length >= least:
            marked[start : start + length] = [True] * length
    return sum(marked) / max(len(points), 1)


@pytest.fixture(scope="module")
def trained() -> list[str]:
    return _texts(2_000, seed=1)


@pytest.fixture(scope="module")
def asked() -> list[str]:
    return [*_texts(198, seed=2), "", "no such thing ever stood there"]


@pytest.mark.parametrize("block_bytes", [2_000, 50_000, 2**24])
def test_copies_equal_brute_force(trained: list[str], asked: list[str], block_bytes: int) -> None:
    found = find_copies(asked, _column(trained, 3), 12, block_bytes)
    joined = "\n".join(trained)
    for i, text in enumerate(asked):
        points = _brute_longest(text, joined)
        assert found.longest[i] == max(points, default=0)
        assert found.copied[i] == pytest.approx(_covered(points, 12))
        span = text[found.start[i] : found.start[i] + found.longest[i]]
        assert (found.source[i] == -1) == (not span)
        assert not span or span in trained[found.source[i]]


def test_nearest_equals_brute_force(trained: list[str], asked: list[str]) -> None:
    def grams(text: str) -> set[tuple[str, ...]]:
        words = text.lower().split()
        return {tuple(words[i : i + 4]) for i in range(len(words) - 3)}

    found = find_nearest(asked, _column(trained, 3))
    known = [grams(text) for text in trained]
    for i, text in enumerate(asked):
        shared = [len(grams(text) & each) for each in known]
        assert found.shared[i] == max(shared)
        assert found.row[i] == (int(np.argmax(shared)) if max(shared) else -1)


@given(st.lists(st.text("ab é", max_size=9), max_size=5), st.lists(st.text("ab é", max_size=9)))
def test_any_texts(trained: list[str], asked: list[str]) -> None:
    found = find_copies(asked, _column(trained) if trained else _none(), 3, 8)
    for i, text in enumerate(asked):
        points = _brute_longest(text, "\n".join(trained)) if trained else []
        assert found.longest[i] == max(points, default=0)


def _none() -> pa.ChunkedArray:
    return pa.chunked_array([], pa.string())


def test_a_span_never_crosses_the_end_of_a_text() -> None:
    found = find_copies(["green kettle"], _column(["green ", "kettle"]), 3)
    assert found.longest.tolist() == [6]


def test_spans_are_whole_characters() -> None:
    # Both begin with the same byte of UTF-8.
    found = find_copies(["aé"], _column(["aè"]), 1)
    assert (found.longest.tolist(), found.spans) == ([1], [[(0, 1)]])


def test_touching_spans_are_joined() -> None:
    found = find_copies(["one two three"], _column(["one two", " two three"]), 5)
    assert found.spans == [[(0, 13)]]
    assert found.copied.tolist() == [1.0]


def test_no_texts() -> None:
    found = find_copies([], _column(["one"]), 5)
    assert isinstance(found, Copies)
    assert find_nearest([], _column(["one two three four"])).row.tolist() == []


def test_texts_without_spaces_share_characters() -> None:
    trained = ["茶碗を長く使う", "二分でお湯を沸かす鉄瓶です", "one two three four"]
    found = find_nearest(["この鉄瓶は二分でお湯を沸かし", "ต้มน้ำ"], _column(trained, 2))
    # 二分でお, 分でお湯, でお湯を, お湯を沸, 湯を沸か
    assert (found.row.tolist(), found.shared.tolist()) == ([1, -1], [5, 0])


def test_what_a_text_copies_of_its_own_source() -> None:
    texts = ["A green kettle boils.", "A green kettle boils.", "A green kettle boils.", ""]
    sources = ["Kettle\nThe green kettle sings.", "", "A green kettle boils.", "Kettle"]
    shares = copied_from(texts, sources, 10)
    # " green kettle " of 21 characters.
    assert shares.tolist() == [pytest.approx(14 / 21), 0.0, 1.0, 0.0]
    assert copied_from(texts[:1], sources[:1], 15).tolist() == [0.0]
