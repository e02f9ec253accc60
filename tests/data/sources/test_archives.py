"""Members of archives: which are listed, and which archives are refused."""

import gzip
import io
import tarfile
import zipfile

import pytest

from data.errors import SourceError
from data.sources import archives, streams


def listed(payload: bytes, kind: str) -> list[archives.Member]:
    return list(archives.members(io.BytesIO(payload), "raw", kind, 100))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_of_a_zip_that_unpack_without_a_bound_are_refused(method: int) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as file:
        file.writestr("a.json", b"\n" * 9)
    with pytest.raises(SourceError) as caught:
        listed(sink.getvalue(), archives.ZIP)
    assert str(caught.value) == (
        "raw: expected a zip archive with deflate, found a.json packed in another way;"
        " unpack it first"
    )


def test_sparse_files_in_a_tar_are_refused() -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as file:
        about = tarfile.TarInfo("a.json")
        about.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "3000000000"}
        about.size = 1
        file.addfile(about, io.BytesIO(b"\n"))
    with pytest.raises(SourceError) as caught:
        listed(sink.getvalue(), archives.TAR)
    assert str(caught.value) == (
        "raw: expected a tar archive of whole files, found a.json, a file with holes; unpack it"
    )


def tarred(name: str) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as file:
        about = tarfile.TarInfo(name)
        about.size = 1
        file.addfile(about, io.BytesIO(b"\n"))
    return sink.getvalue()


def unpadded(name: str) -> bytes:
    """A tar archive that ends with two empty blocks, as Go writes it."""
    return tarred(name)[: 4 * 512]


def zipped(name: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr(name, b"\n")
    return sink.getvalue()


def test_a_small_archive_right_behind_the_one_that_is_read_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for alone in (unpadded("a"), unpadded("a")[:-512], unpadded("a")[:-1024]):
        assert [member.name for member in listed(alone, archives.TAR)] == ["a"]
    assert not caplog.messages
    assert [member.name for member in listed(unpadded("a") * 2, archives.TAR)] == ["a"]
    assert ["left out what follows" in message for message in caplog.messages] == [True]


def test_an_archive_before_or_behind_the_one_that_is_read_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert [member.name for member in listed(tarred("a") + bytes(20_000), archives.TAR)] == ["a"]
    assert not caplog.messages
    assert [member.name for member in listed(tarred("a") + tarred("b"), archives.TAR)] == ["a"]
    assert [member.name for member in listed(zipped("a") + zipped("b"), archives.ZIP)] == ["b"]
    assert caplog.messages == [
        "raw: left out what follows its tar archive;"
        " tar --ignore-zeros -x unpacks it where it is another archive",
        "raw: left out what stands before its first member, maybe an archive",
    ]


def test_a_compressed_tar_is_read_to_its_checksum() -> None:
    payload = bytearray(gzip.compress(tarred("a")))
    payload[-5] ^= 1  # of the length of all bytes
    stream = streams.gunzip(io.BytesIO(payload), "raw", 200, "")
    with pytest.raises(SourceError, match="expected a whole gzip stream"):
        list(archives.members(stream, "raw", archives.TAR, 100))
