"""What may reach the page: one list of doors, trusted hosts, own origins, small and whole bodies.

Stands in front of everything that Gradio serves. What is not on the list, or not as the page's own
script would send it, is refused in one line before Gradio sees it.
"""

import asyncio
import ipaddress
import json
import logging
import math
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
_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PAGES = (
    "/", "/health", "/report", "/theme.css", "/favicon.ico", "/gradio_api/queue/data",
    f"/assets/{_NAME}", f"/static/(?:js|css|img|fonts)/{_NAME}",
    "/gradio_api/call/ask/[0-9a-f]{32}",
)  # fmt: skip
_READ = re.compile("|".join(_PAGES))
POSTS: dict[str, tuple[set[str], set[str]]] = {
    "/gradio_api/queue/join": ({"data", "fn_index", "session_hash"}, {"trigger_id", "event_data"}),
    "/gradio_api/run/predict": ({"data", "fn_index", "session_hash"}, {"trigger_id", "event_data"}),
    "/gradio_api/call/ask": ({"data"}, {"session_hash"}),
    "/gradio_api/cancel": ({"event_id", "session_hash", "fn_index"}, set()),
    "/gradio_api/reset": ({"event_id"}, set()),
}
"""Paths that are posted to: what each post must hold, and what it may hold besides."""
ASK = "/gradio_api/call/ask"
"""The door for programs: a question in one post, the answer in one stream."""


@dataclass(frozen=True)
class Call:
    """A function of the page that may be called."""

    fields: int
    """Values that it takes."""
    is_queued: bool
    """Whether it goes through the queue, or is run at once."""


@dataclass(frozen=True)
class Policy:
    """What a guard lets in."""

    hosts: frozenset[str]
    """Names that the server goes by, small letters, without ports."""
    any_address: bool
    """Whether every literal IP address is one of its names too."""
    largest: int
    """Bytes of a body."""
    calls: Mapping[int, Call]
    """Functions of the page by their number."""
    triggers: frozenset[int]
    """Numbers of the page's parts that may call them."""
    asks: int
    """Number of the function that ``ASK`` calls."""


class Refusal(Exception):  # noqa: N818  # an answer, not a fault
    """A request that is refused: HTTP status and the reason in one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(status, line)
        self.status, self.line = status, line


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
            if refusal.status == 405:
                headers["allow"] = _method_of(scope["path"])
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
        method = _method_of(path)
        if not method:
            raise Refusal(404, "path: expected one that the page uses, found another")
        if scope["method"] != method:
            raise Refusal(405, f"{path}: expected {method}, found another method")
        if method == "GET":
            _check_read(path, scope, headers)
            return receive
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refusal(415, "content-type: expected application/json, found another")
        body = await _read(headers, receive, self._policy.largest)
        check_post(path, body, self._policy)
        return _once(body, receive)


def _method_of(path: str) -> str:
    """Return the method that a door is opened by; empty where there is no door."""
    if path in POSTS:
        return "POST"
    return "GET" if _READ.fullmatch(path) else ""


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


def _check_read(path: str, scope: Scope, headers: Mapping[str, str]) -> None:
    """Refuse a request with a body, or without the query that its door needs."""
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise Refusal(413, f"{path}: expected no body, found one")
    if path == "/gradio_api/queue/data":
        query = bytes(scope.get("query_string", b"")).decode("latin-1")
        if not re.fullmatch(rf"session_hash={_TOKEN.pattern}", query):
            raise Refusal(422, "session_hash: expected one, found none or another")


async def _read(headers: Mapping[str, str], receive: Receive, largest: int) -> bytes:
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


def check_post(path: str, body: bytes, policy: Policy) -> None:
    """Refuse a post that the page's own script would not send."""
    post = _parse(body)
    needed, more = POSTS[path]
    if not isinstance(post, dict) or not needed <= set(post) <= needed | more:
        fields = ", ".join(sorted(needed))
        raise Refusal(422, f"body: expected an object of {fields}, found another")
    for name in {"session_hash", "event_id"} & set(post):
        if not isinstance(post[name], str) or not _TOKEN.fullmatch(post[name]):
            raise Refusal(422, f"{name}: expected up to 64 letters and digits, found another")
    call = policy.calls.get(policy.asks) if path == ASK else None
    if "fn_index" in post:
        call = policy.calls.get(post["fn_index"]) if type(post["fn_index"]) is int else None
        is_queued = path == "/gradio_api/queue/join"
        if call is None or (path != "/gradio_api/cancel" and call.is_queued != is_queued):
            raise Refusal(422, "fn_index: expected a function of the page, found another")
    trigger = post.get("trigger_id")
    if trigger is not None and (type(trigger) is not int or trigger not in policy.triggers):
        raise Refusal(422, "trigger_id: expected a part of the page, found another")
    if not isinstance(post.get("event_data"), str | None):
        raise Refusal(422, "event_data: expected a text or none, found another")
    if "data" in post:
        _check_data(post["data"], call)


def _check_data(data: Any, call: Call | None) -> None:
    if not isinstance(data, list) or call is None or len(data) != call.fields:
        fields = call.fields if call else 0
        raise Refusal(422, f"data: expected a list of {fields} values, found another")
    for place, value in enumerate(data):
        if isinstance(value, float) and not math.isfinite(value):
            raise Refusal(422, f"data[{place}]: expected a number, found one without end")
        if not isinstance(value, str | int | float | None):  # bool is an int
            raise Refusal(422, f"data[{place}]: expected a text, number or switch, found another")


def _parse(body: bytes) -> Any:
    """Read JSON as other programs would: no NaN, no half characters, no endless nesting."""
    try:
        post = json.loads(body.decode(), parse_constant=_no_constant)
        json.dumps(post, ensure_ascii=False).encode()  # a lone surrogate is no character
    except (ValueError, RecursionError):
        raise Refusal(400, "body: expected JSON in UTF-8, found something else") from None
    return post


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
