"""What generated texts share with the training texts, word for word: exact, through an index.

Pure: texts in, figures out. A suffix array (libdivsufsort) over a block of training texts and all
generated ones puts every generated suffix beside the training suffixes that it shares most with;
block after block, so that memory does not grow with the training set.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# Bytes that no UTF-8 text holds: a match can never cross the end of a text.
_TRAINED, _WRITTEN = b"\xff", b"\xfe"
_WORDS = 4
# The scripts of ``words`` in RE2's terms; a mark apart from its character changes no likeness.
_UNSPACED = (
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
    r"\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Tham}\p{Tai_Viet}]"
)
_ODD = np.uint64(0x9E3779B97F4A7C15)

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Copies:
    """What each of N texts holds verbatim of the training texts."""

    longest: Numbers
    """[N] code points of the longest span that also stands in a training text."""
    start: Numbers
    """[N] where that span begins in the text, in code points."""
    source: Numbers
    """[N] position of a training text that holds it; -1 where nothing is shared."""
    spans: list[list[tuple[int, int]]]
    """For each text the stretches (begin, end) that are covered by spans of at least the least
    length, in code points, apart and in order."""
    copied: NDArray[np.float64]
    """[N] share of the text's code points within those stretches."""


@dataclass(frozen=True)
class Nearest:
    """The training text that shares the most word 4-grams with each of N texts."""

    row: Numbers
    """[N] its position, the first of several; -1 where none shares one."""
    shared: Numbers
    """[N] distinct 4-grams shared."""


def find_copies(
    texts: list[str], trained: pa.ChunkedArray, least: int, block_bytes: int = 2**24
) -> Copies:
    """Find the verbatim spans that texts share with training texts.

    Args:
        texts: N texts to look through.
        trained: the training texts, strings without nulls; may be memory-mapped.
        least: code points of the shortest span that counts as copied.
        block_bytes: training text indexed at a time; some 20 times as much memory is taken.
    """
    written = _joined(texts, _WRITTEN)
    length = np.zeros(len(written), np.int64)
    source = np.full(len(written), -1, np.int64)
    first = 0
    for block in _blocks(trained, block_bytes):
        ends = np.cumsum([len(text) + 1 for text in block])
        shared, at = _match(_joined(block, _TRAINED), written)
        better = shared > length
        length[better] = shared[better]
        source[better] = first + np.searchsorted(ends, at[better], side="right")
        first += len(block)
    return _as_spans(texts, written, length, source, least)


def copied_from(texts: list[str], sources: list[str], least: int) -> NDArray[np.float64]:
    """Return the share of each text's code points within spans that its own source holds: [N]."""
    pairs = zip(texts, sources, strict=True)
    return np.array(
        [find_copies([text], pa.chunked_array([[own]]), least).copied[0] for text, own in pairs]
    )


class Sorted:
    """Training texts whose suffixes are sorted once, to look up many short texts one by one.

    It takes five times the memory of the texts. Several threads may search at once.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        from pydivsufsort import divsufsort

        encoded = [text.encode() for text in texts]
        # The library takes no array that it may not write to.
        self._trained = _joined(encoded, _TRAINED).copy()
        self._ends = np.cumsum([len(text) + 1 for text in encoded])
        self._order = divsufsort(self._trained) if encoded else None

    def find(self, piece: str) -> int:
        """Return the position of the first training text that holds a piece; -1 for none."""
        from pydivsufsort import sa_search

        if self._order is None:
            return -1
        count, left = sa_search(self._trained, self._order, piece.encode())
        if not count:
            return -1
        first = self._order[left : left + count].min()
        return int(np.searchsorted(self._ends, first, side="right"))

    def spans(self, text: str, least: int, own: str = "") -> list[tuple[int, int]]:
        """Find the stretches of a text that one training text, or its own one, holds.

        Args:
            text: to look through.
            least: code points of the shortest span that counts.
            own: looked through too.

        Returns:
            (begin, end) in code points, apart and in order: spans that touch are one stretch.
        """
        windows = ((begin, begin + least) for begin in range(len(text) - least + 1))
        return _stretches(
            (begin, end) for begin, end in windows
            if text[begin:end] in own or self.find(text[begin:end]) >= 0
        )  # fmt: skip


def _joined(texts: list[str] | list[bytes], separator: bytes) -> NDArray[np.uint8]:
    encoded = (text.encode() if isinstance(text, str) else text for text in texts)
    return np.frombuffer(b"".join(text + separator for text in encoded), np.uint8)


def _blocks(trained: pa.ChunkedArray, block_bytes: int) -> Iterator[list[bytes]]:
    block: list[bytes] = []
    size = 0
    for _, piece in _pieces(trained, 4_096):
        for text in piece.cast(pa.binary()).to_pylist():
            block.append(text)
            size += len(text) + 1
            if size >= block_bytes:
                yield block
                block, size = [], 0
    if block:
        yield block


def _pieces(trained: pa.ChunkedArray, rows: int) -> Iterator[tuple[int, pa.Array]]:
    """Cut a column into pieces of at most so many rows, with the position of their first."""
    first = 0
    for chunk in trained.chunks:
        for start in range(0, len(chunk), rows):
            yield first + start, chunk.slice(start, rows)
        first += len(chunk)


def _match(trained: NDArray[np.uint8], written: NDArray[np.uint8]) -> tuple[Numbers, Numbers]:
    """Find for each byte of ``written`` the longest match that begins there in ``trained``.

    Returns:
        [written] bytes of the match, and where in ``trained`` one of its occurrences begins.
    """
    from pydivsufsort import divsufsort, kasai

    both = np.concatenate([trained, written])
    order = divsufsort(both)
    # Bytes that the suffix at a rank shares with the one at the next rank.
    shared = kasai(both, order)
    ranks = np.flatnonzero(order >= len(trained))
    length = np.zeros(len(written), np.int64)
    at = np.zeros(len(written), np.int64)
    places = order[ranks] - len(trained)
    for backwards in (False, True):
        step = 1 if backwards else -1
        # The shares between a written suffix and its neighbour; ends of the order share nothing.
        beside = ranks + (0 if backwards else -1)
        value = np.where(beside < 0, 0, shared[beside]).astype(np.int64)
        neighbour = _first_of_run(ranks, backwards) + step
        value = _minimum_along_runs(value, ranks, backwards)
        inside = (neighbour >= 0) & (neighbour < len(order))
        better = inside & (value > length[places])
        length[places[better]] = value[better]
        at[places[better]] = order[neighbour[better]]
    return length, at


def _first_of_run(ranks: Numbers, backwards: bool) -> Numbers:
    """Return for each rank the first (last) one of its run of consecutive ranks."""
    if backwards:
        return -_first_of_run(-ranks[::-1], False)[::-1]
    is_first = np.append(True, np.diff(ranks) != 1)
    firsts: Numbers = np.maximum.accumulate(np.where(is_first, np.arange(len(ranks)), 0))
    return ranks[firsts]


def _minimum_along_runs(value: Numbers, ranks: Numbers, backwards: bool) -> Numbers:
    """Return the least value from the beginning of each run of consecutive ranks to each rank.

    What two suffixes share is the least of what neighbours between them share (Kasai et al. 2001);
    windows of 1, 2, 4, ... ranks, so that a run of n takes log2(n) passes.
    """
    if backwards:
        return _minimum_along_runs(value[::-1], -ranks[::-1], False)[::-1]
    within = ranks - _first_of_run(ranks, False)
    least, width = value.copy(), 1
    while width <= within.max(initial=0):
        reach = np.flatnonzero(within >= width)
        least[reach] = np.minimum(least[reach], least[reach - width])
        width *= 2
    return least


def _as_spans(
    texts: list[str], written: NDArray[np.uint8], length: Numbers, source: Numbers, least: int
) -> Copies:
    """Turn matches of bytes into spans of whole code points."""
    begins = (written & 0xC0) != 0x80
    # Code points that begin before each byte; the last entry ends the last text.
    before = np.append(0, np.cumsum(begins))
    ends = np.arange(len(written)) + length
    cut = ~np.append(begins, True)[ends]
    points = np.where(begins, before[ends] - before[:-1] - cut, 0)
    starts = np.append(0, np.flatnonzero(written == _WRITTEN[0]) + 1)
    longest, start, row = (np.zeros(len(texts), np.int64) for _ in range(3))
    spans: list[list[tuple[int, int]]] = []
    copied = np.zeros(len(texts))
    for i, text in enumerate(texts):
        piece = slice(starts[i], starts[i + 1] - 1)
        own = points[piece][begins[piece]]
        start[i] = own.argmax() if len(own) else 0
        longest[i] = own[start[i]] if len(own) else 0
        row[i] = source[piece][begins[piece]][start[i]] if longest[i] else -1
        long = np.flatnonzero(own >= least)
        spans.append(_stretches(zip(long.tolist(), (long + own[long]).tolist(), strict=True)))
        copied[i] = sum(end - begin for begin, end in spans[-1]) / max(len(text), 1)
    return Copies(longest, start, row, spans, copied)


def _stretches(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans, sorted by their beginning, where they touch or overlap."""
    joined: list[tuple[int, int]] = []
    for begin, end in spans:
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    return joined


def find_nearest(texts: list[str], trained: pa.ChunkedArray) -> Nearest:
    """Find the training text that shares the most distinct word 4-grams with each text.

    Words are what white space separates, in lower case, and in a text without spaces between
    words its characters. Only 4-grams of ``texts`` are indexed, so memory grows with what is
    shared.
    """
    words = pc.unique(_split(pa.array(texts, pa.string())).flatten())
    own_grams, own_rows = _grams(pa.array(texts, pa.string()), words)
    index = np.unique(own_grams)
    grams, rows = [np.array([], np.int64)], [np.array([], np.int64)]
    for first, piece in _pieces(trained, 16_384) if len(index) else ():
        piece_grams, piece_rows = _grams(piece, words)
        place = np.searchsorted(index, piece_grams)
        is_shared = index.take(place, mode="clip") == piece_grams
        grams.append(place[is_shared])
        rows.append(piece_rows[is_shared] + first)
    return _most_shared(len(texts), np.searchsorted(index, own_grams), own_rows,
                        np.concatenate(grams), np.concatenate(rows))  # fmt: skip


def _split(texts: pa.Array) -> pa.Array:
    """Split texts into words; of a text without spaces, single characters are words."""
    lower = pc.utf8_lower(texts)
    is_unspaced = pc.match_substring_regex(lower, f"{_UNSPACED}{{{_WORDS}}}")
    if pc.any(is_unspaced).as_py():
        apart = pc.replace_substring_regex(lower, f"({_UNSPACED})", r" \1 ")
        lower = pc.if_else(is_unspaced, apart, lower)
    return pc.utf8_split_whitespace(lower)


def _grams(texts: pa.Array, words: pa.Array) -> tuple[NDArray[np.uint64], Numbers]:
    """Return the distinct 4-grams of ``words`` in each text: hashes and rows, sorted by row."""
    split = _split(texts)
    ids = pc.fill_null(pc.index_in(split.flatten(), words), -1).to_numpy(zero_copy_only=False)
    row = np.repeat(np.arange(len(texts)), pc.list_value_length(split).to_numpy())
    if len(ids) < _WORDS:
        return np.array([], np.uint64), np.array([], np.int64)
    last = len(ids) - _WORDS + 1
    whole = row[:last] == row[_WORDS - 1 :]
    mixed = np.zeros(last, np.uint64)
    for shift in range(_WORDS):
        piece = ids[shift : shift + last]
        whole &= piece >= 0
        mixed = (mixed ^ (piece.astype(np.uint64) + np.uint64(1))) * _ODD
        mixed ^= mixed >> np.uint64(29)
    pairs = np.stack([row[:last][whole].astype(np.uint64), mixed[whole]])
    pairs = np.unique(pairs, axis=1) if pairs.size else pairs
    return pairs[1], pairs[0].astype(np.int64)


def _most_shared(
    texts: int, own: Numbers, own_rows: Numbers, grams: Numbers, rows: Numbers
) -> Nearest:
    by_gram = np.argsort(grams, kind="stable")
    grams, rows = grams[by_gram], rows[by_gram]
    nearest = Nearest(np.full(texts, -1, np.int64), np.zeros(texts, np.int64))
    ends = np.searchsorted(own_rows, np.arange(texts + 1))
    count = int(rows.max(initial=-1)) + 1
    for i in range(texts):
        mine = own[ends[i] : ends[i + 1]]
        lows, highs = np.searchsorted(grams, mine), np.searchsorted(grams, mine, side="right")
        sharing = [rows[low:high] for low, high in zip(lows, highs, strict=True)]
        if not sharing or not count:
            continue
        shared = np.bincount(np.concatenate(sharing), minlength=count)
        best = int(shared.argmax())
        if shared[best]:
            nearest.row[i], nearest.shared[i] = best, shared[best]
    return nearest
