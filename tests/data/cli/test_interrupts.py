"""Interrupts: at once before and after a command, in order within it, never a traceback."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from data.cli import interrupts
from tests.builders import ROOT, run_python
from tests.faults.cleaning import OPEN, command
from tests.faults.interrupts import LINE
from tests.house import STAGES

TOLD = f"{LINE}\n"
# Without anything slow.
QUICK = ("from data.cli import interrupts", "from data.cluster import client")


def run(script: str, number: int = signal.SIGINT) -> tuple[int, str]:
    """Run a script that says when it is ready, and then send it a signal."""
    lead = (
        "import os, sys, time, signal\nfrom data.cli import command_line, interrupts\n"
        "interrupts.catch()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", lead + script], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    return process.returncode, told


READY = "print('ready', flush=True)\n"
WAIT = "time.sleep(30)\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_and_after_a_command_the_process_ends_at_once(number: int) -> None:
    assert run(READY + WAIT, number) == (130, TOLD)


def test_within_a_command_the_first_one_lets_it_stop_in_order() -> None:
    script = f"""
try:
    with interrupts.Stopping():
        {READY}
        {WAIT}
except KeyboardInterrupt:
    print("in order", file=sys.stderr)
    sys.exit(7)
"""
    assert run(script) == (7, "in order\n")


def test_a_second_one_ends_a_command_that_does_not_stop() -> None:
    script = f"""
with interrupts.Stopping():
    try:
        {READY}
        {WAIT}
    except KeyboardInterrupt:
        signal.raise_signal(signal.SIGTERM)
        {WAIT}
"""
    assert run(script) == (130, TOLD)


def test_one_that_a_library_swallows_ends_the_command_in_time() -> None:
    script = f"""
interrupts._PATIENCE = 1
with interrupts.Stopping():
    try:
        {READY}
        {WAIT}
    except BaseException:
        pass
    {WAIT}
"""
    assert run(script) == (130, TOLD)


def test_one_that_comes_in_a_callback_of_no_caller_ends_the_command() -> None:
    script = f"""
class Thing:
    def __del__(self):
        {READY}
        {WAIT}
with interrupts.Stopping():
    Thing()
    {WAIT}
"""
    assert run(script) == (130, TOLD)


def test_one_that_is_held_back_comes_at_the_end() -> None:
    script = f"""
try:
    with interrupts.Stopping():
        with interrupts.deferred():
            {READY}
            time.sleep(0.5)
            print("whole", file=sys.stderr)
        {WAIT}
except KeyboardInterrupt:
    sys.exit(7)
"""
    assert run(script) == (7, "whole\n")


def test_what_is_ignored_from_the_start_stays_so() -> None:
    script = f"""
signal.signal(signal.SIGINT, signal.SIG_IGN)
interrupts.catch()
with interrupts.Stopping():
    {READY}
    time.sleep(0.5)
"""
    assert run(script) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_to_interrupt_once_python_itself_ends(number: int) -> None:
    script = f"""
import os
from data.cli import interrupts

class Late:
    def __del__(self, kill=os.kill, own=os.getpid()):
        kill(own, {int(number)})

late = Late()
interrupts.catch()
"""
    assert run_python("-c", script).returncode == 0


@pytest.mark.parametrize("stage", STAGES)
def test_programs_can_be_interrupted_before_they_import_much(stage: str) -> None:
    for statement in ast.parse((ROOT / stage / "__main__.py").read_text()).body:
        if isinstance(statement, ast.If):
            assert ast.unparse(statement.body[0]) == "interrupts.catch()"
            return
        if isinstance(statement, ast.Import):
            assert {name.name for name in statement.names} <= sys.stdlib_module_names
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            is_quick = ast.unparse(statement) in QUICK
            assert is_quick or statement.module.split(".")[0] in sys.stdlib_module_names
    pytest.fail("never caught")


def test_earlier_handlers_come_back() -> None:
    before = [signal.getsignal(each) for each in interrupts._SIGNALS]
    with interrupts.Stopping():
        assert [signal.getsignal(each) for each in interrupts._SIGNALS] != before
    assert [signal.getsignal(each) for each in interrupts._SIGNALS] == before


def test_children_that_start_are_out_of_reach_of_ctrl_c() -> None:
    child = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    with interrupts.shielded():
        told = subprocess.run([sys.executable, "-c", child], capture_output=True, check=True)
    assert told.stdout == b"True\n"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        (WAIT, (130, TOLD)),
        (
            f"""
try:
    with interrupts.Stopping():
        {WAIT}
except KeyboardInterrupt:
    child.kill()
    child.join()
    sys.exit(7)
""",
            (7, ""),
        ),
    ],
    ids=["at once", "in order"],
)
def test_a_child_that_is_killed_adds_no_word(
    waiting: str, expected: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its semaphores are tidied up by another process, which would warn of them."""
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    child = "import multiprocessing, time; lock = multiprocessing.Lock(); " + READY + WAIT
    script = f"""
import multiprocessing
child = multiprocessing.get_context("spawn").Process(target=exec, args=({child!r},))
child.start()
{waiting}"""
    assert run(script) == expected


def test_ctrl_c_while_the_cluster_starts_ends_in_one_line_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    """The signal goes to all processes, once a worker has begun to start."""
    (tmp_path / "raw.json").write_text('{"uid": "1", "title": "t", "content": "c"}\n')
    words = [*command(tmp_path / "raw.json", tmp_path / "out", *OPEN), "--workers=2"]
    with subprocess.Popen(
        words, cwd=ROOT, start_new_session=True, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        own, give_up = psutil.Process(process.pid), time.monotonic() + 60
        while len(family := own.children(recursive=True)) < 2:
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, TOLD)
    _, alive = psutil.wait_procs(family, timeout=15)
    assert alive == []
