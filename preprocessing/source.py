"""Where raw lines come from: byte ranges of a plain file, blocks of a gzip stream.

Both are cut into the same blocks: block k holds the lines that *start* in bytes [k·B, (k+1)·B) of
the uncompressed stream, whole, so the blocks depend on the input and B alone. Knows no JSON.
"""

import contextlib
import fnmatch
import logging
import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import xxhash

from data.artefacts.folder import Folder, digest_all, digest_bytes
from data.errors import SourceError
from data.sources import kinds, streams

log = logging.getLogger("catalogue")

_ENDINGS = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz")
_RAW = re.compile(r"\.(json|jsonl|ndjson)(\.gz)?$", re.IGNORECASE)
_PACKED = re.compile(
    r"\.(json|jsonl|ndjson)\.(bz2|xz|zst|zstd|lz4|zip|7z|tar|tgz|z)$|\.(json|jsonl)\.tar\.",
    re.IGNORECASE,
)
_SHOWN_NAMES = 5
_UTF8_MARK = b"\xef\xbb\xbf"
_STEP = 2**20
_SAMPLES = 16
_SAMPLE_BYTES = 2**16


@dataclass(frozen=True)
class SourceFile:
    """One raw file as found at the start of a run."""

    url: str
    name: str
    """Relative to the source's folder: what the ``source`` column holds."""
    size: int
    """Bytes as stored, so compressed ones for gzip."""
    compressed: bool
    sampled: str
    """Digest of evenly spaced samples: most other files have another, but it proves nothing."""

    def open(self) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Open the stored bytes."""
        return streams.open_url(self.url)


@dataclass(frozen=True)
class Lines:
    """The lines that start inside one byte range of the uncompressed stream."""

    data: bytes
    """Whole lines; the last of a file may lack its newline. A line longer than the limit at
    the end is cut one byte beyond it, so that it still shows as too long."""
    offset: int
    """Of ``data`` in the uncompressed stream."""
    size: int
    """Bytes of the range."""
    digest: str
    """xxh3-128 of the range's bytes."""


def find(source: str) -> list[SourceFile]:
    """Find the raw files of a source, sorted by name.

    Args:
        source: a file, a folder, or a pattern such as ``raw/part-*.json.gz``.

    Raises:
        SourceError: nothing is there, or something that is no JSON lines.
        NetworkError: it could not be read to its end.
    """
    parent, base = posixpath.split(source.rstrip("/"))
    beside = Folder(parent or ".")
    kind = _type(source)
    if kind == "directory":
        folder = Folder(source)
        return [_describe(posixpath.join(folder.url, name), name) for name in _raw_names(folder)]
    if kind is not None:
        return [_describe(posixpath.join(beside.url, base), base)]
    if not any(mark in base for mark in "*?["):
        hint = "name the file with --source, or invent one: python -m data synthesize"
        raise SourceError(source, "a file or folder", "none", hint)
    fitting = fnmatch.filter(beside.names(), base)
    names = [name for name in fitting if base.startswith(".") or not name.startswith(".")]
    if not names:
        raise SourceError(source, "at least one file", "none that fits")
    _log_left_out(source, fitting, names)
    return [_describe(posixpath.join(beside.url, name), name) for name in names]


def _type(url: str) -> str | None:
    """Return what is at a path or URL, as fsspec names it; None where there is nothing."""
    import fsspec

    fs, path = fsspec.core.url_to_fs(url)
    try:
        return str(fs.info(path)["type"])
    except FileNotFoundError:
        return "link" if Folder(url).is_local and os.path.islink(path) else None


def modified(url: str) -> float:
    """Return when a file was last written, in seconds since 1970; 0 where nothing tells."""
    import fsspec

    fs, path = fsspec.core.url_to_fs(url)
    with contextlib.suppress(NotImplementedError):
        return float(fs.modified(path).timestamp())
    return 0.0


def _raw_names(folder: Folder) -> list[str]:
    """Choose the raw files of a folder by their endings, and log which files are left out.

    Raises:
        SourceError: there is none, or one beside them holds JSON packed in a way not read here.
    """
    inside = folder.names()
    visible = [name for name in inside if not name.startswith(".")]
    names = [name for name in visible if _RAW.search(name)]
    if packed := [name for name in visible if _PACKED.search(name)]:
        hint = "unpack it, or move it out of the folder"
        raise SourceError(folder.url, "plain or gzip files", packed[0], hint)
    if not names:
        others = ", ".join(inside[:3]) or "nothing"
        raise SourceError(folder.url, f"files that end in {', '.join(_ENDINGS)}", others)
    _log_left_out(folder.url, inside, names)
    return names


def _log_left_out(source: str, inside: list[str], names: list[str]) -> None:
    left = sorted(set(inside) - set(names))
    if left:
        more = f" and {len(left) - _SHOWN_NAMES:,} more" if len(left) > _SHOWN_NAMES else ""
        log.warning("%s: left out %s%s", source, ", ".join(left[:_SHOWN_NAMES]), more)


def _describe(url: str, name: str) -> SourceFile:
    with streams.open_url(url) as file:
        size = file.seek(0, 2)
        if size == 0:
            raise SourceError(url, "JSON lines", "an empty file", "fetch it again")
        samples = [_piece(file, size * i // _SAMPLES) for i in range(_SAMPLES)]
        samples.append(_piece(file, max(size - _SAMPLE_BYTES, 0)))
        start = _piece(file, 0)
        compressed = start.startswith(streams.GZIP)
        kind = kinds.recognise(_unpacked_start(file, url) if compressed else start)
    if kind.name != kinds.LINES:
        rename = kinds.to_fields(kind.record or {}) or ""
        raise SourceError(url, "JSON lines", kind.name, kind.hint(url, compressed, rename))
    return SourceFile(url, name, size, compressed, digest_all([digest_bytes(s) for s in samples]))


def _unpacked_start(file: IO[bytes], url: str) -> bytes:
    file.seek(0)
    return bytes(streams.gunzip(file, url, 1, "").read(_SAMPLE_BYTES))


def read_start(file: SourceFile) -> bytes:
    """Read the first bytes of a file, some 64 KiB, uncompressed."""
    with file.open() as stored:
        return _unpacked_start(stored, file.url) if file.compressed else _piece(stored, 0)


def _piece(file: IO[bytes], at: int) -> bytes:
    file.seek(at)
    return file.read(_SAMPLE_BYTES)


def ranges(size: int, block_bytes: int) -> list[tuple[int, int]]:
    """Cut a size into byte ranges [start, stop) of ``block_bytes``; the last may be shorter."""
    return [(at, min(at + block_bytes, size)) for at in range(0, size, block_bytes)]


def read_lines(file: IO[bytes], start: int, stop: int, max_line_bytes: int) -> Lines:
    """Read the lines that start in bytes [start, stop) of a plain file.

    Args:
        file: seekable.
        start: first byte of the range.
        stop: one past its last byte; at most the file's size.
        max_line_bytes: no more than one byte beyond this is read past ``stop`` for one line.

    Raises:
        SourceError: the file ends before ``stop``: it was changed meanwhile.
    """
    before = 1 if start else 0
    file.seek(start - before)
    data = file.read(stop - start + before)
    if len(data) != stop - start + before:
        there = f"only {start - before + len(data):,}"
        raise SourceError(str(getattr(file, "name", "file")), f"{stop:,} bytes", there)
    digest = xxhash.xxh3_128_hexdigest(memoryview(data)[before:])
    first = data.find(b"\n") + 1 if start else _mark(data)
    if start and first == 0:
        return Lines(b"", start, stop - start, digest)
    owned = data[first:]
    if owned and not owned.endswith(b"\n"):
        owned += _rest_of_line(file, len(owned) - owned.rfind(b"\n") - 1, max_line_bytes)
    return Lines(owned, start - before + first, stop - start, digest)


def _mark(data: bytes) -> int:
    """Measure the UTF-8 mark that some editors put at the very start of a file."""
    return len(_UTF8_MARK) if data.startswith(_UTF8_MARK) else 0


def _rest_of_line(file: IO[bytes], length: int, max_line_bytes: int) -> bytes:
    rest = b""
    while length + len(rest) <= max_line_bytes:
        step = file.read(min(_STEP, max_line_bytes + 1 - length - len(rest)))
        newline = step.find(b"\n")
        rest += step if newline < 0 else step[: newline + 1]
        if not step or newline >= 0:
            break
    return rest


def cut_stream(stream: IO[bytes], block_bytes: int, max_line_bytes: int) -> Iterator[Lines]:
    """Cut a stream that cannot seek into the same blocks as ``read_lines`` would return, in order.

    At most three blocks of its uncompressed bytes are in memory at a time.
    """
    # The first may lack the end of its last line; the others hold no line.
    waiting: list[Lines] = []
    start = 0
    is_open = False  # whether the last line read so far goes on
    while block := _read_exactly(stream, block_bytes):
        digest = digest_bytes(block)
        newline = block.find(b"\n") + 1
        first = newline if is_open else (_mark(block) if start == 0 else 0)
        if is_open:
            waiting[0] = _extend(waiting[0], block[: newline or None], max_line_bytes)
        if is_open and not newline:
            waiting.append(Lines(b"", start, len(block), digest))
        else:
            yield from waiting
            waiting = [Lines(block[first:], start + first, len(block), digest)]
            is_open = not block.endswith(b"\n") and first < len(block)
        start += len(block)
    yield from waiting


def _extend(lines: Lines, more: bytes, max_line_bytes: int) -> Lines:
    begun = len(lines.data) - lines.data.rfind(b"\n") - 1
    room = max(max_line_bytes + 1 - begun, 0)
    kept = more[:room] if len(more.rstrip(b"\n")) > room else more
    return Lines(lines.data + kept, lines.offset, lines.size, lines.digest)


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    pieces: list[bytes] = []
    while size and (piece := stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_gzip(
    file: SourceFile, block_bytes: int, max_line_bytes: int, max_ratio: int
) -> Iterator[tuple[Lines, int]]:
    """Decompress a gzip file into blocks, each with the stored bytes read so far.

    Memory holds a few blocks, however many bytes the file expands to: at most ``max_ratio`` a
    stored one, beyond the first block.

    Raises:
        SourceError: the stream is truncated or damaged, or expands beyond ``max_ratio``.
        NetworkError: it could not be read to its end.
    """
    hint = "where the file is sound, raise --max_gzip_ratio"
    with file.open() as stored:
        stream: Any = streams.gunzip(stored, file.url, max_ratio, hint, free=block_bytes)
        for lines in cut_stream(stream, block_bytes, max_line_bytes):
            yield lines, stored.tell()


def file_facts(file: SourceFile) -> list[Any]:
    """Return what identifies a file, for the output's identity."""
    return [file.name, file.size, file.sampled]
