"""A server of its own process, for tests and benchmarks of the page."""

import contextlib
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def serving(
    *words: str, module: str = "inference", patience: float = 60
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``inference serve`` on a free port; yield its address and its process."""
    command = [sys.executable, "-m", module, "serve", "--port=0", *words]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        said = []
        for line in server.stdout:
            said.append(line)
            if address := re.search(r"http://[\d.]+:\d+", line):
                break
        else:
            raise AssertionError(f"the server said {said!r}")
        _wait(f"{address[0]}/health", patience)
        yield address[0], server
    finally:
        server.kill()
        server.wait()
        if server.stdout:
            server.stdout.close()


def _wait(url: str, patience: float) -> None:
    until = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310
                return
        except OSError:
            assert time.monotonic() < until, f"{url} does not answer"
            time.sleep(0.1)
