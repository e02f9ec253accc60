"""Which checkpoints count: those whose marker of digests, written last, fits their files.

A machine may stop while a checkpoint is written, and a disk may damage one later. Neither may end
up in an adapter, so nothing is read from a checkpoint before its marker was compared with it. Pure
work on files: knows nothing of models or trainers.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from data.artefacts.folder import digest_file, flush_names

log = logging.getLogger("catalogue")

MARKER = "complete.json"


def step_of(folder: Path) -> int:
    """Return the step that a checkpoint was saved at; -1 for a folder of another name."""
    match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(match[1]) if match else -1


def of_step(folder: Path, step: int) -> Path:
    """Return the folder of a step's checkpoint, below that of all of them."""
    return folder / f"checkpoint-{step}"


def unmark(folder: Path) -> None:
    """Let a checkpoint no longer count, before its files are written anew."""
    (folder / MARKER).unlink(missing_ok=True)


def mark(folder: Path) -> None:
    """Declare a checkpoint complete: flush its files to disk, then write their digests."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    for path in files:
        _flush(path)
    digests = {path.relative_to(folder).as_posix(): digest_file(path) for path in files}
    temporary = folder / f".tmp-{MARKER}"
    temporary.write_text(json.dumps(digests, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _flush(temporary)
    os.replace(temporary, folder / MARKER)
    flush_names(str(folder))


def _flush(path: Path) -> None:
    # Windows flushes only what is open for writing.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def fault(folder: Path) -> str | None:
    """Return why a checkpoint does not count; None: it is whole."""
    try:
        digests = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "it was not finished"
    except (OSError, ValueError):
        return f"{MARKER} is damaged"
    if not isinstance(digests, dict) or not digests:
        return f"{MARKER} is damaged"
    for name, digest in digests.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if digest_file(folder / name) != digest:
            return f"{name} is damaged"
    return None


def newest(folder: Path) -> Path | None:
    """Find the newest checkpoint that is whole; those passed over are named and removed.

    A run that comes to their step again must not mix its files with theirs, and they would count
    among those kept.
    """
    for path in sorted(_all(folder), key=step_of, reverse=True):
        reason = fault(path)
        if reason is None:
            return path
        log.warning("%s is passed over: %s", path.name, reason)
        shutil.rmtree(path)
    return None


def choose(folder: Path, ranking: Sequence[int], last: int) -> int:
    """Choose the step of the best weights there are; damaged checkpoints are named.

    Args:
        folder: of the checkpoints.
        ranking: steps, the best first.
        last: step of the weights that need no checkpoint; taken where none of the ranking is there.
    """
    steps = {*map(step_of, _all(folder)), last}
    for step in (step for step in ranking if step in steps):
        reason = None if step == last else fault(of_step(folder, step))
        if reason is None:
            return step
        log.warning("%s is passed over: %s", of_step(folder, step).name, reason)
    return last


def finished(folder: Path) -> set[int]:
    """Return the steps of the checkpoints that were finished, by their markers alone."""
    return {step_of(path) for path in _all(folder) if (path / MARKER).exists()}


def rotate(folder: Path, keep: int, ranking: Sequence[int]) -> None:
    """Remove all but the newest checkpoints; the best one counts among those kept.

    Called only once the newest one is marked, so that there is always one to go on from.

    Args:
        folder: of the checkpoints.
        keep: checkpoints that stay, at least 2.
        ranking: steps, the best first; those whose checkpoint is not finished do not count.
    """
    whole = finished(folder)
    best = next((step for step in ranking if step in whole), None)
    paths = sorted(_all(folder), key=lambda path: (step_of(path) != best, -step_of(path)))
    newest_step = max((step_of(path) for path in paths), default=-1)
    for path in paths[keep:]:
        if step_of(path) != newest_step:
            # First its marker: half removed, it must not count.
            unmark(path)
            shutil.rmtree(path)


def _all(folder: Path) -> list[Path]:
    paths = folder.iterdir() if folder.is_dir() else []
    return [path for path in paths if path.is_dir() and step_of(path) >= 0]
