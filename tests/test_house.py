"""The rules of the house hold here, and each is noticed where it is broken."""

from pathlib import Path

import pytest

from tests import house
from tests.house import STAGES


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of empty stages."""
    for stage in STAGES:
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "__init__.py").write_text('"""A room."""\n')
    return tmp_path


def test_an_empty_house_keeps_every_rule(checkout: Path) -> None:
    for check in house.CHECKS[:-1]:
        assert not check(checkout).broken


def test_a_room_of_twelve_files_is_too_full(checkout: Path) -> None:
    for number in range(12):
        (checkout / "training" / f"part_{number}.py").write_text("")
    assert house.room_sizes(checkout).broken == ("training: 12",)


def test_a_long_file_is_named(checkout: Path) -> None:
    (checkout / "data" / "long.py").write_text("x = 1\n" * 401)
    assert house.file_sizes(checkout).broken == ("data/long.py: 401",)


def test_too_much_code_is_counted(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "MOST_PRODUCT_LINES", 100)
    (checkout / "data" / "long.py").write_text("x = 1\n" * 101)
    assert house.product_size(checkout).broken == ("105",)


def test_names_that_say_nothing_are_named_with_their_file(checkout: Path) -> None:
    (checkout / "inference" / "names.py").write_text(
        "found = 1\nfor each in (1, 2):\n    row = 2\n"
    )
    rule = house.filler_names(checkout)
    assert rule.value == "66.7%"
    assert rule.broken == ("inference/names.py: each", "inference/names.py: found")


def test_a_broken_import_contract_is_told(checkout: Path) -> None:
    (checkout / "data" / "low.py").write_text("import training.high\n")
    (checkout / "training" / "high.py").write_text("")
    (checkout / "pyproject.toml").write_text(
        '[tool.importlinter]\nroot_packages = ["data", "training"]\n'
        '[[tool.importlinter.contracts]]\nname = "data is below"\ntype = "layers"\n'
        'layers = ["training", "data"]\n'
    )
    assert house.import_contracts(checkout).broken


@pytest.mark.parametrize("is_broken", [False, True])
def test_the_command_fails_where_a_rule_is_broken(
    checkout: Path, is_broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house, "CHECKS", house.CHECKS[:-1])
    if is_broken:
        (checkout / "data" / "long.py").write_text("x = 1\n" * 401)
    assert house.main(checkout) == int(is_broken)
