"""What a text keeps of its title, and which of its numbers neither title nor record supports.

Pure: strings in, counts out.
"""

import itertools
import re
from dataclasses import dataclass

from inference import words

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
