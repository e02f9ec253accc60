"""An invented catalogue with the real trn.json's fields, defects and proportions.

For tests, benchmarks, the sample and the demo: the description follows from the title, so that
a tiny model can learn it and a check can see that it did. It must never hold text of the real
file, and no stage but the command `synthesize` may depend on it: everything downstream treats its
output as any other raw file.

Every record is a pure function of the seed and its place in the file, so any process can make
any range. Chance comes from splitmix64 (Steele, Lea and Flood, 2014) over a counter: draw k of
record i in a stream is ``mix(key(seed, stream) + golden * (64 i + k))``, made for whole blocks in
numpy. A duplicate is a record that draws at another record's place. The proportions are those that
were counted in the real file; ``tests/data/test_synthetic.py`` measures them.
"""

import collections
import concurrent.futures
import contextlib
import functools
import gzip
import itertools
import math
import os
import re
import statistics
import string
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from json.encoder import encode_basestring_ascii as quote
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from data import vocabulary
from data.cli import Progress, say
from data.errors import ConfigError
from data.vocabulary import Phrases

Draws = NDArray[np.uint64]

ROWS = 2_248_619
ROWS_LIMIT = 10_000_000
"""Where the uids' numbers would run over."""
_BOOK_SHARE = 0.55
_CHUNK = 1024
_BLOCK = 8192
"""Records a task of the process pool: some 7 MB."""
_GOLDEN, _MASK = 0x9E3779B97F4A7C15, 2**64 - 1
_FATE, _ATTRIBUTES, _EDITION, _CONTENT, _TARGETS, _BREAKAGE = range(6)

_EMPTY_TITLES, _EMPTY_CONTENTS, _BOTH = 126_834, 749_901, 1_390_403
_BELOW_BOTH = _BOTH / ROWS
_BELOW_TITLE = (ROWS - _EMPTY_TITLES) / ROWS
"""Up to here a record has a title; from _BELOW_BOTH on it lacks content."""
_BELOW_CONTENT = (ROWS - _EMPTY_TITLES + ROWS - _EMPTY_CONTENTS - _BOTH) / ROWS

# Of the records that have both texts. 5 % of all contents and 2.9 % of these titles repeat.
_SAME_BOTH, _SAME_CONTENT, _SAME_TITLE = 0.016, 0.038, 0.013
_CANDIDATES = 4

_TITLE_ENTITY, _TITLE_SPACES, _TITLE_LONG = 0.035, 0.003, 1 / 8192
_ENTITY, _MOJIBAKE, _SPACES, _NEWLINE, _TAB = 0.16, 0.0004, 0.16, 0.012, 0.0025
_DOUBLED = 0.05
"""Share of the entity sentences that are escaped twice."""
_EDITION_NOTE, _TRANSLATION = 0.25, 0.008
_COPIED_TITLE = 0.012
"""Share of contents that only say their title again, as short ones in the real file do."""
_APOSTROPHES = ("&#x92;", "&#x2019;", "&#39;", "&#8217;", "&rsquo;", "'")
_TITLE_MAXIMUM = 1999
# Contents are log-normal up to some 10,000 characters and Pareto beyond: five in a million over
# 50,000, the longest of a full file near the real one's.
_MEDIAN, _SPREAD = 330, 1.08
_TAIL_FROM, _TAIL_TO, _TAIL_SHARE, _TAIL_POWER = 10_000, 190_000, 5.6e-5, 1.5
_LABELS, _LABELS_MEAN, _LABELS_NEAR = 1_305_000, 21, 4000

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
_E, _DOUBLE, _SPACE, _NEW, _TABBED, _MOJI, _NOTE, _FOREIGN, _COPY, _LONG = (
    1 << bit for bit in range(10)
)

_TOO_LONG_BYTES = 4 * 2**20 + 1
_TOO_LONG_AT = (700, 70_000, 1_400_000)
"""Records that are broken by their length: few, as each takes 4 MiB."""
_BROKEN_KINDS = ("invalid_json", "invalid_utf8", "not_an_object", "missing_field", "wrong_type")
_NO_OBJECTS = (b"[1, 2, 3]", b'"a text"', b"null", b"17")


@dataclass(frozen=True)
class SynthesizeConfig:
    """What to invent, and where it goes."""

    out: str = "data/store/raw/trn.json"
    """File to write; compressed where the name ends in `.gz`."""

    rows: int = ROWS
    """Lines; the default is the real file's number."""

    seed: int = 3407
    """Same seed, same bytes."""

    defects: float = 1.0
    """Factor on the real shares of entities, mojibake and odd white space; 0 gives clean text."""

    broken_share: float = 0.0
    """Share of lines broken in the ways that end in quarantine, 0 to 1."""

    workers: int | None = None
    """Processes; one a core where null."""

    def __post_init__(self) -> None:
        if not self.out or self.out.endswith("/"):
            raise ConfigError("--out", "a file name", repr(self.out))
        if not 1 <= self.rows <= ROWS_LIMIT:
            raise ConfigError("--rows", f"1 to {ROWS_LIMIT}", str(self.rows))
        if not 0 <= self.seed <= _MASK:
            raise ConfigError("--seed", "0 to 2**64 - 1", str(self.seed))
        if not 0 <= self.defects < math.inf:
            raise ConfigError("--defects", "a factor of at least 0", str(self.defects))
        if not 0 <= self.broken_share <= 1:
            raise ConfigError("--broken_share", "0 to 1", str(self.broken_share))
        if self.workers is not None and self.workers < 1:
            raise ConfigError("--workers", "at least 1", str(self.workers))


def lines(seed: int, start: int, stop: int, total: int, defects: float = 1.0) -> Iterator[bytes]:
    """Invent the records ``start`` to ``stop - 1`` of a catalogue.

    Args:
        seed: 0 to 2**64 - 1.
        start: first record, from 0.
        stop: one past the last, at most ``total``.
        total: records in the whole catalogue; decides only where the books end.
        defects: factor on the shares of text defects, each capped at 1.

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


def noun_of(title: str) -> str | None:
    """Name the product that a repaired title of this catalogue is about.

    Returns:
        The noun in lower case, as every description of the product has it; None where the title
        names none.
    """
    found = _noun_pattern().search(title)
    return found[0].lower() if found else None


@functools.cache
def _noun_pattern() -> re.Pattern[str]:
    longest_first = sorted(vocabulary.NOUNS, key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(longest_first)})\b", re.IGNORECASE)


def _mix(value: int) -> int:
    """Finish one splitmix64 draw."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)


def _key(seed: int, stream: int) -> int:
    return _mix(_mix((seed + _GOLDEN) & _MASK) + stream * _GOLDEN & _MASK)


def _draw(seed: int, stream: int, index: NDArray[np.int64], words: int) -> Draws:
    """Draw 64-bit words at the given places. [places, words], words at most 64."""
    counter = index.astype(np.uint64)[:, None] * np.uint64(64) + np.arange(words, dtype=np.uint64)
    value = cast("Draws", counter * np.uint64(_GOLDEN) + np.uint64(_key(seed, stream)))
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _unit(draws: NDArray[Any]) -> NDArray[np.float64]:
    """Map words to [0, 1), exactly alike on every machine."""
    return (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _bytes(draws: Draws) -> list[bytes]:
    """Give each row's words as bytes, each of which then makes one choice."""
    width = draws.shape[1] * 8
    raw = draws.astype("<u8").tobytes()
    return [raw[place : place + width] for place in range(0, len(raw), width)]


def _places(
    seed: int, index: NDArray[np.int64], region: int
) -> tuple[Draws, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Decide where each record draws its attributes, its edition and its content.

    Its own place, except a duplicate: that draws at an earlier place of its region, chosen among
    records that have both texts and are no duplicates themselves, so that what it repeats is
    there.

    Returns:
        The records' fate draws, then three arrays of places. [records]
    """
    fate = _draw(seed, _FATE, index, 2 + _CANDIDATES)
    chance = _unit(fate[:, 1])
    source = index.copy()
    found = np.zeros(len(index), dtype=bool)
    wanted = (chance < _SAME_BOTH + _SAME_CONTENT + _SAME_TITLE) & (_unit(fate[:, 0]) < _BELOW_BOTH)
    earlier = np.maximum(index - region, 1).astype(np.uint64)
    for column in range(2, 2 + _CANDIDATES):
        candidate = region + (fate[:, column] % earlier).astype(np.int64)
        other = _unit(_draw(seed, _FATE, candidate, 2))
        fit = (other[:, 0] < _BELOW_BOTH) & (candidate < index)
        fit &= other[:, 1] >= _SAME_BOTH + _SAME_CONTENT + _SAME_TITLE
        source = np.where(wanted & fit & ~found, candidate, source)
        found |= wanted & fit
    same_content = chance < _SAME_BOTH + _SAME_CONTENT
    own_edition = (chance >= _SAME_BOTH) & same_content
    edition = np.where(own_edition, index, source)
    return fate, source, edition, np.where(same_content, source, index)


def _chunk(
    seed: int, index: NDArray[np.int64], region: int, books: bool, defects: float
) -> Iterator[bytes]:
    """Make the lines of one chunk, which lies in one region of the file."""
    fate, attributes, edition, content = _places(seed, index, region)
    exists = _unit(fate[:, 0])
    described = (exists < _BELOW_BOTH) | ((exists >= _BELOW_TITLE) & (exists < _BELOW_CONTENT))
    another = (attributes != index) & (edition == index)
    edition_draws, content_draws = (
        _draw(seed, _EDITION, edition, 4),
        _draw(seed, _CONTENT, content, 14),
    )
    rows = zip(
        _uids(seed, index, index - region, books),
        (exists < _BELOW_TITLE).tolist(),
        described.tolist(),
        another.tolist(),
        _bytes(_draw(seed, _ATTRIBUTES, attributes, 2)),
        _bytes(edition_draws[:, :1]),
        _title_flags(edition_draws, defects),
        _bytes(content_draws[:, :4]),
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
    gaps = _draw(seed, _FATE, index, 8)[:, 7].astype(np.int64) & 127
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
    tail = _TAIL_FROM * np.maximum(_unit(draws[:, 6]), 1e-9) ** (-1 / _TAIL_POWER)
    is_tail = _unit(draws[:, 5]) < _TAIL_SHARE
    lengths: list[int] = (
        np.where(is_tail, np.minimum(tail, _TAIL_TO), common).astype(np.int64).tolist()
    )
    return lengths


def _flags(draws: Draws, shares: list[tuple[int, float]]) -> NDArray[np.int64]:
    """Set each flag with its share, by one column of draws each."""
    flags = np.zeros(len(draws), dtype=np.int64)
    for column, (flag, share) in enumerate(shares):
        flags |= np.where(_unit(draws[:, column]) < share, flag, 0)
    return flags


def _title_flags(draws: Draws, defects: float) -> list[int]:
    shares = [
        (_E, _TITLE_ENTITY * defects),
        (_SPACE, _TITLE_SPACES * defects),
        (_LONG, _TITLE_LONG),
    ]
    flags: list[int] = _flags(draws[:, 1:], shares).tolist()
    return flags


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
    flags: list[int] = _flags(draws[:, 7:], shares).tolist()
    return flags


def _targets(seed: int, index: NDArray[np.int64]) -> list[str]:
    """Invent the related records that the real file lists, which no stage reads."""
    words = _draw(seed, _TARGETS, index, 15)
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
    families = vocabulary.BOOKS if books else vocabulary.OTHERS
    place = (own[0] | own[1] << 8) % sum(weight for _, weight in families)
    for family, weight in families:  # noqa: B007
        if place < weight:
            break
        place -= weight
    noun = family.nouns[own[2] % len(family.nouns)]
    style = noun.styles[own[3] % len(noun.styles)]
    size = noun.sizes[own[4] % len(noun.sizes)]
    colour = vocabulary.COLOURS[own[5] % len(vocabulary.COLOURS)]
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
    return vocabulary.phrases(family, noun), fields


def _title(
    phrases: Phrases, fields: dict[str, str], own: bytes, edition: bytes, flags: int, is_other: bool
) -> str:
    title = phrases.titles[own[13] % len(phrases.titles)].format_map(fields)
    if is_other or edition[0] < 64:
        title = f"{title} {phrases.family.suffixes[edition[1] % len(phrases.family.suffixes)]}"
    if flags & _E:
        entities = (*vocabulary.TITLE_ENTITIES, vocabulary.DOUBLED_TITLE_ENTITY)
        title += entities[edition[2] % len(entities)]
    if flags & _SPACE:
        title = title.replace(" ", "  ", 1)
    if flags & _LONG:
        title = "; ".join([title] * (2 + edition[3] % 60))[:_TITLE_MAXIMUM]
    return title


def _content(phrases: Phrases, fields: dict[str, str], b: bytes, length: int, flags: int) -> str:
    """Write a description of about a length: its first sentence names the noun."""
    if length < _BRIEF:
        sentences = [phrases.briefs[b[0] % len(phrases.briefs)]]
    else:
        sentences = [phrases.leads[b[0] % len(phrases.leads)]]
        _extend(sentences, phrases, b, length)
    if flags & _E:
        sentences.insert(1 + b[4] % len(sentences), _entity(b, flags))
    if flags & _MOJI:
        sentences.append(vocabulary.MOJIBAKE[b[5] % len(vocabulary.MOJIBAKE)])
    spacing = "  " if flags & _SPACE else " "
    if flags & (_NEW | _TABBED):
        spacing = "\t" if b[6] < 44 else "\n"
    text = spacing.join(sentences).format_map(fields)
    if flags & _NOTE:
        text += vocabulary.EDITIONS[b[7] % len(vocabulary.EDITIONS)]
    return text + vocabulary.TRANSLATION if flags & _FOREIGN else text


def _extend(sentences: list[str], phrases: Phrases, b: bytes, length: int) -> None:
    """Add later sentences, each once a round, until the length is reached."""
    turn, place, stride = b[1], b[2], 1 + b[3] % 18
    left = length - len(sentences[0])
    count = 0
    while True:
        body = phrases.bodies[turn % len(phrases.bodies)]
        text, printed = body[place % len(body)]
        if left < printed // 2 or (count > 0 and left <= 0):
            return
        sentences.append(text)
        left -= printed + 1
        place += stride
        count += 1
        # A round is over: the next speaks of another part.
        turn += count % len(body) == 0


def _entity(b: bytes, flags: int) -> str:
    sentence = vocabulary.ENTITIES[b[5] % len(vocabulary.ENTITIES)]
    return sentence.replace("&", "&amp;") if flags & _DOUBLE else sentence


def broken_kind(seed: int, place: int, broken_share: float) -> str | None:
    """Tell how ``write`` breaks a record: a reason of quarantine, or None."""
    if broken_share and place in _TOO_LONG_AT:
        return "line_too_long"
    draw = _mix((place * 64 * _GOLDEN + _key(seed, _BREAKAGE)) & _MASK)
    if (draw >> 11) * 2.0**-53 >= broken_share:
        return None
    return _BROKEN_KINDS[draw % len(_BROKEN_KINDS)]


def _break(line: bytes, kind: str, place: int) -> bytes:
    """Break a line in the way that ends in quarantine for this reason."""
    if kind == "line_too_long":
        return line.replace(b'"content": "', b'"content": "' + b"x" * _TOO_LONG_BYTES, 1)
    if kind == "invalid_json":
        return line[: len(line) // 2] + b"\n"
    if kind == "invalid_utf8":
        return line.replace(b'"title": "', b'"title": "caf\xe9 ', 1)
    if kind == "not_an_object":
        return _NO_OBJECTS[place % len(_NO_OBJECTS)] + b"\n"
    if kind == "missing_field":
        return line.replace(b'"title": ', b'"tital": ', 1)
    return re.sub(rb'"uid": "(\w+)"', rb'"uid": 17', line, count=1)


def block(config: SynthesizeConfig, start: int) -> bytes:
    """Make the lines of one block, broken ones among them: the task of a worker process."""
    stop = min(start + _BLOCK, config.rows)
    made = lines(config.seed, start, stop, config.rows, config.defects)
    if not config.broken_share:
        return b"".join(made)
    kept = []
    for place, line in enumerate(made, start):
        kind = broken_kind(config.seed, place, config.broken_share)
        kept.append(_break(line, kind, place) if kind else line)
    return b"".join(kept)


def write(config: SynthesizeConfig) -> tuple[int, int]:
    """Write the file, in order and with bounded memory; it appears only when whole.

    Returns:
        Lines and bytes, before compression.
    """
    target = Path(config.out)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".tmp-{target.name}")
    written = 0
    workers = config.workers or len(os.sched_getaffinity(0))
    with (
        temporary.open("wb") as raw,
        _stream(raw, target.suffix == ".gz") as file,
        concurrent.futures.ProcessPoolExecutor(workers) as pool,
        Progress("synthesize", config.rows, "lines") as progress,
    ):
        starts = iter(range(0, config.rows, _BLOCK))
        waiting = collections.deque(
            pool.submit(block, config, s) for s in islice(starts, 2 * workers)
        )
        while waiting:
            made = waiting.popleft().result()
            waiting.extend(pool.submit(block, config, s) for s in islice(starts, 1))
            file.write(made)
            written += len(made)
            progress.advance(made.count(b"\n"))
    os.replace(temporary, target)
    return config.rows, written


def _stream(raw: IO[bytes], compress: bool) -> Any:
    """Compress without a name or time in the header, so that the bytes are the same each time."""
    if not compress:
        return contextlib.nullcontext(raw)
    return gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0)


def run(config: SynthesizeConfig) -> None:
    """Invent a catalogue."""
    count, size = write(config)
    say(f"{config.out}: {count:,} lines, {size / 1e6:,.1f} MB before compression")
