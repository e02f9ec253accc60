"""What a question names: its words, folded, and how much each one says about the title.

Pure string work, the same when titles are indexed and when a question is read.
"""

import importlib.resources
import itertools
import re
import unicodedata
from dataclasses import dataclass

_APOSTROPHES = re.compile(r"(?<=\w)['\u2019\u02bc](?=\w)")
_WORD = re.compile(r"[^\W_]+")
# No opening mark inside: else the rest of the text is searched again for each one left open.
_PAIRED = re.compile(r"\u201c([^\u201c\u201d]+)\u201d|\u00ab([^\u00ab\u00bb]+)\u00bb")
_MARK = re.compile(r"[\"']")

FRAME = frozenset(
    importlib.resources.files("inference.ask").joinpath("frame.txt").read_text("utf-8").split()
)
"""Words, folded, that people put around a title in English and Portuguese.

A title may hold them too, so they count little, not nothing.
"""

_FRAME_WEIGHT = 0.1
_UNQUOTED_WEIGHT = 0.3


@dataclass(frozen=True)
class Term:
    """One word of a question."""

    word: str
    """Folded."""
    weight: float
    """1 where it may well be part of a title, less where it stands around one."""
    is_last: bool = False
    """Whether the question ends in it, so that it may be half typed."""


class _Folds(dict[int, str]):
    """Each character without its accents, by code point; filled as characters come."""

    def __missing__(self, code: int) -> str:
        parts = unicodedata.normalize("NFKD", chr(code))
        self[code] = "".join(part for part in parts if not unicodedata.combining(part))
        return self[code]


_FOLDS = _Folds()


def fold(text: str) -> str:
    """Fold case and accents; drop apostrophes inside words, so that ``Men's`` is ``mens``."""
    if not text.isascii():
        # One character at a time: putting many accents into Unicode's order takes quadratic time,
        # and they are dropped anyway.
        text = text.translate(_FOLDS)
    text = text.casefold()
    return _APOSTROPHES.sub("", text) if "'" in text or not text.isascii() else text


def words(text: str) -> list[str]:
    """Split a text into folded words, in order; punctuation is left out."""
    return _WORD.findall(fold(text))


def quoted(question: str) -> list[str]:
    """Return what stands between quotation marks, in time linear in the question.

    Paired marks, or plain ones that open before a word and close behind one.
    """
    listed = [next(filter(None, match.groups())) for match in _PAIRED.finditer(question)]
    opened: int | None = None
    for mark in _MARK.finditer(question):
        place, after = mark.start(), question[mark.end() : mark.end() + 1]
        if opened is not None and place > opened + 1 and not _is_letter(after):
            listed.append(question[opened + 1 : place])
            opened = None
        elif opened is None or mark[0] == '"':  # a double mark ends every quotation
            before = question[place - 1 : place] if place else ""
            opened = None if _is_letter(before) else place
    return [text for text in listed if words(text)]


def _is_letter(one: str) -> bool:
    return one.isalnum() or one == "_"


def terms(question: str) -> list[Term]:
    """Weigh the words of a question, each once, in order."""
    listed = words(question)
    named = {word for text in quoted(question) for word in words(text)}
    # Words that only frame the title would hide it where nothing else is said: "What Is This".
    only_frame = all(word in FRAME for word in listed)
    last = listed[-1] if listed else ""
    weighed = []
    for word in dict.fromkeys(listed):
        weight = 1.0
        if word in FRAME and not only_frame and word not in named:
            weight = _FRAME_WEIGHT
        elif named and word not in named:
            weight = _UNQUOTED_WEIGHT
        weighed.append(Term(word, weight, word == last))
    return weighed


def spans(question: str, most: int = 60) -> list[str]:
    """Return every run of a question's first words, spaces between: each may be a whole title."""
    listed = words(question)[:most]
    return [" ".join(listed[a:b]) for a, b in itertools.combinations(range(len(listed) + 1), 2)]


def named_title(question: str) -> str:
    """Guess the title that a question names, as written: what is quoted, or what is framed."""
    marked = quoted(question)
    if marked:
        return max(marked, key=len).strip()
    inner = [match for match in _WORD.finditer(question) if fold(match[0]) not in FRAME]
    if not inner:
        return question.strip()
    return question[inner[0].start() : inner[-1].end()]
