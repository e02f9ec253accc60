"""``python -m tests.faults.kills``: kill -9 a cleaning run at random moments, go on, compare.

Rounds take turns with the forms of the input (JSON lines plain and gzip, an array, CSV, Parquet;
``--forms`` names fewer), and with what is killed: the driver alone, one worker alone, the whole
process group. A kill counts only where some parts were committed by then, and not all: else the
round is repeated. A run whose worker was killed must itself finish; after any other
kill the same command is typed again at once, while workers of the killed driver may still live.
Then every data file must be byte for byte that of an uninterrupted run, the counts the same, no
file too many. No worker may outlive its driver by more than ``ORPHANED`` seconds.
Ends with 1 where one of them is not so.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.csv as csv
import pyarrow.json as pj
import pyarrow.parquet as pq

from data import console
from data.artefacts import manifest
from tests import killing
from tests.faults.cleaning import command, counts, digests, expect, parts, synthesize

SOURCES = {
    "lines": "kills-{rows}.json",
    "gz": "kills-{rows}.json.gz",
    "array": "kills-{rows}-array.json",
    "csv": "kills-{rows}.csv",
    "parquet": "kills-{rows}.parquet",
}
KINDS = ("driver", "worker", "group")
ORPHANED = 20.0
PATIENCE = 300.0


@dataclass(frozen=True)
class Round:
    """What one kill met."""

    form: str
    kind: str
    at: float
    """Seconds after the start."""
    done: int
    """Parts committed by then."""
    orphaned: float
    """Seconds that the longest-lived other process outlived the killed driver."""


@contextmanager
def started(words: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A run in a process group of its own; none of it is left behind."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(words, stdout=quiet, stderr=quiet, start_new_session=True)
    with killing.none_left(process):
        yield process


def workers(driver: int) -> list[psutil.Process]:
    """The worker processes of a run, without Python's own helpers."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        try:
            words = " ".join(process.cmdline())
            is_forked = "forkserver" in words and process.ppid() != driver
            if "spawn_main" in words or is_forked:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def interrupt(words: list[str], out: Path, kind: str, least: int, whole: int) -> Round | None:
    """Start a run, kill ``kind`` of it once ``least`` parts are there, and bring it to its end.

    Returns:
        None where it was not killed between its first part and its last.
    """
    began = time.monotonic()
    with started(words) as run:
        while len(parts(out)) < least and run.poll() is None:
            time.sleep(0.002)
        family = workers(run.pid) if run.poll() is None else []
        if not family:
            return None
        if kind == "worker":
            random.choice(family).kill()  # noqa: S311
        else:
            os.killpg(run.pid, signal.SIGKILL) if kind == "group" else run.kill()
        at, killed, done = time.monotonic() - began, time.monotonic(), len(parts(out))
        if not 0 < done < whole or (out / manifest.NAME).exists():
            return None
        if kind == "worker":
            code = run.wait(PATIENCE)
            expect(code == 0, f"a run whose worker was killed after {at:.2f} s ended with {code}")
            return Round(words[4], kind, at, done, 0.0)
        with started(words) as again:
            _, alive = psutil.wait_procs(family, timeout=ORPHANED)
            expect(not alive, f"{len(alive)} workers outlived their driver by {ORPHANED} s")
            orphaned = time.monotonic() - killed
            code = again.wait(PATIENCE)
        expect(code == 0, f"the same command after a kill at {at:.2f} s ended with {code}")
        return Round(words[4], kind, at, done, orphaned)


def play(words: list[str], reference: Path, out: Path, kind: str) -> Round:
    """Play one round, again where the run was faster than the kill."""
    whole = len(parts(reference))
    while True:
        shutil.rmtree(out, ignore_errors=True)
        least = random.randint(1, max(whole - 3, 1))  # noqa: S311
        told = interrupt(words, out, kind, least, whole)
        if told:
            break
        console.say("a kill that came too early or too late: the round is repeated")
    moment = f"{kind} killed after {told.at:.2f} s with {told.done} parts"
    expect(digests(out) == digests(reference), f"{moment}: other files than uninterrupted")
    expect(counts(out) == counts(reference), f"{moment}: other counts than uninterrupted")
    return told


def invent(raw: Path, rows: int) -> None:
    """Invent a raw file of the form that its name says, unless an earlier run left it."""
    if raw.suffix in (".json", ".gz") and "array" not in raw.name:
        synthesize(raw, f"--rows={rows}", "--broken_share=0.002")
        return
    if raw.exists():
        return
    plain = raw.with_name(f"kills-{rows}-plain.json")
    synthesize(plain, f"--rows={rows}")
    if raw.suffix == ".json":
        raw.write_bytes(b"[" + plain.read_bytes().strip().replace(b"\n", b",\n") + b"]\n")
        return
    table = pj.read_json(plain).select(["uid", "title", "content"])
    csv.write_csv(table, raw) if raw.suffix == ".csv" else pq.write_table(table, raw)


def prepare(options: argparse.Namespace, form: str) -> tuple[list[str], Path, Path]:
    """Invent a file and clean it once without a kill: the words and folders."""
    raw = options.work / SOURCES[form].format(rows=options.rows)
    invent(raw, options.rows)
    reference, out = options.work / f"whole-{raw.name}", options.work / "killed"
    words = (f"--block_bytes={options.block_bytes}", f"--workers={options.workers}")
    shutil.rmtree(reference, ignore_errors=True)
    subprocess.run(command(raw, reference, *words), check=True)
    return command(raw, out, *words), reference, out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--forms", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--block_bytes", type=int, default=300_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("data/store/faults"))
    options = parser.parse_args()
    random.seed(options.seed)
    prepared = [prepare(options, form) for form in options.forms]
    told = []
    for number in range(options.rounds):
        words, reference, out = prepared[number % len(prepared)]
        each = play(words, reference, out, KINDS[number // len(prepared) % 3])
        told.append(each)
        console.say(f"round {number + 1}: {Path(each.form).name}, {each.kind} killed after "
                f"{each.at:.2f} s with {each.done} parts: the same files in the end")  # fmt: skip
    kinds = ", ".join(f"{kind} {sum(each.kind == kind for each in told)}" for kind in KINDS)
    longest = max((each.orphaned for each in told), default=0.0)
    console.say(f"\n{len(told)} rounds ({kinds}), killed with {min(each.done for each in told)} to "
            f"{max(each.done for each in told)} of {len(parts(prepared[0][1]))} parts done: all "
            f"ended in the bytes and counts of an uninterrupted run, no stray file; workers gone "
            f"at most {longest:.1f} s after their driver")  # fmt: skip


if __name__ == "__main__":
    main()
