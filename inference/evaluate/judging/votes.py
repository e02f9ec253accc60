"""People's votes: a file of JSON lines a person, each line kept before the next text is shown."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.errors import SourceError
from inference.evaluate.judging.pairs import Vote
from inference.judges import check_person

_SUFFIX = ".jsonl"


def read(folder: str) -> list[Vote]:
    """Read all votes of a folder.

    Raises:
        SourceError: there are none.
    """
    files = sorted(Path(folder).glob(f"*{_SUFFIX}"))
    cast = [vote for file in files for vote in _read(file)]
    if not cast:
        raise SourceError(folder, "votes", "none", "cast some with `python -m inference rate`")
    return cast


def _read(file: Path) -> list[Vote]:
    """Read a person's votes; a line that a crash left half written is no vote."""
    cast = []
    for line in file.read_text("utf-8").splitlines():
        try:
            entry: dict[str, Any] = json.loads(line)
            cast.append(Vote(entry["pair"], float(entry["score"]), file.stem))
        except (ValueError, KeyError, TypeError):
            continue
    return cast


@dataclass
class Ballot:
    """The votes of one person, in the order in which they were cast."""

    folder: Path
    person: str
    votes: list[Vote] = field(default_factory=list)

    @classmethod
    def open(cls, folder: str, person: str) -> "Ballot":
        """Read what a person voted so far.

        Raises:
            ConfigError: the name can be no file's.
        """
        ballot = cls(Path(folder), check_person(person))
        if ballot.file.is_file():
            ballot.votes = _read(ballot.file)
        return ballot

    @property
    def file(self) -> Path:
        """Where they lie."""
        return self.folder / f"{self.person}{_SUFFIX}"

    def cast(self, pair: str, score: float) -> None:
        """Keep a vote, on the disk, before it counts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"pair": pair, "score": score}).encode() + b"\n"
        with self.file.open("ab") as file:
            # Behind a line that a crash cut.
            if file.tell() and not self.file.read_bytes().endswith(b"\n"):
                line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self.votes.append(Vote(pair, score, self.person))
