"""Commands in processes forked from one that has imported what they need: PyTorch, or Unsloth too.

To import it takes some seven seconds of a processor, each time that a command is started anew. A
forked one is a process of its own all the same, with its own session, words, environment, folder
and output; it ends by itself or by kill -9. Each kind of server is started once by all workers of
pytest-xdist together, and ends with pytest. Linux alone forks safely: elsewhere commands are
started anew.
"""

import gc
import importlib
import json
import os
import runpy
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import psutil
from filelock import FileLock

from tests import killing
from tests.builders import ROOT

Kind = Literal["transformers", "unsloth"]
_LOOP = ("training.run", "training.loop.trainer", "inference.engine")
_IMPORTS: dict[Kind, Sequence[str]] = {"transformers": _LOOP, "unsloth": ("unsloth", *_LOOP)}
_PATIENCE = 120.0


class Forked:
    """A forked process, as far as tests need it what ``subprocess.Popen`` is."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._replies = connection.makefile("r")
        self.pid = int(self._replies.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, the negative number of a signal, or None while it runs."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = int(self._replies.readline())
            self._replies.close()
            self._connection.close()
        return self.returncode


Process = Forked | subprocess.Popen[bytes]


@contextmanager
def started(
    words: Sequence[str], output: Path, errors: Path, kind: Kind = "transformers", **env: str
) -> Iterator[Process]:
    """Run ``python WORDS`` from the checkout; the block's end kills what is left of its group.

    Args:
        words: ``-m MODULE …`` or ``-c CODE …``.
        output: file to which standard output is appended.
        errors: the same for standard error.
        kind: what is imported already; Unsloth changes the libraries of every process it is in.
        env: added to the environment of this process.
    """
    files = (str(output), str(errors))
    order = {"words": words, "files": files, "env": os.environ | env}
    process = _forked(order, kind) if sys.platform == "linux" else _anew(order)
    with killing.none_left(process):
        yield process


def run_python(
    *words: str, kind: Kind = "transformers", **env: str
) -> "subprocess.CompletedProcess[str]":
    """Run ``python WORDS`` to its end, as ``builders.run_python`` does anew."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        with started(words, output, errors, kind, **env) as process:
            code = process.wait(_PATIENCE)
        return subprocess.CompletedProcess(words, code, output.read_text(), errors.read_text())


def _anew(order: dict[str, Any]) -> "subprocess.Popen[bytes]":
    words = [sys.executable, *order["words"]]
    with open(order["files"][0], "ab") as output, open(order["files"][1], "ab") as errors:
        return subprocess.Popen(
            words, cwd=ROOT, env=order["env"], stdout=output, stderr=errors, start_new_session=True
        )


def _forked(order: dict[str, Any], kind: Kind) -> Forked:
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))[:12]
    address = str(Path(tempfile.gettempdir(), f"forked-{os.getuid()}-{run}-{kind}"))
    with FileLock(address + ".lock"):
        if not Path(address).exists():
            _start_server(address, kind)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    with connection.makefile("w") as requests:
        print(json.dumps(order), file=requests)
    return Forked(connection)


def _start_server(address: str, kind: Kind) -> None:
    pytest = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    words = [sys.executable, "-m", "tests.forked", address, str(pytest), *_IMPORTS[kind]]
    with open(address + ".log", "ab") as log:
        subprocess.run(
            words, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            start_new_session=True, check=True,
        )  # fmt: skip


def serve(address: str, pytest: int, imports: Sequence[str]) -> None:
    """Import, then fork a process for each order until pytest is gone; returns in each of them."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(16)
    if os.fork():  # who started it need not wait for its end, and what comes first waits here
        os._exit(0)
    listener.settimeout(0.5)
    for name in imports:
        importlib.import_module(name)
    gc.freeze()  # or a collection would copy all that was imported
    while psutil.pid_exists(pytest):
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listener.close()
            _become(_keep(connection))
            return
        connection.close()
    for suffix in ("", ".lock", ".log"):
        Path(address + suffix).unlink(missing_ok=True)


def _keep(connection: socket.socket) -> dict[str, Any]:
    """Fork once more; one process tells the number and the end of the other, which returns."""
    with connection.makefile("rw") as stream:
        order: dict[str, Any] = json.loads(stream.readline())
        pid = os.fork()
        if pid:
            print(pid, file=stream, flush=True)
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status), file=stream, flush=True)
            os._exit(0)
    connection.close()
    return order


def _become(order: dict[str, Any]) -> None:
    """Be ``python WORDS``."""
    os.setsid()
    os.environ.clear()
    os.environ.update(order["env"])
    for number, name in enumerate(order["files"], start=1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    if threads := os.environ.get("OMP_NUM_THREADS"):  # which is read when PyTorch is imported
        import torch

        torch.set_num_threads(int(threads))
    how, what, *more = order["words"]
    sys.argv = [what, *more]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
