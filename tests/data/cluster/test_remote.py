"""Clusters that already run: real processes on this machine, other code in them, killed midway."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from data.cli import faults
from data.cluster import remote
from data.cluster.client import connect
from data.cluster.parts import results
from data.cluster.remote import join
from data.errors import CatalogueError, ConfigError
from tests.builders import ROOT

PATIENCE = 60.0
SCRIPT = """
import sys
from distributed.cli.dask_{kind} import main
sys.argv[0] = "dask-{kind}"
main()
"""


class Machines:
    """A scheduler and its workers, each a process that a test may kill or stop."""

    def __init__(self, stack: ExitStack, log: Path) -> None:
        self._stack, self._log = stack, log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.scheduler = self._start("scheduler", f"--port={self.port}", "--host=127.0.0.1")
        give_up = time.monotonic() + PATIENCE
        while not self._answers():
            assert time.monotonic() < give_up
            time.sleep(0.05)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def worker(self, code: Path = ROOT) -> "subprocess.Popen[bytes]":
        return self._start("worker", self.address, "--no-nanny", "--nthreads=1", code=code)

    def _start(self, kind: str, *words: str, code: Path = ROOT) -> "subprocess.Popen[bytes]":
        script = SCRIPT.format(kind=kind)
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", script, *words, "--no-dashboard"],
                cwd=code, env=os.environ | {"PYTHONPATH": str(code)},
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    with ExitStack() as stack:
        yield Machines(stack, tmp_path / "log")


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.cluster.remote.ANSWER", 8.0)
    monkeypatch.setattr("data.cluster.parts._LOOK", 0.2)
    monkeypatch.setattr("data.cluster.parts._ALONE", 1.0)
    monkeypatch.setattr("data.cluster.client._PART", 1)


def work(client: Any, midway: Callable[[], None]) -> None:
    """Run tasks; after the first, something happens."""

    def submit(number: int, attempt: int) -> Any:
        # A function that any worker has.
        return client.submit(time.sleep, 0.2, key=f"wait-{number}-{attempt}", pure=False)

    for number, _ in results(client, iter(range(600)), submit):
        if number == 0:
            midway()


def ended_in(machines: Machines, midway: Callable[[], None]) -> tuple[str, float]:
    """The one line in which a run ended, and the seconds from what happened to its end."""
    happened: list[float] = []

    def note() -> None:
        midway()
        happened.append(time.monotonic())

    with pytest.raises(Exception) as caught, connect(None, machines.address) as client:  # noqa: PT011
        work(client, note)
    told = faults.tell(caught.value)
    assert told, repr(caught.value)
    assert told[1] == 1
    return told[0], time.monotonic() - happened[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_scheduler_that_dies_or_hangs_midway_ends_the_run_in_time(
    number: signal.Signals, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.worker()

    def end() -> None:
        # Its start may take longer, beside other tests.
        monkeypatch.setattr("data.cluster.remote.ANSWER", 2.0)
        machines.scheduler.send_signal(number)

    line, seconds = ended_in(machines, end)
    assert line.startswith("--scheduler: expected a scheduler that answers within 2 s, found none")
    assert seconds < 30


def test_a_worker_that_is_silent_is_told_in_time(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = machines.worker()
    with connect(None, machines.address):
        pass
    monkeypatch.setattr("data.cluster.remote.ANSWER", 3.0)
    worker.send_signal(signal.SIGSTOP)
    expected = "expected workers that all answer within 3 s, found none"
    with pytest.raises(CatalogueError, match=expected), connect(None, machines.address):
        pass


def test_workers_that_all_leave_end_the_run_in_time(machines: Machines) -> None:
    worker = machines.worker()
    line, seconds = ended_in(machines, worker.terminate)
    assert line == "workers: expected at least one, found none for 1 s; start some and run it again"
    assert seconds < 30


def other_code(folder: Path, module: str) -> Path:
    """A copy of the package with one more line in a module."""
    shutil.copytree(
        ROOT / "data", folder / "data", ignore=shutil.ignore_patterns("store", "sample")
    )
    with (folder / "data" / module).open("a") as file:
        file.write("\n# another\n")
    return folder


def test_a_worker_with_other_code_is_refused_by_name(machines: Machines, tmp_path: Path) -> None:
    machines.worker(other_code(tmp_path / "other", "artefacts/schema.py"))
    with pytest.raises(CatalogueError) as caught, connect(None, machines.address):
        pass
    told = str(caught.value)
    assert "workers: expected the code and versions of this process, found that at tcp://" in told
    assert "with code of data " in told
    assert "pyarrow" not in told


def test_a_worker_with_other_code_that_comes_later_ends_the_run(
    machines: Machines, tmp_path: Path
) -> None:
    machines.worker()
    other = other_code(tmp_path / "other", "sampling.py")

    def later() -> None:
        machines.worker(other)

    line, _ = ended_in(machines, later)
    assert "workers: expected the code and versions of this process, found" in line
    assert "with code of data " in line


def test_a_scheduler_without_workers_is_told_in_time(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.cluster.remote.ANSWER", 0.5)
    with pytest.raises(ConfigError, match="--scheduler: expected workers, found none at tcp"):
        join(machines.address, ("data",))


def test_nobody_at_the_address_and_one_who_never_answers_are_told_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("data.cluster.remote._CONNECT", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConfigError, match="expected a running scheduler, found none at tcp"):
            join(address, ("data",))
        silent.listen()
        with pytest.raises(ConfigError, match="expected a running scheduler, found none at tcp"):
            join(address, ("data",))


def test_what_a_process_is_like_names_python_libraries_and_code() -> None:
    found = remote.look(("data", "no_such_package"), ("numpy", "no_such_library"))
    assert list(found) == ["Python", "numpy", "no_such_library", "code of data",
                           "code of no_such_package"]  # fmt: skip
    assert found["no_such_library"] == found["code of no_such_package"] == "none"


def test_another_version_is_named_with_ours() -> None:
    error = remote._unlike("that at tcp://h:1", {"pyarrow": "26", "numpy": "2"},
                           {"pyarrow": "25", "numpy": "2"})  # fmt: skip
    assert "found that at tcp://h:1 with pyarrow 25 (here 26); install" in str(error)


def test_a_cluster_of_this_machine_is_closed_to_who_lacks_its_key() -> None:
    from distributed import Client

    with connect(1, None) as client:
        addresses = [client.scheduler.address, *client.scheduler_info()["workers"]]
        assert all(address.startswith("tls://127.0.0.1:") for address in addresses)
        for address in addresses:
            with pytest.raises((OSError, TimeoutError, TypeError)):
                Client(address.replace("tls://", "tcp://"), timeout=1)
