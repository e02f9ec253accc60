"""Rows of users' CSV and text files: each row's uid, title and kept columns.

A row that cannot be read has the reason in ``refused`` and never stops those after it; faults of
the file as a whole are found by its survey, before anything is written. Rows are read one by one
with Python's parsers: a title is short, and a model is slower by far.
"""

import contextlib
import csv
import io
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import pyarrow as pa

from data.errors import SourceError

TITLES = pa.schema([(name, pa.string()) for name in ("uid", "title", "refused")])
"""``uid`` and ``title`` hold no nulls; ``refused``: why the row could not be read, else null."""

ATTRIBUTE = "shown in prompts: "
"""Before the name of an attribute: the name of its column, beside kept ones of the same name."""

HINT = "name the columns with --title_column and --uid_column"
_ROWS, _BYTES = 4_096, 16 * 2**20
LONGEST = 4 * 2**20
SHOWN = 1_000
_SHOWN_COLUMNS = 8


@dataclass(frozen=True)
class Selection:
    """The columns and rows to read of a file."""

    where: str
    """The file, for errors."""
    title: str
    uid: str | None
    """None: ``uid`` where there is one."""
    kept: tuple[str, ...] = ()
    limit: int | None = None
    attributes: tuple[str, ...] = ()
    """Columns that prompts show, where they exist."""

    @property
    def needed(self) -> list[str]:
        """Columns that must be there."""
        return [name for name in (self.title, self.uid, *self.kept) if name is not None]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are read where they exist."""
        return self.title, self.uid or "uid", *self.carried

    @property
    def carried(self) -> tuple[str, ...]:
        """Columns of ``Row.carried``, in order."""
        return *self.kept, *self.attributes

    def about(self, names: Collection[str]) -> list[pa.Field]:
        """Return the columns of the attributes: text, null where a file has no such column."""
        return [
            pa.field(ATTRIBUTE + name, pa.string() if name in names else pa.null())
            for name in self.attributes
        ]

    def check(self, names: Sequence[str]) -> None:
        """Check that a file has each needed column once.

        Raises:
            SourceError: one is missing or there twice.
        """
        optional = (*(("uid",) if self.uid is None else ()), *self.attributes)
        twice = [name for name in optional if names.count(name) > 1]
        for name in (*self.needed, *twice):
            if names.count(name) != 1:
                more = ", …" if len(names) > _SHOWN_COLUMNS else ""
                columns = (", ".join(names[:_SHOWN_COLUMNS]) or "none") + more
                raise SourceError(self.where, f"one column {name!r}", columns, HINT)


@dataclass(slots=True)
class Row:
    """One row of a file."""

    title: str = ""
    uid: str | None = None
    refused: str | None = None
    carried: list[Any] = field(default_factory=list)


def batches(rows: Iterator[Row], carried: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Gather rows to batches of schema TITLES, followed by the carried columns.

    Positions from 0 stand in for uids.
    """
    batch: list[Row] = []
    position = size = 0
    for row in rows:
        batch.append(row)
        size += len(row.title)
        if len(batch) == _ROWS or size > _BYTES:
            yield _batch(batch, position, carried)
            position += len(batch)
            batch, size = [], 0
    if batch:
        yield _batch(batch, position, carried)


def _batch(rows: list[Row], position: int, carried: pa.Schema) -> pa.RecordBatch:
    columns: list[list[Any]] = [
        [str(position + i) if row.uid is None else row.uid for i, row in enumerate(rows)],
        [row.title for row in rows],
        [row.refused for row in rows],
    ]
    for place, column in enumerate(carried):
        values = [row.carried[place] if row.carried else None for row in rows]
        if pa.types.is_floating(column.type):
            values = [None if value is None else float(value) for value in values]
        columns.append(values)
    schema = pa.schema([*TITLES, *carried])
    arrays = [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def limited(batches: Iterator[pa.RecordBatch], limit: int | None) -> Iterator[pa.RecordBatch]:
    """Pass on the first rows; ``limit`` None: all."""
    left = limit
    for batch in batches:
        yield batch if left is None else batch.slice(0, left)
        if left is not None and (left := left - batch.num_rows) <= 0:
            return


def refused(reason: str, line: str, uid: str | None = None) -> Row:
    """Build the row of a line that could not be read, with its beginning as the title."""
    return Row(line[:SHOWN], uid, reason)


def lines(file: IO[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Read lines, and of a longer one than ``LONGEST`` its start: (line, whether it is whole)."""
    while line := file.readline(LONGEST + 1):
        is_whole = len(line) <= LONGEST or line.endswith(b"\n")
        rest = b"" if is_whole else b" "
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(2**20)
        yield line, is_whole


def is_unicode(values: list[Any]) -> bool:
    """Return whether texts hold no half of a surrogate pair, which JSON can escape."""
    for value in values:
        if value is None or (isinstance(value, str) and value.isascii()):
            continue
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return False
    return True


def csv_rows(file: IO[bytes], selection: Selection, _carried: pa.Schema) -> Iterator[Row]:
    """Read the rows of a CSV table; every column is text."""
    with _table(file) as table:
        header: list[str] = next(table, [])
        title, uid, *carried = (
            header.index(name) if name in header else None for name in selection.columns
        )
        for fields in table:
            if not fields:
                continue
            if len(fields) != len(header):
                yield refused("wrong_field_count", _shown(",".join(fields)))
                continue
            own = None if uid is None else fields[uid]
            values = [None if place is None else fields[place] for place in carried]
            row = Row(fields[title or 0], own, None, values)
            is_utf8 = is_unicode([row.title, row.uid, *row.carried])
            yield row if is_utf8 else refused("invalid_utf8", _shown(",".join(fields)))


def survey_csv(file: IO[bytes], selection: Selection) -> pa.Schema:
    """Check the header, and that every quote closes: an open one would hide the rows after it.

    Raises:
        SourceError: a column is missing, or a quoted field does not end before a comma or the end
            of the line.
    """
    whole = 0
    with _table(file) as table:
        try:
            header: list[str] = next(table, [])
            selection.check([_shown(name) for name in header])
            whole = table.line_num
            for _ in table:
                whole = table.line_num
        except csv.Error as error:
            expected = "quotes that close before a comma or the end of the line"
            if "field limit" in str(error):
                expected = f"fields of at most {LONGEST:,} characters, and quotes that close"
            fault = f"in the row from line {whole + 1:,} on: {error}"
            hint = 'write a quote within a quoted field as ""'
            raise SourceError(selection.where, expected, fault, hint) from error
    kept = (pa.field(name, pa.string()) for name in selection.kept)
    return pa.schema([*kept, *selection.about(header)])


@contextlib.contextmanager
def _table(file: IO[bytes]) -> Iterator[Any]:
    csv.field_size_limit(LONGEST)
    # Bytes that are no UTF-8 become lone surrogates, which mark their row.
    with io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="") as text:
        yield csv.reader(text, strict=True)


def _shown(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def text_rows(file: IO[bytes], _selection: Selection, _carried: pa.Schema) -> Iterator[Row]:
    """Read a title a line, empty ones too."""
    for line, is_whole in lines(file):
        if not is_whole:
            yield refused("line_too_long", line[:SHOWN].decode("utf-8", "replace"))
            continue
        try:
            yield Row(line.decode("utf-8-sig").rstrip("\r\n"))
        except UnicodeDecodeError:
            yield refused("invalid_utf8", line.decode("utf-8", "replace").rstrip("\r\n"))


def survey_text(_file: IO[bytes], selection: Selection) -> pa.Schema:
    """Check that nothing but titles is selected.

    Raises:
        SourceError: another column is.
    """
    selection.check(["title"])
    return pa.schema(selection.about([]))
