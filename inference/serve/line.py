"""Who is answered and who waits: JSON lines written in threads, sent while somebody reads them.

So many answers are in work at a time, the others wait in order. An answer whose reader has gone is
ended, and one that is not read is not kept for ever.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.responses import JSONResponse, Response

from inference.serve.guard import Receive, Scope, Send

Event = dict[str, Any]
"""A line: what happened (``event``), and what there is to show of it."""
Events = Callable[[], Generator[Event, None, None]]

KIND = "application/x-ndjson"
READ_SECONDS = 30.0
"""In which a line that was sent must be read."""
# Ended answers are closed by these, while the others write.
_SPARE_THREADS = 4


class Line:
    """So many at a time, in order; beyond so many who wait, the next is refused."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self.waiting = 0
        self._most = waiting
        self._places = asyncio.Semaphore(at_once)
        self.threads = ThreadPoolExecutor(at_once + _SPARE_THREADS, "lines")

    def refuse(self) -> Response | None:
        """Return the refusal of one who comes while too many wait; None: there is room."""
        if not self._places.locked() or self.waiting < self._most:
            return None
        said = {"code": "busy", "detail": f"{self.waiting} wait already; ask again in a moment"}
        return JSONResponse(said, 429, {"retry-after": "5"})

    @property
    def is_busy(self) -> bool:
        """Whether the next one must wait."""
        return self._places.locked()

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place and keep it."""
        self.waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self._places.release()


class _Steps:
    """A generator of events that one thread runs at a time, whichever that is."""

    def __init__(self, events: Events) -> None:
        self._events = events()
        self._one_steps = threading.Lock()

    def next(self) -> bytes:
        """Return the next event as a line; empty: there is none."""
        with self._one_steps:
            event = next(self._events, None)
            return b"" if event is None else as_line(event)

    def close(self) -> None:
        """End it, after the step that it is in."""
        with self._one_steps:
            self._events.close()


def as_line(event: Event) -> bytes:
    """Write an event as a line of JSON."""
    return json.dumps(event, ensure_ascii=False).encode() + b"\n"


class Lines(Response):
    """A response of JSON lines, which ends when they do or when nobody reads them."""

    media_type = KIND

    def __init__(self, line: Line, events: Events) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self._line, self._events = line, events

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        writer = asyncio.ensure_future(self._write(send))
        leaver = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({writer, leaver}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaver.cancel()
            if not writer.done():
                writer.cancel()
            with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                await writer

    async def _write(self, send: Send) -> None:
        async def pass_on(line: bytes) -> None:
            async with asyncio.timeout(READ_SECONDS):
                await send({"type": "http.response.body", "body": line, "more_body": bool(line)})

        if self._line.is_busy:
            await pass_on(as_line({"event": "waiting", "ahead": self._line.waiting}))
        loop, threads = asyncio.get_running_loop(), self._line.threads
        async with self._line.place():
            steps = _Steps(self._events)
            try:
                while line := await loop.run_in_executor(threads, steps.next):
                    await pass_on(line)
            finally:
                threads.submit(steps.close)
        await pass_on(b"")


async def _left(receive: Receive) -> None:
    """Wait until the reader has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
