"""Measuring processes at fault, for the planner's tests; a process starts from a module."""

import os
from multiprocessing.connection import Connection
from pathlib import Path

from data.cli import interrupts
from data.errors import BatchError
from training.plan.candidates import Measured, ModelShape, Speed
from training.plan.worker import Host

HOST = Host(
    ModelShape(2, 32, 64, 16, 600, 10**5, 10**4, 4, 400, False), "cpu", 2**25, 500,
    "transformers", False, 100, 0, Speed(1e12, dict.fromkeys((8, 4, 2, 1), 300.0)),
)  # fmt: skip


def serve(pipe: Connection, *_: object) -> None:
    """Keep to the protocol; keeping all, 8 rows run out of memory and 4 kill the process."""
    pipe.send(HOST)
    while (order := pipe.recv()) is not None:
        candidate, _ = order
        keeps_all = candidate.checkpointing == "none"
        if keeps_all and candidate.micro_batch == 4:
            os._exit(9)
        fault = "out of memory" if keeps_all and candidate.micro_batch == 8 else ""
        pipe.send(
            Measured(
                candidate,
                peak_bytes=2**23,
                samples_per_second=candidate.micro_batch,
                step_seconds=(0.1, 0.1),
                cold_seconds=10.0 + 20.0 * (candidate.micro_batch == 8),
                saving_seconds=float(os.getpid()),
                fault=fault,
            )
        )
        if fault:
            break
    pipe.close()


def refuse(pipe: Connection, *_: object) -> None:
    """Find the input at fault."""
    pipe.send(BatchError("rows", "a label", "none"))
    pipe.close()


def work_for_ever(file: str) -> None:
    """Do what never ends, and write down by which process."""
    interrupts.end_with_parent()
    Path(file).write_text(str(os.getpid()))
    while True:
        sum(range(10**6))
