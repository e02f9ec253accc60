"""The titles and sentences of the invented catalogue: ``words.yaml`` unfolded.

For ``records`` only; no chance in it. ``words.yaml`` names the fields of the templates.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import yaml


class Noun(NamedTuple):
    """A product, with what can be said of it."""

    name: str
    parts: tuple[str, ...]
    themes: tuple[str, ...]
    styles: tuple[str, ...]
    sizes: tuple[str, ...]


class Family(NamedTuple):
    """Products that share their title forms and sentences."""

    nouns: tuple[Noun, ...]
    makers: tuple[str, ...]
    names: tuple[str, ...]
    suffixes: tuple[str, ...]
    """Endings of a title that name an edition or a pack."""
    titles: tuple[str, ...]
    briefs: tuple[str, ...]
    """First sentences of short descriptions."""
    leads: tuple[str, ...]
    """First sentences of the others."""
    bodies: tuple[str, ...]
    """Later sentences; a prime number of them, so that any stride visits all."""
    is_goods: bool
    """Whether a maker is a brand, not a person or a band."""


def _split(line: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in line.split(","))


def _nouns(group: dict[str, str]) -> tuple[Noun, ...]:
    """Read ``noun | parts | sizes`` lines, each followed by a line of its themes."""
    rows = group["table"].splitlines()
    styles = _split(group["styles"])
    nouns = []
    for head, themes in zip(rows[::2], rows[1::2], strict=True):
        name, parts, sizes = (field.strip() for field in head.split("|"))
        nouns.append(Noun(name, _split(parts), _split(themes), styles, _split(sizes)))
    return tuple(nouns)


def _family(name: str, makers: tuple[str, ...], names: tuple[str, ...]) -> Family:
    words: dict[str, Any] = _WORDS["families"][name]
    nouns = tuple(noun for group in words["nouns"] for noun in _nouns(group))
    forms = {key: tuple(words[key]) for key in ("suffixes", "titles", "briefs", "leads", "bodies")}
    return Family(nouns, makers, names, **forms, is_goods=name == "goods")


_WORDS = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))
BRANDS = _split(_WORDS["brands"])
_THINGS = _split(_WORDS["things"])
ADJECTIVES = _split(_WORDS["adjectives"])
COLOURS = _split(_WORDS["colours"])
_PEOPLE = tuple(
    f"{first} {last}"
    for last in _split(_WORDS["last_names"])
    for first in _split(_WORDS["first_names"])
)
_WORKS = tuple(f"The {adjective} {thing}" for adjective in ADJECTIVES for thing in _THINGS)
_BANDS = tuple(
    f"The {adjective} {thing}s" for adjective in ADJECTIVES[::2] for thing in _THINGS[24:32]
)
_HOUSES = tuple(f"{left} & {right}" for left in BRANDS[:10] for right in BRANDS[30:34])

_BOOK = _family("books", _PEOPLE, _WORKS)
_SOUND = _family("music", _BANDS + _PEOPLE[::8], _WORKS)
_SCREEN = _family("films", _PEOPLE[::4], _WORKS)
_WARES = _family("goods", BRANDS * 2 + _HOUSES, _split(_WORDS["ranges"]))
BOOKS = ((_BOOK, len(_BOOK.nouns)),)
OTHERS = ((_SOUND, 28), (_SCREEN, 14), (_WARES, 58))
"""Families and their weights among the records that are not books."""
NOUNS = tuple(noun.name for family in (_BOOK, _SOUND, _SCREEN, _WARES) for noun in family.nouns)

EDITIONS: list[str] = _WORDS["editions"]
ENTITIES: list[str] = _WORDS["entities"]
MOJIBAKE: list[str] = _WORDS["mojibake"]
TITLE_ENTITIES: list[str] = _WORDS["title_entities"]
DOUBLED_TITLE_ENTITY = " (Tried &amp;amp; Tested)"
TRANSLATION = " Text: English (translation)Original Language: German"


class Phrases(NamedTuple):
    """A noun's templates with everything filled in that does not change with the record."""

    family: Family
    titles: tuple[str, ...]
    briefs: tuple[str, ...]
    leads: tuple[str, ...]
    bodies: tuple[tuple[tuple[str, int], ...], ...]
    """Variants of all the later sentences, each with its length about as it will be printed."""


@functools.cache
def phrases(family: Family, noun: Noun) -> Phrases:
    """Fill a noun, its parts and its themes into its family's templates."""
    themes = range(len(noun.themes))
    bodies = []
    for turn in range(len(noun.parts)):
        texts = [_fill(template, noun, turn) for template in family.bodies]
        bodies.append(tuple((text, _printed_length(text, family)) for text in texts))
    return Phrases(
        family,
        titles=tuple(_fill(template, noun, 0) for template in family.titles),
        briefs=tuple(_fill(template, noun, 0) for template in family.briefs),
        leads=tuple(_fill(text, noun, turn) for text in family.leads for turn in themes),
        bodies=tuple(bodies),
    )


def _fill(template: str, noun: Noun, turn: int) -> str:
    article = "an" if noun.name[0] in "aeiou" else "a"
    own = {
        "noun": noun.name,
        "Noun": noun.name.title(),
        "a": article,
        "A": article.title(),
        "part": noun.parts[turn % len(noun.parts)],
        "theme": noun.themes[turn % len(noun.themes)],
    }
    for field, value in own.items():
        template = template.replace(f"{{{field}}}", value)
    return template


def _printed_length(text: str, family: Family) -> int:
    wares = family.is_goods
    values = {"maker": "x" * (9 if wares else 17), "Name": "x" * (7 if wares else 20)}
    values |= dict.fromkeys(("Style", "style"), "x" * (9 if family in (_BOOK, _WARES) else 6))
    values |= {"colour": "x" * 5, "size": "x" * 7, "number": "x", "count": "x" * 3}
    return len(text.format_map(values))
