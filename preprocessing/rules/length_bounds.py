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
# White space at either end, and the last letter, which may join a combining mark behind it.
_MOST_LOST_AT_ENDS = 3
# Bytes beyond ``enough`` that are looked at: nearly all texts lose fewer than the first to
# references and doubled spaces; those where that does not tell are looked at farther.
_FURTHER = 16, 128
_TAB, _NEWLINE, _SPACE, _TILDE = b"\t\n ~"


def longest(column: pa.StringArray) -> np.ndarray:
    """Return an upper bound of the repaired lengths.

    Args:
        column: [rows] raw text without nulls.

    Returns:
        [rows] int, code points.
    """
    length = pc.utf8_length(column).to_numpy()
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
    for further in _FURTHER:
        starts, stops = texts.offsets[rows], texts.offsets[rows + 1]
        begun = texts.cut(starts, np.minimum(starts + enough + further, stops))
        least[rows] = np.concatenate([_shortest(piece) for piece in text.pieces(begun)])
        rows = rows[(least[rows] < enough) & (stops - starts > enough + further)]
    return least


def _shortest(begun: pa.BinaryArray) -> np.ndarray:
    """Return the lower bound of texts that begin so."""
    texts = text.Joined.of(begun)
    data = texts.data
    is_space = data <= _SPACE
    doubled = np.flatnonzero(is_space[1:] & is_space[:-1])
    references, _, lengths = texts.references()
    lost = texts.count(doubled) + _MOST_LOST_AT_ENDS
    lost += texts.add(references, np.where(lengths, lengths, _MOST_TO_ONE) + _MOST_LOST_BESIDE_ONE)
    least: np.ndarray = np.maximum(np.diff(texts.offsets) - lost, 0)
    control = np.flatnonzero(data < _SPACE)
    control = control[(data[control] != _TAB) & (data[control] != _NEWLINE)]
    least[texts.count(control) > 0] = 0
    if data.max(initial=0) > _TILDE:
        least[texts.count(np.flatnonzero(data > _TILDE)) > 0] = 0
    referring = np.flatnonzero(texts.count(references))
    if len(referring):
        unbounded = pc.match_substring_regex(begun.take(referring), _NOT_BOUNDED)
        least[referring[unbounded.to_numpy(zero_copy_only=False)]] = 0
    return least
