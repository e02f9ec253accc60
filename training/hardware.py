"""The hardware: the card or the processor, its memory, and the arithmetic that it has."""

import contextlib
import logging
import platform
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from data.cluster.client import cores
from data.console import parse_memory
from data.errors import ConfigError
from training import processes
from training.config import TrainConfig

log = logging.getLogger("catalogue")

Precision = Literal["bf16", "fp16", "float32"]
_SECONDS_OF_PRODUCTS = 0.5  # until clocks are up
_PROCESSORS, _STATUS = Path("/proc/cpuinfo"), Path("/proc/self/status")


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
        """Return what stays the same as long as the hardware does."""
        return {name: value for name, value in asdict(self).items() if name != "free_bytes"}


def look() -> Hardware:
    """Describe the hardware; a card from a process that ends, as asking it takes up memory."""
    import torch

    if torch.cuda.is_available():
        with processes.start(_look_at_card) as looking:
            return looking.result()
    import psutil

    memory = psutil.virtual_memory()
    return Hardware(_processor(), cores(), None, None, None, memory.total, memory.available)


def _look_at_card() -> Hardware:
    import torch

    card = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info(0)
    capability = f"{card.major}.{card.minor}"
    return Hardware(
        _processor(), cores(), card.name, capability, card.multi_processor_count, total, free
    )


def _processor() -> str:
    text = _PROCESSORS.read_text(encoding="utf-8") if _PROCESSORS.exists() else ""
    match = re.search(r"model name\s*:\s*(.+)", text)
    return match[1] if match else platform.processor() or platform.machine()


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
    """Choose the precision of weights and arithmetic.

    Raises:
        ConfigError: the processor would train in fp16, which takes a GPU's scaler.
    """
    import torch

    choice, on_gpu = config.optimisation.precision, torch.cuda.is_available()
    if choice == "fp16" and not on_gpu:
        expected = "auto, bf16 or float32, as there is no GPU"
        raise ConfigError("--optimisation.precision", expected, choice)
    if choice != "auto":
        return choice
    if not on_gpu:
        return "float32"
    # With emulation, torch says yes of every card.
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    name = torch.cuda.get_device_name()
    log.info("precision: fp16 with a gradient scaler, as %s has no bf16 of its own", name)
    return "fp16"


def weight_bytes(choice: Precision) -> int:
    """Return the bytes of a weight and of an activation."""
    return 4 if choice == "float32" else 2


def multiply(choice: Precision) -> float:
    """Measure the FLOP/s of large matrix products, which no training surpasses."""
    import torch

    on_gpu = torch.cuda.is_available()
    side = 4096 if on_gpu else 1024
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}[choice]
    square = torch.ones(side, side, dtype=dtype, device="cuda" if on_gpu else "cpu")
    seconds: list[float] = []
    while sum(seconds) < _SECONDS_OF_PRODUCTS:
        began = time.perf_counter()
        product = square @ square
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    del product
    return 2 * side**3 / min(seconds)


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
    return {"device": device, "peak_memory_gib": round(peak_bytes() / 2**30, 3)}


def free_bytes() -> int:
    """Return the memory that is free: on the GPU, or on the host without swapping."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    import psutil

    return int(psutil.virtual_memory().available)


def forget_peak() -> None:
    """Measure this process's peak memory anew from here; of a host's only Linux forgets."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_bytes() -> int:
    """Return this process's peak memory since ``forget_peak``: reserved on the GPU, or resident."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    text = _STATUS.read_text(encoding="utf-8") if _STATUS.exists() else ""
    if match := re.search(r"VmHWM:\s+(\d+) kB", text):
        return int(match[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
