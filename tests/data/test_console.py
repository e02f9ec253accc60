"""Text of others on a terminal: no control characters, any stream takes it, JSON stays JSON."""

import json
import os
import subprocess
import sys
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
