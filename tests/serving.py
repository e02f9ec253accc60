"""A server of its own process, for tests and benchmarks of the page."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests import forked

ROOT = Path(__file__).resolve().parents[1]
_ADDRESS = re.compile(r"http://[\d.]+:\d+")


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
            if address := _ADDRESS.search(line):
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


@contextlib.contextmanager
def serving_forked(*words: str, patience: float = 60) -> Iterator[str]:
    """Run ``inference serve`` in a process that need not import PyTorch; yield its address."""
    with tempfile.TemporaryDirectory() as folder:
        files = output, errors = Path(folder, "output"), Path(folder, "errors")
        command = ["-m", "inference", "serve", "--port=0", *words]
        with forked.started(command, *files, HF_HUB_OFFLINE="1") as server:
            until = time.monotonic() + patience
            while not (output.exists() and (address := _ADDRESS.search(output.read_text()))):
                assert server.poll() is None, errors.read_text()
                assert time.monotonic() < until
                time.sleep(0.05)
            _wait(f"{address[0]}/health", patience)
            yield address[0]


def _wait(url: str, patience: float) -> None:
    until = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310
                return
        except OSError:
            assert time.monotonic() < until, f"{url} does not answer"
            time.sleep(0.1)
