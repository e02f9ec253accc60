"""No process outlives the one that started it, and none is reached by its interrupts."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from data.artefacts.dataset import Subset
from data.cli import interrupts
from data.errors import ModelError
from training import job
from training.config import PlanConfig, TinyBase, TrainConfig
from training.plan.measuring import WorkerHandle
from training.processes import Ranks

# Starts one as the tiny base's builder and one as the measuring process, at work for ever.
PARENT = """
import multiprocessing, signal, sys, time
from concurrent.futures import ProcessPoolExecutor
from data.cli import interrupts
from tests.training import serving
if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    with interrupts.shielded(signal.SIGTERM):
        pool = ProcessPoolExecutor(1, spawn, initializer=interrupts.end_with_parent)
        pool.submit(serving.work_for_ever, sys.argv[1] + "/builder")
        spawn.Process(target=serving.work_for_ever, args=(sys.argv[1] + "/measuring",)).start()
    time.sleep(600)
"""


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def parent(root: Path, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    ) as process:  # fmt: skip
        yield process
        process.kill()


def test_children_end_when_their_parent_is_killed_and_not_by_its_interrupts(
    parent: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    files = [tmp_path / "builder", tmp_path / "measuring"]
    wait_for(lambda: all(file.exists() and file.read_text() for file in files))
    started = [psutil.Process(int(file.read_text())) for file in files]
    for child in started:
        for number in (signal.SIGINT, signal.SIGTERM):
            child.send_signal(number)
    time.sleep(0.2)
    assert [child.is_running() for child in started] == [True, True]
    parent.kill()
    _, still = psutil.wait_procs(started, timeout=10)
    for child in still:
        child.kill()
    assert not still
    assert parent.stderr is not None
    assert "Traceback" not in parent.stderr.read()


def _die(_: object) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def test_builder_that_is_killed_is_told(
    subset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.model.tiny.build", _die)
    config = TrainConfig(tiny=TinyBase(), backend="transformers")
    opened: Subset = job.open_subset(str(subset))
    with pytest.raises(ModelError, match="tiny base: the process that built it was killed; free"):
        job.prepare(config, opened, tmp_path, Ranks())


def test_first_process_of_all_has_no_parent_to_end_with() -> None:
    interrupts.end_with_parent()
    with interrupts.shielded(signal.SIGTERM):
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    assert signal.SIGINT in blocked
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def test_measuring_process_that_does_not_end_is_killed(tmp_path: Path) -> None:
    handle = WorkerHandle(PlanConfig(), tmp_path)
    spawn = multiprocessing.get_context("spawn")
    handle._pipe, _other = spawn.Pipe()
    handle._process = process = spawn.Process(target=time.sleep, args=(600,))
    process.start()
    handle.close(patience=0.1)
    assert process.exitcode == -signal.SIGKILL
    handle.close()  # nothing is left to end
