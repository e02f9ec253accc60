"""Commands from frozen dataclasses: flags, recipes, exit codes, logging, progress.

``python -m FOLDER COMMAND --config recipe.yaml --any.field value``. A recipe may set any field,
the command line wins wherever it stands, an unknown key is an error. A command's driver is
imported only once it is chosen, so that ``--help`` is quick. Knows nothing of any stage.

Exit codes: 0 done, 1 a fault of the input or the machine told in one line, 2 usage, 3 a quality
gate failed, 130 interrupted (and resumable).
"""

import difflib
import errno
import importlib
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from data.errors import CatalogueError, ConfigError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

log = logging.getLogger("catalogue")

# Clients of object stores, whose errors (no connection, no credentials) are not OSErrors.
_STORES = {"aiobotocore", "aiohttp", "botocore"}
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
_PIPE_CLOSED = 128 + 13  # as a shell tells of a program that SIGPIPE ended
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Command:
    """One command: its config and where its driver is."""

    config: type
    """A frozen dataclass; its docstring is the help text, a docstring under each field too."""
    driver: str
    """``package.module:function``, called with the config; what it returns is ignored."""
    positional: tuple[str, ...] = ()
    """Fields given without a flag."""


def main(program: str, commands: Mapping[str, Command], argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code.

    Args:
        program: name of the folder, as in ``python -m FOLDER``.
        commands: by name.
        argv: without the program's name; the process's own where None.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    parser = _parser(program, commands)
    chosen, config = _parse(parser, commands, words)
    previous = signal.signal(signal.SIGTERM, _interrupt) if _in_main_thread() else None
    try:
        _driver(chosen.driver)(config)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from here", 130)
    except CatalogueError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        return _fail(_told(error), 1)
    except MemoryError:
        return _fail("memory: expected enough, found none left; use fewer workers", 1)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _STORES:
            raise
        return _fail(f"object store: {_first_line(error)}", 1)
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
    return 0


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(line: str, code: int) -> int:
    print(f"error: {line}", file=sys.stderr, flush=True)
    return code


def _told(error: OSError) -> str:
    """Tell a fault of the machine in one line."""
    where = str(error.filename or "file system")
    if error.errno == errno.ENOSPC:
        mend = "free some and run the same command again: it goes on where it stopped"
        return f"{where}: expected free space, found the disk full; {mend}"
    reason = error.strerror or _first_line(error)
    return f"{where}: {reason}" if error.filename else reason


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _driver(reference: str) -> Callable[[Any], Any]:
    module, function = reference.split(":")
    driver: Callable[[Any], Any] = getattr(importlib.import_module(module), function)
    return driver


def _parser(program: str, commands: Mapping[str, Command]) -> "ArgumentParser":
    from jsonargparse import ArgumentParser, set_parsing_settings

    class Parser(ArgumentParser):
        """Tells what is wrong in one line, not below forty lines of usage."""

        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            chosen = getattr(ex, "subcommand_parser", None) or self
            asked = chosen.prog.replace(" [options]", "")
            flags = [flag for action in chosen._actions for flag in action.option_strings]
            told = _plain(message) + _meant(message, flags)
            self.exit(2, f"error: {told}; see {asked} --help\n")

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = Parser(prog=f"python -m {program}", allow_abbrev=False)
    subcommands = parser.add_subcommands(dest="command", required=True)
    for name, command in commands.items():
        about = command.config.__doc__ or ""
        sub = Parser(description=about, allow_abbrev=False)
        sub.add_argument("--config", action="config", help="a recipe: YAML with any of the fields")
        for field in command.positional:
            sub.add_argument(field, type=str)
        sub.add_class_arguments(command.config, as_positional=False, skip=set(command.positional))
        subcommands.add_subcommand(name, sub, help=about.splitlines()[0] if about else "")
    return parser


def _parse(
    parser: "ArgumentParser", commands: Mapping[str, Command], words: list[str]
) -> tuple[Command, Any]:
    words = recipes_first(words)
    try:
        for place, word in enumerate(words):
            if word.startswith("--config") and (path := _recipe(words, place)):
                _check_recipe(path)
        namespace = parser.parse_args(words)
        chosen = commands[namespace.command]
        fields = parser.instantiate(namespace)[namespace.command].as_dict()
        fields.pop("config", None)
        return chosen, chosen.config(**fields)
    except (CatalogueError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")
        raise AssertionError from error


def _plain(message: str) -> str:
    """Give the parser's message as one line in our words."""
    line = " ".join(message.split()).rstrip(".")
    line = re.sub(r'^Parser key "([\w.]+)":', r"--\1:", line)
    for theirs, ours in _KINDS.items():
        line = line.replace(f"Expected a <class '{theirs}'>", f"expected {ours}")
    line = re.sub(r"Expected a typing\.Literal\[(.*?)\]", r"expected \1", line)
    line = line.replace(". Got value:", ", found")
    # Of a field that may be none: what is wrong with it as the other kind.
    if union := re.search(r"Does not validate .*? Errors: - (.*?) - .* Given value: (.*)", line):
        found = "" if ", found" in union[1] else f", found {union[2]}"
        line = line[: union.start()] + union[1] + found
    return line


def _meant(message: str, flags: Sequence[str]) -> str:
    """Name the flags that unknown ones may be meant for."""
    if not message.lower().startswith("unrecognized"):
        return ""
    unknown = [word.partition("=")[0] for word in message.split() if word.startswith("--")]
    near = [name for word in unknown for name in difflib.get_close_matches(word, flags, 1)]
    return f"; did you mean {', '.join(near)}?" if near else ""


def _recipe(words: Sequence[str], place: int) -> str:
    """Give the path of a recipe; none where the word is another one or a path is missing."""
    flag, _, path = words[place].partition("=")
    return path or (words[place + 1] if flag == "--config" and place + 1 < len(words) else "")


def _check_recipe(path: str) -> None:
    """Check that a recipe can be read; the parser would not name it.

    Raises:
        ConfigError: it cannot.
    """
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(path, "a recipe", error.strerror or "none") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(path, "a recipe in YAML", f"{reason}{where}") from error
    if not isinstance(found, dict):
        told = "nothing" if found is None else f"a {type(found).__name__}"
        raise ConfigError(path, "fields with values", told)


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


def say(line: str = "", end: str = "\n") -> None:
    """Print a line of the result, or a piece of one, to standard output.

    Raises:
        SystemExit: the reader has gone, as ``| head`` does when it has enough; no fault, so nothing
            is said.
    """
    try:
        print(line, end=end, flush=True)
    except BrokenPipeError:
        # Else Python complains when it flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(_PIPE_CLOSED) from None


class Progress:
    """A bar with rate and time left on a terminal; a plain line now and then elsewhere.

    Goes to standard error, so that results can be piped.
    """

    def __init__(self, what: str, total: float | None, unit: str) -> None:
        from tqdm import tqdm

        # Off a terminal, a bar that redraws would fill a log: one line every 15 seconds there.
        quiet = not sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            desc=what,
            unit=unit,
            unit_scale=True,
            dynamic_ncols=True,
            file=sys.stderr,
            mininterval=15.0 if quiet else 0.2,
            miniters=0,  # named figures may move before the first amount does
            delay=15.0 if quiet else 0.0,
            ascii=quiet,
        )

    def advance(self, amount: float, **shown: str) -> None:
        """Count an amount as done and show named figures behind the bar."""
        if shown:
            self._bar.set_postfix(shown, refresh=False)
        self._bar.update(amount)

    @property
    def share(self) -> float:
        """Share of the total that is done, 0 to 1; 0 where the total is unknown."""
        return float(self._bar.n / self._bar.total) if self._bar.total else 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()


def parse_memory(text: str) -> int:
    """Read an amount of memory such as ``11.65GiB`` as bytes.

    Raises:
        ConfigError: it is no positive number with one of the units.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]i?B)\s*", text)
    amount = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if amount <= 0:
        raise ConfigError("--memory_limit", f"a number with one of {', '.join(_UNITS)}", repr(text))
    return amount


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Lay out a small table as text: first column left, the others right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(header), rule, *(line(row) for row in rows)])


def terminal_width() -> int:
    """Give the width to print within."""
    try:
        return os.get_terminal_size().columns
    except OSError:
        return 100
