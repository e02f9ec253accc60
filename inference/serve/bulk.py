"""Descriptions for a list of titles, pasted or in a CSV: a row after the other, then a table.

A few titles at a time, so that who asks a question finds free places in the batch.
"""

import csv
import io
import logging
import secrets
from collections import OrderedDict
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from threading import Event as Signal
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from data import text
from data.errors import CatalogueError, ConfigError, SourceError
from inference.ask import Answer, Assistant
from inference.engine import BusyError
from inference.serve.answers import refusal
from inference.serve.line import Event
from inference.tables import text_files
from inference.tables.text_files import Row, Selection

log = logging.getLogger("catalogue")

MOST_TITLES = 500
"""Titles that are written for at once."""
LARGEST = 2**20
"""Bytes of a list of titles."""
AT_ONCE, WAITING = 2, 8
"""Lists in work, and lists that wait."""
_TITLES_AT_ONCE = 4
_KEPT = 16
_SECONDS_TO_RETRY = 0.5

SCHEMA = pa.schema(
    {
        "uid": pa.string(), "title": pa.string(), "description": pa.string(),
        "in_catalogue": pa.bool_(), "title_words_missing": pa.list_(pa.string()),
        "unsupported_numbers": pa.list_(pa.string()), "left_out": pa.list_(pa.string()),
        "finish_reason": pa.string(), "new_tokens": pa.int32(), "seed": pa.int64(),
        "refused": pa.string(),
    }
)  # fmt: skip
"""``refused``: why there is no description; else null."""


class Write(BaseModel):
    """What is posted to write: titles, or a CSV with a column ``title``."""

    model_config = ConfigDict(strict=True, extra="forbid")

    titles: list[str] | None = None
    csv: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class _Wish:
    uid: str
    title: str
    refused: str | None = None


class Written:
    """The tables written last, by a name that only who asked knows."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._tables: OrderedDict[str, pa.Table] = OrderedDict()

    def keep(self, table: pa.Table) -> str:
        """Keep a table; return its name."""
        name = secrets.token_hex(16)
        with self._lock:
            self._tables[name] = table
            while len(self._tables) > _KEPT:
                self._tables.popitem(last=False)
        return name

    def read(self, name: str, form: str) -> bytes | None:
        """Return a table as ``parquet`` or ``csv``; None: it is unknown or forgotten."""
        with self._lock:
            table = self._tables.get(name)
        if table is None:
            return None
        if form == "csv":
            return _as_csv(table)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        return bytes(sink.getvalue())


def _as_csv(table: pa.Table) -> bytes:
    """Write a table as CSV in UTF-8 with a mark, by which spreadsheets know it."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(table.column_names)
    for row in table.to_pylist():
        writer.writerow(["; ".join(v) if isinstance(v, list) else v for v in row.values()])
    return file.getvalue().encode("utf-8-sig")


def events(assistant: Assistant, written: Written, write: Write) -> Generator[Event, None, None]:
    """Describe all titles: yield ``begun``, a ``row`` each in order, ``done`` with the name."""
    try:
        wishes = list(_wishes(write))
        if len(wishes) > MOST_TITLES:
            found = f"{len(wishes):,}"
            raise ConfigError("titles", f"at most {MOST_TITLES:,}", found, "write them in parts")
        if not wishes:
            raise ConfigError("titles", "titles", "none")
        yield {"event": "begun", "rows": len(wishes)}
        rows = []
        for row in _rows(assistant, wishes, write.seed):
            rows.append(row)
            yield {"event": "row", "place": len(rows), **row}
        name = written.keep(pa.Table.from_pylist(rows, SCHEMA))
        lacking = sum(row["refused"] is not None for row in rows)
        yield {"event": "done", "id": name, "rows": len(rows), "refused": lacking}
    except ConfigError as error:
        code = "titles_many" if "at most" in str(error) else "titles_none"
        yield {"event": "refused", "code": code, "detail": str(error)}
    except SourceError as error:
        yield {"event": "refused", "code": "csv", "detail": str(error)}
    except Exception as error:
        log.warning("a list of titles failed: %s: %s", type(error).__name__, error)
        yield {"event": "refused", "code": "failed", "detail": "a fault here"}


def _wishes(write: Write) -> Iterator[_Wish]:
    """Read the titles, repaired as those that were trained on."""
    rows = list(_csv_rows(write.csv)) if write.csv is not None else _listed(write.titles or [])
    titles = text.repair_column(pa.array([row.title for row in rows], pa.string())).to_pylist()
    for place, (row, title) in enumerate(zip(rows, titles, strict=True)):
        refused = row.refused or (None if title.strip() else "empty_title")
        yield _Wish(row.uid or str(place), title, refused)


def _listed(titles: list[str]) -> list[Row]:
    return [Row(title) for title in titles if title.strip()]


def _csv_rows(table: str) -> Iterator[Row]:
    selection = Selection("csv", "title", None)
    raw = table.encode()
    schema = text_files.survey_csv(io.BytesIO(raw), selection)
    yield from text_files.csv_rows(io.BytesIO(raw), selection, schema)


def _rows(
    assistant: Assistant, wishes: list[_Wish], seed: int | None
) -> Generator[dict[str, Any], None, None]:
    """Describe titles a few at a time; yield the rows in order, ending all when closed."""
    stop = Signal()
    with ThreadPoolExecutor(_TITLES_AT_ONCE, "titles") as threads:
        try:
            yield from threads.map(lambda wish: _row(assistant, wish, seed, stop), wishes)
        finally:
            stop.set()
            threads.shutdown(wait=False, cancel_futures=True)


def _row(assistant: Assistant, wish: _Wish, seed: int | None, stop: Signal) -> dict[str, Any]:
    row = dict.fromkeys(SCHEMA.names) | {"uid": wish.uid, "title": wish.title}
    if wish.refused:
        return row | {"refused": wish.refused}
    try:
        answer = _describe(assistant, wish.title, seed, stop)
    except CatalogueError as error:
        return row | {"refused": str(refusal(error, assistant.config.max_characters)["detail"])}
    checked = answer.checks
    return row | {
        "description": answer.answer, "in_catalogue": answer.record is not None,
        "title_words_missing": checked.title_words_missing if checked else [],
        "unsupported_numbers": checked.unsupported_numbers if checked else [],
        "left_out": answer.left_out, "finish_reason": answer.finish_reason,
        "new_tokens": answer.new_tokens, "seed": answer.seed,
    }  # fmt: skip


def _describe(assistant: Assistant, title: str, seed: int | None, stop: Signal) -> Answer:
    """Describe one title; where too many ask, wait for a place."""
    while True:
        try:
            with closing(assistant.describe(title, seed=seed)) as answers:
                answer = next(answers)
                while not stop.is_set() and (grown := next(answers, None)):
                    answer = grown
            return answer
        except BusyError:
            if stop.wait(_SECONDS_TO_RETRY):
                raise
