"""Pairs of texts to judge, what stands in them, and what their judgements come to. Pure."""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import xxhash

from inference.evaluate.metrics import exact_interval

TIE = 0.5
"""What a pair of equal texts is worth to either."""


@dataclass(frozen=True)
class Pair:
    """Two texts of one row."""

    title: str
    one: str
    other: str

    @property
    def key(self) -> str:
        """Digest of what is judged: votes on other texts are not about these."""
        parts = (f"{len(part)}\0{part}" for part in (self.title, self.one, self.other))
        return str(xxhash.xxh3_128_hexdigest("".join(parts).encode()))


@dataclass(frozen=True)
class Vote:
    """One judgement of one person."""

    pair: str
    """``Pair.key``."""
    score: float
    """1: the first text is better, 0: the other, 0.5: neither."""
    person: str


def win_rate(scores: Sequence[float]) -> dict[str, Any]:
    """Sum up judgements, one a pair: 1 won, 0 lost, between them a tie of some kind.

    The interval is the exact one of as many wins, ties counted in part: they vary less than wins
    and losses, so it is rather too wide than too narrow.
    """
    if not scores:
        return {"pairs": 0, "won": 0, "lost": 0, "win_rate": None, "low": None, "high": None}
    total = sum(scores)
    low, high = exact_interval(total, len(scores))
    return {
        "pairs": len(scores),
        "won": sum(score > TIE for score in scores),
        "lost": sum(score < TIE for score in scores),
        "win_rate": total / len(scores),
        "low": low,
        "high": high,
    }


def both_orders(answers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Sum up what a judge said of each pair, the first text shown left, then right.

    Args:
        answers: of each pair the two answers, ``left``, ``right`` or ``neither``.

    Returns:
        ``win_rate`` of the first texts; ``position_bias``: the share of pairs for which it chose
        the same side in both orders, whatever stood there, and of them ``left`` and ``right``.
    """
    worth = {"left": 1.0, "neither": TIE, "right": 0.0}
    scores = [(worth[first] + 1 - worth[second]) / 2 for first, second in answers]
    sides = [first for first, second in answers if first == second != "neither"]
    return win_rate(scores) | {
        "position_bias": len(sides) / len(answers) if answers else None,
        "left": sides.count("left"),
        "right": sides.count("right"),
    }


def agreement(votes: Iterable[Vote]) -> dict[str, Any]:
    """Count how often people agree with each other, and with themselves when asked again.

    Returns:
        ``people``, and ``between`` and ``within``: pairs of votes on one pair of texts that are the
        same, and of how many; ``chance``: the share of equal votes if they were drawn from all.
    """
    by_pair: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_pair[vote.pair].append(vote)
    counts = {"between": [0, 0], "within": [0, 0]}
    for own in by_pair.values():
        for one, other in combinations(own, 2):
            count = counts["within" if one.person == other.person else "between"]
            count[0] += one.score == other.score
            count[1] += 1
    scores = [vote.score for own in by_pair.values() for vote in own]
    return {
        "people": len({vote.person for own in by_pair.values() for vote in own}),
        **{name: {"same": same, "of": whole} for name, (same, whole) in counts.items()},
        "chance": sum((scores.count(value) / len(scores)) ** 2 for value in set(scores))
        if scores
        else None,
    }


def of_votes(votes: Sequence[Vote]) -> dict[str, Any]:
    """Sum up people's votes: a pair counts once, by the mean of what was voted on it."""
    by_pair: dict[str, list[float]] = defaultdict(list)
    for vote in votes:
        by_pair[vote.pair].append(vote.score)
    means = [sum(scores) / len(scores) for scores in by_pair.values()]
    return {"votes": len(votes)} | win_rate(means) | agreement(votes)


def damage(text: str, seed: str) -> str:
    """Damage a text as no judge should overlook: letters of every third word, order, an echo.

    The same text and seed give the same damage.
    """
    chance = random.Random(f"{seed}\0{text}")  # noqa: S311  # no secret
    words = text.split()
    rest = words[len(words) // 2 :]
    chance.shuffle(rest)
    words = words[: len(words) // 2] + rest
    for place in range(0, len(words), 3):
        words[place] = "".join(chance.sample(words[place], len(words[place])))
    echo = words[: max(len(words) // 5, 1)]
    return " ".join([*words, *echo, *echo])
