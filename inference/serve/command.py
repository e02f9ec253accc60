"""The driver of ``serve``: the page, its report and a health address on this machine's own port.

Works offline: what Gradio would fetch from elsewhere is taken out of its page, and the browser is
told to load nothing but from here.
"""

import contextlib
import gc
import importlib
import os
import re
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import console
from data.errors import ConfigError, SourceError
from inference.ask.assistant import Assistant
from inference.config import AssistantConfig, ServeConfig
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
    # Else every answer adds up a table of the last 10,000 of them.
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(2**62))
    import uvicorn

    from inference.serve import connections

    report = _report(config)
    with closing(_listen(config)) as listener, closing(Assistant(config, config.queue)) as desk:
        app = make_app(desk, report, config.queue)
        desk.warm_up()
        # Gradio imports it at the first answer, which kept everybody waiting for a second.
        with contextlib.suppress(ImportError):
            importlib.import_module("matplotlib.pyplot")
        # By default each takes 5 ms before another thread gets its turn, and the loop needs many.
        sys.setswitchinterval(_TURN_SECONDS)
        # Else the collector looks through all that is loaded by now, half a second in the loop.
        gc.collect()
        gc.freeze()
        port = listener.getsockname()[1]
        console.say(f"serving on http://{config.host}:{port} (end with Ctrl-C)")
        settings = uvicorn.Config(
            app, log_level="error", timeout_graceful_shutdown=2, http=connections.Connection,
            ws="none", limit_concurrency=connections.MOST, h11_max_incomplete_event_size=2**14,
            backlog=connections.ACCEPTED_AT_ONCE,
        )  # fmt: skip
        connections.Server(settings).run(sockets=[listener])


def make_app(desk: Assistant, report: Path | None = None, waiting: int = 64) -> "FastAPI":
    """Put together the page, ``/health`` and ``/report``."""
    import gradio as gr
    from fastapi import FastAPI
    from fastapi.responses import FileResponse

    from inference.serve import cards, page

    app = FastAPI(title="Ask about a title", docs_url=None, redoc_url=None, openapi_url=None)

    # Not in one of the threads that answers may fill.
    @app.get("/health")
    async def health() -> dict[str, Any]:
        return desk.health()

    if report is not None:

        @app.get("/report")
        def show_report() -> Any:
            return FileResponse(report, media_type="text/html")

    shown = "report" if report is not None else None
    titles, short = desk.titles(_LONGEST_EXAMPLE, len(_EXAMPLES))
    examples = [form.format(title) for form, title in zip(_EXAMPLES, short, strict=False)]
    layout = page.Layout(titles, examples, shown, waiting)
    blocks = page.build(desk, layout)
    mounted: FastAPI = gr.mount_gradio_app(
        app, blocks, path="/", theme=page.theme(), css=cards.STYLE, footer_links=[],
        run_history=False, ssr_mode=False, mcp_server=False, pwa=False, enable_monitoring=False,
    )  # fmt: skip
    mounted.add_middleware(Offline)
    mounted.add_middleware(guard.Guard, policy=_policy(desk.config, blocks))
    return mounted


def _policy(config: AssistantConfig, blocks: Any) -> guard.Policy:
    """Tell the guard what the page calls and by which names."""
    calls = {
        number: guard.Call(len(each.inputs), bool(each.queue))
        for number, each in blocks.fns.items()
        if each.fn is not None
    }
    served = config if isinstance(config, ServeConfig) else ServeConfig()
    hosts, any_address = guard.names_of(served.host, served.allowed_hosts)
    return guard.Policy(
        hosts=hosts,
        any_address=any_address,
        # Two texts of the longest that may be asked, one of them told twice, each letter written
        # as two escapes.
        largest=3 * 12 * config.max_characters + 4_096,
        calls=calls,
        triggers=frozenset(blocks.blocks),
        asks=next(number for number, each in blocks.fns.items() if each.api_name == "ask"),
    )


class Offline:
    """ASGI middleware that takes what lies elsewhere out of pages and forbids to load it."""

    def __init__(self, app: guard.App) -> None:
        self._app = app

    async def __call__(self, scope: guard.Scope, receive: guard.Receive, send: guard.Send) -> None:
        """Answer one request."""
        begun: list[guard.Scope] = []
        pieces: list[bytes] = []

        async def change(message: guard.Scope) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
                kinds = [value for key, value in message["headers"] if key == b"content-type"]
                if kinds and kinds[0].startswith(b"text/html"):
                    begun.append(message)
                    return
            if begun:
                pieces.append(message.get("body", b""))
                if message.get("more_body"):
                    return
                message = {
                    "type": "http.response.body",
                    "body": _ELSEWHERE.sub(b"", b"".join(pieces)),
                }
                await send(_page(begun.pop(), len(message["body"])))
            await send(message)

        if scope["type"] == "http":
            # Compressing would take longer than sending, and a page must be read here.
            own = [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"]
            await self._app({**scope, "headers": own}, receive, change)
        else:
            await self._app(scope, receive, send)


def _page(start: guard.Scope, length: int) -> guard.Scope:
    """Give the beginning of a page's answer with its new length and its policy."""
    kept = [pair for pair in start["headers"] if pair[0] != b"content-length"]
    added = [(b"content-length", str(length).encode()), (b"content-security-policy", _POLICY)]
    return {**start, "headers": [*kept, *added]}


def _report(config: ServeConfig) -> Path | None:
    if config.report is None:
        return None
    path = Path(config.report)
    file = path / "report.html" if path.is_dir() else path
    if not file.is_file():
        mend = "make one with `python -m inference evaluate`"
        raise SourceError(config.report, "a report.html", "none", mend)
    return file


def _listen(config: ServeConfig) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        where, found = f"{config.host}:{config.port}", str(error.strerror or error)
        raise ConfigError(where, "a free port", found, "name another --port") from error
    return listener
