"""A Llama's layers with their adapters, forward and backward, in fewer and larger products.

The same mathematics as the libraries' own layers, arranged for cards that are bound by arithmetic
or launching: layers that read the same input are one matrix, an adapter is some more columns of
its product, and what all rows begin with goes through once. Knows nothing of losses or rows' texts.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from training.model import kernels
from training.model.attention import Heads, Rows, attend, attend_back, rotate

_MODELS = ("llama", "mistral")
_ROTARY = ("default", "linear", "llama3")
_ATTENTION, _GATES = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
# Of a head, which a kernel holds whole.
_SIZES = (16, 32, 64, 128)
# Spare tokens are tried up to so many, and a 64th of all; they are taken for more than noise.
_MOST_SPARE, _WORTH = 64, 0.985


def are_for(model: Any) -> bool:
    """Return whether a model with an adapter has the layers that are written down here."""
    body = model.get_base_model().base_model
    config = body.config
    rope = getattr(config, "rope_parameters", None) or {}
    is_known = (
        getattr(config, "model_type", None) in _MODELS
        and getattr(config, "sliding_window", None) is None
        and config.hidden_act == "silu"
        and not config.attention_dropout
        and _head_size(config) in _SIZES
        and rope.get("rope_type", "default") in _ROTARY
        and rope.get("partial_rotary_factor", 1.0) == 1.0
        and type(body.embed_tokens) is torch.nn.Embedding
    )
    return is_known and all(_is_plain(layer, body) for layer in body.layers)


def _is_plain(layer: Any, body: Any) -> bool:
    norms = (layer.input_layernorm, layer.post_attention_layernorm, body.norm)
    kind = body.embed_tokens.weight.dtype
    for linear in _linears(layer):
        base = getattr(linear, "base_layer", linear)
        is_linear = type(base) is torch.nn.Linear and base.weight.dtype == kind
        if not is_linear or base.bias is not None or getattr(linear, "lora_magnitude_vector", None):
            return False
        parts = [*getattr(linear, "lora_A", {}).values(), *getattr(linear, "lora_B", {}).values()]
        if len(parts) > 2 or any(part.bias is not None for part in parts):
            return False
        dropouts = getattr(linear, "lora_dropout", {}).values()
        if any(type(dropout) is not torch.nn.Identity for dropout in dropouts):
            return False
    return not any(norm.weight.requires_grad for norm in norms)


def _linears(layer: Any) -> Iterator[Any]:
    names = {layer.self_attn: (*_ATTENTION, "o_proj"), layer.mlp: (*_GATES, "down_proj")}
    for part, own in names.items():
        yield from (getattr(part, name) for name in own)


def _head_size(config: Any) -> int:
    own = getattr(config, "head_dim", None)
    return int(own or config.hidden_size // config.num_attention_heads)


@dataclass(frozen=True)
class _Adapter:
    down: torch.nn.Parameter
    up: torch.nn.Parameter
    scale: float
    outputs: slice
    ranks: slice


class _Linears:
    """Linear layers that read the same input, and their adapters, as one matrix.

    It holds their weights, [outputs, inputs]; beside them what adapters multiply up with, scaled,
    and below them what they multiply down with: so one product with all of its columns, or all of
    its rows, does both. The layers' own weights become views of it.
    """

    def __init__(self, linears: list[Any]) -> None:
        bases = [getattr(linear, "base_layer", linear) for linear in linears]
        self.outputs = sum(base.out_features for base in bases)
        self.inputs = bases[0].in_features
        found = [_adapter_of(linear) for linear in linears]
        self.rank = sum(adapter[0].shape[0] for adapter in found if adapter)
        weight = bases[0].weight
        rows = self.outputs + self.rank
        self._matrix = kernels.wide(rows, self.inputs, self.rank, weight.data).zero_()
        self.adapters: list[_Adapter] = []
        output = rank = 0
        for base, adapter in zip(bases, found, strict=True):
            outputs = slice(output, output := output + base.out_features)
            self._matrix[outputs, : self.inputs] = base.weight.data
            base.weight.data = self._matrix[outputs, : self.inputs]
            if adapter:
                ranks = slice(rank, rank := rank + adapter[0].shape[0])
                self.adapters.append(_Adapter(*adapter, outputs, ranks))

    def refresh(self) -> None:
        """Take the adapters' weights as they are now."""
        for adapter in self.adapters:
            self._below()[adapter.ranks] = adapter.down.data
            self._beside()[adapter.outputs, adapter.ranks] = adapter.up.data * adapter.scale

    def _beside(self) -> torch.Tensor:
        return self._matrix[: self.outputs, self.inputs : self.inputs + self.rank]

    def _below(self) -> torch.Tensor:
        return self._matrix[self.outputs :, : self.inputs]

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """Multiply, [tokens, outputs]; of ``x`` the room beside the inputs is written to."""
        if self.rank:
            torch.mm(x[:, : self.inputs], self._below().t(), out=self.narrow(x))
        weights = self._matrix[: self.outputs, : self.inputs + self.rank].t()
        x = x[:, : self.inputs + self.rank]
        return x @ weights if residual is None else torch.addmm(residual, x, weights)

    def narrow(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the adapters made of the inputs, [tokens, rank], as ``forward`` left it."""
        return x[:, self.inputs : self.inputs + self.rank]

    def backward_inputs(self, dy: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the inputs, [tokens, inputs].

        Args:
            dy: gradient of the outputs, [tokens, outputs + room]; the room is written to.
        """
        if self.rank:
            torch.mm(dy[:, : self.outputs], self._beside(), out=self._up(dy))
        return dy[:, : self.outputs + self.rank] @ self._matrix[:, : self.inputs]

    def _up(self, dy: torch.Tensor) -> torch.Tensor:
        return dy[:, self.outputs : self.outputs + self.rank]

    def backward_weights(
        self, dy: torch.Tensor, x: torch.Tensor, narrow: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return the gradients of each adapter's two weights.

        Args:
            dy: as ``backward_inputs`` left it.
            x: the inputs, [tokens, at least inputs].
            narrow: what the adapters made of them, [tokens, rank].
        """
        if not self.rank:
            return []
        of_down = _exact(self._up(dy).t(), x[:, : self.inputs])
        of_up = _exact(dy[:, : self.outputs].t(), narrow)
        gradients = []
        for adapter in self.adapters:
            gradients.append(of_down[adapter.ranks])
            gradients.append(of_up[adapter.outputs, adapter.ranks] * adapter.scale)
        return gradients

    def backward(
        self, dy: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return both, of inputs as ``forward`` left them."""
        return self.backward_inputs(dy), self.backward_weights(dy, x, self.narrow(x))

    def seconds(self, tokens: int) -> float:
        """Time the products of so many tokens on a GPU, both ways: the quicker of two times."""
        x, dy = (
            kernels.wide(tokens, columns, self.rank, self._matrix).zero_()
            for columns in (self.inputs, self.outputs)
        )
        times: list[float] = []
        for _ in range(2):
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began.record()
            self.forward(x)
            self.backward_inputs(dy)
            ended.record()
            ended.synchronize()
            times.append(began.elapsed_time(ended) / 1e3)
        return min(times)


def _adapter_of(linear: Any) -> tuple[torch.nn.Parameter, torch.nn.Parameter, float] | None:
    for name, down in getattr(linear, "lora_A", {}).items():
        return down.weight, linear.lora_B[name].weight, float(linear.scaling[name])
    return None


def _exact(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Multiply with a result in 32 bits, as gradients add up over many micro-batches."""
    if one.dtype == torch.float32:
        return one @ other
    return torch.mm(one, other, out_dtype=torch.float32)


@dataclass(frozen=True)
class _Layer:
    attention: _Linears
    out: _Linears
    gates: _Linears
    down: _Linears
    norms: tuple[torch.Tensor, torch.Tensor]

    @property
    def linears(self) -> tuple[_Linears, ...]:
        return self.attention, self.out, self.gates, self.down


class _Pass(torch.autograd.Function):  # type: ignore[misc]
    """All layers' forward and backward pass; the trained weights are arguments for autograd."""

    @staticmethod
    def forward(ctx: Any, layers: "Layers", ids: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        ctx.layers, ctx.kept = layers, []
        return layers._forward(ids, ctx.kept)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, None, *ctx.layers._backward(gradient, ctx.kept)


class Layers:
    """The layers of a model that ``are_for`` knows.

    Args:
        model: with its adapter. Its base's weights move, and stay usable where they are.
        shared: tokens that all rows begin with.
        longest: tokens of a row at most, padding included.
    """

    def __init__(self, model: Any, shared: int, longest: int) -> None:
        self._body = model.get_base_model().base_model
        config = self._body.config
        self.shared = shared
        """Tokens that all rows begin with."""
        self._heads = Heads(
            config.num_attention_heads, config.num_key_value_heads, _head_size(config)
        )
        self._eps = config.rms_norm_eps
        self._layers = []
        for layer in self._body.layers:
            self._layers.append(self._layer(layer))
            torch.cuda.empty_cache()  # or what the weights leave stays taken, in too small pieces
        self._linears = [linears for layer in self._layers for linears in layer.linears]
        self._parameters = [
            weight for linears in self._linears for adapter in linears.adapters
            for weight in (adapter.down, adapter.up)
        ]  # fmt: skip
        self._table = self._rotations(longest)
        self._spare: dict[int, int] = {}  # of each number of tokens that was fitted

    @staticmethod
    def _layer(layer: Any) -> _Layer:
        attention, out, gates, down = (
            _Linears([getattr(part, name) for name in names])
            for part, names in (
                (layer.self_attn, _ATTENTION), (layer.self_attn, ("o_proj",)),
                (layer.mlp, _GATES), (layer.mlp, ("down_proj",)),
            )
        )  # fmt: skip
        norms = layer.input_layernorm.weight.data, layer.post_attention_layernorm.weight.data
        return _Layer(attention, out, gates, down, norms)

    def refresh(self) -> None:
        """Take the adapters' weights as they are now, after an optimizer's step."""
        for linears in self._linears:
            linears.refresh()

    def fit(self, count: int, width: int) -> None:
        """Find by timing how many spare tokens make the gates' products of such rows quickest.

        Libraries choose a product's tiles by its size, and not always well: on an H100 2,592 tokens
        take 5 % less time than 2,583.
        """
        least = self._rows(count, width).read
        if least in self._spare:
            return
        most = least + min(_MOST_SPARE, least // 64)
        more = (tokens for tokens in range(least + 1, most + 1) if tokens % 8 == 0)
        self._spare[least] = 0
        try:
            seconds = {tokens: self._layers[0].gates.seconds(tokens) for tokens in (*more, least)}
        except torch.OutOfMemoryError:
            return
        best = min(seconds, key=seconds.__getitem__)
        if seconds[best] < _WORTH * seconds[least]:
            self._spare[least] = best - least

    def __call__(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states, normalised, [rows, width, hidden]."""
        hidden: torch.Tensor = _Pass.apply(self, input_ids, *self._parameters)
        return hidden

    def _rotations(self, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cosines and sines of so many positions, [positions, half a head]."""
        config, half = self._body.config, self._heads.size // 2
        device = self._body.embed_tokens.weight.device
        rope, scaling = config.rope_parameters, 1.0
        if rope.get("rope_type", "default") == "default":
            exponents = torch.arange(half, device=device, dtype=torch.float32) / half
            turns = rope["rope_theta"] ** -exponents
        else:
            turns, scaling = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, device)
        angles = torch.arange(width, device=device, dtype=torch.float32)[:, None] * turns
        return angles.cos() * scaling, angles.sin() * scaling

    def _rows(self, count: int, width: int) -> Rows:
        shared = min(self.shared, width - 1) if count > 1 else 0
        rows = Rows(count, shared, width - shared)
        return replace(rows, spare=self._spare.get(rows.tokens, 0))

    def _forward(self, ids: torch.Tensor, kept: list[Any]) -> torch.Tensor:
        rows, heads = self._rows(*ids.shape), self._heads
        first, own = ids[0, : rows.shared], ids[:, rows.shared :]
        tokens = functional.pad(torch.cat([first, own.flatten()]), (0, rows.spare))
        hidden = functional.embedding(tokens, self._body.embed_tokens.weight)
        kept.append(rows)
        for layer in self._layers:
            attention, out, gates, down = layer.linears
            x, scales = kernels.norm(hidden, layer.norms[0], self._eps, attention.rank)
            qkv = attention.forward(x)
            rotate(qkv, self._table, rows, heads, 1)
            said, logs = attend(qkv, rows, heads, out.rank)
            middle = out.forward(said, hidden)
            inner, inner_scales = kernels.norm(middle, layer.norms[1], self._eps, gates.rank)
            opened = gates.forward(inner)
            passed = kernels.gate(opened, down.rank)
            top = down.forward(passed, middle)
            narrow = down.narrow(passed).clone()
            kept.append(
                (hidden, scales, x, qkv, said, logs, middle, inner_scales, inner, opened, narrow)
            )
            hidden = top
        normed, scales = kernels.norm(hidden, self._body.norm.weight.data, self._eps, 0)
        kept.append((hidden, scales))
        return _rows_of(normed[:, : hidden.shape[1]], rows)

    def _backward(self, gradient: torch.Tensor, kept: list[Any]) -> list[torch.Tensor]:
        rows, heads = kept[0], self._heads
        hidden, scales = kept.pop()
        dy = _tokens_of(gradient, rows)
        spare = max((max(layer.out.rank, layer.down.rank) for layer in self._layers), default=0)
        count, size = hidden.shape
        one, other = (kernels.wide(count, size, spare, hidden) for _ in range(2))
        kernels.norm_back(dy, hidden, scales, self._body.norm.weight.data, None, one)
        gradients: list[list[torch.Tensor]] = []
        for layer in reversed(self._layers):
            attention, out, gates, down = layer.linears
            hidden, scales, x, qkv, said, logs, middle, inner_scales, inner, opened, narrow = (
                kept.pop()
            )
            of_passed = down.backward_inputs(one)
            dopened = kernels.gate_back(opened, of_passed, gates.rank)
            of_down = down.backward_weights(one, of_passed, narrow)
            dinner, of_gates = gates.backward(dopened, inner)
            kernels.norm_back(dinner, middle, inner_scales, layer.norms[1], one, other)
            dsaid, of_out = out.backward(other, said)
            dqkv = attend_back(qkv, said, dsaid, logs, rows, heads, attention.rank)
            rotate(dqkv, self._table, rows, heads, -1)
            dx, of_attention = attention.backward(dqkv, x)
            kernels.norm_back(dx, hidden, scales, layer.norms[0], other, one)
            gradients.append([*of_attention, *of_out, *of_gates, *of_down])
        return list(itertools.chain(*reversed(gradients)))


def _rows_of(tokens: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Put the shared tokens before each row's own: [rows, width, hidden]."""
    own = tokens[rows.shared : rows.read].view(rows.count, rows.own, -1)
    first = tokens[: rows.shared].expand(rows.count, -1, -1)
    return torch.cat([first, own], 1)


def _tokens_of(gradient: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Add up what all rows say of the shared tokens: [tokens, hidden]."""
    first = gradient[:, : rows.shared].sum(0)
    spare = gradient.new_zeros(rows.spare, gradient.shape[-1])
    return torch.cat([first, gradient[:, rows.shared :].flatten(0, 1), spare])
