"""The index of titles: built from shards, kept up by digest, read back to the source's line."""

import gzip
import json
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from data.artefacts import manifest, parts
from data.artefacts.folder import Artefact, Folder
from data.artefacts.manifest import Counts, Manifest
from data.errors import ManifestError, OutputError, SourceError
from inference.ask import index, search
from preprocessing.__main__ import main as preprocess
from tests.builders import raw_lines, write_clean, write_raw

ROWS = [(f"u{i}", f"Kettle No. {i} of Copper", f"Boils {i}.") for i in range(30)]


def titles_of(place: str) -> list[str]:
    with closing(index.open_index(place)) as db:
        return sorted(row[0] for row in db.execute("SELECT title FROM titles"))


def find(place: str, question: str) -> list[str]:
    with closing(index.open_index(place)) as db:
        return [match.title for match in search.find(db, question)]


def test_every_title_is_indexed_beside_the_shards(tmp_path: Path) -> None:
    clean = write_clean(tmp_path / "clean", ROWS)
    before = sorted(path.name for path in clean.iterdir())
    place = index.build(str(clean))
    assert place == str(tmp_path / "clean-titles")
    assert sorted(path.name for path in clean.iterdir()) == before
    assert titles_of(place) == sorted(title for _, title, _ in ROWS)
    record = manifest.read(Folder(place), index.STAGE)
    assert record.made_from[0].digest == manifest.read(Folder(str(clean))).digest
    assert record.counts.kept == 30


def test_a_finished_index_is_left_alone(tmp_path: Path) -> None:
    clean = str(write_clean(tmp_path / "clean", ROWS))
    file = Path(index.build(clean), "titles.sqlite")
    before = (file.stat().st_mtime_ns, file.read_bytes())
    index.build(clean)
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before


def test_changed_shards_alone_are_indexed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = index.build(str(write_clean(tmp_path / "clean", ROWS)))
    changed = [*ROWS[:-1], ("u29", "Violin in Walnut", "Sings.")]
    read: list[str] = []

    def open_part(folder: Folder, name: str, listed: Artefact) -> Any:
        read.append(name)
        return parts.open_part(folder, name, listed)

    monkeypatch.setattr("inference.ask.index.open_part", open_part)
    other = write_clean(tmp_path / "again", changed)
    assert index.build(str(other), place) == place
    assert read == ["part-00002.parquet"]
    assert titles_of(place) == sorted(title for _, title, _ in changed)
    assert find(place, "what is the violin in walnut like") == ["Violin in Walnut"]
    assert "Kettle No. 29 of Copper" not in find(place, "Kettle No. 29 of Copper")
    # The same as one made from nothing, words and all.
    fresh = index.build(str(other), str(tmp_path / "fresh"))
    assert counted(place) == counted(fresh)


def counted(place: str) -> list[tuple[str, int]]:
    with closing(index.open_index(place)) as db:
        return sorted(db.execute("SELECT word, titles FROM words"))


def test_a_kill_while_indexing_is_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = str(write_clean(tmp_path / "clean", ROWS))

    def dies(folder: Folder, name: str, listed: Artefact) -> Any:
        if name == "part-00001.parquet":
            raise KeyboardInterrupt
        return parts.open_part(folder, name, listed)

    with monkeypatch.context() as patch:
        patch.setattr("inference.ask.index.open_part", dies)
        with pytest.raises(KeyboardInterrupt):
            index.build(clean)
    with pytest.raises(ManifestError):
        index.open_index(index.place_beside(clean))
    assert titles_of(index.build(clean)) == sorted(title for _, title, _ in ROWS)


def test_an_index_of_another_form_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = str(write_clean(tmp_path / "clean", ROWS))
    place = index.build(clean)
    monkeypatch.setattr("inference.ask.index.FORM", index.FORM + 1)
    index.build(clean)
    assert manifest.read(Folder(place)).identity["form"] == index.FORM
    assert len(titles_of(place)) == 30


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "a bit", "gone", "other tables"])
def test_a_damaged_index_is_made_anew(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    clean = str(write_clean(tmp_path / "clean", ROWS))
    file = Path(index.build(clean), "titles.sqlite")
    harm(file, damage)
    caplog.clear()
    place = index.build(clean)
    assert titles_of(place) == sorted(title for _, title, _ in ROWS)
    assert find(place, "Kettle No. 7 of Copper")[0] == "Kettle No. 7 of Copper"
    assert caplog.text.count("made anew") == 1


def harm(file: Path, damage: str) -> None:
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "other tables":
        file.unlink()
        with closing(sqlite3.connect(file)) as db:
            db.execute("CREATE TABLE titles (x)")
    else:
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 4
        to = {"empty": b"", "cut": whole[: len(whole) // 3], "garbage": b"x" * len(whole)}
        file.write_bytes(to.get(damage, bytes(changed)))


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "other tables"])
def test_a_half_written_index_is_made_anew(tmp_path: Path, damage: str) -> None:
    clean = str(write_clean(tmp_path / "clean", ROWS))
    place = Path(index.build(clean))
    (place / manifest.NAME).unlink()
    harm(place / "titles.sqlite", damage)
    assert titles_of(index.build(clean)) == sorted(title for _, title, _ in ROWS)


def test_a_manifest_that_is_cut_off_is_made_anew(tmp_path: Path) -> None:
    clean = str(write_clean(tmp_path / "clean", ROWS))
    place = Path(index.build(clean))
    (place / manifest.NAME).write_text("{")
    assert len(titles_of(index.build(clean))) == len(ROWS)


def test_two_who_build_at_once_make_one_index(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clean = str(write_clean(tmp_path / "clean", ROWS))
    caplog.set_level("INFO", "catalogue")
    with ThreadPoolExecutor(4) as pool:
        places = list(pool.map(lambda _: index.build(clean), range(4)))
    assert len(set(places)) == 1
    assert caplog.text.count("titles indexed") == 1
    assert len(titles_of(places[0])) == len(ROWS)


def test_a_record_of_another_shard_is_never_given(tmp_path: Path) -> None:
    clean = write_clean(tmp_path / "clean", ROWS, parts=1)
    folder = Folder(str(clean))
    with closing(index.open_index(index.build(str(clean)))) as db:
        row = index.row_of(db, "Kettle No. 7 of Copper")
        assert row is not None
        before = manifest.read(folder)
        assert index.read_record(db, folder, row, before).uid == "u7"
        shutil.rmtree(clean)
        write_clean(clean, [(f"v{i}", f"Book No. {i}", "Read.") for i in range(30)], parts=1)
        with pytest.raises(ManifestError, match="the bytes that its manifest lists"):
            index.read_record(db, folder, row, before)
        with pytest.raises(ManifestError, match="the shard that was indexed"):
            index.read_record(db, folder, row, manifest.read(folder))


def test_what_cannot_be_indexed_is_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="finished output of clean"):
        index.build(str(tmp_path / "none"))
    Manifest("clean", {}, {}, (), (), Counts()).write(Folder(str(tmp_path / "empty")))
    with pytest.raises(SourceError, match="without rows"):
        index.build(str(tmp_path / "empty"))
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "letter.txt").write_text("mine")
    clean = str(write_clean(tmp_path / "clean", ROWS))
    with pytest.raises(OutputError, match=r"letter\.txt"):
        index.build(clean, str(taken))
    with pytest.raises(OutputError, match="something else"):
        index.build(clean, clean)
    assert (taken / "letter.txt").read_text() == "mine"


def test_remote_shards_are_indexed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    clean = write_clean(tmp_path / "clean", ROWS)
    fsspec.filesystem("memory").put(str(clean), "memory://ask/clean", recursive=True)
    monkeypatch.chdir(tmp_path)
    place = index.build("memory://ask/clean")
    assert place == "data/store/titles/clean"
    with closing(index.open_index(place)) as db:
        (match, *_) = search.find(db, "Kettle No. 7 of Copper")
        folder = Folder("memory://ask/clean")
        record = index.read_record(db, folder, match.row, manifest.read(folder))
    assert (record.uid, record.content) == ("u7", "Boils 7.")


def test_a_record_traces_to_its_line_of_the_source(tmp_path: Path) -> None:
    source = write_raw(tmp_path / "raw.json.gz", raw_lines(1_200))
    clean = tmp_path / "clean"
    rules = ("--rules.content_min", "20", "--rules.content_max", "200")
    words = ("--source", str(source), "--out", str(clean), "--workers", "1", *rules)
    assert preprocess(["clean", *words, "--block_bytes", "65536"]) == 0
    place = index.build(str(clean))
    raw = gzip.decompress(source.read_bytes())
    catalogue = manifest.read(Folder(str(clean)))
    with closing(index.open_index(place)) as db:
        rows = [row[0] for row in db.execute("SELECT id FROM titles ORDER BY id")]
        assert index.count(db) == len(rows) > 500
        for row in rows[::37]:
            record = index.read_record(db, Folder(str(clean)), row, catalogue)
            line = raw[record.byte_offset :].split(b"\n", 1)[0]
            assert json.loads(line)["uid"] == record.uid


def test_a_title_is_found_by_its_spelling(tmp_path: Path) -> None:
    rows = [("a", "The Café", "x"), ("b", "THE CAFE!", "y"), ("c", "The Cafés", "z")]
    folder = Folder(str(write_clean(tmp_path / "clean", rows, parts=1)))
    catalogue = manifest.read(folder)
    with closing(index.open_index(index.build(folder.url))) as db:

        def uid(title: str) -> str | None:
            row = index.row_of(db, title)
            return None if row is None else index.read_record(db, folder, row, catalogue).uid

        assert (uid("The Café"), uid("THE CAFE!"), uid("The Cafés")) == ("a", "b", "c")
        assert uid("the cafe") in ("a", "b")
        assert uid("The") is None
