"""Compressed streams: whole, or an error."""

import bz2
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pyarrow as pa
import pytest

from data.errors import SourceError
from data.sources import archives, streams

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


def test_the_members_of_a_zip_are_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in "abc":
            file.writestr(name, name)
    opened = list[IO[bytes]]()
    directory = archives.Directory

    def counted(stream: IO[bytes], url: str, limits: archives.Limits) -> archives.Directory:
        opened.append(stream)
        return directory(stream, url, limits)

    monkeypatch.setattr(archives, "Directory", counted)
    limits = streams.Limits(200, "")
    with streams.in_one_pass():
        for name in "bca":
            with streams.open_packed(str(path), (f"zip/{name}",), limits) as (stream, _):
                assert stream.read() == name.encode()
        with (
            pytest.raises(SourceError, match="a member d, found none: the archive was changed"),
            streams.open_packed(str(path), ("zip/d",), limits),
        ):
            pass
    assert len(opened) == 1


def test_streams_that_begin_with_nothing_are_known(tmp_path: Path) -> None:
    path = tmp_path / "a"
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    path.write_bytes(skipped + pa.compress(b"one\n", codec="zstd", asbytes=True))
    assert streams.unpack(str(path), (), path.read_bytes()[:99], streams.Limits(200, "")) == (
        ("zst",), b"one\n",
    )  # fmt: skip
    path.write_bytes(bz2.compress(b"") + bz2.compress(b"one\n"))
    assert streams.compression(path.read_bytes()) == "bz2"
    assert unpack(path, "bz2") == b"one\n"
