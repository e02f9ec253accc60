"""Find the title that a free question means: spelling, candidates, one score for each.

A title is found by the rarest words of the question, each in the spellings that the catalogue
knows, and by every run of words that is a whole title. Reads the index; knows nothing of models.
"""

import itertools
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
_AT_ONCE = 500
# A word of so many titles tells little; with fewer letters a slip cannot be told from a word.
_LEAST_LETTERS = 4
# Words of one question looked up in other spellings: more are no title's.
_RESPELT = 24
# Of a question: characters looked through, different words weighed, characters whose order counts.
# More are no title's, and each would be compared with every candidate.
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
    """Known words, with their likeness to what was written, 0 to 1."""
    rarity: float
    """Inverse document frequency."""

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
    asked = terms(question)[:_WEIGHED]
    if not asked:
        return []
    total = db.execute("SELECT sum(rows) FROM parts").fetchone()[0]
    groups = _groups(db, asked, total, typing, respell=False)
    found = _ranked(db, question, groups, total, most)
    if found and found[0].covered > _EXPLAINED:
        return found
    # A slip of the finger may be a word too, in a catalogue that has slips of its own.
    respelt = _groups(db, asked, total, typing, respell=True)
    if respelt == groups:
        return found
    both = sorted([*found, *_ranked(db, question, respelt, total, most)], key=_order)
    best = {match.title: match for match in reversed(both)}
    return sorted(best.values(), key=_order)[:most]


def is_sure(matches: list[Match]) -> bool:
    """Tell whether the first match is meant and no other one."""
    if not matches or matches[0].score < SURE:
        return False
    return len(matches) == 1 or matches[0].score - matches[1].score >= APART


def _order(match: Match) -> tuple[float, int, str]:
    return -match.score, len(match.title), match.title


def _groups(
    db: sqlite3.Connection, asked: list[Term], total: int, typing: bool, respell: bool
) -> list[_Group]:
    known = _count(db, [term.word for term in asked])
    groups = []
    tries = _RESPELT
    for term in asked:
        spellings = {term.word: 1.0} if term.word in known else {}
        if typing and term.is_last and len(term.word) > 1:
            spellings |= dict.fromkeys(_completions(db, term.word), _COMPLETED)
        is_plain = term.weight >= _HALF or not spellings
        is_odd = (not spellings or respell) and is_plain and len(term.word) >= _LEAST_LETTERS
        if is_odd and tries:
            tries -= 1
            spellings |= {w: s for w, s in _respell(db, term.word) if w not in spellings}
        often = known | _count(db, list(spellings))
        titles = max((often[word] for word in spellings), default=0)
        groups.append(_Group(term, spellings, math.log((total + 1) / (titles + 0.5))))
    return groups


def _count(db: sqlite3.Connection, listed: Iterable[str]) -> dict[str, int]:
    """Count the titles that hold each word; unknown words are left out."""
    found: dict[str, int] = {}
    different = list(dict.fromkeys(listed))
    for start in range(0, len(different), _AT_ONCE):
        some = different[start : start + _AT_ONCE]
        marks = ",".join("?" * len(some))
        query = f"SELECT word, titles FROM words WHERE word IN ({marks})"  # noqa: S608
        found |= dict(db.execute(query, some))
    return found


def _completions(db: sqlite3.Connection, begun: str) -> list[str]:
    """Give the most frequent words that begin so."""
    query = "SELECT word FROM words WHERE word > ? AND word < ? ORDER BY titles DESC LIMIT 8"
    return [row[0] for row in db.execute(query, (begun, begun + "\U0010ffff"))]


def _respell(db: sqlite3.Connection, word: str) -> list[tuple[str, float]]:
    """Find the known words that a misspelt one may be, with their likeness."""
    grams = {word[i : i + 3] for i in range(len(word) - 2)}
    query = (
        "SELECT word, titles FROM words WHERE id IN "
        "(SELECT rowid FROM spelt WHERE spelt MATCH ? ORDER BY rank LIMIT 150)"
    )
    asked = " OR ".join(f'"{gram}"' for gram in sorted(grams))
    slips = 1 if len(word) < 8 else 2
    near = []
    for known, titles in db.execute(query, (asked,)):
        distance = OSA.distance(word, known, score_cutoff=slips)
        if 0 < distance <= slips:
            near.append((distance, -titles, known))
    return [(known, 1 - 0.1 * distance) for distance, _, known in sorted(near)[:_SPELLINGS]]


def _ranked(
    db: sqlite3.Connection, question: str, groups: list[_Group], total: int, most: int
) -> list[Match]:
    rows = _whole_titles(db, question) | _candidates(db, groups)
    likeness: dict[str, float] = {}
    for group in groups:
        for word, alike in group.spellings.items():
            likeness[word] = max(alike, likeness.get(word, 0.0))
    by_title: dict[str, list[int]] = {}
    for row, title in rows.items():
        by_title.setdefault(title, []).append(row)
    named = {title: words(title) for title in by_title}
    roughly = sorted(by_title, key=lambda title: -_rough(groups, named[title]))[:_SCORED]
    often = _count(db, [word for title in roughly for word in named[title]])
    rarity = {word: math.log((total + 1) / (count + 0.5)) for word, count in often.items()}
    asked = fold(question)[:_ORDERED]
    matches = []
    for title in roughly:
        covered = _covered(groups, named[title])
        told = {word: rarity.get(word, 0.0) for word in named[title]}
        held = sum(told[word] * likeness.get(word, 0.0) for word in told)
        share = held / max(sum(told.values()), 1e-9)
        order = fuzz.partial_ratio(asked, fold(title)[:_ORDERED]) / 100
        score = _OF_QUESTION * covered + _OF_TITLE * share + _IN_ORDER * order
        own = by_title[title]
        matches.append(Match(min(own), title, round(score, 4), len(own), covered))
    ordered = sorted(matches, key=_order)[:most]
    return [match for match in ordered if match.score >= _HALF * ordered[0].score]


def _rough(groups: list[_Group], named: list[str]) -> float:
    """Score a title by what it covers of the question, shorter ones first."""
    return _covered(groups, named) - 0.01 * len(named)


def _covered(groups: list[_Group], named: list[str]) -> float:
    """Tell which share of the question's words, by weight, a title holds."""
    held = 0.0
    there = set(named)
    for group in groups:
        held += group.weight * max((s for w, s in group.spellings.items() if w in there), default=0)
    return held / max(sum(group.weight for group in groups), 1e-9)


def _whole_titles(db: sqlite3.Connection, question: str) -> dict[int, str]:
    """Find the titles that stand in the question word for word."""
    found: dict[int, str] = {}
    keys = [whole_key(span) for span in spans(question)]
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        marks = ",".join("?" * len(some))
        query = f"SELECT id, title FROM titles WHERE whole IN ({marks}) LIMIT 200"  # noqa: S608
        found |= dict(db.execute(query, some))
    return found


def _candidates(db: sqlite3.Connection, groups: list[_Group]) -> dict[int, str]:
    """Find titles that hold the rarest words of the question: as many together as there are."""
    known = [group for group in groups if group.spellings and group.term.weight >= 0.2]
    spelt = known or [group for group in groups if group.spellings]
    rarest = sorted(spelt, key=lambda group: -group.weight)[:_RAREST]
    asked = [_any_of(group.spellings) for group in rarest]
    found: dict[int, str] = {}
    for chosen in _levels(asked):
        either = " OR ".join(f"({' AND '.join(some)})" for some in chosen)
        query = (
            "SELECT id, title FROM titles WHERE id IN "
            "(SELECT rowid FROM said WHERE said MATCH ? LIMIT ?)"
        )
        found |= dict(db.execute(query, (either, _CANDIDATES)))
        if len(found) >= _SCORED:
            break
    return found


def _levels(asked: list[str]) -> Iterator[list[tuple[str, ...]]]:
    """Choose words to ask for together: all of them, all but one, pairs of the rarest, one.

    Every choice of some of the words would take five times as long.
    """
    if not asked:
        return
    yield [tuple(asked)]
    if len(asked) > 2:
        yield list(itertools.combinations(asked, len(asked) - 1))
    if len(asked) > 3:
        yield list(itertools.combinations(asked[:_PAIRED], 2))
    for word in asked[:_PAIRED]:
        yield [(word,)]


def _any_of(spellings: Iterable[str]) -> str:
    return "(" + " OR ".join(f'"{word}"' for word in spellings) + ")"
