"""``show``: what a folder holds, for a person."""

import pickle
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data import schema, shards, subset
from data.__main__ import main
from data.errors import ConfigError
from data.manifest import Counts, Manifest
from data.shards import Artefact, Folder
from data.show import ShowConfig
from data.subset import SubsetConfig

ROWS = [(f"uid{i}", f"Title {i}", f"Content {i}.") for i in range(40)]


@pytest.fixture
def clean(clean_of: Any, tmp_path: Path) -> Path:
    return Path(clean_of(tmp_path / "clean", ROWS))


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
    first = shards.read_part(Folder(str(clean)), "part-00000.parquet").to_pylist()
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


def test_drops_and_the_first_quarantined_lines_are_shown(tmp_path: Path, capsys: Any) -> None:
    folder = Folder(str(tmp_path / "clean"))
    lines = [["raw.json"] * 2, [0, 1_000], [b"broken \xff", b"null"],
             ["invalid_utf8", "not_an_object"]]  # fmt: skip
    arrays = [pa.array(c, f.type) for c, f in zip(lines, schema.QUARANTINE, strict=True)]
    shards.commit_part(
        folder, "quarantine/part-00000.parquet", pa.table(arrays, schema=schema.QUARANTINE)
    )
    Manifest(
        stage="clean",
        config={},
        identity={},
        inputs=(Artefact("/raw.json", 5, 2_048, "0f"),),
        outputs=(),
        counts=Counts(5, 2, {"title_empty": 1}, {"invalid_utf8": 1, "not_an_object": 1}),
    ).write(folder)
    told = shown(capsys, folder.url)
    assert "dropped: title_empty" in told
    assert "quarantined: invalid_utf8" in told
    assert r"raw.json byte 0 invalid_utf8: b'broken \xff'" in told
    assert "raw.json byte 1,000 not_an_object: b'null'" in told
    assert "5 lines, 2.0 KiB" in told


def test_no_rows_are_shown_where_none_are_asked_for(clean: Path, capsys: Any) -> None:
    assert "uid" not in shown(capsys, str(clean), "--rows=0")


def test_a_folder_without_a_finished_output_is_told(tmp_path: Path, capsys: Any) -> None:
    assert main(["show", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: {tmp_path}: expected a finished output, found none")
    assert "Traceback" not in told


def test_fewer_than_no_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match="--rows: expected 0 or more"):
        ShowConfig(rows=-1)


def test_configs_survive_pickling() -> None:
    config = ShowConfig(path="a", rows=1)
    assert pickle.loads(pickle.dumps(config)) == config
