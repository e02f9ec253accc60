import pickle
from dataclasses import replace

import pytest

from data.artefacts import manifest
from data.console import parse_memory
from data.errors import ConfigError
from training.__main__ import main
from training.config import Checkpoints, LoraSettings, Optimisation, TinyBase, TrainConfig


@pytest.mark.parametrize(
    ("make", "flag"),
    [
        (lambda: LoraSettings(r=0), "--lora.r"),
        (lambda: LoraSettings(alpha=0), "--lora.alpha"),
        (lambda: LoraSettings(dropout=1.0), "--lora.dropout"),
        (lambda: LoraSettings(target_modules=[]), "--lora.target_modules"),
        (lambda: Optimisation(batch_size=0), "--optimisation.batch_size"),
        (
            lambda: Optimisation(batch_size=8, micro_batch_size=3),
            "--optimisation.micro_batch_size",
        ),
        (lambda: Optimisation(max_steps=0), "--optimisation.max_steps"),
        (lambda: Optimisation(epochs=0), "--optimisation.epochs"),
        (lambda: Optimisation(learning_rate=float("nan")), "--optimisation.learning_rate"),
        (lambda: Optimisation(warmup_steps=1.5), "--optimisation.warmup_steps"),
        (lambda: Checkpoints(save_total_limit=1), "--checkpoints.save_total_limit"),
        (lambda: Checkpoints(keep_best=True), "--checkpoints.eval_steps"),
        (lambda: TinyBase(vocabulary=200), "--tiny.vocabulary"),
        (lambda: TinyBase(hidden=60), "--tiny.hidden"),
        (lambda: TinyBase(kv_heads=3), "--tiny.kv_heads"),
        (lambda: TrainConfig(max_length=2), "--max_length"),
        (lambda: TrainConfig(max_truncated_share=2), "--max_truncated_share"),
        (lambda: TrainConfig(memory_limit="12 apples"), "--memory_limit"),
        (
            lambda: TrainConfig(
                backend="transformers",
                optimisation=Optimisation(gradient_checkpointing="unsloth"),
            ),
            "--optimisation.gradient_checkpointing",
        ),
    ],
)
def test_value_that_cannot_be_meant_names_its_flag(make, flag: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert error.value.args[0] == flag
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_accumulation_times_micro_batch_is_the_batch() -> None:
    how = Optimisation(batch_size=128, micro_batch_size=32)
    assert (how.micro_batch, how.accumulation()) == (32, 4)
    assert Optimisation(batch_size=128).accumulation() == 1


@pytest.mark.parametrize(
    ("text", "amount"),
    [("11.65GiB", int(11.65 * 2**30)), ("500 MB", 500_000_000), ("1KiB", 1024)],
)
def test_memory(text: str, amount: int) -> None:
    assert parse_memory(text) == amount


@pytest.mark.parametrize("text", ["", "GiB", "0GiB", "-1GiB", "12", "12Gib", "nan GiB"])
def test_memory_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_memory(text)


def test_placement_is_no_part_of_the_identity() -> None:
    config = TrainConfig()
    moved = replace(
        config, subset="a", out="b", tokenized="c", memory_limit="1GiB", overwrite=True,
        logging_steps=7, report_to=["tensorboard"], max_truncated_share=0.5,
    )  # fmt: skip
    assert manifest.identify(moved) == manifest.identify(config)
    assert manifest.identify(replace(config, seed=1)) != manifest.identify(config)


def test_config_is_picklable() -> None:
    config = TrainConfig(tiny=TinyBase())
    assert pickle.loads(pickle.dumps(config)) == config


def test_unknown_key_of_a_recipe_is_a_usage_error(tmp_path, capsys) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("learning_speed: 3\n")
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--config", str(recipe)])
    assert stopped.value.code == 2
    assert "learning_speed" in capsys.readouterr().err
