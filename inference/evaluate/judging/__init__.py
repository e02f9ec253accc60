"""Judging beyond counted words: another model's choice, closeness in meaning, people's votes."""

from inference.evaluate.judging.comparisons import ask, rated
from inference.evaluate.judging.judge import VERSION
from inference.evaluate.judging.pairs import Pair, Vote, of_votes
from inference.evaluate.judging.votes import Ballot, read

__all__ = [
    "VERSION", "Ballot", "Pair", "Vote", "ask", "of_votes", "rated", "read",
]  # fmt: skip
