"""The index of a catalogue's titles: one SQLite file beside the clean shards, kept up by digest.

Words of titles in one full-text table, and the different words themselves in another with
trigrams, so that a misspelt word finds what was meant among thousands of words, not among
millions of titles. Holds titles only; the records stay in the shards.
"""

import contextlib
import posixpath
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from data import console
from data.artefacts import lock, manifest, schema
from data.artefacts.folder import Artefact, Folder, digest_file
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.parts import open_part
from data.cli import command_line
from data.errors import ManifestError, OutputError, SourceError
from inference.ask.query import words

STAGE = "titles"
_FILE = "titles.sqlite"
# What SQLite says where the machine is at fault, not the file.
_REFUSALS = ("full", "locked", "readonly", "out of memory")
# Raise it when folding or the tables change: an index of another form is made anew.
_FORM = 1
# A row's number: its part above these bits, its place in the part below.
_ROW_BITS = 32
_ROWS_AT_ONCE = 20_000

_TABLES = """
CREATE TABLE IF NOT EXISTS parts (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL UNIQUE, rows INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS titles (
    id INTEGER PRIMARY KEY, title TEXT NOT NULL, whole INTEGER NOT NULL);
CREATE VIRTUAL TABLE IF NOT EXISTS said USING fts5(
    folded, content='', detail=none, tokenize='unicode61 remove_diacritics 0');
CREATE VIRTUAL TABLE IF NOT EXISTS counted USING fts5vocab(said, row);
"""
_WORDS = """
DROP TABLE IF EXISTS words;
DROP TABLE IF EXISTS spelt;
CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE, titles INTEGER NOT NULL);
INSERT INTO words (word, titles) SELECT term, doc FROM counted;
CREATE VIRTUAL TABLE spelt USING fts5(word, content='', detail=none, tokenize='trigram');
INSERT INTO spelt (rowid, word) SELECT id, word FROM words WHERE length(word) >= 3;
CREATE INDEX IF NOT EXISTS by_whole ON titles (whole);
"""


@dataclass(frozen=True)
class Record:
    """One row of the catalogue, as the shards hold it."""

    uid: str
    title: str
    content: str
    split: str
    source: str
    byte_offset: int
    """Of the line in the uncompressed source."""


def whole_key(folded: str) -> int:
    """Key a whole title by its folded words: xxh3-64 as SQLite's signed integer."""
    key: int = xxhash.xxh3_64_intdigest(folded.encode())
    return key - (1 << 64) if key >> 63 else key


def place_beside(clean: str) -> str:
    """Name the folder of a catalogue's index: beside its shards; in the store for remote ones."""
    folder = Folder(clean)
    if folder.is_local:
        return str(Path(clean.removeprefix("file://"))).rstrip("/") + "-titles"
    return f"data/store/titles/{clean.rstrip('/').rpartition('/')[2]}"


def build(clean: str, place: str | None = None) -> str:
    """Index a catalogue's titles, or only what changed since the index was made.

    Args:
        clean: folder of clean shards; local or an fsspec URL.
        place: local folder for the index; none: ``place_beside``.

    Returns:
        The folder of the index, finished.

    Raises:
        ManifestError: the shards are unfinished.
        SourceError: there are no rows.
        OutputError: the folder holds something else.
    """
    began = time.perf_counter()
    made = manifest.read(Folder(clean), "clean")
    parts = {each.path: each for each in made.outputs if each.path.startswith("part-")}
    if not made.counts.kept:
        raise SourceError(clean, "titles", "a catalogue without rows")
    folder = Folder(place or place_beside(clean))
    identity = {"form": _FORM, "clean": made.digest}
    if _is_finished(folder, identity):
        return folder.url
    Path(folder.path()).mkdir(parents=True, exist_ok=True)
    with lock.locked(folder, wait=True):
        if not _is_finished(folder, identity):  # else another process was quicker
            _clear_way(folder)
            rows = _fill(folder, Folder(clean), parts)
            file = Path(folder.path(_FILE))
            output = Artefact(_FILE, rows, file.stat().st_size, digest_file(file))
            seconds = round(time.perf_counter() - began, 3)
            Manifest(
                stage=STAGE,
                config={"clean": clean},
                identity=identity,
                inputs=tuple(parts.values()),
                outputs=(output,),
                counts=Counts(rows, rows),
                made_from=(made.as_parent(manifest.absolute(clean)),),
                versions=manifest.versions() | {"sqlite": sqlite3.sqlite_version},
                seconds=seconds,
            ).write(folder)
            command_line.log.info(f"{folder.url}: {rows:,} titles indexed in {seconds:.1f} s")
    return folder.url


def _fill(folder: Folder, clean: Folder, parts: dict[str, Artefact]) -> int:
    """Bring an index up to date, or make it from nothing where it is damaged; give all rows."""
    for is_last in (False, True):
        try:
            with contextlib.closing(_open_to_write(folder)) as db:
                return _bring_up_to_date(db, clean, parts)
        except sqlite3.DatabaseError as error:
            if is_last or any(word in str(error) for word in _REFUSALS):
                raise OutputError(folder.path(_FILE), "a file to write", str(error)) from error
            command_line.log.warning(f"{folder.path(_FILE)}: damaged ({error}); it is made anew")
            _remove_file(folder)
    raise AssertionError


def _remove_file(folder: Folder) -> None:
    for name in folder.names():
        if name.startswith(_FILE):
            folder.remove(name)


def discard(place: str) -> None:
    """Declare an index unfinished that turned out to be damaged, so that it is made anew."""
    folder = Folder(place)
    with lock.locked(folder, wait=True):
        folder.remove(manifest.NAME)
        _remove_file(folder)


def _is_finished(folder: Folder, identity: dict[str, Any]) -> bool:
    """Tell whether the index is there, of these shards, and the bytes that were written.

    Raises:
        OutputError: the folder holds something else.
    """
    earlier = _earlier(folder)
    return earlier is not None and earlier.identity == identity and _is_whole(folder, earlier)


def _earlier(folder: Folder) -> Manifest | None:
    """Read the manifest of an index that was finished once.

    Raises:
        OutputError: the folder holds something else.
    """
    names = [name for name in folder.names() if name != lock.NAME]
    if manifest.NAME not in names:
        if names and not any(name.startswith((_FILE, ".tmp-")) for name in names):
            mend = "name another --index"
            raise OutputError(folder.url, "an empty or new folder", f"{names[0]!r} in it", mend)
        return None
    try:
        return manifest.read(folder, STAGE)
    except ManifestError as error:
        if _FILE in names:
            return None
        expected, mend = "an index of titles, or nothing", "name another --index"
        raise OutputError(folder.url, expected, "something else", mend) from error


def _is_whole(folder: Folder, earlier: Manifest) -> bool:
    file, written = Path(folder.path(_FILE)), earlier.outputs[0]
    return (
        file.is_file()
        and file.stat().st_size == written.bytes
        and digest_file(file) == written.digest
    )


def _clear_way(folder: Folder) -> None:
    """Declare an index unfinished, and take its file away where nothing can be added to it."""
    earlier = _earlier(folder)
    if earlier is not None:
        if not _is_whole(folder, earlier):
            command_line.log.warning(
                f"{folder.path(_FILE)}: not as it was written; it is made anew"
            )
            _remove_file(folder)
        elif earlier.identity.get("form") != _FORM:
            _remove_file(folder)
    folder.remove(manifest.NAME)


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=600, isolation_level=None)


def _open_to_write(folder: Folder) -> sqlite3.Connection:
    db = _connect(folder.path(_FILE))
    # A killed process leaves a journal that the next one rolls back; a power cut may spoil the
    # file, which has no manifest then.
    db.executescript("PRAGMA synchronous=OFF; PRAGMA cache_size=-262144;")
    db.executescript(_TABLES)
    return db


def _bring_up_to_date(db: sqlite3.Connection, clean: Folder, parts: dict[str, Artefact]) -> int:
    """Take out the parts that are gone or changed, put in the new ones; give all rows."""
    known = {
        digest: (key, name)
        for key, name, digest in db.execute("SELECT id, name, digest FROM parts")
    }
    wanted = {each.digest for each in parts.values()}
    for digest, (key, _) in known.items():
        if digest not in wanted:
            _take_out(db, key)
    with console.Progress("index", sum(each.rows for each in parts.values()), "titles") as progress:
        for name, part in parts.items():
            if part.digest in known:
                # The same rows under another name: shards may be numbered anew.
                db.execute("UPDATE parts SET name = ? WHERE digest = ?", (name, part.digest))
            else:
                _put_in(db, clean, name, part)
            progress.advance(part.rows)
    with _transaction(db):
        for statement in filter(None, map(str.strip, _WORDS.split(";"))):
            db.execute(statement)
    found: int = db.execute("SELECT count(*) FROM titles").fetchone()[0]
    return found


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _put_in(db: sqlite3.Connection, clean: Folder, name: str, part: Artefact) -> None:
    """Index one part in one transaction."""
    with _transaction(db):
        query = "INSERT OR IGNORE INTO parts (name, digest, rows) VALUES (?, ?, ?) RETURNING id"
        added = db.execute(query, (name, part.digest, part.rows)).fetchone()
        if added is None:  # another process was quicker
            return
        start = added[0] << _ROW_BITS
        with open_part(clean, name, part) as file:
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=["title"]):
                titles = batch.column(0).to_pylist()
                folded = [" ".join(words(title)) for title in titles]
                keys = range(start, start + len(titles))
                wholes = map(whole_key, folded)
                rows = zip(keys, titles, wholes, strict=True)
                db.executemany("INSERT INTO titles VALUES (?, ?, ?)", rows)
                said = zip(keys, folded, strict=True)
                db.executemany("INSERT INTO said (rowid, folded) VALUES (?, ?)", said)
                start += len(titles)


def _take_out(db: sqlite3.Connection, key: int) -> None:
    with _transaction(db):
        low, high = key << _ROW_BITS, (key + 1) << _ROW_BITS
        query = "SELECT id, title FROM titles WHERE id >= ? AND id < ?"
        # A table without its content is told what it held.
        gone = [(row, " ".join(words(title))) for row, title in db.execute(query, (low, high))]
        delete = "INSERT INTO said (said, rowid, folded) VALUES ('delete', ?, ?)"
        db.executemany(delete, gone)
        db.execute("DELETE FROM titles WHERE id >= ? AND id < ?", (low, high))
        db.execute("DELETE FROM parts WHERE id = ?", (key,))


def open_index(place: str) -> sqlite3.Connection:
    """Open a finished index for reading, for one thread.

    Raises:
        ManifestError: it is unfinished.
    """
    manifest.read(Folder(place), STAGE)
    path = Path(Folder(place).path(_FILE)).resolve()
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    db.execute("PRAGMA mmap_size=2147483648")
    return db


def read_record(
    db: sqlite3.Connection, clean: Folder, row: int, parts: dict[str, Artefact] | None = None
) -> Record:
    """Read the record of an indexed title from its shard.

    Args:
        db: from ``open_index``.
        clean: the shards.
        row: of the index.
        parts: the shards as their manifest lists them now, by name; none: not looked at.

    Raises:
        ManifestError: the shard is not the one that was indexed, or holds another title there.
    """
    query = "SELECT name, digest, title FROM parts, titles WHERE parts.id = ? AND titles.id = ?"
    name, digest, title = db.execute(query, (row >> _ROW_BITS, row)).fetchone() or ("", "", "")
    record = None
    part = parts.get(name) if parts else None
    if name and (parts is None or (part and part.digest == digest)):
        record = _read_row(clean, name, row, part)
    if record is None or record.title != title:
        expected, found = "the shard that was indexed", "another one"
        raise ManifestError(clean.path(name), expected, found, "ask again in a moment")
    return record


def _read_row(clean: Folder, name: str, row: int, part: Artefact | None) -> Record | None:
    place = row & ((1 << _ROW_BITS) - 1)
    columns = ["uid", "title", "content", "split", "source", "byte_offset"]
    with open_part(clean, name, part) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if place < rows:
                table = file.read_row_group(group, columns=columns)
                return _record(table.slice(place, 1), clean.path(name))
            place -= rows
    return None


def _record(row: pa.Table, where: str) -> Record:
    schema.check(row, pa.schema([schema.CLEAN.field(name) for name in row.column_names]), where)
    return Record(**row.to_pylist()[0])


def row_of(db: sqlite3.Connection, title: str) -> int | None:
    """Give the first row of a title, spelt in full but for case, accents and punctuation.

    Where several titles fold to the same words, the one that is equal goes first.
    """
    key = whole_key(" ".join(words(title)))
    query = "SELECT id FROM titles WHERE whole = ? ORDER BY title != ?, id LIMIT 1"
    found = db.execute(query, (key, title)).fetchone()
    return found[0] if found else None


def digest_of(place: str) -> str:
    """Give the digest of the catalogue that an index is of."""
    digest: str = manifest.read(Folder(place), STAGE).identity["clean"]
    return digest


def sources_of(clean: str) -> dict[str, str]:
    """Tell where each source of a catalogue lay when it was cleaned, by its name in the rows."""
    made = manifest.read(Folder(clean), "clean")
    return {posixpath.basename(each.path): each.path for each in made.inputs}


def count(db: sqlite3.Connection) -> int:
    """Count the titles of an index."""
    found: int = db.execute("SELECT coalesce(sum(rows), 0) FROM parts").fetchone()[0]
    return found


def short_titles(db: sqlite3.Connection, longest: int, most: int) -> list[str]:
    """Give a few titles of more than one word and at most so many characters."""
    query = (
        "SELECT title FROM titles WHERE length(title) <= ? AND title LIKE '% % %' "
        "AND title NOT LIKE '%<%' LIMIT ?"
    )
    return [row[0] for row in db.execute(query, (longest, most))]
