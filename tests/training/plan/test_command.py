"""``plan`` and ``run --plan``: what they write, find again and say; processes at fault."""

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.errors import BatchError
from tests.training import serving
from training import job
from training.__main__ import main
from training.config import Optimisation, PlanConfig
from training.hardware import Hardware
from training.plan import command
from training.plan.candidates import Candidate, Measured
from training.plan.measuring import Journal


@pytest.fixture(scope="module")
def planned(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    plans = tmp_path_factory.mktemp("plans")
    # So many that their start is little beside them.
    long = "--optimisation.max_steps=100000"
    more = [f"--plans={plans}", "--checkpoints.eval_steps=2", "--steps=2", long]
    assert main(["plan", *words[1:], *more]) == 0
    return plans


def test_plan_is_written_with_its_figures(planned: Path) -> None:
    (folder,) = planned.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "plan.json"]
    told = json.loads((folder / "plan.json").read_text())
    assert told["candidate"]["micro_batch"] * told["candidate"]["accumulation"] == 8
    assert told["measured"]
    assert not all(each["is_left"] for each in told["measured"])
    for each in told["measured"]:
        assert each["peak_bytes"] > 2**27
        assert each["glance_seconds"] > 0
        # The mean of all looks, not the quickest; batches hold some 8 rows of like tokens.
        mean = fmean(each["step_seconds"])
        assert each["samples_per_second"] == pytest.approx(8 / mean, rel=0.25)
        if each["is_left"]:
            continue
        # Two batches; those of the fastest candidates once more at the end.
        assert len(each["step_seconds"]) in {2, 4}
        assert each["evaluation_seconds"] > 0
        assert each["saving_seconds"] > 0
        assert each["measuring_seconds"] > sum(each["step_seconds"])
    (start,) = set(told["starts"])
    assert start in {each["cold_seconds"] for each in told["measured"]}


def test_run_takes_the_plan_and_compares(
    planned: Path, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    more = [f"--plans={planned}", "--checkpoints.eval_steps=2", "--plan=auto", f"--out={out}"]
    assert main([*words, *more]) == 0
    told = capsys.readouterr().out
    assert "planned before:" in told
    assert "s predicted," in told
    facts = manifest.read(Folder(str(out)), "train").facts
    chosen = json.loads((out / "plan.json").read_text())["candidate"]
    assert facts["plan"]["predicted_seconds"] > 0
    assert facts["plan"]["actual_seconds"] > 0
    config = manifest.read(Folder(str(out))).config["optimisation"]
    assert config["micro_batch_size"] == chosen["micro_batch"]
    # The same command finds its output finished, by the plan that lies in it.
    assert main([*words, *more]) == 0
    assert "already finished" in capsys.readouterr().out


def test_plan_of_ones_own(planned: Path, words: list[str], tmp_path: Path) -> None:
    (folder,) = planned.iterdir()
    out = tmp_path / "run"
    more = [f"--plan={folder / 'plan.json'}", "--optimisation.max_steps=2", f"--out={out}"]
    assert main([*words, *more]) == 0
    assert (out / "plan.json").exists()


def test_no_plan_there(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.json").write_text("{}")
    for path in (tmp_path / "plan.json", tmp_path / "none"):
        assert main([*words, f"--plan={path}", f"--out={tmp_path / 'run'}"]) == 1
        assert "expected a plan of ours" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_nothing_fits(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--memory_limit=1MiB", f"--plans={tmp_path / 'plans'}"]
    assert main(["plan", *words[1:], *more]) == 1
    error = capsys.readouterr().err
    assert "expected a way to run" in error
    assert list((tmp_path / "plans").iterdir()) == []


@pytest.fixture
def config(subset: Path, base: Path, tmp_path: Path) -> PlanConfig:
    how = Optimisation(batch_size=8)
    return PlanConfig(
        subset=str(subset), base=str(base), plans=str(tmp_path / "plans"), optimisation=how
    )


HERE = Hardware("A processor", 16, "Card A", "9.0", 132, 80 * 2**30, 79 * 2**30)


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({"free_bytes": 75 * 2**30}, True),
        ({"free_bytes": 40 * 2**30}, False),
        ({"card": "Card B"}, False),
        ({"total_bytes": 81 * 2**30, "free_bytes": 80 * 2**30}, False),
        ({"multiprocessors": 114}, False),
        ({"capability": "8.0"}, False),
        ({"card": None, "capability": None, "multiprocessors": None}, False),
        ({"processor": "Another processor"}, False),
    ],
)
def test_plan_of_other_hardware_is_not_taken(
    changes: dict[str, Any],
    is_same: bool,
    config: PlanConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subset = job.open_subset(config.subset)
    monkeypatch.setattr("training.hardware.look", lambda: HERE)
    before = command.identify(config, subset)
    monkeypatch.setattr("training.hardware.look", lambda: replace(HERE, **changes))
    assert (command.identify(config, subset) == before) == is_same


def test_plan_does_not_depend_on_the_hosts_name(
    config: PlanConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    subset = job.open_subset(config.subset)
    monkeypatch.setattr("training.hardware.look", lambda: HERE)
    before = command.identify(config, subset)
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    assert command.identify(config, subset) == before
    limited = replace(config, memory_limit="12GiB")
    assert command.identify(limited, subset) != before


def test_processes_that_die_cost_only_their_candidate(
    config: PlanConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.plan.worker.serve", serving.serve)
    monkeypatch.setattr("training.plan.plan._START_SHARE", 0.0)
    choice = command.find_or_make(config, job.open_subset(config.subset))
    told = {str(each.candidate): each for each in choice.measured}
    assert told["8 x 1, keep all"].fault == "out of memory"
    assert told["4 x 2, keep all"].fault == "the process died"
    # A process that had no fault goes on to the next candidate.
    chosen = told["8 x 1, recompute, 1 kept"]
    assert choice.candidate == chosen.candidate
    assert told["2 x 4, keep all"].saving_seconds == chosen.saving_seconds
    # The time hung on the start of the first process: another one started for it.
    assert choice.starts == (30.0,)
    assert len(chosen.step_seconds) == 4


@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError])
def test_interrupted_plan_goes_on(
    end: type[BaseException],
    config: PlanConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    subset = job.open_subset(config.subset)
    monkeypatch.setattr("training.plan.worker.serve", serving.serve)
    keep = Journal.keep

    def interrupt(journal: Journal, measured: Measured, is_first: bool) -> None:
        keep(journal, measured, is_first)
        raise end

    monkeypatch.setattr(Journal, "keep", interrupt)
    with pytest.raises(end):
        command.find_or_make(config, subset)
    (folder,) = Path(config.plans).iterdir()
    ((told, _),) = json.loads((folder / "measured.json").read_text())["kept"]
    before = Measured.from_dict(told)
    made: list[Measured] = []

    def note(journal: Journal, measured: Measured, is_first: bool) -> None:
        made.append(measured)
        keep(journal, measured, is_first)

    monkeypatch.setattr(Journal, "keep", note)
    caplog.set_level("INFO", logger="catalogue")
    choice = command.find_or_make(config, subset)
    assert caplog.text.count("measured before the interruption") == 1
    # By the process that measured it, as the stand-in tells: the measurement of before stands.
    found = {each.candidate: each for each in choice.measured}
    assert found[before.candidate].saving_seconds == before.saving_seconds
    together = [before.candidate, *(each.candidate for each in made)]
    made.clear()
    uninterrupted = command.find_or_make(replace(config, plans=config.plans + "-2"), subset)
    assert together == [each.candidate for each in made]
    assert choice.candidate == uninterrupted.candidate
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "plan.json"]


def test_measurements_of_other_lengths_do_not_count(tmp_path: Path) -> None:
    folder, candidate = Folder(str(tmp_path)), Candidate(8, 1, "every", 0)
    Journal(folder, 2).keep(Measured(candidate, cold_seconds=3.0), is_first=True)
    assert Journal(folder, 4).take(candidate) is None
    again = Journal(folder, 2)
    assert again.starts == [(candidate.family, 3.0)]
    told = again.take(candidate)
    assert told is not None
    assert told.cold_seconds == 3.0
    assert again.take(candidate) is None  # the second look at it was not made


def test_fault_of_input_is_told_and_leaves_nothing(
    config: PlanConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.plan.worker.serve", serving.refuse)
    with pytest.raises(BatchError, match="expected a label"):
        command.find_or_make(config, job.open_subset(config.subset))
    assert list(Path(config.plans).iterdir()) == []
