"""Rows of CSV and other tables of text: a block of whole rows in, a RAW table and quarantine out.

pyarrow reads a block at once. A row with another number of cells than the header is quarantined
as ``wrong_columns``, one whose quotes do not pair as ``invalid_csv``, and the header once more, as
where tables were put one behind the other, as ``repeated_header``. One whose columns stand in other
places is an error, as all rows behind it would be read wrongly. An empty cell is empty text.
"""

import re
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from data.errors import SourceError
from data.sources.kind import USUAL, to_columns
from preprocessing.fields import Fields
from preprocessing.files import SourceFile
from preprocessing.forms import splitting
from preprocessing.objects import Text, is_utf8
from preprocessing.parse import Parsed, Records

# pyarrow takes a lone CR for the end of a row, and leaves out the blank one that it makes.
_LONE_CR = re.compile(rb"\r(?!\n|\Z)")
# Bytes of a cell that may name a column.
_LONGEST_NAME = 64


def parse(records: Records, file: SourceFile, fields: Fields, max_line_bytes: int) -> Parsed:
    """Parse a block of rows.

    Args:
        records: rows, the header left out.
        file: with the names of its columns and its separator.
        fields: to read; the file has a column of each.
        max_line_bytes: a longer row is quarantined.
    """
    lines = records.text.lines
    bad = _refused(records, lines, file.separator, max_line_bytes)
    likely = [i for i, line in enumerate(lines) if i not in bad and line.strip(b"\r")]
    rows = _bulk(Text.of([lines[i] for i in likely]).data, len(likely), file)
    if rows is None:
        rows = _one_by_one([lines[i] for i in likely], file)
    table, wrong = rows
    bad |= {likely[place]: "wrong_columns" for place in wrong}
    good = np.array([i for i in likely if i not in bad], dtype=np.int64)
    is_header, other = _headers(table, file, fields)
    if other is not None:
        at = int(records.offsets[good[other]])
        names = ", ".join(column[other].as_py() for column in table.columns)
        found = f"a header of other columns at byte {at:,}, {names}"
        hint = f"split it there: head -c {at} makes the first table, tail -c +{at + 1} the second"
        raise SourceError(file.where, "one table", found, hint)
    bad |= {int(i): "repeated_header" for i in good[is_header]}
    good, table = good[~is_header], table.filter(pa.array(~is_header))
    columns = {name: table.column(file.columns.index(name)) for name in fields.names}
    numbers = pa.array(good + records.first, pa.int64()).cast(pa.string())
    ours = {
        "uid": numbers if fields.uid is None else columns[fields.uid],
        "title": columns[fields.title],
        "content": columns[fields.content],
    } | {name: columns[theirs] for name, theirs in fields.attributes}
    reasons = sorted(bad.items())
    return Parsed.of(records, good, pa.table(ours), reasons, max_line_bytes, file.name, fields)


def _headers(table: pa.Table, file: SourceFile, fields: Fields) -> tuple[np.ndarray, int | None]:
    """Find rows that name columns, in any case and maybe behind a byte order mark.

    Returns:
        Which are the header once more, bool [rows], and the first one of other columns.
    """
    names, ours = _folded(file.columns), set(_folded(fields.required))
    places = [file.columns.index(name) for name in fields.names]
    texts = [table.column(file.columns.index(name)) for name in (fields.title, fields.content)]
    short = pc.and_(*(pc.less(pc.binary_length(cells), _LONGEST_NAME) for cells in texts))
    likely = np.flatnonzero(short.to_numpy())
    known = pa.array([*names, *USUAL])
    is_known = pc.or_(*(pc.is_in(pc.ascii_lower(pc.ascii_trim(cells.take(likely), ' "')), known)
                        for cells in texts))  # fmt: skip
    likely = likely[is_known.to_numpy()]
    repeats = np.zeros(len(table), dtype=bool)
    for row, cells in zip(likely.tolist(), _rows(table.take(likely)), strict=True):
        named = _folded(cells)
        repeats[row] = all(named[place] == names[place] for place in places)
        if not repeats[row] and (ours <= set(named) or to_columns(named)):
            return repeats, row
    return repeats, None


def _rows(table: pa.Table) -> Iterator[tuple[str, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _folded(names: Iterable[str]) -> list[str]:
    return [name.strip('\ufeff" ').casefold() for name in names]


def _refused(records: Records, lines: list[bytes], separator: str, limit: int) -> dict[int, str]:
    """Name the rows that are none for themselves, whatever their number of cells."""
    lengths = records.stops - records.starts
    bad = {int(i): "line_too_long" for i in np.flatnonzero(lengths > limit)}
    # Each by itself: quotes that are open in one row may seem to close in a later one.
    sound = splitting.sound_row(separator)
    bad = {i: "invalid_csv" for i, line in enumerate(lines) if not sound.fullmatch(line)} | bad
    if not is_utf8(records.data):
        bad = {i: "invalid_utf8" for i, line in enumerate(lines) if not is_utf8(line)} | bad
    return bad


def _bulk(data: bytes, count: int, file: SourceFile) -> tuple[pa.Table, list[int]] | None:
    """Read rows at once; None where pyarrow sees other rows.

    Returns:
        The rows, all columns as text, and the places of rows with another number of cells.
    """
    names = [str(place) for place in range(len(file.columns))]
    if not count:
        return pa.table({name: pa.array([], pa.string()) for name in names}), []
    if _LONE_CR.search(data):
        return None
    wrong: list[int] = []

    def skip(row: pa_csv.InvalidRow) -> str:
        wrong.append(row.number - 1)
        return "skip"

    try:
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            pa_csv.ReadOptions(use_threads=False, column_names=names, block_size=len(data) + 1),
            pa_csv.ParseOptions(
                delimiter=file.separator, newlines_in_values=True, invalid_row_handler=skip
            ),
            pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), null_values=[]),
        )
    except pa.ArrowInvalid:
        return None
    return (table, wrong) if table.num_rows + len(wrong) == count else None


def _one_by_one(lines: list[bytes], file: SourceFile) -> tuple[pa.Table, list[int]]:
    """Read rows with what pyarrow takes for the end of a row in a cell."""
    comma = file.separator.encode()
    cell = re.compile(rb'(?:"([^"]*+(?:""[^"]*+)*+)"\r?|([^%b]*+))%b' % ((re.escape(comma),) * 2))
    rows, wrong = [], []
    for place, line in enumerate(lines):
        matches = cell.finditer(line.removesuffix(b"\r") + comma)
        cells = [m[2] if m[1] is None else m[1].replace(b'""', b'"') for m in matches]
        if len(cells) == len(file.columns):
            rows.append([text.decode() for text in cells])
        else:
            wrong.append(place)
    columns = list(zip(*rows, strict=True)) or [()] * len(file.columns)
    arrays = [pa.array(column, pa.string()) for column in columns]
    return pa.table(arrays, names=[str(place) for place in range(len(arrays))]), wrong
