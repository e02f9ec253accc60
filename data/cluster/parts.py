"""The driver of a folder of parts: a task a block on a cluster, repeated where a worker dies.

Knows nothing of what a part holds: a stage hands in its blocks and two tasks, one that makes a part
and one that verifies a part which an earlier run committed.
"""

import contextlib
import itertools
import queue
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from data.artefacts.folder import Folder
from data.artefacts.parts import list_parts, part_name
from data.cluster.client import FEWER
from data.console import first_line
from data.errors import CatalogueError

if TYPE_CHECKING:
    from distributed import Client, Future

# A task whose worker died is tried on others this often.
_ATTEMPTS = 4
# Blocks of one task at most.
_TOGETHER = 4
# Seconds until the next attempt at handing a task to workers of which one has just died.
_PAUSE = 1.0
# Seconds between two looks at a cluster that is at work, and without any worker.
_LOOK = 5.0
_ALONE = 30.0


class Block(Protocol):
    """One unit of work; its part is a pure function of it and of a stage's settings."""

    @property
    def index(self) -> int:
        """Place of its part in the folder."""


Item = TypeVar("Item")
AnyBlock = TypeVar("AnyBlock", bound=Block)
Part = TypeVar("Part")
Task = Callable[..., Part]


def run_parts(
    client: "Client",
    folder: Folder,
    blocks: Iterator[AnyBlock],
    tasks: tuple[Task[Part], Task[Part]],
    arguments: Callable[[AnyBlock], tuple[Any, ...]],
    ahead: int = 1,
    count: int = 0,
) -> Iterator[tuple[AnyBlock, Part]]:
    """Make the part of each block on a cluster; go on from those that an earlier run committed.

    Args:
        client: from ``connect``.
        folder: of the parts.
        blocks: in order; read only as far as tasks can be handed out.
        tasks: the one that makes a part, and the one that verifies a part which is there.
        arguments: returns those of a block's task, each time that it is handed out.
        ahead: tasks beyond one a thread, so that no worker waits.
        count: of the blocks, where several may be handed out at once; 0: one by one.

    Yields:
        Blocks with what their task returned, in the order in which they finish.

    Raises:
        CatalogueError: as ``results``.
    """
    make, verify = tasks
    committed = set(list_parts(folder))

    def submit(group: list[AnyBlock], attempt: int) -> "Future":
        chosen = [verify if part_name(block.index) in committed else make for block in group]
        key = f"{make.__name__}-{id(client):x}-{group[0].index:05d}-{attempt}"
        inputs = [list(arguments(block)) for block in group]
        return client.submit(_in_turn, chosen, inputs, key=key, pure=False)

    # None where the only worker has just died, and comes again.
    threads = sum(client.nthreads().values()) or 1
    groups = _groups(blocks, count, threads)
    for group, made in results(client, groups, submit, ahead):
        yield from zip(group, made, strict=True)


def _groups(blocks: Iterator[AnyBlock], count: int, threads: int) -> Iterator[list[AnyBlock]]:
    """Put blocks together, the fewer the nearer the end: all threads end at nearly the same time.

    Each task takes 9 ms of processor time, whatever it does (``tests.benchmarks.clean``).
    """
    while group := list(itertools.islice(blocks, max(1, min(_TOGETHER, count // (2 * threads))))):
        yield group
        count -= len(group)


def _in_turn(tasks: list[Task[Part]], inputs: list[list[Any]]) -> list[Part]:
    return [task(*arguments) for task, arguments in zip(tasks, inputs, strict=True)]


def report(topic: str, event: Any) -> None:
    """Send an event from a task to whoever subscribed to the topic on the driver's client."""
    from distributed import get_worker

    get_worker().log_event(topic, event)


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

    Raises:
        CatalogueError: workers died again and again on one task, all of them left, or the scheduler
            answers no more; or what the task itself raised.
    """
    from distributed import CancelledError, wait

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
        # Tasks that run cannot be stopped: none may write once the driver has given up.
        if unfinished := [future for _, _, future in flight.waiting.values()]:
            with contextlib.suppress(TimeoutError, CancelledError):
                wait(unfinished, timeout=60)


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
                event = f"the one that gets a task's data died each time: {first_line(error)}"
                raise CatalogueError("workers", "", event, FEWER) from error
            time.sleep(_PAUSE)
            self.start(item, attempt + 1)
            return
        self.waiting[future.key] = (item, attempt, future)
        future.add_done_callback(self._done.put)

    def land(self) -> tuple[Any, Any]:
        """Wait for the next task that is done; return its item and result."""
        from distributed import CancelledError, KilledWorker

        from data.cluster import remote

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
                    event = "several died on one task"
                    raise CatalogueError("workers", "", event, FEWER) from error
                self._check()
                self.start(item, attempt + 1)
            except CatalogueError:
                raise
            except Exception:
                if isinstance(self._client, remote.Joined):
                    # Its worker may have come later and be of another kind.
                    remote.inspect(self._client)
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
                hint = "start some and run it again"
                raise CatalogueError("workers", "at least one", f"none for {_ALONE:.0f} s", hint)

    def _check(self) -> int:
        """Ask the scheduler for its workers; return their number."""
        from data.cluster import remote

        try:
            return len(remote.query(self._client, self._client.nthreads))
        except CatalogueError:
            self.waiting.clear()  # nobody is left to wait for
            raise
