"""Row rules: which rows stay, and to which reason each of the others fell.

Pure: a table in, a table and its drops out; no I/O, no Dask.
"""

import pyarrow as pa
import pyarrow.compute as pc

from preprocessing import text
from preprocessing.config import RowRules

Drops = dict[str, int]
"""Rows dropped by reason; reasons without a row are left out."""


def clean_rows(table: pa.Table, rules: RowRules) -> tuple[pa.Table, Drops]:
    """Repair the text of rows and keep those that the rules allow.

    Args:
        table: N rows with schema RAW.
        rules: bounds in code points, inclusive; ``measure`` says of which text.

    Returns:
        At most N rows with schema RAW and repaired text, order kept, and the drops.
    """
    if rules.measure == "raw":
        kept, drops = keep_rows(table, rules)
        return repair_rows(kept, rules), drops
    return keep_rows(repair_rows(table, rules), rules)


def repair_rows(table: pa.Table, rules: RowRules) -> pa.Table:
    """Repair titles and contents, and remove the characters that the rules name."""
    for name in ("title", "content"):
        repaired = text.repair_column(table.column(name).combine_chunks())
        repaired = text.remove_characters(repaired, rules.remove_characters)
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), repaired)
    return table


def keep_rows(table: pa.Table, rules: RowRules) -> tuple[pa.Table, Drops]:
    """Keep the rows that pass every rule; the first rule that a row fails is its reason.

    Reasons, in the order of the rules: ``title_empty``, ``title_too_short``,
    ``title_too_long``, ``content_empty``, ``content_excluded``, ``content_too_short``,
    ``content_too_long``.
    """
    drops: Drops = {}
    for name, low, high in (
        ("title", rules.title_min, rules.title_max),
        ("content", rules.content_min, rules.content_max),
    ):
        table = _drop(table, "empty", name, _longer(table, name, max=0 if low else -1), drops)
        if name == "content":
            for excluded in rules.content_excludes:
                found = pc.match_substring(table.column("content"), excluded)
                table = _drop(table, "excluded", name, found, drops)
        table = _drop(table, "too_short", name, _longer(table, name, max=low - 1), drops)
        if high is not None:
            too_long = pc.invert(_longer(table, name, max=high))
            table = _drop(table, "too_long", name, too_long, drops)
    return table, drops


def _longer(table: pa.Table, name: str, max: int) -> pa.ChunkedArray:
    return pc.less_equal(pc.utf8_length(table.column(name)), max)


def _drop(
    table: pa.Table, reason: str, name: str, fallen: pa.ChunkedArray, drops: Drops
) -> pa.Table:
    count = pc.sum(fallen).as_py() or 0
    if not count:
        return table
    drops[f"{name}_{reason}"] = drops.get(f"{name}_{reason}", 0) + count
    return table.filter(pc.invert(fallen))
