"""How faithful a text is: title words and numbers kept, numbers that nothing supports, repetition.

Pure: strings in, counts out. Evaluation scores runs by them, and generation chooses by them.
"""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from inference import words

_KNOWLEDGE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
_FUNCTION_WORDS = frozenset(_KNOWLEDGE["function_words"].split())
_NUMBER = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
_CANONICAL = {name: unit for unit, names in _KNOWLEDGE["units"].items() for name in names}
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


def repeated(text: str) -> tuple[int, int]:
    """Count a text's word 4-grams that stand in it earlier, and all of them."""
    grams = ngrams(words.apart(text).casefold().split(), 4)
    return len(grams) - len(set(grams)), len(grams)


def ngrams(row: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Return the runs of so many words, in order."""
    return list(zip(*(row[start:] for start in range(size)), strict=False))
