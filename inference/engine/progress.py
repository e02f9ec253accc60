"""How far a call is: engines tell while they write, whoever called them listens.

A context variable, so that an engine needs no further parameter and threads do not mix.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Listener = Callable[[int, int], None]
"""Hears how many more rows are done and how many more tokens are written, about."""

_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Have a listener hear what engines tell in this thread."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def tell(rows: int, tokens: int) -> None:
    """Tell that so many more rows are done and so many more tokens written."""
    if (listener := _LISTENER.get()) is not None:
        listener(rows, tokens)
