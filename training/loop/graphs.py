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
# Its activations lie where those of all others do, and so do its output and that one's gradient.
_MOST = 128
# What compiles in a recording spoils it. Not for ever: it has compiled then.
_FAILURES = 3
# How far a graph's gradients may be from those as they are, all together: summed otherwise.
# Quick layers round at other places: in bf16 each way is 4 to 6 % of the norm from 32 bits. The
# last one tells of what is missing for any one weight, of which rounding is 15 % at most.
_APART, _APART_QUICK, _APART_ONE = 0.02, 0.2, 0.5


def warm_steps(accumulation: int) -> int:
    """Count the steps, each of so many micro-batches, that compile or compare."""
    return max(2, -(-WARM_UP // accumulation))


def are_for(job: Job, layers: int) -> bool:
    """Return whether a job's layers may be recorded.

    Not where recomputing asks for random states, a scaler for its scale or dropout for new numbers;
    4 bits were not tried.
    """
    config, how = job.config, job.config.optimisation
    kept = how.gradient_checkpointing == "none" or how.keep_layers >= layers
    is_exact = job.precision != "fp16" and not config.lora.dropout and config.quantize is None
    return torch.cuda.is_available() and kept and is_exact


@dataclass(frozen=True)
class _Graph:
    """The forward and the backward pass of one shape."""

    inputs: dict[str, torch.Tensor]
    forward: torch.cuda.CUDAGraph
    hidden: torch.Tensor
    """What the layers say, [rows, longest, hidden]; other graphs write to the same memory."""
    gradient: torch.Tensor
    """Of ``hidden``; as that, shared."""
    backward: torch.cuda.CUDAGraph
    output: type[Any] = BaseModelOutputWithPast
    """Class of what the layers return."""


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
        layers: quicker ones of the same mathematics, ``training.model.layers.Layers``; they too are
            compared with the model's own.
    """

    def __init__(self, model: Any, layers: Any = None) -> None:
        self._body = model.get_base_model().base_model
        self._layers = layers
        trained = [p for p in model.parameters() if p.requires_grad]
        self._gradients = [(p, torch.zeros_like(p)) for p in trained]
        self._one = torch.ones((), device=trained[0].device, requires_grad=True)
        self._graphs: dict[tuple[Any, ...], _Graph] = {}
        # One for all, as they run one after the other.
        self._pool = torch.cuda.graph_pool_handle()
        self._shared: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._warm = self._failures = self._steps = 0
        self._passed = 0
        """Step of the last comparison that held; 0: none."""
        self.seconds: list[float] = []
        """That each recording took."""

    @property
    def shared(self) -> int:
        """Count the tokens that all rows begin with and that go through the layers once."""
        is_quick = self._layers and self._failures < _FAILURES
        return int(self._layers.shared) if is_quick else 0

    def train(self, step: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Train on a micro-batch.

        Args:
            step: runs the model and adds to the gradients; returns the loss, a scalar.
        """
        if self._failures >= _FAILURES:
            return step()
        self._attach()
        self._warm += 1
        if self._warm < WARM_UP:
            return step()
        # A new adapter's first step has zeros in one half of it, and for the other's gradients:
        # quick layers are compared in a second one too.
        least = 2 if self._layers else 1
        if self._passed >= least or self._passed == self._steps:
            return self._with_graphs(step)
        return self._checked(step)

    def _attach(self) -> None:
        """Give the parameters their gradients again, cleared: an optimizer's step has to drop them.

        Quick layers take the adapter's weights anew then.
        """
        dropped = [pair for pair in self._gradients if pair[0].grad is not pair[1]]
        if dropped:
            self._steps += 1
            torch._foreach_zero_([gradient for _, gradient in dropped])
            if self._layers:
                self._layers.refresh()
        for parameter, gradient in dropped:
            parameter.grad = gradient

    def _checked(self, step: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Train as it is and, to compare, by the first graph; what the former did counts."""
        gradients, failures = [gradient for _, gradient in self._gradients], self._failures
        own_layers = self._layers
        before = [gradient.clone() for gradient in gradients]
        loss = step()
        after = [gradient.clone() for gradient in gradients]
        own = torch._foreach_sub(after, before)
        torch._foreach_copy_(gradients, before)
        self._with_graphs(step)
        others = torch._foreach_sub(gradients, before)
        torch._foreach_copy_(gradients, after)
        norm, is_alike = self._compared(own, torch._foreach_sub(others, own))
        self._passed = self._steps if self._graphs and norm > 0 and is_alike else 0
        if self._graphs and not is_alike:
            self._give_up(_FAILURES)
        elif not self._graphs and self._failures == failures and own_layers == self._layers:
            log.debug("no CUDA graphs: the layers are called in another way")
            self._failures = _FAILURES
        return loss

    def _compared(self, own: Any, apart: Any) -> tuple[float, bool]:
        """Return the norm of all gradients, and whether what is apart of them is rounding."""
        norms, parts = (torch.stack(torch._foreach_norm(each)) for each in (own, apart))
        norm, part = float(norms.norm()), float(parts.norm())
        most = _APART_QUICK if self._layers else _APART
        is_alike = part <= most * norm and bool((parts <= _APART_ONE * norms).all())
        if not is_alike:
            log.debug("no CUDA graphs: gradients of norm %.3g are %.3g apart", norm, part)
        return norm, is_alike

    def _give_up(self, failures: int) -> None:
        """Go on with the model's own layers, or without graphs, whose memory is given back.

        A recording that fails says nothing of quick layers that were compared before.
        """
        if self._layers and not self._passed:
            self._layers = None
        else:
            self._failures += failures
        self._graphs.clear()
        self._shared.clear()
        self._pool = torch.cuda.graph_pool_handle()

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

    def _replayed(self, graph: _Graph, words: dict[str, Any]) -> Any:
        for name, values in graph.inputs.items():
            values.copy_(words[name])
        return graph.output(last_hidden_state=_Replay.apply(graph, self._one))

    def _graph(self, forward: Callable[..., Any], words: dict[str, Any]) -> _Graph | None:
        """Return the graph for these arguments, recorded now where there is none; None: as it is.

        Its own arguments but for tensors, which are copied, are those of its recording.
        """
        tensors = {name: v for name, v in words.items() if isinstance(v, torch.Tensor)}
        # Padding stands behind a row's tokens: no mask changes what they attend to.
        said = {name for name, values in tensors.items() if values.ndim} - {"attention_mask"}
        if self._layers and said == {"input_ids"}:
            forward = self._quick
        key = tuple((name, tuple(values.shape)) for name, values in tensors.items())
        graph = self._graphs.pop(key, None)
        if graph is None and self._failures < _FAILURES:
            graph = self._recorded(forward, words, tensors)
        if graph:
            self._graphs[key] = graph  # behind all others: the last one needed
        return graph

    def _quick(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return BaseModelOutputWithPast(last_hidden_state=self._layers(input_ids))

    def _recorded(
        self, forward: Callable[..., Any], words: dict[str, Any], tensors: dict[str, torch.Tensor]
    ) -> _Graph | None:
        if len(self._graphs) == _MOST:
            self._graphs.pop(next(iter(self._graphs)))
        stream = torch.cuda.current_stream()
        try:
            if forward == self._quick and not self._graphs:
                _run_once(forward, words)
            stream.synchronize()
            began = time.perf_counter()
            if forward == self._quick:
                self._layers.fit(*words["input_ids"].shape)
            graph = _record(forward, words, tensors, self._pool, self._share)
            self.seconds.append(time.perf_counter() - began)
            return graph
        # Whatever waits for the GPU cannot be recorded, and libraries say so in their own words.
        except Exception as error:
            torch.cuda.set_stream(stream)
            log.debug("no CUDA graph: %s", first_line(error))
            self._give_up(1)
            return None

    def _share(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return memory for the layers' output and for its gradient.

        Only one graph at a time has something there: between its two passes. Of their own they
        would take twice the output a shape, which for a hundred shapes is more than all layers do.
        """
        count = hidden.numel()
        size = 1 << (count - 1).bit_length()
        if size not in self._shared:
            self._shared[size] = hidden.new_empty(size), hidden.new_empty(size)
        said, gradient = self._shared[size]
        return said[:count].view(hidden.shape), gradient[:count].view(hidden.shape)


def _record(
    forward: Callable[..., Any],
    words: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    pool: Any,
    share: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
) -> _Graph:
    inputs = {name: values.clone() for name, values in tensors.items()}
    passes = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    # Relaxed: kernels are loaded by their first launch, which stricter modes forbid.
    how = {"pool": pool, "capture_error_mode": "relaxed"}
    with torch.cuda.graph(passes[0], **how):
        output = forward(**words | inputs)
        said = only_hidden(output)
        hidden, gradient = share(said.detach())
        hidden.copy_(said.detach())
    with torch.cuda.graph(passes[1], **how):
        torch.autograd.backward(said, gradient)
    return _Graph(inputs, passes[0], hidden, gradient, passes[1], type(output))


def _run_once(forward: Callable[..., Any], words: dict[str, Any]) -> None:
    """Compile the kernels of both passes; nothing of it is kept, as a recording must not see it."""
    said = only_hidden(forward(**words))
    torch.autograd.backward(said, torch.zeros_like(said))


def only_hidden(output: Any) -> torch.Tensor:
    """Return what layers say, [rows, longest, hidden].

    Raises:
        ValueError: they say more, such as where experts were asked, of which a loss is made too.
    """
    more = [name for name in output if name not in ("last_hidden_state", "past_key_values")]
    if more or "last_hidden_state" not in output:
        raise ValueError(f"layers that return more than their hidden states: {', '.join(more)}")
    hidden: torch.Tensor = output["last_hidden_state"]
    return hidden
