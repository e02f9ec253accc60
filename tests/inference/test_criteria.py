"""Settings of evaluate: every recipe loads, every config is pickled, and nonsense is refused."""

import pickle
from pathlib import Path

import pytest
import yaml

from data.errors import ConfigError
from inference.__main__ import switches
from inference.config import EvaluateConfig, Thresholds


def _load(recipe: Path) -> EvaluateConfig:
    told = yaml.safe_load(recipe.read_text())
    return EvaluateConfig(
        run="r", **told | {"thresholds": Thresholds(**told.get("thresholds", {}))}
    )


def test_the_default_recipe_is_the_defaults(root: Path) -> None:
    assert _load(root / "inference/recipes/evaluate.yaml") == EvaluateConfig(run="r")


def test_the_sample_is_judged_as_any_other(root: Path) -> None:
    assert _load(root / "inference/recipes/sample.yaml").thresholds == Thresholds()


def test_configs_are_pickled() -> None:
    config = EvaluateConfig(run=["a", "b"], generated="c")
    assert pickle.loads(pickle.dumps(config)) == config
    assert (config.runs, config.ready) == (["a", "b"], ["c"])


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({}, "--run"),
        ({"run": "r", "rows": 0}, "--rows"),
        ({"run": "r", "resamples": 10}, "--resamples"),
        ({"run": "r", "recited_alike": 0.0}, "--recited_alike"),
        ({"run": "r", "shown_rows": -1}, "--shown_rows"),
        ({"run": "r", "memory_limit": "much"}, "--memory_limit"),
    ],
)
def test_nonsense_is_refused(fields: dict[str, object], flag: str) -> None:
    with pytest.raises(ConfigError, match=flag):
        EvaluateConfig(**fields)  # type: ignore[arg-type]


def test_a_threshold_is_a_number_from_0() -> None:
    with pytest.raises(ConfigError, match=r"thresholds\.ended"):
        Thresholds(ended=float("nan"))


def test_the_gate_is_a_switch() -> None:
    assert switches(["evaluate", "--gate", "--rows", "2"])[1:3] == ["--gate", "true"]
