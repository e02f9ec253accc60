"""What a plan has measured so far, kept beside it: interrupted, it goes on from there.

Knows the form of a measurement and nothing of how one is made.
"""

import json
from collections import Counter
from dataclasses import asdict

from data.shards import Folder
from training.plan import Candidate, Measured, Start

NAME = "measured.json"


class Ledger:
    """Measurements of a plan in their order, each written before the next is made."""

    def __init__(self, folder: Folder, steps: int) -> None:
        """Read what an interrupted plan left.

        Args:
            folder: of the plan.
            steps: batches measured a candidate; measurements of another number do not count.
        """
        self._folder = folder
        self._steps = steps
        self._taken: Counter[Candidate] = Counter()
        self._kept: list[tuple[Measured, bool]] = []
        if folder.exists(NAME):
            told = json.loads(folder.read(NAME))
            if told["steps"] == steps:
                self._kept = [(Measured.from_dict(each), first) for each, first in told["kept"]]

    @property
    def starts(self) -> list[Start]:
        """What each measuring process compiled and allocated at its start, in their order."""
        firsts = (each for each, is_first in self._kept if is_first)
        return [(each.candidate.family, each.cold_seconds) for each in firsts]

    def take(self, candidate: Candidate) -> Measured | None:
        """Give the next measurement of a candidate, where an interrupted plan made it."""
        place = self._taken[candidate]
        self._taken[candidate] += 1
        kept = [each for each, _ in self._kept if each.candidate == candidate]
        return kept[place] if place < len(kept) else None

    def keep(self, measured: Measured, is_first: bool) -> None:
        """Write a measurement down.

        Args:
            measured: just now, without a fault.
            is_first: whether its process had measured nothing before.

        Raises:
            OSError: the file system refuses or is full.
        """
        self._kept.append((measured, is_first))
        kept = [(asdict(each), first) for each, first in self._kept]
        self._folder.commit(NAME, json.dumps({"steps": self._steps, "kept": kept}).encode())

    def close(self) -> None:
        """Remove it: the finished plan holds all there is to know."""
        self._folder.remove(NAME)
