"""The driver of ``serve``: the page, its report and a health address on this machine's own port.

Works offline: what Gradio would fetch from elsewhere is taken out of its page, and the browser is
told to load nothing but from here.
"""

import contextlib
import gc
import importlib
import importlib.resources
import os
import re
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import console
from data.errors import ConfigError, SourceError
from inference.ask import Assistant
from inference.config import ServeConfig
from inference.serve import guard

if TYPE_CHECKING:
    from fastapi import FastAPI

# Gradio's page works by inline scripts and styles; workers and pictures it makes itself.
_POLICY = (
    b"default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    b"style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; frame-ancestors 'self'; "
    b"form-action 'self'; base-uri 'self'; object-src 'none'"
)
_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
_ELSEWHERE = re.compile(
    rb"<script[^>]+src=\"https?://[^>]*></script>|<link[^>]+href=\"https?://[^>]*/?>"
)
_EXAMPLES = ("What is {} like?", "Tell me about {}", "O que é {}?")
_LONGEST_EXAMPLE = 70
_TURN_SECONDS = 0.0005


def run(config: ServeConfig) -> None:
    """Serve until interrupted.

    Raises:
        ConfigError: the port is taken.
        ModelError: the model is missing.
        SourceError: the report is missing.
    """
    # Before Gradio is imported, which reads them then.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # By default every answer adds up a table of the last 10,000 answers.
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(2**62))
    import uvicorn

    from inference.serve import connections

    report = _report(config)
    with (
        closing(_listen(config)) as listener,
        closing(Assistant(config, config.queue)) as assistant,
    ):
        app = make_app(assistant, config, report)
        assistant.warm_up()
        _keep_the_loop_quick()
        port = listener.getsockname()[1]
        console.say(f"serving on http://{config.host}:{port} (end with Ctrl-C)")
        settings = uvicorn.Config(
            app, log_level="error", timeout_graceful_shutdown=2, http=connections.Connection,
            ws="none", limit_concurrency=connections.MOST, backlog=connections.ACCEPTED_AT_ONCE,
            h11_max_incomplete_event_size=guard.LONGEST_HEAD,
        )  # fmt: skip
        connections.Server(settings).run(sockets=[listener])


def _keep_the_loop_quick() -> None:
    """Do now, or never, what would keep the thread that serves all connections waiting later."""
    # Gradio imports it at the first answer, which takes a second.
    with contextlib.suppress(ImportError):
        importlib.import_module("matplotlib.pyplot")
    # A thread that computes keeps the interpreter for 5 ms by default, and each request needs it
    # many times.
    sys.setswitchinterval(_TURN_SECONDS)
    # Each full collection of garbage would look through every object that exists by now, for half
    # a second; frozen ones are left out.
    gc.collect()
    gc.freeze()


def make_app(assistant: Assistant, config: ServeConfig, report: Path | None = None) -> "FastAPI":
    """Put together the page, ``/health`` and ``/report``."""
    import gradio as gr
    from fastapi import FastAPI
    from fastapi.responses import FileResponse

    from inference.serve import page

    app = FastAPI(title="Ask about a title", docs_url=None, redoc_url=None, openapi_url=None)

    # In the loop itself, as answers may fill all threads.
    @app.get("/health")
    async def health() -> dict[str, Any]:
        return assistant.health()

    if report is not None:

        @app.get("/report")
        def show_report() -> Any:
            return FileResponse(report, media_type="text/html")

    count, titles = assistant.titles(_LONGEST_EXAMPLE, len(_EXAMPLES))
    examples = [form.format(title) for form, title in zip(_EXAMPLES, titles, strict=False)]
    address = "report" if report is not None else None
    blocks = page.build(assistant, count, examples, address, config.queue)
    css = importlib.resources.files("inference.serve").joinpath("page.css").read_text("utf-8")
    mounted: FastAPI = gr.mount_gradio_app(
        app, blocks, path="/", theme=page.theme(), css=css, footer_links=[],
        run_history=False, ssr_mode=False, mcp_server=False, pwa=False, enable_monitoring=False,
    )  # fmt: skip
    mounted.add_middleware(Offline)
    mounted.add_middleware(guard.Guard, policy=_policy(config, blocks))
    return mounted


def _policy(config: ServeConfig, blocks: Any) -> guard.Policy:
    """Collect what the page calls and by which names."""
    functions = {number: call for number, call in blocks.fns.items() if call.fn is not None}
    hosts, any_address = guard.names_of(config.host, config.allowed_hosts)
    return guard.Policy(
        hosts=hosts,
        any_address=any_address,
        # Question and title, one of them sent twice, are as long as may be asked at most, and each
        # letter may be written as two escapes of six bytes.
        largest=3 * 12 * config.max_characters + 4_096,
        calls={
            number: guard.Call(len(call.inputs), bool(call.queue))
            for number, call in functions.items()
        },
        triggers=frozenset(blocks.blocks),
        asks=next(number for number, call in functions.items() if call.api_name == "ask"),
    )


class Offline:
    """ASGI middleware that takes what lies elsewhere out of pages and forbids to load it."""

    def __init__(self, app: guard.App) -> None:
        self._app = app

    async def __call__(self, scope: guard.Scope, receive: guard.Receive, send: guard.Send) -> None:
        """Answer one request."""
        start: guard.Scope | None = None
        body = b""

        async def change(message: guard.Scope) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
                kind = next((value for key, value in message["headers"] if key == b"content-type"),
                            b"")  # fmt: skip
                if kind.startswith(b"text/html"):
                    start = message  # is sent when the length of the page is known
                    return
            if start is None:
                await send(message)
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                page = _ELSEWHERE.sub(b"", body)
                await send(_page_start(start, len(page)))
                await send({"type": "http.response.body", "body": page})

        if scope["type"] == "http":
            # A page must be readable here, and to compress takes longer than to send.
            headers = [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"]
            scope = {**scope, "headers": headers}
        await self._app(scope, receive, change)


def _page_start(start: guard.Scope, length: int) -> guard.Scope:
    """Return the start of a page's response with its new length and its policy."""
    headers = [pair for pair in start["headers"] if pair[0] != b"content-length"]
    headers += [(b"content-length", str(length).encode()), (b"content-security-policy", _POLICY)]
    return {**start, "headers": headers}


def _report(config: ServeConfig) -> Path | None:
    if config.report is None:
        return None
    path = Path(config.report)
    file = path / "report.html" if path.is_dir() else path
    if not file.is_file():
        hint = "make one with `python -m inference evaluate`"
        raise SourceError(config.report, "a report.html", "none", hint)
    return file


def _listen(config: ServeConfig) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        where, reason = f"{config.host}:{config.port}", str(error.strerror or error)
        raise ConfigError(where, "a free port", reason, "name another --port") from error
    return listener
