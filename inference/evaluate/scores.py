"""Candidates' texts become scores: what each row adds, resampled alike for all candidates."""

from dataclasses import dataclass, field

import numpy as np

from data import console
from inference import overlap
from inference.config import EvaluateConfig
from inference.evaluate import metrics
from inference.evaluate.bootstrap import Floats, Sample, resample
from inference.evaluate.samples import EvalSet, Trained
from inference.evaluate.systems import System, Written
from inference.overlap import Copies

_RECALLED = ("adapter", "base", "generated", "reference")
"""Candidates whose copied spans are looked for; the others copy by their nature."""


@dataclass(frozen=True)
class Recalled:
    """What the texts of one candidate share with the training texts."""

    copies: Copies
    nearest: list[str | None]
    """[rows] the training text that is most alike."""
    alike: Floats
    """[rows] likeness to it, 0 to 1: of edits, as rapidfuzz's normalised indel similarity."""


@dataclass
class Scores:
    """All figures, by side, candidate and metric."""

    samples: dict[str, dict[str, dict[str, Sample]]] = field(default_factory=dict)
    rows: dict[str, dict[str, dict[str, Floats]]] = field(default_factory=dict)
    """[rows, k] what each row adds."""
    recalled: dict[str, dict[str, Recalled]] = field(default_factory=dict)


def measure(config: EvaluateConfig, sides: list[EvalSet], compared: list[System]) -> Scores:
    """Score every candidate on every side."""
    measured = Scores()
    with console.Progress("measure", len(sides) * len(compared), "texts") as progress:
        for side in sides:
            tables: dict[str, dict[str, Floats]] = {}
            measured.recalled[side.name] = recall(config, side, compared)
            for each in compared:
                recalled = measured.recalled[side.name].get(each.key)
                tables[each.key] = count(config, side, each, recalled)
                progress.advance(1)
            measured.rows[side.name] = tables
            stats = {
                f"{key}\0{name}": (table, metrics.BY_KEY[name].score)
                for key, own in tables.items()
                for name, table in own.items()
            }
            drawn = resample(stats, config.resamples, config.seed)
            found: dict[str, dict[str, Sample]] = {key: {} for key in tables}
            for name, sample in drawn.items():
                key, metric = name.split("\0")
                found[key][metric] = sample
            measured.samples[side.name] = found
    return measured


def count(
    config: EvaluateConfig, side: EvalSet, candidate: System, recalled: Recalled | None
) -> dict[str, Floats]:
    """Count what each text of a candidate adds to each metric: [rows, k] by metric."""
    written = candidate.sides[side.name]
    found: dict[str, Floats] = {}
    if written.cost is not None:
        found["perplexity"] = written.cost
    if not written.texts:
        return found
    is_real = candidate.kind == "reference"
    if not is_real:
        found |= metrics.against_references(written.texts, side.references)
    told = metrics.faithful(written.texts, side.titles, side.references)
    found |= told if not is_real else {n: t for n, t in told.items() if n != "unsupported"}
    found |= metrics.of_texts(written.texts)
    found |= _ended(written)
    if recalled:
        found["longest"] = metrics.counted(recalled.copies.longest.astype(np.float64))
        found["copied"] = metrics.counted(recalled.copies.copied)
        is_recited = recalled.alike >= config.recited_alike
        found["recited"] = metrics.counted(is_recited.astype(np.float64))
    return found


def _ended(written: Written) -> dict[str, Floats]:
    if written.ended is None:
        return {}
    return {"ended": metrics.counted(np.array(written.ended, dtype=np.float64))}


def recall(config: EvaluateConfig, side: EvalSet, compared: list[System]) -> dict[str, Recalled]:
    """Look for what candidates share with their training texts, one index a training set."""
    asked = [
        each
        for each in compared
        # A trained row's real description stands in the training texts by itself.
        if each.kind in _RECALLED and not (each.kind == "reference" and side.name == "seen")
        if each.trained is not None and each.sides[side.name].texts
    ]
    found: dict[str, Recalled] = {}
    by_digest: dict[str, Trained] = {
        each.trained.digest: each.trained for each in asked if each.trained
    }
    for digest, trained in by_digest.items():
        own = [each for each in asked if each.trained and each.trained.digest == digest]
        texts = [text for each in own for text in each.sides[side.name].texts]
        whole = _recall(texts, trained, config.copied_span)
        for place, each in enumerate(own):
            found[each.key] = _part(whole, slice(place * len(side), (place + 1) * len(side)))
    return found


def _recall(texts: list[str], trained: Trained, least: int) -> Recalled:
    from rapidfuzz.distance import Indel

    copies = overlap.find_copies(texts, trained.texts, least)
    nearest = overlap.find_nearest(texts, trained.texts)
    closest: list[str | None] = []
    alike = np.zeros(len(texts))
    for place, text in enumerate(texts):
        rows = {int(nearest.row[place]), int(copies.source[place])} - {-1}
        others = [str(trained.texts[row].as_py()) for row in sorted(rows)]
        scored = [(Indel.normalized_similarity(text, other), other) for other in others]
        best = max(scored, key=lambda each: each[0], default=(0.0, None))
        alike[place] = best[0]
        closest.append(best[1])
    return Recalled(copies, closest, alike)


def _part(whole: Recalled, rows: slice) -> Recalled:
    copies = whole.copies
    return Recalled(
        Copies(copies.longest[rows], copies.start[rows], copies.source[rows], copies.spans[rows],
               copies.copied[rows]),
        whole.nearest[rows],
        whole.alike[rows],
    )  # fmt: skip
