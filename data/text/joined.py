"""Edits of many texts at once: those of a column as one run of UTF-8 bytes.

Pure: no I/O, no Dask. Python is asked once for every different character reference, never for
every text.
"""

import functools
import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ftfy import chardata

_NEWLINE, _RETURN, _SPACE, _AMPERSAND, _SEMICOLON = b"\n\r &;"
# No reference goes on beyond one of these; only a semicolon is a part of it.
_ENDS = np.isin(np.arange(256), list(b"\t\n\f <&;"))
# html.unescape takes at most 34 characters for one ``&``, but for a number of many digits.
_WIDTH = 35
# Nearly all end sooner: ``&quot;``, ``&#8217;``.
_USUAL_WIDTH = 12
_STEPS = np.arange(_WIDTH)
# What is looked at together: small enough for a processor's cache, and for memory where every
# other byte is a ``&``.
_PIECE_BYTES, _MOST_REFERENCES = 2**20, 2**19


@dataclass(frozen=True)
class Joined:
    """Texts one behind the other: text i is ``data[offsets[i]:offsets[i + 1]]``."""

    data: np.ndarray
    """[bytes] uint8, UTF-8."""
    offsets: np.ndarray
    """[texts + 1] int, the first 0."""

    @classmethod
    def of(cls, column: pa.StringArray | pa.BinaryArray) -> "Joined":
        """View the memory of a column without nulls."""
        _, bounds, data = column.buffers()
        if data is None or not len(column):
            return cls(np.zeros(0, np.uint8), np.zeros(len(column) + 1, np.int32))
        offsets = np.frombuffer(bounds, np.int32)[column.offset : column.offset + len(column) + 1]
        return cls(np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]], offsets - offsets[0])

    def column(self) -> pa.StringArray:
        """Return the texts as a column."""
        offsets = pa.py_buffer(self.offsets.astype(np.int32))
        return pa.StringArray.from_buffers(len(self.offsets) - 1, offsets, pa.py_buffer(self.data))

    def count(self, places: np.ndarray) -> np.ndarray:
        """Count the places, in ascending order, that lie in each text: int [texts]."""
        counts: np.ndarray = np.diff(np.searchsorted(places, self.offsets))
        return counts

    def add(self, places: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Add up the numbers of the places, in ascending order, in each text: int [texts]."""
        before = np.append(0, np.cumsum(numbers))
        sums: np.ndarray = np.diff(before[np.searchsorted(places, self.offsets)])
        return sums

    def without(self, places: np.ndarray) -> "Joined":
        """Remove the bytes at some places, in ascending order."""
        if not len(places):
            return self
        starts, stops = np.append(0, places + 1), np.append(places, len(self.data))
        kept = Joined.of(self.cut(starts, stops)).data
        return Joined(kept, self.offsets - np.searchsorted(places, self.offsets))

    def cut(self, starts: np.ndarray, stops: np.ndarray) -> pa.BinaryArray:
        """Cut out the bytes from each start to its stop; each stop is at most the next start."""
        bounds = np.empty(2 * len(starts), np.int32)
        bounds[::2], bounds[1::2] = starts, stops
        buffers = [None, pa.py_buffer(bounds), pa.py_buffer(self.data)]
        runs = pa.BinaryArray.from_buffers(pa.binary(), max(len(bounds) - 1, 0), buffers)
        # Every other run lies between two of them. numpy would look at every byte: 6 times as long.
        return runs.take(pa.array(np.arange(0, len(bounds), 2)))

    def references(
        self, places: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find what may be character references: every ``&`` up to where none goes on.

        Args:
            places: of every ``&``, where they are known.

        Returns:
            Their places [references] and bytes [references, bytes], filled up with spaces, and
            how many bytes they are [references]; 0 where the end is farther than ``_WIDTH``.
        """
        if places is None:
            places = flatnonzero(self.data == _AMPERSAND)
        left = self.offsets[np.searchsorted(self.offsets, places, side="right")] - places
        windows, lengths = self._windows(places, left, _USUAL_WIDTH)
        far = np.flatnonzero(lengths == 0)
        if len(far):
            _, lengths[far] = self._windows(places[far], left[far], _WIDTH)
            if lengths.max(initial=0) > _USUAL_WIDTH:
                windows, _ = self._windows(places, left, _WIDTH)
        windows = windows[:, : max(lengths.max(initial=0), 1)].copy()
        windows[lengths[:, None] <= _STEPS[: windows.shape[1]]] = _SPACE
        return places, windows, lengths

    def _windows(
        self, places: np.ndarray, left: np.ndarray, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the bytes from each place on, [places, width], and where a reference ends."""
        padded = self.data
        if places.max(initial=0) + width > len(padded):  # a copy
            padded = np.append(padded, np.full(width, _SPACE, np.uint8))
        windows = np.lib.stride_tricks.sliding_window_view(padded, width)[places]
        windows[left[:, None] <= _STEPS[:width]] = _SPACE
        first = _ENDS[windows[:, 1:]].argmax(axis=1) + 1
        last = windows[np.arange(len(places)), first]
        return windows, np.where(_ENDS[last], first + (last == _SEMICOLON), 0)


def flatnonzero(mask: np.ndarray) -> np.ndarray:
    """Return where a mask of bytes is true, as NumPy's does: int [places].

    Twice as fast where few bytes are: eight are looked at together.
    """
    end = len(mask) & ~7
    eights = mask[:end].view(np.uint64)
    hit = np.flatnonzero(eights != 0)
    inside = np.flatnonzero(eights[hit].view(np.bool_))
    places = 8 * hit[inside >> 3] + (inside & 7)
    return np.append(places, end + np.flatnonzero(mask[end:])) if end < len(mask) else places


def pieces(column: pa.StringArray) -> Iterator[pa.StringArray]:
    """Cut a column into pieces of some ``_PIECE_BYTES``, each at least one text if there is one."""
    if not len(column):
        yield column
    offsets = Joined.of(column).offsets
    start = 0
    while start < len(column):
        end = int(np.searchsorted(offsets, offsets[start] + _PIECE_BYTES, side="right")) - 1
        end = max(end, start + 1)
        yield column.slice(start, end - start)
        start = end


def replace(column: pa.StringArray, where: np.ndarray, texts: Iterable[str]) -> pa.StringArray:
    """Put other texts in the places of some; ``where`` is bool [rows]."""
    if not where.any():
        return column
    return pc.replace_with_mask(column, pa.array(where), pa.array(list(texts), pa.string()))


def unescape(column: pa.StringArray) -> pa.StringArray:
    """Unescape every text as ``html.unescape`` does."""
    return pa.concat_arrays([_unescape(piece) for piece in pieces(column)])


def _unescape(column: pa.StringArray) -> pa.StringArray:
    """Unescape the texts of a piece.

    What ``html.unescape`` takes for one ``&`` never reaches beyond the bytes that
    ``Joined.references`` returns, and depends on them alone. A text where their end is far, or
    that grows, is left to it whole.
    """
    texts = Joined.of(column)
    if np.count_nonzero(texts.data == _AMPERSAND) > _MOST_REFERENCES:
        return pa.array(map(html.unescape, column.to_pylist()), pa.string())
    places, windows, lengths = texts.references()
    if not len(places):
        return column
    width = windows.shape[1]
    coded = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(places), [None, pa.py_buffer(windows)]
    ).dictionary_encode()
    plain = [html.unescape(raw.rstrip(b" ").decode()).encode()
             for raw in coded.dictionary.to_pylist()]  # fmt: skip
    codes = coded.indices.to_numpy()
    sizes = np.array([len(text) for text in plain])[codes]
    is_hard = texts.count(places[(lengths == 0) | (sizes > lengths)]) > 0
    letters = np.array([list(text[:width].ljust(width)) for text in plain], np.uint8)[codes]
    steps = np.arange(width)
    is_taken = lengths[:, None] > steps
    is_letter = is_taken & (sizes[:, None] > steps)
    at = places[:, None] + steps
    data = texts.data.copy()
    data[at[is_letter]] = letters[is_letter]
    result = Joined(data, texts.offsets).without(at[is_taken & ~is_letter]).column()
    hard = column.filter(pa.array(is_hard)).to_pylist()
    return replace(result, is_hard, map(html.unescape, hard))


@functools.cache
def _quotes() -> dict[bytes, int]:
    """Return what stands for each curly quote of ftfy's; to look for all takes 25 ms."""
    beyond_ascii = "".join(map(chr, range(0x80, 0xD800)))
    return {
        quote.encode(): ord(straight)
        for pattern, straight in ((chardata.SINGLE_QUOTE_RE, "'"), (chardata.DOUBLE_QUOTE_RE, '"'))
        for quote in pattern.findall(beyond_ascii)
    }


def straighten(column: pa.StringArray) -> pa.StringArray:
    r"""Make curly quotes straight and ``\r\n`` and ``\r`` newlines, as ftfy does."""
    return pa.concat_arrays([_straighten(piece) for piece in pieces(column)])


def _straighten(column: pa.StringArray) -> pa.StringArray:
    texts = Joined.of(column)
    data = texts.data.copy()
    leads = {lead: np.flatnonzero(data == lead) for lead, *_ in _quotes()}
    removed = []
    for (lead, *rest), straight in _quotes().items():
        at = leads[lead]
        for step, byte in enumerate(rest, 1):
            at = at[texts.data[at + step] == byte]
        data[at] = straight
        removed += [at + step for step in range(1, len(rest) + 1)]
    returns = np.flatnonzero(data == _RETURN)
    data[returns] = _NEWLINE
    is_pair = np.append(texts.data[1:] == _NEWLINE, False)[returns]
    removed.append(returns[is_pair & ~np.isin(returns + 1, texts.offsets)])
    return Joined(data, texts.offsets).without(np.sort(np.concatenate(removed))).column()


def collapse(column: pa.StringArray) -> pa.StringArray:
    """Collapse white space, where spaces and control characters are all there is of it."""
    return pa.concat_arrays([_collapse(piece) for piece in pieces(column)])


def _collapse(column: pa.StringArray) -> pa.StringArray:
    texts = Joined.of(column)
    data = np.maximum(texts.data, _SPACE)
    is_space = data == _SPACE
    doubled = np.flatnonzero(is_space[1:] & is_space[:-1]) + 1
    return pc.ascii_trim(Joined(data, texts.offsets).without(doubled).column(), " ")
