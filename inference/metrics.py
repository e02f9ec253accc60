"""Scores of texts against references: what each row adds, and how sums become a score.

Pure: texts in, tables of [rows, k] out. ROUGE is Google's rouge-score, BLEU and chrF++ are
sacrebleu's; nothing of them is computed anew.
"""

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from inference.faithfulness import compare
from inference.intervals import Floats, Score, percent, perplexity, ratio


@dataclass(frozen=True)
class Metric:
    """A score, as a reader meets it."""

    key: str
    label: str
    better: Literal["higher", "lower", ""]
    about: str
    score: Score
    unit: str = ""
    digits: int = 1


def _corpus(name: str) -> Score:
    """Score sums with sacrebleu's own arithmetic."""

    def score(sums: Floats) -> Floats:
        library = sacrebleu(name)
        return np.array([library._compute_score_from_stats(row.tolist()).score for row in sums])

    return score


@functools.cache
def sacrebleu(name: str) -> Any:
    """Give sacrebleu's metric: ``bleu``, or ``chrf`` with word bigrams, which is chrF++."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return BLEU() if name == "bleu" else CHRF(word_order=2)


METRICS = (
    Metric("perplexity", "Perplexity", "lower",
           "of the real description after the prompt, weighted by tokens", perplexity, digits=2),
    Metric("rouge1", "ROUGE-1", "higher", "words shared with the real description", percent),
    Metric("rouge2", "ROUGE-2", "higher", "pairs of words shared", percent),
    Metric("rougeL", "ROUGE-L", "higher", "longest common sequence of words", percent),
    Metric("chrf", "chrF++", "higher", "runs of characters and words shared", _corpus("chrf")),
    Metric("bleu", "BLEU", "higher", "runs of one to four words shared", _corpus("bleu")),
    Metric("title_words", "Title words kept", "higher",
           "content words of the title that the text holds", percent, "%"),
    Metric("title_numbers", "Title numbers kept", "higher",
           "numbers of the title that the text holds, with their unit", percent, "%"),
    Metric("unsupported", "Unsupported numbers", "lower",
           "numbers of the text that neither title nor record holds", percent, "%"),
    Metric("length", "Length ratio", "", "characters over those of the real one", ratio, digits=2),
    Metric("ended", "Ended", "higher", "texts that end by themselves", percent, "%"),
    Metric("repetition", "Repetition", "lower",
           "word 4-grams that the same text said before", percent, "%"),
    Metric("distinct1", "Distinct-1", "", "different words over all words", ratio, digits=3),
    Metric("distinct2", "Distinct-2", "", "different pairs of words over all", ratio, digits=3),
    Metric("longest", "Longest copied span", "lower",
           "characters that also stand in a training text, mean", ratio, digits=0),
    Metric("copied", "Copied share", "lower",
           "characters within copied spans", percent, "%"),
    Metric("recited", "Recited", "lower",
           "texts almost equal to a training text", percent, "%"),
)  # fmt: skip
BY_KEY = {metric.key: metric for metric in METRICS}


def against_references(texts: Sequence[str], references: Sequence[str]) -> dict[str, Floats]:
    """Count what each text shares with its reference.

    Args:
        texts: N, may be empty strings.
        references: N, not empty.

    Returns:
        By metric [N, k]: ``rouge1``, ``rouge2``, ``rougeL``, ``chrf``, ``bleu``, ``length``.
    """
    found = _rouge(texts, references)
    for name in ("chrf", "bleu"):
        stats = sacrebleu(name)._extract_corpus_statistics(list(texts), [list(references)])
        found[name] = np.array(stats, dtype=np.float64)
    lengths = [(len(text), len(real)) for text, real in zip(texts, references, strict=True)]
    found["length"] = np.array(lengths, dtype=np.float64)
    return found


def _rouge(texts: Sequence[str], references: Sequence[str]) -> dict[str, Floats]:
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(kinds)
    scores = [scorer.score(real, text) for text, real in zip(texts, references, strict=True)]
    return {kind: counted([each[kind].fmeasure for each in scores]) for kind in kinds}


def counted(values: Sequence[float] | Floats) -> Floats:
    """Make rows that average: [N, 2], the value and 1."""
    made = np.ones((len(values), 2))
    made[:, 0] = values
    return made


def of_texts(texts: Sequence[str]) -> dict[str, Floats]:
    """Count what needs no reference: ``repetition``, ``distinct1``, ``distinct2``.

    An n-gram that stands c times in all texts adds 1/c wherever it stands, so that the sum is the
    number of different ones, and resampled rows are not punished for standing twice.
    """
    words = [text.casefold().split() for text in texts]
    found: dict[str, Floats] = {}
    for size, name in ((1, "distinct1"), (2, "distinct2")):
        grams = [ngrams(each, size) for each in words]
        counts = Counter(gram for row in grams for gram in row)
        found[name] = np.array(
            [(sum(1 / counts[gram] for gram in row), len(row)) for row in grams], dtype=np.float64
        ).reshape(-1, 2)
    fours = [ngrams(each, 4) for each in words]
    again = [(len(row) - len(set(row)), len(row)) for row in fours]
    found["repetition"] = np.array(again, dtype=np.float64).reshape(-1, 2)
    return found


def ngrams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Give the runs of so many words, in order."""
    return list(zip(*(words[start:] for start in range(size)), strict=False))


def faithful(
    texts: Sequence[str], titles: Sequence[str], records: Sequence[str]
) -> dict[str, Floats]:
    """Count what texts keep of their titles, and their numbers that nothing supports."""
    kept = [compare(*row) for row in zip(texts, titles, records, strict=True)]
    pairs = {
        "title_words": [(each.words, each.title_words) for each in kept],
        "title_numbers": [(each.measures, each.title_measures) for each in kept],
        "unsupported": [(each.unsupported, each.numbers) for each in kept],
    }
    return {name: np.array(pair, dtype=np.float64).reshape(-1, 2) for name, pair in pairs.items()}


def signatures() -> dict[str, str]:
    """Give sacrebleu's signatures: what makes the scores comparable with others'."""
    told = {}
    for name in ("bleu", "chrf"):
        library = sacrebleu(name)
        library.num_refs = 1
        told[name] = str(library.get_signature())
    return told
