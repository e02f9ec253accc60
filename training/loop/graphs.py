"""A model's layers as CUDA graphs: recorded once a shape, then two launches instead of thousands.

A processor launches a kernel in 20 to 70 microseconds; small models, small micro-batches and quick
cards wait for it. The loss is no part of them: libraries make the logits of learned tokens alone,
whose number the host must know. Knows nothing of TRL, rows or files.
https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPast

from data.console import first_line
from training.job import Job

log = logging.getLogger("catalogue")

WARM_UP = 3
"""Micro-batches that run as they are first: their kernels compile, and choose their settings."""

# A graph keeps its kernels' arguments, some megabytes; the one not needed for longest makes room.
_MOST = 128
# What compiles in a recording spoils it. Not for ever: it has compiled then.
_FAILURES = 3
# How far the first graph's gradients may be from those as they are: rounding, summed otherwise.
_APART = 0.02


def are_for(job: Job, layers: int) -> bool:
    """Tell whether a job's layers may be recorded.

    Not where recomputing asks for random states, a scaler for its scale, dropout for new numbers,
    or several processes for each other; 4 bits were not tried.
    """
    config, how = job.config, job.config.optimisation
    kept = how.gradient_checkpointing == "none" or how.keep_layers >= layers
    is_exact = job.precision != "fp16" and not config.lora.dropout and config.quantize is None
    return torch.cuda.is_available() and job.ranks.count == 1 and kept and is_exact


@dataclass(frozen=True)
class _Graph:
    """The forward and the backward pass of one shape."""

    inputs: dict[str, torch.Tensor]
    forward: torch.cuda.CUDAGraph
    hidden: torch.Tensor
    """What the layers say, [rows, longest, hidden]."""
    gradient: torch.Tensor
    """Of ``hidden``."""
    backward: torch.cuda.CUDAGraph


class _Replay(torch.autograd.Function):  # type: ignore[misc]
    """Replays a graph's two passes where autograd comes to them."""

    @staticmethod
    def forward(ctx: Any, graph: _Graph, _is_differentiable: torch.Tensor) -> torch.Tensor:
        ctx.graph = graph
        graph.forward.replay()
        return graph.hidden.detach()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, None]:
        ctx.graph.gradient.copy_(gradient)
        ctx.graph.backward.replay()
        return None, None


class Graphs:
    """The graphs of a training, by shape; what cannot be recorded runs as it is.

    Args:
        model: with its adapter. The gradients of what is trained stay in the same memory from now
            on.
    """

    def __init__(self, model: Any) -> None:
        base = model.get_base_model()
        self._body = getattr(base, base.base_model_prefix)
        trained = [p for p in model.parameters() if p.requires_grad]
        self._gradients = [(p, torch.zeros_like(p)) for p in trained]
        self._one = torch.ones((), device=trained[0].device, requires_grad=True)
        self._graphs: dict[tuple[Any, ...], _Graph] = {}
        # One for all, as they run one after the other.
        self._pool = torch.cuda.graph_pool_handle()
        self._warm = self._failures = 0
        self.seconds: list[float] = []
        """That each recording took."""

    def train(self, step: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Train on a micro-batch.

        Args:
            step: runs the model and adds to the gradients; returns the loss, a scalar.
        """
        if self._failures == _FAILURES:
            return step()
        self._attach()
        if self._warm == WARM_UP:
            return self._with_graphs(step)
        self._warm += 1
        if self._warm < WARM_UP:
            return step()
        return self._checked(step)

    def _attach(self) -> None:
        """Give the parameters their gradients again, cleared: an optimizer's step drops them."""
        dropped = [pair for pair in self._gradients if pair[0].grad is not pair[1]]
        if dropped:
            torch._foreach_zero_([gradient for _, gradient in dropped])
        for parameter, gradient in dropped:
            parameter.grad = gradient

    def _checked(self, step: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Train as it is and, to compare, by the first graph; what the former did counts."""
        gradients = [gradient for _, gradient in self._gradients]
        before = [gradient.clone() for gradient in gradients]
        loss = step()
        after = [gradient.clone() for gradient in gradients]
        own = torch._foreach_sub(after, before)
        torch._foreach_copy_(gradients, before)
        self._with_graphs(step)
        others = torch._foreach_sub(gradients, before)
        torch._foreach_copy_(gradients, after)
        apart = _norm(torch._foreach_sub(others, own)) / _norm(own)
        if self._graphs and not apart <= _APART:
            log.debug("no CUDA graphs: gradients are %.1f %% apart", 100 * apart)
            self._graphs.clear()
            self._failures = _FAILURES
        return loss

    def _with_graphs(self, step: Callable[[], torch.Tensor]) -> torch.Tensor:
        plain, own = self._body.forward, self._body.__dict__.get("forward")

        def forward(*arguments: Any, **words: Any) -> Any:
            graph = None if arguments else self._graph(plain, words)
            return self._replayed(graph, words) if graph else plain(*arguments, **words)

        self._body.forward = forward
        try:
            return step()
        finally:
            del self._body.forward
            if own is not None:
                self._body.forward = own

    def _replayed(self, graph: _Graph, words: dict[str, Any]) -> BaseModelOutputWithPast:
        for name, values in graph.inputs.items():
            values.copy_(words[name])
        return BaseModelOutputWithPast(last_hidden_state=_Replay.apply(graph, self._one))

    def _graph(self, forward: Callable[..., Any], words: dict[str, Any]) -> _Graph | None:
        """Return the graph for these arguments, recorded now where there is none; None: as it is.

        Its own arguments but for tensors, which are copied, are those of its recording.
        """
        tensors = {name: v for name, v in words.items() if isinstance(v, torch.Tensor)}
        key = tuple((name, tuple(values.shape)) for name, values in tensors.items())
        graph = self._graphs.pop(key, None)
        if graph is None and self._failures < _FAILURES:
            graph = self._recorded(forward, words, tensors)
        if graph:
            self._graphs[key] = graph  # behind all others: the last one needed
        return graph

    def _recorded(
        self, forward: Callable[..., Any], words: dict[str, Any], tensors: dict[str, torch.Tensor]
    ) -> _Graph | None:
        if len(self._graphs) == _MOST:
            self._graphs.pop(next(iter(self._graphs)))
        stream = torch.cuda.current_stream()
        stream.synchronize()
        began = time.perf_counter()
        try:
            graph = _record(forward, words, tensors, self._pool)
            self.seconds.append(time.perf_counter() - began)
            return graph
        # Whatever waits for the GPU cannot be recorded, and libraries say so in their own words.
        except Exception as error:
            torch.cuda.set_stream(stream)
            log.debug("no CUDA graph: %s", first_line(error))
            self._failures += 1
            self._graphs.clear()  # and with them their memory, for what runs as it is
            self._pool = torch.cuda.graph_pool_handle()
            return None


def _record(
    forward: Callable[..., Any], words: dict[str, Any], tensors: dict[str, torch.Tensor], pool: Any
) -> _Graph:
    inputs = {name: values.clone() for name, values in tensors.items()}
    passes = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    # Relaxed: kernels are loaded by their first launch, which stricter modes forbid.
    how = {"pool": pool, "capture_error_mode": "relaxed"}
    with torch.cuda.graph(passes[0], **how):
        hidden = forward(**words | inputs)[0]
    gradient = torch.empty_like(hidden)
    with torch.cuda.graph(passes[1], **how):
        torch.autograd.backward(hidden, gradient)
    return _Graph(inputs, passes[0], hidden.detach(), gradient, passes[1])


def _norm(tensors: Any) -> float:
    return float(torch.stack(torch._foreach_norm(tensors)).norm())
