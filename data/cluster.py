"""A Dask client: a cluster of this machine's own, or one that already runs.

Only drivers import this. Knows nothing of what the tasks do.
"""

import contextlib
import importlib.util
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from data.errors import CatalogueError, ConfigError

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger("catalogue")

Item = TypeVar("Item")
# Dask tells glibc to hand freed memory back at once, which turns every large array into page
# faults: 124 s instead of 32 s for the sample's 292 descriptions. Keep up to 128 MiB instead.
_ALLOCATOR = {
    "MALLOC_TRIM_THRESHOLD_": str(2**27),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
# Dask keeps its last 1,000 messages for its makers, and with them the data that was sent along:
# titles, up to two million of them.
KEPT_MESSAGES = {"distributed.admin.low-level-log-length": 16}
# A task whose worker died is tried on others this often.
_ATTEMPTS = 4
# Seconds until the next attempt at handing a task to workers of which one has just died.
_PAUSE = 1.0
_FEWER = "use fewer --workers"

# Ctrl-C reaches the workers too, and each would print a traceback: the driver alone stops them.
_IGNORE_INTERRUPT = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"


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
    import dask

    if scheduler:
        with dask.config.set(KEPT_MESSAGES), _join(scheduler) as client:
            yield client
        return
    envs = list(env or [{}] * local_workers(workers))
    with (
        dask.config.set(KEPT_MESSAGES | {"distributed.nanny.pre-spawn-environ": _ALLOCATOR}),
        _local(envs, threads, memory_limit) as cluster,
        Client(cluster) as client,
    ):
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
    # Left out, a worker takes pickled tasks from any network, and the pages want port 8787.
    own = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    options = {
        **own,
        "nthreads": threads,
        "memory_limit": limit,
        "silence_logs": logging.CRITICAL,
        "preload": [_IGNORE_INTERRUPT],
    }
    dashboard = importlib.util.find_spec("bokeh") is not None
    for _ in range(_ATTEMPTS):
        # One worker that dies while it starts takes the whole new cluster down: make another.
        with contextlib.suppress(RuntimeError):
            cluster: contextlib.AbstractContextManager[object] = SpecCluster(
                workers={
                    index: {"cls": Nanny, "options": options | {"env": env}}
                    for index, env in enumerate(envs)
                },
                scheduler={
                    "cls": Scheduler,
                    "options": {**own, "port": 0, "dashboard": dashboard},
                },
                silence_logs=logging.CRITICAL,
            )
            return cluster
    raise CatalogueError("workers", "processes that start", "one that died", _FEWER)


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


def results(
    client: "Client",
    items: Iterator[Item],
    submit: Callable[[Item, int], "Future"],
    ahead: int = 2,
) -> Iterator[tuple[Item, Any]]:
    """Keep a bounded number of tasks in flight; yield each item with its result as it is done.

    Args:
        client: from ``connect``.
        items: read only as far as tasks can be handed out.
        submit: starts the task of an item; the second argument counts the attempts before.
        ahead: tasks beyond one a thread, so that no worker waits.

    Yields:
        Items with their results, in the order in which they finish.

    Raises:
        CatalogueError: workers died again and again on one task; or what the task itself raised.
    """
    from distributed import CancelledError, KilledWorker, as_completed
    from distributed.comm import CommClosedError

    in_flight: dict[str, tuple[Item, int, Future]] = {}
    running = as_completed()

    def start(item: Item, attempt: int = 0) -> None:
        try:
            future = submit(item, attempt)
        except CommClosedError as error:
            # The worker that data was sent to has just died; its nanny starts another.
            if attempt + 1 >= _ATTEMPTS:
                expected, found = "workers within reach", str(error).splitlines()[0]
                raise CatalogueError("workers", expected, found, _FEWER) from error
            time.sleep(_PAUSE)
            start(item, attempt + 1)
            return
        in_flight[future.key] = (item, attempt, future)
        running.add(future)

    try:
        for item in itertools.islice(items, sum(client.nthreads().values()) + ahead):
            start(item)
        for future in running:
            item, attempt, _ = in_flight.pop(future.key)
            try:
                result = future.result()
            except (CancelledError, KilledWorker) as error:
                # Data sent along dies with the worker that held it; the item still has it.
                if attempt + 1 >= _ATTEMPTS or isinstance(error, KilledWorker):
                    expected, found = "workers that stay alive", "several died on one task"
                    raise CatalogueError("workers", expected, found, _FEWER) from error
                start(item, attempt + 1)
                continue
            yield item, result
            for another in itertools.islice(items, 1):
                start(another)
    except KeyboardInterrupt:
        in_flight.clear()
        raise
    finally:
        _settle([future for _, _, future in in_flight.values()])


def _settle(futures: "list[Future]") -> None:
    """Wait for tasks that cannot be stopped: none may write once the driver has given up."""
    from distributed import CancelledError, wait

    if futures:
        with contextlib.suppress(TimeoutError, CancelledError):
            wait(futures, timeout=60)
