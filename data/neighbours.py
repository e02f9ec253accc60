"""The trained rows whose titles are most alike, to show them in a prompt.

What is found depends on the title and the rows alone: it is the same in training, where the row
itself stands among them, and for any title later, on any machine, in any order.
"""

import functools
import itertools
import logging
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data import words
from data.prompt import Neighbour
from data.sampling import title_key

ROWS = pa.schema(
    [
        pa.field("title", pa.string(), nullable=False),
        pa.field("description", pa.string(), nullable=False),
        pa.field("family", pa.uint64(), nullable=False),
    ]
)
"""Train rows in a subset's order; rows of one ``family`` are near twins of each other."""

# A word of a title adds a whole number of these, so that sums are exact in any order and a last bit
# of a logarithm, which machines compute differently, decides nothing.
_STEPS = 1_024
_SHOWN = ("title", "description")

Keys = NDArray[np.uint64]
Places = NDArray[np.int64]


NAME = "neighbours.arrow"
"""File of the rows, an Arrow stream, in the folder of a run or of tokenised rows."""


class Neighbours:
    """An index of titles: BM25 over their folded words (Robertson and Zaragoza 2009).

    Several threads may search at once.
    """

    def __init__(self, rows: pa.Table) -> None:
        """Index rows of schema ``ROWS``; they may be memory-mapped."""
        self._rows = rows
        titles = [str(title) for title in rows.column("title").to_pylist()]
        self._titles = _Groups(np.array([title_key(title) for title in titles], np.uint64))
        self._families = _Groups(rows.column("family").to_numpy())
        self._places: dict[str, int] = {}
        self._bm25 = self._index(titles)

    def _index(self, titles: list[str]) -> Any:
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # importing it sets DEBUG
        ids = [
            [self._places.setdefault(word, len(self._places)) for word in _words(title)]
            for title in titles
        ]
        # Rows without a single word have no mean length.
        if not self._places:
            return None
        index = bm25s.BM25(dtype="float64")
        index.index((ids, self._places), create_empty_token=False, show_progress=False)
        steps = np.rint(index.scores["data"] * _STEPS)
        index.scores["data"] = np.maximum(steps, 1).astype(np.float32)
        index.dtype = "float32"
        return index

    def find(self, title: str, most: int) -> tuple[Neighbour, ...]:
        """Find the rows of the most similar titles, the most similar first, equals in row order.

        Never a row of the same title, however it is spelt, nor one of a family that has such a row;
        nor one that shares no word with the title, so that there may be fewer than ``most``.
        """
        known = {word: self._places[word] for word in _words(title) if word in self._places}
        if not known or most < 1:
            return ()
        likeness = self._bm25.get_scores_from_ids(list(known.values()))
        for family in np.unique(self._families.keys[self._titles.members(title_key(title))]):
            likeness[self._families.members(family)] = 0
        least = np.partition(likeness, -most)[-most] if most < len(likeness) else 0
        places = np.flatnonzero(likeness >= max(least, 1))
        best = places[np.argsort(-likeness[places], kind="stable")[:most]]
        return tuple(Neighbour(*(self._text(name, place) for name in _SHOWN)) for place in best)

    def _text(self, column: str, place: int) -> str:
        # Arrow's take would put all chunks of a column together for every title.
        return str(self._rows.column(column)[int(place)].as_py())


class _Groups:
    """Rows by a key, several of which may have the same."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def members(self, key: int) -> Places:
        """Return the places of the rows with a key."""
        wanted = np.uint64(key)
        begin, end = (np.searchsorted(self._sorted, wanted, side) for side in ("left", "right"))
        return self._order[begin:end]


def _words(title: str) -> list[str]:
    """Return the folded words of a title; of scripts without spaces, pairs of characters too."""
    runs = words.runs(words.fold(title))
    pairs = ["".join(pair) for run in runs for pair in itertools.pairwise(run)]
    return words.words(title) + pairs


@functools.lru_cache(maxsize=2)
def open_rows(path: str, digest: str) -> Neighbours:  # noqa: ARG001  # another file, another index
    """Map a file of rows into memory and index it, once a process."""
    with pa.memory_map(path) as file, pa.ipc.open_stream(file) as stream:
        return Neighbours(stream.read_all())
