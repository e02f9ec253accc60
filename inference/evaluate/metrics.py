"""What a text shares with its title, its reference and itself: sums whose scores are the metrics.

Pure: strings in, counts out.
"""

import functools
import importlib.metadata
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from inference import words
from inference.evaluate.bootstrap import Floats, Score, percent, perplexity, ratio

# Words that say nothing of a product; NLTK's list needs a download.
_FUNCTION_WORDS = frozenset(
    """
    a about after all also an and any are as at be been before but by can did do does each
    edition for from had has have her his how if in inc into is it its more most new no non
    not of off on one or other our out over own set she so some such than that the their them
    then there these they this those through to too under up use used very vol volume was we
    were what when where which while who whose why will with without you your
    """.split()  # noqa: SIM905
)
_NUMBER = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
_UNITS = {
    "in": ('"', "in", "inch", "inches"), "ft": ("ft", "foot", "feet"), "mm": ("mm", "millimeter"),
    "cm": ("cm", "centimeter"), "m": ("m", "meter", "metre"), "oz": ("oz", "ounce"),
    "lb": ("lb", "lbs", "pound"), "g": ("g", "gram"), "kg": ("kg", "kilogram"),
    "mg": ("mg", "milligram"), "ml": ("ml", "milliliter"), "l": ("l", "liter", "litre"),
    "qt": ("qt", "quart"), "gal": ("gal", "gallon"), "w": ("w", "watt"), "v": ("v", "volt"),
    "mb": ("mb",), "gb": ("gb",), "tb": ("tb",), "hz": ("hz",), "ghz": ("ghz",), "mhz": ("mhz",),
    "piece": ("pc", "pcs", "piece"), "pack": ("pk", "pack"), "count": ("ct", "count"),
    "page": ("page",), "year": ("yr", "year"), "%": ("%", "percent"),
}  # fmt: skip
_CANONICAL = {name: unit for unit, names in _UNITS.items() for name in names}
_CANONICAL |= {f"{name}s": unit for name, unit in _CANONICAL.items() if len(name) > 2}
_MEASURE = re.compile(rf'({_NUMBER.pattern})[\s-]?(["%]|[a-z]+)?')


def content_words(text: str) -> set[str]:
    """Return the distinct words of three letters or more that are no function words, folded.

    Of a script without spaces: pairs of neighbouring characters, or one that stands alone.
    """
    stems = {_stem(word) for word in words.long_words(text) if word not in _FUNCTION_WORDS}
    for run in words.runs(text):
        stems |= {"".join(pair) for pair in itertools.pairwise(run)} or set(run)
    return stems


def _stem(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def numbers(text: str) -> set[str]:
    """Return the distinct numbers of a text in any digits: ``1,000.50`` as ``1000.5``."""
    return {_plain(number) for number in _NUMBER.findall(words.fold(text))}


def _plain(number: str) -> str:
    whole, _, rest = number.replace(",", "").partition(".")
    whole, rest = whole.lstrip("0") or "0", rest.rstrip("0")
    return f"{whole}.{rest}" if rest else whole


def measures(text: str) -> set[tuple[str, str]]:
    """Return the distinct (number, unit) of a text; the unit is empty where it is none of ours."""
    pairs = _MEASURE.findall(words.fold(text))
    return {(_plain(number), _CANONICAL.get(unit, "")) for number, unit in pairs}


def compare(text: str, title: str, record: str) -> dict[str, tuple[int, int]]:
    """Count what a text keeps of its title, and which of its numbers nothing supports.

    Args:
        text: generated.
        title: that it was written for.
        record: the real description.

    Returns:
        By metric a part and its whole, all distinct: ``title_words`` kept of the title's content
        words, ``title_numbers`` kept of its numbers, ``unsupported`` of the text's numbers.
    """
    title_words = content_words(title)
    # A character that stands alone in the title may have neighbours in the text.
    text_words = content_words(text) | {sign for run in words.runs(text) for sign in run}
    title_measures, text_measures = measures(title), measures(text)
    values = {number for number, _ in text_measures}
    # A bare number of the title is kept with any unit, one with a unit only with that one.
    kept = sum(
        (number, unit) in text_measures if unit else number in values
        for number, unit in title_measures
    )
    supported = numbers(title) | numbers(record)
    return {
        "title_words": (len(title_words & text_words), len(title_words)),
        "title_numbers": (kept, len(title_measures)),
        "unsupported": (len(values - supported), len(values)),
    }


def faithful(
    texts: Sequence[str], titles: Sequence[str], records: Sequence[str]
) -> dict[str, Floats]:
    """Count what texts keep of their titles, and their numbers that nothing supports."""
    rows = [compare(*row) for row in zip(texts, titles, records, strict=True)]
    names = ("title_words", "title_numbers", "unsupported")
    return {name: _pairs([row[name] for row in rows]) for name in names}


def _pairs(rows: Sequence[tuple[float, float]]) -> Floats:
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class Metric:
    """A score, as a reader meets it."""

    key: str
    label: str
    better: Literal["higher", "lower", ""]
    about: str
    needs: str
    """What some row must have for the score to exist."""
    score: Score
    unit: str = ""
    digits: int = 1


def _corpus(name: str) -> Score:
    """Score sums with sacrebleu's own arithmetic."""

    def score(sums: Floats) -> Floats:
        library = sacrebleu(name)
        return np.array([library._compute_score_from_stats(row.tolist()).score for row in sums])

    return score


def _bleu(sums: Floats) -> Floats:
    """Score sums as BLEU; sacrebleu calls texts 0 that are too short to hold four words."""
    scores = _corpus("bleu")(sums)
    scores[(sums[:, 0] > 0) & (sums[:, _FOURS] == 0)] = np.nan
    return scores


_FOURS = 9
"""Column of BLEU's sums that counts the texts' runs of four words."""


@functools.cache
def sacrebleu(name: str) -> Any:
    """Return sacrebleu's metric: ``bleu``, or ``chrf`` with word bigrams, which is chrF++."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return BLEU() if name == "bleu" else CHRF(word_order=2)


METRICS = (
    Metric("perplexity", "Perplexity", "lower",
           "of the real description after the prompt, weighted by tokens",
           "a real description with a finite probability", perplexity, digits=2),
    Metric("rouge1", "ROUGE-1", "higher", "words shared with the real description",
           "a real description with words", percent),
    Metric("rouge2", "ROUGE-2", "higher", "pairs of words shared",
           "a real description of two words", percent),
    Metric("rougeL", "ROUGE-L", "higher", "longest common sequence of words",
           "a real description with words", percent),
    Metric("chrf", "chrF++", "higher", "runs of characters and words shared",
           "a real description", _corpus("chrf")),
    Metric("bleu", "BLEU", "higher", "runs of one to four words shared",
           "a text of four words", _bleu),
    Metric("title_words", "Title words kept", "higher",
           "content words of the title that the text holds", "a title with content words",
           percent, "%"),
    Metric("title_numbers", "Title numbers kept", "higher",
           "numbers of the title that the text holds, with their unit",
           "a title with numbers", percent, "%"),
    Metric("unsupported", "Unsupported numbers", "lower",
           "numbers of the text that neither title nor record holds",
           "a text with numbers", percent, "%"),
    Metric("length", "Length ratio", "", "characters over those of the real one",
           "a real description", ratio, digits=2),
    Metric("ended", "Ended", "higher", "texts that end by themselves",
           "a text that tells how it ended", percent, "%"),
    Metric("repetition", "Repetition", "lower",
           "word 4-grams that the same text said before", "a text of four words", percent, "%"),
    Metric("distinct1", "Distinct-1", "", "different words over all words",
           "a text with words", ratio, digits=3),
    Metric("distinct2", "Distinct-2", "", "different pairs of words over all",
           "a text of two words", ratio, digits=3),
    Metric("longest", "Longest copied span", "lower",
           "characters that also stand in a training text, mean", "a text", ratio, digits=0),
    Metric("copied", "Copied share", "lower",
           "characters within copied spans", "a text", percent, "%"),
    Metric("recited", "Recited", "lower",
           "texts almost equal to a training text", "a text", percent, "%"),
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
        grams = [_ngrams(row, size) for row in rows]
        counts = Counter(gram for row in grams for gram in row)
        tables[name] = _pairs([(sum(1 / counts[gram] for gram in row), len(row)) for row in grams])
    fours = [_ngrams(row, 4) for row in rows]
    tables["repetition"] = _pairs([(len(row) - len(set(row)), len(row)) for row in fours])
    return tables


def _ngrams(row: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(row[start:] for start in range(size)), strict=False))


def signatures(texts: Iterable[str]) -> dict[str, str]:
    """Return what makes the scores comparable: sacrebleu's signatures, and ROUGE's words.

    Args:
        texts: all that are scored; the signatures name what scripts without spaces change.
    """
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
