"""Text of others on a terminal: no control characters, any stream takes it, JSON stays JSON."""

import io
import json
import os
import re
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import console
from tests.builders import ROOT

HOSTILE = "\x1b]0;owned\x07\x9b31m\u202eevil\u2066\r\x00\u2028\udcff"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Kettle, 2 l – Öl & 中文 😀", "Kettle, 2 l – Öl & 中文 😀"),
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[2J", r"\u001b[2J"),
        ("\x9b31m\x85", r"\u009b31m\u0085"),
        ("a\rb\x00\x7f\b", r"a\u000db\u0000\u007f\u0008"),
        ("\u202egnp.exe\u2069", r"\u202egnp.exe\u2069"),
        ("a\u2028b", r"a\u2028b"),
        ("name\udcff", r"name\udcff"),
        ("\U000e0041", r"\udb40\udc41"),
        ("עברית\u200f", "עברית\u200f"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert console.printable(text) == shown


@given(st.text())
def test_json_is_the_same_json(text: str) -> None:
    line = console.printable(json.dumps({"title": text}, ensure_ascii=False))
    assert json.loads(line) == {"title": text}
    assert console.printable(line) == line


def test_all_that_commands_print_goes_through_it(capsys: Any) -> None:
    console.say(f"title {HOSTILE}")
    console.complain(f"error: found {HOSTILE}")
    printed = capsys.readouterr()
    for text in printed:
        assert not set(HOSTILE) & set(text) - set("]0;owned31mevil")
    assert r"\u001b]0;owned" in printed.out
    assert r"\u202eevil" in printed.err


def run(code: str, encoding: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a piece of a command in a process whose output is in another encoding."""
    script = f"from data import console; console.prepare(); {code}"
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=False, capture_output=True, timeout=60,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("latin-1", b"\xd6l \\u4e2d \\ud83d\\ude00\n"),
        ("ascii", b"\\u00d6l \\u4e2d \\ud83d\\ude00\n"),
        ("utf-8", "Öl 中 😀\n".encode()),
    ],
)
def test_what_an_encoding_lacks_is_printed_as_json_has_it(encoding: str, printed: bytes) -> None:
    done = run(r"console.say('\xd6l \u4e2d \U0001f600')", encoding)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, b"")


SHELL = "exec {python} -c 'from data.__main__ import main; import sys; sys.exit(main())' {words}"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("show /no/such >&-", 1, "error: /no/such: expected a finished output"),
        ("show /no/such 2>&-", 1, ""),
        ("show /no/such >&- 2>&-", 1, ""),
        ("show --help >/dev/full", 0, ""),
    ],
)
def test_closed_and_full_outputs_end_no_command_in_a_traceback(
    words: str, code: int, told: str
) -> None:
    line = SHELL.format(python=sys.executable, words=words)
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def be_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Let standard error and output be a terminal of 100 columns that takes colours."""
    stream = Terminal()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return stream


def test_colours_are_for_terminals_and_may_be_forbidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    be_terminal(monkeypatch)
    assert console.painted("met", "green") == "\033[32mmet\033[0m"
    assert console.painted("a\x1b[2J", "red") == "\033[31ma\\u001b[2J\033[0m"
    assert console.painted("met", None) == "met"
    monkeypatch.setenv("NO_COLOR", "")  # no-color.org: not set, or empty
    assert console.painted("met", "green").startswith("\033")
    monkeypatch.setenv("NO_COLOR", "1")
    assert console.painted("met", "green") == "met"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert console.painted("met", "green") == "met"
    monkeypatch.setenv("TERM", "xterm")
    assert console.painted("met", "green", io.StringIO()) == "met"


def test_a_long_item_hangs_on_a_terminal_and_is_one_line_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = be_terminal(monkeypatch)
    console.item("  met      ", "word " * 40, "green")
    first, *others = terminal.getvalue().splitlines()
    assert first.startswith("\033[32m  met      \033[0mword word")
    assert len(others) >= 2
    assert all(line.startswith(" " * 11 + "word") and len(line) <= 100 for line in others)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    console.item("  met      ", "word\n" * 40, "green")
    assert len(sys.stdout.getvalue().splitlines()) == 1  # type: ignore[attr-defined]


def test_off_a_terminal_progress_is_a_plain_line_now_and_then(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_EVERY", 0.05)
    with console.Progress("clean", 200, "rows") as progress:
        progress.advance(50, broken="3")
        time.sleep(0.4)
    with console.Waiting("loading"):
        time.sleep(0.4)
    told = capsys.readouterr().err
    assert "\r" not in told
    assert "\033" not in told
    assert re.search(r"^clean: 25%, 50.0 of 200 rows, \S+ rows/s, \d+ s left, broken=3$", told,
                     re.MULTILINE)  # fmt: skip
    assert re.search(r"^loading: \d+ s$", told, re.MULTILINE)


def test_on_a_terminal_a_bar_moves_on_and_what_is_waited_for_goes_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = be_terminal(monkeypatch)
    monkeypatch.setattr(console, "_SOON", 0.05)
    with console.Progress("pre-train", 100, "steps") as progress:
        progress.advance(25)
        time.sleep(0.3)
    assert "25%" in terminal.getvalue()
    terminal.truncate(0)
    with console.Waiting("loading \x1b[2J"):
        time.sleep(0.3)
    assert r"loading \u001b[2J: 0 s" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\033[K")
