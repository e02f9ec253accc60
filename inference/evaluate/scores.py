"""Scores of the systems' texts: what each row adds, resampled alike for all systems."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data import console
from inference import overlap
from inference.config import EvaluateConfig
from inference.evaluate import metrics
from inference.evaluate.judging.semantic import Meaning
from inference.evaluate.metrics import Floats, Sample, resample
from inference.evaluate.samples import EvalSet, Trained
from inference.evaluate.systems import System

Mask = NDArray[np.bool_]
SLICED = ("rougeL", "title_words", "repeating")
"""Metrics of slices."""
TWIN = 0.8
"""Likeness of titles from which a trained row is a near twin: an edition, a size, a colour."""
_RECALLED = ("adapter", "base", "generated", "reference")
"""Systems whose copied spans are looked for; the others copy by their nature."""


@dataclass(frozen=True)
class Recall:
    """What one text shares with the training texts."""

    longest: int
    """Code points of the longest span that also stands in a training text."""
    spans: list[tuple[int, int]]
    """Stretches of copied text, (begin, end) in code points."""
    copied: float
    """Share of the text within those stretches."""
    nearest: str | None
    """The training text that is most alike."""
    alike: float
    """Likeness to it, 0 to 1: of edits, as rapidfuzz's normalised indel similarity."""


@dataclass(frozen=True)
class Slice:
    """The rows of one kind of title, and their scores by system and metric."""

    kind: str
    name: str
    rows: int
    samples: dict[str, dict[str, Sample]]


@dataclass
class Scores:
    """All figures, by side, system and metric."""

    samples: dict[str, dict[str, dict[str, Sample]]] = field(default_factory=dict)
    rows: dict[str, dict[str, dict[str, Floats]]] = field(default_factory=dict)
    """[rows, k] what each row adds."""
    recalled: dict[str, dict[str, list[Recall]]] = field(default_factory=dict)
    slices: dict[str, list[Slice]] = field(default_factory=dict)


def measure(config: EvaluateConfig, sides: list[EvalSet], compared: list[System]) -> Scores:
    """Score every system on every side."""
    measured = Scores()
    meaning = Meaning(config.semantic) if config.semantic else None
    with console.Progress("measure", len(sides) * len(compared), "texts") as progress:
        for side in sides:
            recalled = measured.recalled[side.name] = _recall_all(config, side, compared)
            tables = measured.rows[side.name] = {}
            for system in compared:
                texts_recalled = recalled.get(system.key)
                own = tables[system.key] = _count(config, side, system, texts_recalled)
                texts = system.sides[side.name].texts
                if meaning and texts and system.kind != "reference":
                    own["semantic"] = meaning.closeness(texts, side.references)
                progress.advance(1)
            measured.samples[side.name] = _resampled(config, tables)
            nearest = next((s.sides[side.name] for s in compared if s.kind == "nearest"), None)
            measured.slices[side.name] = [
                Slice(kind, name, int(mask.sum()), _resampled(config, tables, mask))
                for kind, name, mask in slices(side.titles, nearest.alike if nearest else None)
            ]
    return measured


def _resampled(
    config: EvaluateConfig, tables: dict[str, dict[str, Floats]], mask: Mask | None = None
) -> dict[str, dict[str, Sample]]:
    """Score every system on all rows, or by the metrics of slices on some."""
    stats = {
        (key, name): (table if mask is None else table[mask], metrics.SCORES[name])
        for key, own in tables.items()
        for name, table in own.items()
        if mask is None or name in SLICED
    }
    samples: dict[str, dict[str, Sample]] = {key: {} for key in tables}
    for (key, name), sample in resample(stats, config.resamples, config.seed).items():
        samples[key][name] = sample
    return samples


def slices(titles: Sequence[str], alike: Floats | None) -> Iterator[tuple[str, str, Mask]]:
    """Sort titles by what can be told from them: kind of slice, its name, [rows] which are in it.

    A slice without rows, or with all of them, is left out. ``alike``: likeness of each to the
    nearest trained title, 0 to 1.
    """
    lengths = np.array([len(title) for title in titles])
    short, middle = (int(length) for length in np.quantile(lengths, [1 / 3, 2 / 3]))
    has_number = np.array([any(sign.isdigit() for sign in title) for title in titles])
    is_ascii = np.array([title.isascii() for title in titles])
    cuts = [
        ("length", f"up to {short} characters", lengths <= short),
        ("length", f"{short + 1} to {middle} characters", (lengths > short) & (lengths <= middle)),
        ("length", f"over {middle} characters", lengths > middle),
        ("number", "with a number", has_number),
        ("number", "without a number", ~has_number),
        ("letters", "ASCII only", is_ascii),
        ("letters", "with other letters", ~is_ascii),
    ]
    if alike is not None:
        is_twin = alike >= TWIN
        cuts += [
            ("twin", f"a trained title is {TWIN:.0%} alike or more", is_twin),
            ("twin", "no trained title is", ~is_twin),
        ]
    return ((kind, name, mask) for kind, name, mask in cuts if 0 < mask.sum() < len(titles))


def _count(
    config: EvaluateConfig, side: EvalSet, system: System, recalled: list[Recall] | None
) -> dict[str, Floats]:
    """Count what each text of a system adds to each metric: [rows, k] by metric."""
    written = system.sides[side.name]
    tables: dict[str, Floats] = {}
    if written.cost is not None:
        tables["perplexity"] = written.cost
    if not written.texts:
        return tables
    if system.kind != "reference":
        tables |= metrics.against_references(written.texts, side.references)
    tables |= metrics.faithful(written.texts, side.titles, side.records)
    if system.kind == "reference":
        del tables["unsupported"], tables["inventing"]
        tables.pop("near_numbers", None)
    tables |= metrics.of_texts(written.texts)
    if written.shown is not None:
        texts, shown = written.texts, written.shown
        copied = overlap.copied_from(texts, shown, config.copied_span)
        tables["near_copied"] = metrics.counted(copied)
        rows = (texts, side.titles, side.records, shown)
        tables["near_numbers"] = metrics.numbers_of_neighbours(*rows)
    if written.ended is not None:
        tables["ended"] = metrics.counted(np.array(written.ended))
    if recalled:
        tables["longest"] = metrics.counted([text.longest for text in recalled])
        tables["copied"] = metrics.counted([text.copied for text in recalled])
        is_recited = [text.alike >= config.recited_alike for text in recalled]
        tables["recited"] = metrics.counted(is_recited)
    return tables


def _recall_all(
    config: EvaluateConfig, side: EvalSet, compared: list[System]
) -> dict[str, list[Recall]]:
    """Look for what systems share with their training texts, one index a training set."""
    by_trained: dict[str, tuple[Trained, list[System]]] = {}
    for system in compared:
        trained = system.trained
        # A trained row's real description stands in the training texts by itself.
        is_own = system.kind == "reference" and side.name == "seen"
        if trained and system.kind in _RECALLED and not is_own and system.sides[side.name].texts:
            by_trained.setdefault(trained.digest, (trained, []))[1].append(system)
    recalled = {}
    for trained, systems in by_trained.values():
        texts = [text for system in systems for text in system.sides[side.name].texts]
        of_all = iter(_recall(texts, trained, config.copied_span))
        for system in systems:
            recalled[system.key] = list(itertools.islice(of_all, len(side)))
    return recalled


def _recall(texts: list[str], trained: Trained, least: int) -> list[Recall]:
    from rapidfuzz.distance import Indel

    copies = overlap.find_copies(texts, trained.texts, least)
    nearest = overlap.find_nearest(texts, trained.texts)
    recalled = []
    for place, text in enumerate(texts):
        rows = {int(nearest.row[place]), int(copies.source[place])} - {-1}
        others = [str(trained.texts[row].as_py()) for row in sorted(rows)]
        scored = [(Indel.normalized_similarity(text, other), other) for other in others]
        alike, other = max(scored, key=lambda pair: pair[0], default=(0.0, None))
        recalled.append(
            Recall(int(copies.longest[place]), copies.spans[place], float(copies.copied[place]),
                   other, float(alike))
        )  # fmt: skip
    return recalled
