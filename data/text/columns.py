"""Repair of text columns at Arrow speed.

Pure: no I/O, no Dask. Defined by one line, ``repair``; the column form must agree with it on
every string. It hands every text to that line unless it can prove what the line returns; the
proofs stand beside the steps, and property tests check them.
"""

import functools
import html
import re
import unicodedata
import warnings

import ftfy
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ftfy import badness, chardata, fixes

from data.text import joined

# Printable ASCII without ``&``, single spaces between words: nothing that html.unescape or a
# fixer of ftfy acts on (they look for ``&``, control characters and non-ASCII).
_MAY_CHANGE = r"[^ -~]|&|  |^ | $"
# What ftfy unescapes once more, control characters but tabs and line ends, all but ASCII.
_NOT_PLAIN = rf"{chardata.HTML_ENTITY_RE.pattern}|[^\t\n\r -~]"
_WIDE_SPACE = "[" + "".join(chr(c) for c in range(0x80, 0x10000) if chr(c).isspace()) + "]"
# ftfy works line by line and cuts longer lines, perhaps between characters that belong together.
_LONGEST_LINE = 1_000_000


def repair(raw: str) -> str:
    """Repair one text: unescape HTML, fix mojibake and odd characters, collapse white space."""
    return " ".join(ftfy.fix_text(html.unescape(raw)).split())


def repair_column(column: pa.StringArray) -> pa.StringArray:
    """Repair every text of a string column.

    A text without a match of ``_MAY_CHANGE`` is its own repair, so only the others are touched.

    Args:
        column: [rows] string without nulls.

    Returns:
        [rows] string, element by element ``repair`` of the input.
    """
    touched = pc.match_substring_regex(column, _MAY_CHANGE)
    raw = column.filter(touched)
    if not len(raw):
        return column
    return pc.replace_with_mask(column, touched, _repair_all(raw))


def _repair_all(raw: pa.StringArray) -> pa.StringArray:
    """Repair texts of which each may change.

    A text that unescapes to ASCII without entities or control characters needs no ftfy: its
    encoding search leaves ASCII alone, and its other fixers look for what is not there.
    """
    texts = joined.unescape(raw)
    odd = pc.match_substring_regex(texts, _NOT_PLAIN)
    if pc.any(odd).as_py():
        texts = pc.replace_with_mask(texts, odd, _repair_odd(texts.filter(odd)))
    return joined.collapse(texts)


def _repair_odd(texts: pa.StringArray) -> pa.StringArray:
    """Repair texts that are unescaped once; of their white space only what is not ASCII.

    Those that ``_is_settled`` both before and after ``straighten``, once they are unescaped as
    ftfy would, need no ftfy: its first pass then unescapes and straightens, its second nothing.
    """
    refers = _matches(texts, "&")
    again = [_unescape_again(text) for text in texts.filter(pa.array(refers)).to_pylist()]
    short = joined.replace(texts, refers, (text or "" for text in again))
    straight = joined.straighten(short)
    changed = pc.not_equal(short, straight)
    # At once: RE2 takes as long to read the expression as to look at a hundred texts.
    both = _is_settled(pa.concat_arrays([short, straight.filter(changed)]))
    settled, after = both[: len(short)], both[len(short) :]
    settled[changed.to_numpy(zero_copy_only=False)] &= after
    settled[np.flatnonzero(refers)[[text is None for text in again]]] = False
    rest = texts.filter(pa.array(~settled)).to_pylist()
    straight = joined.replace(straight, ~settled, map(ftfy.fix_text, rest))
    wide = _matches(straight, _WIDE_SPACE)
    split = (text.split() for text in straight.filter(pa.array(wide)).to_pylist())
    return joined.replace(straight, wide, map(" ".join, split))


def _matches(texts: pa.StringArray, expression: str) -> np.ndarray:
    found: np.ndarray = pc.match_substring_regex(texts, expression).to_numpy(zero_copy_only=False)
    return found


def _unescape_again(text: str) -> str | None:
    """Unescape entities as the first pass of ftfy does, where all its further ones find none.

    ftfy unescapes line by line, from a line that holds ``<`` on no more; without a line break or
    without ``<`` the whole text has one answer. Straight quotes make no entity of what was none.

    Returns:
        The text after the first pass's unescaping; None where that is not certain.
    """
    if len(text) >= _LONGEST_LINE:
        return None
    if "<" in text:
        return None if "\n" in text else text
    once: str = fixes.unescape_html(text)
    return once if "&" not in once or fixes.unescape_html(once) == once else None


def _is_settled(column: pa.StringArray) -> np.ndarray:
    """Whether ftfy would change nothing but what ``straighten`` does in each text: bool [texts].

    True only where no fixer of ftfy has anything else to act on: no match of its badness
    expression (or the encoding search would begin), no character of its translation tables, no
    control, C1 or line-breaking character, and the text is in NFC already. Entities are the
    caller's.
    """
    pattern = _unsettled_pattern()
    if pattern is None:
        return np.zeros(len(column), dtype=bool)
    unsettled = _matches(column, pattern)
    short = pc.less(pc.utf8_length(column), _LONGEST_LINE).to_numpy(zero_copy_only=False)
    texts = column.to_pylist()
    composed = np.fromiter((unicodedata.is_normalized("NFC", text) for text in texts), dtype=bool)
    settled: np.ndarray = ~unsettled & short & composed
    return settled


@functools.cache
def _unsettled_pattern() -> str | None:
    """Build the RE2 expression of what makes ftfy act, from the installed ftfy's own tables.

    Not at the import: pyarrow's first array of a process imports pandas, and a driver needs none.

    Returns:
        The expression, or None where it cannot be derived; then every text goes through ftfy.
    """
    tables = chardata.LIGATURES | chardata.WIDTH_MAP | chardata.CONTROL_CHARS
    # Line breaks that ftfy turns to newlines, and C1: beyond its tables.
    points = {*tables, 0x1B, 0x2028, 0x2029, *range(0x80, 0xA0)}
    listed = "".join(f"\\x{{{point:x}}}" for point in sorted(points))
    try:
        pattern = "|".join([to_re2(badness.BADNESS_RE), f"[{listed}]"])
        pc.match_substring_regex(pa.array([""]), f"(?ms){pattern}")
    except (ValueError, pa.ArrowInvalid) as error:
        warnings.warn(f"this ftfy takes the slow path: {error}", stacklevel=2)
        return None
    return f"(?ms){pattern}"


def to_re2(expression: re.Pattern[str]) -> str:
    r"""Translate a verbose expression of Python's to one of RE2's that matches at least as much.

    Comments and white space go; ``\s`` and ``\w`` become every character that either library
    could take for one; with the flags ``(?ms)``, ``.`` matches newlines and ``^`` after each.

    Raises:
        ValueError: it uses a feature that this does not know.
    """
    if expression.flags != re.VERBOSE | re.UNICODE:
        raise ValueError(f"expected a verbose expression, found flags {expression.flags}")
    wide = {"s": r"(?:[\x00-\x20]|[^\x00-\x7f])", "w": r"(?:[0-9A-Za-z_]|[^\x00-\x7f])"}
    kept: list[str] = []
    in_class = False
    # Escapes, comments and single characters; a class never holds an unescaped bracket.
    for piece in re.findall(r"\\x[0-9a-fA-F]{2}|\\.|\s+|#[^\n]*|.", expression.pattern):
        if piece[0] in " \n\t\r#" and not in_class:
            continue
        if piece.startswith("\\") and not piece.startswith("\\x"):
            if in_class or piece[1] not in wide:
                raise ValueError(f"unknown escape {piece}")
            kept.append(wide[piece[1]])
            continue
        if piece in "(){}*+$" and not in_class:
            raise ValueError(f"unknown construct {piece}")
        in_class = piece != "]" if in_class else piece == "["
        kept.append(piece)
    return "".join(kept)


def remove_characters(column: pa.StringArray, characters: str) -> pa.StringArray:
    """Remove single characters from repaired texts, then collapse white space again."""
    if not characters:
        return column
    listed = "".join(re.escape(character) for character in characters)
    removed = pc.replace_substring_regex(column, f"[{listed}]", "")
    return pc.utf8_trim(pc.replace_substring_regex(removed, " {2,}", " "), " ")
