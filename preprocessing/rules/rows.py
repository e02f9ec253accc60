"""Row rules: which rows stay, and to which reason each of the others fell.

Pure: a table in, a table and its drops out; no I/O, no Dask. Reasons, in the order of the rules,
the first that a row fails being its own: ``title_markup``, ``title_empty``, ``title_too_short``,
``title_too_long``, ``content_empty``, ``content_excluded``, ``content_too_short``,
``content_too_long``, ``content_boilerplate``, ``content_shouting``, ``content_language``.
"""

from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data import text
from preprocessing.config import LENGTH_EDGES, RowRules
from preprocessing.rules import length_bounds, wording

Drops = dict[str, int]
"""Rows dropped by reason; reasons without a row are left out."""
_NOT_ASCII = 0x80
_Column = Literal["title", "content"]


def clean_rows(
    table: pa.Table, rules: RowRules, lengths: np.ndarray | None = None
) -> tuple[pa.Table, Drops]:
    """Repair the text of rows and keep those that the rules allow.

    Args:
        table: N rows with schema RAW.
        rules: bounds in code points, inclusive; ``measure`` says of which text.
        lengths: [N] of the descriptions in code points, where they are known.

    Returns:
        At most N rows with schema RAW and repaired text, order kept, and the drops.
    """
    drops: Drops = {}
    if rules.drop_markup:
        table = _drop(table, "title_markup", wording.is_markup(table.column("title")), drops)
        lengths = None
    if rules.measure == "raw":
        table = _keep_contents(_keep_titles(table, rules, drops), rules, drops)
        return _repair(table, rules), drops
    # Removed characters and excluded words are those of the repaired text, whatever its length.
    if not (rules.content_excludes or rules.remove_characters or rules.strip_html):
        lengths = code_points(table.column("content")) if lengths is None else lengths
        table = _drop_unrepaired(table, rules, lengths, drops)
    table = _keep_titles(_repair(table, rules), rules, drops)
    return _keep_contents(table, rules, drops), drops


def code_points(column: pa.ChunkedArray) -> np.ndarray:
    """Measure texts in code points: int [texts]."""
    # Arrow looks at each byte even of ASCII; to find that it is takes a tenth of that.
    is_ascii = all(
        text.Joined.of(chunk).data.max(initial=0) < _NOT_ASCII for chunk in column.chunks
    )
    count = pc.binary_length if is_ascii else pc.utf8_length
    lengths: np.ndarray = count(column).to_numpy()
    return lengths


def count_lengths(lengths: np.ndarray) -> np.ndarray:
    """Count texts by their length in code points: int [len(LENGTH_EDGES)]."""
    places = np.searchsorted(LENGTH_EDGES, lengths, side="right") - 1
    return np.bincount(places, minlength=len(LENGTH_EDGES))


def _repair(table: pa.Table, rules: RowRules) -> pa.Table:
    """Repair titles and descriptions, both at once: to read the expressions takes 2 ms a time."""
    names: tuple[_Column, ...] = ("title", "content")
    chunks = [chunk for name in names for chunk in table.column(name).chunks]
    both = pa.chunked_array(chunks, pa.string())
    repaired = text.repair_column(both.combine_chunks())
    if rules.strip_html:
        repaired = wording.strip_html(repaired)
    repaired = text.remove_characters(repaired, rules.remove_characters)
    for start, name in zip((0, table.num_rows), names, strict=True):
        place = table.schema.get_field_index(name)
        column = repaired.slice(start, table.num_rows)
        table = table.set_column(place, table.schema.field(name), column)
    return table


def _drop_unrepaired(
    table: pa.Table, rules: RowRules, lengths: np.ndarray, drops: Drops
) -> pa.Table:
    """Drop the rows whose first failed rule is plain from the lengths of their raw text.

    A row is left to the rules themselves where its repaired lengths are not sure.
    """
    title, content = (_whole(table.column(name)) for name in ("title", "content"))
    untitled = _is_empty(title) & (rules.title_min > 0)
    # A row without a title falls to that, whatever its description. Of the others, only those with
    # a title surely within its bounds fall to their description.
    titled = length_bounds.shortest(title, rules.title_min) >= rules.title_min
    if rules.title_max is not None:
        title_lengths = code_points(table.column("title"))
        titled &= length_bounds.longest(title, title_lengths) <= rules.title_max
    titled &= ~untitled
    undescribed = titled & _is_empty(content) & (rules.content_min > 0)
    low, high = rules.content_min, rules.content_max
    described = titled & ~undescribed
    # What a description falls to is read off its length; then the rest is looked at.
    short = described & (length_bounds.longest(content, lengths) < low)
    short &= length_bounds.shortest(content, 1, where=short) > 0
    long = np.zeros_like(short)
    if high is not None:
        long = described & (lengths > high)
        long &= length_bounds.shortest(content, high + 1, where=long) > high
    for reason, fallen in (
        ("title_empty", untitled),
        ("content_empty", undescribed),
        ("content_too_short", short),
        ("content_too_long", long),
    ):
        _count_drop(drops, reason, int(fallen.sum()))
    return table.filter(pa.array(~(untitled | undescribed | short | long)))


def _whole(column: pa.ChunkedArray) -> pa.StringArray:
    """Return a column as one array; Arrow would copy one that is."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _is_empty(column: pa.StringArray) -> np.ndarray:
    empty: np.ndarray = pc.binary_length(column).to_numpy() == 0
    return empty


def _keep_titles(table: pa.Table, rules: RowRules, drops: Drops) -> pa.Table:
    if rules.title_min:
        table = _drop(table, "title_empty", _at_most(table, "title", 0), drops)
    return _keep_length(table, "title", (rules.title_min, rules.title_max), drops)


def _keep_contents(table: pa.Table, rules: RowRules, drops: Drops) -> pa.Table:
    if rules.content_min:
        table = _drop(table, "content_empty", _at_most(table, "content", 0), drops)
    for word in rules.content_excludes:
        holds_it = pc.match_substring(table.column("content"), word)
        table = _drop(table, "content_excluded", holds_it, drops)
    table = _keep_length(table, "content", (rules.content_min, rules.content_max), drops)
    is_foreign = partial(wording.is_foreign, languages=rules.languages)
    for is_on, reason, falls in (
        (rules.drop_boilerplate, "content_boilerplate", wording.is_boilerplate),
        (rules.drop_shouting, "content_shouting", wording.is_shouting),
        (rules.languages, "content_language", is_foreign),
    ):
        if is_on:
            falls_to_it = falls(table.column("content").combine_chunks())
            table = _drop(table, reason, falls_to_it, drops)
    return table


def _keep_length(
    table: pa.Table, name: _Column, between: tuple[int, int | None], drops: Drops
) -> pa.Table:
    low, high = between
    table = _drop(table, f"{name}_too_short", _at_most(table, name, low - 1), drops)
    if high is None:
        return table
    return _drop(table, f"{name}_too_long", pc.invert(_at_most(table, name, high)), drops)


def _at_most(table: pa.Table, name: _Column, length: int) -> pa.ChunkedArray:
    return pc.less_equal(pc.utf8_length(table.column(name)), length)


def _drop(
    table: pa.Table, reason: str, fallen: pa.ChunkedArray | pa.BooleanArray, drops: Drops
) -> pa.Table:
    """Drop the rows that fell to a reason, and count them."""
    count = pc.sum(fallen).as_py() or 0
    if not count:
        return table
    _count_drop(drops, reason, count)
    return table.filter(pc.invert(fallen))


def _count_drop(drops: Drops, reason: str, count: int) -> None:
    if count:
        drops[reason] = drops.get(reason, 0) + count
