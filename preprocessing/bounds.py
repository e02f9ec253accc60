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
# Printable ASCII, tabs and newlines, and no ``&`` that may leave another ``&`` behind or be of any
# length: html.unescape then takes at most 34 characters for one ``&``, once.
_NOT_BOUNDED = r"[^ -~\n\t]|&(?i:amp|#0*38|#x0*26|#[0-9a-fx]{8,})"
# The reference itself, and a space on either side should it stand for white space.
_MOST_LOST_TO_ONE = 34 + 2
_SPACE, _AMPERSAND = 32, 38
# Repair keeps at least one character of such a text.
_SURELY_SOMETHING = r"^[ -%'-~]*[!-%'-~][ -%'-~]*$"


def surely_shorter(column: pa.StringArray, minimum: int) -> pa.BooleanArray:
    """Tell which texts repair to something that is not empty and below a length.

    Args:
        column: [rows] raw text without nulls.
        minimum: in code points.

    Returns:
        [rows] bool; False says nothing.
    """
    length, width = pc.utf8_length(column), pc.binary_length(column)
    # Code points beyond ASCII take two bytes or more, so they are at most the difference.
    odd = pc.subtract(width, length)
    longest = pc.add(length, pc.multiply(odd, _MOST_FROM_ONE - 1))
    return _confirm(column, pc.less(longest, minimum), _SURELY_SOMETHING, matches=True)


def surely_longer(column: pa.StringArray, maximum: int) -> pa.BooleanArray:
    """Tell which texts repair to something above a length.

    In a text without a match of ``_NOT_BOUNDED`` repair takes away nothing but character
    references and all but one character of each run of white space: every other character is
    printable ASCII, which no fixer of ftfy changes, and its encoding search decodes as itself.

    Args:
        column: [rows] raw text without nulls.
        maximum: in code points.

    Returns:
        [rows] bool; False says nothing.
    """
    length = pc.utf8_length(column).to_numpy()
    if not (length > maximum).any():
        return pa.array(np.zeros(len(column), dtype=bool))
    offsets, data = _buffers(column)
    references = np.flatnonzero(data == _AMPERSAND)
    is_space = data <= _SPACE
    doubled = np.flatnonzero(is_space[1:] & is_space[:-1])
    lost = _count(doubled, offsets) + 2 + _MOST_LOST_TO_ONE * _count(references, offsets)
    return _confirm(column, pa.array(length - lost > maximum), _NOT_BOUNDED, matches=False)


def _buffers(column: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """View a column's memory: offsets [rows + 1] and bytes."""
    _, offsets, data = column.buffers()
    first = column.offset
    ends = np.frombuffer(offsets, dtype=np.int32)[first : first + len(column) + 1]
    return ends, np.frombuffer(data, dtype=np.uint8)


def _count(places: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Count the places that lie in each row: int [rows]."""
    counts: np.ndarray = np.diff(np.searchsorted(places, offsets))
    return counts


def _confirm(
    column: pa.StringArray, likely: pa.BooleanArray, pattern: str, *, matches: bool
) -> pa.BooleanArray:
    """Keep those of the likely rows that match a pattern, or do not."""
    found = pc.match_substring_regex(column.filter(likely), pattern)
    return pc.replace_with_mask(likely, likely, found if matches else pc.invert(found))
