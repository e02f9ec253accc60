"""An invented catalogue with the real trn.json's fields, defects and proportions.

For tests, benchmarks, the sample and the demo: the description follows from the title, so that
a tiny model can learn it and a check can see that it did. It must never hold text of the real
file, and no stage but the command `synthesize` may depend on it: everything downstream treats its
output as any other raw file.

Every record is a pure function of the seed and its place in the file, so any process can make
any range. A duplicate is a record that draws at another record's place. The proportions are those
that were counted in the real file; ``tests/data/synthetic/test_records.py`` measures them.
"""

import functools
import itertools
import math
import statistics
import string
from collections.abc import Iterator
from json.encoder import encode_basestring_ascii as quote

import numpy as np
from numpy.typing import NDArray

from data.synthetic import grammar
from data.synthetic.draws import Draws, as_bytes, draw, unit
from data.synthetic.grammar import Phrases

ROWS = 2_248_619
ROWS_LIMIT = 10_000_000
"""Where the uids' numbers would run over."""
_BOOK_SHARE = 0.55
_CHUNK = 1024
# Streams of chance; ``breakage`` has the one after these.
_FATE, _ATTRIBUTES, _EDITION, _CONTENT, _TARGETS = range(5)

_EMPTY_TITLES, _EMPTY_CONTENTS, _BOTH = 126_834, 749_901, 1_390_403
_BELOW_BOTH = _BOTH / ROWS
_BELOW_TITLE = (ROWS - _EMPTY_TITLES) / ROWS
"""Up to here a record has a title; from _BELOW_BOTH on it lacks content."""
_BELOW_CONTENT = (ROWS - _EMPTY_TITLES + ROWS - _EMPTY_CONTENTS - _BOTH) / ROWS

# Of the records that have both texts. 5 % of all contents and 2.9 % of these titles repeat.
_SAME_BOTH, _SAME_CONTENT, _SAME_TITLE = 0.016, 0.038, 0.013
_CANDIDATES = 4

_TITLE_ENTITY, _TITLE_SPACES, _TITLE_LONG = 0.035, 0.003, 1 / 8192
_ENTITY, _MOJIBAKE, _SPACES, _NEWLINE = 0.16, 0.0004, 0.16, 0.012
_MOST_SENTENCES = 4
"""Sentences with entities at most: contents that hold entities hold 5.1 in the mean."""
_QUOTES = 2
"""The first sentences with entities quote: half of all entities are ``&quot;``."""
_DOUBLED = 0.05
"""Share of the entity sentences that are escaped twice."""
_EDITION_NOTE, _TRANSLATION = 0.25, 0.008
_TITLE_MAXIMUM = 1999
# Contents are log-normal up to some 10,000 characters and Pareto beyond: five in a million over
# 50,000, the longest of a full file near the real one's.
_MEDIAN, _SPREAD = 330, 1.08
_TAIL_FROM, _TAIL_TO, _TAIL_SHARE, _TAIL_POWER = 10_000, 190_000, 5.6e-5, 1.5
_LABELS, _LABELS_MEAN = 1_305_000, 21

_LENGTHS = [
    round(_MEDIAN * math.exp(_SPREAD * statistics.NormalDist().inv_cdf((step + 0.5) / 4096)))
    for step in range(4096)
]
"""Quantiles of the length of a content, from short to long."""
_TRIPLES = [
    "".join(triple)
    for triple in itertools.product(string.digits + string.ascii_uppercase, repeat=3)
]
_BRIEF = 90
"""Contents that are to be shorter than this consist of a brief sentence."""
_E, _DOUBLE, _SPACE, _NEW, _TABBED, _MOJI, _NOTE, _FOREIGN, _LONG = (1 << bit for bit in range(9))


def lines(seed: int, start: int, stop: int, total: int, defects: float = 1.0) -> Iterator[bytes]:
    """Invent the records ``start`` to ``stop - 1`` of a catalogue.

    Args:
        seed: 0 to 2**64 - 1.
        start: first record, from 0.
        stop: one past the last, at most ``total``.
        total: records in the whole catalogue; decides only where the books end.
        defects: factor on the shares of text defects, capped at 1 for each of them.

    Yields:
        JSON objects as ASCII bytes, each with its newline, sorted by uid.

    Raises:
        ValueError: the range does not lie in the catalogue.
    """
    if not 0 <= start <= stop <= total <= ROWS_LIMIT:
        raise ValueError(f"records {start} to {stop} of {total}: expected a range within")
    books = round(total * _BOOK_SHARE)
    for first in range(start, stop, _CHUNK):
        last = min(first + _CHUNK, stop)
        # A chunk holds either books or others: a duplicate stays among its like.
        for low, high, region in ((first, min(last, books), 0), (max(first, books), last, books)):
            if low < high:
                yield from _chunk(seed, np.arange(low, high), region, region == 0, defects)


def _places(
    seed: int, index: NDArray[np.int64], region: int
) -> tuple[Draws, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Decide where each record draws its attributes, its edition and its content.

    At its own place, but for a duplicate: that draws at an earlier place of its region, chosen
    among records that have both texts and are no duplicates themselves.

    Returns:
        The records' fate draws, then three arrays of places. [records]
    """
    fate = draw(seed, _FATE, index, 2 + _CANDIDATES)
    chance = unit(fate[:, 1])
    source = index.copy()
    repeats = chance < _SAME_BOTH + _SAME_CONTENT + _SAME_TITLE
    open_ones = repeats & (unit(fate[:, 0]) < _BELOW_BOTH)
    earlier = np.maximum(index - region, 1).astype(np.uint64)
    for column in range(2, 2 + _CANDIDATES):
        candidate = region + (fate[:, column] % earlier).astype(np.int64)
        other = unit(draw(seed, _FATE, candidate, 2))
        fit = (other[:, 0] < _BELOW_BOTH) & (candidate < index)
        fit &= other[:, 1] >= _SAME_BOTH + _SAME_CONTENT + _SAME_TITLE
        source = np.where(open_ones & fit, candidate, source)
        open_ones &= ~fit
    same_content = chance < _SAME_BOTH + _SAME_CONTENT
    own_edition = (chance >= _SAME_BOTH) & same_content
    edition = np.where(own_edition, index, source)
    return fate, source, edition, np.where(same_content, source, index)


def _chunk(
    seed: int, index: NDArray[np.int64], region: int, books: bool, defects: float
) -> Iterator[bytes]:
    """Write the lines of one chunk, which lies in one region of the file."""
    fate, attributes, edition, content = _places(seed, index, region)
    exists = unit(fate[:, 0])
    described = (exists < _BELOW_BOTH) | ((exists >= _BELOW_TITLE) & (exists < _BELOW_CONTENT))
    another = (attributes != index) & (edition == index)
    edition_draws, content_draws = (
        draw(seed, _EDITION, edition, 4),
        draw(seed, _CONTENT, content, 14),
    )
    rows = zip(
        _uids(seed, index, index - region, books),
        (exists < _BELOW_TITLE).tolist(),
        described.tolist(),
        another.tolist(),
        as_bytes(draw(seed, _ATTRIBUTES, attributes, 2)),
        as_bytes(edition_draws[:, :1]),
        _title_flags(edition_draws, defects),
        as_bytes(content_draws[:, :4]),
        _lengths(content_draws),
        _content_flags(content_draws, defects, books),
        _targets(seed, index),
        strict=True,
    )
    for uid, has_title, has_content, is_other, own, ed, title_flags, b, length, flags, ends in rows:
        phrases, fields = _product(own, books)
        title = _title(phrases, fields, own, ed, title_flags, is_other) if has_title else ""
        text = _content(phrases, fields, b, length, flags) if has_content else ""
        line = f'{{"uid": "{uid}", "title": {quote(title)}, "content": {quote(text)}, {ends}}}\n'
        yield line.encode("ascii")


def _uids(seed: int, index: NDArray[np.int64], place: NDArray[np.int64], books: bool) -> list[str]:
    """Number the records of a region upwards, with gaps."""
    gaps = draw(seed, _FATE, index, 8)[:, 7].astype(np.int64) & 127
    numbers = (place * 128 + gaps).tolist()
    if books:
        return [f"{number:010d}" for number in numbers]
    base = len(_TRIPLES)
    return [
        f"B0{_TRIPLES[n // base // base][1:]}{_TRIPLES[n // base % base]}{_TRIPLES[n % base]}"
        for n in numbers
    ]


def _lengths(draws: Draws) -> list[int]:
    """Draw how long each content is to be, in characters."""
    common = np.array(_LENGTHS)[(draws[:, 4] >> np.uint64(52)).astype(np.int64)]
    tail = _TAIL_FROM * np.maximum(unit(draws[:, 6]), 1e-9) ** (-1 / _TAIL_POWER)
    is_tail = unit(draws[:, 5]) < _TAIL_SHARE
    lengths = np.where(is_tail, np.minimum(tail, _TAIL_TO), common)
    values: list[int] = lengths.astype(np.int64).tolist()
    return values


def _flags(draws: Draws, shares: list[tuple[int, float]]) -> list[int]:
    """Set each flag with its share, by one column of draws each."""
    flags = np.zeros(len(draws), dtype=np.int64)
    for column, (flag, share) in enumerate(shares):
        flags |= np.where(unit(draws[:, column]) < share, flag, 0)
    values: list[int] = flags.tolist()
    return values


def _title_flags(draws: Draws, defects: float) -> list[int]:
    shares = [
        (_E, _TITLE_ENTITY * defects),
        (_SPACE, _TITLE_SPACES * defects),
        (_LONG, _TITLE_LONG),
    ]
    return _flags(draws[:, 1:], shares)


def _content_flags(draws: Draws, defects: float, books: bool) -> list[int]:
    shares = [
        (_E, _ENTITY * defects),
        (_DOUBLE, _DOUBLED),
        (_SPACE, _SPACES * defects),
        (_NEW | _TABBED, _NEWLINE * defects),
        (_MOJI, _MOJIBAKE * defects),
        (_NOTE, _EDITION_NOTE if books else 0.0),
        (_FOREIGN, _TRANSLATION if books else 0.0),
    ]
    return _flags(draws[:, 7:], shares)


def _targets(seed: int, index: NDArray[np.int64]) -> list[str]:
    """Invent the related records that the real file lists, which no stage reads."""
    words = draw(seed, _TARGETS, index, 15)
    counts = (1 + (words[:, 14] % np.uint64(2 * _LABELS_MEAN - 1))).tolist()
    thirds = [(words[:, :14] >> np.uint64(shift)) % np.uint64(_LABELS) for shift in (0, 21, 42)]
    labels = np.concatenate(thirds, axis=1).tolist()
    return [
        f'"target_ind": {row[:count]}, "target_rel": {_ones(count)}'
        for row, count in zip(labels, counts, strict=True)
    ]


@functools.cache
def _ones(count: int) -> str:
    return str([1.0] * count)


def _product(own: bytes, books: bool) -> tuple[Phrases, dict[str, str]]:
    """Choose a product and its attributes by 16 bytes."""
    families = grammar.BOOKS if books else grammar.OTHERS
    place = (own[0] | own[1] << 8) % sum(weight for _, weight in families)
    for family, weight in families:  # noqa: B007
        if place < weight:
            break
        place -= weight
    noun = family.nouns[own[2] % len(family.nouns)]
    style = noun.styles[own[3] % len(noun.styles)]
    size = noun.sizes[own[4] % len(noun.sizes)]
    colour = grammar.COLOURS[own[5] % len(grammar.COLOURS)]
    fields = {
        "maker": family.makers[(own[6] | own[7] << 8) % len(family.makers)],
        "Name": family.names[(own[8] | own[9] << 8) % len(family.names)],
        "Style": style,
        "style": style if books else style.lower(),
        "Size": size,
        "size": size.lower(),
        "Colour": colour,
        "colour": colour.lower(),
        "number": str(2 + own[10] % 28),
        "count": str(90 + (own[11] | own[12] << 8) % 800),
    }
    return grammar.phrases(family, noun), fields


def _title(
    phrases: Phrases, fields: dict[str, str], own: bytes, edition: bytes, flags: int, is_other: bool
) -> str:
    title = phrases.titles[own[13] % len(phrases.titles)].format_map(fields)
    if is_other or edition[0] < 64:
        title = f"{title} {phrases.family.suffixes[edition[1] % len(phrases.family.suffixes)]}"
    if flags & _E:
        entities = (*grammar.TITLE_ENTITIES, grammar.DOUBLED_TITLE_ENTITY)
        title += entities[edition[2] % len(entities)]
    if flags & _SPACE:
        title = title.replace(" ", "  ", 1)
    if flags & _LONG:
        title = "; ".join([title] * (2 + edition[3] % 60))[:_TITLE_MAXIMUM]
    return title


def _content(phrases: Phrases, fields: dict[str, str], b: bytes, length: int, flags: int) -> str:
    """Write a description of about a length: its first sentence names the noun."""
    marked = _marked(b, length, flags)
    if length < _BRIEF:
        written = [phrases.briefs[b[0] % len(phrases.briefs)]]
    else:
        written = [phrases.leads[b[0] % len(phrases.leads)]]
        _extend(written, phrases, b, length - sum(map(len, marked[1:])))
    for place, sentence in enumerate(marked, 4):
        written.insert(1 + b[place] % len(written), sentence)
    if flags & _MOJI:
        written.append(grammar.MOJIBAKE[b[5] % len(grammar.MOJIBAKE)])
    spacing = "  " if flags & _SPACE else " "
    if flags & (_NEW | _TABBED):
        spacing = "\t" if b[6] < 44 else "\n"
    text = spacing.join(written).format_map(fields)
    if flags & _NOTE:
        text += grammar.EDITIONS[b[7] % len(grammar.EDITIONS)]
    return text + grammar.TRANSLATION if flags & _FOREIGN else text


def _marked(b: bytes, length: int, flags: int) -> list[str]:
    """Choose the sentences that hold entities: several in longer contents."""
    if not flags & _E:
        return []
    count = 1 + b[8] % min(_MOST_SENTENCES, 1 + length // _BRIEF)
    kinds = len(grammar.ENTITIES)
    marked = [grammar.ENTITIES[choice % (_QUOTES if choice < 96 else kinds)]
              for choice in b[9 : 9 + count]]  # fmt: skip
    return [text.replace("&", "&amp;") for text in marked] if flags & _DOUBLE else marked


def _extend(written: list[str], phrases: Phrases, b: bytes, length: int) -> None:
    """Add later sentences, each once a round, until the length is reached."""
    turn, place, stride = b[1], b[2], 1 + b[3] % 18
    left = length - len(written[0])
    count = 0
    while True:
        body = phrases.bodies[turn % len(phrases.bodies)]
        text, printed = body[place % len(body)]
        if left < printed // 2 or (count > 0 and left <= 0):
            return
        written.append(text)
        left -= printed + 1
        place += stride
        count += 1
        # A round is over: the next speaks of another part.
        turn += count % len(body) == 0
