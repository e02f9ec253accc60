"""The index of a catalogue's titles: one SQLite file beside the clean shards.

One full-text table holds the words of each title. Another holds each different word by its
trigrams, so that a misspelt word is looked up among thousands of words, not millions of titles.
Holds titles only; the records stay in the shards.
"""

import contextlib
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from data import console
from data.artefacts import lock, manifest, schema
from data.artefacts.folder import TEMPORARY, Artefact, Folder, digest_file
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.parts import open_part
from data.cli import command_line
from data.errors import ManifestError, OutputError, SourceError
from data.prompt import label
from inference.ask.query import words

STAGE = "titles"
_FILE = "titles.sqlite"
# In SQLite's errors where the machine is at fault, not the file.
_REFUSALS = ("full", "locked", "readonly", "out of memory")
FORM = 1
"""Raise it when folding or the tables change: an index of another form is made anew."""
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
    attributes: dict[str, str] = field(default_factory=dict)
    """In the order of the catalogue's columns."""

    @property
    def support(self) -> str:
        """What supports the numbers of an answer: the description and the attributes."""
        return "\n".join([self.content, *self.attributes.values()])

    @property
    def listed(self) -> str:
        """The attributes that it has, for people to read; empty: none."""
        return "; ".join(
            f"{label(name)}: {value}" for name, value in self.attributes.items() if value
        )


def whole_key(folded: str) -> int:
    """Hash the folded words of a whole title: xxh3-64 as SQLite's signed integer."""
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
    catalogue = manifest.read(Folder(clean), "clean")
    if not catalogue.counts.kept:
        raise SourceError(clean, "titles", "a catalogue without rows")
    folder = Folder(place or place_beside(clean))
    identity = {"form": FORM, "clean": catalogue.digest}
    earlier = _find(folder)
    if earlier is not None and earlier.identity == identity:
        return folder.url
    with lock.locked(folder, wait=True):
        earlier = _find(folder)
        if earlier is not None and earlier.identity == identity:  # another process was quicker
            return folder.url
        _begin(folder, earlier)
        rows = _fill(folder, Folder(clean), catalogue.parts)
        file = Path(folder.path(_FILE))
        output = Artefact(_FILE, rows, file.stat().st_size, digest_file(file))
        seconds = round(time.perf_counter() - began, 3)
        Manifest(
            stage=STAGE,
            config={"clean": clean},
            identity=identity,
            inputs=catalogue.parts,
            outputs=(output,),
            counts=Counts(rows, rows),
            made_from=(catalogue.as_parent(manifest.absolute(clean)),),
            versions=manifest.versions() | {"sqlite": sqlite3.sqlite_version},
            seconds=seconds,
        ).write(folder)
    command_line.log.info(f"{folder.url}: {rows:,} titles indexed in {seconds:.1f} s")
    return folder.url


def discard(place: str) -> None:
    """Remove an index that turned out to be damaged, so that it is made anew."""
    folder = Folder(place)
    with lock.locked(folder, wait=True):
        folder.remove(manifest.NAME)
        _remove_file(folder)


def _remove_file(folder: Folder) -> None:
    """Remove the database, and the journal that a killed process left beside it."""
    for name in folder.names():
        if name.startswith(_FILE):
            folder.remove(name)


def _find(folder: Folder) -> Manifest | None:
    """Read the manifest of an index that is finished and as it was written.

    Raises:
        OutputError: the folder holds something else.
    """
    names = [name for name in folder.names() if not name.startswith(lock.NAME)]
    hint = "name another --index"
    if manifest.NAME not in names:
        if names and not any(name.startswith((_FILE, TEMPORARY)) for name in names):
            raise OutputError(folder.url, "an empty or new folder", f"{names[0]!r} in it", hint)
        return None
    try:
        earlier = manifest.read(folder, STAGE)
    except ManifestError as error:
        if _FILE in names:
            return None
        expected = "an index of titles, or nothing"
        raise OutputError(folder.url, expected, "something else", hint) from error
    with contextlib.suppress(ManifestError):
        earlier.check(folder)
        return earlier
    return None


def _begin(folder: Folder, earlier: Manifest | None) -> None:
    """Declare an index unfinished, and remove its file where nothing can be added to it."""
    if folder.exists(manifest.NAME):
        if earlier is None:
            file = folder.path(_FILE)
            command_line.log.warning(f"{file}: not as it was written; it is made anew")
        if earlier is None or earlier.identity.get("form") != FORM:
            _remove_file(folder)
        folder.remove(manifest.NAME)


def _fill(
    folder: Folder, clean: Folder, parts: tuple[Artefact, ...], may_retry: bool = True
) -> int:
    """Bring an index up to date, or make it from nothing where it is damaged; count its rows."""
    file = folder.path(_FILE)
    try:
        db = sqlite3.connect(file, timeout=600, isolation_level="IMMEDIATE")
        with contextlib.closing(db):
            return _update(db, clean, parts)
    except sqlite3.DatabaseError as error:
        if not may_retry or any(word in str(error) for word in _REFUSALS):
            raise OutputError(file, "a file to write", str(error)) from error
        command_line.log.warning(f"{file}: damaged ({error}); it is made anew")
    _remove_file(folder)
    return _fill(folder, clean, parts, may_retry=False)


def _update(db: sqlite3.Connection, clean: Folder, parts: tuple[Artefact, ...]) -> int:
    """Take out the parts that are gone or changed and put in the new ones; count all rows."""
    # A killed process leaves a journal that the next one rolls back; a power cut may spoil the
    # file, which has no manifest then.
    db.executescript("PRAGMA synchronous=OFF; PRAGMA cache_size=-262144;" + _TABLES)
    indexed = dict(db.execute("SELECT digest, id FROM parts").fetchall())
    for digest in indexed.keys() - {part.digest for part in parts}:
        _take_out(db, indexed[digest])
    with console.Progress("index", sum(part.rows for part in parts), "titles") as progress:
        for part in parts:
            if part.digest in indexed:
                # The same rows under another name: shards may be numbered anew.
                db.execute("UPDATE parts SET name = ? WHERE digest = ?", (part.path, part.digest))
            else:
                _put_in(db, clean, part)
            progress.advance(part.rows)
    db.executescript(f"BEGIN IMMEDIATE; {_WORDS} COMMIT;")
    rows: int = db.execute("SELECT count(*) FROM titles").fetchone()[0]
    return rows


def _put_in(db: sqlite3.Connection, clean: Folder, part: Artefact) -> None:
    """Index one part in one transaction."""
    with db:
        query = "INSERT OR IGNORE INTO parts (name, digest, rows) VALUES (?, ?, ?) RETURNING id"
        inserted = db.execute(query, (part.path, part.digest, part.rows)).fetchone()
        if inserted is None:  # another part holds the same rows
            return
        start = inserted[0] << _ROW_BITS
        with open_part(clean, part.path, part) as file:
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=["title"]):
                titles = batch.column(0).to_pylist()
                folded = [" ".join(words(title)) for title in titles]
                keys = range(start, start + len(titles))
                rows = zip(keys, titles, map(whole_key, folded), strict=True)
                db.executemany("INSERT INTO titles VALUES (?, ?, ?)", rows)
                said = zip(keys, folded, strict=True)
                db.executemany("INSERT INTO said (rowid, folded) VALUES (?, ?)", said)
                start += len(titles)


def _take_out(db: sqlite3.Connection, key: int) -> None:
    """Remove one part in one transaction."""
    with db:
        bounds = (key << _ROW_BITS, (key + 1) << _ROW_BITS)
        query = "SELECT id, title FROM titles WHERE id >= ? AND id < ?"
        # The full-text table keeps no texts: to delete a row, it must be told the row's text.
        rows = [(row, " ".join(words(title))) for row, title in db.execute(query, bounds)]
        delete = "INSERT INTO said (said, rowid, folded) VALUES ('delete', ?, ?)"
        db.executemany(delete, rows)
        db.execute("DELETE FROM titles WHERE id >= ? AND id < ?", bounds)
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


def read_record(db: sqlite3.Connection, clean: Folder, row: int, catalogue: Manifest) -> Record:
    """Read the record of an indexed title from its shard.

    Args:
        db: from ``open_index``.
        clean: the shards.
        row: of the index.
        catalogue: the manifest of the shards as they are now.

    Raises:
        ManifestError: the shard is not the one that was indexed.
    """
    query = "SELECT name, digest, title FROM parts, titles WHERE parts.id = ? AND titles.id = ?"
    name, digest, title = db.execute(query, (row >> _ROW_BITS, row)).fetchone() or ("", "", "")
    part = catalogue.part(name)
    if part is not None and part.digest == digest:
        record = _read_row(clean, part, row & ((1 << _ROW_BITS) - 1), catalogue.attributes)
        if record.title == title:
            return record
    expected, hint = "the shard that was indexed", "ask again in a moment"
    raise ManifestError(clean.path(name), expected, "another one", hint)


def _read_row(clean: Folder, part: Artefact, place: int, attributes: list[str]) -> Record:
    """Read one row of a part, and of its row groups only the one that holds it."""
    fields = schema.with_attributes(schema.CLEAN, attributes)
    fields = fields.remove(fields.get_field_index("sample_key"))
    with open_part(clean, part.path, part) as file:
        group = 0
        while place >= (rows := file.metadata.row_group(group).num_rows):
            place, group = place - rows, group + 1
        row = file.read_row_group(group, columns=fields.names).slice(place, 1)
    schema.check(row, fields, clean.path(part.path))
    (values,) = row.to_pylist()
    own = {name: values.pop(name) for name in attributes}
    return Record(**values, attributes=own)


def row_of(db: sqlite3.Connection, title: str) -> int | None:
    """Find the first row of a title, spelt in full but for case, accents and punctuation.

    Where several titles fold to the same words, the one that is equal goes first.
    """
    key = whole_key(" ".join(words(title)))
    query = "SELECT id FROM titles WHERE whole = ? ORDER BY title != ?, id LIMIT 1"
    row = db.execute(query, (key, title)).fetchone()
    return row[0] if row else None


def count(db: sqlite3.Connection) -> int:
    """Count the titles of an index."""
    rows: int = db.execute("SELECT coalesce(sum(rows), 0) FROM parts").fetchone()[0]
    return rows


def short_titles(db: sqlite3.Connection, longest: int, most: int) -> list[str]:
    """List a few titles of three words or more and at most so many characters."""
    query = (
        "SELECT title FROM titles WHERE length(title) <= ? AND title LIKE '% % %' "
        "AND title NOT LIKE '%<%' LIMIT ?"
    )
    return [row[0] for row in db.execute(query, (longest, most))]
