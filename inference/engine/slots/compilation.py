"""Compile a decoder's step where it pays: one layer for all of them, and the choice of tokens.

What compiling costs and saves is measured by every decoder that compiles and noted beside the
compiler's own caches, a file a card and shape; a first time goes by what was measured on an H100.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

FOLDER = "data/store/compiled"
"""Where compiled code is kept between runs."""


@dataclass(frozen=True)
class Gain:
    """What compiling a step costs and saves."""

    seconds: float
    """It takes."""
    share: float
    """Of a step's time that is saved."""

    def pays(self, steps: float, step_seconds: float) -> bool:
        """Return whether so many steps take less time compiled, compiling included."""
        return steps * step_seconds * self.share > self.seconds


# TinyLlama's shape, 1,024 slots, H100: python -m tests.benchmarks.generate, before any cache.
_USUAL = Gain(seconds=12.0, share=0.45)


def caches() -> dict[str, str]:
    """Return the environment that keeps compiled code in the store, where nothing else is set."""
    wanted = {"TORCHINDUCTOR_CACHE_DIR": FOLDER, "TRITON_CACHE_DIR": f"{FOLDER}/triton"}
    return {name: os.environ.get(name) or os.path.abspath(to) for name, to in wanted.items()}


def expected(key: str) -> Gain:
    """Recall what compiling a step like this cost and saved."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Gain(**json.loads(_note(key).read_text()))
    return _USUAL


def note(key: str, gain: Gain) -> None:
    """Remember what compiling cost and saved; a folder that cannot be written is no fault."""
    with contextlib.suppress(OSError):
        _note(key).parent.mkdir(parents=True, exist_ok=True)
        _note(key).write_text(json.dumps(asdict(gain)))


def _note(key: str) -> Path:
    return Path(caches()["TORCHINDUCTOR_CACHE_DIR"]) / "gains" / f"{key}.json"


@contextlib.contextmanager
def compiled_layers(model: Any, slots: list[Any]) -> Iterator[None]:
    """Let a model's layers run compiled, each on its own slots, within the block.

    Every layer's look alike, so that one compiled layer fits all.
    """
    import torch

    layers = getattr(model, model.base_model_prefix).layers
    numbers = {each: each.layer_idx for each in layers.modules() if hasattr(each, "layer_idx")}
    run = torch.compile(type(layers[0]).forward, dynamic=False)

    def forward(layer: Any, own: Any, *args: Any, **words: Any) -> Any:
        return run(layer, *args, **(words | {"past_key_values": own}))

    try:
        for module in numbers:
            module.layer_idx = 0
        for layer, own in zip(layers, slots, strict=True):
            layer.forward = partial(forward, layer, own)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)
        for module, number in numbers.items():
            module.layer_idx = number
