"""Which files a source is, and what a user is told of those that are none."""

import dataclasses
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from data.errors import NetworkError, SourceError
from data.sources import streams
from preprocessing import hints
from preprocessing.config import CleanConfig
from preprocessing.files import SourceFile, find, read_start
from tests.builders import random_text

LINE = b'{"uid": "1", "title": "t", "content": "c"}\n'


def zipped(**members: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as file:
        for name, payload in members.items():
            file.writestr(name.replace("__", "/").replace("_", "."), payload)
    return sink.getvalue()


def tarred(*members: tuple[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as file:
        for name, payload in members:
            about = tarfile.TarInfo(name)
            about.size = len(payload)
            file.addfile(about, io.BytesIO(payload))
    return sink.getvalue()


def encrypted() -> bytes:
    payload = bytearray(zipped(trn_json=LINE * 9))
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        payload[payload.index(magic) + flags] |= 1
    return bytes(payload)


def test_each_member_of_an_archive_that_holds_records_is_a_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "raw.zip"
    path.write_bytes(zipped(b_json=LINE, a__a_json=LINE, notes_txt=b"x", __MACOSX___b_json=b"\0"))
    found = find(str(path))
    assert [file.name for file in found] == ["raw.zip/a/a.json", "raw.zip/b.json"]
    assert [file.where for file in found] == [f"{path}/a/a.json", f"{path}/b.json"]
    assert "left out" in caplog.text
    assert "notes.txt" in caplog.text
    payload = tarred(("part-0.json", LINE), ("./part-1.json", LINE), ("./.hidden.json", LINE))
    (tmp_path / "raw.tar.gz").write_bytes(gzip.compress(payload))
    assert [file.name for file in find(str(tmp_path))] == [
        "raw.tar.gz/part-0.json", "raw.tar.gz/part-1.json", "raw.zip/a/a.json", "raw.zip/b.json",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_members_with_one_name_the_last_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    payloads = (b"old", b'{"uid": "2", "title": "t", "content": "c"}\n', LINE)
    members = list(zip(("a.json", "b.json", "a.json"), payloads, strict=True))
    (tmp_path / "raw.tar").write_bytes(tarred(*members))
    (tmp_path / "raw.tar.gz").write_bytes(gzip.compress(tarred(*members)))
    with zipfile.ZipFile(tmp_path / "raw.zip", "w") as packed:
        for name, payload in members:
            packed.writestr(name, payload)
    for kind in ("tar", "tar.gz", "zip"):
        caplog.clear()
        files = find(str(tmp_path / f"raw.{kind}"))
        assert sorted((file.name, read_start(file)) for file in files) == [
            (f"raw.{kind}/a.json", LINE), (f"raw.{kind}/b.json", payloads[1]),
        ]  # fmt: skip
        assert caplog.messages == [
            f"{tmp_path}/raw.{kind}: left out a.json: the earlier of that name"
        ]


def test_members_that_cannot_be_read_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "raw.zip"
    path.write_bytes(zipped(a_json=LINE, b_json=LINE.decode().encode("utf-16-le")))
    with pytest.raises(SourceError, match=r"raw.zip/b.json: .*--encoding utf-16-le"):
        find(str(path))
    path.write_bytes(zipped(a_json=LINE, data=b"%PDF"))
    assert [file.name for file in find(str(path))] == ["raw.zip/a.json"]
    assert f"left out data; {path}/data: expected records, found a PDF document" in caplog.text


def test_links_in_a_tar_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "raw.tar"
    with tarfile.open(path, "w") as file:
        about = tarfile.TarInfo("a.json")
        about.size = len(LINE)
        file.addfile(about, io.BytesIO(LINE))
        for name in ("a.json", "b.json"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.LNKTYPE, "a.json"
            file.addfile(link)
    assert [file.name for file in find(str(path))] == ["raw.tar/a.json"]
    assert caplog.messages == [f"{path}: left out b.json: hidden, empty or a link"]


def test_a_pattern_reaches_into_folders(tmp_path: Path) -> None:
    for name in ("a/x.json", "a/b/y.json", "z.json", "a/.hidden/h.json", "a/n.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(LINE)
    assert [file.name for file in find(f"{tmp_path}/**/*.json")] == [
        "a/b/y.json", "a/x.json", "z.json",
    ]  # fmt: skip
    assert [file.name for file in find(f"{tmp_path}/*/x.json")] == ["a/x.json"]
    with pytest.raises(SourceError, match="expected at least one file, found none that fits"):
        find(f"{tmp_path}/**/*.csv")


def test_titles_alone_are_left_out_beside_others_and_told_where_they_are_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "trn.json").write_bytes(LINE)
    (tmp_path / "lbl.json").write_bytes(b'{"uid": "1", "title": "t"}\n')
    assert [file.name for file in hints.find(CleanConfig(source=str(tmp_path)))] == ["trn.json"]
    assert "left out lbl.json: titles without descriptions" in caplog.text
    with pytest.raises(SourceError, match="they are titles alone, as those of labels are"):
        hints.find(CleanConfig(source=str(tmp_path / "lbl.json")))


def test_files_that_hold_descriptions_under_another_name_or_further_on_are_kept(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.csv").write_bytes(b"uid,title,description\n1,t,c\n")
    (tmp_path / "b.csv").write_bytes(b"uid,title,description,content\n1,t,c,d\n")
    config = CleanConfig(source=str(tmp_path), columns={"content": "description"})
    assert [file.name for file in hints.find(config)] == ["a.csv", "b.csv"]
    (tmp_path / "a.jsonl").write_bytes(b'{"uid": "1", "title": "t"}\n' * 3_000 + LINE)
    (tmp_path / "b.jsonl").write_bytes(LINE)
    config = CleanConfig(source=f"{tmp_path}/*.jsonl")
    assert [file.name for file in hints.find(config)] == ["a.jsonl", "b.jsonl"]


def test_fields_that_are_rare_are_found_further_on(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    rare = b'{"uid": "1", "title": "t", "content": "c", "brand": "Sony"}\n'
    path.write_bytes(LINE * 5_000 + rare)
    hints.find(CleanConfig(source=str(path), attributes=["brand"]))
    with pytest.raises(SourceError, match="the column colour, found uid, title, content, brand in"):
        hints.find(CleanConfig(source=str(path), attributes=["colour"]))


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_the_stated_ratio_holds_while_files_are_looked_into(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"raw.{kind}"
    rare = LINE * 5_000 + b'{"uid": "1", "title": "t", "content": "c", "brand": "Sony"}\n'
    large = rare + b" " * 20_000_000
    packed = zipped(a_json=large, b_json=rare)
    if kind == "tgz":
        packed = gzip.compress(tarred(("a.json", large), ("b.json", rare)))
    path.write_bytes(packed)
    config = CleanConfig(source=str(path), attributes=["brand"], max_gzip_ratio=10_000)
    assert [file.name for file in hints.find(config)] == [
        f"raw.{kind}/a.json", f"raw.{kind}/b.json",
    ]  # fmt: skip
    with pytest.raises(SourceError, match=r"expands at most 100-fold, .* raise --max_gzip_ratio"):
        hints.find(dataclasses.replace(config, max_gzip_ratio=100))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"PK\x03\x04" + b"\0" * 40, "expected a whole zip archive"),
        (encrypted(), "a zip archive with a password; unpack it first"),
        (zipped(xl__workbook_xml=b"<x/>"), "an Excel workbook; save its table as CSV in UTF-8"),
        (zipped(notes_txt=b"x"), "expected a file of records, found one named notes.txt"),
        (zipped(a_zip=zipped(a_json=LINE)), "an archive in an archive; unpack the outer one"),
        (tarred(("a.json", LINE * 90))[:3_000], "expected a whole tar archive"),
        (gzip.compress(zipped(a_json=LINE), mtime=0), "a zip archive inside another packing"),
        (pickle.dumps([1]), "a Python pickle; write it as Parquet"),
        (b"SQLite format 3\0", "an SQLite database; write a table of it as CSV: sqlite3 -csv"),
        (b"\n <!doctype html><html>", "a web page or XML; fetch the file itself again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "fetch it with git lfs pull"),
        (b'[["uid", "title"], ["1", "t"]]', "a JSON array of arrays, not of objects; convert it"),
        (b"[{'uid': '1'}]", "a list of Python dictionaries; convert it: python3 -c"),
        (b"uid,title,title\n1,a,b\n2,a,b\n", "each name once, found 'title' twice"),
        (b"sep=;\nuid;title;content\n1;a;b\n", "a table behind a line for Excel; take that off"),
        (b"PAR1" + b"\0" * 40, "expected readable rows"),
        (b"id,name,description\n1,a,b\n2,a,b\n",
         "name them with --columns '{uid: id, title: name, content: description}'"),
        (b"552,Sony,Belt\n580,Bose,Cubes\n", "the first row has to name the columns"),
        (b'{"products": [{"uid": "1"}]}', "one JSON object that holds its records in 'products'"),
        (b'{"1": {"title": "t"}}', "one JSON object that holds a record a key"),
        (b'{"error": "rate limit"}', 'in the first records, such as {"error": "rate limit"}'),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_in_one_line(
    payload: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "trn.json"
    path.write_bytes(payload)
    with pytest.raises(SourceError) as caught:
        hints.find(CleanConfig(source=str(path)))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("payload", "delimiter", "message"),
    [
        (b"uid;title;content\n1;a;b\n", "|",
         "found a table (CSV with semicolons) with columns uid, title, content, none"
         " with '|' between the cells; leave out --delimiter, or state --delimiter ';'"),
        (b"uid\ttitle\tcontent\n1\ta\tb\n", ",", "leave out --delimiter, or state --delimiter tab"),
        (b"uid^title^content\n1^a^b\n", "tab",
         "no 'tab' in the first row 'uid^title^content'; state what stands between the cells"),
    ],
)  # fmt: skip
def test_a_wrong_delimiter_is_told_with_the_one_that_is_there(
    payload: bytes, delimiter: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_bytes(payload)
    with pytest.raises(SourceError) as caught:
        hints.find(CleanConfig(source=str(tmp_path), delimiter=delimiter))
    assert message in str(caught.value)


def test_a_wrong_encoding_is_told_where_the_file_is_read_without(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"uid": "1", "title": "t", "content": "c"}\n' * 5)
    with pytest.raises(SourceError, match="; it can be read without --encoding"):
        hints.find(CleanConfig(source=str(path), encoding="utf-16-le"))


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": lambda payload: bytes(pa.compress(payload, codec="zstd", asbytes=True)),
}


def unpack(path: Path, kind: str, ratio: int = 10_000) -> bytes:
    limits = streams.Limits(ratio, "raise it", 1_000)
    with streams.open_packed(str(path), (kind,), limits) as (stream, _):
        return streams.read_exactly(stream, 10**9)


@pytest.mark.parametrize("kind", PACKED)
def test_a_packed_file_is_whole_or_told(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    payload = PACKED[kind](LINE * 2_000)
    path.write_bytes(payload)
    assert unpack(path, kind) == LINE * 2_000
    path.write_bytes(payload + payload)
    assert unpack(path, kind) == LINE * 4_000
    path.write_bytes(payload[:-9])
    with pytest.raises(SourceError, match=r"expected a whole .* stream"):
        unpack(path, kind)
    path.write_bytes(PACKED[kind](b"\n" * 10**6))
    with pytest.raises(SourceError, match=r"expands at most 100-fold.*raise it"):
        unpack(path, kind, 100)


def test_what_follows_a_gzip_stream_is_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a"
    for rows in (1, 300_000):
        path.write_bytes(gzip.compress(LINE * rows) + b"<html>")
        caplog.clear()
        assert unpack(path, "gz") == LINE * rows
        assert "left out what follows its gzip stream" in caplog.text
    path.write_bytes(gzip.compress(json.dumps({}).encode())[:12] + b"x" * 40)
    with pytest.raises(SourceError, match="expected a whole gzip stream"):
        unpack(path, "gz")


def test_members_of_a_compressed_tar_are_read_in_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"part-{(7 * place) % 20}.json" for place in range(20)]
    payload = LINE * 5_000
    packed = tarred(*((name, payload) for name in names))
    (tmp_path / "raw.tar.gz").write_bytes(gzip.compress(packed, 1))
    unpacked, fill = 0, streams.Unpacked._fill

    def counted(stream: streams.Unpacked, buffer: bytearray) -> int:
        nonlocal unpacked
        count = fill(stream, buffer)
        unpacked += count
        return count

    monkeypatch.setattr(streams.Unpacked, "_fill", counted)
    with streams.in_one_pass():
        files = find(str(tmp_path))
        assert [file.name for file in files] == [f"raw.tar.gz/{name}" for name in names]
        looked_into = unpacked
        for file in files:
            assert [file_read(file)] == [payload]
        assert unpacked - looked_into <= 1.1 * len(packed)
        assert file_read(files[3]) == payload  # and again, from the start
    assert looked_into <= 1.2 * len(packed)


def file_read(file: SourceFile) -> bytes:
    with file.open_packed() as (stream, _):
        return streams.read_exactly(stream, 10**9)


def test_a_fault_of_the_network_between_members_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tarred(("a.json", LINE * 5_000), ("b.json", random_text(3_000_000).encode()))
    (tmp_path / "raw.tar.gz").write_bytes(gzip.compress(packed, 1))
    with streams.in_one_pass():
        (about, *_) = find(str(tmp_path / "raw.tar.gz"))
        assert file_read(about) == LINE * 5_000
        monkeypatch.setattr(
            streams.Unpacked, "_fill", lambda *_: (_ for _ in ()).throw(TimeoutError)
        )
        with pytest.raises(NetworkError, match="run the same command again"):
            file_read(about)


def test_a_pattern_over_folders_finds_links_and_what_cannot_be_read_as_a_folder_does(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.json").write_bytes(LINE)
    (tmp_path / "b.json").symlink_to("a.json")
    (tmp_path / "loop.json").symlink_to(tmp_path)
    assert [file.name for file in find(f"{tmp_path}/**/*.json")] == ["a.json", "b.json"]
    (tmp_path / "c.json").symlink_to("none.json")
    with pytest.raises(SourceError, match="a link to a file that is not there"):
        find(f"{tmp_path}/**/*.json")


@pytest.mark.parametrize("source", ["foo://a/b.json", "foo://a/*.json", "foo://a/**/b.json"])
def test_a_url_of_an_unknown_kind_is_a_fault_of_input(source: str) -> None:
    with pytest.raises(SourceError, match="a URL of a known kind, such as s3://, found Protocol"):
        find(source)
