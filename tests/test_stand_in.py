"""The stand-in for a small card: MPS is ended whatever ends the benchmark."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.benchmarks import stand_in, tinyllama

CONTROL = """#!/bin/sh
if [ "$1" = -d ]; then echo started >> {log}; else read -r word; echo "$word" >> {log}; fi
"""
SCRIPT = """
import os, time
from tests.benchmarks import stand_in
with stand_in.share(3):
    print(os.environ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"], flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_mps_ends_with_the_benchmark(number: signal.Signals, root: Path, tmp_path: Path) -> None:
    log, control = tmp_path / "log", tmp_path / "nvidia-cuda-mps-control"
    control.write_text(CONTROL.format(log=log))
    control.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=root, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL, env=os.environ | {"PATH": path},
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == "3\n"
        process.send_signal(number)
    ends = time.monotonic() + 10
    while "quit" not in log.read_text() and time.monotonic() < ends:
        time.sleep(0.05)
    assert log.read_text() == "started\nquit\n"


def test_arithmetic_of_a_token() -> None:
    # 968 million weights in layers, 65.5 million in the head, 12.6 million of the adapter.
    kept = stand_in.flop_a_token(tinyllama.SHAPE, 1)
    assert kept == 4 * 968_884_224 + 4 * 65_536_000 + 6 * 12_615_680
    redone = stand_in.flop_a_token(tinyllama.SHAPE, 0)
    assert redone - kept == 2 * (968_884_224 + 12_615_680)
