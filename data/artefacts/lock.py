"""One writer a folder: a lock that ends with its process and names who holds it.

Local folders only: object stores know no lock that a kill releases.
"""

import contextlib
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from data.artefacts.folder import Folder
from data.errors import OutputError

log = logging.getLogger("catalogue")

NAME = ".lock"


@contextlib.contextmanager
def locked(folder: Folder, wait: bool = False) -> Iterator[None]:
    """Hold a folder while it is written.

    Args:
        folder: created where it is not there.
        wait: wait for another holder, with a line that names it, instead of refusing.

    Raises:
        OutputError: another process writes the folder.
    """
    if not folder.is_local:
        yield
        return
    from filelock import FileLock, Timeout

    path = Path(folder.path()) / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        if not wait:
            expected = "a folder that no other command writes"
            hint = "wait for it, or name another --out"
            raise OutputError(folder.url, expected, _holder(path), hint) from error
        log.info("%s: waiting, as it is %s", folder.url, _holder(path))
        lock.acquire()
    try:
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = {"process": os.getpid(), "host": platform.node(), "since": started}
        _sign(path).write_text(json.dumps(holder), encoding="utf-8")
        yield
    finally:
        _sign(path).unlink(missing_ok=True)
        # While it is still held: who opened the file meanwhile finds it gone and opens a new one.
        # Windows removes no open file, nor needs it: there the lock itself does, once released.
        with contextlib.suppress(PermissionError):
            path.unlink(missing_ok=True)
        lock.release()
        if not os.path.islink(folder.path()):
            with contextlib.suppress(OSError):  # of a folder that holds something, as it should
                os.rmdir(folder.path())


def _sign(path: Path) -> Path:
    """Name the file that says who holds a lock: Windows lets nobody write into a locked one."""
    return path if os.name == "posix" else path.with_name(f"{NAME}-holder")


def _holder(path: Path) -> str:
    try:
        holder = json.loads(_sign(path).read_text(encoding="utf-8"))
        return f"in work by process {holder['process']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has just begun or just ended
        return "in work by another process"
