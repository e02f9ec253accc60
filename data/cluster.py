"""A Dask client: a cluster of this machine's own, or one that already runs.

Only drivers import this. Knows nothing of what the tasks do.
"""

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from data.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("catalogue")


def local_workers(workers: int | None) -> int:
    """Give the number of workers to start: as asked, or one a core that this process may use."""
    from dask.system import CPU_COUNT

    return workers or int(CPU_COUNT)


@contextlib.contextmanager
def connect(
    workers: int | None,
    scheduler: str | None,
    threads: int = 1,
    memory_limit: str | int = "auto",
    env: Sequence[dict[str, str]] | None = None,
) -> Iterator["Client"]:
    """Connect to a running scheduler, or start workers here and stop them at the end.

    Args:
        workers: processes to start here; one a core where None.
        scheduler: address of a running one, ``tcp://host:8786``; then nothing is started.
        threads: of each worker.
        memory_limit: of each worker, as Dask writes it; ``auto`` shares the machine's out.
        env: environment variables of each worker, for instance one GPU each.

    Yields:
        A client with at least one worker.

    Raises:
        ConfigError: nothing answers at the scheduler's address, or it has no workers.
    """
    from distributed import Client

    # Workers that leave at the end log their closed connections; faults reach us as exceptions.
    for name in ("distributed", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if scheduler:
        with _join(scheduler) as client:
            yield client
        return
    envs = list(env or [{}] * local_workers(workers))
    with _local(envs, threads, memory_limit) as cluster, Client(cluster) as client:
        client.wait_for_workers(len(envs))
        if importlib.util.find_spec("bokeh"):
            log.info("dashboard: %s", client.dashboard_link)
        yield client


def _local(
    envs: list[dict[str, str]], threads: int, memory_limit: str | int
) -> contextlib.AbstractContextManager[object]:
    from distributed import Nanny, Scheduler, SpecCluster
    from distributed.worker_memory import parse_memory_limit

    total = threads * len(envs)
    limit = parse_memory_limit(memory_limit, threads, total_cores=total, logger=log)
    options = {"nthreads": threads, "memory_limit": limit, "silence_logs": logging.CRITICAL}
    dashboard = importlib.util.find_spec("bokeh") is not None
    cluster: contextlib.AbstractContextManager[object] = SpecCluster(
        workers={
            index: {"cls": Nanny, "options": options | {"env": env}}
            for index, env in enumerate(envs)
        },
        scheduler={
            "cls": Scheduler,
            "options": {
                "host": "127.0.0.1",
                "port": 0,
                "dashboard": dashboard,
                "dashboard_address": "127.0.0.1:0" if dashboard else None,
            },
        },
        silence_logs=logging.CRITICAL,
    )
    return cluster


@contextlib.contextmanager
def _join(scheduler: str) -> Iterator["Client"]:
    from distributed import Client

    mend = "start one with `dask scheduler` and `dask worker`"
    try:
        client = Client(scheduler, timeout=10)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError("--scheduler", "a running scheduler", f"none at {scheduler}", mend) from (
            error
        )
    with client:
        if not client.scheduler_info()["workers"]:
            try:
                client.wait_for_workers(1, timeout=30)
            except TimeoutError as error:
                raise ConfigError("--scheduler", "workers", f"none at {scheduler}", mend) from error
        yield client
