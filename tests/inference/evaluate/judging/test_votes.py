"""Ballots: a vote is kept at once, read again, and a torn line is none."""

from pathlib import Path

import pytest

from data.errors import ConfigError, SourceError
from inference.evaluate.judging import votes
from inference.evaluate.judging.pairs import Vote
from inference.evaluate.judging.votes import Ballot


def test_votes_are_read_again(tmp_path: Path) -> None:
    folder = str(tmp_path / "votes")
    Ballot.open(folder, "ana").cast("p", 1)
    Ballot.open(folder, "ana").cast("q", 0.5)
    Ballot.open(folder, "bo").cast("p", 0)
    cast = [Vote("p", 1, "ana"), Vote("q", 0.5, "ana")]
    assert Ballot.open(folder, "ana").votes == cast
    assert votes.read(folder) == [*cast, Vote("p", 0, "bo")]


def test_a_vote_behind_a_torn_line_counts(tmp_path: Path) -> None:
    (tmp_path / "ana.jsonl").write_text('{"pair": "p", "score": 1}\n{"pair": "q", "sc')
    ballot = Ballot.open(str(tmp_path), "ana")
    assert ballot.votes == [Vote("p", 1, "ana")]
    ballot.cast("r", 0)
    assert Ballot.open(str(tmp_path), "ana").votes == [Vote("p", 1, "ana"), Vote("r", 0, "ana")]


@pytest.mark.parametrize("name", ["", "../ana", "a/b", ".", " ana", "x" * 65, "a\0"])
def test_a_name_that_could_be_another_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name: expected"):
        Ballot.open(str(tmp_path), name)


def test_a_folder_without_votes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="inference rate"):
        votes.read(str(tmp_path))
