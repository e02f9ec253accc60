"""Processes that this one starts: none outlives it, whatever ends it. Knows nothing of training."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, be it by kill -9.

    Called first in a process of ``multiprocessing``; works on every system. Nothing is tidied up:
    what was half written is swept by the run that comes next.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


@contextlib.contextmanager
def sheltered() -> Iterator[None]:
    """Start processes that no interrupt reaches but through this one, not even as they start.

    A terminal sends Ctrl-C to all of them and a service manager its signal to end: one that dies of
    it would look like a fault, and each would print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    from multiprocessing import resource_tracker

    # Started together with the first process, it would let the signals through again.
    resource_tracker.ensure_running()
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
