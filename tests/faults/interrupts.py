"""Ctrl-C and the end signal at random moments of a command's first two seconds.

``python -m tests.faults.interrupts [--times 40]``: each time the whole group of processes gets the
signal, as from a terminal. The command ends with 130 and one line, nothing of it is left running,
and the same command then goes on; what was done before begins anew. Ends with 1 where one of these
does not hold.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.faults.cleaning import OPEN, command, expect, synthesize

LINE = "error: interrupted; the same command goes on from here"
# Python itself has a traceback for what comes before any code of ours is read.
PYTHON_STARTS = 0.15


def interrupted(words: list[str], number: int, after: float) -> tuple[int, str]:
    """Run a command, send a signal to all its processes, and check how it ends.

    Returns:
        Its exit code and what it said; 0 where it had ended before.
    """
    process = subprocess.Popen(
        words, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(after)
    family = [*psutil.Process(process.pid).children(recursive=True)]
    if process.poll() is None:
        os.killpg(process.pid, number)
    _, told = process.communicate(timeout=90)
    _, alive = psutil.wait_procs(family, timeout=15)
    expect(not alive, f"{len(alive)} processes left behind after {after:.2f} s")
    return process.returncode, told


def check(words: list[str], number: int, after: float) -> str:
    """Interrupt a command once; give in a word what came of it."""
    code, told = interrupted(words, number, after)
    lines = [line for line in told.splitlines() if not line.startswith(("clean:", "index:"))]
    where = f"{signal.Signals(number).name} after {after:.2f} s"
    expect("Traceback" not in told, f"{where}: a traceback:\n{told}")
    expect(code in (0, 130), f"{where}: code {code}:\n{told}")
    if code == 130:
        expect(lines[-1:] == [LINE], f"{where}: {told!r}")
    return "interrupted" if code == 130 else "done before"


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--times", type=int, default=40)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    draw = random.Random(asked.seed)  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        raw, clean = place / "raw.json", place / "clean"
        synthesize(raw, "--rows=60000")
        cleaning = [*command(raw, clean, *OPEN), "--block_bytes=300000", "--workers=2"]
        python = [sys.executable, "-m", "data"]
        subset = [*python, "subset", f"--clean={clean}", "--size=5000", f"--out={place / 'subset'}"]
        for words, out in ((cleaning, clean), (subset, place / "subset")):
            for _ in range(asked.times):
                number = draw.choice((signal.SIGINT, signal.SIGTERM))
                after = draw.uniform(PYTHON_STARTS, 2)
                became = check(words, number, after)
                print(f"{after:.2f} s: {became}", flush=True)
                if became == "done before":
                    shutil.rmtree(out)
            done = subprocess.run(words, capture_output=True, check=False, timeout=300)
            expect(done.returncode == 0, f"it does not go on: {done.stderr.decode()}")


if __name__ == "__main__":
    main()
