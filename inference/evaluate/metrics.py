"""The metrics: sums over rows, the scores of the sums, and intervals of the scores.

Pure: strings in, figures out. A score is a function of sums over rows, so a resample is a vector of
weights and all resamples are one matrix product (Efron 1979; Koehn 2004 for corpus scores). All
systems share their resamples, so differences are paired. A share of texts has an exact interval.
"""

import functools
import importlib.metadata
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from data import words
from inference import fidelity

Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]
"""Sums [samples, k] -> scores [samples]; NaN where a score is not defined."""

_Key = TypeVar("_Key", bound=Hashable)
_KNOWLEDGE = yaml.safe_load(Path(__file__).with_name("metrics.yaml").read_text(encoding="utf-8"))
_FOURS = 9
"""Column of BLEU's sums that counts the texts' runs of four words."""
_AT_ONCE = 4_000_000
_LEAST_DEFINED = 0.95
_LEVEL = 0.95
_BLOCKS = 500
FEWEST = 20
"""Rows that a bootstrap needs: with 12 rows of an exponential distribution its intervals lie wholly
below the mean in 7 of 100 cases, with 20 in 4.5. Exact intervals need no such bound."""
_NORMAL = NormalDist()
REPEATS = 0.2
"""A text repeats itself where more than this share of its word 4-grams stood in it before. Of 2,366
real descriptions 0.1 % do; a text of three sentences that says one of them twice does."""


@dataclass(frozen=True)
class Estimate:
    """A score with its interval; None where it is not defined, as for a few rows."""

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
    without: Floats = field(default_factory=lambda: np.empty(0))
    """[blocks] the score of the rows but for one block: the jackknife."""
    count: tuple[int, int] | None = None
    """Of a share of texts: how many, of how many."""

    def estimate(self) -> Estimate:
        """Return the score with its 95 % interval: exact for a share, else of the resamples."""
        if not np.isfinite(self.value):
            return Estimate(None)
        if self.count:
            low, high = exact_interval(*self.count)
            return Estimate(float(self.value), 100 * low, 100 * high)
        drawn = self.drawn[np.isfinite(self.drawn)]
        if self.rows < FEWEST or len(drawn) < _LEAST_DEFINED * len(self.drawn):
            return Estimate(float(self.value))
        low, high = np.quantile(drawn, self._quantiles(drawn))
        return Estimate(float(self.value), float(low), float(high))

    def _quantiles(self, drawn: Floats) -> list[float]:
        """Choose the quantiles of the resamples that bound the score.

        The outer ones of the plain and of the bias-corrected and accelerated (BCa, Efron 1987):
        where a few rows carry a mean, either misses too often on one side. Both are widened as
        Student's t is for few rows (Hesterberg 2015).
        """
        below = np.mean(drawn < self.value) + np.mean(drawn == self.value) / 2
        bias = _NORMAL.inv_cdf(float(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn))))
        pulls = self.without.mean() - self.without if len(self.without) else np.zeros(1)
        spread = 6 * float(np.sum(pulls**2)) ** 1.5
        skew = float(np.sum(pulls**3)) / spread if np.isfinite(spread) and spread else 0.0
        normal = _NORMAL.inv_cdf((1 + _LEVEL) / 2)
        # Student's quantile, to the first order.
        reach = normal + (normal**3 + normal) / (4 * (self.rows - 1))
        reach *= math.sqrt(self.rows / (self.rows - 1))
        chosen = []
        for plain, outer in ((-reach, min), (reach, max)):
            room = 1 - skew * (bias + plain)
            corrected = bias + (bias + plain) / room if room > 0 else plain * math.inf
            chosen.append(_NORMAL.cdf(outer(plain, corrected)))
        return chosen

    def minus(self, other: "Sample") -> "Sample":
        """Return the paired difference: both of the same rows and resamples."""
        return combine(np.subtract, self, other)


def combine(score: Callable[..., Any], *samples: Sample, are_paired: bool = True) -> Sample:
    """Score several figures as one; paired ones are of the same rows."""
    values = [sample.value for sample in samples]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if are_paired:
            without = score(*(sample.without for sample in samples))
        else:
            # One block away from one figure leaves the others as they are.
            parts = [
                score(*values[:place], sample.without, *values[place + 1 :])
                for place, sample in enumerate(samples)
            ]
            without = np.concatenate(parts)
        value = score(*map(np.float64, values))
        drawn = score(*(sample.drawn for sample in samples))
    return Sample(float(value), drawn, min(sample.rows for sample in samples), without)


def exact_interval(part: float, whole: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, 0 to 1, that holds for any number of rows.

    Clopper and Pearson 1934, as quantiles of the beta distribution; ``part`` need not be whole.
    """
    tail = (1 - _LEVEL) / 2
    low = _beta_quantile(tail, part, whole - part + 1) if part > 0 else 0.0
    high = _beta_quantile(1 - tail, part + 1, whole - part) if part < whole else 1.0
    return low, high


def _beta_quantile(chance: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _beta_below(middle, a, b) < chance else (low, middle)
    return (low + high) / 2


def _beta_below(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function by its continued fraction (DLMF 8.17.22)."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_below(1 - x, b, a)
    # Lentz's method: ratios of neighbouring numerators and denominators.
    numerator, denominator, fraction = 1.0, 0.0, 1.0
    for step in range(10_000):
        half = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + half) * (a + b + half) * x / ((a + step - 1) * (a + step))
        else:
            term = half * (b - half) * x / ((a + step - 1) * (a + step))
        denominator = 1 / (1 + term * denominator or 1e-300)
        numerator = 1 + term / numerator or 1e-300
        fraction *= numerator * denominator
        if abs(numerator * denominator - 1) < 1e-13:
            break
    logs = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    logs += a * math.log(x) + b * math.log1p(-x)
    return math.exp(logs) * (fraction - 1) / a


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
    starts = np.linspace(0, rows, min(rows, _BLOCKS), endpoint=False).astype(int)
    others = total - np.add.reduceat(everything, starts)
    samples: dict[_Key, Sample] = {}
    at = 0
    for name, (table, score) in stats.items():
        piece = slice(at, at + table.shape[1])
        at = piece.stop
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            scores = [score(of[:, piece]) for of in (total, sums, others)]
        count = (int(total[0, piece][0]), int(total[0, piece][1])) if score is share else None
        value, drawn, without = scores
        samples[name] = Sample(float(value[0]), drawn, rows, without, count)
    return samples


def ratio(sums: Floats) -> Floats:
    """Score sums [samples, 2] as the first over the second."""
    scores: Floats = np.full(len(sums), np.nan)
    np.divide(sums[:, 0], sums[:, 1], out=scores, where=sums[:, 1] != 0)
    return scores


def percent(sums: Floats) -> Floats:
    """Score sums [samples, 2] as a percentage."""
    return 100 * ratio(sums)


def share(sums: Floats) -> Floats:
    """Score sums [samples, 2] of texts that count, and of all, as a percentage."""
    return percent(sums)


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
    "ratio": ratio, "percent": percent, "share": share, "perplexity": perplexity,
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


def counted(values: Sequence[float] | NDArray[Any], is_measured: Any = True) -> Floats:
    """Return rows that average: [N, 2], the value and 1; both 0 where it is not measured."""
    table = np.ones((len(values), 2))
    table[:, 0] = values
    return table * np.reshape(is_measured, (-1, 1))


def of_texts(texts: Sequence[str]) -> dict[str, Floats]:
    """Count what needs no reference: ``repetition``, ``repeating``, ``distinct1``, ``distinct2``.

    An n-gram that stands c times in all texts adds 1/c wherever it stands, so that the sum is the
    number of different ones, and resampled rows are not punished for standing twice.
    """
    rows = [words.apart(text).casefold().split() for text in texts]
    tables: dict[str, Floats] = {}
    for size, name in ((1, "distinct1"), (2, "distinct2")):
        grams = [fidelity.ngrams(row, size) for row in rows]
        counts = Counter(gram for row in grams for gram in row)
        tables[name] = _pairs([(sum(1 / counts[gram] for gram in row), len(row)) for row in grams])
    repetition = tables["repetition"] = _pairs([fidelity.repeated(text) for text in texts])
    tables["repeating"] = counted(repetition[:, 0] > REPEATS * repetition[:, 1])
    return tables


def faithful(
    texts: Sequence[str], titles: Sequence[str], records: Sequence[str]
) -> dict[str, Floats]:
    """Count what texts keep of their titles, numbers that nothing supports, and texts with one."""
    rows = [fidelity.compare(*row) for row in zip(texts, titles, records, strict=True)]
    names = ("title_words", "title_numbers", "unsupported")
    tables = {name: _pairs([row[name] for row in rows]) for name in names}
    return tables | {"inventing": counted(tables["unsupported"][:, 0] > 0)}


def numbers_of_neighbours(
    texts: Sequence[str], titles: Sequence[str], records: Sequence[str], shown: Sequence[str]
) -> Floats:
    """Count the unsupported numbers that stand in what the prompts show of neighbours, of all."""
    rows = []
    for text, title, record, near in zip(texts, titles, records, shown, strict=True):
        alone, whole = fidelity.compare(text, title, record)["unsupported"]
        beside, _ = fidelity.compare(text, title, f"{record}\n{near}")["unsupported"]
        rows.append((alone - beside, whole))
    return _pairs(rows)


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
