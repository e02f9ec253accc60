"""Compressed streams: whole, or an error."""

import bz2
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from data.errors import SourceError
from data.sources import streams

Pack = Callable[[bytes], bytes]


def unpack(path: Path, kind: str) -> bytes:
    with streams.open_packed(str(path), (kind,), streams.Limits(200, "")) as (stream, _):
        return streams.read_exactly(stream, 1_000)


@pytest.mark.parametrize(("kind", "pack"), [("bz2", bz2.compress), ("xz", lzma.compress)])
def test_streams_behind_the_first_are_read_or_an_error(
    kind: str, pack: Pack, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    path.write_bytes(pack(b"one\n") + b"\0" * 8 + pack(b"two\n") + b"\0" * 70_000)
    assert unpack(path, kind) == b"one\ntwo\n"
    second = pack(b"two\n")
    for damaged in (b"\xff" + second[1:], second[:-9], b"<html>"):
        path.write_bytes(pack(b"one\n") + damaged)
        with pytest.raises(SourceError, match=r"expected a whole (bzip2|xz) stream"):
            unpack(path, kind)
