"""Lines of a file: byte ranges of a plain one, blocks of a stream.

Both are cut into the same blocks: block k holds the lines that *start* in bytes [k·B, (k+1)·B) of
the uncompressed stream, whole, so the blocks depend on the input and B alone. Knows no JSON.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import xxhash

from data.artefacts.folder import digest_bytes
from data.errors import SourceError
from data.sources.streams import read_exactly
from preprocessing.files import SourceFile

_STEP = 2**20


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
    rest = b""
    if first < len(data) and not data.endswith(b"\n"):
        begun = len(data) - max(data.rfind(b"\n") + 1, first)
        rest = _rest_of_line(file, begun, max_line_bytes)
    owned = b"".join((memoryview(data)[first:], rest))
    return Lines(owned, start - before + first, stop - start, digest)


def _mark(data: bytes) -> int:
    """Measure the UTF-8 mark that some editors put at the very start of a file."""
    return len(BOM_UTF8) if data.startswith(BOM_UTF8) else 0


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
    while block := read_exactly(stream, block_bytes):
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


def read_packed(
    file: SourceFile, block_bytes: int, max_line_bytes: int
) -> Iterator[tuple[Lines, int]]:
    """Read packed lines in blocks, each with the stored bytes read so far.

    Memory holds a few blocks, however many bytes the file expands to.

    Raises:
        SourceError: the stream is truncated or damaged, or expands too far.
        NetworkError: it could not be read to its end.
    """
    with file.open_packed(block_bytes) as (stream, tell):
        for lines in cut_stream(stream, block_bytes, max_line_bytes):
            yield lines, tell()
