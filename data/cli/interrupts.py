"""Ctrl-C and the end signal, at any moment: one line, exit code 130, no traceback.

The first one raises ``KeyboardInterrupt`` in the command, which stops in order. Before the command
and after it, and from the second one on, the process ends at once: what is committed stays, and the
same command goes on from there. Imported before anything slow, so it imports nothing slow.
"""

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

LINE = "interrupted; the same command goes on from here"
CODE = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds that a command may take to stop in order.
_PATIENCE = 30


def catch() -> None:
    """End this process at once, in one line, when it is interrupted; called by programs alone."""
    for number in _SIGNALS:
        # Ignored from the start, as `nohup` and background jobs ask: so it stays.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)
    # What tidies up after killed processes would warn of their semaphores, behind our own line.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    # Run last of all at the exit, before Python resets signals to what kills without a word.
    atexit.register(_ignore)
    sys.unraisablehook = _unraisable


def _ignore() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def leave(_number: int = 0, _frame: FrameType | None = None) -> None:
    """End the process at once, with the workers that it started."""
    _ignore()
    if "multiprocessing" in sys.modules:
        import multiprocessing

        # Half imported, it has no children yet.
        with contextlib.suppress(Exception):
            for child in multiprocessing.active_children():
                child.kill()
    with contextlib.suppress(OSError):
        os.write(2, f"error: {LINE}\n".encode())
    os._exit(CODE)


def _unraisable(unraisable: Any) -> None:
    """Leave where an interrupt was raised in a callback, which can only swallow it."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        leave()
    sys.__unraisablehook__(unraisable)


class Stopping:
    """While it lasts, the first interrupt raises ``KeyboardInterrupt``; another one leaves."""

    def __init__(self) -> None:
        self._earlier: dict[int, Any] = {}
        self.is_deferred = False
        self.is_requested = False

    def __enter__(self) -> "Stopping":
        import threading

        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._earlier[number] = signal.signal(number, self._stop)
            _lasting.append(self)
        return self

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        for number in self._earlier:
            signal.signal(number, leave)
        if hasattr(signal, "alarm"):  # not on Windows
            signal.signal(signal.SIGALRM, leave)
            signal.alarm(_PATIENCE)
        self.is_requested = True
        if not self.is_deferred:
            raise KeyboardInterrupt

    def __exit__(self, *exception: object) -> None:
        if self in _lasting:
            _lasting.remove(self)
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        if self.is_requested and hasattr(signal, "alarm"):
            signal.alarm(0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)


_lasting: list[Stopping] = []


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Hold the first interrupt back to the end: a library that starts processes would lose them."""
    lasting = _lasting[-1] if _lasting else None
    if lasting is None or lasting.is_deferred or lasting.is_requested:
        yield
        return
    lasting.is_deferred = True
    try:
        yield
    finally:
        lasting.is_deferred = False
        if lasting.is_requested:
            raise KeyboardInterrupt


@contextlib.contextmanager
def shielded(*others: signal.Signals) -> Iterator[None]:
    """Start threads and processes that Ctrl-C does not reach, not even while they start.

    A terminal sends it to all processes at once, and each would print a traceback.

    Args:
        others: signals that do not reach them either, such as the one to end: a service manager
            sends it to all processes too, and one that dies of it would look like a fault.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    from multiprocessing import resource_tracker

    # Started later, by whoever starts the first process, it would lift the block once it runs.
    resource_tracker.ensure_running()
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *others})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, be it by kill -9.

    Called first in a process of ``multiprocessing``; works on every system. Nothing is tidied up:
    the next run removes what was half written.
    """
    import multiprocessing
    import threading

    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)
