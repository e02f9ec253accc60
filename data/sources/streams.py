"""Files of users as bytes: local or at an fsspec URL, plain or gzip.

The one place that distinguishes a fault of the file from one of the network or the machine: only
the first is a SourceError, so that work already done is kept after the others.
"""

import contextlib
import gzip
import io
import os
import posixpath
import stat
from collections.abc import Iterator
from typing import IO, Any

from data.artefacts.folder import Folder
from data.console import first_line
from data.errors import NetworkError, SourceError

GZIP = b"\x1f\x8b"
_MIB = 2**20
_CLIENTS = {"aiobotocore", "aiohttp", "botocore", "httpx", "requests", "urllib3"}


@contextlib.contextmanager
def open_url(url: str) -> Iterator[IO[bytes]]:
    """Open a local path or fsspec URL for reading bytes, seekable.

    Raises:
        SourceError: it is missing, or no file that can be read more than once.
        NetworkError: a remote one could not be read, now or while it was open.
        OSError: the machine failed.
    """
    folder, name = posixpath.split(url)
    beside = Folder(folder or ".")
    if beside.is_local:
        _check_regular(url, beside.path(name))
    try:
        try:
            opened = beside.open(name)
        except FileNotFoundError as error:
            raise SourceError(url, "a file or folder", "none") from error
        with opened as file:
            yield file
    except Exception as error:
        if not _is_network(error):
            raise
        hint = "run the same command again: it goes on where it stopped"
        raise NetworkError(url, "an answer of the network", first_line(error), hint) from error


def _is_network(error: Exception) -> bool:
    """Whether the network failed: libraries have their own errors, fsspec one without a number."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    return type(error).__module__.partition(".")[0] in _CLIENTS


def _check_regular(url: str, path: str) -> None:
    """Refuse what opening would hang on or what cannot be read twice.

    Raises:
        SourceError: the path is no regular file.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        state = "a link to a file that is not there" if os.path.islink(path) else "none"
        raise SourceError(url, "a file or folder", state) from error
    if stat.S_ISDIR(mode):
        raise SourceError(url, "a file", "a folder")
    if not stat.S_ISREG(mode):
        hint = "write it to a file first, as it is read more than once"
        raise SourceError(url, "a file", "a pipe or device", hint)


def gunzip(
    stored: IO[bytes], url: str, max_ratio: int, hint: str, free: int = 16 * _MIB
) -> "Gunzipped":
    """Decompress a gzip stream, members one after the other, within a bound.

    Args:
        stored: the compressed bytes, read as far as is needed.
        url: for errors.
        max_ratio: uncompressed bytes a stored one at most, beyond the first ``free``.
        hint: what to do where a sound file expands further.
        free: bytes that may come of any file.
    """
    return Gunzipped(stored, url, max_ratio, hint, free)


class Gunzipped(io.RawIOBase):
    """The uncompressed bytes of a gzip stream; reading raises SourceError for a bad stream."""

    def __init__(self, stored: IO[bytes], url: str, max_ratio: int, hint: str, free: int) -> None:
        from isal import igzip

        self._stored, self._url = stored, url
        self._max_ratio, self._hint, self._free = max_ratio, hint, free
        self._stream = igzip.GzipFile(fileobj=stored)
        self._produced = 0

    def readable(self) -> bool:
        """Whether this can be read: always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer.

        Raises:
            SourceError: the stream is cut short or damaged, or expands beyond the bound.
            OSError: the machine or the network failed.
        """
        from isal import igzip_lib

        try:
            count: int = self._stream.readinto(buffer)
        except (EOFError, gzip.BadGzipFile, igzip_lib.IsalError) as error:
            expected = "a whole gzip stream"
            raise SourceError(self._url, expected, str(error), "fetch it again") from error
        self._produced += count
        if self._produced > self._free + self._max_ratio * self._stored.tell():
            expected = f"a gzip stream that expands at most {self._max_ratio}-fold"
            size = f"{self._produced:,} bytes from {self._stored.tell():,}"
            raise SourceError(self._url, expected, size, self._hint)
        return count
