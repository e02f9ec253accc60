"""What may reach the server: a list of doors, trusted hosts, own origins, small and whole bodies.

Stands in front of everything. What is not on the list, or no JSON object where one is due, is
refused in one line before the app sees it; which fields an object must have, the app says.
"""

import asyncio
import ipaddress
import json
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import PlainTextResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger("catalogue")

BODY_SECONDS = 10.0
"""In which a whole body must come."""
LONGEST_HEAD = 16_384
"""Bytes of a request's head."""
HEAD_IS_TOO_LONG = f"address and headers: expected at most {LONGEST_HEAD:,} bytes, found more"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_WILDCARDS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  # compared with, not bound to


@dataclass(frozen=True)
class Door:
    """A path that may be asked for."""

    path: re.Pattern[str]
    """Matched whole."""
    largest: int = 0
    """Bytes of the JSON object that is posted to it; 0: it is read, without a body."""

    @property
    def method(self) -> str:
        """What it is opened by."""
        return "POST" if self.largest else "GET"


@dataclass(frozen=True)
class Policy:
    """What a guard lets in."""

    hosts: frozenset[str]
    """Names that the server goes by, small letters, without ports."""
    any_address: bool
    """Whether every literal IP address is one of its names too."""
    doors: tuple[Door, ...]

    def door(self, path: str) -> Door:
        """Find the door of a path.

        Raises:
            Refusal: there is none.
        """
        for door in self.doors:
            if door.path.fullmatch(path):
                return door
        raise Refusal(404, "path: expected one that the page uses, found another")


class Refusal(Exception):  # noqa: N818  # an answer, not a fault
    """A request that is refused: HTTP status and the reason in one line."""

    def __init__(self, status: int, line: str, allow: str = "") -> None:
        super().__init__(status, line, allow)
        self.status, self.line, self.allow = status, line, allow


def names_of(host: str, more: Iterable[str]) -> tuple[frozenset[str], bool]:
    """Return the names that a server may be called by, and whether any IP address is one.

    A foreign page that has its own name point here (DNS rebinding) calls this server by that name.
    An IP address is nobody's name, so all are trusted where the server listens on all of them.
    """
    own = {host.lower(), *(name.lower() for name in more), *_LOOPBACK}
    is_open = host in _WILDCARDS
    return frozenset(own | ({socket.gethostname().lower()} if is_open else set())), is_open


class Guard:
    """ASGI middleware that lets through what a ``Policy`` allows."""

    def __init__(self, app: App, policy: Policy) -> None:
        self._app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on, one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page opens no sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            receive = await self._check(scope, receive)
        except Refusal as refusal:
            # What is left of the body is not waited for.
            headers = {"x-content-type-options": "nosniff", "connection": "close"}
            if refusal.allow:
                headers["allow"] = refusal.allow
            answer = PlainTextResponse(f"{refusal.line}\n", refusal.status, headers)
            await answer(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except Exception as error:  # a line, no traceback: strangers could fill the log with them
            _log.warning("%s: %s: %s", scope["path"], type(error).__name__, str(error)[:200])

    async def _check(self, scope: Scope, receive: Receive) -> Receive:
        """Check a request; return what receives its body, which a check may have read."""
        path = scope["path"]
        headers = {
            key.decode("latin-1").lower(): value.decode("latin-1")
            for key, value in scope["headers"]
        }
        if len(path) + sum(map(len, headers.values())) > LONGEST_HEAD:
            raise Refusal(431, HEAD_IS_TOO_LONG)
        check_host(headers, self._policy)
        check_origin(headers)
        door = self._policy.door(path)
        if scope["method"] != door.method:
            line = f"{path}: expected {door.method}, found another method"
            raise Refusal(405, line, door.method)
        if not door.largest:
            if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
                raise Refusal(413, f"{path}: expected no body, found one")
            return receive
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refusal(415, "content-type: expected application/json, found another")
        body = await read_body(headers, receive, door.largest)
        check_body(body)
        return _once(body, receive)


def check_host(headers: Mapping[str, str], policy: Policy) -> None:
    """Refuse a request that does not call this server by one of its names."""
    for header in ("host", "x-forwarded-host"):
        name = _host_name(headers.get(header, "" if header == "host" else "localhost"))
        if name not in policy.hosts and not (policy.any_address and _is_address(name)):
            hint = "if it is yours, name it with --allowed_hosts"
            raise Refusal(403, f"{header}: expected a name of this server, found another; {hint}")


def _host_name(host: str) -> str:
    """Return a Host header's name without its port: small letters, IPv6 without brackets."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/@\s]+))(?::\d{1,5})?", host.strip())
    return (match[1] or match[2]).lower() if match else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse a request from a page that is not this server's own."""
    origin = headers.get("origin")
    host = headers.get("x-forwarded-host", headers.get("host", "")).lower()
    if origin is not None and origin.lower() not in {f"http://{host}", f"https://{host}"}:
        raise Refusal(403, "origin: expected this server's own page, found another")


async def read_body(headers: Mapping[str, str], receive: Receive, largest: int) -> bytes:
    """Read a whole body that is small enough and comes in time."""
    too_large = Refusal(413, f"body: expected at most {largest:,} bytes, found more")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 12 or int(length) > largest:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                piece = await receive()
                if piece["type"] != "http.request":
                    raise Refusal(400, "body: expected all of it, found a part")
                body += piece.get("body", b"")
                if len(body) > largest:
                    raise too_large
                if not piece.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        line = f"body: expected all of it within {BODY_SECONDS:.0f} s, found a part"
        raise Refusal(408, line) from None


def check_body(body: bytes) -> None:
    """Refuse what is no JSON object as other programs would read it.

    No NaN, no half characters, no endless nesting.
    """
    try:
        post = json.loads(body.decode(), parse_constant=_no_constant)
        json.dumps(post, ensure_ascii=False, allow_nan=False).encode()  # half a character is none
    except (ValueError, RecursionError):
        raise Refusal(400, "body: expected JSON in UTF-8, found something else") from None
    if not isinstance(post, dict):
        raise Refusal(422, "body: expected a JSON object, found another value")


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _once(body: bytes, receive: Receive) -> Receive:
    """Return what receives a body that was read already, then what else comes."""
    left = [body]

    async def again() -> MutableMapping[str, Any]:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return again
