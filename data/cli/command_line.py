"""Commands from frozen dataclasses: flags, recipes, exit codes, logging, progress.

``python -m FOLDER COMMAND --config recipe.yaml --any.field value``. A recipe may set any field,
the command line wins wherever it stands, an unknown key is an error. A command's driver is
imported only once it is chosen, so that ``--help`` is quick. Knows nothing of any stage.

Exit codes: 0 done, 1 a fault of the input or the machine, in one line, 2 usage, 3 a quality gate
failed, 130 interrupted (and resumable).
"""

import contextlib
import difflib
import gc
import importlib
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from data import console
from data.cli import completion, extras, faults, forgotten, recipes, usage
from data.cli.extras import Need
from data.cli.forgotten import Input
from data.cli.interrupts import Stopping
from data.cli.usage import Guide
from data.errors import CatalogueError, ConfigError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

log = logging.getLogger("catalogue")

_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}


@dataclass(frozen=True)
class Command:
    """One command: its config and where its driver is."""

    config: type
    """A frozen dataclass; its docstring is the help text, a docstring under each field too."""
    driver: str
    """``package.module:function``, called with the config."""
    needs: tuple[Need, ...] = ()
    """Modules beyond the base install, checked before the driver is imported."""
    positional: tuple[str, ...] = ()
    """Fields given without a flag."""
    guide: Guide | None = None
    """The short help; none: the help is that of all fields."""
    inputs: Mapping[str, Input] = field(default_factory=dict)
    """Fields that name what is read."""
    after: Callable[[Any, Any, Sequence[str]], str | None] | None = None
    """What to type next, by the config, what the driver returned, and the words."""


def main(program: str, commands: Mapping[str, Command], argv: Sequence[str] | None = None) -> int:
    """Run one command of a folder (``python -m PROGRAM``) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    console.prepare()
    _log_to_standard_error()
    code = 0
    try:
        if completion.ASKED in os.environ:
            fields_of = {name: (one.config, one.positional) for name, one in commands.items()}
            completion.complete(program, fields_of)
        _help(program, commands, words)
        words = usage.without_all(words)
        name, config, fields = _parse(_parser(program, commands, words), commands, words)
        command, prefix = commands[name], f"python -m {program} {name}"
        extras.check(prefix, command.needs, config)
        forgotten.check(prefix, command.config, command.inputs, fields, words)
        with Stopping():
            module, function = command.driver.split(":")
            drive = getattr(importlib.import_module(module), function)
            if argv is None:
                gc.freeze()  # what is imported stays
                gc.enable()
            result = drive(config)
            is_first = os.environ.get("RANK", "0") == "0"  # of several processes
            if command.after and is_first and (line := command.after(config, result, words)):
                console.say(f"\nnext:\n  {line}")
    except (Exception, KeyboardInterrupt) as error:
        code = _end(error)
    finally:
        unwritten = console.settle()
        if argv is None:
            gc.freeze()  # or the end of the process looks at all that is imported, for 0.15 s
    return _end(unwritten) if unwritten and not code else code


def _end(error: BaseException) -> int:
    """Print an error as one line and return its exit code; raise it again where it is a bug."""
    fault = faults.tell(error)
    if fault is None:
        raise error
    line, code = fault
    if line:
        console.complain(line, "error: ", "red")
    return code


def _help(program: str, commands: Mapping[str, Command], words: Sequence[str]) -> None:
    """Print the short help and end, where it is asked for; needs no parser, and so is quick."""
    command = commands.get(words[0]) if words else None
    if command is None or command.guide is None or not usage.is_short(words):
        return
    prefix = f"python -m {program} {words[0]}"
    with contextlib.suppress(OSError):  # nobody can take it
        console.say(usage.short(prefix, command.config, command.guide, command.positional))
    raise SystemExit(0)


def _parser(
    program: str, commands: Mapping[str, Command], words: Sequence[str]
) -> "ArgumentParser":
    from jsonargparse import ArgumentParser, set_parsing_settings

    class Parser(ArgumentParser):
        """Prints what is wrong in one line, not below forty lines of usage."""

        def _print_message(self, message: str, file: Any = None) -> None:
            # The library sets a backspace behind the name of a flag without a value.
            super()._print_message(console.printable(message.replace(" \b", "")), file)

        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            chosen = getattr(ex, "subcommand_parser", None) or self
            command = chosen.prog.replace(" [options]", "")
            flags = [flag for action in chosen._actions for flag in action.option_strings]
            line = _plain(message) + _suggestion(message, flags)
            console.complain(f"{line}; see {command} --help", "error: ", "red")
            self.exit(2)

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = Parser(
        prog=f"python -m {program}", allow_abbrev=False,
        epilog=f"python -m {program} COMMAND --help: examples and the flags that matter; "
        "--help all: every flag",
    )  # fmt: skip
    subcommands = parser.add_subcommands(dest="command", required=True)
    for name, command in commands.items():
        about = command.config.__doc__ or ""
        sub = Parser(description=about, allow_abbrev=False)
        if name in words:  # reading the fields of all commands would double the time of --help
            _add_fields(sub, command)
        subcommands.add_subcommand(name, sub, help=about.splitlines()[0] if about else "")
    return parser


def _add_fields(parser: "ArgumentParser", command: Command) -> None:
    parser.add_argument("--config", action="config", help="a recipe: YAML with any of the fields")
    for name in command.positional:
        # One that was left out is refused later, with what there is to name.
        is_known = name in command.inputs
        parser.add_argument(name, type=str, nargs="?" if is_known else None)
    parser.add_class_arguments(command.config, as_positional=False, skip=set(command.positional))


def _parse(
    parser: "ArgumentParser", commands: Mapping[str, Command], words: list[str]
) -> tuple[str, Any, dict[str, Any]]:
    """Return the command, its config, and the fields that were named or have a default."""
    words = recipes.recipes_first(words)
    try:
        _check_names(words)
        recipes.check(words)
        namespace = parser.parse_args(words)
        name: str = namespace.command
        fields = parser.instantiate(namespace)[name].as_dict()
        fields.pop("config", None)
        command = commands[name]
        for left_out in [key for key in command.positional if fields[key] is None]:
            del fields[left_out]
        try:
            return name, command.config(**fields), fields
        except ConfigError:
            # It may be refused for what was forgotten.
            where = f"{parser.prog} {name}"
            forgotten.check(where, command.config, command.inputs, fields, words)
            raise
    except (CatalogueError, ValueError) as error:
        console.complain(str(error), "error: ", "red")
        raise SystemExit(2) from error


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
            hint = "rename it, or give it another name by a link"
            raise ConfigError(flag, "a name in UTF-8", repr(word), hint) from error


def _plain(message: str) -> str:
    """Return the parser's message as one line in our words."""
    line = " ".join(message.split()).rstrip(".")
    line = re.sub(r"(arguments are required: )\w+\.", r"\1", line)
    line = re.sub(r'^Parser key "([\w.]+)":', r"--\1:", line)
    for theirs, ours in _KINDS.items():
        line = line.replace(f"Expected a <class '{theirs}'>", f"expected {ours}")
    line = re.sub(r"Expected a typing\.Literal\[(.*?)\]", r"expected \1", line)
    line = line.replace(". Got value:", ", found")
    # Of a field that may be none: what is wrong with it as the other kind.
    if union := re.search(r"Does not validate .*? Errors: - (.*?) - .* Given value: (.*)", line):
        value = "" if ", found" in union[1] else f", found {union[2]}"
        line = line[: union.start()] + union[1] + value
    return line


def _suggestion(message: str, flags: Sequence[str]) -> str:
    """Name the flags that are spelt nearly as the unknown ones."""
    if not message.lower().startswith("unrecognized"):
        return ""
    unknown = [word.partition("=")[0] for word in message.split() if word.startswith("--")]
    near = [name for word in unknown for name in difflib.get_close_matches(word, flags, 1)]
    return f"; did you mean {', '.join(near)}?" if near else ""


class _Shown(logging.Formatter):
    """Writes log lines without control characters, and marks warnings."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line = console.printable(super().format(record))
        if record.levelno < logging.WARNING:
            return line
        return console.painted("warning: ", "yellow", sys.stderr) + line


def _log_to_standard_error() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Shown())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    log.setLevel(logging.INFO)
    # On a CPU it warns at each import of kernels that only bases of 4 bits use.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
