"""Shards: absent or whole, the same bytes every time, local or at a URL."""

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileOpener
from fsspec.implementations.memory import MemoryFileSystem

from data.artefacts.folder import Artefact, Folder, digest_all, digest_bytes, local_path
from data.artefacts.parts import (
    commit_part,
    inspect_part,
    list_parts,
    part_name,
    read_batches,
    read_facts,
    read_part,
)
from data.errors import ConfigError, ManifestError

TABLE = pa.table({"uid": [str(i) for i in range(10_000)], "split": ["train"] * 10_000})


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    if request.param == "local":
        yield Folder(str(tmp_path / "out"))
        return
    yield Folder("memory://test_shards/out")
    fs = fsspec.filesystem("memory")
    if fs.exists("/test_shards"):
        fs.rm("/test_shards", recursive=True)


def test_a_folder_that_is_not_there_is_empty(folder: Folder) -> None:
    assert folder.names() == []
    assert not folder.exists("a")
    assert list_parts(folder) == []
    folder.remove("a")
    folder.sweep()


def test_what_is_committed_is_there_under_its_name_alone(folder: Folder) -> None:
    folder.commit("b.json", b"two")
    folder.commit("a.json", b"one")
    folder.commit("inner/c.json", memoryview(b"three"))
    assert folder.names() == ["a.json", "b.json", "inner"]
    assert folder.inside("inner").names() == ["c.json"]
    assert (folder.read("a.json"), folder.read("inner/c.json")) == (b"one", b"three")
    folder.commit("a.json", b"")
    assert folder.read("a.json") == b""
    folder.remove("inner")
    assert folder.names() == ["a.json", "b.json"]


def test_parts_are_listed_in_order_and_nothing_else_is(folder: Folder) -> None:
    for name in (
        "part-00010.parquet",
        "part-00002.parquet",
        "part-100000.parquet",
        "x.parquet",
        "part-1.parquet",
        ".tmp-part-00003.parquet-0badbad0",
        "part-00001.parquet.bak",
    ):
        folder.commit(name, b"x")  # fmt: skip
    assert list_parts(folder) == [
        "part-00002.parquet", "part-00010.parquet", "part-100000.parquet",
    ]  # fmt: skip


def test_parts_are_named_by_their_position() -> None:
    assert part_name(3) == "part-00003.parquet"
    assert part_name(123_456) == "part-123456.parquet"


def test_sweeping_takes_temporary_files_and_folders_only(folder: Folder) -> None:
    for name in (
        ".tmp-a",
        ".tmp-data/x/y",
        "part-00000.parquet",
        "quarantine/z",
        "quarantine/.tmp-z",
    ):
        folder.commit(name, b"x")
    folder.sweep()
    assert folder.names() == ["part-00000.parquet", "quarantine"]
    assert folder.inside("quarantine").names() == ["z"]


def test_a_part_is_read_back_as_it_was_written(folder: Folder) -> None:
    made = commit_part(folder, "part-00000.parquet", TABLE, {"a": {"b": 1}})
    payload = folder.read("part-00000.parquet")
    digest = digest_bytes(payload)
    assert made == Artefact("part-00000.parquet", 10_000, len(payload), digest)
    assert inspect_part(folder, "part-00000.parquet") == made
    assert read_facts(folder, "part-00000.parquet") == {"a": {"b": 1}}
    assert read_part(folder, "part-00000.parquet").equals(TABLE)
    few = read_part(folder, "part-00000.parquet", ["uid"], groups=[1])
    assert few.column("uid").to_pylist() == [str(i) for i in range(4_096, 8_192)]


def test_batches_stream_all_parts_in_order(folder: Folder) -> None:
    commit_part(folder, "part-00001.parquet", TABLE.slice(9_000))
    commit_part(folder, "part-00000.parquet", TABLE.slice(0, 9_000))
    batches = list(read_batches(folder, ["uid"], rows=1_000))
    assert max(batch.num_rows for batch in batches) <= 1_000
    found = [uid for batch in batches for uid in batch.column("uid").to_pylist()]
    assert found == TABLE.column("uid").to_pylist()


def test_the_same_table_gives_the_same_bytes_however_it_is_chunked(tmp_path: Path) -> None:
    chunked = pa.concat_tables([TABLE.slice(0, 77), TABLE.slice(77)])
    marked = TABLE.replace_schema_metadata({"pandas": "noise"})
    made = {
        commit_part(Folder(str(tmp_path / name)), "part-00000.parquet", each).digest
        for name, each in (("one", TABLE), ("two", TABLE), ("three", chunked), ("four", marked))
    }
    assert len(made) == 1


def test_row_groups_are_small_and_compressed(tmp_path: Path) -> None:
    commit_part(Folder(str(tmp_path)), "part-00000.parquet", TABLE)
    metadata = pq.read_metadata(tmp_path / "part-00000.parquet")
    assert [metadata.row_group(i).num_rows for i in range(3)] == [4_096, 4_096, 1_808]
    assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_write_that_fails_midway_leaves_no_file_and_names_the_one_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(str(tmp_path))

    def fail(self: Any, payload: Any) -> int:
        self.f.write(payload[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalFileOpener, "write", fail, raising=False)
    with pytest.raises(OSError, match="No space left") as caught:
        commit_part(folder, "part-00000.parquet", TABLE)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []
    # Workers raise it, drivers show it.
    assert pickle.loads(pickle.dumps(caught.value)).filename == f"{tmp_path}/part-00000.parquet"


def test_a_write_that_fails_midway_leaves_the_earlier_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(str(tmp_path))
    folder.commit("a.json", b"whole")

    def fail(source: str, target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        folder.commit("a.json", b"other")
    assert folder.read("a.json") == b"whole"


@pytest.mark.parametrize("url", ["local", "memory://test_shards_short/out"])
def test_a_short_write_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    folder = Folder(str(tmp_path) if url == "local" else url)
    fs = type(fsspec.core.url_to_fs(folder.url)[0])
    monkeypatch.setattr(fs, "size", lambda self, path: 3)
    with pytest.raises(OSError, match="wrote 5 bytes, read back 3"):
        folder.commit("a.json", b"whole")
    assert not folder.exists("a.json")


def test_at_a_url_without_whole_uploads_the_file_is_renamed_when_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    plain = MemoryFileSystem.open

    def watch(self: Any, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "wb":
            seen.append(path)
        return plain(self, path, mode, **options)

    monkeypatch.setattr(MemoryFileSystem, "open", watch)
    folder = Folder("memory://test_shards_rename/out")
    folder.commit("a.json", b"whole")
    assert len(seen) == 1
    assert "/.tmp-a.json-" in seen[0]
    assert folder.names() == ["a.json"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet", b"PAR1" + bytes(50) + b"PAR1"])
def test_a_damaged_part_is_told_with_its_name(folder: Folder, content: bytes) -> None:
    folder.commit("part-00000.parquet", content)
    with pytest.raises(ManifestError, match=r"part-00000\.parquet"):
        read_facts(folder, "part-00000.parquet")
    with pytest.raises(ManifestError, match=r"part-00000\.parquet"):
        read_part(folder, "part-00000.parquet")


def test_a_part_of_another_program_holds_no_facts(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "part-00000.parquet")
    with pytest.raises(ManifestError, match="expected a part of ours"):
        read_facts(Folder(str(tmp_path)), "part-00000.parquet")


def test_folders_that_are_mapped_must_be_local() -> None:
    assert local_path("a/b", "--out") == Path("a/b")
    assert local_path("file:///a/b", "--out") == Path("/a/b")
    with pytest.raises(ConfigError, match="--out: expected a local folder"):
        local_path("s3://bucket/a", "--out")


def test_a_url_of_an_unknown_kind_is_told() -> None:
    with pytest.raises(ConfigError, match="s4://bucket: expected a local path or a URL of a known"):
        Folder("s4://bucket").names()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(OSError, match="expected a file, found a pipe or device"):
        Folder(str(tmp_path)).read("manifest.json")


def test_what_is_committed_is_on_the_disk_before_its_name_and_its_name_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def note(name: str, real: Callable[..., Any], tell: Callable[..., str]) -> None:
        def called(*words: Any) -> Any:
            calls.append(f"{name} {tell(*words)}")
            return real(*words)

        monkeypatch.setattr(os, name, called)

    note("fsync", os.fsync, lambda file: os.path.basename(os.readlink(f"/proc/self/fd/{file}"))[:6])
    note("replace", os.replace, lambda old, new: os.path.basename(new))
    (tmp_path / "out").mkdir()
    Folder(str(tmp_path / "out")).commit("a", b"bytes")
    assert calls == ["fsync .tmp-a", "replace a", "fsync out"]


def test_digests_are_xxh3_128_and_that_of_many_depends_on_their_order() -> None:
    import xxhash

    assert digest_bytes(b"abc") == xxhash.xxh3_128(b"abc").hexdigest()
    assert digest_all(["a", "b"]) == xxhash.xxh3_128(b"a\nb").hexdigest()
    assert digest_all(["a", "b"]) != digest_all(["b", "a"])


def test_folders_and_artefacts_survive_pickling() -> None:
    for value in (Folder("s3://b/a"), Artefact("part-00000.parquet", 1, 2, "0f")):
        assert pickle.loads(pickle.dumps(value)) == value
