"""The catalogue as it is now: its index and records, kept in step with the shards.

Before each look the state of the manifest's file is compared with that of the last indexing. The
index of other shards, or a damaged one, is made anew. Never returns the record of another title.
"""

import contextlib
import dataclasses
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import fsspec

from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.artefacts.manifest import Manifest
from data.cli import command_line
from data.errors import ManifestError
from inference.ask import index
from inference.ask.index import Record

# For who asks while the index is made anew for another question.
_PATIENCE = 5.0
_AGAIN = "ask again in a moment"


@dataclass(frozen=True)
class _State:
    """What was indexed."""

    stamp: str
    """Of the manifest's file; empty: the index is damaged."""
    place: str
    catalogue: Manifest
    digest: str
    """Of the catalogue."""


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
        self._state = self._build(self._stamp())

    @property
    def digest(self) -> str:
        """Digest of the catalogue that was indexed last."""
        return self._state.digest

    @property
    def catalogue(self) -> Manifest:
        """Of the catalogue that was indexed last."""
        return self._state.catalogue

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[sqlite3.Connection, str]]:
        """Open the index of the catalogue as it is now; yield it and the catalogue's digest.

        Raises:
            ManifestError: the catalogue is gone or being made anew, or its index was damaged.
        """
        state = self._current()
        try:
            if getattr(self._local, "state", None) is not state:  # each thread opens it once
                if hasattr(self._local, "db"):
                    self._local.db.close()
                self._local.db = index.open_index(state.place)
                self._local.state = state
            yield self._local.db, state.digest
        except sqlite3.DatabaseError as error:
            if "locked" not in str(error):
                self._discard(state, str(error))
            damage = f"one that is not ({error})"
            raise ManifestError(state.place, "an index to read", damage, _AGAIN) from error

    def record(self, row: int, digest: str) -> Record:
        """Read the record of an indexed title.

        Args:
            row: of the index.
            digest: of the catalogue in which the title was found.

        Raises:
            ManifestError: the catalogue is another one by now, or its shard is.
        """
        with self.opened() as (db, current):
            state = self._state
            if current != digest:
                raise self._changed()
            record = index.read_record(db, self._clean, row, state.catalogue)
            if self._stamp() != state.stamp:
                raise self._changed()
        return record

    def _changed(self) -> ManifestError:
        expected = "the catalogue that the question was asked about"
        return ManifestError(self._clean.url, expected, "another by now", _AGAIN)

    def _stamp(self) -> str:
        """Return a text that changes whenever the manifest's file is written."""
        try:
            fs, root = fsspec.core.url_to_fs(self._clean.url)
            fs.invalidate_cache(root)
            stamp: str = fs.ukey(f"{root}/{manifest.NAME}")
            return stamp
        except FileNotFoundError:
            manifest.read(self._clean, "clean")  # its error names what is there instead
            raise
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ManifestError(self._clean.url, "a catalogue that can be read", reason) from error

    def _current(self) -> _State:
        """Return what is indexed, after indexing what is there now."""
        stamp, state = self._stamp(), self._state
        if state.stamp == stamp:
            return state
        if not self._one_builds.acquire(timeout=_PATIENCE):
            expected = "an index of its titles"
            raise ManifestError(self._clean.url, expected, "one that is being made", _AGAIN)
        try:
            before = state = self._state
            if before.stamp != stamp:
                state = self._state = self._build(stamp)
            if before.digest != state.digest:
                command_line.log.info(
                    f"{self._clean.url}: cleaned anew, so its titles were indexed anew"
                )
            return state
        finally:
            self._one_builds.release()

    def _build(self, stamp: str) -> _State:
        place = index.build(self._clean.url, self._place)
        catalogue = manifest.read(self._clean, "clean")
        digest = catalogue.digest
        if manifest.read(Folder(place), index.STAGE).identity["clean"] != digest:
            raise self._changed()
        return _State(stamp, place, catalogue, digest)

    def _discard(self, state: _State, why: str) -> None:
        """Remove an index that turned out to be damaged, so that the next look makes it anew."""
        with self._one_builds:
            if self._state is state:
                command_line.log.warning(f"{state.place}: damaged ({why}); it is made anew")
                index.discard(state.place)
                self._state = dataclasses.replace(state, stamp="")
