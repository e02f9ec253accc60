"""Commands: recipes and flags, exit codes, one line for every fault, quick help."""

import errno
import gc
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from data import console
from data.cli import command_line
from data.cli.command_line import Command
from data.cli.recipes import recipes_first
from data.errors import CatalogueError, ConfigError, GateError, SourceError
from tests.builders import ROOT, run_python


@dataclass(frozen=True)
class Bounds:
    """Bounds of something."""

    low: int = 1
    """Lowest that is kept."""
    high: int | None = 5
    """Highest that is kept; none: any."""

    def __post_init__(self) -> None:
        if self.high is not None and self.high < self.low:
            raise ConfigError("--bounds.low", f"at most {self.high}", str(self.low))


@dataclass(frozen=True)
class Config:
    """Do something to a thing.

    A second line.
    """

    thing: str = "none"
    """What to do it to."""
    size: int = 3
    """How large it is."""
    mode: Literal["fast", "slow"] = "fast"
    """How to do it."""
    words: list[str] = field(default_factory=list)
    """Some words."""
    bounds: Bounds = field(default_factory=Bounds)
    """Within what."""

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ConfigError("--size", "0 or more", str(self.size))


given: list[Config] = []
fault: list[BaseException] = []


def drive(config: Config) -> str:
    """A driver that notes its config, or fails as a test asks."""
    given.append(config)
    if fault:
        raise fault[0]
    return "ignored"


def terminate(config: Config) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)


COMMANDS = {
    "do": Command(Config, f"{__name__}:drive"),
    "show": Command(Config, f"{__name__}:drive", positional=("thing",)),
    "end": Command(Config, f"{__name__}:terminate"),
}


@pytest.fixture(autouse=True)
def _nothing_noted() -> None:
    given.clear()
    fault.clear()


def main(*words: str) -> int:
    return command_line.main("things", COMMANDS, words)


def refuse(capsys: Any, *words: str) -> str:
    """Run a command that must be a usage error; give what it told."""
    with pytest.raises(SystemExit) as stopped:
        main(*words)
    assert stopped.value.code == 2
    assert given == []
    told: str = capsys.readouterr().err
    assert "Traceback" not in told
    return told


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text("size: 7\nbounds:\n  low: 2\nwords: [a, b]\n")
    return str(path)


def test_without_words_the_defaults_are_given() -> None:
    assert main("do") == 0
    assert given == [Config()]


def test_every_field_can_be_set_by_a_flag() -> None:
    flags = (
        "--thing=x",
        "--size",
        "4",
        "--mode=slow",
        "--words",
        "[a,b]",
        "--bounds.low=0",
        "--bounds.high=null",
    )
    assert main("do", *flags) == 0
    assert given == [Config("x", 4, "slow", ["a", "b"], Bounds(0, None))]


def test_a_positional_field_needs_no_flag() -> None:
    assert main("show", "a path", "--size=1") == 0
    assert given == [Config("a path", 1)]


def test_a_recipe_sets_some_fields_and_leaves_the_others(recipe: str) -> None:
    assert main("do", "--config", recipe) == 0
    assert given == [Config(size=7, words=["a", "b"], bounds=Bounds(low=2))]


FORMS = (
    "{flag}|--config|{recipe}",
    "{flag}|--config={recipe}",
    "--config|{recipe}|{flag}",
    "--config={recipe}|{flag}",
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("flag", ["--size=9", "--size|9"])
def test_a_flag_wins_over_a_recipe_wherever_it_stands(recipe: str, form: str, flag: str) -> None:
    assert main("do", *form.format(flag=flag, recipe=recipe).split("|")) == 0
    assert given == [Config(size=9, words=["a", "b"], bounds=Bounds(low=2))]


def test_of_two_recipes_the_later_wins(recipe: str, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("size: 8\n")
    assert main("do", "--config", recipe, f"--config={other}") == 0
    assert given == [Config(size=8, words=["a", "b"], bounds=Bounds(low=2))]


def test_recipes_move_behind_the_command_in_their_order() -> None:
    words = ["do", "--a", "1", "--config", "x", "b", "--config=y"]
    assert recipes_first(words) == ["do", "--config", "x", "--config=y", "--a", "1", "b"]
    assert recipes_first(["do", "--a", "--config"]) == ["do", "--a", "--config"]
    assert recipes_first([]) == []


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("sise: 3\n", "sise"),
        ("bounds:\n  lowest: 3\n", "lowest"),
        ("size: many\n", "size"),
        ("mode: medium\n", "mode"),
        ("size: [\n", "recipe.yaml: expected a recipe in YAML, found .* in line 2"),
        ("just words\n", "recipe.yaml: expected fields with values, found a str"),
        ("", "recipe.yaml: expected fields with values, found nothing"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_named(
    capsys: Any, recipe: str, content: str, named: str
) -> None:
    Path(recipe).write_text(content)
    assert re.search(named, refuse(capsys, "do", "--config", recipe))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("do", "--sise=3"), "--sise=3; did you mean --size?"),
        (("do", "--siz=3"), "--siz"),
        (("do", "--bounds.high=1e3"), "--bounds.high: expected a whole number, found 1000.0; see"),
        (("do", "--mode=medium"), "--mode: expected "),
        (("do", "stray"), "stray"),
        (("do", "--size=many"), "--size: expected a whole number, found many"),
        (("do", "--config", "missing.yaml"), "missing.yaml"),
        (("dance",), "dance"),
        ((), "command"),
        (("show",), "thing"),
    ],
)
def test_words_that_cannot_be_meant_are_named(
    capsys: Any, words: tuple[str, ...], named: str
) -> None:
    assert named in refuse(capsys, *words)


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--size=-1", "error: --size: expected 0 or more, found -1"),
        ("--bounds.low=9", "error: --bounds.low: expected at most 5, found 9"),
    ],
)
def test_a_value_refused_by_its_config_is_told_in_one_line(
    capsys: Any, flag: str, told: str
) -> None:
    assert refuse(capsys, "do", flag).strip().splitlines()[-1] == told


class StoreError(Exception):
    """As a store's client raises it."""

    __module__ = "botocore.exceptions"


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (SourceError("a.json", "lines", "none", "fetch it"), 1,
         "a.json: expected lines, found none; fetch it"),
        (CatalogueError("a", "b", "c"), 1, "a: expected b, found c"),
        (ConfigError("--size", "2", "3"), 2, "--size: expected 2, found 3"),
        (GateError("report", "0.9", "0.8"), 3, "report: expected 0.9, found 0.8"),
        (OSError(errno.ENOSPC, "No space left on device", "/out/a"), 1,
         "/out/a: expected free space, found the disk full; free some and run the same command "
         "again: it goes on where it stopped"),
        (OSError(errno.ENOSPC, "No space left on device"), 1,
         "file system: expected free space, found the disk full; free some and run the same "
         "command again: it goes on where it stopped"),
        (PermissionError(errno.EACCES, "Permission denied", "/out"), 1, "/out: Permission denied"),
        (OSError("wrote 5 bytes, read back 3\nmore"), 1, "wrote 5 bytes, read back 3"),
        (OSError(), 1, "OSError"),
        (MemoryError(), 1, "memory: expected enough, found none left; use fewer workers"),
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on from here"),
        (StoreError("Unable to locate credentials\nmore"), 1,
         "object store: Unable to locate credentials"),
    ],
)  # fmt: skip
def test_a_fault_ends_in_its_exit_code_and_one_line(
    capsys: Any, raised: BaseException, code: int, told: str
) -> None:
    fault.append(raised)
    assert main("do") == code
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"error: {told}\n")


def test_a_bug_is_not_hidden() -> None:
    fault.append(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        main("do")


@pytest.mark.parametrize("lines", [1, 20_000])
def test_a_reader_that_has_gone_is_no_fault(lines: int) -> None:
    """``| head``: what it does not read is dropped without a word."""
    script = (
        "import sys; from data import console; import data.show\n"
        f"data.show.run = lambda config: [console.say('line') for _ in range({lines})]\n"
        "from data.__main__ import main; sys.exit(main(['show', 'x']))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, cwd=ROOT,
            check=False, timeout=60,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_end_signal_interrupts_and_the_earlier_handler_comes_back(capsys: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main("end") == 130
    assert signal.getsignal(signal.SIGTERM) is before
    assert "interrupted" in capsys.readouterr().err


def test_help_tells_every_field_with_its_docstring(capsys: Any) -> None:
    with pytest.raises(SystemExit) as stopped:
        main("do", "--help")
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    for each in ("Do something to a thing.", "--size", "How large it is", "--bounds.high",
                 "Highest that is kept", "{fast,slow}", "--config"):  # fmt: skip
        assert each in told


HEAVY = ("torch", "transformers", "trl", "peft", "unsloth", "datasets", "dask", "distributed",
         "pandas", "ftfy", "tqdm", "pyarrow.json", "pyarrow.dataset")  # fmt: skip


@pytest.mark.parametrize(
    ("program", "command"),
    [("preprocessing", "clean"), ("data", "subset"), ("data", "synthesize"), ("data", "show")],
)
def test_help_of_a_command_loads_nothing_heavy(program: str, command: str) -> None:
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['{program}', '{command}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('{program}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print('ended with', end.code)\n"
        f"print('loaded', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = run_python("-c", script)
    assert done.stdout.splitlines()[-2:] == ["ended with 0", "loaded []"], done.stderr


def test_progress_tells_its_share() -> None:
    with console.Progress("clean", 200, "B") as progress:
        assert progress.share == 0
        progress.advance(50, rows="3")
        assert progress.share == 0.25
    with console.Progress("index", None, "rows") as progress:
        progress.advance(5)
        assert progress.share == 0


def test_progress_goes_to_standard_error_and_short_work_off_a_terminal_says_nothing(
    capsys: Any,
) -> None:
    with console.Progress("clean", 2, "B") as progress:
        progress.advance(2)
    assert capsys.readouterr() == ("", "")


def test_a_table_aligns_its_first_column_left_and_the_others_right() -> None:
    assert console.table([("a", "10"), ("long", "5")], ("name", "n")).splitlines() == [
        "name   n",
        "----  --",
        "a     10",
        "long   5",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert console.table([], ("name", "n")).splitlines() == ["name  n", "----  -"]


def test_a_program_collects_no_garbage_until_its_driver_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["things", "do"])
    commands = {"do": Command(Config, f"{__name__}:drive")}
    gc.disable()
    try:
        assert command_line.main("things", commands, ["do"]) == 0
        assert not gc.isenabled()
        assert command_line.main("things", commands) == 0
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.enable()
