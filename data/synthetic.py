"""An invented catalogue with the real trn.json's fields, defects and proportions.

For tests, benchmarks, the sample and the demo: the description follows from the title, so that
a tiny model can learn it and a check can see that it did. It must never hold text of the real
file, and no stage but the command `synthesize` may depend on it: everything downstream treats its
output as any other raw file.

Every record is a pure function of the seed and its place in the file, so any process can make
any range. Chance comes from splitmix64 (Steele, Lea and Flood, 2014) over a counter: draw k of
record i in a stream is ``mix(key(seed, stream) + golden * (64 i + k))``, made for whole blocks in
numpy. A duplicate is a record that draws at another record's place. Proportions are those of
`shared/facts.md`, "The full trn.json"; ``tests/data/test_synthetic.py`` measures them.
"""

import collections
import concurrent.futures
import functools
import gzip
import math
import os
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from json.encoder import encode_basestring_ascii as quote
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from data import vocabulary
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
_TITLE_MAXIMUM, _CONTENT_MAXIMUM = 1999, 197_622
# Contents are log-normal up to some 10,000 characters and Pareto beyond: five in a million over
# 50,000, the longest of a full file near the real one's.
_MEDIAN, _SPREAD = 400, 0.98
_TAIL_FROM, _TAIL_SHARE, _TAIL_POWER = 10_000, 5.6e-5, 1.5
_LABELS, _LABELS_MEAN, _LABELS_NEAR = 1_305_000, 21, 4000

_TOO_LONG_BYTES = 4 * 2**20 + 1
_TOO_LONG_WINDOWS = ((0, 1_000), (1_000, 100_000), (100_000, 2_000_000))
_BROKEN_KINDS = ("invalid_json", "invalid_utf8", "not_an_object", "missing_field", "wrong_type")


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
    value = counter * np.uint64(_GOLDEN) + np.uint64(_key(seed, stream))
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return cast("Draws", value ^ (value >> np.uint64(31)))


def _unit(draws: Draws) -> NDArray[np.float64]:
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
    titled = exists < _BELOW_TITLE
    described = (exists < _BELOW_BOTH) | ((exists >= _BELOW_TITLE) & (exists < _BELOW_CONTENT))
    another = (attributes != index) & (edition == index)
    edition_draws, content_draws = (
        _draw(seed, _EDITION, edition, 4),
        _draw(seed, _CONTENT, content, 14),
    )
    rows = zip(
        _uids(seed, index, books),
        titled.tolist(),
        described.tolist(),
        another.tolist(),
        _bytes(_draw(seed, _ATTRIBUTES, attributes, 2)),
        _bytes(edition_draws[:, :1]),
        _title_flags(edition_draws, defects),
        _bytes(content_draws[:, :4]),
        _lengths(content_draws),
        _content_flags(content_draws, defects),
        _targets(seed, index),
        strict=True,
    )
    for uid, has_title, has_content, is_other, own, ed, title_flags, b, length, flags, ends in rows:
        title = text = ""
        phrases, fields = _product(own, books)
        if has_title or flags & _COPY:
            title = _title(phrases, fields, own[1], ed, title_flags, is_other)
        if has_content:
            if flags & _COPY:
                text = f"{fields['maker']}: {phrases.noun.name}. {title}"
            else:
                text = _content(phrases, fields, b, length, flags, books)
        shown = title if has_title else ""
        line = f'{{"uid": "{uid}", "title": {quote(shown)}, "content": {quote(text)}, {ends}}}\n'
        yield line.encode("ascii")
