"""``tune`` on small files: what it writes, how it goes on after a kill, what it refuses."""

import json
import time
from pathlib import Path

import pytest
import yaml

from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.subset import SubsetConfig, run
from tests import forked
from tests.builders import write_clean
from training.__main__ import main
from training.loop import metrics
from training.tune import study
from training.tune.config import Space

RATES, BATCHES = (3e-3, 1e-2, 0.5), (8, 16)
SPACE = [f"--space.learning_rate={list(RATES)}", f"--space.batch_size={list(BATCHES)}"]


@pytest.fixture(scope="module")
def search(words: list[str]) -> list[str]:
    """Flags of a search of six trials, of half an epoch each."""
    more = ["--optimisation.max_steps=null", "--optimisation.epochs=0.5"]
    return ["tune", *words[1:], *more, *SPACE]


@pytest.fixture(scope="module")
def searched(search: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tunes") / "whole"
    assert main([*search, f"--out={out}"]) == 0
    return out


def facts_of(out: Path) -> dict[str, object]:
    return manifest.read(Folder(str(out)), "tune").facts


def test_what_a_search_leaves(searched: Path) -> None:
    names = {path.name for path in searched.iterdir()}
    assert names >= {"best.yaml", "tune.png", "journal.log", "manifest.json", "trials"}
    facts = facts_of(searched)
    trials = facts["trials"]
    assert isinstance(trials, list)
    assert len(trials) == Space(list(RATES), list(BATCHES)).size
    values = {(trial["values"]["learning_rate"], trial["values"]["batch_size"]) for trial in trials}
    assert values == {(rate, batch) for rate in RATES for batch in BATCHES}
    ended = [trial for trial in trials if len(trial["losses"]) == 3]
    assert len(ended) == 3
    assert all(trial["second_seed"] for trial in ended)
    best = min(ended, key=lambda trial: trial["losses"][-1] + trial["second_seed"])
    assert facts["best"] == best["values"]
    assert facts["best"]["learning_rate"] != 0.5


def test_no_step_is_trained_twice(searched: Path) -> None:
    facts = facts_of(searched)
    taken = 0
    for path in searched.glob("trials/*/metrics.jsonl"):
        steps = [line["step"] for line in metrics.read(path) if "loss" in line]
        assert steps == list(range(1, len(steps) + 1))
        taken += len(steps)
    assert taken == facts["steps"]


def test_the_best_recipe_trains_to_the_loss_that_was_found(
    searched: Path, words: list[str], tmp_path: Path
) -> None:
    recipe = yaml.safe_load((searched / "best.yaml").read_text())
    best = facts_of(searched)["best"]
    assert isinstance(best, dict)
    assert recipe["optimisation"]["learning_rate"] == best["learning_rate"]
    assert recipe["optimisation"]["batch_size"] == best["batch_size"]
    places = [word for word in words if word.startswith(("--subset", "--tokenized"))]
    flags = [f"--config={searched / 'best.yaml'}", f"--out={tmp_path / 'run'}"]
    assert main(["run", *places, *flags]) == 0
    facts = manifest.read(Folder(str(tmp_path / "run")), "train").facts
    assert facts["adapter_validation_loss"] == facts_of(searched)["validation_loss"]
    trial = str(facts_of(searched)["best_trial"])
    weights = Path("adapter", "adapter_model.safetensors")
    assert (tmp_path / "run" / weights).read_bytes() == (searched / trial / weights).read_bytes()


def test_a_finished_trial_is_a_run(searched: Path) -> None:
    trial = searched / str(facts_of(searched)["best_trial"])
    record = manifest.read(Folder(str(trial)), "train")
    record.check(Folder(str(trial)))
    assert (trial / "adapter" / "adapter_model.safetensors").exists()


def test_a_killed_search_ends_with_the_same_trials_and_recipe(
    searched: Path, search: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    command = ["-m", "training", *search, f"--out={out}"]
    with forked.started(command, tmp_path / "output", tmp_path / "errors") as process:
        give_up = time.monotonic() + 120
        while not (out / "trials" / "001" / "checkpoints").exists():
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.01)
    assert main(command[2:]) == 0
    for name in ("best.yaml", "tune.png"):
        assert (out / name).read_bytes() == (searched / name).read_bytes()
    assert facts_of(out)["trials"] == facts_of(searched)["trials"]
    adapters = sorted(path.relative_to(searched) for path in searched.glob("trials/*/adapter/*s"))
    assert adapters
    for path in adapters:
        assert (out / path).read_bytes() == (searched / path).read_bytes()


def test_a_finished_search_is_left_alone(
    searched: Path, search: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (searched / "manifest.json").read_bytes()
    assert main([*search, f"--out={searched}"]) == 0
    assert "is already finished" in capsys.readouterr().out
    assert (searched / "manifest.json").read_bytes() == before
    assert main([*search, f"--out={searched}", "--trials=2"]) == 1


def test_a_trial_that_diverges_is_given_up_and_the_rest_goes_on(
    search: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from training.loop import callbacks

    check, calls = callbacks.guards.check_loss, iter(range(100_000))

    def diverge(loss: float, norm: float | None, step: int) -> None:
        check(float("nan") if next(calls) == 0 else loss, norm, step)

    monkeypatch.setattr(callbacks.guards, "check_loss", diverge)
    out = tmp_path / "tune"
    assert main([*search, f"--out={out}", "--trials=2"]) == 0
    output = capsys.readouterr().out
    assert "trial 1 (learning_rate" in output
    assert "is given up: step 1: expected a finite training loss" in output
    trials = facts_of(out)["trials"]
    assert isinstance(trials, list)
    assert [bool(trial["fault"]) for trial in trials] == [True, False]


def test_a_budget_decides_the_number_of_trials(
    search: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tune"
    assert main([*search, f"--out={out}", "--budget=1s"]) == 2
    assert "--budget: expected time for " in capsys.readouterr().err
    lines = (out / study.NAME).read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    more = ["--space.batch_size=[8]", "--space.learning_rate=[0.01]"]
    other = tmp_path / "other"
    assert main([*search, *more, f"--out={other}", "--budget=1s"]) == 2
    assert main([*search, *more, f"--out={other}", "--budget=1h"]) == 0
    assert "1 trial of learning_rate, batch_size within 1h" in capsys.readouterr().out


def test_a_subset_without_validation_rows_is_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(str(n), f"Kettle {n}", f"Boils {n} cups.") for n in range(60)]
    clean = write_clean(tmp_path / "clean", rows)
    run(SubsetConfig(clean=str(clean), out=str(tmp_path / "subset"), validation=0))
    out = tmp_path / "tune"
    assert main(["tune", *words[1:], f"--subset={tmp_path / 'subset'}", f"--out={out}"]) == 1
    assert "expected validation rows, as the search goes by their loss" in capsys.readouterr().err
    assert not out.exists()


def test_a_base_that_is_not_there_and_a_launcher_are_refused(
    search: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "tune"
    assert main([*search, f"--out={out}", f"--base={tmp_path / 'none'}"]) == 1
    assert "expected a local model folder" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*search, f"--out={out}"]) == 2
    assert "tune: expected one process, found 2 of a launcher" in capsys.readouterr().err
    assert not out.exists()
