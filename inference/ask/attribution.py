"""What an answer rests on: whether its title was trained on, and what it recites word for word.

Reads the subset that a run was trained on, memory-mapped. Knows nothing of models.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.artefacts import manifest, schema
from data.artefacts.dataset import Subset
from data.artefacts.manifest import Manifest
from data.errors import ManifestError
from data.prompt import Neighbour
from data.sampling import title_key
from inference import overlap
from inference.ask.index import Record

STATES = {
    "trained": "the adapter was trained on this title",
    "held_out": "held out: the adapter never saw this title, its descriptions are for testing",
    "unseen": "in the catalogue, but not among the titles that the adapter was trained on",
    "unknown": "not in the catalogue",
    "untold": "not known: the subset that the adapter was trained on is not here",
}
"""What is known of a title and the adapter's training, by the state's name."""

LEAST_COPIED = 40
"""Characters of the shortest stretch that counts as recited; shorter ones are turns of phrase."""

# Stands in no text, so that no stretch goes from one text into the next.
_BETWEEN = "\0"
# Bytes of training text that are sorted at most, which takes 1.5 s once, and 80 MiB of memory.
# The record's own text is always searched.
_MOST_SEARCHED = 2**24


@dataclass(frozen=True)
class Copied:
    """A stretch of an answer that stands word for word in a training text."""

    begin: int
    """In the answer, code points."""
    end: int
    text: str
    where: str
    """``record``: the title's own description; ``neighbour``: that of a row that the prompt showed;
    ``training``: those of other titles."""
    uid: str | None = None
    """Of a row that holds it; none: several rows hold a part of it each."""
    title: str | None = None


class Training:
    """The titles and texts that a run was trained on, where its subset is still there."""

    def __init__(self, run: Manifest | None) -> None:
        self._rows: list[tuple[str, str]] = []
        self._contents: list[pa.Array] = []
        self._titles: dict[str, NDArray[np.uint64]] = {}
        self._texts: overlap.Sorted | None = None
        self._one_sorts = threading.Lock()
        subset = _subset_of(run)
        if subset is None:
            return
        for split in schema.SPLITS:
            if not subset.count(split):
                continue
            rows = subset.rows(split, ["uid", "title", "content"])
            titles = rows.column("title").to_pylist()
            self._titles[split] = np.sort(
                np.array([title_key(title) for title in titles], np.uint64)
            )
            if split == "train" and rows.column("content").nbytes <= _MOST_SEARCHED:
                self._contents = rows.column("content").chunks
                self._rows = list(zip(rows.column("uid").to_pylist(), titles, strict=True))

    def state(self, title: str | None, record: Record | None) -> str:
        """Return whether a title was trained on: one of ``STATES``."""
        if title is None or record is None:
            return "unknown"
        if not self._titles:
            # No subset ever trains on what cleaning held out.
            return "untold" if record.split == "train" else "held_out"
        key = title_key(title)
        if self._holds("train", key):
            return "trained"
        is_held_out = record.split != "train" or self._holds("test", key)
        return "held_out" if is_held_out else "unseen"

    def _holds(self, split: str, key: int) -> bool:
        keys = self._titles.get(split, np.array([], np.uint64))
        place = int(np.searchsorted(keys, np.uint64(key)))
        return place < len(keys) and int(keys[place]) == key

    def copied(
        self, answer: str, record: Record | None, shown: Sequence[Neighbour] = ()
    ) -> list[Copied]:
        """Find what an answer takes word for word from texts, in order.

        Searched are the record's own description, those that the prompt showed, and the training
        texts, unless these are too many or not there.
        """
        texts = self.sort()
        if len(answer) < LEAST_COPIED:
            return []
        own = record.content if record is not None else ""
        copied = []
        near = _BETWEEN.join([own, *(row.description for row in shown)])
        for begin, end in _whole_words(answer, texts.spans(answer, LEAST_COPIED, near)):
            stretch = answer[begin:end]
            origin: tuple[str, str | None, str | None] = ("training", None, None)
            if record is not None and stretch in own:
                origin = ("record", record.uid, record.title)
            elif row := next((row for row in shown if stretch in row.description), None):
                origin = ("neighbour", None, row.title)
            elif (place := texts.find(stretch)) >= 0:
                uid, title = self._rows[place]
                is_own = record is not None and uid == record.uid
                origin = ("record" if is_own else "training", uid, title)
            copied.append(Copied(begin, end, stretch, *origin))
        return copied

    def sort(self) -> overlap.Sorted:
        """Sort the training texts, once, when they are first needed."""
        with self._one_sorts:
            if self._texts is None:
                self._texts = overlap.Sorted(
                    text for chunk in self._contents for text in chunk.to_pylist()
                )
                self._contents = []
            return self._texts


def _whole_words(text: str, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Cut stretches down to whole words; those that are too short then are left out."""
    for begin, end in spans:
        while begin < end and text[begin].isalnum() and begin and text[begin - 1].isalnum():
            begin += 1
        while end > begin and text[end - 1].isalnum() and end < len(text) and text[end].isalnum():
            end -= 1
        begin += len(text[begin:end]) - len(text[begin:end].lstrip())
        end -= len(text[begin:end]) - len(text[begin:end].rstrip())
        if end - begin >= LEAST_COPIED:
            yield begin, end


def _subset_of(run: Manifest | None) -> Subset | None:
    """Open the subset that a run was trained on, unless it is gone or another one by now."""
    parent = manifest.ancestor(run.made_from, "subset") if run else None
    if parent is None:
        return None
    try:
        subset = Subset.open(parent.path)
    except ManifestError:
        return None
    return subset if subset.record.digest == parent.digest else None
