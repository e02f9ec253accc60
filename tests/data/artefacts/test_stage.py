"""Output folders: one writer, what counts as finished, what is removed, what is believed."""

import contextlib
import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from data.artefacts import manifest
from data.artefacts.folder import Artefact, Folder, digest_bytes
from data.artefacts.lock import locked
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.stage import stage
from data.errors import CatalogueError, ConfigError, ManifestError, OutputError, SourceError

ROOT = Path(__file__).resolve().parents[3]
PART = "part-00000.parquet"
IDENTITY = {"seed": 1}


@dataclass(frozen=True)
class Config:
    """Of a stage."""

    overwrite: bool = False


def make(out: Path, payload: bytes = b"rows", overwrite: bool = False) -> Manifest:
    """Write an output of one part, as a stage does."""
    with stage("clean", Config(overwrite), str(out), IDENTITY) as work:
        if work.finished:
            return work.finished
        work.folder.commit(PART, payload)
        part = Artefact(PART, 1, len(payload), digest_bytes(payload))
        return work.finish((part,), Counts(1, 1))


def test_an_output_is_made_once(tmp_path: Path) -> None:
    first = make(tmp_path / "out")
    assert make(tmp_path / "out", b"other") == first
    assert sorted(os.listdir(tmp_path / "out")) == ["manifest.json", PART]


@pytest.mark.parametrize(
    ("earlier", "now"),
    [
        ({"columns": {"content": "d"}}, {"columns": {"content": "d", "uid": None}}),
        ({"rules": {"title_min": 1}}, {"rules": {"title_min": 1, "strip_html": True}}),
        ({}, {"encoding": "latin-1"}),
    ],
)
def test_what_an_earlier_output_did_not_record_is_another_setting(
    tmp_path: Path, earlier: dict[str, Any], now: dict[str, Any]
) -> None:
    with stage("clean", Config(), str(tmp_path), earlier) as work:
        work.finish((), Counts())
    refusal = pytest.raises(OutputError, match="--overwrite true")
    with refusal, stage("clean", Config(), str(tmp_path), now):
        pass


@pytest.mark.parametrize("loss", ["removed", "cut"])
def test_an_output_whose_file_is_gone_or_cut_is_made_again(tmp_path: Path, loss: str) -> None:
    make(tmp_path / "out")
    path = tmp_path / "out" / PART
    path.unlink() if loss == "removed" else path.write_bytes(b"ro")
    make(tmp_path / "out", b"again")
    assert path.read_bytes() == b"again"


def test_a_file_that_goes_while_the_stage_runs_is_told(tmp_path: Path) -> None:
    with stage("clean", Config(), str(tmp_path / "out"), IDENTITY) as work:
        work.folder.commit(PART, b"rows")
        os.remove(tmp_path / "out" / PART)
        part = Artefact(PART, 1, 4, digest_bytes(b"rows"))
        with pytest.raises(OutputError, match=PART):
            work.finish((part,), Counts(1, 1))


def test_overwriting_removes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out)
    (out / "notes.txt").write_text("mine")
    (out / "photos").mkdir()
    (out / "photos" / "part-00000.parquet").write_text("mine")
    (out / "part-00001.parquet").write_bytes(b"left by an interrupted run")
    make(out, b"new", overwrite=True)
    assert (out / PART).read_bytes() == b"new"
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "photos" / "part-00000.parquet").read_text() == "mine"
    assert not (out / "part-00001.parquet").exists()


@pytest.mark.parametrize("fault", [SourceError("a", "b", "c"), KeyboardInterrupt(), ValueError()])
def test_only_a_faulty_input_takes_the_folder_back(tmp_path: Path, fault: BaseException) -> None:
    out = tmp_path / "out"

    def fail() -> None:
        with stage("clean", Config(), str(out), IDENTITY) as work:
            work.folder.commit(PART, b"rows")
            raise fault

    with pytest.raises(type(fault)):
        fail()
    assert out.exists() != isinstance(fault, CatalogueError)


@pytest.mark.parametrize("out", ["", "/", "~", "~/", os.path.expanduser("~")])
def test_nothing_is_written_into_the_root_or_a_home(out: str) -> None:
    with pytest.raises(ConfigError), stage("clean", Config(), out, IDENTITY):
        pass


def test_a_tilde_is_the_home_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Folder("~/x").path() == str(tmp_path / "x")
    assert Folder(f"file://{tmp_path}/x") == Folder("~/x")


HOLD = """
import sys, time
from data.artefacts.folder import Folder
from data.artefacts.lock import locked
with locked(Folder(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_told_who_is_at_work_and_a_kill_frees_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=rf"in work by process {process.pid} on .* since"):
            make(out)
        process.kill()
    assert make(out).counts.kept == 1
    assert sorted(os.listdir(out)) == ["manifest.json", PART]


def test_a_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    with locked(Folder(str(tmp_path / "out"))):
        assert os.listdir(tmp_path / "out") == [".lock"]
    assert not (tmp_path / "out").exists()


def test_every_flipped_bit_of_an_output_is_found(tmp_path: Path) -> None:
    payload = random.Random(0).randbytes(4_000)  # noqa: S311
    made = make(tmp_path / "out", payload)
    folder = Folder(str(tmp_path / "out"))
    made.check(folder)
    for place in random.Random(1).sample(range(len(payload) * 8), 120):  # noqa: S311
        changed = bytearray(payload)
        changed[place // 8] ^= 1 << place % 8
        folder.commit(PART, bytes(changed))
        with pytest.raises(ManifestError, match=PART):
            made.check(folder)


def test_a_flipped_bit_of_a_manifest_is_found_or_changes_nothing(tmp_path: Path) -> None:
    made = make(tmp_path / "out")
    folder = Folder(str(tmp_path / "out"))
    written = folder.read(manifest.NAME)
    for place in range(len(written) * 8):
        changed = bytearray(written)
        changed[place // 8] ^= 1 << place % 8
        (tmp_path / "out" / manifest.NAME).write_bytes(changed)
        with contextlib.suppress(ManifestError):
            assert manifest.read(folder) == made, place


def test_a_manifest_of_an_earlier_version_is_read_and_checked_by_its_digest(tmp_path: Path) -> None:
    made = make(tmp_path / "out")
    folder = Folder(str(tmp_path / "out"))
    value = json.loads(folder.read(manifest.NAME))
    del value["checksum"]
    folder.commit(manifest.NAME, json.dumps(value).encode())
    assert manifest.read(folder) == made
    value["outputs"][0]["digest"] = "0f"
    folder.commit(manifest.NAME, json.dumps(value).encode())
    with pytest.raises(ManifestError, match="digest"):
        manifest.read(folder)
