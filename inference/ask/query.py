"""What a question names: its words, folded, and how much each one tells of a title.

Pure string work, the same when titles are indexed and when a question is read. Knows nothing of
databases.
"""

import re
import unicodedata
from dataclasses import dataclass

_APOSTROPHES = re.compile(r"(?<=\w)['\u2019\u02bc](?=\w)")
_WORD = re.compile(r"[^\W_]+")
# Without an opening mark inside, so that one that is never closed is not looked through again.
_PAIRED = re.compile(r"\u201c([^\u201c\u201d]+)\u201d|\u00ab([^\u00ab\u00bb]+)\u00bb")
_MARK = re.compile(r"[\"']")

# What people say around a title. They may stand in one too, so they count little, not nothing.
_ENGLISH = """
a about an and any anything are as at be been being buy by can could describe description did do
does for from get give good has have help hello hey hi how i if in info information into is it its
kind know like lets like looking may me might more much my need of offer on one or our out please
product purchase really recommend say says she should show so some someone something sort summarise
summarize summary tell than thank thanks that the their them there these they thing think this those
to us want wants was we were what whats which who whom whose why will with work would write you your
"""
_PORTUGUESE = """
acha ai ainda algo alguem alguma algum ao aos aquela aquele as bom boa busco com como comprar compro
conta conte contar da das de dele dela descreva descrever descricao detalhes diga dizer do dos e ela
ele em entre era essa esse esta este eu explica explique fala falar fale favor foi gostaria ha info
informacao informacoes isso isto la lhe mais mas me meu minha mim na nao nas no nos o oi ola onde os
ou para pela pelo pode poderia por porque posso pra preciso procuro produto quais qual quando que
quem quero queria saber se sera serve seu sim sobre sua tem tenho ter titulo trata tudo um uma umas
uns vale voce
"""
FRAME = frozenset((_ENGLISH + _PORTUGUESE).split())
"""Words that a question is built of, folded."""

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
    """What each character is without its accents, by code point; learned as they come."""

    def __missing__(self, code: int) -> str:
        parts = unicodedata.normalize("NFKD", chr(code))
        self[code] = "".join(each for each in parts if not unicodedata.combining(each))
        return self[code]


_FOLDS = _Folds()


def fold(text: str) -> str:
    """Fold case and accents; drop apostrophes inside words, so that ``Men's`` is ``mens``."""
    if not text.isascii():
        # A character at a time: Unicode's own order of accents takes quadratic time to make, and
        # they go anyway.
        text = text.translate(_FOLDS)
    text = text.casefold()
    return _APOSTROPHES.sub("", text) if "'" in text or not text.isascii() else text


def words(text: str) -> list[str]:
    """Split a text into folded words, in order; punctuation is left out."""
    return _WORD.findall(fold(text))


def quoted(question: str) -> list[str]:
    """Give what stands between quotation marks, in time linear in the question.

    Paired marks, or plain ones that open before a word and close behind one.
    """
    listed = [next(filter(None, match.groups())) for match in _PAIRED.finditer(question)]
    opened: int | None = None
    for mark in _MARK.finditer(question):
        place, after = mark.start(), question[mark.end() : mark.end() + 1]
        if opened is not None and place > opened + 1 and not _is_letter(after):
            listed.append(question[opened + 1 : place])
            opened = None
        elif opened is None or mark[0] == '"':  # nothing quoted goes on over a double mark
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
    """Give every run of words of a question, spaces between: what a whole title could be.

    Args:
        question: of any length.
        most: look at so many words only.
    """
    listed = words(question)[:most]
    return [
        " ".join(listed[start:stop])
        for start in range(len(listed))
        for stop in range(start + 1, len(listed) + 1)
    ]


def named_title(question: str) -> str:
    """Guess the title that a question names, as written: what is quoted, or what is framed."""
    marked = quoted(question)
    if marked:
        return max(marked, key=len).strip()
    found = list(_WORD.finditer(question))
    inner = [each for each in found if fold(each.group()) not in FRAME]
    if not inner:
        return question.strip()
    return question[inner[0].start() : inner[-1].end()]
