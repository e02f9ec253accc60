"""Members of zip and tar archives, each read in order like a file of its own."""

import contextlib
import io
import itertools
import logging
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Protocol

from data.console import first_line
from data.errors import SourceError

log = logging.getLogger("catalogue")

ZIP, TAR = "zip", "tar"
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_TAR_MAGIC, _TAR_AT = b"ustar", 257
_ENCRYPTED = 1
_STEP = 2**20
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# zipfile does not know every compression: NotImplementedError.
_FAULTS = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError)


class Limits(Protocol):
    """How far compressed bytes may expand."""

    @property
    def max_ratio(self) -> int:
        """Uncompressed bytes a stored one at most, beyond ``free``."""

    @property
    def free(self) -> int:
        """Bytes that may come of any file."""

    @property
    def hint(self) -> str:
        """What to do where a sound file expands further."""


@dataclass(frozen=True)
class Member:
    """One file of an archive."""

    step: str
    """Names it in a packing."""
    name: str
    size: int
    """Bytes, uncompressed by the archive."""
    start: bytes
    stored: str
    """Its name as it stands in the archive."""


def member_name(stored: str) -> str:
    """Return the name of a member without what leads out of the folder that it is unpacked into."""
    return "/".join(part for part in stored.split("/") if part not in ("", ".", ".."))


def archive(start: bytes) -> str | None:
    """Recognise an archive by its first bytes: zip or tar."""
    if start.startswith(_ZIP_MAGIC):
        return ZIP
    return TAR if start[_TAR_AT : _TAR_AT + len(_TAR_MAGIC)] == _TAR_MAGIC else None


def members(stream: IO[bytes], url: str, kind: str, start_bytes: int) -> Iterator[Member]:
    """List the files of an archive with their first bytes, in its order.

    Raises:
        SourceError: it is damaged, or needs a password.
    """
    with _sound(url, kind):
        yield from (_of_tar if kind == TAR else _of_zip)(stream, url, start_bytes)


def _of_tar(stream: IO[bytes], url: str, start_bytes: int) -> Iterator[Member]:
    last: Any = _Last(stream)
    with tarfile.open(fileobj=last, mode="r|") as opened:
        for held in opened:
            if held.issparse():
                hole = f"{held.name}, a file with holes"
                raise SourceError(url, "a tar archive of whole files", hole, "unpack it")
            # tar writes a file that is named twice as a link to itself.
            if held.isdir() or (held.islnk() and held.linkname == held.name):
                continue
            file = opened.extractfile(held) if held.isfile() else None
            name = member_name(held.name)
            step = f"{TAR}@{held.offset}/{name}"
            start = file.read(start_bytes) if file else b""
            yield Member(step, name, held.size if file else 0, start, held.name)
        unread = last.piece[len(last.piece) - last.size + opened.offset :]
    # To the end, where what is compressed has its checksum.
    pieces = itertools.chain([unread], iter(lambda: stream.read(_STEP), b""))
    if sum(len(piece.strip(b"\0")) for piece in pieces):
        hint = "tar --ignore-zeros -x unpacks it where it is another archive"
        log.warning("%s: left out what follows its tar archive; %s", url, hint)


class _Last:
    """A stream that keeps what was read last: tarfile reads further than its archive goes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.piece, self.size = b"", 0

    def read(self, size: int) -> bytes:
        """Read at most so many bytes."""
        self.piece = self._stream.read(size)
        self.size += len(self.piece)
        return self.piece


def _of_zip(stream: IO[bytes], url: str, start_bytes: int) -> Iterator[Member]:
    with zipfile.ZipFile(stream) as packed:
        _check_kind(url, packed.namelist())
        if min((info.header_offset for info in packed.infolist()), default=0):
            log.warning("%s: left out what stands before its first member, maybe an archive", url)
        for info in packed.infolist():
            if info.is_dir():
                continue
            if info.flag_bits & _ENCRYPTED:
                hint = "unpack it first: unzip asks for the password"
                raise SourceError(url, "a catalogue", "a zip archive with a password", hint)
            if info.compress_type not in _BOUNDED:
                # zipfile unpacks all that some stored bytes hold at once, of any size.
                other = f"{info.filename} packed in another way"
                raise SourceError(url, "a zip archive with deflate", other, "unpack it first")
            with packed.open(info) as file:
                start = file.read(start_bytes)
            name = member_name(info.filename)
            yield Member(f"{ZIP}/{info.filename}", name, info.file_size, start, info.filename)


def _check_kind(url: str, names: list[str]) -> None:
    """Refuse the files of programs that are zip archives inside."""
    written = "write it as Parquet with the program that made it"
    for inside, kind, hint in (
        (r"xl/", "an Excel workbook", "save its table as CSV in UTF-8"),
        (r"word/", "a Word document", "save its table as CSV in UTF-8"),
        (r"content\.xml", "a document of LibreOffice", "save its table as CSV in UTF-8"),
        (r"Index/.*\.iwa", "a document of Numbers", "export its table as CSV in UTF-8"),
        (r".*\.npy$", "arrays of NumPy", written),
        (r".*/data\.pkl$", "a model of PyTorch", written),
    ):
        if any(re.match(inside, name) for name in names):
            raise SourceError(url, "a catalogue", kind, hint)


@contextlib.contextmanager
def open_member(stream: IO[bytes], url: str, step: str, limits: Limits) -> Iterator[io.RawIOBase]:
    """Open one member for reading in order.

    Raises:
        SourceError: the archive is damaged, or the member expands beyond the limits.
    """
    layer, _, name = step.partition("/")
    if layer == ZIP:
        yield Directory(stream, url, limits).member(step)
        return
    with contextlib.ExitStack() as stack:
        with _sound(url, TAR):
            file = _tar_member(stream, url, name, tar_offset(step), stack)
        yield _Sound(file, url, TAR)


def _tar_member(
    stream: IO[bytes], url: str, name: str, offset: int, stack: contextlib.ExitStack
) -> IO[bytes]:
    begin = stream.seek(offset) if stream.seekable() else 0
    opened = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115 - closed with the stack
    stack.callback(opened.close)
    return _next_member(opened, url, name, offset - begin)


def _next_member(opened: tarfile.TarFile, url: str, name: str, offset: int) -> IO[bytes]:
    for held in iter(opened.next, None):
        if held.offset >= offset:
            if held.offset == offset and member_name(held.name) == name:
                file = opened.extractfile(held)
                if file:
                    return file
            break
    raise SourceError(url, f"a member {name}", "none: the archive was changed")


class Walk:
    """A tar archive whose members are read in its order, each no further than is needed."""

    def __init__(self, stream: IO[bytes], url: str) -> None:
        self._url, self._at = url, -1
        with _sound(url, TAR):
            self._opened = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115 - has no file

    def reaches(self, step: str) -> bool:
        """Whether a member is further on."""
        return tar_offset(step) > self._at

    def member(self, step: str) -> io.RawIOBase:
        """Open a member that is further on, and leave the one before.

        Raises:
            SourceError: the archive is damaged or another one.
        """
        self._at, name = tar_offset(step), step.partition("/")[2]
        with _sound(self._url, TAR):
            return _Sound(_next_member(self._opened, self._url, name, self._at), self._url, TAR)


def tar_offset(step: str) -> int:
    """Return where in its archive a member of tar starts; -1 where a step is none."""
    kind, _, offset = step.partition("/")[0].partition("@")
    return int(offset) if kind == TAR else -1


class Directory:
    """A zip archive, of which the list of members is read once."""

    def __init__(self, stream: IO[bytes], url: str, limits: Limits) -> None:
        self._url, self._limits = url, limits
        with _sound(url, ZIP):
            self._packed = zipfile.ZipFile(stream)

    def reaches(self, step: str) -> bool:
        """Whether a member can be read: any."""
        return bool(step)

    def member(self, step: str) -> io.RawIOBase:
        """Open a member.

        Raises:
            SourceError: the archive is damaged or another one, or the member expands too far.
        """
        name = step.partition("/")[2]
        with _sound(self._url, ZIP):
            if name not in self._packed.NameToInfo:
                raise SourceError(self._url, f"a member {name}", "none: the archive was changed")
            info, most = self._packed.getinfo(name), self._limits
            if info.file_size > most.free + most.max_ratio * info.compress_size:
                expected = f"a zip archive that expands at most {most.max_ratio}-fold"
                size = f"{info.file_size:,} bytes from {info.compress_size:,} in {name}"
                raise SourceError(self._url, expected, size, most.hint)
            return _Sound(self._packed.open(info), self._url, ZIP)


@contextlib.contextmanager
def _sound(url: str, kind: str) -> Iterator[None]:
    try:
        yield
    except _FAULTS as error:
        expected, hint = f"a whole {kind} archive", "fetch it again"
        raise SourceError(url, expected, first_line(error), hint) from error


class Counted(io.RawIOBase):
    """Bytes that are read in order, and how many; a subclass fills the buffers."""

    _produced = 0

    def readable(self) -> bool:
        """Whether this can be read: always."""
        return True

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self._produced

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer.

        Raises:
            SourceError: the bytes are damaged.
        """
        count = self._fill(buffer)
        self._produced += count
        return count

    def _fill(self, buffer: Any) -> int:
        raise NotImplementedError


class _Sound(Counted):
    """The bytes of a member; reading raises SourceError where the archive is damaged."""

    def __init__(self, file: IO[bytes], url: str, kind: str) -> None:
        self._file, self._url, self._kind = file, url, kind

    def _fill(self, buffer: Any) -> int:
        with _sound(self._url, self._kind):
            piece = self._file.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)
