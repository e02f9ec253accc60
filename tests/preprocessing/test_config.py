"""Settings of the cleaning stage: what cannot be meant is refused, and the flag is named."""

import pickle
from typing import Any

import pytest

from data.errors import ConfigError
from data.sampling import SplitShares
from preprocessing.config import CleanConfig, RowRules


def test_the_defaults_are_those_of_the_design() -> None:
    rules = RowRules()
    assert (rules.title_min, rules.title_max) == (1, None)
    assert (rules.content_min, rules.content_max, rules.measure) == (400, 500, "repaired")
    assert CleanConfig().shares == SplitShares(validation=0.01, test=0.01)
    assert CleanConfig().max_quarantined_share == 0.01


@pytest.mark.parametrize(
    ("kind", "values", "flag"),
    [
        (RowRules, {"title_min": -1}, "--rules.title_min"),
        (RowRules, {"title_min": 5, "title_max": 4}, "--rules.title_min"),
        (RowRules, {"content_min": 501}, "--rules.content_min"),
        (RowRules, {"content_min": -1, "content_max": None}, "--rules.content_min"),
        (RowRules, {"content_excludes": ["a", ""]}, "--rules.content_excludes"),
        (RowRules, {"languages": ["English"]}, "--rules.languages"),
        (CleanConfig, {"block_bytes": 15}, "--block_bytes"),
        (CleanConfig, {"block_bytes": 2**31}, "--block_bytes"),
        (CleanConfig, {"max_line_bytes": 0}, "--max_line_bytes"),
        (CleanConfig, {"max_line_bytes": 2**31}, "--max_line_bytes"),
        (CleanConfig, {"max_quarantined_share": 1.1}, "--max_quarantined_share"),
        (CleanConfig, {"max_quarantined_share": -0.1}, "--max_quarantined_share"),
        (CleanConfig, {"delimiter": "\u00e9"}, "--delimiter"),
        (CleanConfig, {"delimiter": "::"}, "--delimiter"),
        (CleanConfig, {"workers": 0}, "--workers"),
        (SplitShares, {"validation": -0.1}, "--shares"),
        (SplitShares, {"validation": 0.5, "test": 0.5}, "--shares"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(
    kind: Any, values: dict[str, Any], flag: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**values)
    assert str(caught.value).startswith(f"{flag}: expected ")


@pytest.mark.parametrize(
    "config",
    [
        CleanConfig(),
        CleanConfig(block_bytes=16, max_quarantined_share=0.0, workers=1),
        CleanConfig(rules=RowRules(title_min=3, title_max=3, content_max=None)),
        CleanConfig(shares=SplitShares(0.0, 0.0)),
        CleanConfig(source="s3://b/a", scheduler="tcp://host:8786", overwrite=True),
    ],
)
def test_configs_survive_pickling(config: CleanConfig) -> None:
    assert pickle.loads(pickle.dumps(config)) == config


def test_rules_of_content_are_recorded_only_where_they_are_on() -> None:
    before = {
        "title_min": 1, "title_max": None, "content_min": 400, "content_max": 500,
        "measure": "repaired", "content_excludes": [], "remove_characters": "",
    }  # fmt: skip
    assert RowRules().recorded == before
    on = RowRules(strip_html=True, languages=["en"])
    assert on.recorded == before | {"strip_html": True, "languages": ["en"]}


@pytest.mark.parametrize("mark", "~#")
def test_marks_that_mean_nothing_in_yaml_may_stand_between_cells(mark: str) -> None:
    assert CleanConfig(delimiter=f'"{mark}"').delimiter == mark
