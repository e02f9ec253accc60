"""Every recipe is loaded through the command line, and means what its name says."""

from pathlib import Path

import pytest
import yaml

from data.artefacts import manifest
from training.__main__ import COMMANDS, main
from training.config import TrainConfig

RECIPES = sorted((Path(__file__).parents[2] / "training" / "recipes").glob("*.yaml"))


def load(monkeypatch: pytest.MonkeyPatch, *words: str) -> TrainConfig:
    seen: list[TrainConfig] = []
    monkeypatch.setattr("training.run.run", seen.append)
    monkeypatch.setattr("data.cli.forgotten.check", lambda *_: None)  # no subset is there
    assert main(["run", *words]) == 0
    return seen[0]


def test_there_are_recipes() -> None:
    assert {path.stem for path in RECIPES} == {"cpu", "rtx3060", "t4", "tech-challenge-03"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_round_trips(recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = load(monkeypatch, "--config", str(recipe))
    assert config != TrainConfig()
    again = tmp_path / "resolved.yaml"
    again.write_text(yaml.safe_dump(manifest.config_dict(config)))
    assert load(monkeypatch, "--config", str(again)) == config


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_flag_wins_wherever_it_stands(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(
        monkeypatch, "--optimisation.learning_rate", "0.5", "--config", str(recipe), "--seed", "1"
    )
    assert (config.optimisation.learning_rate, config.seed) == (0.5, 1)


def recipe(monkeypatch: pytest.MonkeyPatch, name: str, *words: str) -> TrainConfig:
    path = next(path for path in RECIPES if path.stem == name)
    return load(monkeypatch, "--config", str(path), *words)


def test_tech_challenge_is_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    config = recipe(monkeypatch, "tech-challenge-03")
    how = config.optimisation
    assert config.base == "unsloth/tinyllama"
    assert config.prompt.instruction == "Write a book review."
    assert (config.loss_on, config.max_length, config.seed) == ("full", 2048, 3407)
    assert (how.batch_size, how.accumulation(), how.epochs, how.warmup_steps) == (128, 1, 10, 5)
    assert (how.learning_rate, how.schedule, how.weight_decay) == (2e-4, "linear", 0.01)
    assert (how.optimizer, how.precision) == ("adamw_8bit", "auto")
    assert (how.gradient_checkpointing, how.order) == ("unsloth", "random")
    lora = config.lora
    assert (lora.r, lora.alpha, lora.dropout, lora.use_rslora) == (16, 16, 0.0, True)
    assert len(lora.target_modules) == 7
    assert config.checkpoints.eval_steps is None


def test_second_cycle_is_the_recipe_with_two_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--init_adapter", "runs/1/adapter", "--optimisation.epochs", "30")
    config = recipe(monkeypatch, "tech-challenge-03", *flags)
    assert (config.init_adapter, config.optimisation.epochs) == ("runs/1/adapter", 30)


def test_rtx3060_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    config = recipe(monkeypatch, "rtx3060")
    how, kept = config.optimisation, config.checkpoints
    assert how.batch_size == how.micro_batch * how.accumulation() == 32
    assert (how.learning_rate, config.prompt.neighbours) == (1e-3, 1)
    assert (config.loss_on, how.order, kept.keep_best) == ("completion", "by_length", True)


def test_t4_learns_as_rtx3060_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recipe(monkeypatch, "t4") == recipe(monkeypatch, "rtx3060")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_precision_is_that_of_the_card(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, "--config", str(recipe)).optimisation.precision == "auto"


def test_cpu_needs_no_download_and_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    config = recipe(monkeypatch, "cpu")
    assert config.tiny is not None
    assert config.optimisation.optimizer == "adamw_torch"


def test_commands_are_documented() -> None:
    for command in COMMANDS.values():
        assert command.config.__doc__
