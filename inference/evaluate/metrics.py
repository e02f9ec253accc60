"""The metrics: sums over rows, the scores of the sums, and bootstrap intervals of the scores.

Pure: strings in, figures out. A score is a function of sums over rows, so a resample is a vector of
weights and all resamples are one matrix product (Efron 1979; Koehn 2004 for corpus scores). All
systems share their resamples, so differences are paired.
"""

import functools
import importlib.metadata
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from inference import fidelity, words

Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]
"""Sums [samples, k] -> scores [samples]; NaN where a score is not defined."""

_Key = TypeVar("_Key", bound=Hashable)
_KNOWLEDGE = yaml.safe_load(Path(__file__).with_name("metrics.yaml").read_text(encoding="utf-8"))
_FOURS = 9
"""Column of BLEU's sums that counts the texts' runs of four words."""
_AT_ONCE = 4_000_000
_LEAST_DEFINED = 0.95


@dataclass(frozen=True)
class Estimate:
    """A score with its interval; None where it is not defined, as for a single row."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Sample:
    """A score of all rows and of every resample."""

    value: float
    drawn: Floats
    """[resamples]"""
    rows: int

    def estimate(self, level: float = 0.95) -> Estimate:
        """Return the score with its percentile interval."""
        if not np.isfinite(self.value):
            return Estimate(None)
        drawn = self.drawn[np.isfinite(self.drawn)]
        if self.rows < 2 or len(drawn) < _LEAST_DEFINED * len(self.drawn):
            return Estimate(float(self.value))
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        return Estimate(float(self.value), float(low), float(high))

    def minus(self, other: "Sample") -> "Sample":
        """Return the paired difference: both of the same rows and resamples."""
        return Sample(self.value - other.value, self.drawn - other.drawn, self.rows)


def weights(rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Draw how often each row stands in each resample: batches of [some resamples, rows]."""
    draw = np.random.default_rng(seed)
    step = max(_AT_ONCE // max(rows, 1), 1)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        yield draw.multinomial(rows, np.full(rows, 1 / rows), size=count).astype(np.float64)


def resample(
    stats: dict[_Key, tuple[Floats, Score]], resamples: int, seed: int
) -> dict[_Key, Sample]:
    """Score all rows and every resample; the same seed draws the same resamples.

    ``stats`` holds by name what each row adds [rows, k] and the score of the sums.
    """
    if not stats:
        return {}
    everything = np.concatenate([table for table, _ in stats.values()], axis=1)
    rows = len(everything)
    sums = np.concatenate([batch @ everything for batch in weights(rows, resamples, seed)])
    total = everything.sum(axis=0, keepdims=True)
    samples: dict[_Key, Sample] = {}
    at = 0
    for name, (table, score) in stats.items():
        piece = slice(at, at + table.shape[1])
        at = piece.stop
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            value, drawn = score(total[:, piece])[0], score(sums[:, piece])
        samples[name] = Sample(float(value), drawn, rows)
    return samples


def ratio(sums: Floats) -> Floats:
    """Score sums [samples, 2] as the first over the second."""
    scores: Floats = np.full(len(sums), np.nan)
    np.divide(sums[:, 0], sums[:, 1], out=scores, where=sums[:, 1] != 0)
    return scores


def percent(sums: Floats) -> Floats:
    """Score sums [samples, 2] as a percentage."""
    return 100 * ratio(sums)


def perplexity(sums: Floats) -> Floats:
    """Score sums of negative log-likelihoods and tokens [samples, 2], weighted by tokens."""
    return np.asarray(np.exp(ratio(sums)))


@functools.cache
def sacrebleu(name: str) -> Any:
    """Return sacrebleu's metric: ``bleu``, or ``chrf`` with word bigrams, which is chrF++."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return BLEU() if name == "bleu" else CHRF(word_order=2)


def _corpus(name: str, sums: Floats) -> Floats:
    """Score sums with sacrebleu's own arithmetic."""
    compute = sacrebleu(name)._compute_score_from_stats
    return np.array([compute(row.tolist()).score for row in sums])


def _bleu(sums: Floats) -> Floats:
    """Score sums as BLEU; sacrebleu calls texts 0 that are too short to hold four words."""
    scores = _corpus("bleu", sums)
    scores[(sums[:, 0] > 0) & (sums[:, _FOURS] == 0)] = np.nan
    return scores


_NAMED: dict[str, Score] = {
    "ratio": ratio, "percent": percent, "perplexity": perplexity,
    "chrf": functools.partial(_corpus, "chrf"), "bleu": _bleu,
}  # fmt: skip
METRICS: list[dict[str, Any]] = _KNOWLEDGE["metrics"]
"""As the report lists them: key, label, which way is better, and so on."""
SCORES = {metric["key"]: _NAMED[metric.pop("score")] for metric in METRICS}
"""By key of the metric, how sums become its score."""


def against_references(texts: Sequence[str], references: Sequence[str]) -> dict[str, Floats]:
    """Count what each of N texts shares with its reference, which is not empty.

    Returns:
        By metric [N, k]: ``rouge1``, ``rouge2``, ``rougeL``, ``chrf``, ``bleu``, ``length``.
    """
    tables = _rouge(texts, references)
    spaced = [[words.apart(text) for text in column] for column in (texts, references)]
    for name, columns in (("chrf", [list(texts), list(references)]), ("bleu", spaced)):
        stats = sacrebleu(name)._extract_corpus_statistics(columns[0], [columns[1]])
        tables[name] = np.array(stats, dtype=np.float64)
    lengths = [(len(text), len(real)) for text, real in zip(texts, references, strict=True)]
    return tables | {"length": _pairs(lengths)}


class _Words:
    """What rouge-score takes for a tokenizer."""

    tokenize = staticmethod(words.words)


def _rouge(texts: Sequence[str], references: Sequence[str]) -> dict[str, Floats]:
    """Score each text; a reference without words, or without pairs of them, measures none."""
    from rouge_score.rouge_scorer import RougeScorer

    least = {"rouge1": 1, "rouge2": 2, "rougeL": 1}
    scorer = RougeScorer(list(least), tokenizer=_Words())
    scores = [scorer.score(real, text) for text, real in zip(texts, references, strict=True)]
    sizes = np.array([len(words.words(real)) for real in references])
    return {
        kind: counted([score[kind].fmeasure for score in scores], sizes >= least[kind])
        for kind in least
    }


def counted(values: Sequence[float] | Floats, is_measured: Any = True) -> Floats:
    """Return rows that average: [N, 2], the value and 1; both 0 where it is not measured."""
    table = np.ones((len(values), 2))
    table[:, 0] = values
    return table * np.reshape(is_measured, (-1, 1))


def of_texts(texts: Sequence[str]) -> dict[str, Floats]:
    """Count what needs no reference: ``repetition``, ``distinct1``, ``distinct2``.

    An n-gram that stands c times in all texts adds 1/c wherever it stands, so that the sum is the
    number of different ones, and resampled rows are not punished for standing twice.
    """
    rows = [words.apart(text).casefold().split() for text in texts]
    tables: dict[str, Floats] = {}
    for size, name in ((1, "distinct1"), (2, "distinct2")):
        grams = [fidelity.ngrams(row, size) for row in rows]
        counts = Counter(gram for row in grams for gram in row)
        tables[name] = _pairs([(sum(1 / counts[gram] for gram in row), len(row)) for row in grams])
    tables["repetition"] = _pairs([fidelity.repeated(text) for text in texts])
    return tables


def faithful(
    texts: Sequence[str], titles: Sequence[str], records: Sequence[str]
) -> dict[str, Floats]:
    """Count what texts keep of their titles, and their numbers that nothing supports."""
    rows = [fidelity.compare(*row) for row in zip(texts, titles, records, strict=True)]
    names = ("title_words", "title_numbers", "unsupported")
    return {name: _pairs([row[name] for row in rows]) for name in names}


def _pairs(rows: Sequence[tuple[float, float]]) -> Floats:
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def signatures(texts: Iterable[str]) -> dict[str, str]:
    """Return what makes the scores of texts comparable: sacrebleu's signatures, ROUGE's words."""
    signs = {}
    for name in ("bleu", "chrf"):
        library = sacrebleu(name)
        library.num_refs = 1
        signs[name] = str(library.get_signature())
    signs["rouge"] = f"rouge-score:{importlib.metadata.version('rouge_score')}|stem:no|tok:unicode"
    if any(words.is_unspaced(text) for text in texts):
        # 13a alone would take a whole sentence for one word.
        signs["bleu"] = signs["bleu"].replace("tok:13a", "tok:13a+char")
        signs["rouge"] += "+char"
    return signs
