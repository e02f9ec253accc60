"""A Dask client: a cluster of this machine's own, or one that already runs.

Only drivers import this. Knows nothing of what the tasks do.
"""

import contextlib
import importlib.util
import itertools
import logging
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from data.cli import interrupts
from data.errors import CatalogueError

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
# Seconds for workers of our own to start, between two looks at a cluster that is at work, without
# any worker, and to part from a scheduler that may be gone.
_STARTED = 120
_LOOK = 5.0
_ALONE = 30.0
_PART = 5
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
    packages: Sequence[str] = ("data",),
) -> Iterator["Client"]:
    """Connect to a running scheduler, or start workers here and stop them at the end.

    Args:
        workers: processes to start here; one a core where None.
        scheduler: address of a running one, ``tcp://host:8786``; then nothing is started.
        threads: of each worker.
        memory_limit: of each worker, as Dask writes it; ``auto`` shares the machine's out.
        env: environment variables of each worker, for instance one GPU each.
        packages: folders of this project whose code the tasks run; a running cluster's workers
            must have the same.

    Yields:
        A client with at least one worker.

    Raises:
        ConfigError: nothing answers at the scheduler's address, or it has no workers.
        CatalogueError: its workers have other code or versions; or none of ours starts.
    """
    import dask
    import distributed  # noqa: F401  # brings settings and loggers: both are changed below

    # Workers that leave at the end log their closed connections; faults reach us as exceptions.
    for name in ("distributed", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    nanny = {"distributed.nanny.pre-spawn-environ": _ALLOCATOR}
    with dask.config.set(KEPT_MESSAGES | nanny), contextlib.ExitStack() as stack:
        with interrupts.deferred():
            if scheduler:
                client = _join(stack, scheduler, packages)
            else:
                envs = list(env or [{}] * local_workers(workers))
                client = _start(stack, envs, threads, memory_limit)
        try:
            yield client
        finally:
            with interrupts.deferred():
                stack.close()


def _join(stack: contextlib.ExitStack, scheduler: str, packages: Sequence[str]) -> "Client":
    from data.cluster import remote

    client = remote.join(scheduler, packages)
    stack.callback(client.close, timeout=_PART)
    return client


def _start(
    stack: contextlib.ExitStack,
    envs: list[dict[str, str]],
    threads: int,
    memory_limit: str | int,
) -> "Client":
    """Start a cluster here; the stack stops it."""
    from distributed import Client
    from distributed.utils import LoopRunner

    runner = LoopRunner()
    with interrupts.shielded():  # what its thread starts is shielded as well
        runner.start()
    stack.callback(runner.stop)
    cluster = stack.enter_context(_local(runner.loop, envs, threads, memory_limit))
    client = stack.enter_context(Client(cluster))
    try:
        client.wait_for_workers(len(envs), timeout=_STARTED)
    except TimeoutError as error:
        expected = f"{len(envs)} that start within {_STARTED} s"
        raise CatalogueError("workers", expected, "fewer", _FEWER) from error
    if importlib.util.find_spec("bokeh"):
        log.info("dashboard: %s", client.dashboard_link)
    return client


def _local(
    loop: Any, envs: list[dict[str, str]], threads: int, memory_limit: str | int
) -> contextlib.AbstractContextManager[object]:
    from distributed import Nanny, Scheduler, Security, SpecCluster
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
            # Ports of this machine are open to all who work on it, and a task is any code: only
            # who holds this key, which stays in memory, may speak to them.
            key = Security.temporary()
            cluster: contextlib.AbstractContextManager[object] = SpecCluster(
                workers={
                    index: {"cls": Nanny, "options": options | {"env": env, "security": key}}
                    for index, env in enumerate(envs)
                },
                scheduler={
                    "cls": Scheduler,
                    "options": {**own, "port": 0, "dashboard": dashboard, "security": key},
                },
                loop=loop,
                security=key,
                silence_logs=logging.CRITICAL,
            )
            return cluster
    raise CatalogueError("workers", "processes that start", "one that died", _FEWER)


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
        CatalogueError: workers died again and again on one task, all of them left, or the scheduler
            answers no more; or what the task itself raised.
    """
    flight = _Flight(client, submit)
    try:
        for item in itertools.islice(items, sum(client.nthreads().values()) + ahead):
            flight.start(item)
        while flight.waiting:
            item, result = flight.land()
            yield item, result
            for another in itertools.islice(items, 1):
                flight.start(another)
    except KeyboardInterrupt:
        flight.waiting.clear()
        raise
    finally:
        _settle([future for _, _, future in flight.waiting.values()])


class _Flight:
    """Tasks that are handed out and not done yet."""

    def __init__(self, client: "Client", submit: Callable[[Any, int], "Future"]) -> None:
        self._client, self._submit = client, submit
        self._done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self.waiting: dict[str, tuple[Any, int, Future]] = {}

    def start(self, item: Any, attempt: int = 0) -> None:
        """Hand out the task of an item."""
        from distributed.comm import CommClosedError

        try:
            future = self._submit(item, attempt)
        except CommClosedError as error:
            # The worker that data was sent to has just died; its nanny starts another.
            if attempt + 1 >= _ATTEMPTS:
                expected, found = "workers within reach", str(error).splitlines()[0]
                raise CatalogueError("workers", expected, found, _FEWER) from error
            time.sleep(_PAUSE)
            self.start(item, attempt + 1)
            return
        self.waiting[future.key] = (item, attempt, future)
        future.add_done_callback(self._done.put)

    def land(self) -> tuple[Any, Any]:
        """Wait for the next task that is done; give its item and result."""
        from distributed import CancelledError, KilledWorker

        while True:
            future = self._next()
            if future.key not in self.waiting:  # started again meanwhile
                continue
            item, attempt, future = self.waiting.pop(future.key)
            try:
                return item, future.result()
            except (CancelledError, KilledWorker) as error:
                # Data sent along dies with the worker that held it; the item still has it.
                if attempt + 1 >= _ATTEMPTS or isinstance(error, KilledWorker):
                    expected, found = "workers that stay alive", "several died on one task"
                    raise CatalogueError("workers", expected, found, _FEWER) from error
                self._check()
                self.start(item, attempt + 1)
            except CatalogueError:
                raise
            except Exception:
                self._inspect()
                raise

    def _next(self) -> "Future":
        """Wait for a task; look at the cluster now and then meanwhile."""
        alone_since: float | None = None
        while True:
            with contextlib.suppress(queue.Empty):
                return self._done.get(timeout=_LOOK)
            now = time.monotonic()
            alone_since = None if self._check() else alone_since or now
            if alone_since is not None and now - alone_since > _ALONE:
                self.waiting.clear()
                expected, found = "at least one", f"none for {_ALONE:.0f} s"
                raise CatalogueError("workers", expected, found, "start some and run it again")

    def _check(self) -> int:
        """Ask the scheduler for its workers; give their number."""
        from data.cluster import remote

        try:
            return len(remote.query(self._client, self._client.nthreads))
        except CatalogueError:
            self.waiting.clear()  # nobody is left to wait for
            raise

    def _inspect(self) -> None:
        """Look whether a task failed because its worker came later and is another kind."""
        from data.cluster import remote

        if isinstance(self._client, remote.Joined):
            remote.inspect(self._client)


def _settle(futures: "list[Future]") -> None:
    """Wait for tasks that cannot be stopped: none may write once the driver has given up."""
    from distributed import CancelledError, wait

    if futures:
        with contextlib.suppress(TimeoutError, CancelledError):
            wait(futures, timeout=60)
