"""A Dask client: a cluster of this machine's own, or one that already runs; the cores here.

Only drivers connect. Knows nothing of what the tasks do.
"""

import contextlib
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from data.cli import interrupts
from data.cluster import secret
from data.errors import CatalogueError

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("catalogue")

# Dask tells glibc to hand freed memory back at once, which turns every large array into page
# faults: 124 s instead of 32 s for the sample's 292 descriptions. Keep up to 128 MiB instead, for
# Arrow's columns too, whose own allocator faults on them anew for every block.
_ALLOCATOR = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_TRIM_THRESHOLD_": str(2**27),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
SETTINGS = {
    # Dask keeps its last 1,000 messages for its makers, and with them the data that was sent along:
    # titles, up to two million of them.
    "distributed.admin.low-level-log-length": 16,
    # It looks at all threads' frames a hundred times a second. On Python 3.11 a worker stands still
    # for good where that sets off a garbage collection that frees a threading.local, or lets a task
    # start a thread meanwhile (python/cpython#106883).
    "distributed.worker.profile.enabled": False,
}
"""What Dask must be told before it starts a scheduler or workers."""
_FORKED = {"distributed.worker.multiprocessing-method": "forkserver"}
_prepared: list[str] = []
# Clusters that are started, one after the other, where a worker dies while it starts.
_ATTEMPTS = 4
# Seconds for workers of our own to start, and to part from a scheduler that may be gone.
_STARTED = 120
_PART = 5
FEWER = "use fewer --workers"
"""The hint where workers do not start or stay alive."""

# Ctrl-C reaches the workers too, and each would print a traceback: the driver alone stops them.
# What a forked one has from its server is never collected: a look at it would copy its memory.
_BEGIN = """import gc, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
gc.freeze()
gc.enable()
"""


def cores() -> int:
    """Count the cores that this process may use: those of its affinity, its container's share."""
    from dask.system import cpu_count

    return int(cpu_count())


def prepare(modules: Sequence[str]) -> None:
    """Start the process that workers here are forked from, where the system is one that can.

    It imports what they need, once, while the driver imports its own.

    Args:
        modules: to import there, besides Dask.
    """
    if sys.platform != "linux" or not hasattr(os, "fork"):
        return
    from multiprocessing import forkserver

    os.environ.update(_ALLOCATOR)
    _prepared.extend(["data.cluster.server", *modules])
    forkserver.set_forkserver_preload(_prepared)
    try:
        with interrupts.shielded():
            forkserver.ensure_running()
    except OSError:  # no socket, as where TMPDIR is long: workers are spawned then
        _prepared.clear()


def prepare_for(command: str, words: Sequence[str], modules: Sequence[str]) -> None:
    """Prepare for a command, unless the words typed are another's or ask for no workers here."""
    without = ("-h", "--help", "--scheduler")
    if command in words and not any(word.startswith(without) for word in words):
        prepare(modules)


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
    import distributed  # brings settings and loggers: both are changed below

    # Workers that leave at the end log their closed connections; faults reach us as exceptions.
    for name in ("distributed", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    settings: dict[str, Any] = SETTINGS | {"distributed.nanny.pre-spawn-environ": _ALLOCATOR}
    if _prepared:
        settings |= _FORKED
        # Or Dask imports here what it would have the workers import, pandas too.
        distributed.utils._forkserver_preload_set = True
    with dask.config.set(settings), contextlib.ExitStack() as stack:
        with interrupts.deferred():
            if scheduler:
                from data.cluster import remote

                client: Client = remote.join(scheduler, packages)
                stack.callback(client.close, timeout=_PART)
            else:
                envs = list(env or [{}] * (workers or cores()))
                client = _start(stack, envs, threads, memory_limit)
        try:
            yield client
        finally:
            with interrupts.deferred():
                stack.close()


def _start(
    stack: contextlib.ExitStack,
    envs: list[dict[str, str]],
    threads: int,
    memory_limit: str | int,
) -> "Client":
    """Start a cluster here; the stack stops it."""
    from distributed import Client
    from distributed.nanny import WorkerProcess
    from distributed.utils import LoopRunner

    secret.trust_no_store()
    # Every so many seconds a nanny looks whether its worker has started; 0.05 as it comes.
    WorkerProcess._init_msg_interval = 0.005
    runner = LoopRunner()
    with interrupts.shielded():  # what its thread starts is shielded as well
        runner.start()
    stack.callback(runner.stop)
    cluster = stack.enter_context(_local(runner.loop, envs, threads, memory_limit))
    # Or results take their way through the scheduler, and a message more.
    client = stack.enter_context(Client(cluster, direct_to_workers=True))
    # A worker that has died is asked for its results so long, before they are made again; or 30 s.
    client.rpc.timeout = _PART
    try:
        client.wait_for_workers(len(envs), timeout=_STARTED)
    except TimeoutError as error:
        event = f"fewer than {len(envs)} started within {_STARTED} s"
        raise CatalogueError("workers", "", event, FEWER) from error
    if importlib.util.find_spec("bokeh"):
        log.info("dashboard: %s", client.dashboard_link)
    return client


def _local(
    loop: Any, envs: list[dict[str, str]], threads: int, memory_limit: str | int
) -> contextlib.AbstractContextManager[object]:
    from distributed import Nanny, Scheduler, SpecCluster
    from distributed.worker_memory import parse_memory_limit

    cores = threads * len(envs)
    limit = parse_memory_limit(memory_limit, threads, total_cores=cores, logger=log)
    # Left out, a worker takes pickled tasks from any network, and the pages want port 8787.
    own = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    options = {
        **own,
        "nthreads": threads,
        "memory_limit": limit,
        "silence_logs": logging.CRITICAL,
        "preload": [_BEGIN],
    }
    dashboard = importlib.util.find_spec("bokeh") is not None
    for _ in range(_ATTEMPTS):
        # One worker that dies while it starts takes the whole new cluster down: make another.
        with contextlib.suppress(RuntimeError):
            # Ports of this machine are open to all who work on it, and a task is any code: only
            # who holds this key, which stays in memory, may speak to them.
            key = secret.make()
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
    raise CatalogueError("workers", "", "a worker process died while starting", FEWER)
