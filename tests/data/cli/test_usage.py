"""Short help: what a command is for, examples that are taken as they stand, the flags that matter;
and what a shell completes.
"""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from data.cli import command_line, usage
from data.cli.command_line import Command
from tests.builders import ROOT, run_python

STAGES = ("data", "preprocessing", "training", "inference")
COMMANDS: dict[str, Command] = {
    f"{stage} {name}": command
    for stage in STAGES
    for name, command in importlib.import_module(f"{stage}.__main__").COMMANDS.items()
}
EXAMPLES = [
    (name, example)
    for name, command in COMMANDS.items()
    for example in (command.guide.examples if command.guide else ())
]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_short_help(name: str) -> None:
    guide = COMMANDS[name].guide
    assert guide is not None
    assert len(guide.examples) == 3
    assert len(guide.flags) <= 10
    told = usage.short(f"python -m {name}", COMMANDS[name].config, guide)
    assert len(told.splitlines()) <= 40
    assert max(map(len, told.splitlines())) <= 100
    for flag in guide.flags:
        assert re.search(rf"^  --{re.escape(flag)} +\S", told, re.MULTILINE), flag


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_every_example_is_taken_as_it_stands(name: str, example: str) -> None:
    stage, command = name.split()
    words = [command, *shlex.split(example.partition(" < ")[0])]
    switches = getattr(importlib.import_module(f"{stage}.__main__"), "switches", list)
    commands = {command: COMMANDS[name]}
    parser = command_line._parser(stage, commands, words)
    chosen, config, _ = command_line._parse(parser, commands, switches(words))
    assert chosen == command
    assert isinstance(config, COMMANDS[name].config)


def test_a_broken_example_is_still_one_command() -> None:
    line = "  python -m a b --first 'x y' --second 2"
    assert len(usage._broken(line, 30).splitlines()) > 1
    assert shlex.split(usage._broken(line, 30).replace("\\\n", "")) == shlex.split(line)


def test_help_all_lists_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    from data.__main__ import main

    told = []
    for words in (["subset", "--help"], ["subset", "--help", "all"], ["--help"]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 0
        told.append(capsys.readouterr().out)
    short, long, commands = told
    assert "examples:\n  python -m data subset --clean" in short
    assert "--config" in long
    assert "--near_duplicates {keep,once}" in long
    assert "synthesize" in commands
    assert "--help all" in re.sub(r"\s+", " ", commands)


HELP = """
import runpy, sys

_, stage, *names = sys.argv
for name in names:
    sys.argv = [stage, name, "--help"]
    try:
        runpy.run_module(stage, run_name="__main__")
    except SystemExit as end:
        assert not end.code
for name, module in list(sys.modules.items()):
    if "-packages/" in str(getattr(module, "__file__", None)):
        print(name.partition(".")[0], file=sys.stderr)
"""


@pytest.mark.parametrize("stage", STAGES)
def test_help_imports_little(stage: str) -> None:
    """Which is what makes it quick; run as a program, which may import more than its module."""
    names = [command.split()[1] for command in COMMANDS if command.startswith(f"{stage} ")]
    done = run_python("-c", HELP, stage, *names)
    assert done.returncode == 0, done.stderr
    for name in names:
        assert f"usage: python -m {stage} {name} " in done.stdout
    imported = {name for name in done.stderr.split() if not name.startswith("_")}
    light = {"cloudpickle", "docstring_parser", "numpy", "pyarrow", "xxhash", "yaml"}
    assert "pyarrow" in imported
    assert imported <= light


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("python -m data su", {"subset"}),
        ("python -m data subset --near", {"--near_duplicates"}),
        ("python -m training run --optimisation.max_", {
            "--optimisation.max_steps", "--optimisation.max_tokens", "--optimisation.max_grad_norm",
        }),
        ("python -m inference generate --split ", {"train", "validation", "test"}),
    ],
)  # fmt: skip
def test_a_shell_completes_commands_flags_and_values(
    line: str, offered: set[str], tmp_path: Path
) -> None:
    """As argcomplete's own shell function asks."""
    answer = tmp_path / "answer"
    env = os.environ | {
        "_ARGCOMPLETE": "3", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
    }  # fmt: skip
    words = line.split()[1:3]
    subprocess.run([sys.executable, *words], cwd=ROOT, env=env, check=False, timeout=60)
    assert offered <= {word.strip() for word in answer.read_text().split("\n")}


@pytest.mark.parametrize("stage", STAGES)
def test_folders_are_marked_for_completion(stage: str) -> None:
    first = (ROOT / stage / "__main__.py").read_text()[:1024]
    assert "PYTHON_ARGCOMPLETE_OK" in first
