"""Decode many rows at once on fixed shapes: slots, one step as a CUDA graph, unexpanded KV heads.

Token ids in, token ids out; knows nothing of text, files or Dask. Everything is transformers' own
model; what the libraries lack is here: an attention that reads the few KV heads as they are, a
cache whose rows stand at different positions, and a prefill that computes a shared beginning once.

A slot holds one row. The step writes the key of the token at its position, attends up to it and
chooses the next token, for all slots alike; a finished row waits for its slot to be given away.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface

from inference.engine import progress
from inference.engine.sampler import Sampler

ATTENTION = "unexpanded"
"""Name that the attention below is registered under."""
_ROUNDING = 64
_STEPS_BETWEEN_LOOKS = 8
# Rows are prefilled so many tokens at a time: more would not be faster, and needs memory.
_PREFILL_TOKENS = 16_384


@dataclass(frozen=True)
class SlotRow:
    """One row to decode."""

    ids: list[int]
    """The prompt, at least one token."""
    key: tuple[int, int]
    """Keys its noise."""
    limit: int
    """New tokens at most."""


@dataclass(frozen=True)
class SlotShape:
    """Fixed sizes of a decoder."""

    slots: int
    length: int
    """Positions of a slot: prompt and new tokens."""
    limit: int
    """New tokens a row at most."""


def unexpanded_attention(
    _module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend with grouped KV heads without expanding them, exactly.

    The query heads of one KV head become its query rows, so that each key is read once; by
    default transformers repeats K and V for every query head where there is a mask.

    Args:
        _module: the attention layer.
        query: [batch, heads, queries, dim].
        key: [batch, kv_heads, positions, dim].
        value: as key.
        attention_mask: additive, [batch, 1, queries, positions].
        scaling: of the products.

    Returns:
        [batch, queries, heads, dim], and no weights.
    """
    batch, heads, queries, dim = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    rows = query.reshape(batch, kv_heads, groups * queries, dim)
    mask = attention_mask[:, :, None].expand(-1, -1, groups, -1, -1)
    mask = mask.reshape(batch, 1, groups * queries, -1).expand(-1, kv_heads, -1, -1)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        rows, key, value, attn_mask=mask, scale=scaling
    )
    return mixed.reshape(batch, heads, queries, dim).transpose(1, 2), None


AttentionInterface.register(ATTENTION, unexpanded_attention)


class SlotCache:
    """Keys and values of all slots; as a model's cache it is the decode step's."""

    def __init__(self, model: Any, shape: SlotShape) -> None:
        config = model.config
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        size = (shape.slots, config.num_key_value_heads, shape.length, dim)
        like = {"dtype": model.dtype, "device": model.device}
        self.keys = [torch.zeros(size, **like) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros(size, **like) for _ in range(config.num_hidden_layers)]
        self.rows = torch.arange(shape.slots, device=model.device)
        self.positions = torch.zeros(shape.slots, dtype=torch.int64, device=model.device)

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one position of every slot; give all positions."""
        self.keys[layer][self.rows, :, self.positions] = key[:, :, 0]
        self.values[layer][self.rows, :, self.positions] = value[:, :, 0]
        return self.keys[layer], self.values[layer]


class Prefix:
    """Keys and values of the tokens that all prompts begin with; as a model's cache it grows."""

    def __init__(self) -> None:
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def update(
        self, key: torch.Tensor, value: torch.Tensor, _layer: int, *_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep a layer's keys and values."""
        self.keys.append(key)
        self.values.append(value)
        return key, value


class PrefillCache:
    """A model's cache for the prompts of some slots: writes them behind the shared beginning."""

    def __init__(self, cache: SlotCache, slots: torch.Tensor, beginning: Prefix | None) -> None:
        self._cache, self._slots, self._beginning = cache, slots, beginning

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put a layer's keys and values into the slots; give them with the beginning's."""
        if self._beginning is not None:
            shape = (len(self._slots), -1, -1, -1)
            key = torch.cat([self._beginning.keys[layer].expand(shape), key], dim=2)
            value = torch.cat([self._beginning.values[layer].expand(shape), value], dim=2)
        self._cache.keys[layer][self._slots, :, : key.shape[2]] = key
        self._cache.values[layer][self._slots, :, : value.shape[2]] = value
        return key, value


def causal_mask(queries: int, before: int, like: Any) -> torch.Tensor:
    """Mask for queries that follow ``before`` positions: [1, 1, queries, before + queries]."""
    total = before + queries
    mask = torch.full((queries, total), -math.inf, dtype=like.dtype, device=like.device)
    return torch.triu(mask, diagonal=before + 1)[None, None]


class Decoder:
    """A model with its slots."""

    def __init__(
        self, model: Any, chooser: Sampler, eos: int, shape: SlotShape, compiled: bool
    ) -> None:
        self.shape = shape
        self._model, self._chooser, self._eos = model, chooser, eos
        model.set_attn_implementation(ATTENTION)
        device, slots = model.device, shape.slots
        self._cache = SlotCache(model, shape)

        def numbers(*size: int) -> torch.Tensor:
            return torch.zeros(size, dtype=torch.int64, device=device)

        self._tokens, self._count, self._limit = numbers(slots), numbers(slots), numbers(slots)
        self._keys = numbers(slots, 2)
        self._done = torch.ones(slots, dtype=torch.bool, device=device)
        self._out = numbers(slots, shape.limit + 1)
        self._all = torch.arange(shape.length, device=device)
        self._beginning: tuple[list[int], Prefix] | None = None
        self._graph: Any = None
        self._advance = torch.compile(self._step, dynamic=False) if compiled else self._step
        if device.type == "cuda":
            self._capture()

    def _step(self) -> None:
        """Advance every slot by one token, in place."""
        positions = self._cache.positions
        seen = self._all[None, :] <= positions[:, None]
        zero = torch.zeros((), dtype=self._model.dtype, device=seen.device)
        mask = torch.where(seen, zero, -math.inf)[:, None, None, :]
        logits = self._model(
            input_ids=self._tokens[:, None],
            position_ids=positions[:, None],
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
        ).logits[:, -1]
        chosen = self._chooser.choose(logits, self._keys, self._count)
        # Rows that are done write behind their limit, where nobody reads.
        place = torch.where(self._done, self.shape.limit, self._count)
        self._out.scatter_(1, place[:, None], chosen[:, None])
        going = (~self._done).to(torch.int64)
        self._count.add_(going)
        positions.add_(going)
        self._tokens.copy_(torch.where(self._done, self._tokens, chosen))
        self._done.logical_or_((chosen == self._eos) | (self._count >= self._limit))

    def _capture(self) -> None:
        """Record the step once; replaying it costs one launch."""
        with torch.inference_mode():
            self._record()

    def _record(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._advance()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._advance()

    def decode(self, rows: Sequence[SlotRow]) -> list[list[int]]:
        """Decode rows greedily or by their keyed noise.

        Args:
            rows: prompts that fit ``shape`` with their limits, best the longest first.

        Returns:
            New tokens of each, in the order of the rows; the end of sequence is the last where
            the row came to it.
        """
        with torch.inference_mode():
            return self._decode(rows)

    def _decode(self, rows: Sequence[SlotRow]) -> list[list[int]]:
        beginning = self._begin(rows)
        waiting = list(range(len(rows)))[::-1]
        held: dict[int, int] = {}
        free = list(range(self.shape.slots))
        written: dict[int, list[int]] = {}
        self._done.fill_(True)
        # Admitting a few rows costs about as much as admitting many.
        enough = max(self.shape.slots // 8, 1)
        while waiting or held:
            if waiting and (len(free) >= enough or not held):
                slots = [free.pop() for _ in range(min(len(free), len(waiting)))]
                places = [waiting.pop() for _ in slots]
                self._admit([rows[place] for place in places], slots, beginning)
                held.update(zip(slots, places, strict=True))
            for _ in range(_STEPS_BETWEEN_LOOKS):
                self._graph.replay() if self._graph is not None else self._advance()
            working, finished = len(held), self._finished(list(held))
            for slot, tokens in finished:
                written[held.pop(slot)] = tokens
                free.append(slot)
            progress.tell(len(finished), working * _STEPS_BETWEEN_LOOKS)
        return [written[place] for place in range(len(rows))]

    def _finished(self, held: list[int]) -> list[tuple[int, list[int]]]:
        done = self._done.tolist()
        slots = [slot for slot in held if done[slot]]
        if not slots:
            return []
        index = torch.tensor(slots, device=self._out.device)
        counts, out = self._count[index].tolist(), self._out[index].tolist()
        return [(s, ids[:count]) for s, ids, count in zip(slots, out, counts, strict=True)]

    def _begin(self, rows: Sequence[SlotRow]) -> Prefix | None:
        """Compute the tokens that all prompts begin with, unless that was done before."""
        shared = common_beginning([row.ids[:-1] for row in rows])
        if not shared:
            return None
        if self._beginning is None or self._beginning[0] != shared:
            kept = Prefix()
            self._prefill(torch.tensor([shared], device=self._out.device), 0, kept)
            self._beginning = shared, kept
        return self._beginning[1]

    def _prefill(self, ids: torch.Tensor, before: int, cache: Any) -> None:
        """Run tokens through the model for their keys and values only."""
        positions = before + torch.arange(ids.shape[1], device=ids.device)
        mask = causal_mask(ids.shape[1], before, self._model)
        inner = getattr(self._model, self._model.base_model_prefix)
        inner(
            input_ids=ids,
            position_ids=positions[None].expand(len(ids), -1),
            attention_mask=mask.expand(len(ids), -1, -1, -1),
            past_key_values=cache,
            use_cache=True,
        )

    def _admit(self, rows: list[SlotRow], slots: list[int], beginning: Prefix | None) -> None:
        """Prefill prompts into slots, but for their last token: the next step takes that."""
        before = beginning.keys[0].shape[2] if beginning else 0
        width = max(len(row.ids) - 1 - before for row in rows)
        at_once = max(_PREFILL_TOKENS // max(width, 1), 1)
        device = self._out.device
        for start in range(0, len(rows), at_once):
            some, into = rows[start : start + at_once], slots[start : start + at_once]
            index = torch.tensor(into, device=device)
            rests = [row.ids[before:-1] for row in some]
            widest = max(map(len, rests))
            # A padded position is written again by the step that comes to it.
            padded = torch.tensor([rest + [0] * (widest - len(rest)) for rest in rests])
            admission = PrefillCache(self._cache, index, beginning)
            if widest:
                self._prefill(padded.to(device), before, admission)
            elif beginning is not None:
                self._copy(index, beginning)
        index = torch.tensor(slots, device=device)
        self._cache.positions[index] = torch.tensor([len(r.ids) - 1 for r in rows], device=device)
        self._tokens[index] = torch.tensor([row.ids[-1] for row in rows], device=device)
        self._limit[index] = torch.tensor([row.limit for row in rows], device=device)
        self._keys[index] = torch.tensor([row.key for row in rows], device=device)
        self._count[index] = 0
        self._done[index] = False

    def _copy(self, slots: torch.Tensor, beginning: Prefix) -> None:
        length = beginning.keys[0].shape[2]
        for layer, (key, value) in enumerate(zip(beginning.keys, beginning.values, strict=True)):
            self._cache.keys[layer][slots, :, :length] = key
            self._cache.values[layer][slots, :, :length] = value


def common_beginning(lists: Sequence[list[int]]) -> list[int]:
    """Give the longest list that all the lists begin with."""
    if not lists:
        return []
    first, last = min(lists), max(lists)
    length = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        min(len(first), len(last)),
    )
    return first[:length]


def bytes_per_slot(model: Any, length: int) -> int:
    """Estimate the memory of one slot: its cache, and its logits with what choosing needs."""
    config = model.config
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    position = 2 * config.num_hidden_layers * config.num_key_value_heads * dim
    return int(position * length * model.dtype.itemsize + 20 * config.vocab_size)


def round_up(number: int) -> int:
    """Round a length up to what kernels like."""
    return -(-number // _ROUNDING) * _ROUNDING
