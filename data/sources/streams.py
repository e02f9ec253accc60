"""Files of users as bytes: local or at an fsspec URL, plain, compressed, or members of an archive.

The one place that distinguishes a fault of the file from one of the network or the machine: only
the first is a SourceError, so that work already done is kept after the others.
"""

import bz2
import contextlib
import gzip
import io
import logging
import lzma
import os
import posixpath
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import IO, Any

from data.artefacts.folder import Folder
from data.console import first_line
from data.errors import NetworkError, SourceError
from data.sources import archives

log = logging.getLogger("catalogue")

GZIP = b"\x1f\x8b"
_COMPRESSED = (
    (GZIP, "gz"),
    *((b"BZh%d1AY&SY" % level, "bz2") for level in range(1, 10)),
    *((b"BZh%d\x17rE8P\x90" % level, "bz2") for level in range(1, 10)),  # of nothing
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zst"),
    *((bytes([first]) + b"\x2a\x4d\x18", "zst") for first in range(0x50, 0x60)),  # to be skipped
)
_NAMES = {"gz": "gzip", "bz2": "bzip2", "xz": "xz", "zst": "Zstandard"}
_UNPACKERS: dict[str, Callable[[], Any]] = {
    "bz2": bz2.BZ2Decompressor, "xz": lzma.LZMADecompressor,
}  # fmt: skip
_MIB = 2**20
_STEP = 2**16
_MOST_LAYERS = 4
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
        hint = "name it as the source, or all of its files by a pattern"
        raise SourceError(url, "a file", "a folder", hint)
    if not stat.S_ISREG(mode):
        hint = "write it to a file first, as it is read more than once"
        raise SourceError(url, "a file", "a pipe or device", hint)


@dataclass(frozen=True)
class Limits:
    """How far compressed bytes may expand."""

    max_ratio: int
    """Uncompressed bytes a stored one at most, beyond the first ``free``."""
    hint: str
    """What to do where a sound file expands further."""
    free: int = 16 * _MIB
    """Bytes that may come of any file."""


def compression(start: bytes) -> str | None:
    """Recognise a compressed stream by its first bytes: gz, bz2, xz or zst."""
    return next((kind for magic, kind in _COMPRESSED if start.startswith(magic)), None)


@contextlib.contextmanager
def open_packed(
    url: str, packing: Sequence[str], limits: Limits
) -> Iterator[tuple[IO[bytes], Callable[[], int]]]:
    """Open what is inside a file, to be read in order.

    Args:
        url: of the stored file.
        packing: layers from the outside in: a compression, or ``archives.step`` of a member.
        limits: of compressed layers.

    Yields:
        The bytes, and what returns how many stored ones, or of a member its own, are read so far.

    Raises:
        SourceError: a layer is damaged or expands beyond the limits.
    """
    kept, layers = _KEPT.get(), _layers_kept(packing)
    with contextlib.ExitStack() as stack:
        if kept and layers:
            stream = stack.enter_context(kept.member(url, packing[:layers], limits))
            tell, packing = stream.tell, packing[layers:]
        else:
            stream = stack.enter_context(open_url(url))
            tell = stream.tell
        for step in packing:
            if step in _NAMES:
                stream = Unpacked(stream, url, step, limits)
            else:
                stream = stack.enter_context(archives.open_member(stream, url, step, limits))
                tell = stream.tell
        yield stream, tell


def unpack(
    url: str, packing: Sequence[str], start: bytes, limits: Limits, size: int = _STEP
) -> tuple[tuple[str, ...], bytes]:
    """Find the compressed layers around what a file, or a member of an archive, holds.

    Args:
        url: of the stored file.
        packing: the layers around ``start``, as ``open_packed`` takes them.
        start: first bytes behind those.
        limits: of compressed layers.
        size: bytes to look at of what is inside.

    Returns:
        All layers from the outside in, and the first bytes of what is inside.
    """
    layers = tuple(packing)
    while (layer := compression(start)) and len(layers) < _MOST_LAYERS:
        layers = (*layers, layer)
        with open_packed(url, layers, limits) as (stream, _):
            start = read_exactly(stream, size)
    return layers, start


def _layers_kept(packing: Sequence[str]) -> int:
    """Return how many layers, the last a member, are those of an archive to be kept open.

    Those are a zip, and a tar in another layer.
    """
    if packing and packing[0].partition("/")[0] == archives.ZIP:
        return 1
    tar = next((i for i, step in enumerate(packing) if archives.tar_offset(step) >= 0), 0)
    return tar and tar + 1


@contextlib.contextmanager
def in_one_pass() -> Iterator[None]:
    """Keep archives open between members, those of compressed tar where they are read in order.

    Without it, what stands before a member of tar is unpacked anew for each, and the list of a
    zip's members is read anew.
    """
    kept = _Kept()
    before = _KEPT.set(kept)
    try:
        yield
    finally:
        _KEPT.reset(before)
        kept.close()


class _Kept:
    """The archive that was read last; one of tar where its last member ends."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._archive: archives.Walk | archives.Directory
        self._stack = contextlib.ExitStack()

    def close(self) -> None:
        """Close it."""
        self._key = ()
        self._stack.close()

    @contextlib.contextmanager
    def member(self, url: str, packing: Sequence[str], limits: Limits) -> Iterator[Any]:
        """Open a member: in the archive as it stands, or in one opened anew."""
        *layers, step = packing
        key = url, layers, limits
        try:
            if self._key != key or not self._archive.reaches(step):
                self.close()
                stream: Any = self._stack.enter_context(open_url(url))
                for layer in layers:
                    stream = Unpacked(stream, url, layer, limits)
                is_tar = archives.tar_offset(step) >= 0
                self._archive = (
                    archives.Walk(stream, url)
                    if is_tar
                    else archives.Directory(stream, url, limits)
                )
                self._key = key
            yield self._archive.member(step)
        except Exception:
            self._key = ()
            with self._stack.pop_all():  # a fault of the network is reported as such
                raise


_KEPT: ContextVar[_Kept | None] = ContextVar("kept", default=None)


def gunzip(
    stored: IO[bytes], url: str, max_ratio: int, hint: str, free: int = 16 * _MIB
) -> "Unpacked":
    """Decompress a gzip stream, members one after the other, within a bound.

    Args:
        stored: the compressed bytes, read as far as is needed.
        url: for errors.
        max_ratio: uncompressed bytes a stored one at most, beyond the first ``free``.
        hint: what to do where a sound file expands further.
        free: bytes that may come of any file.
    """
    return Unpacked(stored, url, "gz", Limits(max_ratio, hint, free))


def _decompress(stored: IO[bytes], kind: str) -> Any:
    if kind == "gz":
        from isal import igzip

        return igzip.GzipFile(fileobj=stored)
    if kind in _UNPACKERS:
        return _Streams(stored, _UNPACKERS[kind])
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), "zstd")


class _Streams(io.RawIOBase):
    """Streams of bz2 or xz one after the other: Python's own files end unseen at a damaged one."""

    def __init__(self, stored: IO[bytes], start: Callable[[], Any]) -> None:
        self._stored, self._start, self._unpacker = stored, start, start()

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; only zeros may stand between streams and behind them."""
        piece = b""
        while len(buffer) and not piece:
            packed = b""
            if self._unpacker.eof:
                packed = self._unpacker.unused_data.lstrip(b"\0")
                while not packed:
                    if not (packed := self._stored.read(_STEP)):
                        return 0
                    packed = packed.lstrip(b"\0")
                self._unpacker = self._start()
            elif self._unpacker.needs_input and not (packed := self._stored.read(_STEP)):
                raise EOFError("a stream that breaks off")
            piece = self._unpacker.decompress(packed, len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


class Unpacked(archives.Counted):
    """The uncompressed bytes of a stream; reading raises SourceError for a bad stream."""

    def __init__(self, stored: IO[bytes], url: str, kind: str, limits: Limits) -> None:
        self._stored, self._url, self._kind, self._limits = stored, url, kind, limits
        self._stream = _decompress(stored, kind)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer.

        Raises:
            SourceError: the stream is cut short or damaged, or expands beyond the bound.
            OSError: the machine or the network failed.
        """
        count = super().readinto(buffer)
        if self._produced > self._limits.free + self._limits.max_ratio * self._stored.tell():
            ratio = self._limits.max_ratio
            expected = f"a stream of {_NAMES[self._kind]} that expands at most {ratio}-fold"
            size = f"{self._produced:,} bytes from {self._stored.tell():,}"
            raise SourceError(self._url, expected, size, self._limits.hint)
        return count

    def _fill(self, buffer: Any) -> int:
        from isal import igzip_lib

        try:
            if type(self._stream) is gzip.GzipFile:
                # One read at a time: a fault further on keeps back nothing before it.
                piece = self._stream.read1(len(buffer))
                buffer[: len(piece)] = piece
                return len(piece)
            count: int = self._stream.readinto(buffer)
            return count
        except (gzip.BadGzipFile, EOFError) as error:
            if self._kind != "gz":
                raise self._damaged(error) from error
            if type(self._stream) is not gzip.GzipFile:
                self._read_again(error)
                return self._fill(buffer)
            if not (self._produced and "Not a gzipped file" in str(error)):
                raise self._damaged(error) from error
            # As gzip -d does: what follows a whole stream is no part of it.
            log.warning("%s: left out what follows its gzip stream", self._url)
            self._stream = io.BytesIO()
            return 0
        except (zlib.error, lzma.LZMAError, igzip_lib.IsalError) as error:
            raise self._damaged(error) from error
        except OSError as error:
            # Faults of the data are plain OSErrors; those of the machine have a number or a kind.
            if error.errno is not None or type(error) is not OSError:
                raise
            raise self._damaged(error) from error

    def _read_again(self, error: Exception) -> None:
        """Read with Python's own gzip: isal keeps back what came before bytes that are no gzip.

        Raises:
            SourceError: the stored bytes cannot be read again.
        """
        if not self._stored.seekable():
            raise self._damaged(error) from error
        self._stored.seek(0)
        self._stream = gzip.GzipFile(fileobj=self._stored)
        left = self._produced
        while left:
            left -= len(self._stream.read(min(left, _MIB)))

    def _damaged(self, error: Exception) -> SourceError:
        expected = f"a whole {_NAMES[self._kind]} stream"
        return SourceError(self._url, expected, first_line(error), "fetch it again")


def read_exactly(stream: IO[bytes], size: int) -> bytes:
    """Read so many bytes, or fewer at the end."""
    pieces: list[bytes] = []
    while size and (piece := stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
