"""Every recipe loads through the command line, and says what the design says."""

from pathlib import Path
from typing import Any

import pytest

import preprocessing
from preprocessing.__main__ import main
from preprocessing.config import CleanConfig, RowRules

RECIPES = sorted((Path(preprocessing.__file__).parent / "recipes").iterdir())


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[CleanConfig]:
    """The configs that the driver is called with, in place of the driver."""
    configs: list[CleanConfig] = []
    monkeypatch.setattr("preprocessing.clean.run", configs.append)
    monkeypatch.setattr("data.cli.forgotten.check", lambda *_: None)  # no raw file is there
    return configs


def load(given: list[CleanConfig], *words: str) -> CleanConfig:
    assert main(["clean", *words]) == 0
    return given.pop()


def recipe(name: str) -> str:
    return str(next(path for path in RECIPES if path.name == name))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_recipe_loads(given: list[CleanConfig], path: Path) -> None:
    assert isinstance(load(given, "--config", str(path)), CleanConfig)


def test_the_default_recipe_states_the_defaults(given: list[CleanConfig]) -> None:
    assert load(given, "--config", recipe("default.yaml")) == CleanConfig()


def test_the_notebooks_recipe_has_its_rules(given: list[CleanConfig]) -> None:
    assert load(given, "--config", recipe("tech-challenge-03.yaml")).rules == RowRules(
        title_min=1,
        title_max=None,
        content_min=401,
        content_max=500,
        measure="raw",
        content_excludes=["translation"],
        remove_characters="",
    )


def test_the_samples_recipe_takes_wider_bounds_and_holds_more_out(given: list[CleanConfig]) -> None:
    config = load(given, "--config", recipe("sample.yaml"))
    assert (config.rules.content_min, config.rules.content_max) == (100, 2000)
    assert (config.shares.validation, config.shares.test) == (0.1, 0.1)
    assert config.source == "data/sample/trn.json.gz"


@pytest.mark.parametrize("words", [("--rules.content_max", "450"), ("--rules.content_max=450",)])
@pytest.mark.parametrize("recipe_first", [True, False])
def test_a_flag_wins_over_a_recipe_wherever_it_stands(
    given: list[CleanConfig], words: tuple[str, ...], recipe_first: bool
) -> None:
    asked = ("--config", recipe("tech-challenge-03.yaml"))
    config = load(given, *((asked + words) if recipe_first else (words + asked)))
    assert config.rules.content_max == 450
    assert config.rules.content_min == 401
    assert config.rules.measure == "raw"


def test_flags_take_lists_none_and_punctuation(given: list[CleanConfig]) -> None:
    config = load(
        given,
        "--rules.content_excludes",
        '["translation", "text refers to"]',
        "--rules.content_max",
        "null",
        # With an equals sign, as its value would be taken for a flag.
        """--rules.remove_characters=-",;:_()""",
    )
    assert config.rules.content_excludes == ["translation", "text refers to"]
    assert config.rules.content_max is None
    assert config.rules.remove_characters == '-",;:_()'


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("rules:\n  content_mim: 3\n", "content_mim"),
        ("sauce: x\n", "sauce"),
        ("rules:\n  content_min: many\n", "content_min"),
        ("rules:\n  measure: both\n", "measure"),
        ("rules:\n  content_min: 600\n", "--rules.content_min: expected 0 to content_max=500"),
        ("block_bytes: 3\n", "--block_bytes: expected 16 to"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused_by_name(
    given: list[CleanConfig], tmp_path: Path, capsys: Any, content: str, named: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(SystemExit) as stopped:
        main(["clean", "--config", str(path)])
    told = capsys.readouterr().err
    assert stopped.value.code == 2
    assert named in told
    assert "Traceback" not in told
    assert given == []
