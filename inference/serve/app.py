"""The server's doors and what stands behind each: the page, answers, lists of titles, votes.

``build`` puts them together; the guard stands in front of all.
"""

import asyncio
import functools
import importlib.resources
import re
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict

from data.errors import CatalogueError
from inference.ask import Assistant
from inference.config import ServeConfig
from inference.serve import answers, bulk, guard
from inference.serve.about import about
from inference.serve.answers import Ask, Given
from inference.serve.bulk import Write, Written
from inference.serve.feedback import Ballot, Vote
from inference.serve.guard import Door
from inference.serve.line import Line, Lines
from inference.serve.openai import Door as ApiDoor

_AT_ONCE = 24
"""Questions in work: those in the batch, and a few whose records and evidence are looked up."""
_LEAST_TYPED = 3
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript",
          ".svg": "image/svg+xml"}  # fmt: skip
_NOTHING_ELSE = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
_POLICY = _NOTHING_ELSE + (
    "script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'"
)
# The report is one file that holds its own style and pictures, and no script.
_REPORT_POLICY = _NOTHING_ELSE + ("style-src 'unsafe-inline'; img-src data: blob:; font-src data:")


class Typed(BaseModel):
    """What is posted while a question is typed."""

    model_config = ConfigDict(strict=True, extra="forbid")

    question: str


def build(config: ServeConfig, assistant: Assistant, report: Path | None = None) -> guard.App:
    """Put the server together.

    Args:
        config: of the command.
        assistant: what answers.
        report: the run's report.html; none: there is none.

    Returns:
        The ASGI app.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(RequestValidationError, _refuse_fields)
    files = _static_files()
    _serve_page(app, files, report)
    line = Line(_AT_ONCE, config.queue)
    _serve_answers(app, config, assistant, about(assistant, report, bulk.MOST_TITLES), line)
    _serve_lists(app, assistant)
    rules = policy(config, list(files), report is not None)
    return ApiDoor(guard.Guard(_Headers(app), rules), assistant, rules, config, line)


def policy(config: ServeConfig, files: list[str], has_report: bool) -> guard.Policy:
    """Say what may reach the server."""
    hosts, any_address = guard.names_of(config.host, config.allowed_hosts)
    # Each letter may be written as two escapes of six bytes.
    text = 12 * config.max_characters + 4_096
    reads = ["/", "/health", "/about", *(f"/static/{name}" for name in files)]
    reads += ["/report"] if has_report else []
    doors = [Door(re.compile(re.escape(path))) for path in reads]
    doors += [
        Door(re.compile(r"/write/[0-9a-f]{32}\.(?:csv|parquet)")),
        Door(re.compile("/ask"), 2 * text),
        Door(re.compile("/suggest"), text),
        Door(re.compile("/feedback"), 8_192),
        Door(re.compile("/write"), bulk.LARGEST),
    ]
    return guard.Policy(hosts, any_address, tuple(doors))


def _static_files() -> dict[str, tuple[bytes, str]]:
    """Read the files of the page: bytes and kind by name."""
    folder = importlib.resources.files("inference.serve").joinpath("static")
    return {
        item.name: (item.read_bytes(), _TYPES[Path(item.name).suffix])
        for item in folder.iterdir()
        if Path(item.name).suffix in _TYPES
    }


def _serve_page(app: FastAPI, files: dict[str, tuple[bytes, str]], report: Path | None) -> None:
    @app.get("/")
    async def page() -> Response:
        headers = {"content-security-policy": _POLICY, "cache-control": "no-cache"}
        return Response(files["index.html"][0], media_type="text/html", headers=headers)

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        content, kind = files[name]
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    if report is not None:

        @app.get("/report")
        async def show_report() -> Response:
            headers = {"content-security-policy": _REPORT_POLICY}
            return FileResponse(report, media_type="text/html", headers=headers)


def _serve_answers(
    app: FastAPI, config: ServeConfig, assistant: Assistant, facts: dict[str, Any], line: Line
) -> None:
    given, ballot = Given(), Ballot(config.feedback)

    # In the loop itself, as answers may fill all threads.
    @app.get("/health")
    async def health() -> dict[str, Any]:
        load = assistant.health()
        return load | {"waiting": load["waiting"] + line.waiting}

    @app.get("/about")
    async def tell_about() -> dict[str, Any]:
        return facts

    @app.post("/ask")
    async def ask(asked: Ask) -> Response:
        return line.refuse() or Lines(
            line, functools.partial(answers.events, assistant, given, asked)
        )

    @app.post("/suggest")
    async def suggest(typed: Typed) -> dict[str, list[str]]:
        return {"titles": await asyncio.to_thread(_suggest, assistant, typed.question)}

    @app.post("/feedback")
    async def feedback(vote: Vote) -> Response:
        answer = given.get(vote.id)
        if answer is None:
            said = {"code": "forgotten", "detail": "id: expected an answer of late, found another"}
            return JSONResponse(said, 404)
        try:
            await asyncio.to_thread(ballot.put, vote, answer)
        except OSError as error:
            answers.log.warning("%s: %s", config.feedback, error)
            return JSONResponse({"code": "failed", "detail": "it cannot be written"}, 503)
        return JSONResponse({"kept": vote.thumb})


def _suggest(assistant: Assistant, typed: str) -> list[str]:
    """List the titles that a half-typed question may mean."""
    if len(typed.strip()) < _LEAST_TYPED or len(typed) > assistant.config.max_characters:
        return []
    try:
        return assistant.suggest(typed)
    except CatalogueError:  # who asks will see it
        return []


def _serve_lists(app: FastAPI, assistant: Assistant) -> None:
    line, written = Line(bulk.AT_ONCE, bulk.WAITING), Written()

    @app.post("/write")
    async def write(wishes: Write) -> Response:
        return line.refuse() or Lines(
            line, functools.partial(bulk.events, assistant, written, wishes)
        )

    @app.get("/write/{file}")
    async def download(file: str) -> Response:
        name, _, form = file.partition(".")
        content = await asyncio.to_thread(written.read, name, form)
        if content is None:
            return PlainTextResponse("it is no longer kept: write the list again\n", 404)
        kind = "text/csv; charset=utf-8" if form == "csv" else "application/vnd.apache.parquet"
        named = {"content-disposition": f'attachment; filename="descriptions.{form}"'}
        return Response(content, media_type=kind, headers=named)


async def _refuse_fields(_request: Request, error: Exception) -> Response:
    """Refuse a post in one line that names its first fault."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for it alone
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"][1:])[:80] or "body"
    return PlainTextResponse(f"{where}: {fault['msg']}\n", 422)


class _Headers:
    """ASGI middleware that lets no browser guess kinds or tell other pages of this one."""

    def __init__(self, app: guard.App) -> None:
        self._app = app

    async def __call__(self, scope: guard.Scope, receive: guard.Receive, send: guard.Send) -> None:
        """Answer one request."""

        async def add(message: guard.Scope) -> None:
            if message["type"] == "http.response.start":
                more = [(b"x-content-type-options", b"nosniff"),
                        (b"referrer-policy", b"no-referrer")]  # fmt: skip
                message = {**message, "headers": [*message.get("headers", []), *more]}
            await send(message)

        await self._app(scope, receive, add)
