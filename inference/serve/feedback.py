"""Thumbs up and down as Parquet: one row a vote, with the answer that was voted on.

A file a server and thousand votes, written anew, and so whole, at every vote.
"""

import datetime
import os
from threading import Lock
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from data.artefacts.folder import Folder
from data.artefacts.parts import commit_part
from inference.ask import Answer

SCHEMA = pa.schema(
    {
        "voted_at": pa.timestamp("ms", "UTC"), "answer_id": pa.string(), "thumb": pa.string(),
        "word": pa.string(), "question": pa.string(), "title": pa.string(), "uid": pa.string(),
        "answer": pa.string(), "status": pa.string(), "seed": pa.int64(),
        "temperature": pa.float64(), "model": pa.string(), "catalogue": pa.string(),
    }
)  # fmt: skip
"""``thumb``: ``up`` or ``down``; of one ``answer_id`` the latest counts. ``uid``: null where no
record was meant. ``model``, ``catalogue``: their digests."""
LONGEST_WORD = 300
"""Characters that may be said to it."""
_ROWS = 1_000


class Vote(BaseModel):
    """What is posted to vote."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: str = Field(max_length=64)
    thumb: Literal["up", "down"]
    word: str = Field("", max_length=LONGEST_WORD)


class Ballot:
    """The votes of one server."""

    def __init__(self, folder: str) -> None:
        """Begin a file of its own; it is written with the first vote."""
        self._folder = Folder.for_output(folder)
        began = datetime.datetime.now(datetime.UTC)
        self._name = f"feedback-{began:%Y%m%dT%H%M%S}-{os.getpid()}"
        self._rows: list[dict[str, object]] = []
        self._files = 0
        self._one_writes = Lock()

    def put(self, vote: Vote, answer: Answer) -> None:
        """Keep a vote on an answer.

        Raises:
            OSError: the folder cannot be written to.
        """
        row = {
            "voted_at": datetime.datetime.now(datetime.UTC), "answer_id": vote.id,
            "thumb": vote.thumb, "word": vote.word.strip(), "question": answer.question,
            "title": answer.title, "uid": answer.record.uid if answer.record else None,
            "answer": answer.answer, "status": answer.status, "seed": answer.seed,
            "temperature": answer.temperature, "model": answer.model,
            "catalogue": answer.catalogue,
        }  # fmt: skip
        with self._one_writes:
            rows = [*self._rows, row]
            table = pa.Table.from_pylist(rows, SCHEMA)
            commit_part(self._folder, f"{self._name}-{self._files:05d}.parquet", table)
            self._rows = rows
            if len(rows) >= _ROWS:
                self._rows, self._files = [], self._files + 1
