"""Recipes that cannot be meant: refused in one line, at once, whatever they stand for."""

import os
from pathlib import Path

import pytest

from data.cli import recipes
from data.errors import ConfigError

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (LAUGHS, "aliases without an end"),
        ("size: &a [*a]\n", "aliases without an end"),
        ("size: &a {b: *a}\n", "aliases without an end"),
        ("size: " + "[" * 2_000, "values nested too deeply"),
        ("size: 1\n" * 10_000, "a longer file"),
        ("size: 2001-99-99\n", "month must be in"),
        ("size: " + "9" * 5_000, "Exceeds the limit"),
        ("\0\0", "a recipe in YAML"),
        (b"\xff\xfe\x00binary", "a recipe in YAML"),
        ("? [a]\n: 1\n", "unhashable key"),
    ],
)
def test_a_recipe_that_stands_for_too_much_or_nothing_is_refused(
    tmp_path: Path, content: str | bytes, found: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        recipes.check(["do", "--config", str(path)])
    assert str(caught.value).startswith(f"{path}: expected ")
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_alias_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("low: &x 1\nhigh: *x\n")
    recipes.check(["do", f"--config={path}", "--words", "[&a x, *a]", "Cup & saucer *new*"])


def test_a_word_of_aliases_without_an_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="--words: expected at most"):
        recipes.check(["do", "--words=&a [*a]"])


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="expected a recipe file, found a pipe or device"):
        recipes.check(["do", "--config", str(tmp_path / "pipe")])
