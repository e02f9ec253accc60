"""The hardware that a plan's figures hold for: the card, or the processor, and its memory."""

import multiprocessing
import os
import platform
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training import children

_PROCESSORS = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Hardware:
    """What trains here."""

    processor: str
    threads: int
    card: str | None
    """Its name; None: there is none, and the processor trains."""
    capability: str | None
    multiprocessors: int | None
    total_bytes: int
    """Memory of the card, or of the host where there is none."""
    free_bytes: int

    def facts(self) -> dict[str, Any]:
        """Give what stays the same as long as the hardware does."""
        return {name: value for name, value in asdict(self).items() if name != "free_bytes"}


def look() -> Hardware:
    """Look at the hardware; at a card from a process that ends, as a look takes up memory there."""
    import torch

    if not torch.cuda.is_available():
        import psutil

        memory = psutil.virtual_memory()
        return Hardware(_processor(), _threads(), None, None, None, memory.total, memory.available)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=children.end_with_parent) as pool:
        with children.sheltered():
            looking = pool.submit(_look_at_card)
        return looking.result()


def _look_at_card() -> Hardware:
    import torch

    card = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info(0)
    capability = f"{card.major}.{card.minor}"
    return Hardware(
        _processor(), _threads(), card.name, capability, card.multi_processor_count, total, free
    )


def _processor() -> str:
    told = _PROCESSORS.read_text() if _PROCESSORS.exists() else ""
    found = re.search(r"model name\s*:\s*(.+)", told)
    return found[1] if found else platform.processor() or platform.machine()


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
