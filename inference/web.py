"""The driver of ``serve``: the page, its report and a health address on this machine's own port.

Works offline: what Gradio would fetch from elsewhere is taken out of its page, and the browser is
told to load nothing but from here.
"""

import os
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from data import cli
from data.errors import ConfigError, SourceError
from inference import catalogue
from inference.ask_config import ServeConfig
from inference.asking import Desk

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

# Gradio's page works by inline scripts and styles; workers and pictures it makes itself.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; frame-ancestors 'self'; "
    "form-action 'self'; base-uri 'self'; object-src 'none'"
)
_ELSEWHERE = re.compile(
    rb"<script[^>]+src=\"https?://[^>]*></script>|<link[^>]+href=\"https?://[^>]*/?>"
)
_EXAMPLES = ("What is {} like?", "Tell me about {}", "O que é {}?")
_LONGEST_EXAMPLE = 70


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
    import uvicorn

    report = _report(config)
    with closing(_listen(config)) as listener, closing(Desk(config, config.queue)) as desk:
        app = make_app(desk, report, config.queue)
        desk.warm_up()
        port = listener.getsockname()[1]
        cli.say(f"serving on http://{config.host}:{port} (end with Ctrl-C)")
        settings = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(settings).run(sockets=[listener])


def make_app(desk: Desk, report: Path | None = None, waiting: int = 64) -> "FastAPI":
    """Put together the page, ``/health`` and ``/report``."""
    import gradio as gr
    from fastapi import FastAPI
    from fastapi.responses import FileResponse

    from inference import ask_page, rendering

    app = FastAPI(title="Ask about a title", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health")
    def health() -> dict[str, Any]:
        return desk.health()

    if report is not None:

        @app.get("/report")
        def show_report() -> Any:
            return FileResponse(report, media_type="text/html")

    app.middleware("http")(_offline)
    shown = "report" if report is not None else None
    titles = catalogue.count(desk.index)
    layout = ask_page.Layout(titles, _examples(desk), shown, waiting)
    blocks = ask_page.build(desk, layout)
    mounted: FastAPI = gr.mount_gradio_app(
        app, blocks, path="/", theme=ask_page.theme(), css=rendering.STYLE, footer_links=[],
        run_history=False, ssr_mode=False, mcp_server=False, pwa=False, enable_monitoring=False,
    )  # fmt: skip
    return mounted


async def _offline(
    request: "Request", respond: Callable[["Request"], Awaitable["Response"]]
) -> "Response":
    """Take what lies elsewhere out of pages, and forbid the browser to load it."""
    from starlette.responses import Response

    answer: Any = await respond(request)
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "no-referrer"
    if not answer.headers.get("content-type", "").startswith("text/html"):
        return cast("Response", answer)
    body = b"".join([piece async for piece in answer.body_iterator])
    headers = {k: v for k, v in answer.headers.items() if k.lower() != "content-length"}
    headers["Content-Security-Policy"] = _POLICY
    return Response(_ELSEWHERE.sub(b"", body), answer.status_code, headers)


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


def _examples(desk: Desk) -> list[str]:
    titles = catalogue.short_titles(desk.index, _LONGEST_EXAMPLE, len(_EXAMPLES))
    return [form.format(title) for form, title in zip(_EXAMPLES, titles, strict=False)]
