"""A cluster that already runs: its scheduler answers in time, its workers run this very code.

A worker with other code or other libraries would write other rows under the same identity. So all
are checked before they get work, and each task checks the worker that it came to once more.
"""

import functools
import platform
import socket
import types
from collections.abc import Callable, Sequence
from typing import Any

from distributed import Client
from distributed.comm import CommClosedError
from distributed.comm.addressing import parse_host_port

from data.errors import CatalogueError, ConfigError

ANSWER = 30.0
"""Seconds within which a scheduler must answer and at least one worker be there."""
# Seconds for a first connection.
_CONNECT = 10.0
_SCHEMES = ("tcp", "tls", "ws", "wss", "ucx", "inproc")
_HINT = "start one with `dask scheduler` and `dask worker`"
_AGAIN = "the same command goes on from here once they run"
_LIBRARIES = {
    "data": ("pyarrow", "numpy", "xxhash"),
    "preprocessing": ("ftfy", "arro3-io"),
    "inference": ("torch", "transformers", "tokenizers", "peft"),
}
"""What decides the bytes that a package's tasks write."""


def look(packages: Sequence[str], libraries: Sequence[str]) -> dict[str, str]:
    """Describe this process: Python, libraries and the source files of packages.

    Stands alone, as it is sent to workers that may not have this module.
    """
    import hashlib
    import importlib.metadata
    import importlib.util
    import platform
    from pathlib import Path

    facts = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for library in libraries:
        try:
            facts[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            facts[library] = "none"
    for package in packages:
        spec = importlib.util.find_spec(package)
        places = [Path(place) for place in (spec.submodule_search_locations or () if spec else ())]
        files = [(file, place) for place in places for file in sorted(place.rglob("*.py"))]
        digest = hashlib.sha256()
        for file, place in files:
            name = file.relative_to(place).as_posix()
            digest.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
        facts[f"code of {package}"] = digest.hexdigest()[:12] if files else "none"
    return facts


_own = functools.cache(look)


def checked(expected: dict[str, str], scope: tuple[Any, ...], task: Any, *args: Any) -> Any:
    """Do a task on a worker that is like its driver.

    Raises:
        CatalogueError: it is not.
    """
    facts = _own(*scope)
    if facts != expected:
        raise _unlike(f"one on {platform.node()}", expected, facts)
    return task(*args)


def _unlike(where: str, expected: dict[str, str], facts: dict[str, str]) -> CatalogueError:
    differ = ", ".join(
        f"{name} {facts.get(name, 'none')} (here {value})"
        for name, value in expected.items()
        if facts.get(name) != value
    )
    hint = "install the same there and start it again"
    same = "the code and versions of this process"
    return CatalogueError("workers", same, f"{where} with {differ}", hint)


class Joined(Client):  # type: ignore[misc]
    """A client of a running cluster whose tasks run only on workers that are like this process."""

    expected: dict[str, str]
    scope: tuple[tuple[str, ...], tuple[str, ...]]

    def submit(self, func: Any, *args: Any, **options: Any) -> Any:
        """Hand out a task that checks its worker first."""
        return super().submit(checked, self.expected, self.scope, func, *args, **options)


def join(scheduler: str, packages: Sequence[str]) -> Joined:
    """Connect to a running scheduler and check its workers.

    Args:
        scheduler: its address, ``tcp://host:8786``.
        packages: folders of this project whose code the tasks run.

    Raises:
        ConfigError: nothing answers at the address, or it has no workers.
        CatalogueError: a worker has other code or versions.
    """
    scheme = scheduler.partition("://")[0] if "://" in scheduler else "tcp"
    if scheme not in _SCHEMES:
        raise ConfigError("--scheduler", "an address like tcp://host:8786", scheduler)
    none = f"none at {scheduler}"
    try:
        if scheme == "tcp":
            _probe(scheduler)
        client = Joined(scheduler, timeout=_CONNECT)
    except (OSError, TimeoutError, ValueError, ImportError) as error:
        raise ConfigError("--scheduler", "a running scheduler", none, _HINT) from error
    try:
        try:
            client.wait_for_workers(1, timeout=ANSWER)
        except (OSError, TimeoutError) as error:
            raise ConfigError("--scheduler", "workers", none, _HINT) from error
        libraries = tuple(name for package in packages for name in _LIBRARIES.get(package, ()))
        client.scope = (tuple(packages), libraries)
        client.expected = look(*client.scope)
        inspect(client)
    except BaseException:
        client.close(timeout=1)
        raise
    return client


def _probe(scheduler: str) -> None:
    """Wait for the greeting that a scheduler sends; a client waits for ever for that of others.

    Raises:
        OSError: none comes in time.
        ValueError: the address has no port.
    """
    host, port = parse_host_port(scheduler.partition("://")[2] or scheduler)
    with socket.create_connection((host, port), timeout=_CONNECT) as connection:
        if not connection.recv(1):
            raise ConnectionError("closed without a greeting")


def query(
    client: Client, question: Callable[[], Any], answering: str = "a scheduler that answers"
) -> Any:
    """Ask a cluster something, and wait no longer than ``ANSWER`` seconds.

    Args:
        client: of the cluster.
        question: what is asked.
        answering: whose answer it needs, for the error.

    Raises:
        CatalogueError: it does not answer within ``ANSWER`` seconds, or is gone.
    """

    async def answer() -> Any:
        return await question()

    try:
        return client.sync(answer, callback_timeout=ANSWER)
    except (OSError, TimeoutError, RuntimeError, CommClosedError) as error:
        none = f"none from {client.scheduler.address if client.scheduler else 'it'}"
        expected = f"{answering} within {ANSWER:.0f} s"
        raise CatalogueError("--scheduler", expected, none, _AGAIN) from error


def inspect(client: Joined) -> None:
    """Check that all workers of a cluster are like this process.

    Raises:
        CatalogueError: one is not, or does not answer.
    """
    # By reference to Python's own library: the rest is sent as code, which differs by version.
    for address, version in _ask(client, platform.python_version).items():
        minor = ".".join(version.split(".")[:2])
        if minor != client.expected["Python"]:
            expected = {"Python": client.expected["Python"]}
            raise _unlike(f"that at {address}", expected, {"Python": minor})
    alone = types.FunctionType(look.__code__, {"__builtins__": __builtins__}, "look")
    alone.__module__ = "__main__"  # so that it is sent as it is
    for address, facts in _ask(client, alone, *client.scope).items():
        if facts != client.expected:
            raise _unlike(f"that at {address}", client.expected, facts)


def _ask(client: Client, question: Callable[..., Any], *args: Any) -> dict[str, Any]:
    """Ask every worker something; return the answers by address."""

    def run() -> Any:
        return client.run(question, *args, on_error="return")

    answers: dict[str, Any] = query(client, run, "workers that all answer")
    for address, answer in answers.items():
        if isinstance(answer, BaseException):
            raise CatalogueError("workers", "an answer", f"{answer!r} at {address}") from answer
    return answers
