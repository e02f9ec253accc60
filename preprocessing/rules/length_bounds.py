"""Which texts can be judged by length before they are repaired.

Pure: no I/O, no Dask. Repair costs more than anything else in cleaning, and most descriptions are
far outside the bounds. What is said here holds for every string (property tests compare it with
the repaired text); where nothing can be said, the text is repaired and measured.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data import text

# A code point may become up to three: a ligature such as ﬃ, or a character that NFC takes apart.
# Repairing ASCII never makes it longer: a character reference is longer than what it stands for.
_MOST_FROM_ONE = 3
# html.unescape takes at most 34 characters for one ``&``, and a space on either side is lost with
# it should it stand for white space.
_MOST_TO_ONE, _MOST_LOST_BESIDE_ONE = 34, 2
# A ``&`` that may leave a ``&`` behind which refers to something, or that may be of any length.
_NOT_BOUNDED = r"&(?i:(?:amp|#0*38|#x0*26)(?:[^; \t\n]|;[^ \t\n]|;?$)|#[0-9a-fx]{8,})"
# What begins so: ``&a``, ``&#`` and one of these, or so many bytes in all.
_A, _LOWER = ord("a"), 32
_IS_38_OR_HEX = np.isin(np.arange(256), list(b"03xX"))
_LONG_NUMBER = 10
# White space at either end, and the last letter, which may join a combining mark behind it.
_MOST_LOST_AT_ENDS = 3
# Bytes beyond ``enough`` that are looked at: nearly all texts lose fewer than the first to
# references and doubled spaces; those where that does not tell are looked at farther.
_FURTHER = 48, 128
_TAB, _NEWLINE, _SPACE, _AMPERSAND, _HASH, _TILDE = b"\t\n &#~"
# Of a bound this low, a look at the first eight bytes tells most.
_MOST_BY_BEGINNING = 5
# Of each byte: 1 where repair keeps it, but for the ends; 0 for white space; or ``_MAY_TAKE``.
_MAY_TAKE = 128
_KEPT = np.full(256, _MAY_TAKE, np.uint8)
_KEPT[_SPACE + 1 : _TILDE + 1], _KEPT[[_TAB, _NEWLINE, _SPACE]], _KEPT[_AMPERSAND] = 1, 0, _MAY_TAKE
# Of eight bytes that are read as one number: 1 of each; all bits up to each length of a text.
_EACH = np.uint64(0x0101010101010101)
_UP_TO = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
# A text that holds what may become anything, however far it is looked at.
_UNSURE = -1


def longest(column: pa.StringArray, length: np.ndarray) -> np.ndarray:
    """Return an upper bound of the repaired lengths.

    Args:
        column: [rows] raw text without nulls.
        length: [rows] of each text, in code points.

    Returns:
        [rows] int, code points.
    """
    # Code points beyond ASCII take two bytes or more, so they are at most the difference.
    odd = pc.binary_length(column).to_numpy() - length
    most: np.ndarray = length + (_MOST_FROM_ONE - 1) * odd
    return most


def shortest(column: pa.StringArray, enough: int, where: np.ndarray | None = None) -> np.ndarray:
    """Return a lower bound of the repaired lengths, by the beginning of each text alone.

    Where that is printable ASCII, tabs and newlines without a match of ``_NOT_BOUNDED``, repair
    takes nothing from it but character references, all but one character of each run of white
    space, and its ends: no fixer of ftfy changes its other characters, its encoding search
    decodes them as themselves whatever follows, and what it restores or joins (a lost byte after
    a lead byte, a combining mark) reaches back over one character at most.

    Args:
        column: [rows] raw text without nulls.
        enough: code points; a bound above this need not be sharp.
        where: bool [rows], of which texts to say anything; None: of all.

    Returns:
        [rows] int, code points; 0 where nothing is sure.
    """
    texts = text.Joined.of(column)
    least = np.zeros(len(column), dtype=np.int64)
    rows = np.arange(len(column)) if where is None else np.flatnonzero(where)
    if enough <= _MOST_BY_BEGINNING:
        is_sure = _kept_at_beginning(texts, rows) >= enough + _MOST_LOST_AT_ENDS
        least[rows[is_sure]] = enough
        rows = rows[~is_sure]
    for further in _FURTHER:
        starts, stops = texts.offsets[rows], texts.offsets[rows + 1]
        begun = texts.cut(starts, np.minimum(starts + enough + further, stops))
        least[rows] = np.concatenate([_shortest(piece) for piece in text.pieces(begun)])
        low = (least[rows] < enough) & (least[rows] != _UNSURE)
        rows = rows[low & (stops - starts > enough + further)]
    return np.maximum(least, 0)


def _kept_at_beginning(texts: text.Joined, rows: np.ndarray) -> np.ndarray:
    """Count what repair keeps, but for the ends, of the first eight bytes of texts: int [rows].

    That is each letter, digit and sign of ASCII before the first ``&`` or what is none of these.
    """
    if not len(rows):
        return np.zeros(0, np.uint64)
    data = texts.data
    if len(data) < 8:
        data = np.append(data, np.zeros(8, np.uint8))
    eights = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))
    starts = texts.offsets[rows].astype(np.int64)
    # The last ones are read sooner, and what is before them taken off.
    places = np.minimum(starts, len(eights) - 1)
    firsts = eights[places] >> (8 * (starts - places)).astype(np.uint64)
    kept = _KEPT[firsts.astype("<u8").view(np.uint8)].view("<u8")
    kept &= _UP_TO[np.minimum(texts.offsets[rows + 1] - starts, 8)]
    beyond = kept & (_EACH * np.uint64(_MAY_TAKE))
    kept &= (beyond & (~beyond + np.uint64(1))) - np.uint64(1)  # all below the lowest bit
    # The product's last byte is the sum of all.
    counts: np.ndarray = (kept * _EACH) >> np.uint64(56)
    return counts


def _shortest(begun: pa.BinaryArray) -> np.ndarray:
    """Return the lower bound of texts that begin so, or ``_UNSURE``."""
    texts = text.Joined.of(begun)
    data = texts.data
    places = _may_lose(data)
    letters = data[places]
    doubled = places[(letters <= _SPACE) & (data[places - 1] <= _SPACE)]
    references, _, lengths = texts.references(places[letters == _AMPERSAND])
    lost = texts.count(doubled) + _MOST_LOST_AT_ENDS
    lost += texts.add(references, np.where(lengths, lengths, _MOST_TO_ONE) + _MOST_LOST_BESIDE_ONE)
    least: np.ndarray = np.maximum(np.diff(texts.offsets) - lost, 0)
    is_odd = (letters > _TILDE) | (letters < _SPACE) & (letters != _TAB) & (letters != _NEWLINE)
    least[texts.count(places[is_odd]) > 0] = _UNSURE
    referring = np.flatnonzero(texts.count(references[_may_refer_on(data, references, lengths)]))
    if len(referring):
        unbounded = pc.match_substring_regex(begun.take(referring), _NOT_BOUNDED)
        least[referring[unbounded.to_numpy(zero_copy_only=False)]] = _UNSURE
    return least


def _may_refer_on(data: np.ndarray, places: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Whether references may match ``_NOT_BOUNDED``, by their first letters: bool [references].

    Args:
        data: [bytes] with the references.
        places: [references] of each ``&``.
        lengths: [references] bytes of each; 0 where they are many.
    """
    last = len(data) - 1
    second, third = data[np.minimum(places + 1, last)], data[np.minimum(places + 2, last)]
    is_number = (second == _HASH) & (_IS_38_OR_HEX[third] | (lengths >= _LONG_NUMBER))
    may: np.ndarray = (second | _LOWER == _A) | is_number | (lengths == 0)
    return may


def _may_lose(data: np.ndarray) -> np.ndarray:
    """Find what is not printable ASCII, each ``&``, and each space behind another one."""
    mask = data - np.uint8(_SPACE) > _TILDE - _SPACE  # what is below a space wraps around
    mask |= data == _AMPERSAND
    mask[1:] |= np.maximum(data[1:], data[:-1]) <= _SPACE
    return text.flatnonzero(mask)
