"""The best of several texts of a title, by the measures that evaluation judges runs by.

Only the title is known: a real description would give the answer away.
"""

from collections.abc import Sequence

from inference import fidelity
from inference.engine import Completion, Engine, Request

WEIGHTS = {
    "title_words": 1.0, "title_numbers": 0.3, "unsupported": -0.25, "repetition": -2.0,
    "ended": 0.5, "short": -0.5, "length": 1.2,
}  # fmt: skip
"""What counts (docs/decisions/0034): the shares of the title's words and numbers that are named,
each number that neither title nor attributes hold, the share of word 4-grams that repeat earlier
ones, an end by itself, fewer than ``SHORT`` characters, and the length as a share of the usual one,
1 at most. Without the last, the shortest texts would win, as they invent least."""
SHORT = 60


def score(text: Completion, title: str, usual_tokens: int | None, about: str = "") -> float:
    """Score a text of a title, the higher the better; without a usual length any is as good.

    Numbers of its attributes, ``about``, are known as those of the title.
    """
    counts = fidelity.compare(text.text, title, about)
    repeats, grams = fidelity.repeated(text.text)
    measured = {
        "title_words": _share(*counts["title_words"]),
        "title_numbers": _share(*counts["title_numbers"]),
        "unsupported": counts["unsupported"][0],
        "repetition": _share(repeats, grams),
        "ended": text.finish_reason == "stop",
        "short": len(text.text) < SHORT,
        "length": min(text.new_tokens / usual_tokens, 1.0) if usual_tokens else 0.0,
    }
    return sum(weight * measured[name] for name, weight in WEIGHTS.items())


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def write(
    writer: Engine,
    requests: Sequence[Request],
    titles: Sequence[str],
    texts: int,
    usual_tokens: int | None,
) -> list[list[tuple[float, Completion]]]:
    """Write several texts of each title, with their scores, the best first; of equals the earlier.

    Args:
        writer: the engine.
        requests: N with room for a text.
        titles: N.
        texts: how many of each.
        usual_tokens: of a description, where that is known.
    """
    drawn = [Request(one.uid, one.prompt, draw) for one in requests for draw in range(texts)]
    written = writer.generate(drawn)
    ranked = []
    for place, (title, request) in enumerate(zip(titles, requests, strict=True)):
        own = written[place * texts : (place + 1) * texts]
        scores = [
            score(text, title, usual_tokens, request.about) if texts > 1 else 0.0 for text in own
        ]
        scored = list(zip(scores, own, strict=True))
        ranked.append(sorted(scored, key=lambda pair: -pair[0]))
    return ranked
