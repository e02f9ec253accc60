"""Folders of Parquet shards, local or at any fsspec URL: list, read, commit.

A file appears under its final name only when it is whole: it is written to a temporary name,
closed, read back and renamed. Knows nothing of what the columns mean.
"""

import contextlib
import errno
import json
import os
import posixpath
import re
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from data.errors import ConfigError, ManifestError, OutputError

# Small row groups let the sampler read only the key range it needs; 4,096 rows of 600
# characters are about 1 MB compressed, still large enough for zstd.
ROWS_PER_GROUP = 4_096
_TEMPORARY = ".tmp-"
QUARANTINE = "quarantine"
"""Folder beside the parts for what could not become a row."""
_PART = re.compile(r"part-\d{5,}\.parquet")
_FACTS = b"catalogue"
# Object stores show an upload only once it is complete, and rename by copying: skip the rename.
_ATOMIC_UPLOAD = {"s3", "s3a", "gs", "gcs", "abfs", "az", "adl"}


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
    state = xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(2**22):
            state.update(piece)
    digest: str = state.hexdigest()
    return digest


def digest_all(digests: list[str]) -> str:
    """Digest a list of digests: that of a file by its partitions, of a folder by its files."""
    return digest_bytes("\n".join(digests).encode())


@dataclass(frozen=True)
class Folder:
    """A folder at a local path or an fsspec URL. Cheap to make and to pickle."""

    url: str

    @property
    def _located(self) -> tuple[Any, str]:
        import fsspec

        try:
            fs, path = fsspec.core.url_to_fs(self.url)
        except ValueError as error:
            expected = "a local path or a URL of a known kind, such as s3://"
            raise ConfigError(self.url, expected, str(error)) from error
        return fs, path.rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether the folder lies on this machine's own file system."""
        return "://" not in self.url or self.url.startswith("file://")

    def path(self, name: str = "") -> str:
        """Give the path of a file in the folder, as its file system names it."""
        root: str = self._located[1]
        return posixpath.join(root, name) if name else root

    def inside(self, name: str) -> "Folder":
        """Give a folder inside this one, on the same file system."""
        return Folder(posixpath.join(self.url, name))

    def names(self) -> list[str]:
        """List the files and folders directly inside, sorted; none where the folder is not."""
        fs, root = self._located
        if self.is_local:
            return sorted(os.listdir(root)) if os.path.isdir(root) else []
        fs.invalidate_cache(root)
        try:
            found = fs.ls(root, detail=False)
        except FileNotFoundError:
            return []
        return sorted(posixpath.basename(path.rstrip("/")) for path in found if path != root)

    def exists(self, name: str) -> bool:
        """Tell whether a file or folder of this name is inside.

        Raises:
            OSError: it cannot be told, as the folder is closed to this user.
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
        temporary = posixpath.join(parent, f"{_TEMPORARY}{base}-{uuid.uuid4().hex[:8]}")
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
                if name.startswith(_TEMPORARY):
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
    """Give the local path of a folder that is memory-mapped and so cannot be remote.

    Raises:
        ConfigError: the URL is a remote one.
    """
    if not Folder(url).is_local:
        raise ConfigError(flag, "a local folder, as it is memory-mapped", url)
    return Path(url.removeprefix("file://"))


def list_parts(folder: Folder) -> list[str]:
    """List the committed parts of a folder by name, in order."""
    return [name for name in folder.names() if _PART.fullmatch(name)]


def part_name(index: int) -> str:
    """Name the part at a position: ``part-00003.parquet``."""
    return f"part-{index:05d}.parquet"


def commit_part(
    folder: Folder, name: str, table: pa.Table, facts: dict[str, Any] | None = None
) -> Artefact:
    """Write one Parquet part and read its footer back.

    Args:
        folder: where.
        name: of the part, ``part-00003.parquet``, below the folder.
        table: the rows; the same table and facts give the same bytes.
        facts: kept as JSON in the footer, so that a restart knows the part's counts.

    Raises:
        OSError: the file system refuses or is full.
        OutputError: the footer does not tell the rows that were written.
    """
    sink = pa.BufferOutputStream()
    noted = {_FACTS: json.dumps(facts or {}, sort_keys=True).encode()}
    pq.write_table(
        table.replace_schema_metadata(noted),
        sink,
        compression="zstd",
        row_group_size=ROWS_PER_GROUP,
        use_dictionary=[n for n in ("split", "source", "reason") if n in table.column_names],
    )
    payload = sink.getvalue()
    folder.commit(name, payload)
    rows = _metadata(folder, name).num_rows
    if rows != table.num_rows:
        raise OutputError(folder.path(name), f"{table.num_rows:,} rows", f"{rows:,}")
    return Artefact(name, rows, payload.size, digest_bytes(payload))


def _metadata(folder: Folder, name: str) -> pq.FileMetaData:
    with folder.open(name) as file:
        return _parquet(folder, name, file).metadata


def _parquet(folder: Folder, name: str, opened: Any) -> pq.ParquetFile:
    """Read the footer of an opened part; ``opened`` is a file, or a path to map."""
    try:
        return pq.ParquetFile(opened, memory_map=isinstance(opened, str))
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        found, mend = str(error).splitlines()[0], "make its folder again with --overwrite true"
        raise ManifestError(folder.path(name), "a Parquet file", found, mend) from error


def read_facts(folder: Folder, name: str) -> dict[str, Any]:
    """Read the facts that ``commit_part`` put into a part's footer.

    Raises:
        ManifestError: the footer is damaged or holds none.
    """
    try:
        facts: dict[str, Any] = json.loads((_metadata(folder, name).metadata or {})[_FACTS])
    except ManifestError:
        raise
    except (KeyError, ValueError) as error:
        mend = "remove the file and run the same command again"
        found = str(error).splitlines()[0]
        raise ManifestError(folder.path(name), "a part of ours", found, mend) from error
    return facts


def inspect_part(folder: Folder, name: str) -> Artefact:
    """Describe a part that is already there: rows by its footer, digest by its bytes."""
    payload = folder.read(name)
    return Artefact(name, _metadata(folder, name).num_rows, len(payload), digest_bytes(payload))


def commit_with_quarantine(
    folder: Folder, name: str, table: pa.Table, quarantine: pa.Table, facts: dict[str, Any]
) -> tuple[Artefact, ...]:
    """Commit a part and, before it, its quarantine: where the part is, both are."""
    outputs = []
    if quarantine.num_rows:
        outputs.append(commit_part(folder, f"{QUARANTINE}/{name}", quarantine))
    told = facts | {"quarantine": quarantine.num_rows}
    return (*outputs, commit_part(folder, name, table, told))


def recall(folder: Folder, name: str) -> tuple[dict[str, Any], tuple[Artefact, ...]] | None:
    """Describe a part that ``commit_with_quarantine`` wrote in an earlier run.

    Returns:
        Its facts and files; None where one of them is missing or damaged.
    """
    try:
        facts = read_facts(folder, name)
        names = [f"{QUARANTINE}/{name}", name] if facts["quarantine"] else [name]
        return facts, tuple(inspect_part(folder, each) for each in names)
    except (ManifestError, FileNotFoundError, KeyError):
        return None


def read_part(
    folder: Folder, name: str, columns: list[str] | None = None, groups: list[int] | None = None
) -> pa.Table:
    """Read one part, or some of its row groups, with the columns asked for."""
    with open_part(folder, name) as file:
        if groups is None:
            return file.read(columns=columns)
        return file.read_row_groups(groups, columns=columns)


def open_part(folder: Folder, name: str) -> pq.ParquetFile:
    """Open one part; local ones are memory-mapped.

    Raises:
        ManifestError: its footer is damaged.
    """
    return _parquet(folder, name, folder.path(name) if folder.is_local else folder.open(name))


def read_batches(
    folder: Folder, columns: list[str] | None = None, rows: int = ROWS_PER_GROUP
) -> Iterator[pa.RecordBatch]:
    """Stream all rows of a folder's parts in order, a batch at a time."""
    for name in list_parts(folder):
        with open_part(folder, name) as file:
            yield from file.iter_batches(batch_size=rows, columns=columns)
