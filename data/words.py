"""Words of a text in any script, so that no metric counts a text as empty that is not English.

A word is a run of letters, digits and their marks; in scripts that put no spaces between words it
is a single character with its marks, as in sacrebleu's ``char``. ASCII texts give the words that
rouge-score's own tokenizer gives. Pure: strings in, strings out.
"""

import functools
import itertools
import re
import unicodedata
from typing import Any

_ASCII_WORD = re.compile("[a-z0-9]+")
# Other shapes of ASCII characters, and invisible ones.
_SAME = {0x66A: "%", 0x66B: ".", 0x66C: ","}
_SAME |= dict.fromkeys((0xAD, 0x200C, 0x200D, 0x200E, 0x200F, 0x2060, 0xFEFF), "")
# Chinese, Japanese and Yi; Thai, Lao, Khmer, Burmese and their relatives are Unicode's line break
# class SA, whose words only a dictionary parts (UAX #14).
_UNSPACED = (
    r"[[\p{L}\p{N}]&&[\p{LineBreak=SA}"
    r"\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{scx=Bopo}\p{scx=Yiii}]]"
)
_EMOJI = r"\p{Emoji_Presentation}|\p{Extended_Pictographic}\uFE0F"
_PATTERNS = {
    "word": rf"{_UNSPACED}\p{{M}}*"
    rf"|[[\p{{L}}\p{{N}}]--{_UNSPACED}][[\p{{L}}\p{{N}}\p{{M}}]--{_UNSPACED}]*|{_EMOJI}",
    "unspaced": rf"{_UNSPACED}\p{{M}}*",
    "run": rf"(?:{_UNSPACED}\p{{M}}*)+",
    # A Korean syllable is two or three letters.
    "long": rf"\p{{Hangul}}{{2,}}|[\p{{L}}--{_UNSPACED}][[\p{{L}}\p{{M}}]--{_UNSPACED}]{{2,}}",
    "digit": r"\p{Nd}",
    "wide": r"[\uFF01-\uFFEF\u3000]+",
    "sign": r"\X",
    # No ASCII character folds together with what stands before it.
    "apart": r"[\x00-\x7F]?[^\x00-\x7F]+|[\x00-\x7F]",
}


@functools.cache
def _pattern(name: str) -> Any:
    import regex  # comes with transformers and with sacrebleu

    return regex.compile(_PATTERNS[name], regex.VERSION1)


def fold(text: str) -> str:
    """Fold case, full-width forms, digits of all scripts to 0-9, and drop invisible signs."""
    if text.isascii():
        return text.lower()
    narrow = _pattern("wide").sub(lambda wide: unicodedata.normalize("NFKC", wide[0]), text)
    plain = unicodedata.normalize("NFC", narrow.translate(_SAME).casefold())
    return str(_pattern("digit").sub(lambda digit: str(unicodedata.decimal(digit[0])), plain))


def words(text: str) -> list[str]:
    """Return the words of a text, folded, in order; punctuation is none, an emoji is one."""
    return list((_ASCII_WORD if text.isascii() else _pattern("word")).findall(fold(text)))


def apart(text: str) -> str:
    """Set the characters of scripts without spaces apart by spaces; other text stays as it is."""
    if text.isascii():
        return text
    return str(_pattern("unspaced").sub(r" \g<0> ", text))


def is_unspaced(text: str) -> bool:
    """Return whether a text holds characters of a script without spaces."""
    return not text.isascii() and _pattern("unspaced").search(text) is not None


def places(text: str) -> list[tuple[int, int]]:
    """Return for each character of the folded text what it was folded from: (begin, end)."""
    pieces: list[str] = []
    for piece in list(text) if text.isascii() else _pattern("apart").findall(text):
        signs = [piece] if piece.isascii() else _pattern("sign").findall(piece)
        pieces += signs if "".join(map(fold, signs)) == fold(piece) else [piece]
    spans: list[tuple[int, int]] = []
    end = 0
    for piece in pieces:
        begin, end = end, end + len(piece)
        spans += [(begin, end)] * len(fold(piece))
    return spans


def long_words(folded: str) -> list[str]:
    """Return the words of three letters or more of a folded text, of scripts with spaces."""
    return list(_pattern("long").findall(folded))


def runs(folded: str) -> list[list[str]]:
    """Return the runs of characters of scripts without spaces, each as its characters."""
    if folded.isascii():
        return []
    return [_pattern("unspaced").findall(run) for run in _pattern("run").findall(folded)]


def spans(folded: str) -> list[tuple[int, int]]:
    """Return where the long words of a folded text stand, and the pairs of neighbours of runs."""
    found = [word.span() for word in _pattern("long").finditer(folded)]
    for run in [] if folded.isascii() else _pattern("run").finditer(folded):
        signs = [sign.span() for sign in _pattern("unspaced").finditer(folded, *run.span())]
        found += [(a[0], b[1]) for a, b in itertools.pairwise(signs)] or signs
    return sorted(found)
