"""What a text keeps of its title, and which of its numbers neither title nor record supports.

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


@dataclass(frozen=True)
class Kept:
    """How much of a title a text keeps; adding up rows gives shares."""

    words: int
    """Distinct content words of the title that the text holds, an s at their end aside; where a
    script puts no spaces between words, neighbouring characters."""
    title_words: int
    measures: int
    """Distinct numbers of the title that the text holds, with their unit where they have one."""
    title_measures: int
    unsupported: int
    """Distinct numbers of the text that neither its title nor its record holds."""
    numbers: int
    """Distinct numbers of the text."""


def content_words(text: str) -> set[str]:
    """Give the distinct words of three letters or more that are no function words, folded.

    A script without spaces gives pairs of neighbouring characters, or one that stands alone.
    """
    found = {_stem(word) for word in words.long_words(text) if word not in _FUNCTION_WORDS}
    for run in words.runs(text):
        found |= {"".join(pair) for pair in itertools.pairwise(run)} or set(run)
    return found


def _stem(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def numbers(text: str) -> set[str]:
    """Give the distinct numbers of a text in any digits: ``1,000.50`` as ``1000.5``."""
    return {_plain(found) for found in _NUMBER.findall(words.fold(text))}


def _plain(number: str) -> str:
    whole, _, rest = number.replace(",", "").partition(".")
    whole, rest = whole.lstrip("0") or "0", rest.rstrip("0")
    return f"{whole}.{rest}" if rest else whole


def measures(text: str) -> set[tuple[str, str]]:
    """Give the distinct (number, unit) of a text; the unit is empty where none is known."""
    found = _MEASURE.findall(words.fold(text))
    return {(_plain(number), _CANONICAL.get(unit, "")) for number, unit in found}


def compare(text: str, title: str, record: str) -> Kept:
    """Count what a text keeps of its title, and which of its numbers nothing supports.

    Args:
        text: generated.
        title: that it was written for.
        record: the real description.
    """
    asked = content_words(title)
    # A character that stands alone in the title may have neighbours in the text.
    held = content_words(text) | {sign for run in words.runs(text) for sign in run}
    wanted, told = measures(title), measures(text)
    values = {number for number, _ in told}
    # A bare number of the title is kept with any unit, one with a unit only with that one.
    kept = sum((each in told) if each[1] else (each[0] in values) for each in wanted)
    supported = numbers(title) | numbers(record)
    return Kept(
        words=len(asked & held),
        title_words=len(asked),
        measures=kept,
        title_measures=len(wanted),
        unsupported=len(values - supported),
        numbers=len(values),
    )


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
    found = _corpus("bleu")(sums)
    found[(sums[:, 0] > 0) & (sums[:, _FOURS] == 0)] = np.nan
    return found


_FOURS = 9
"""Column of BLEU's sums that counts the texts' runs of four words."""


@functools.cache
def sacrebleu(name: str) -> Any:
    """Give sacrebleu's metric: ``bleu``, or ``chrf`` with word bigrams, which is chrF++."""
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
    found = _rouge(texts, references)
    spaced = [[words.apart(text) for text in many] for many in (texts, references)]
    for name, many in (("chrf", [texts, references]), ("bleu", spaced)):
        stats = sacrebleu(name)._extract_corpus_statistics(list(many[0]), [list(many[1])])
        found[name] = np.array(stats, dtype=np.float64)
    lengths = [(len(text), len(real)) for text, real in zip(texts, references, strict=True)]
    found["length"] = np.array(lengths, dtype=np.float64)
    return found


class _Words:
    """What rouge-score takes for a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        """Give the words of a text in any script."""
        return words.words(text)


def _rouge(texts: Sequence[str], references: Sequence[str]) -> dict[str, Floats]:
    """Score each text; a reference without words, or without pairs of them, measures none."""
    from rouge_score.rouge_scorer import RougeScorer

    kinds = {"rouge1": 1, "rouge2": 2, "rougeL": 1}
    scorer = RougeScorer(list(kinds), tokenizer=_Words())
    scores = [scorer.score(real, text) for text, real in zip(texts, references, strict=True)]
    sizes = np.array([len(words.words(real)) for real in references])
    return {
        kind: counted([each[kind].fmeasure for each in scores], sizes >= least)
        for kind, least in kinds.items()
    }


def counted(values: Sequence[float] | Floats, known: Any = True) -> Floats:
    """Make rows that average: [N, 2], the value and 1; both 0 where it is not known."""
    made = np.ones((len(values), 2))
    made[:, 0] = values
    return made * np.reshape(known, (-1, 1))


def of_texts(texts: Sequence[str]) -> dict[str, Floats]:
    """Count what needs no reference: ``repetition``, ``distinct1``, ``distinct2``.

    An n-gram that stands c times in all texts adds 1/c wherever it stands, so that the sum is the
    number of different ones, and resampled rows are not punished for standing twice.
    """
    rows = [words.apart(text).casefold().split() for text in texts]
    found: dict[str, Floats] = {}
    for size, name in ((1, "distinct1"), (2, "distinct2")):
        grams = [ngrams(each, size) for each in rows]
        counts = Counter(gram for row in grams for gram in row)
        found[name] = np.array(
            [(sum(1 / counts[gram] for gram in row), len(row)) for row in grams], dtype=np.float64
        ).reshape(-1, 2)
    fours = [ngrams(each, 4) for each in rows]
    again = [(len(row) - len(set(row)), len(row)) for row in fours]
    found["repetition"] = np.array(again, dtype=np.float64).reshape(-1, 2)
    return found


def ngrams(row: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Give the runs of so many words, in order."""
    return list(zip(*(row[start:] for start in range(size)), strict=False))


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


def signatures(texts: Iterable[str] = ()) -> dict[str, str]:
    """Give what makes the scores comparable with others': sacrebleu's signatures, ROUGE's words.

    Args:
        texts: all that are scored; scripts without spaces among them are said.
    """
    told = {}
    for name in ("bleu", "chrf"):
        library = sacrebleu(name)
        library.num_refs = 1
        told[name] = str(library.get_signature())
    told["rouge"] = f"rouge-score:{importlib.metadata.version('rouge_score')}|stem:no|tok:unicode"
    if any(words.is_unspaced(text) for text in texts):
        # 13a alone would take a whole sentence for one word.
        told["bleu"] = told["bleu"].replace("tok:13a", "tok:13a+char")
        told["rouge"] += "+char"
    return told
