"""Commands that are killed midway, and what the same command makes of what they leave."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

from data.artefacts import manifest
from data.artefacts.folder import Folder

ROOT = Path(__file__).parent.parent
_PATIENCE = 180.0

Digests = Callable[[Path], dict[str, str]]


class Leader(Protocol):
    """A process with a group of its own."""

    pid: int

    def wait(self) -> int:
        """Wait for its end."""


Group = TypeVar("Group", bound=Leader)


def start(words: Sequence[str]) -> "subprocess.Popen[str]":
    """Start ``python -m FOLDER COMMAND …`` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_parts(process: "subprocess.Popen[str]", out: Path, parts: int) -> None:
    """Wait until so many parts are committed and the process still runs."""
    give_up = time.monotonic() + _PATIENCE
    while len(list(out.glob("part-*.parquet"))) < parts:
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < give_up, f"no {parts} parts within {_PATIENCE} s"
        time.sleep(0.002)


@contextmanager
def none_left(process: Group) -> Iterator[Group]:
    """Kill what is left of a process's own group where the block ends."""
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def kill_midway(words: Sequence[str], out: Path, parts: int) -> dict[str, int]:
    """Kill a command and its workers once some parts are there; return the times of all parts."""
    with start(words) as process, none_left(process):
        wait_for_parts(process, out, parts)
    assert (out / "begun.json").exists()
    assert not (out / "manifest.json").exists()
    return {file.name: file.stat().st_mtime_ns for file in out.glob("part-*.parquet")}


def check_resumed(out: Path, whole: Path, killed: dict[str, int], digests: Digests) -> None:
    """Check that a killed folder was finished to the bytes of a whole one, its parts left alone."""
    assert digests(out) == digests(whole)
    times = {file.name: file.stat().st_mtime_ns for file in out.glob("part-*.parquet")}
    assert killed == {name: times[name] for name in killed}
    assert len(killed) < len(times)
    assert {file.name for file in out.iterdir() if not file.name.startswith("part-")} == {
        "manifest.json", "quarantine",
    }  # fmt: skip
    one, two = (manifest.read(Folder(str(folder))) for folder in (whole, out))
    assert (one.digest, one.counts, one.outputs) == (two.digest, two.counts, two.outputs)
