"""The door of ``/v1``: stands before the page's own guard and hands on what is not its own.

Not more questions are in work at a time, and not more wait, than the page and its clients together
may; they share one line and one batch.
"""

import asyncio
import contextlib
import hmac
import logging
import os
import threading
import time
from collections.abc import Generator, Mapping
from typing import Any

from starlette.responses import JSONResponse

from data.errors import CatalogueError
from inference.ask import Assistant
from inference.config import ServeConfig
from inference.serve import guard
from inference.serve.guard import App, Policy, Receive, Refusal, Scope, Send
from inference.serve.line import READ_SECONDS, Line
from inference.serve.openai import errors, forms, wishes
from inference.serve.openai.errors import ApiError
from inference.serve.openai.forms import Form
from inference.serve.openai.writing import BASE, Text, Writing

log = logging.getLogger("catalogue")

KEY = "SERVE_API_KEY"
_ROOT = "/v1/"
_POSTS = ("/v1/chat/completions", "/v1/completions")
_SSE = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]


class Door:
    """ASGI middleware that answers as OpenAI's API does."""

    def __init__(
        self, app: App, assistant: Assistant, policy: Policy, config: ServeConfig, line: Line
    ) -> None:
        self._app, self._assistant, self._policy, self._line = app, assistant, policy, line
        self._key = (config.api_key or os.environ.get(KEY) or "").encode()
        self._name = os.path.basename(os.path.abspath(config.run))
        self._made = int(time.time())
        # A question, an answer or two before it, and each letter as two escapes.
        self._largest = 4 * 12 * config.max_characters + 65_536

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on, one request."""
        if scope["type"] != "http" or not scope["path"].startswith(_ROOT):
            await self._app(scope, receive, send)
            return
        try:
            await self._answer(scope, receive, send)
        except ApiError as error:
            # What is left of the body is not waited for.
            headers = {"connection": "close", **error.headers}
            answer = JSONResponse(error.body(), error.status, headers)
            await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].rstrip("/")
        headers = {
            key.decode("latin-1").lower(): value.decode("latin-1")
            for key, value in scope["headers"]
        }
        self._check(headers, path)
        if path.startswith("/v1/models"):
            if scope["method"] != "GET":
                raise ApiError(405, f"{path}: expected GET", headers={"allow": "GET"})
            await JSONResponse(self._models(path))(scope, receive, send)
            return
        if path not in _POSTS:
            raise ApiError(404, f"{path[:80]}: this server has no such address", None, "not_found")
        if scope["method"] != "POST":
            raise ApiError(405, f"{path}: expected POST", headers={"allow": "POST"})
        try:
            body = await guard.read_body(headers, receive, self._largest)
        except Refusal as refusal:
            raise errors.of_refusal(refusal) from None
        asked = wishes.read(body, path == _POSTS[0])
        if asked.model not in (self._name, self._name + BASE):
            raise _no_model(asked.model)
        if self._line.refuse():
            raise errors.busy()
        form, work = Form(asked, path == _POSTS[0]), Writing(self._assistant, asked)
        async with _left(receive) as left:
            if asked.streams:
                await self._stream(form, work, left, send)
            elif value := await self._whole(form, work, left):
                await JSONResponse(value)(scope, receive, send)

    def _check(self, headers: Mapping[str, str], path: str) -> None:
        """Refuse a foreign page, a head too long and a wrong key."""
        if len(path) + sum(map(len, headers.values())) > guard.LONGEST_HEAD:
            raise ApiError(431, guard.HEAD_IS_TOO_LONG)
        try:
            guard.check_host(headers, self._policy)
            guard.check_origin(headers)
        except Refusal as refusal:
            raise errors.of_refusal(refusal) from None
        scheme, _, key = headers.get("authorization", "").partition(" ")
        is_same = hmac.compare_digest(key.strip().encode("latin-1"), self._key)
        if self._key and not (scheme.lower() == "bearer" and is_same):
            line = "authorization: expected `Bearer` and this server's key"
            raise ApiError(401, line, headers={"www-authenticate": "Bearer"})

    def _models(self, path: str) -> dict[str, Any]:
        listed = forms.models(self._name, self._made)
        name = path.removeprefix("/v1/models").removeprefix("/")
        if not name:
            return listed
        for model in listed["data"]:
            if model["id"] == name:
                own: dict[str, Any] = model
                return own
        raise _no_model(name)

    async def _whole(
        self, form: Form, work: Writing, left: threading.Event
    ) -> dict[str, Any] | None:
        """Write all texts; None: nobody waits for them any more."""

        def write() -> dict[str, Any] | None:
            whole: dict[int, Text] = {}
            with contextlib.closing(work.texts()) as texts:
                for text in texts:
                    if left.is_set():
                        return None
                    whole[text.index] = text
            return form.whole(list(whole.values()), work.usage.body())

        async with self._line.place():
            value: dict[str, Any] | None = await self._run(write)
            return value

    async def _run(self, step: Any) -> Any:
        """Run a step in a thread; a fault becomes the protocol's."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._line.threads, step)
        except CatalogueError as error:
            raise errors.of_answer(error) from error
        except ApiError:
            raise
        except Exception as error:  # a line, no traceback: strangers could fill the log with them
            log.warning("an answer failed: %s: %s", type(error).__name__, str(error)[:200])
            raise errors.of_answer(error) from error

    async def _stream(self, form: Form, work: Writing, left: threading.Event, send: Send) -> None:
        """Send texts as they grow; a fault before the first of them is a plain refusal."""
        async with self._line.place():
            pieces = form.pieces(work)
            try:
                piece = await self._run(lambda: next(pieces, b""))
                await send({"type": "http.response.start", "status": 200, "headers": _SSE})
                while piece and not left.is_set():
                    await _send(send, piece)
                    try:
                        piece = await self._run(lambda: next(pieces, b""))
                    except ApiError as error:
                        piece = forms.error_event(error.body())
                await _send(send, b"")
            except TimeoutError:
                log.warning("a stream was not read and is ended")
            finally:
                self._line.threads.submit(_close, pieces)


def _close(pieces: Generator[bytes, None, None]) -> None:
    with contextlib.suppress(ValueError):  # a step of it is running, as its reader was cancelled
        pieces.close()


async def _send(send: Send, piece: bytes) -> None:
    async with asyncio.timeout(READ_SECONDS):
        await send({"type": "http.response.body", "body": piece, "more_body": bool(piece)})


@contextlib.asynccontextmanager
async def _left(receive: Receive) -> Any:
    """Notice when the client has gone."""
    left = threading.Event()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    watcher = asyncio.ensure_future(watch())
    try:
        yield left
    finally:
        watcher.cancel()
        left.set()


def _no_model(name: str) -> ApiError:
    line = f"model: this server has no {name[:80]!r}; /v1/models lists what it has"
    return ApiError(404, line, "model", "model_not_found")
