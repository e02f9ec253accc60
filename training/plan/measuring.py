"""The planner's side of measuring: the worker process, and a journal of what it measured."""

import contextlib
import json
import logging
import math
import multiprocessing
import signal
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from data.artefacts.folder import Folder
from data.cli import interrupts
from data.errors import ModelError
from training.config import PlanConfig
from training.plan import worker
from training.plan.candidates import Candidate, Measured
from training.plan.plan import Start
from training.plan.worker import Host

log = logging.getLogger("catalogue")

NAME = "measured.json"
# Importing Unsloth and loading a large model, or a step of a large batch on a slow machine.
_PATIENCE = 900.0
_GOODBYE = 20.0


class Journal:
    """Measurements of a plan in their order, each written before the next is made."""

    def __init__(self, folder: Folder, steps: int) -> None:
        """Read what an interrupted plan left.

        Args:
            folder: of the plan.
            steps: batches measured a candidate; measurements of another number do not count.
        """
        self._folder = folder
        self._steps = steps
        self._returned: Counter[Candidate] = Counter()
        self._kept: list[tuple[Measured, bool]] = []
        if folder.exists(NAME):
            saved = json.loads(folder.read(NAME))
            if saved["steps"] == steps:
                self._kept = [(Measured.from_dict(value), first) for value, first in saved["kept"]]

    @property
    def starts(self) -> list[Start]:
        """What each worker process compiled and allocated at its start, in their order."""
        firsts = (measured for measured, is_first in self._kept if is_first)
        return [(measured.candidate.family, measured.cold_seconds) for measured in firsts]

    def take(self, candidate: Candidate) -> Measured | None:
        """Return the next measurement of a candidate, where an interrupted plan made it."""
        place = self._returned[candidate]
        self._returned[candidate] += 1
        own = [measured for measured, _ in self._kept if measured.candidate == candidate]
        return own[place] if place < len(own) else None

    def keep(self, measured: Measured, is_first: bool) -> None:
        """Write a measurement down.

        Args:
            measured: without a fault.
            is_first: whether its process had measured nothing before.

        Raises:
            OSError: the file system refuses or is full.
        """
        self._kept.append((measured, is_first))
        kept = [(asdict(measured), first) for measured, first in self._kept]
        self._folder.commit(NAME, json.dumps({"steps": self._steps, "kept": kept}).encode())

    def close(self) -> None:
        """Remove it: the finished plan holds all measurements."""
        self._folder.remove(NAME)


class WorkerHandle:
    """The process that measures, started anew for another family or after a fault."""

    def __init__(self, config: PlanConfig, scratch: Path, journal: Journal | None = None) -> None:
        self._config = replace(config, plan=None)  # or it would ask for another one
        self._scratch = scratch
        self._journal = journal
        self._process: Any = None
        self._pipe: Any = None
        self._family: Any = None
        self._seen: set[Candidate] = set()
        self._is_new = True

    def start(self, candidate: Candidate) -> Host:
        """Start a process for a candidate's family; return what it found there.

        Raises:
            CatalogueError: the input is at fault, or the process died.
        """
        self.close()
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        # Not a daemon, which may not start the process that builds a tiny base; should this one
        # be killed, the other notices by its end of the pipe.
        process = context.Process(
            target=worker.serve, args=(other, self._config, candidate, str(self._scratch))
        )
        with interrupts.shielded(signal.SIGTERM):
            process.start()
            self._process = process
        other.close()
        self._family, self._is_new = candidate.family, True
        reply = self._reply()
        if not isinstance(reply, Host):
            hint = "free some memory, or lower --optimisation.batch_size"
            raise ModelError("plan", "", "the process that loads the model died or hung", hint)
        return reply

    def _reply(self) -> Any:
        """Wait for a reply; None where the process died or hangs.

        Raises:
            CatalogueError, OSError: the process met a fault of the input or the machine.
        """
        try:
            reply = self._pipe.recv() if self._pipe.poll(_PATIENCE) else None
        except (EOFError, OSError):
            return None
        if isinstance(reply, Exception):
            raise reply
        return reply

    def measure(self, candidate: Candidate, rival: float = math.inf) -> Measured:
        """Measure a candidate; a process that dies or hangs is a fault of the candidate.

        Args:
            candidate: to be measured.
            rival: seconds of the batch of middling length by the fastest one so far; one that is
                surely slower is left after that batch.
        """
        if self._journal and (earlier := self._journal.take(candidate)):
            log.info("measured before the interruption: %s", candidate)
            return earlier
        if self._process is None or candidate.family != self._family:
            self.start(candidate)
        log.info("measuring %s%s", candidate, " again" if candidate in self._seen else "")
        self._seen.add(candidate)
        self._pipe.send((candidate, rival))
        measured: Measured = self._reply() or Measured(candidate, fault="the process died")
        if measured.fault:
            # Not kept: memory may be free another time, and an interruption kills processes too.
            self.close()
            return measured
        if self._journal:
            self._journal.keep(measured, self._is_new)
        self._is_new = False
        return measured

    def close(self, patience: float = _GOODBYE) -> None:
        """End the process; one that has not ended within so many seconds is killed."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._pipe.send(None)
            self._process.join(patience)
            self._process.kill()  # nothing, where it has ended
            self._process.join()
            self._pipe.close()
        self._process = None
