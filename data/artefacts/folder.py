"""A folder of files, local or at any fsspec URL: list, read, commit, digest.

A file appears under its final name only when it is whole: it is written to a temporary name,
closed, read back and renamed.
"""

import contextlib
import errno
import hashlib
import os
import posixpath
import stat
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import xxhash

from data.errors import ConfigError, ManifestError

TEMPORARY = ".tmp-"
QUARANTINE = "quarantine"
"""Folder beside the parts for what could not become a row."""
# Object stores show an upload only once it is complete, and rename by copying: skip the rename.
_ATOMIC_UPLOAD = {"s3", "s3a", "gs", "gcs", "abfs", "az", "adl"}
_AGAIN = "bring it back, or make its folder again with --overwrite true"
_CHECKED: set[tuple[str, int, int, int, str]] = set()


@dataclass(frozen=True)
class Artefact:
    """One committed file."""

    path: str
    """Relative to its folder."""
    rows: int
    bytes: int
    digest: str
    """xxh3-128 of the file's bytes, hexadecimal."""


def digest_bytes(payload: bytes | memoryview | pa.Buffer) -> str:
    """Digest bytes as xxh3-128, hexadecimal."""
    digest: str = xxhash.xxh3_128_hexdigest(payload)
    return digest


def digest_file(path: Path) -> str:
    """Digest a local file of any size as xxh3-128, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def digest_all(digests: list[str]) -> str:
    """Digest a list of digests: that of a file by its partitions, of a folder by its files."""
    return digest_bytes("\n".join(digests).encode())


@dataclass(frozen=True)
class Folder:
    """A folder at a local path or an fsspec URL. Cheap to make and to pickle."""

    url: str
    """As the user wrote it, but for ``file://`` and ``~``."""

    def __post_init__(self) -> None:
        url = self.url.removeprefix("file://")
        if not url.strip():
            raise ConfigError("a path", "the name of a folder", "an empty one")
        object.__setattr__(self, "url", os.path.expanduser(url) if self.is_local else url)

    @classmethod
    def for_output(cls, url: str) -> "Folder":
        """Name a folder to write.

        Raises:
            ConfigError: it is the root of the file system or somebody's home.
        """
        folder = cls(url)
        if folder.is_local:
            path = os.path.realpath(folder.url)
            if path == os.path.dirname(path) or path == os.path.realpath(os.path.expanduser("~")):
                raise ConfigError("--out", "a folder of its own", path)
        return folder

    @property
    def _located(self) -> tuple[Any, str]:
        import fsspec

        try:
            fs, path = fsspec.core.url_to_fs(self.url)
        except ValueError as error:
            expected = "a local path or a URL of a known kind, such as s3://"
            raise ConfigError(self.url, expected, str(error)) from error
        return fs, path.rstrip("/") or path

    @property
    def is_local(self) -> bool:
        """Whether the folder lies on this machine's own file system."""
        return "://" not in self.url or self.url.startswith("file://")

    def path(self, name: str = "") -> str:
        """Return the path of a file in the folder, as its file system names it."""
        root: str = self._located[1]
        return posixpath.join(root, name) if name else root

    def inside(self, name: str) -> "Folder":
        """Return a folder inside this one, on the same file system."""
        return Folder(posixpath.join(self.url, name))

    def names(self) -> list[str]:
        """List the files and folders directly inside, sorted; none where the folder is not."""
        fs, root = self._located
        if self.is_local:
            return sorted(os.listdir(root)) if os.path.isdir(root) else []
        fs.invalidate_cache(root)
        try:
            paths = fs.ls(root, detail=False)
        except FileNotFoundError:
            return []
        return sorted(posixpath.basename(path.rstrip("/")) for path in paths if path != root)

    def sizes(self) -> dict[str, int]:
        """List the files at any depth below, by their path relative to the folder, in bytes."""
        fs, root = self._located
        if not self.is_local:
            fs.invalidate_cache(root)
            files = fs.find(root, detail=True)
            return {path[len(root) + 1 :]: int(files[path]["size"]) for path in sorted(files)}
        sizes = {}
        for folder, _, names in os.walk(root):
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    sizes[Path(path).relative_to(root).as_posix()] = os.stat(path).st_size
        return dict(sorted(sizes.items()))

    def exists(self, name: str) -> bool:
        """Whether a file or folder of this name is inside.

        Raises:
            OSError: the folder is closed to this user.
        """
        if self.is_local:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.stat(self.path(name))
                return True
            return False
        fs, _ = self._located
        return bool(fs.exists(self.path(name)))

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading bytes.

        Raises:
            OSError: there is none, or it is a pipe or device, which would be waited for.
        """
        path = self.path(name)
        if self.is_local and not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise OSError(errno.EINVAL, "expected a file, found a pipe or device", path)
        fs, _ = self._located
        opened: IO[bytes] = fs.open(path, "rb")
        return opened

    def read(self, name: str) -> bytes:
        """Read a whole file."""
        with self.open(name) as file:
            return file.read()

    def commit(self, name: str, payload: bytes | memoryview | pa.Buffer) -> None:
        """Write a file so that it is either absent or whole, and check its size before renaming.

        A local one is on the disk, and not only in memory, once this returns: whatever is committed
        later, such as the manifest, never outlives it in a power cut.

        Raises:
            OSError: the file system refuses, is full, or holds another number of bytes.
        """
        fs, _ = self._located
        parent, base = posixpath.split(self.path(name))
        fs.makedirs(parent, exist_ok=True)
        whole_when_visible = not self.is_local and fs.protocol[0] in _ATOMIC_UPLOAD
        temporary = posixpath.join(parent, f"{TEMPORARY}{base}-{uuid.uuid4().hex[:8]}")
        target = self.path(name) if whole_when_visible else temporary
        try:
            with fs.open(target, "wb") as file:
                file.write(memoryview(payload))
                if self.is_local:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            # A failed write names no file; what there is of it would fill a full disk further.
            error.filename = error.filename or (self.path(name) if error.errno else None)
            if target == temporary:
                with contextlib.suppress(OSError):
                    fs.rm(temporary)
            raise
        written = fs.size(target)
        if written != len(memoryview(payload)):
            raise OSError(f"{target}: wrote {len(payload):,} bytes, read back {written:,}")
        if self.is_local:
            # os.replace is atomic; fsspec's own move may copy.
            os.replace(target, self.path(name))
            flush_names(parent)
        elif not whole_when_visible:
            fs.mv(target, self.path(name))

    def remove(self, name: str) -> None:
        """Remove a file or a folder inside; nothing happens where there is none."""
        fs, _ = self._located
        if self.exists(name):
            fs.rm(self.path(name), recursive=True)

    def sweep(self) -> None:
        """Remove what interrupted writers left behind under temporary names."""
        for folder in (self, self.inside(QUARANTINE)):
            for name in folder.names():
                if name.startswith(TEMPORARY):
                    folder.remove(name)


def flush_names(folder: str) -> None:
    """Write the names in a local folder to the disk, where the system can."""
    if os.name != "posix":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(opened)


def local_path(url: str, flag: str) -> Path:
    """Return the local path of a folder that is memory-mapped and so cannot be remote.

    Raises:
        ConfigError: the URL is a remote one.
    """
    folder = Folder(url)
    if not folder.is_local:
        raise ConfigError(flag, "a local folder, as it is memory-mapped", url)
    return Path(folder.url)


def check_file(folder: Folder, expected: Artefact) -> None:
    """Compare a local file's bytes with its digest; once a process while it stays as it is.

    Raises:
        ManifestError: it is missing or holds other bytes.
    """
    path = Path(folder.path(expected.path))
    try:
        about = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        listed = "the file that its manifest lists"
        raise ManifestError(str(path), listed, "none", _AGAIN) from error
    key = (str(path), about.st_size, about.st_mtime_ns, about.st_ino, expected.digest)
    if key not in _CHECKED:
        if about.st_size != expected.bytes or digest_file(path) != expected.digest:
            raise changed(str(path))
        _CHECKED.add(key)


def changed(path: str) -> ManifestError:
    """Build the error for a file that is not as its manifest has it."""
    return ManifestError(path, "the bytes that its manifest lists", "others", _AGAIN)
