"""What a plan has measured so far, kept beside it: interrupted, it goes on from there.

Knows the form of a measurement and nothing of how one is made.
"""

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

from data.shards import Folder
from training.plan import Candidate, Measured, Start

NAME = "measured.json"


class Ledger:
    """Measurements of a plan in their order, each written before the next is made."""

    def __init__(self, folder: Folder, steps: int) -> None:
        """Read what an interrupted plan left.

        Args:
            folder: of the plan.
            steps: batches measured a candidate; measurements of another number are left alone.
        """
        self._folder = folder
        self._steps = steps
        self._taken: Counter[Candidate] = Counter()
        self._lines: list[dict[str, Any]] = []
        if folder.exists(NAME):
            lines = json.loads(folder.read(NAME))
            self._lines = [line for line in lines if line["steps"] == steps]

    @property
    def starts(self) -> list[Start]:
        """What each measuring process compiled and allocated at its start, in their order."""
        firsts = [_of(line) for line in self._lines if line["is_first"]]
        return [(each.candidate.family, each.cold_seconds) for each in firsts]

    def take(self, candidate: Candidate) -> Measured | None:
        """Give the next measurement of a candidate, where an interrupted plan made it."""
        place = self._taken[candidate]
        self._taken[candidate] += 1
        kept = [each for line in self._lines if (each := _of(line)).candidate == candidate]
        return kept[place] if place < len(kept) else None

    def keep(self, measured: Measured, is_first: bool) -> None:
        """Write a measurement down.

        Args:
            measured: just now, without a fault.
            is_first: whether its process had measured nothing before.

        Raises:
            OSError: the file system refuses or is full.
        """
        line = {"steps": self._steps, "is_first": is_first, "measured": asdict(measured)}
        self._lines.append(line)
        self._folder.commit(NAME, json.dumps(self._lines).encode())

    def close(self) -> None:
        """Remove it: the finished plan holds all there is to know."""
        self._folder.remove(NAME)


def _of(line: dict[str, Any]) -> Measured:
    return Measured.from_dict(line["measured"])
