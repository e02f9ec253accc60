"""Micro-batches as CUDA graphs: recorded once a shape, then one launch instead of thousands.

A processor launches a kernel in 20 to 70 microseconds; small models, small micro-batches and quick
cards wait for it. Knows nothing of TRL, rows or files.
https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from data.console import first_line

log = logging.getLogger("catalogue")

Step = Callable[[dict[str, torch.Tensor], Any], torch.Tensor]
"""Trains on a micro-batch, given the tokens that its step's loss is the mean over; returns the
loss."""

# Micro-batches that run as they are first: their kernels compile, and choose their settings.
_WARM_UP = 3
# A graph keeps its kernels' arguments, some megabytes; the one not needed for longest makes room.
_MOST = 64
# What compiles in a recording spoils it. Not for ever: it has compiled then.
_FAILURES = 3
# How far the loss of the first graph may be from the loss as it is: rounding, summed otherwise.
_APART = 1e-3


@dataclass(frozen=True)
class _Graph:
    graph: Any
    inputs: dict[str, torch.Tensor]
    tokens: Any
    loss: torch.Tensor

    def replay(self, inputs: dict[str, torch.Tensor], tokens: Any) -> torch.Tensor:
        for name, values in inputs.items():
            self.inputs[name].copy_(values)
        if isinstance(tokens, torch.Tensor):
            self.tokens.copy_(tokens)
        self.graph.replay()
        return self.loss.clone()


class Graphs:
    """The graphs of a training, by shape; what cannot be recorded runs as it is.

    Args:
        parameters: that are trained. Their gradients stay in the same memory from now on.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        self._gradients = [(p, torch.zeros_like(p)) for p in parameters]
        self._graphs: dict[tuple[int, ...], _Graph] = {}
        # One for all, as they run one after the other.
        self._pool = torch.cuda.graph_pool_handle()
        self._warm = self._failures = 0
        self.recording = 0.0
        """Seconds that recording took so far."""

    def train(self, step: Step, inputs: dict[str, torch.Tensor], tokens: Any) -> torch.Tensor:
        """Train on a micro-batch.

        Args:
            step: what to do, the same every time.
            inputs: of the micro-batch, on the GPU, [rows, longest] each.
            tokens: of the step, a tensor or a number.

        Returns:
            The loss, a scalar; gradients are added to those that there are.
        """
        if self._failures == _FAILURES:
            return step(inputs, tokens)
        self._attach()
        shape = tuple(inputs["input_ids"].shape)
        if self._warm >= _WARM_UP and shape not in self._graphs:
            self._graphs |= self._recorded(step, inputs, tokens)
        if graph := self._graphs.pop(shape, None):
            self._graphs[shape] = graph  # the last one needed
            return graph.replay(inputs, tokens)
        loss = step(dict(inputs), tokens)
        self._warm += 1
        if self._warm == _WARM_UP:
            self._graphs |= self._recorded(step, inputs, tokens, float(loss))
        return loss

    def _attach(self) -> None:
        """Give the parameters their gradients again, cleared: an optimizer's step drops them."""
        dropped = [pair for pair in self._gradients if pair[0].grad is not pair[1]]
        if dropped:
            torch._foreach_zero_([gradient for _, gradient in dropped])
        for parameter, gradient in dropped:
            parameter.grad = gradient

    def _recorded(
        self, step: Step, inputs: dict[str, torch.Tensor], tokens: Any, loss: float | None = None
    ) -> dict[tuple[int, ...], _Graph]:
        """Record a shape; empty where that fails, or where the loss is known and is another."""
        if len(self._graphs) == _MOST:
            self._graphs.pop(next(iter(self._graphs)))
        stream = torch.cuda.current_stream()
        try:
            graph = _record(step, inputs, tokens, self._pool)
            if loss is not None:
                self._check(graph, inputs, tokens, loss)
        # Whatever waits for the GPU cannot be recorded, and libraries say so in their own words.
        except Exception as error:
            torch.cuda.set_stream(stream)
            self._failures += 1
            self._graphs.clear()  # and with them their memory, for what runs as it is now
            log.debug("no CUDA graph: %s", first_line(error))
            return {}
        return {tuple(inputs["input_ids"].shape): graph}

    def _check(
        self, graph: _Graph, inputs: dict[str, torch.Tensor], tokens: Any, loss: float
    ) -> None:
        before = [gradient.clone() for _, gradient in self._gradients]
        replayed = float(graph.replay(inputs, tokens))
        torch._foreach_copy_([gradient for _, gradient in self._gradients], before)
        if not abs(replayed - loss) <= _APART * abs(loss):
            self._failures = _FAILURES - 1
            raise RuntimeError(f"its loss is {replayed:.5f} where {loss:.5f} was")


def _record(step: Step, inputs: dict[str, torch.Tensor], tokens: Any, pool: Any) -> _Graph:
    own = {name: values.clone() for name, values in inputs.items()}
    own_tokens = tokens.clone() if isinstance(tokens, torch.Tensor) else tokens
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    # Relaxed: kernels are loaded by their first launch, which stricter modes forbid.
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="relaxed"):
        loss = step(dict(own), own_tokens)
    return _Graph(graph, own, own_tokens, loss)
