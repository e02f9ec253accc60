"""How faithful a text is: title words and numbers kept, numbers that nothing supports, repetition.

Pure: strings in, counts out. Evaluation scores runs by them, and generation chooses by them.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from data import words

_KNOWLEDGE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
_FUNCTION_WORDS = frozenset(_KNOWLEDGE["function_words"].split())
_NUMBER = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
_CANONICAL = {name: unit for unit, names in _KNOWLEDGE["units"].items() for name in names}
_CANONICAL |= {f"{name}s": unit for name, unit in _CANONICAL.items() if len(name) > 2}
# The rest of "Don't", which is no word: who reads "Don" would look for somebody.
_NEGATED = re.compile(r"['’]t\b", re.IGNORECASE)
# What stands before or behind a year of two digits; behind feet stand inches.
_YEAR_DIGITS = 2
_RANGE = re.compile(r"(?<!\d)(\d\d)\d\d[-–/]$")
_APOSTROPHE = re.compile(r"(?<!\d)['’‘]$")
_DECADE = re.compile(r"['’]?s\b")
_MEASURE = re.compile(rf'({_NUMBER.pattern})[\s-]?(["%]|[a-z]+)?')


@dataclass(frozen=True)
class Number:
    """A number of a text that nothing supports."""

    begin: int
    """In the text, code points."""
    end: int
    text: str
    """As the text writes it."""
    value: str
    """As ``numbers`` writes it."""


@dataclass(frozen=True)
class Checks:
    """What a reader of a text should know: what it leaves out of its title, what it invents."""

    title_words_kept: list[str]
    """Content words of the title that the text holds: as the title writes them, in its order, each
    once."""
    title_words_missing: list[str]
    """Those that it does not hold."""
    unsupported: list[Number]
    """Numbers of the text that neither title nor record supports, wherever they stand, in order."""
    repeated_share: float
    """Share of the text's word 4-grams that stand in it earlier; 0 where it has none."""

    @property
    def unsupported_numbers(self) -> list[str]:
        """The unsupported numbers, each once, as the text first writes it."""
        first: dict[str, str] = {}
        for number in self.unsupported:
            first.setdefault(number.value, number.text)
        return list(first.values())


def check(text: str, title: str, record: str) -> Checks:
    """Return what a text keeps of its title, and what of it nothing supports, word for word.

    Counts the same as ``compare`` and ``repeated``; ``record`` is the title's own description,
    empty where there is none.
    """
    said, title_words = _said(text), _as_written(title)
    again, grams = repeated(text)
    return Checks(
        [word for stem, word in title_words.items() if stem in said],
        [word for stem, word in title_words.items() if stem not in said],
        list(_located(_unsupported(text, title, record), text)),
        again / max(grams, 1),
    )


def _as_written(title: str) -> dict[str, str]:
    """Return the content words of a title as it writes them, in its order, by themselves folded."""
    written: dict[str, str] = {}
    folded, places = words.fold(title), words.places(title)
    for begin, end in words.spans(folded):
        until = places[end - 1][1]
        rest = _NEGATED.match(title, until)
        for word in _content(folded[begin:end]):
            written.setdefault(word, title[places[begin][0] : rest.end() if rest else until])
    return written


def _located(numbers: list[re.Match[str]], text: str) -> Iterator[Number]:
    """Find numbers of the folded text in the text itself."""
    places = words.places(text) if numbers else []
    for number in numbers:
        begin, end = places[number.start()][0], places[number.end() - 1][1]
        yield Number(begin, end, text[begin:end], _plain(number[0]))


def content_words(text: str) -> set[str]:
    """Return the distinct words of three letters or more that are no function words, folded.

    Of a script without spaces: pairs of neighbouring characters, or one that stands alone.
    """
    return _content(words.fold(text))


def _content(folded: str) -> set[str]:
    stems = {_stem(word) for word in words.long_words(folded) if word not in _FUNCTION_WORDS}
    for run in words.runs(folded):
        stems |= {"".join(pair) for pair in itertools.pairwise(run)} or set(run)
    return stems


def _said(text: str) -> set[str]:
    """Return what counts as said: content words, and each character of scripts without spaces."""
    folded = words.fold(text)
    # A character that stands alone in the title may have neighbours in the text.
    return _content(folded) | {sign for run in words.runs(folded) for sign in run}


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
    title_measures, text_measures = measures(title), measures(text)
    values = numbers(text)
    # A bare number of the title is kept with any unit, one with a unit only with that one.
    kept = sum(
        (number, unit) in text_measures if unit else number in values
        for number, unit in title_measures
    )
    unsupported = {_plain(number[0]) for number in _unsupported(text, title, record)}
    return {
        "title_words": (len(title_words & _said(text)), len(title_words)),
        "title_numbers": (kept, len(title_measures)),
        "unsupported": (len(unsupported), len(values)),
    }


def _unsupported(text: str, title: str, record: str) -> list[re.Match[str]]:
    """Find the numbers of the folded text that neither title nor record supports."""
    sources = [words.fold(source) for source in (title, record)]
    supported = {
        value
        for source in sources
        for number in _NUMBER.finditer(source)
        for value in _readings(number)
    }
    found = _NUMBER.finditer(words.fold(text))
    return [number for number in found if supported.isdisjoint(_readings(number))]


def _readings(number: re.Match[str]) -> set[str]:
    """Return what a number may say: itself, and the years that are written by two digits.

    ``'98`` and ``70s`` may be of two centuries, the end of ``1839-42`` is of its beginning's.
    """
    value, (begin, end) = _plain(number[0]), number.span()
    if end - begin != _YEAR_DIGITS:
        return {value}
    before = number.string[max(begin - 6, 0) : begin]
    if years := _RANGE.search(before):
        return {value, years[1] + number[0]}
    if _APOSTROPHE.search(before) or _DECADE.match(number.string, end):
        return {value, f"19{number[0]}", f"20{number[0]}"}
    return {value}


def repeated(text: str) -> tuple[int, int]:
    """Count a text's word 4-grams that stand in it earlier, and all of them."""
    grams = ngrams(words.apart(text).casefold().split(), 4)
    return len(grams) - len(set(grams)), len(grams)


def ngrams(row: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Return the runs of so many words, in order."""
    return list(zip(*(row[start:] for start in range(size)), strict=False))
