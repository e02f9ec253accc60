"""Which systems' texts are set against each other, and what judges and people say of them."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from data import console
from inference.evaluate.judging import judge, pairs, votes
from inference.evaluate.judging.judge import Judge
from inference.evaluate.judging.pairs import Pair
from inference.evaluate.samples import EvalSet
from inference.evaluate.systems import System
from inference.judges import Judges

_CONTROLS = 5
"""One control for so many pairs: real descriptions against damaged ones."""


def ask(judges: Judges, out: str, side: EvalSet, compared: Sequence[System]) -> dict[str, Any]:
    """Let another model choose between the texts of one side.

    Args:
        judges: which model, and how many pairs.
        out: folder of the report.
        side: the rows.
        compared: all systems, with their texts.

    Returns:
        ``model``, ``url``, what it cost, ``comparisons`` of systems, and ``control``: what share of
        real descriptions it chose over themselves damaged.

    Raises:
        ModelError: the judge cannot be asked.
        NetworkError: it does not answer.
    """
    asked = Judge.open(str(judges.judge), judges.judge_model, out)
    several = [
        (one.key, other.key, own)
        for one, other in opponents(compared)
        if (own := _pairs(side, one, other)[: judges.judge_pairs])
    ]
    controls = _controls(side)[: -(-judges.judge_pairs // _CONTROLS)]
    every = [pair for _, _, own in several for pair in own] + controls
    console.say(
        f"{asked.model} at {asked.url} judges: at most {2 * len(every):,} questions, "
        f"some {judge.most_tokens(every):,} tokens"
    )
    control = asked.compare(controls)
    comparisons = [{"one": one, "other": other} | asked.compare(own) for one, other, own in several]
    return {
        "url": asked.url,
        "model": asked.model,
        **asdict(asked.bill),
        "control": control,
        "comparisons": comparisons,
    }


def opponents(compared: Sequence[System]) -> Iterator[tuple[System, System]]:
    """Set every judged system against its base, the real descriptions and judged ones before it."""
    judged = [system for system in compared if system.is_judged]
    for place, one in enumerate(judged):
        for other in compared:
            if other.key in one.others.values() or other.kind == "reference":
                yield one, other
        yield from ((one, other) for other in judged[:place])


def _pairs(side: EvalSet, one: System, other: System) -> list[Pair]:
    """Pair two systems' texts; none where either has none."""
    texts = (system.sides[side.name].texts for system in (one, other))
    return [Pair(*row) for row in zip(side.titles, *texts, strict=False)]


def _controls(side: EvalSet) -> list[Pair]:
    rows = zip(side.uids, side.titles, side.references, strict=True)
    return [Pair(title, text, pairs.damage(text, uid)) for uid, title, text in rows]


def rated(folder: str, side: EvalSet, compared: Sequence[System]) -> dict[str, Any]:
    """Sum up people's votes on the texts of one side, by the systems that they set against another.

    Returns:
        ``comparisons``: of those that have votes what ``pairs.of_votes`` says; ``left_out``: votes
        on texts that are none of these.
    """
    cast = votes.read(folder)
    keys = {vote.pair for vote in cast}
    summed = []
    known: set[str] = set()
    texts = [system for system in compared if system.sides[side.name].texts]
    for place, one in enumerate(texts):
        for other in texts[place + 1 :]:
            for first, second in ((one, other), (other, one)):
                own = keys & {pair.key for pair in _pairs(side, first, second)}
                if own:
                    known |= own
                    total = pairs.of_votes([vote for vote in cast if vote.pair in own])
                    summed.append({"one": first.key, "other": second.key} | total)
    return {"left_out": sum(vote.pair not in known for vote in cast), "comparisons": summed}
