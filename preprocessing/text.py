"""Repair of text columns.

Pure: no I/O, no Dask. Defined by one line, ``repair``; the column form must agree with it on
every string.
"""

import html
import re

import ftfy
import pyarrow as pa
import pyarrow.compute as pc

# A text without any match is its own repair: printable ASCII without ``&`` holds no entity,
# nothing that ftfy touches (its fixers act on ``&``, control characters and non-ASCII only),
# and single spaces between words only.
_MAY_CHANGE = r"[^ -~]|&|  |^ | $"


def repair(raw: str) -> str:
    """Repair one text: unescape HTML, fix mojibake and odd characters, collapse white space."""
    return " ".join(ftfy.fix_text(html.unescape(raw)).split())


def repair_column(column: pa.StringArray) -> pa.StringArray:
    """Repair every text of a string column.

    Args:
        column: [rows] string without nulls.

    Returns:
        [rows] string, element by element ``repair`` of the input.
    """
    touched = pc.match_substring_regex(column, _MAY_CHANGE)
    repaired = [repair(raw) for raw in column.filter(touched).to_pylist()]
    return pc.replace_with_mask(column, touched, pa.array(repaired, pa.string()))


def remove_characters(column: pa.StringArray, characters: str) -> pa.StringArray:
    """Remove single characters from repaired texts, then collapse white space again."""
    if not characters:
        return column
    listed = "".join(re.escape(character) for character in characters)
    removed = pc.replace_substring_regex(column, f"[{listed}]", "")
    return pc.utf8_trim(pc.replace_substring_regex(removed, " {2,}", " "), " ")
