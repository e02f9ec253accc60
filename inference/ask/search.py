"""Find the title that a free question means: spellings, candidates, a score for each candidate.

Candidates hold the rarest words of the question, each in the spellings that the catalogue has, or
stand in the question word for word. Reads the index; knows nothing of models.
"""

import itertools
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rapidfuzz import fuzz
from rapidfuzz.distance import OSA

from inference.ask.index import whole_key
from inference.ask.query import Term, fold, spans, terms, words

SURE = 0.55
"""Score from which a title is taken as meant."""
APART = 0.04
"""How much better than the next title the best one must be, to be meant alone."""

_RAREST = 5
_PAIRED = 4
_SPELLINGS = 4
_CANDIDATES = 400
_SCORED = 60
# A shorter word that differs by one letter is as likely another word as a slip.
_LEAST_LETTERS = 4
# Words of one question looked up in other spellings; no title has more.
_RESPELT = 24
# Of a question: characters read, different words weighed, characters whose order counts. No title
# has more, and each of them would be compared with every candidate.
_READ, _WEIGHED, _ORDERED = 5_000, 120, 400
# Likeness of a word to what is typed of it so far.
_COMPLETED = 0.95
_HALF = 0.5
_EXPLAINED = 0.97
# Share of the question that the title covers, and share of the title that the question names.
_OF_QUESTION, _OF_TITLE, _IN_ORDER = 0.6, 0.36, 0.04


@dataclass(frozen=True)
class Match:
    """A title that may be meant."""

    row: int
    """In the index."""
    title: str
    score: float
    """0 to 1."""
    records: int = 1
    """How many records have this title."""
    covered: float = 0.0
    """Share of the question's words, by weight, that the title holds."""


@dataclass(frozen=True)
class _Group:
    """A word of the question in the spellings that titles have."""

    term: Term
    spellings: dict[str, float]
    """Words of titles, with their likeness to what was written, 0 to 1."""
    rarity: float

    @property
    def weight(self) -> float:
        return self.term.weight * self.rarity


def find(db: sqlite3.Connection, question: str, most: int = 5, typing: bool = False) -> list[Match]:
    """Find the titles that a question may mean, best first.

    Args:
        db: from ``open_index``.
        question: in any language and spelling.
        most: how many.
        typing: take the last word as half typed.
    """
    question = question[:_READ]
    listed = terms(question)[:_WEIGHED]
    if not listed:
        return []
    total = db.execute("SELECT sum(rows) FROM parts").fetchone()[0]
    groups = _groups(db, listed, total, typing, respell=False)
    matches = _ranked(db, question, groups, total, most)
    if matches and matches[0].covered > _EXPLAINED:
        return matches
    # A mistyped word may be a word of other titles, so words that titles have are respelt too.
    respelt = _groups(db, listed, total, typing, respell=True)
    if respelt == groups:
        return matches
    best: dict[str, Match] = {}
    for match in sorted([*matches, *_ranked(db, question, respelt, total, most)], key=_order):
        best.setdefault(match.title, match)
    return list(best.values())[:most]


def is_sure(matches: list[Match]) -> bool:
    """Return whether the first match is meant and no other one."""
    if not matches or matches[0].score < SURE:
        return False
    return len(matches) == 1 or matches[0].score - matches[1].score >= APART


def _order(match: Match) -> tuple[float, int, str]:
    return -match.score, len(match.title), match.title


def _rarity(total: int, titles: int) -> float:
    """Return the inverse document frequency of a word that so many of all titles hold."""
    return math.log((total + 1) / (titles + 0.5))


def _groups(
    db: sqlite3.Connection, listed: list[Term], total: int, typing: bool, respell: bool
) -> list[_Group]:
    as_written = _count(db, (term.word for term in listed))
    groups = []
    tries = _RESPELT
    for term in listed:
        spellings = {term.word: 1.0} if term.word in as_written else {}
        if typing and term.is_last and len(term.word) > 1:
            spellings |= dict.fromkeys(_completions(db, term.word), _COMPLETED)
        is_plain = term.weight >= _HALF or not spellings
        is_odd = (not spellings or respell) and is_plain and len(term.word) >= _LEAST_LETTERS
        if is_odd and tries:
            tries -= 1
            spellings = _respell(db, term.word) | spellings
        titles = max(_count(db, spellings).values(), default=0)
        groups.append(_Group(term, spellings, _rarity(total, titles)))
    return groups


def _count(db: sqlite3.Connection, listed: Iterable[str]) -> dict[str, int]:
    """Count the titles that hold each word; words of no title are left out."""
    query = "SELECT word, titles FROM words WHERE word IN (SELECT value FROM json_each(?))"
    return dict(db.execute(query, (json.dumps(list(listed)),)))


def _completions(db: sqlite3.Connection, begun: str) -> list[str]:
    """List the most frequent words that begin so."""
    query = "SELECT word FROM words WHERE word > ? AND word < ? ORDER BY titles DESC LIMIT 8"
    return [row[0] for row in db.execute(query, (begun, begun + "\U0010ffff"))]


def _respell(db: sqlite3.Connection, word: str) -> dict[str, float]:
    """Find the words of titles that a misspelt one may be, with their likeness."""
    query = (
        "SELECT word, titles FROM words WHERE id IN "
        "(SELECT rowid FROM spelt WHERE spelt MATCH ? ORDER BY rank LIMIT 150)"
    )
    trigrams = sorted({word[i : i + 3] for i in range(len(word) - 2)})
    slips = 1 if len(word) < 8 else 2
    near = []
    for spelling, titles in db.execute(query, (_any_of(trigrams),)):
        distance = OSA.distance(word, spelling, score_cutoff=slips)
        if 0 < distance <= slips:
            near.append((distance, -titles, spelling))
    return {spelling: 1 - 0.1 * distance for distance, _, spelling in sorted(near)[:_SPELLINGS]}


def _any_of(listed: Iterable[str]) -> str:
    """Write a full-text query for any of some words."""
    return " OR ".join(f'"{word}"' for word in listed)


def _ranked(
    db: sqlite3.Connection, question: str, groups: list[_Group], total: int, most: int
) -> list[Match]:
    """Score the titles that may be meant by these words, best first."""
    likeness: dict[str, float] = {}
    for group in groups:
        for word, alike in group.spellings.items():
            likeness[word] = max(alike, likeness.get(word, 0.0))
    rows: dict[str, list[int]] = {}
    for row, title in (_whole_titles(db, question) | _candidates(db, groups)).items():
        rows.setdefault(title, []).append(row)
    named = {title: words(title) for title in rows}
    covered = {title: _covered(groups, set(named[title])) for title in rows}
    # Of titles that cover as much of the question, the shorter ones.
    roughly = sorted(rows, key=lambda title: 0.01 * len(named[title]) - covered[title])[:_SCORED]
    counts = _count(db, {word for title in roughly for word in named[title]})
    folded = fold(question)[:_ORDERED]
    matches = []
    for title in roughly:
        rarity = {
            word: _rarity(total, counts[word]) if word in counts else 0.0 for word in named[title]
        }
        of_title = sum(rarity[word] * likeness.get(word, 0.0) for word in rarity)
        share = of_title / max(sum(rarity.values()), 1e-9)
        order = fuzz.partial_ratio(folded, fold(title)[:_ORDERED]) / 100
        score = _OF_QUESTION * covered[title] + _OF_TITLE * share + _IN_ORDER * order
        own = rows[title]
        matches.append(Match(min(own), title, round(score, 4), len(own), covered[title]))
    matches = sorted(matches, key=_order)[:most]
    return [match for match in matches if match.score >= _HALF * matches[0].score]


def _covered(groups: list[_Group], named: set[str]) -> float:
    """Return the share of the question's words, by weight, that a title's words hold."""
    covered = 0.0
    for group in groups:
        alike = (alike for word, alike in group.spellings.items() if word in named)
        covered += group.weight * max(alike, default=0)
    return covered / max(sum(group.weight for group in groups), 1e-9)


def _whole_titles(db: sqlite3.Connection, question: str) -> dict[int, str]:
    """Find the titles that stand in the question word for word."""
    keys = json.dumps([whole_key(span) for span in spans(question)])
    query = "SELECT id, title FROM titles WHERE whole IN (SELECT value FROM json_each(?)) LIMIT 800"
    return dict(db.execute(query, (keys,)))


def _candidates(db: sqlite3.Connection, groups: list[_Group]) -> dict[int, str]:
    """Find titles that hold the rarest words of the question, as many of them as there are."""
    spelt = [group for group in groups if group.spellings]
    weighty = [group for group in spelt if group.term.weight >= 0.2]
    rarest = sorted(weighty or spelt, key=lambda group: -group.weight)[:_RAREST]
    query = (
        "SELECT id, title FROM titles WHERE id IN "
        "(SELECT rowid FROM said WHERE said MATCH ? LIMIT ?)"
    )
    titles: dict[int, str] = {}
    for choices in _choices([f"({_any_of(group.spellings)})" for group in rarest]):
        match = " OR ".join(f"({' AND '.join(choice)})" for choice in choices)
        titles |= dict(db.execute(query, (match, _CANDIDATES)))
        if len(titles) >= _SCORED:
            break
    return titles


def _choices(rarest: list[str]) -> Iterator[list[tuple[str, ...]]]:
    """Choose words to ask for together: all of them, all but one, pairs of the rarest, one.

    Every choice of some of the words would take five times as long.
    """
    if not rarest:
        return
    yield [tuple(rarest)]
    if len(rarest) > 2:
        yield list(itertools.combinations(rarest, len(rarest) - 1))
    if len(rarest) > 3:
        yield list(itertools.combinations(rarest[:_PAIRED], 2))
    for word in rarest[:_PAIRED]:
        yield [(word,)]
