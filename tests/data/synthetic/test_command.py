"""The command that writes the invented catalogue: bytes, failures, values that are refused."""

import errno
import gzip
import json
import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import psutil
import pytest

from data import console
from data.__main__ import main
from data.errors import ConfigError
from data.synthetic import command
from data.synthetic.broken import choose
from data.synthetic.command import SynthesizeConfig


@pytest.mark.parametrize("name", ["trn.json", "trn.json.gz"])
def test_the_same_seed_gives_the_same_bytes_for_any_number_of_workers(
    tmp_path: Path, name: str
) -> None:
    for workers in ("1", "2"):
        out = tmp_path / workers / name
        assert main(["synthesize", "--out", str(out), "--rows", "9000", "--workers", workers]) == 0
    assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert [path.name for path in (tmp_path / "1").iterdir()] == [name]


def test_the_sample_is_what_the_command_makes(tmp_path: Path) -> None:
    sample = Path("data/sample/trn.json.gz")
    out = tmp_path / "trn.json.gz"
    assert main(["synthesize", "--out", str(out), "--rows", "5000"]) == 0
    # Compressed by another zlib the bytes may differ; the lines may not.
    assert gzip.decompress(sample.read_bytes()) == gzip.decompress(out.read_bytes())
    assert sample.stat().st_size < 1_000_000


def test_broken_lines_stand_where_they_are_chosen_and_no_others_change() -> None:
    whole = command.block(SynthesizeConfig(rows=2_000), 0).split(b"\n")
    broken = command.block(SynthesizeConfig(rows=2_000, broken_share=0.2), 0).split(b"\n")
    assert len(whole) == len(broken) == 2_001
    for place, (line, found) in enumerate(zip(whole[:-1], broken[:-1], strict=True)):
        chosen = choose(3407, place, 0.2)
        assert found == (chosen.apply(line) if chosen else line)


def test_planted_attributes_are_named_by_the_description_alone() -> None:
    plain = command.block(SynthesizeConfig(rows=400), 0).splitlines()
    config = SynthesizeConfig(rows=400, attributes=True)
    planted = [json.loads(line) for line in command.block(config, 0).splitlines()]
    seen: set[tuple[str, str]] = set()
    for line, record in zip(plain, planted, strict=True):
        before = json.loads(line)
        seen.add((record.pop("brand"), record.pop("colour")))
        assert before.pop("content") in record.pop("content")
        assert record == before
    assert len(seen) > 200
    for record in map(json.loads, command.block(config, 0).splitlines()):
        if record["content"]:
            opening = record["content"].split(".")[0]
            assert record["brand"] in opening
            assert record["colour"] in opening
    broken = command.block(SynthesizeConfig(rows=400, attributes=True, broken_share=0.5), 0)
    assert len(broken.splitlines()) == 400


class Full:
    """A file on a disk that is full after the first block."""

    def __init__(self, raw: Any) -> None:
        self.raw, self.blocks = raw, 0

    def __enter__(self) -> "Full":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def write(self, made: bytes) -> int:
        self.blocks += 1
        if self.blocks > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self.raw.write(made))


def test_a_full_disk_is_told_in_one_line_and_leaves_no_file(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.synthetic.command._stream", lambda raw, _: Full(raw))
    out = tmp_path / "trn.json"
    assert main(["synthesize", f"--out={out}", "--rows=20000", "--workers=1"]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert f"{out}: expected free space, found the disk full" in errors[0]
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_died_is_told_in_one_line_and_leaves_no_file(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> bytes:
        raise BrokenProcessPool

    monkeypatch.setattr(console.Progress, "advance", die)
    assert main(["synthesize", f"--out={tmp_path / 'trn.json'}", "--rows=9", "--workers=1"]) == 1
    told = capsys.readouterr().err
    assert "error: workers: a worker process died; run the same command again" in told
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_behind_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".tmp-trn.json").write_bytes(b"half a line" * 100_000)
    assert main(["synthesize", f"--out={tmp_path / 'trn.json'}", "--rows=3", "--workers=1"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["trn.json"]
    lines = (tmp_path / "trn.json").read_bytes().splitlines()
    assert len([json.loads(line) for line in lines]) == 3


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path, capsys: Any) -> None:
    assert main(["synthesize", f"--out={tmp_path}", "--rows=3"]) == 2
    assert f"--out: expected a file name, found the folder {tmp_path}" in capsys.readouterr().err


def test_no_worker_outlives_a_driver_that_was_killed(tmp_path: Path, root: Path) -> None:
    words = ("-m", "data", "synthesize", f"--out={tmp_path / 'trn.json'}", "--workers=2")
    with subprocess.Popen(
        [sys.executable, *words], cwd=root, stderr=subprocess.DEVNULL, start_new_session=True
    ) as driver:
        workers: list[psutil.Process] = []
        while len(workers) < 2:
            assert driver.poll() is None
            workers = [
                child
                for child in psutil.Process(driver.pid).children()
                if "spawn_main" in " ".join(child.cmdline())
            ]
        driver.kill()
    _, alive = psutil.wait_procs(workers, timeout=20)
    for worker in alive:
        worker.kill()
    assert not alive


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rows", 0),
        ("seed", -1),
        ("defects", -0.5),
        ("broken_share", 1.5),
        ("workers", 0),
        ("out", ""),
    ],
)
def test_values_that_cannot_be_meant_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"--{field}"):
        SynthesizeConfig(**{field: value})
