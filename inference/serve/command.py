"""The driver of ``serve``: loads what answers, says so, and listens on this machine's own port."""

import gc
import os
import sys
from contextlib import closing

from data import console
from inference.ask import Assistant
from inference.config import ServeConfig
from inference.serve import guard
from inference.serve.about import find_report

_TURN_SECONDS = 0.0005


def run(config: ServeConfig) -> None:
    """Serve until interrupted.

    Raises:
        ConfigError: the port is taken.
        ModelError: the model is missing.
        SourceError: the report is missing.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import uvicorn

    from inference.serve import app, connections

    report = find_report(config)
    with closing(connections.listen(config.host, config.port)) as listener:
        with console.Waiting(f"reading {config.run} and the titles of {config.catalogue}"):
            assistant = Assistant(config, config.queue)
        with closing(assistant):
            built = app.build(config, assistant, report)
            model = assistant.model
            console.say(f"loading {model.base}{' and its adapter' if model.adapter else ''} …")
            assistant.warm_up()
            _keep_the_loop_quick()
            port = listener.getsockname()[1]
            console.say(f"serving on http://{config.host}:{port} (end with Ctrl-C)")
            settings = uvicorn.Config(
                built, log_level="error", timeout_graceful_shutdown=2,
                http=connections.Connection, ws="none", limit_concurrency=connections.MOST,
                backlog=connections.ACCEPTED_AT_ONCE,
                h11_max_incomplete_event_size=guard.LONGEST_HEAD,
            )  # fmt: skip
            connections.Server(settings).run(sockets=[listener])


def _keep_the_loop_quick() -> None:
    """Do now, or never, what would keep the thread that serves all connections waiting later."""
    # A thread that computes keeps the interpreter for 5 ms by default, and each request needs it
    # many times.
    sys.setswitchinterval(_TURN_SECONDS)
    # Each full collection of garbage would look through every object that exists by now, for half
    # a second; frozen ones are left out.
    gc.collect()
    gc.freeze()
