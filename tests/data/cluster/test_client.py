"""Clusters: started here with what was asked for, or joined; gone at the end."""

import os
import signal
from typing import Any

import distributed
import psutil
import pytest

from data.cluster import client
from data.cluster.client import connect, cores
from data.errors import CatalogueError, ConfigError
from tests.builders import run_python


def environment() -> tuple[str | None, int, bool]:
    ignores = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return os.environ.get("CATALOGUE_TEST_CARD"), os.getpid(), ignores


def test_workers_are_processes_with_their_own_environment_that_leave_interrupts_to_the_driver() -> (
    None
):
    cards = [{"CATALOGUE_TEST_CARD": "0"}, {"CATALOGUE_TEST_CARD": "1"}]
    with connect(None, None, threads=1, env=cards) as client:
        assert list(client.nthreads().values()) == [1, 1]
        found = list(client.run(environment).values())
        assert {card for card, _, _ in found} == {"0", "1"}
        assert len({process for _, process, _ in found} | {os.getpid()}) == 3
        assert all(ignores for _, _, ignores in found)
    assert client.status == "closed"
    for _, process, _ in found:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_nothing_of_a_cluster_here_is_reached_from_another_machine() -> None:
    def listening() -> set[str]:
        own = psutil.Process()
        processes = [own, *own.children(recursive=True)]
        found = [each for process in processes for each in process.net_connections("tcp")]
        return {f"{each.laddr.ip}" for each in found if each.status == psutil.CONN_LISTEN}

    with connect(1, None):
        assert listening() == {"127.0.0.1"}


def test_two_clusters_run_beside_each_other_without_a_warning() -> None:
    with connect(1, None) as one, connect(1, None) as other:
        assert one.scheduler.address != other.scheduler.address


def looks_at_frames(dask_worker: Any) -> bool:
    return "profile" in dask_worker.periodic_callbacks


def test_no_worker_looks_at_the_frames_of_its_threads(scheduler: str) -> None:
    """On Python 3.11 one that does may freeze; neither ours nor those of the tests do."""
    for address in (None, scheduler):
        with connect(1, address) as client:
            assert set(client.run(looks_at_frames).values()) == {False}


def test_a_running_scheduler_is_joined_and_left_running(scheduler: str) -> None:
    for _ in range(2):
        with connect(None, scheduler) as client:
            assert client.submit(sum, [1, 2], pure=False).result() == 3
            assert len(client.nthreads()) == 2


@pytest.mark.parametrize("deaths", [1, 99])
def test_a_cluster_is_started_again_where_a_worker_dies_while_it_starts(
    monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    whole = distributed.SpecCluster
    started: list[int] = []

    def fragile(**options: Any) -> Any:
        started.append(1)
        if len(started) <= deaths:
            raise RuntimeError("Nanny failed to start.")
        return whole(**options)

    monkeypatch.setattr(distributed, "SpecCluster", fragile)
    if deaths == 1:
        with connect(1, None) as client:
            assert client.submit(sum, [1, 2], pure=False).result() == 3
        assert len(started) == 2
    else:
        with (
            pytest.raises(CatalogueError, match="workers: a worker process died while starting"),
            connect(1, None),
        ):
            pass


@pytest.mark.parametrize("address", ["nowhere://x", "http://127.0.0.1:8787", "https://x:1"])
def test_an_address_of_another_kind_is_told(address: str) -> None:
    with (
        pytest.raises(ConfigError, match="--scheduler: expected an address like tcp://host:8786"),
        connect(None, address),
    ):
        pass


def test_workers_are_as_many_as_asked_or_one_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(client, "_start", lambda _, envs, *__: started.append(len(envs)))
    for workers in (5, None):
        with connect(workers, None):
            pass
    assert started == [5, cores()]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no process")
def test_cores_are_those_that_this_process_may_use() -> None:
    script = (
        "import os; from data.cluster.client import cores;"
        "os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1]); print(cores())"
    )
    assert run_python("-c", script).stdout == "1\n"


def test_cores_are_counted_where_no_affinity_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert 1 <= cores() <= (os.cpu_count() or 1)
