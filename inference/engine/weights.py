"""The weights to write with: base and adapter merged, within the memory and cores allowed."""

import os
from typing import TYPE_CHECKING, Any

from data.artefacts.run import Run, load, with_adapter
from data.console import parse_memory
from data.errors import ModelError
from inference.engine.requests import Settings

if TYPE_CHECKING:
    import torch

_WORTH_THREADS = 20_000_000
_PROBE = 32
# Relative distance (2-norm) of logits before and after merging: rounding of weights alone.
_MERGED_APART = {"torch.bfloat16": 0.1, "torch.float32": 1e-3}


def limit_memory(settings: Settings, device: "torch.device") -> None:
    """Keep this process below ``--memory_limit`` on a GPU."""
    import torch

    if settings.memory_limit and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        share = parse_memory(settings.memory_limit) / total
        torch.cuda.set_per_process_memory_fraction(min(share, 1.0), device)


def limit_threads(settings: Settings, loaded: Any) -> None:
    """Limit torch on a CPU to its share of the cores, and a small model to one of them."""
    import torch

    if settings.threads and loaded.device.type == "cpu":
        # Threads of a small model wait for each other longer than they compute: 64 rows of the
        # sample's model took 1.4 s with one thread, 6 s with two on two busy cores.
        is_small = loaded.num_parameters() < _WORTH_THREADS
        torch.set_num_threads(1 if is_small else settings.threads)


def load_merged(model: Run, device: "torch.device") -> Any:
    """Load base weights, put the adapter into them, in 16 bits on a GPU and 32 on a CPU.

    Raises:
        ModelError: base or adapter are not whole and finite, or do not fit each other.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    # Our own error names missing and other tensors.
    logging.set_verbosity_error()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    loaded = load(model.base, AutoModelForCausalLM, dtype=dtype, device_map={"": device}).eval()
    if model.adapter:
        loaded = _with_adapter(loaded, model.adapter)
    return loaded.eval()


def _with_adapter(loaded: Any, adapter: str) -> Any:
    """Merge an adapter into its base; the merged model must say what both together said."""
    import peft

    both = with_adapter(loaded, adapter, peft)
    before = _probe(both)
    merged = both.merge_and_unload(safe_merge=True)
    apart = float((_probe(merged) - before).norm() / before.norm())
    if not apart <= _MERGED_APART[str(merged.dtype)]:
        expected = "a merge that says what adapter and base say"
        raise ModelError(adapter, expected, f"logits that are {apart:.1%} apart")
    return merged


def _probe(model: Any) -> "torch.Tensor":
    """Compute the logits of a few tokens: float32 [tokens, vocabulary]."""
    import torch

    ids = torch.arange(_PROBE, device=model.device)[None] % model.config.vocab_size
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids).logits[0].float()
    return logits


def free_memory(device: str) -> None:
    """Return GPU memory that torch only keeps: an engine counts it as used."""
    import gc

    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def visible_gpus() -> list[str]:
    """Name the GPUs that this process may use, as CUDA_VISIBLE_DEVICES would."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]
