"""``show``: what a folder holds, for a person."""

import pickle
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from data import show, subset
from data.__main__ import main
from data.artefacts import manifest, schema
from data.artefacts.folder import Artefact, Folder
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.parts import commit_part, read_part
from data.charts import Lengths
from data.errors import ConfigError
from data.show import ShowConfig
from data.subset import SubsetConfig
from tests.builders import write_clean

ROWS = [(f"uid{i}", f"Title {i}", f"Content {i}.") for i in range(40)]


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return Path(write_clean(tmp_path / "clean", ROWS))


def shown(capsys: Any, *words: str) -> str:
    assert main(["show", *words]) == 0
    told: str = capsys.readouterr().out
    return told


def test_a_catalogue_shows_its_rows_settings_source_and_first_rows(
    clean: Path, capsys: Any
) -> None:
    told = shown(capsys, str(clean), "--rows=2")
    assert f"{clean}: clean, " in told
    assert "3 files" in told
    assert re.search(r"^kept +40 +100\.00%$", told, re.MULTILINE)
    assert "seed: 3407" in told
    assert "from /raw.json  40 lines, 1 bytes, digest 0f" in told
    first = read_part(Folder(str(clean)), "part-00000.parquet").to_pylist()
    for row in first[:2]:
        assert f"uid: {row['uid']}\n" in told
        assert f"content: {row['content']}\n" in told
    assert f"uid: {first[2]['uid']}\n" not in told


def test_a_subset_shows_its_lineage_and_first_rows(
    clean: Path, tmp_path: Path, capsys: Any
) -> None:
    made = subset.run(SubsetConfig(clean=str(clean), out=str(tmp_path / "out"), size=5))
    told = shown(capsys, str(tmp_path / "out"))
    assert f"from clean {made.made_from[0].digest[:12]}  {clean}" in told
    assert "dropped: beyond_size" in told
    assert "rows.train: 5" in told
    assert "row 3" in told
    assert "row 4" not in told


def test_lists_are_shown_as_their_items(tmp_path: Path, capsys: Any) -> None:
    folder = Folder(str(tmp_path / "generated"))
    table = pa.table({
        "description": ["Of 1998."], "title_words_missing": [["Copper", "Don't"]],
        "title_words_kept": pa.array([[]], pa.list_(pa.string())), "repeated_share": [0.25],
    })  # fmt: skip
    part = commit_part(folder, "part-00000.parquet", table)
    Manifest("generate", {}, {}, (), (part,), Counts(1, 1)).write(folder)
    told = shown(capsys, folder.url)
    for line in ("title_words_missing: Copper, Don't", "title_words_kept: none"):
        assert f"    {line}\n" in told
    assert "repeated_share: 0.25\n" in told


@pytest.fixture
def quarantined(tmp_path: Path) -> Folder:
    """A clean folder of five lines, of which three are broken."""
    folder = Folder(str(tmp_path / "broken"))
    lines = [["raw.json"] * 3, [0, 1_000, 2_000], [b"broken \xff", b"null", b"x" * 100],
             ["invalid_utf8", "not_an_object", "invalid_json"]]  # fmt: skip
    arrays = [pa.array(c, f.type) for c, f in zip(lines, schema.QUARANTINE, strict=True)]
    table = pa.table(arrays, schema=schema.QUARANTINE)
    output = commit_part(folder, "quarantine/part-00000.parquet", table)
    Manifest(
        stage="clean",
        config={"rules": {"content_min": 400, "content_max": 500}},
        identity={},
        inputs=(Artefact("/a b/raw.json", 5, 2_048, "0f"),),
        outputs=(output,),
        counts=Counts(
            5,
            1,
            {"title_empty": 1},
            dict.fromkeys(("invalid_utf8", "not_an_object", "invalid_json"), 1),
        ),
        facts={"content_lengths": {"edges": [0, 1, 400], "kept": [0, 0, 1], "read": [0, 1, 1]}},
    ).write(folder)
    return folder


def test_drops_and_quarantined_lines_are_shown_with_offset_and_reason(
    quarantined: Folder, capsys: Any
) -> None:
    told = shown(capsys, quarantined.url)
    assert "dropped: title_empty" in told
    assert "1 invalid_utf8, 1 not_an_object, 1 invalid_json" in told
    assert "raw.json byte 0 invalid_utf8: b'broken \\xff'" in told
    assert "raw.json byte 1,000 not_an_object: b'null'" in told
    assert f"raw.json byte 2,000 invalid_json: b'{'x' * 80}' …" in told
    assert "5 lines, 2.0 KiB" in told
    assert "content_lengths" not in told
    assert "more: --quarantined" not in told


def test_as_many_quarantined_lines_are_listed_as_asked_for(
    quarantined: Folder, capsys: Any
) -> None:
    told = shown(capsys, quarantined.url, "--quarantined=1")
    assert "raw.json byte 0 " in told
    assert "raw.json byte 1,000 " not in told
    assert "… and 2 more: --quarantined all lists them" in told
    told = shown(capsys, quarantined.url, "--quarantined=0")
    assert "raw.json byte 0 " not in told
    assert "… and 3 more" in told
    assert "raw.json byte 2,000 " in shown(capsys, quarantined.url, "--quarantined", "all")


def test_the_command_that_is_named_shows_the_line_as_it_stands(
    quarantined: Folder, tmp_path: Path, capsys: Any
) -> None:
    assert "as it stands" not in shown(capsys, quarantined.url)  # the file is gone
    (tmp_path / "raw.json").write_bytes(b"broken \xff\nother\n")
    made = manifest.read(quarantined)
    replace(made, inputs=(Artefact(str(tmp_path / "raw.json"), 5, 1, "0f"),)).write(quarantined)
    (words,) = re.findall("the first as it stands: (.*)", shown(capsys, quarantined.url))
    assert subprocess.check_output(words, shell=True) == b"broken \xff\n"  # noqa: S602


def test_the_picture_lies_in_the_folder_or_where_it_is_asked_for(
    quarantined: Folder, tmp_path: Path, capsys: Any
) -> None:
    told = shown(capsys, quarantined.url)
    assert f"\npicture: {quarantined.path('show.png')}\n" in told
    assert quarantined.read("show.png").startswith(b"\x89PNG")
    path = tmp_path / "new" / "lengths.png"
    assert f"picture: {path}" in shown(capsys, quarantined.url, f"--plot={path}")
    assert path.read_bytes() == quarantined.read("show.png")
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_remote_folder_is_shown_and_drawn_where_asked_for(
    quarantined: Folder, tmp_path: Path, capsys: Any
) -> None:
    fs = fsspec.filesystem("memory")
    fs.put(quarantined.path(), "/test_show", recursive=True)
    try:
        told = shown(capsys, "memory://test_show")
        assert "raw.json byte 1,000 not_an_object: b'null'" in told
        assert "\nno picture in a remote folder: name a file with --plot\n" in told
        shown(capsys, "memory://test_show", f"--plot={tmp_path / 'lengths.png'}")
        assert (tmp_path / "lengths.png").read_bytes().startswith(b"\x89PNG")
    finally:
        fs.rm("/test_show", recursive=True)


def test_without_matplotlib_everything_else_is_shown(
    quarantined: Folder, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.charts.available", lambda: False)
    told = shown(capsys, quarantined.url)
    assert "byte 1,000 not_an_object" in told
    assert "no picture: it needs matplotlib" in told
    assert not quarantined.exists("show.png")


def test_lengths_are_those_of_the_manifest_or_else_of_the_rows(
    quarantined: Folder, clean: Path, tmp_path: Path
) -> None:
    told = show.lengths_of(quarantined, manifest.read(quarantined))
    assert told == Lengths([0, 1, 400], [0, 0, 1], [0, 1, 1], 400, 500)
    subset.run(SubsetConfig(clean=str(clean), out=str(tmp_path / "out"), size=5))
    found = manifest.read(Folder(str(tmp_path / "out")))
    counted = show.lengths_of(Folder(str(tmp_path / "out")), found)
    assert counted is not None
    assert sum(counted.kept) == found.counts.kept > 5
    # Content 0. to Content 39.: ten rows of ten characters, the others of eleven.
    lengths = show.lengths_of(Folder(str(clean)), manifest.read(Folder(str(clean))))
    assert lengths is not None
    assert dict(zip(lengths.edges, lengths.kept, strict=True)) == {0: 0, 10: 10, 11: 30, 12: 0}


def test_no_rows_are_shown_where_none_are_asked_for(clean: Path, capsys: Any) -> None:
    assert "uid" not in shown(capsys, str(clean), "--rows=0")


def test_a_folder_without_a_finished_output_is_told(tmp_path: Path, capsys: Any) -> None:
    assert main(["show", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: {tmp_path}: expected a finished output, found none")
    assert "Traceback" not in told


@pytest.mark.parametrize("field", ["rows", "quarantined"])
def test_fewer_than_no_rows_are_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=f"--{field}: expected 0 or more"):
        ShowConfig(**{field: -1})


def test_configs_survive_pickling() -> None:
    config = ShowConfig(path="a", rows=1)
    assert pickle.loads(pickle.dumps(config)) == config
