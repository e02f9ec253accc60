"""The catalogue as it is now: its index and records, in step with shards cleaned anew in place.

Before each look it is compared with what was indexed, by the state of its manifest's file; an
index of other shards, or a damaged one, is made anew. Never gives the record of another title.
"""

import contextlib
import itertools
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import fsspec

from data.artefacts import manifest
from data.artefacts.folder import Artefact, Folder
from data.cli import command_line
from data.errors import ManifestError
from inference.ask import index
from inference.ask.index import Record

# For who asks while another one's question has the index made anew.
_PATIENCE = 5.0
_AGAIN = "ask again in a moment"


@dataclass(frozen=True)
class _State:
    """What was indexed."""

    stamp: str
    number: int
    """Rises with each index that is made."""
    place: str
    digest: str
    sources: dict[str, str]
    parts: dict[str, Artefact]
    """Digest of each part, by its name."""


class Shelf:
    """A catalogue and its index of titles, for any number of threads."""

    def __init__(self, clean: str, place: str | None = None) -> None:
        """Index the catalogue.

        Raises:
            ManifestError: it is unfinished.
            SourceError: it has no rows.
            OutputError: the index's folder holds something else.
        """
        self._clean, self._place = Folder(clean), place
        self._local = threading.local()
        self._one_builds = threading.Lock()
        self._numbers = itertools.count()
        self._state: _State | None = None
        self._current()

    @property
    def digest(self) -> str:
        """Of the catalogue that was indexed last."""
        return self._known().digest

    @property
    def sources(self) -> dict[str, str]:
        """Where each source of the catalogue lies, by its name."""
        return self._known().sources

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[sqlite3.Connection, str]]:
        """Open the index of the catalogue as it is now; give it with the catalogue's digest.

        Raises:
            ManifestError: the catalogue is gone or being made anew, or its index was damaged.
        """
        state = self._current()
        try:
            yield self._db(state), state.digest
        except sqlite3.DatabaseError as error:
            if "locked" not in str(error):
                self._forget(state, str(error))
            found = f"one that is not ({error})"
            raise ManifestError(state.place, "an index to read", found, _AGAIN) from error

    def record(self, row: int, digest: str) -> Record:
        """Read the record of an indexed title.

        Args:
            row: of the index.
            digest: of the catalogue in which it was found.

        Raises:
            ManifestError: the catalogue is another one by now, or its shard is.
        """
        with self.opened() as (db, now):
            state = self._known()
            if now != digest:
                raise self._changed()
            record = index.read_record(db, self._clean, row, state.parts)
            if self._stamp() != state.stamp:
                raise self._changed()
        return record

    def _changed(self) -> ManifestError:
        expected, found = "the catalogue that the question was asked about", "another by now"
        return ManifestError(self._clean.url, expected, found, _AGAIN)

    def _known(self) -> _State:
        state = self._state
        if state is None:
            raise ManifestError(self._clean.url, "an index of it", "none", _AGAIN)
        return state

    def _stamp(self) -> str:
        """Tell one state of the manifest's file from another."""
        try:
            fs, root = fsspec.core.url_to_fs(self._clean.url)
            fs.invalidate_cache(root)
            stamp: str = fs.ukey(f"{root}/{manifest.NAME}")
            return stamp
        except FileNotFoundError:
            manifest.read(self._clean, "clean")  # tells what is there instead
            raise
        except OSError as error:
            found = error.strerror or type(error).__name__
            raise ManifestError(self._clean.url, "a catalogue that can be read", found) from error

    def _current(self) -> _State:
        """Give what is indexed, after indexing what is there now."""
        stamp, state = self._stamp(), self._state
        if state is not None and state.stamp == stamp:
            return state
        if not self._one_builds.acquire(timeout=_PATIENCE):
            expected, found = "an index of its titles", "one that is being made"
            raise ManifestError(self._clean.url, expected, found, _AGAIN)
        try:
            state = self._state
            if state is None or state.stamp != stamp:
                state = self._state = self._build(stamp, state)
            return state
        finally:
            self._one_builds.release()

    def _build(self, stamp: str, before: _State | None) -> _State:
        place = index.build(self._clean.url, self._place)
        made = manifest.read(self._clean, "clean")
        if index.digest_of(place) != made.digest:
            raise self._changed()
        if before is not None and before.digest != made.digest:
            command_line.log.info(
                f"{self._clean.url}: cleaned anew, so its titles were indexed anew"
            )
        return _State(
            stamp,
            next(self._numbers),
            place,
            made.digest,
            index.sources_of(self._clean.url),
            {each.path: each for each in made.outputs},
        )

    def _db(self, state: _State) -> sqlite3.Connection:
        """Open the index once a thread."""
        if getattr(self._local, "number", None) != state.number:
            if hasattr(self._local, "db"):
                self._local.db.close()
            self._local.db = index.open_index(state.place)
            self._local.number = state.number
        opened: sqlite3.Connection = self._local.db
        return opened

    def _forget(self, state: _State, why: str) -> None:
        """Have an index made anew that turned out to be damaged."""
        with self._one_builds:
            if self._state is state:
                command_line.log.warning(f"{state.place}: damaged ({why}); it is made anew")
                index.discard(state.place)
                self._state = None
