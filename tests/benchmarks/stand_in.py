"""A small card's stand-in on a large one: few multiprocessors, handed out by NVIDIA's MPS.

``python -m tests.benchmarks.stand_in`` prints what the card at hand, or its share, multiplies and
copies. Nothing of the card's settings is changed: MPS is a program of this user's, and it is ended
whatever ends this process.
"""

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from data import console


@dataclass(frozen=True)
class Card:
    """What stands in for a card."""

    percent: int
    """Of a large card's threads."""
    memory_limit: str
    own_tflops: float
    """The card's own matrix products in bf16, as its maker says, in 1e12 FLOP/s."""


CARDS = {"3060": Card(3, "11.65GiB", 25.5)}
_GUARD = "read -r _; echo quit | nvidia-cuda-mps-control"
_SIDE, _ROUNDS, _WORDS = 8192, 6, 2**28


@contextlib.contextmanager
def share(percent: int) -> Iterator[None]:
    """Let all that is started inside have so much of the GPU; this process must not use it before.

    A shell that waits for the end of a pipe ends MPS: at the end of the block, or once this process
    is gone.
    """
    with tempfile.TemporaryDirectory() as pipes, tempfile.TemporaryDirectory() as logs:
        mps = {"CUDA_MPS_PIPE_DIRECTORY": pipes, "CUDA_MPS_LOG_DIRECTORY": logs}
        earlier = dict(os.environ)
        os.environ |= mps
        guard = subprocess.Popen(
            ["sh", "-c", _GUARD], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            subprocess.run(["nvidia-cuda-mps-control", "-d"], check=True, timeout=30)
            time.sleep(2)
            os.environ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(percent)
            yield
        finally:
            os.environ.clear()
            os.environ |= earlier
            with contextlib.suppress(subprocess.TimeoutExpired):  # a client is left: it waits on
                guard.communicate(timeout=60)


def measure() -> dict[str, float]:
    """Measure bf16 products of large matrices, and copies within the card's memory."""
    import torch

    square = torch.randn(_SIDE, _SIDE, device="cuda", dtype=torch.bfloat16)
    words = torch.empty(_WORDS, device="cuda", dtype=torch.bfloat16)
    target = torch.empty_like(words)
    return {
        "multiprocessors": torch.cuda.get_device_properties(0).multi_processor_count,
        "tflops": 2 * _SIDE**3 / _seconds(lambda: square @ square) / 1e12,
        "gb_a_second": 2 * 2 * _WORDS / _seconds(lambda: target.copy_(words)) / 1e9,
    }


def _seconds(work: Callable[[], object]) -> float:
    import torch

    times = []
    for _ in range(_ROUNDS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times)


def flop_a_token(shape: dict[str, int], kept_share: float, rank: int = 16) -> float:
    """Count the arithmetic of training a LoRA adapter on all projections of a Llama.

    A frozen weight costs 2 FLOP a token forward, 2 backward, and 2 more where its layer's
    activations are recomputed; an adapter's own weight 2 more for its gradient. Attention itself is
    left out, some 2 % for 200 tokens.
    """
    hidden, inner, layers = (
        shape[f"{name}"] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")
    )
    keys = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
    sides = [(hidden, hidden)] * 2 + [(hidden, keys)] * 2 + [(hidden, inner)] * 3
    frozen = sum(one * other for one, other in sides)
    adapter = rank * sum(one + other for one, other in sides)
    redone = 1 - kept_share
    a_layer = 2 * (frozen + adapter) * (2 + redone) + 2 * adapter
    return layers * a_layer + 4 * hidden * shape["vocab_size"]


def _main() -> None:
    console.say(json.dumps(measure()))


if __name__ == "__main__":
    _main()
