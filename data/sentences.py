"""The title forms and sentences of the invented catalogue, and the text defects in them.

For `data.synthetic` only: data and the functions that unfold it, no chance and no I/O.

Fields of the templates: ``maker`` (author, artist, director or brand), ``name`` (a work's name
or a product's range), ``style`` (place, genre or material), ``colour``, ``size``, ``number`` and
``count`` change with the record; ``noun``, ``a`` (its article), ``part`` and ``theme`` are the
noun's own and are filled in once. A capital (``Noun``, ``Style``, ...) asks for title case.
"""

import functools
from typing import NamedTuple

from data import vocabulary
from data.vocabulary import Noun, words


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


_BOOK = Family(
    vocabulary.BOOKS,
    vocabulary.PEOPLE,
    vocabulary.WORKS,
    words(
        """ (Hardcover), (Paperback), [Large Print], (Second Edition), (Volume 1), (Volume 2),
        (Illustrated), (Collected Edition)"""
    ),
    (
        "{Name} of {Style}: {A} {Noun} by {maker}",
        "{Name}: A {Style} {Noun} by {maker}",
        "{maker}: {Name}, {A} {Noun} of {Style}",
        "{Name} ({A} {Noun} from {Style} by {maker})",
    ),
    ("{Name} is {a} {noun} of {Style} by {maker}.", "{A} {noun} of {Style} by {maker}: {Name}."),
    (
        "{maker}'s {noun} {Name} is set in {Style} and tells of {theme}.",
        "This {noun} by {maker} takes the reader to {Style}, with {theme} at its heart.",
        "{Name} is {a} {noun} from {Style} in which {maker} writes about {theme}.",
        "In {Name}, {a} {noun} of {Style}, {maker} turns to {theme}.",
    ),
    (
        "The {part} is drawn with great care and stays with the reader.",
        "{maker} has lived near {Style} for {number} years and knows every street of it.",
        "At its centre stands the {part}, and around it grows a picture of {theme}.",
        "Few have written about {theme} with so much warmth.",
        "The {noun} runs to {count} pages and can be read in a weekend.",
        "Readers of {Name} will remember the {part} long after they close the {noun}.",
        "It's a {noun} for anyone who has ever thought about {theme}.",
        '"{A} {noun} that one reads twice," wrote the {Style} Gazette.',
        "{maker} was born in {Style} and has written {number} other works.",
        "The {part} alone is worth the price of this {noun}.",
        "Clear, generous and often funny, it shows {theme} from a new side.",
        "In the second half the {part} takes over and the tone grows darker.",
        "A new foreword explains how {maker} came to write the {noun}.",
        "Maps and drawings of {Style} open each of the {number} sections.",
        "Reading groups will find plenty to discuss, above all the {part}.",
        "The {noun} ends where it began, in {Style}, with the {part} seen anew.",
        "Nothing is wasted: the {part} matters as much as the ending.",
        "{maker} doesn't hurry, and {theme} comes to life page by page.",
        "First published {number} years ago, the {noun} has lost none of its charm.",
    ),
)
_SOUND = Family(
    vocabulary.MUSIC,
    vocabulary.BANDS + vocabulary.PEOPLE[::8],
    vocabulary.WORKS,
    words("[Audio CD], [Vinyl], (Deluxe), (Remastered), [Import], (Volume 1), (Volume 2), (Mono)"),
    (
        "{Name}: {Style} {Noun} by {maker}",
        "{maker} - {Name} ({Style} {Noun})",
        "{Name} - A {Style} {Noun} by {maker}",
        "{maker}: {Name}, {Style} {Noun}",
    ),
    ("{Name} is a {style} {noun} by {maker}.", "{Style} {noun} by {maker}: {Name}."),
    (
        "{Name} is a {style} {noun} by {maker} about {theme}.",
        "On this {style} {noun} {maker} sings and plays of {theme}.",
        "{maker}'s {style} {noun} {Name} has {theme} as its subject.",
        "With the {style} {noun} {Name}, {maker} turns to {theme}.",
    ),
    (
        "The {part} is the finest moment of the {noun}.",
        "{maker} recorded it in {number} days with a small group of friends.",
        "Lovers of {style} will recognise the sound from the first bar.",
        "The {noun} comes with a booklet of {number} pages.",
        "Everything here speaks of {theme}.",
        "The {part} was written on tour and never changed afterwards.",
        "It's {style} as it ought to be played: loose, warm and close to the microphone.",
        '"We wanted {theme}, and nothing else," says {maker}.',
        "After the {part} the mood of the {noun} becomes calmer.",
        "More than {count} copies of the {noun} were sold in the first week.",
        "Radio stations chose the {part} at once.",
        "This {noun} has been remastered from the original tapes.",
        "The {part} shows how far {maker} has come in {number} years.",
        "Old fans and new listeners will both find {theme} in it.",
        "No other {style} {noun} of that year sounds so fresh.",
        "Play the {part} loud, and the rest of {Name} with the windows open.",
        "The musicians know each other well, and the {part} proves it.",
        "Every listener hears something else in {Name}, be it {theme} or plain joy.",
        "Guest players join {maker} on the {part}.",
    ),
)
_SCREEN = Family(
    vocabulary.FILMS,
    vocabulary.PEOPLE[::4],
    vocabulary.WORKS,
    words("[DVD], [VHS], (Widescreen), [Blu-ray], (Full Screen), [Import], (Part 1), (Part 2)"),
    (
        "{Name}: A {Style} {Noun} by {maker}",
        "{Name} - {Style} {Noun} ({maker})",
        "{maker}: {Name}, A {Style} {Noun}",
        "{Name} ({Style} {Noun} by {maker})",
    ),
    ("{Name} is a {style} {noun} by {maker}.", "{Style} {noun} directed by {maker}: {Name}."),
    (
        "{Name} is a {style} {noun} by {maker} about {theme}.",
        "This {style} {noun}, directed by {maker}, shows {theme}.",
        "{maker}'s {style} {noun} {Name} follows {theme}.",
        "In the {style} {noun} {Name}, {maker} looks at {theme}.",
    ),
    (
        "The {part} was filmed in a single take.",
        "{maker} spent {number} years preparing the {noun}.",
        "Audiences at {number} festivals gave the {noun} a long ovation.",
        "The {part} has been quoted ever since.",
        "The disc adds {number} deleted scenes and a talk with {maker}.",
        "Children and adults will enjoy the {part} alike.",
        "It's a {noun} about {theme}, told without a wasted minute.",
        '"The {part} is a small miracle," wrote the Evening Courier.',
        "Running time of the {noun}: {count} minutes.",
        "The picture has been restored and the {part} looks better than ever.",
        "Behind the jokes and the tears lies {theme}.",
        "No {style} {noun} has been more carefully photographed.",
        "The cast is excellent, and the {part} holds everything together.",
        "{maker} wrote, directed and edited the {noun} almost alone.",
        "Subtitles are available in {number} languages.",
        "Those who know {theme} will smile at the {part}.",
        "The {noun} starts slowly, yet the {part} rewards every patient viewer.",
        "It doesn't explain {theme}; it lets us watch.",
        "A second disc tells how the {part} was made.",
    ),
)
_WARES = Family(
    vocabulary.GOODS,
    vocabulary.BRANDS * 2 + vocabulary.HOUSES,
    vocabulary.RANGES,
    words(
        """(Pack of 2), (Pack of 3), with Gift Wrap, (New Model), (Set of 2), (Refurbished),
        with Free Delivery, (Limited Stock)"""
    ),
    (
        "{maker} {Name} {Style} {Noun}, {Size}, {Colour}",
        "{maker} {Colour} {Style} {Noun} ({Name} Range, {Size})",
        "{Name} {Noun} by {maker} - {Style}, {Size}, {Colour}",
        "{maker} {Size} {Style} {Noun} - {Name}, {Colour}",
    ),
    (
        "{Style} {noun} by {maker}, {Name} range, {size}, {colour}.",
        "{Colour} {style} {noun}, {size}, {maker} {Name}.",
    ),
    (
        "The {maker} {Name} {noun} in {colour} {style} is made for {theme}.",
        "This {size} {noun} by {maker} is made of {style} and suits {theme}.",
        "{maker}'s {colour} {noun} from the {Name} range is built for {theme}.",
        "With its {style} finish the {size} {Name} {noun} by {maker} is ideal for {theme}.",
    ),
    (
        "The {part} is finished by hand and checked before it leaves the workshop.",
        "It is made for {theme} and keeps its looks for years.",
        "{maker} uses only {style} that has been tested in daily use.",
        "The {colour} surface doesn't fade, chip or peel.",
        "Wipe the {part} with a damp cloth after use.",
        "In the {size} size it suits {theme}.",
        "Customers who bought the {Name} {noun} praise its {part}.",
        "The {noun} comes with a {number}-year warranty from {maker}.",
        "A spare {part} can be ordered from {maker} at any time.",
        "Every {style} {noun} of the {Name} range is packed in recycled card.",
        "Pair the {noun} with other {colour} pieces from {maker}.",
        "The {part} feels solid, and {style} is easy to care for.",
        "Whether it's for {theme} or a gift, this {noun} won't disappoint.",
        "The leaflet explains how to look after the {part}.",
        "More than {count} customers rated the {noun} as excellent.",
        "Designed for {theme}, the {noun} is safe and simple.",
        "It arrives ready to use, with the {part} already in place.",
        '"The best {noun} I have owned in {number} years," writes one customer.',
        "Thanks to {style} the {noun} is lighter than it looks.",
    ),
)

BOOKS = ((_BOOK, len(vocabulary.BOOKS)),)
OTHERS = ((_SOUND, 28), (_SCREEN, 14), (_WARES, 58))
"""Families and their weights among the records that are not books."""

EDITIONS = (
    "--This text refers to theHardcoveredition.",
    "--This text refers to thePaperbackedition.",
    "--This text refers to theHardcoveredition.",
    "--This text refers to an alternatePaperbackedition.",
    "--This text refers to theSpiral-boundedition.",
    "--This text refers to an out of print or unavailable edition of this title.",
)
TRANSLATION = " Text: English (translation)Original Language: German"

ENTITIES = (
    "Reviewers called it &quot;a pleasure from start to finish&quot;.",
    "&quot;Worth every penny,&quot; says {maker}&#x92;s oldest customer.",
    "Made with care by {maker} &amp; friends.",
    "It&#x92;s as good as it looks&#151;and easy to live with.",
    "&#x201C;We wouldn&#x2019;t be without it&#x201D;, one family told us.",
    "The box measures 12&#34; by 9&#34;.",
    "A favourite in every caf&eacute; and bistro.",
    "Copyright &copy; {maker}.",
    "Also available in three other versions&nbsp;- ask us.",
    "Winner of the &#8220;Best of the Year&#8221; award&#8230;",
    "Recommended for ages 8&#8211;80.",
    "Sold under the name {Name}&trade; since &#39;98.",
    "It&#8217;s one of a kind &ndash; and it&#8217;s affordable.",
    "A jar of &Creme; from the same house is sold apart.",
    "&#x2022; Gift wrapping available &#x2022; Fast dispatch",
    "Keeps well between 5&deg; and 40&deg;.",
    "&#x93;Simply lovely&#x94; &#x96; the Sunday Courier.",
    "Ask for the &#233;dition sp&#xE9;ciale&#133;",
    "From the home of R&B; and soul.",
    "Highly recommended &mdash; &lt;b&gt;five stars&lt;/b&gt;!",
)
"""Sentences with the entities that the real file holds, C1 and bogus ones included."""

MOJIBAKE = (
    "First seen in the Caf&Atilde;&copy; Lumi&Atilde;&uml;re.",
    "The na&#xC3;&#xAF;ve charm of it won every prize.",
    "It&acirc;&euro;&trade;s the talk of the town.",
    "A f\u00c3\u00aate for the eyes, from the Caf\u00c3\u00a9 du Nord.",
)
"""UTF-8 once read as cp1252; all but the last show it only after unescaping."""

TITLE_ENTITIES = (" &amp; More", " (Revised &amp; Enlarged)", " &quot;Classic&quot;", " &#150; New")
DOUBLED_TITLE_ENTITY = " (Tried &amp;amp; Tested)"


class Phrases(NamedTuple):
    """A noun's templates with everything filled in that does not change with the record."""

    noun: Noun
    family: Family
    titles: tuple[str, ...]
    briefs: tuple[str, ...]
    leads: tuple[str, ...]
    bodies: tuple[tuple[tuple[str, int], ...], ...]
    """Variants of all the later sentences, each with its length about as it will be printed."""


@functools.cache
def phrases(family: Family, noun: Noun) -> Phrases:
    """Fill a noun, its parts and its themes into its family's templates."""
    bodies = []
    for turn in range(len(noun.parts)):
        filled = [_fill(template, noun, turn) for template in family.bodies]
        bodies.append(tuple((text, _printed_length(text, family)) for text in filled))
    return Phrases(
        noun,
        family,
        tuple(_fill(template, noun, 0) for template in family.titles),
        tuple(_fill(template, noun, 0) for template in family.briefs),
        tuple(_fill(text, noun, turn) for text in family.leads for turn in range(len(noun.themes))),
        tuple(bodies),
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
    wares = family is _WARES
    values = {"maker": "x" * (9 if wares else 17), "Name": "x" * (7 if wares else 20)}
    values |= dict.fromkeys(("Style", "style"), "x" * (9 if family in (_BOOK, _WARES) else 6))
    values |= {"colour": "x" * 5, "size": "x" * 7, "number": "x", "count": "x" * 3}
    return len(text.format_map(values))
