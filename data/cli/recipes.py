"""Recipes: YAML files of a command's fields, checked before the parser meets them."""

import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.errors import ConfigError

# The longest of ours has 2 KB; YAML is read at some 100 KB/s.
_LARGEST = 64 * 2**10
# Nested aliases of a few lines stand for more values than there is memory.
_MOST_VALUES = 10_000


def recipes_first(words: Sequence[str]) -> list[str]:
    """Move ``--config FILE`` right behind the command, so that flags win wherever they stand.

    jsonargparse reads left to right, and the last word on a field wins.
    """
    command, rest = list(words[:1]), list(words[1:])
    recipes: list[str] = []
    flags: list[str] = []
    while rest:
        word = rest.pop(0)
        if word == "--config" and rest:
            recipes += [word, rest.pop(0)]
        elif word.startswith("--config="):
            recipes.append(word)
        else:
            flags.append(word)
    return command + recipes + flags


def check(words: Sequence[str]) -> None:
    """Check the recipes that words name, and words that are YAML with aliases themselves.

    Raises:
        ConfigError: one cannot be read, or stands for too many values.
    """
    for place, word in enumerate(words):
        if word.startswith("--config") and (path := _recipe(words, place)):
            _check_recipe(path)
        elif re.search(r"&\w.*\*\w", word, re.DOTALL):
            _check_word(word)


def _recipe(words: Sequence[str], place: int) -> str:
    """Return the path of a recipe; none where the word is another one or a path is missing."""
    flag, _, path = words[place].partition("=")
    return path or (words[place + 1] if flag == "--config" and place + 1 < len(words) else "")


def _check_recipe(path: str) -> None:
    """Check that a recipe can be read; the parser would not name it."""
    import yaml

    content = _read(path)
    try:
        fields = yaml.safe_load(content.decode())
    except RecursionError as error:
        raise ConfigError(path, "a recipe", "values nested too deeply") from error
    # Values such as dates and numbers of a million digits are refused by Python, not by YAML.
    except (ValueError, OverflowError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(path, "a recipe in YAML", f"{reason}{where}") from error
    if not isinstance(fields, dict):
        kind = "nothing" if fields is None else f"a {type(fields).__name__}"
        raise ConfigError(path, "fields with values", kind)
    _check_size(path, fields)


def _read(path: str) -> bytes:
    """Read a recipe; the parser reads it once more, which a pipe does not allow."""
    try:
        kind = Path(path).stat().st_mode
        if not stat.S_ISREG(kind):
            other = "a folder" if stat.S_ISDIR(kind) else "a pipe or device"
            raise ConfigError(path, "a recipe file", other)
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(path, "a recipe", error.strerror or "none") from error
    if len(content) > _LARGEST:
        raise ConfigError(path, f"a recipe of at most {_LARGEST:,} bytes", "a longer file")
    return content


def _check_word(word: str) -> None:
    import yaml

    flag, _, value = word.partition("=") if word.startswith("--") else ("", "", word)
    try:
        parsed = yaml.safe_load(value)
    except (ValueError, RecursionError, yaml.YAMLError):
        return  # no YAML: the parser says what it is
    _check_size(flag or "a value", parsed)


def _check_size(where: str, value: Any) -> None:
    """Count the values with every alias written out, as the parser copies them."""
    waiting, counted = [value], 0
    while waiting:
        counted += 1
        if counted > _MOST_VALUES:
            expected = f"at most {_MOST_VALUES:,} values, aliases written out"
            raise ConfigError(where, expected, "more, or aliases without an end")
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set):
            waiting += item
