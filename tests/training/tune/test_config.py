"""What may be searched, and what a trial's values make of a recipe."""

from typing import Any

import pytest

from data.errors import ConfigError
from training.config import LoraSettings, Optimisation, TrainConfig
from training.tune.config import Range, Space, TuneConfig, applied, parse_time


def test_size_is_the_number_of_combinations() -> None:
    assert Space().size == 15
    assert Space(learning_rate=[1e-3], batch_size=[8, 16], rank=[4, 8, 16]).size == 6
    assert Space(learning_rate=Range(1e-4, 1e-2)).size == float("inf")


@pytest.mark.parametrize(
    ("space", "line"),
    [
        ({"learning_rate": []}, "--space.learning_rate: expected different numbers, found none"),
        ({"batch_size": [8, 8]}, "--space.batch_size: expected different numbers, found 8, 8"),
        ({"learning_rate": Range(1e-2, 1e-3)}, "its low end below its high one, found 0.01"),
        ({"weight_decay": [float("nan")]}, "expected different numbers, found nan"),
        ({"weight_decay": Range(-1.0, 1.0)}, "a range from 0"),
        ({"learning_rate": None, "batch_size": None}, "--space: expected a setting"),
    ],
)
def test_a_space_without_values_is_refused(space: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        Space(**space)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"space": Space(learning_rate=[0.0])}, "--optimisation.learning_rate: expected more"),
        ({"space": Space(rank=[0])}, "--lora.r: expected at least 1"),
        ({"space": Space(warmup_steps=[2.5])}, "a share below 1 or a whole number"),
        ({"space": Space(rank=[8]), "init_adapter": "a"}, "--space.rank: expected none"),
        (
            {"space": Space(epochs=[1, 2]), "optimisation": Optimisation(max_steps=9)},
            "--space.epochs: expected none, as max_steps",
        ),
        ({"trials": 0}, "--trials: expected at least 1"),
        ({"budget": "soon"}, "--budget: expected a time such as 90m or 2h, found soon"),
        ({"budget": "0h"}, "--budget"),
        ({"plan": "some/plan.json"}, "--plan: expected auto or none"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        TuneConfig(**fields)


def test_times() -> None:
    assert [parse_time(text) for text in ("90s", "45m", "2h", "1.5d")] == [90, 2700, 7200, 129600]


def test_values_replace_those_of_the_recipe_and_no_others() -> None:
    how = Optimisation(batch_size=128, micro_batch_size=48 // 3, epochs=2.0, max_steps=None)
    config = TuneConfig(base="b", optimisation=how, lora=LoraSettings(alpha=32))
    values = {"learning_rate": 1e-3, "batch_size": 24, "rank": 8, "weight_decay": 0.1}
    expected = Optimisation(
        batch_size=24, micro_batch_size=8, epochs=2.0, learning_rate=1e-3, weight_decay=0.1
    )
    trial = applied(config, values)
    assert trial == TrainConfig(
        out=config.out, base="b", optimisation=expected, lora=LoraSettings(r=8, alpha=32)
    )
    assert type(trial) is TrainConfig
