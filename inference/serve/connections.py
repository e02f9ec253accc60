"""Connections with deadlines: a request begins in time, and the silent make room for others.

uvicorn waits for ever for the first line of a request. A thousand clients that connect and send
nothing would keep everybody else out. And it closes at once when it refuses a request: the system
resets a connection that is closed with bytes unread, and the client may never see the reason.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from data.errors import ConfigError
from inference.serve.guard import HEAD_IS_TOO_LONG

MOST = 512
"""Connections at a time; more are answered with 503."""
ACCEPTED_AT_ONCE = 32
"""New connections that the loop accepts in a row before it serves those that it has."""
SECONDS_TO_ASK = 10.0
"""In which the whole head of a request must come."""
_DRAIN_SECONDS = 2.0
# Connections that the system keeps until the loop accepts them.
_QUEUED = 2_048
# A page opens six; who asks at once is not among the oldest of so many.
_MOST_SILENT = 128


def listen(host: str, port: int) -> socket.socket:
    """Bind a port; 0 takes one that is free.

    Raises:
        ConfigError: it is taken, or the host is none of this machine's.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = str(error.strerror or error)
        raise ConfigError(f"{host}:{port}", "a free port", reason, "name another --port") from error
    return listener


class Server(uvicorn.Server):
    """uvicorn's server with a long queue of connections that are accepted a few at a time.

    asyncio takes ``backlog`` for both: how many may wait in the system, and how many the loop
    accepts in a row. The few in a row are set there, and the many that may wait here.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_QUEUED)


class _Transport:
    """A connection's transport, which its owner closes."""

    def __init__(self, transport: Any, close: Callable[[], None]) -> None:
        self._transport, self.close = transport, close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(H11Protocol):
    """uvicorn's connection with a deadline for the head of a request."""

    _deadline: asyncio.TimerHandle | None = None
    _is_draining = False

    # Those without a whole head so far, the oldest first; a dict, as it is ordered.
    _silent: dict["Connection", None] = {}  # noqa: RUF012

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request; of too many who are silent, drop the oldest."""
        super().connection_made(_Transport(transport, self._close))  # type: ignore[arg-type]
        self._plain = transport
        self._wait()
        while len(self._silent) > _MOST_SILENT:
            next(iter(self._silent))._drop()

    def data_received(self, data: bytes) -> None:
        """Read on; stop the deadline when the head of a request is whole."""
        if self._is_draining:
            return
        if self._deadline is None and self._is_between():
            self._wait()
        super().data_received(data)
        if not self._is_between():
            self._stop_waiting()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request; a head too long as the guard does, in whatever pieces."""
        error = sys.exception()
        if not isinstance(error, h11.RemoteProtocolError) or error.error_status_hint != 431:
            super().send_400_response(msg)
            return
        headers = [("content-type", "text/plain; charset=utf-8"), ("connection", "close")]
        for event in (
            h11.Response(status_code=431, headers=headers),
            h11.Data(data=f"{HEAD_IS_TOO_LONG}\n".encode()),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _close(self) -> None:
        """Close; where a request was refused half read, throw the rest away for a while first."""
        if self._plain.is_closing() or self._is_draining:
            return
        if self.conn.their_state not in (h11.SEND_BODY, h11.ERROR):
            self._plain.close()
            return
        self._is_draining = True
        self._plain.write_eof()  # the answer is whole
        self._plain.resume_reading()
        self.loop.call_later(_DRAIN_SECONDS, self._plain.close)

    def _is_between(self) -> bool:
        """Return whether no request is in work."""
        return self.cycle is None or (
            self.cycle.response_complete and self.conn.their_state is h11.IDLE
        )

    def _wait(self) -> None:
        self._silent[self] = None
        self._deadline = self.loop.call_later(SECONDS_TO_ASK, self._drop)

    def _stop_waiting(self) -> None:
        self._silent.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _drop(self) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.abort()
