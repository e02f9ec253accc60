"""The hardware that a plan's figures hold for: the card, or the processor, and its memory."""

import logging
import multiprocessing
import os
import platform
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from data.console import parse_memory
from training import children
from training.config import TrainConfig

log = logging.getLogger("catalogue")

Precision = Literal["bf16", "float32"]
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


def limit_memory(config: TrainConfig) -> None:
    """Keep this process below ``--memory_limit`` on the GPU."""
    import torch

    if config.memory_limit is None:
        return
    if not torch.cuda.is_available():
        log.warning("--memory_limit has no effect: there is no GPU here")
        return
    limit, total = parse_memory(config.memory_limit), torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))


def precision(config: TrainConfig) -> Precision:
    """Choose the precision of weights and arithmetic."""
    import torch

    asked = config.optimisation.precision
    if asked != "auto":
        return asked
    if not torch.cuda.is_available():
        return "float32"
    # With emulation, torch says yes of every card.
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    name = torch.cuda.get_device_name()
    log.warning("precision: float32, as %s has no bf16 of its own", name)
    return "float32"


def machine() -> dict[str, Any]:
    """Name the device and its peak memory: what CUDA reserved, or the process's resident set."""
    import torch

    if torch.cuda.is_available():
        return {
            "device": torch.cuda.get_device_name(),
            "peak_memory_gib": round(torch.cuda.max_memory_reserved() / 2**30, 3),
            "peak_allocated_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3),
        }
    device = f"cpu, {torch.get_num_threads()} threads"
    return {"device": device, "peak_memory_gib": round(_peak_resident() / 2**30, 3)}


def _peak_resident() -> int:
    """Give this process's largest resident set so far, in bytes."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
