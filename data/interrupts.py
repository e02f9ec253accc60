"""Ctrl-C and the end signal, at any moment: one line, exit code 130, no traceback.

The first one raises ``KeyboardInterrupt`` in the command, which stops in order. Before the command
and after it, and from the second one on, the process ends at once: what is committed stays, and the
same command goes on from there. Imported before anything slow, so it imports nothing slow.
"""

import contextlib
import os
import signal
import sys
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
    sys.unraisablehook = _unraisable


def leave(_number: int = 0, _frame: FrameType | None = None) -> None:
    """End the process at once, with the workers that it started."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
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

    def __enter__(self) -> "Stopping":
        import threading

        self._earlier: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._earlier[number] = signal.signal(number, self._stop)
        return self

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        for number in self._earlier:
            signal.signal(number, leave)
        if hasattr(signal, "alarm"):  # not on Windows
            signal.signal(signal.SIGALRM, leave)
            signal.alarm(_PATIENCE)
        raise KeyboardInterrupt

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        if self._earlier and hasattr(signal, "alarm"):
            signal.alarm(0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
