"""The command on a small subset: ordinary subsets and runs, the same after a kill, refusals."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data import subset as subsets
from data.__main__ import main as data_main
from data.artefacts import manifest, stage
from data.artefacts.dataset import Subset
from data.artefacts.folder import Folder
from data.artefacts.manifest import Manifest
from data.artefacts.run import Run
from data.errors import BatchError
from data.subset import SubsetConfig
from tests import forked
from training import execution
from training.__main__ import main
from training.curve import picture, runs

SIZES = (20, 40, 80)


@pytest.fixture(scope="session")
def flags(words: list[str]) -> list[str]:
    own = ["--sizes=[20,40,80]", "--optimisation.max_steps=3", "--seeds=1", "--predict=400"]
    return ["curve", *words[1:], *own]


@pytest.fixture(scope="session")
def curve(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("curves") / "whole"
    assert main([*flags, f"--out={out}"]) == 0
    return out


def values_of(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((out / "curve.json").read_text())
    return values


def figures(out: Path) -> tuple[Any, ...]:
    """What must be the same after an interruption: all but seconds and places."""
    values = values_of(out)
    of_runs = [(run["rows"], run["seed"], run["loss"], run["steps"]) for run in values["runs"]]
    foretold = {name: values["foretold"][name] for name in ("rows", "loss", "low", "high")}
    return of_runs, values["law"], foretold, values["band"]


def test_every_size_is_the_subset_that_the_command_makes(
    curve: Path, subset: Path, tmp_path: Path
) -> None:
    record = manifest.read(Folder(str(subset)), "subset")
    clean = record.made_from[0].path
    for size in SIZES:
        subsets.run(SubsetConfig(clean=clean, out=str(tmp_path / str(size)), size=size))
        own = Subset.open(str(curve / "subsets" / str(size)))
        assert own.record.digest == Subset.open(str(tmp_path / str(size))).record.digest


def test_every_run_is_an_ordinary_one(curve: Path) -> None:
    for size in SIZES:
        own = Run.open(str(curve / "runs" / f"{size}-3407"))
        record = own.record
        assert record
        assert (record.counts.kept, record.facts["steps"]) == (size, 3)
        assert record.config["checkpoints"]["keep_best"]
        assert record.made_from[0].path == str(curve / "subsets" / str(size))


def test_the_blocks_add_up_to_the_runs_own_validation_loss(curve: Path) -> None:
    for run in values_of(curve)["runs"]:
        kept = json.loads((curve / "losses" / f"{run['rows']}-{run['seed']}.json").read_text())
        facts = manifest.read(Folder(run["run"]), "train").facts
        loss = sum(kept["nats"]) / sum(kept["tokens"])
        assert loss == pytest.approx(facts["adapter_validation_loss"], abs=1e-5)
        assert run["loss"] == loss
        assert len(kept["tokens"]) >= 10
        assert np.std(np.array(kept["nats"]) / kept["tokens"]) > 0


def test_what_a_curve_leaves(curve: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = values_of(curve)
    record = manifest.read(Folder(str(curve)), "curve")
    record.check(Folder(str(curve)))
    assert {parent.stage for parent in record.made_from} == {"train"}
    assert len(record.made_from) == 3
    assert [size["rows"] for size in values["sizes"]] == list(SIZES)
    assert values["foretold"]["rows"] == 400
    assert values["foretold"]["low"] <= values["foretold"]["loss"] <= values["foretold"]["high"]
    assert values["foretold"]["seconds"] > 0
    assert values["lines"] == record.facts["lines"]
    assert (curve / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert data_main(["show", str(curve)]) == 0
    shown = capsys.readouterr().out
    assert "400 rows should reach" in shown
    assert shown.count("from train ") == 3


def test_a_finished_curve_is_left_alone(
    curve: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (curve / "curve.json").stat().st_mtime_ns
    assert main([*flags, f"--out={curve}"]) == 0
    assert "already finished" in capsys.readouterr().out
    assert (curve / "curve.json").stat().st_mtime_ns == before
    assert main([*flags, f"--out={curve}", "--predict=500"]) == 1
    assert "made with predict=500, found predict=400" in capsys.readouterr().err


def test_another_question_takes_the_runs_that_are_there(
    curve: Path, flags: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "again"
    shutil.copytree(curve, out)
    times = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/adapter/*")}
    more = ["--sizes=[20,40,60,80]", "--predict=500", "--overwrite=true"]
    record_before = manifest.read(Folder(str(out / "runs" / "40-3407"))).digest
    assert main([*flags, f"--out={out}", *more]) == 0
    values = values_of(out)
    assert [size["rows"] for size in values["sizes"]] == [20, 40, 60, 80]
    assert values["foretold"]["rows"] == 500
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert manifest.read(Folder(str(out / "runs" / "40-3407"))).digest == record_before


def test_a_killed_curve_goes_on(curve: Path, flags: list[str], tmp_path: Path) -> None:
    out = tmp_path / "killed"
    words = ["-m", "training", *flags, f"--out={out}"]
    give_up = time.monotonic() + 150
    with forked.started(words, tmp_path / "output", tmp_path / "errors") as process:
        while not (out / "runs" / "20-3407" / "manifest.json").exists():
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.002)
    assert not (out / "curve.json").exists()
    first = (out / "runs" / "20-3407" / "manifest.json").stat().st_mtime_ns
    assert main([*flags, f"--out={out}"]) == 0
    assert (out / "runs" / "20-3407" / "manifest.json").stat().st_mtime_ns == first
    assert figures(out) == figures(curve)


def test_a_run_that_diverges_is_left_out_and_named(
    curve: Path, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    advance = execution.advance

    def diverge(own: Any, *more: Any) -> Manifest | None:
        if len(own.train.rows) == 40:
            raise BatchError("step 3", "a finite training loss above 0", "nan")
        return advance(own, *more)

    monkeypatch.setattr(execution, "advance", diverge)
    out = tmp_path / "out"
    shutil.copytree(curve, out)
    assert main([*flags, f"--out={out}", "--overwrite=true"]) == 0
    values = values_of(out)
    assert [size["rows"] for size in values["sizes"]] == [20, 80]
    assert values["left_out"][0]["rows"] == 40
    assert (values["law"], values["foretold"], values["band"]) == (None, None, [])
    said = capsys.readouterr().out
    assert "left out: 40 rows with seed 3407: step 3: expected a finite training loss" in said
    assert "no curve can be fitted: 2 sizes are left, and it takes 3" in said
    monkeypatch.setattr(execution, "advance", lambda *_: diverge_all())
    assert main([*flags, f"--out={tmp_path / 'none'}"]) == 1
    assert "curve: expected a run with a finite loss, found step 1" in capsys.readouterr().err


def diverge_all() -> None:
    raise BatchError("step 1", "a finite training loss above 0", "nan")


@pytest.mark.parametrize(
    ("more", "code", "line"),
    [
        (["--sizes=[20,40,100000]"], 2, "train rows of"),
        (["--sizes=[40,20,80]"], 2, "each larger than the last"),
        (["--base=no/such/base"], 1, "no/such/base: expected"),
        (["--evaluate=true"], 1, "expected test rows to judge the sizes by, found none"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(
    more: list[str], code: int, line: str, flags: list[str], subset: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if "--evaluate=true" in more:
        clean = manifest.read(Folder(str(subset)), "subset").made_from[0].path
        subsets.run(SubsetConfig(clean=clean, out=str(tmp_path / "no-test"), test=0))
        more = [*more, f"--subset={tmp_path / 'no-test'}"]
        capsys.readouterr()
    out = tmp_path / "out"
    with pytest.raises(SystemExit) if line.startswith("each") else _as_is() as ended:
        assert main([*flags, *more, f"--out={out}"]) == code
    assert ended is None or ended.value.code == code
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("error: ")
    assert line in told
    assert not out.exists()


def _as_is() -> Any:
    import contextlib

    return contextlib.nullcontext()


def test_a_subset_without_validation_rows_is_refused(
    flags: list[str], subset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = manifest.read(Folder(str(subset)), "subset").made_from[0].path
    subsets.run(SubsetConfig(clean=clean, out=str(tmp_path / "none"), validation=0))
    assert main([*flags, f"--subset={tmp_path / 'none'}", f"--out={tmp_path / 'out'}"]) == 1
    assert "expected validation rows to judge the sizes by, found none" in capsys.readouterr().err


def test_a_launcher_is_refused(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*flags, f"--out={tmp_path / 'out'}"]) == 2
    told = capsys.readouterr().err
    assert "curve: expected one process, found 2 of a launcher" in told


def test_all_a_curve_writes_but_runs_is_replaced_with_it() -> None:
    for name in ("curve.json", "losses/20-3407.json", "base/model.safetensors",
                 "subsets/20/train/state.json"):  # fmt: skip
        assert any(stage._matches(name, form) for form in stage._WRITES["curve"])
    assert not any(stage._matches("runs/20-3407/manifest.json", f) for f in stage._WRITES["curve"])


def test_the_picture_has_a_label_for_sizes_that_have_room() -> None:
    from matplotlib.figure import Figure

    sizes = [{"rows": rows} for rows in (500, 520, 1_000, 2_000)]
    axes = Figure().subplots()
    picture._scale(axes, {"sizes": sizes, "foretold": {"rows": 40_000}})
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "40,000", "2,000", "1,000", "520",
    ]  # fmt: skip


def test_pace_leaves_evaluations_out_of_the_steps(curve: Path) -> None:
    folder = curve / "runs" / "80-3407"
    record, seconds = manifest.read(Folder(str(folder)), "train"), runs.seconds_of(folder)
    pace = runs.RunTime.of(record, seconds)
    assert pace.step > 0
    assert pace.rest >= 0
    assert pace.step * 3 + pace.rest == pytest.approx(seconds)


def test_sizes_whose_neighbours_leave_descriptions_other_room_are_not_compared(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    near = ["--prompt.neighbours=1", "--prompt.neighbour_tokens=24", "--prompt.template=compact"]
    short = ["--max_length=160", "--max_truncated_share=1"]
    assert main([*flags, *near, *short, f"--out={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err
    assert "--max_length: expected the same validation tokens at every size, " in said
    assert " beside other neighbours; raise it, " in said
    assert not list((tmp_path / "out").glob("runs/*/adapter"))
