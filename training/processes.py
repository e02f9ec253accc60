"""Processes: those of a run under ``torchrun`` or ``accelerate launch``, and those it starts.

Of the run's own, one a GPU, the first does what must be done once, and the others wait for it. No
process that the run starts outlives it, whatever ends it. Knows nothing of training.
"""

import contextlib
import datetime
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

from data.cli import interrupts
from data.errors import ConfigError

_Result = TypeVar("_Result")
# Tokenising millions of rows or measuring a plan keeps the others waiting.
_PATIENCE = datetime.timedelta(hours=4)
_SET_BY_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Ranks:
    """This process's place among those of the run."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def first(self, work: Callable[[], _Result]) -> _Result:
        """Let the first process do something, and return its result in all.

        Raises:
            SystemExit: in the others, where the work failed: the first one says why.
        """
        if self.count == 1:
            return work()
        import torch.distributed

        # The result, and whether there is none.
        message: list[Any] = [None, True]
        try:
            if self.is_first:
                message = [work(), False]
        except Exception:
            torch.distributed.broadcast_object_list(message)
            raise
        torch.distributed.broadcast_object_list(message)
        result: _Result = message[0]
        if message[1]:
            raise SystemExit(1)
        return result

    def in_turn(self, work: Callable[[], _Result]) -> _Result:
        """Let the first process do something, then the others, which find it done."""
        done: list[_Result] = []
        self.first(lambda: done.append(work()))
        return done[0] if self.is_first else work()

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            import torch.distributed

            torch.distributed.barrier()

    def end(self) -> None:
        """Part from the others after a run, all at once: threads left behind would abort."""
        self.wait()
        # A launcher of one process has the Trainer form a group as well.
        if "WORLD_SIZE" in os.environ:
            import torch.distributed

            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()

    def seconds_to_add(self, numbers: int) -> float:
        """Time adding up so many numbers of 32 bits over all processes; 0 for one alone."""
        if self.count == 1:
            return 0.0
        import torch.distributed

        on_gpu, times = torch.cuda.is_available(), []
        values = torch.zeros(numbers, device="cuda" if on_gpu else "cpu")
        for _ in range(4):  # the first connects them
            self.wait()
            began = time.perf_counter()
            torch.distributed.all_reduce(values)
            if on_gpu:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        return median(times[1:])

    def any(self, answer: bool) -> bool:
        """Return, in all processes, whether one of them says yes."""
        if self.count == 1:
            return answer
        import torch.distributed

        flag = torch.tensor([int(answer)])
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag.item())


def join() -> Ranks:
    """Join the other processes of the run, where a launcher started several.

    Raises:
        ConfigError: a process has no GPU; ``SystemExit`` in all but the first one.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks()
    import torch.distributed

    if not torch.cuda.is_available():
        # accelerate numbers even CPUs, and the Trainer loads a checkpoint to "cpu:1".
        torch.serialization.register_package(
            100, lambda _: None, lambda kept, place: kept if place.startswith("cpu:") else None
        )
    if not torch.distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend, timeout=_PATIENCE)
    ranks = Ranks(torch.distributed.get_rank(), count)
    if torch.cuda.is_available():
        own = int(os.environ.get("LOCAL_RANK", "0"))
        if ranks.any(own >= torch.cuda.device_count()):
            if not ranks.is_first:
                raise SystemExit(1)
            hint = "lower torchrun's --nproc-per-node"
            raise ConfigError("launcher", "a GPU for each process", "fewer GPUs", hint)
        torch.cuda.set_device(own)
    return ranks


def refuse_several(command: str) -> None:
    """Refuse a launcher that started several processes.

    Raises:
        ConfigError: it did.
    """
    if (count := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        hint = "start it without torchrun or accelerate launch"
        raise ConfigError(command, "one process", f"{count} of a launcher", hint)


def leave() -> None:
    """Let this process, started by one of the run's, stand alone: else it waits to join them."""
    for name in _SET_BY_LAUNCHER:
        os.environ.pop(name, None)


@contextlib.contextmanager
def start(work: Callable[..., _Result], *arguments: Any) -> Iterator["Future[_Result]"]:
    """Start work in a process of its own; the block's end waits for it, its failure kills it."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=interrupts.end_with_parent) as pool:
        with interrupts.shielded(signal.SIGTERM):
            future = pool.submit(work, *arguments)
        try:
            yield future
        except BaseException:
            for child in multiprocessing.active_children():
                child.kill()
            raise
