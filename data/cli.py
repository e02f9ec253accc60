"""Commands from frozen dataclasses: flags, recipes, exit codes, logging, progress.

``python -m FOLDER COMMAND --config recipe.yaml --any.field value``. A recipe may set any field,
the command line wins wherever it stands, an unknown key is an error. A command's driver is
imported only once it is chosen, so that ``--help`` is quick. Knows nothing of any stage.

Exit codes: 0 done, 1 a fault of the input or the machine told in one line, 2 usage, 3 a quality
gate failed, 130 interrupted (and resumable).
"""

import difflib
import importlib
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from data import extras, faults, recipes, terminal
from data.errors import CatalogueError, ConfigError
from data.extras import Need
from data.interrupts import Stopping

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

log = logging.getLogger("catalogue")

_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Command:
    """One command: its config and where its driver is."""

    config: type
    """A frozen dataclass; its docstring is the help text, a docstring under each field too."""
    driver: str
    """``package.module:function``, called with the config; what it returns is ignored."""
    needs: tuple[Need, ...] = ()
    """Modules beyond the base install, checked before the driver is imported."""
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
    terminal.prepare()
    _log_to_standard_error()
    code = 0
    try:
        name, config = _parse(_parser(program, commands), commands, words)
        extras.check(f"python -m {program} {name}", commands[name].needs, config)
        with Stopping():
            _driver(commands[name].driver)(config)
    except (Exception, KeyboardInterrupt) as error:
        code = _end(error)
    finally:
        unwritten = terminal.settle()
    return _end(unwritten) if unwritten and not code else code


def _end(error: BaseException) -> int:
    """Tell an error and give its exit code.

    Raises:
        BaseException: the error itself, where it is a bug.
    """
    told = faults.tell(error)
    if told is None:
        raise error
    line, code = told
    if line:
        terminal.complain(f"error: {line}")
    return code


def _driver(reference: str) -> Callable[[Any], Any]:
    module, function = reference.split(":")
    driver: Callable[[Any], Any] = getattr(importlib.import_module(module), function)
    return driver


def _parser(program: str, commands: Mapping[str, Command]) -> "ArgumentParser":
    from jsonargparse import ArgumentParser, set_parsing_settings

    class Parser(ArgumentParser):
        """Tells what is wrong in one line, not below forty lines of usage."""

        def _print_message(self, message: str, file: Any = None) -> None:
            super()._print_message(terminal.shown(message), file)

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
) -> tuple[str, Any]:
    words = recipes.recipes_first(words)
    try:
        _check_names(words)
        recipes.check(words)
        namespace = parser.parse_args(words)
        name: str = namespace.command
        given = parser.instantiate(namespace)[name].as_dict()
        given.pop("config", None)
        return name, commands[name].config(**given)
    except (CatalogueError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")
        raise AssertionError from error


def _check_names(words: Sequence[str]) -> None:
    """Refuse names that are not UTF-8, which neither manifests nor Parquet can hold.

    Raises:
        ConfigError: a word, or the working folder's name, is none.
    """
    flag = "a name"
    for word in (*words, os.getcwd()):
        flag = word.partition("=")[0] if word.startswith("--") else flag
        try:
            word.encode()
        except UnicodeEncodeError as error:
            mend = "rename it, or give it another name by a link"
            raise ConfigError(flag, "a name in UTF-8", repr(word), mend) from error


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


class _Shown(logging.Formatter):
    """Writes what is logged as it may be shown."""

    def format(self, record: logging.LogRecord) -> str:
        return terminal.shown(super().format(record))


def _log_to_standard_error() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Shown())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    log.setLevel(logging.INFO)


def say(line: str = "", end: str = "\n", is_safe: bool = False) -> None:
    r"""Print a line of the result, or a piece of one, to standard output.

    Control characters, which titles and texts may hold, are printed as ``\u001b``, unless the line
    is safe: its own are meant, and what is foreign in it went through ``terminal.shown``.

    Raises:
        SystemExit: the reader has gone, as ``| head`` does when it has enough; no fault, so nothing
            is said.
    """
    try:
        print(line if is_safe else terminal.shown(line), end=end, flush=True)
    except BrokenPipeError:
        terminal.drop_output()
        raise SystemExit(faults.OUTPUT_CLOSED) from None


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
            desc=terminal.shown(what),
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
            figures = {name: terminal.shown(figure) for name, figure in shown.items()}
            self._bar.set_postfix(figures, refresh=False)
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
