"""Settings of the inference stage: what cannot be meant is refused, and the flag is named."""

import dataclasses
import pickle
from typing import Any

import pytest

from data.artefacts import manifest
from data.errors import ConfigError
from inference.config import GenerateConfig
from inference.decoding import BEST_OF


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("limit", 0),
        ("batch_size", 0),
        ("part_rows", -1),
        ("max_new_tokens", 0),
        ("workers", 0),
        ("temperature", -0.1),
        ("temperature", 0.001),
        ("temperature", 101),
        ("temperature", float("nan")),
        ("top_p", 0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 1.0),
        ("repetition_penalty", 0.9),
        ("repetition_penalty", float("nan")),
        ("no_repeat_ngram", 1),
        ("end_after", -1),
        ("best_of", 0),
        ("seed", 2**63),
        ("seed", -(2**63) - 1),
        ("memory_limit", "12"),
        ("memory_limit", "0GiB"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(flag: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^--{flag}: expected .+, found ") as raised:
        GenerateConfig(**{flag: value})
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    "values",
    [
        {"limit": 1, "batch_size": 1, "part_rows": 1, "max_new_tokens": 1, "workers": 1},
        {"temperature": 0.01, "top_p": 1e-9, "min_p": 0.0, "best_of": 1},
        {"temperature": 0.0, "repetition_penalty": 10.0, "no_repeat_ngram": 2, "end_after": 0},
        {"temperature": 100.0, "top_p": 1.0},
        {"seed": 2**63 - 1},
        {"seed": -(2**63), "memory_limit": "11.65GiB"},
    ],
)
def test_the_values_at_the_bounds_are_taken(values: dict[str, Any]) -> None:
    config = GenerateConfig(**values)
    assert {name: getattr(config, name) for name in values} == values


def test_a_config_survives_pickling_and_cannot_be_changed() -> None:
    config = GenerateConfig(titles="a.csv", limit=3, temperature=0.7, top_p=0.9)
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.limit = 4  # type: ignore[misc]


def test_where_a_run_happens_is_no_part_of_what_it_makes() -> None:
    assert set(manifest.identify(GenerateConfig())) == {
        *("split", "limit", "title_column", "uid_column", "batch_size", "part_rows"),
        *("max_new_tokens", "temperature", "top_p", "min_p", "repetition_penalty", "end_after"),
        *("no_repeat_ngram", "best_of", "keep_all", "seed", "engine", "keep_columns"),
    }


def test_several_texts_of_a_title_must_be_drawn() -> None:
    with pytest.raises(ConfigError, match=r"^--best_of: expected 1, .*set"):
        GenerateConfig(temperature=0.0, best_of=2)
    assert GenerateConfig(temperature=0.0).texts_per_title == 1
    assert GenerateConfig().texts_per_title == BEST_OF
    assert GenerateConfig(best_of=1).texts_per_title == 1
