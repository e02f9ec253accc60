"""Which texts can be judged by length before they are repaired.

Pure: no I/O, no Dask. Repair costs more than anything else in cleaning, and most descriptions are
far outside the bounds. What is said here holds for every string (property tests compare it with
the repaired text); where nothing can be said, the text is repaired and measured.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# A code point may become up to three: a ligature such as ﬃ, or a character that NFC takes apart.
# Repairing ASCII never makes it longer: a character reference is longer than what it stands for.
_MOST_FROM_ONE = 3
# html.unescape takes at most 34 characters for one ``&``; the reference itself, and a space on
# either side should it stand for white space.
_MOST_LOST_TO_ONE = 34 + 2
# A ``&`` that may leave another ``&`` behind or be of any length.
_NOT_BOUNDED = r"&(?i:amp|#0*38|#x0*26|#[0-9a-fx]{8,})"
# White space at either end, and the last letter, which may join a combining mark behind it.
_MOST_LOST_AT_ENDS = 3
# Characters beyond ``enough`` that are read of a text: most texts lose fewer than so many to
# references and doubled spaces.
_FURTHER = 128
_TAB, _NEWLINE, _SPACE, _AMPERSAND, _TILDE = 9, 10, 32, 38, 126


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


def shortest(column: pa.StringArray, enough: int) -> np.ndarray:
    """Return a lower bound of the repaired lengths, by the beginning of each text alone.

    Where that is printable ASCII, tabs and newlines without a match of ``_NOT_BOUNDED``, repair
    takes nothing from it but character references, all but one character of each run of white
    space, and its ends: no fixer of ftfy changes its other characters, its encoding search
    decodes them as themselves whatever follows, and what it restores or joins (a lost byte after
    a lead byte, a combining mark) reaches back over one character at most.

    Args:
        column: [rows] raw text without nulls.
        enough: code points; a bound above this need not be sharp.

    Returns:
        [rows] int, code points; 0 where nothing is sure.
    """
    begun = pc.binary_slice(column.cast(pa.binary()), 0, enough + _FURTHER)
    offsets, data = _buffers(begun)
    references = np.flatnonzero(data == _AMPERSAND)
    is_space = data <= _SPACE
    doubled = np.flatnonzero(is_space[1:] & is_space[:-1])
    is_strange = (data < _SPACE) & (data != _TAB) & (data != _NEWLINE) | (data > _TILDE)
    by_row = _count(references, offsets)
    lost = _count(doubled, offsets) + _MOST_LOST_AT_ENDS + _MOST_LOST_TO_ONE * by_row
    least: np.ndarray = np.diff(offsets) - lost
    least[_count(np.flatnonzero(is_strange), offsets) > 0] = 0
    referring = np.flatnonzero(by_row)
    if len(referring):
        unbounded = pc.match_substring_regex(begun.take(referring), _NOT_BOUNDED)
        least[referring[unbounded.to_numpy(zero_copy_only=False)]] = 0
    least[least < 0] = 0
    return least


def _buffers(column: pa.BinaryArray) -> tuple[np.ndarray, np.ndarray]:
    """View a column's memory: offsets [rows + 1] and bytes."""
    _, offsets, data = column.buffers()
    first = column.offset
    ends = np.frombuffer(offsets, dtype=np.int32)[first : first + len(column) + 1]
    return ends, np.frombuffer(data, dtype=np.uint8)[: ends[-1]]


def _count(places: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Count the places that lie in each row: int [rows]."""
    counts: np.ndarray = np.diff(np.searchsorted(places, offsets))
    return counts
