"""Decode many rows at once on fixed shapes: slots, and one step of all as a CUDA graph.

Token ids in, token ids out; knows nothing of text, files or Dask. Everything is transformers' own
model; what the libraries lack is here: a cache whose rows stand at different positions, and a
prefill that computes a shared beginning once.

A slot holds one row. The step writes the key of the token at its position, attends up to it and
chooses the next token, for all slots alike; a finished row waits for its slot to be given away.
"""

import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from data.console import first_line
from inference.engine.drafts import Draft, Drafts
from inference.engine.requests import report
from inference.engine.sampler import Sampler
from inference.engine.slots import attention, compilation

log = logging.getLogger("catalogue")
KeysValues = tuple[torch.Tensor, torch.Tensor]

_ROUNDING = 64
_STEPS_BETWEEN_LOOKS = 8
# Of fewer, attention is little of a step, and choosing one is much of a job.
_MANY_SLOTS = 64
# A smaller share of a step's time is more than noise.
_WORTH = 0.95
# Rows are prefilled so many tokens at a time: more would not be faster, and needs memory. Fewer
# keep a card busy; rows of less than this share of the longest are then left to the next time.
_PREFILL_TOKENS, _BUSY_TOKENS, _ALIKE = 16_384, 4_096, 0.8


@dataclass(frozen=True)
class SlotRow:
    """One row to decode."""

    ids: list[int]
    """The prompt, at least one token."""
    key: tuple[int, int]
    """Keys its noise."""
    limit: int
    """New tokens at most."""
    temperature: float = 0.0
    """Where rows have temperatures of their own."""


@dataclass(frozen=True)
class SlotShape:
    """Fixed sizes of a decoder."""

    slots: int
    length: int
    """Positions of a slot: prompt and new tokens."""
    limit: int
    """New tokens a row at most."""
    own_temperatures: bool = False
    """Whether each row has a temperature of its own; else all have the sampler's."""


class LayerSlots:
    """One layer's keys and values [slots, kv_heads, length, size]."""

    def __init__(self, key: torch.Tensor, rows: torch.Tensor, positions: torch.Tensor) -> None:
        self.key, self.value, self._rows, self._positions = key, key.clone(), rows, positions

    def update(self, key: torch.Tensor, value: torch.Tensor, *_: Any) -> KeysValues:
        """Write one position of every slot; return all positions."""
        self.key[self._rows, :, self._positions] = key[:, :, 0]
        self.value[self._rows, :, self._positions] = value[:, :, 0]
        return self.key, self.value


class SlotCache:
    """Keys and values of all slots; as a model's cache it is the decode step's."""

    def __init__(self, model: Any, shape: SlotShape) -> None:
        config, device = model.config, model.device
        size = (shape.slots, config.num_key_value_heads, shape.length, attention.head_size(config))
        rows = torch.arange(shape.slots, device=device)
        self.positions = torch.zeros(shape.slots, dtype=torch.int64, device=device)
        self.layers = [
            LayerSlots(torch.zeros(size, dtype=model.dtype, device=device), rows, self.positions)
            for _ in range(config.num_hidden_layers)
        ]

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any) -> KeysValues:
        """Write one position of every slot; return all positions of a layer."""
        return self.layers[layer].update(key, value)


class Prefix:
    """Keys and values of the tokens that all prompts begin with; as a model's cache it grows."""

    def __init__(self) -> None:
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def update(self, key: torch.Tensor, value: torch.Tensor, _layer: int, *_: Any) -> KeysValues:
        """Keep a layer's keys and values."""
        self.keys.append(key)
        self.values.append(value)
        return key, value


class PrefillCache:
    """A model's cache for the prompts of some slots: writes them behind the shared prefix."""

    def __init__(self, cache: SlotCache, slots: torch.Tensor, prefix: Prefix | None) -> None:
        self._cache, self._slots, self._prefix = cache, slots, prefix

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any) -> KeysValues:
        """Put a layer's keys and values into the slots; return them with the prefix's."""
        if self._prefix is not None:
            shape = (len(self._slots), -1, -1, -1)
            key = torch.cat([self._prefix.keys[layer].expand(shape), key], dim=2)
            value = torch.cat([self._prefix.values[layer].expand(shape), value], dim=2)
        self._write(key, value, layer)
        return key, value

    def copy_prefix(self, prefix: Prefix) -> None:
        """Write the prefix alone."""
        for layer, (key, value) in enumerate(zip(prefix.keys, prefix.values, strict=True)):
            self._write(key, value, layer)

    def _write(self, key: torch.Tensor, value: torch.Tensor, layer: int) -> None:
        slots = self._cache.layers[layer]
        slots.key[self._slots, :, : key.shape[2]] = key
        slots.value[self._slots, :, : value.shape[2]] = value


class Decoder:
    """A model with its slots."""

    def __init__(self, model: Any, sampler: Sampler, eos: int, shape: SlotShape) -> None:
        self.shape = shape
        self.is_compiled = False
        self._model, self._sampler = model, sampler
        self._attention = attention.UNEXPANDED
        device, slots = model.device, shape.slots
        self._cache = SlotCache(model, shape)
        self._drafts = Drafts(slots, shape.limit, eos, device)
        self._tokens = torch.zeros(slots, dtype=torch.int64, device=device)
        self._keys = torch.zeros((slots, 2), dtype=torch.int64, device=device)
        self._temperatures = torch.zeros(slots, device=device) if shape.own_temperatures else None
        self._all = torch.arange(shape.length, device=device)
        self._prefix: tuple[list[int], Prefix] | None = None
        self._graph: Any = None
        model.set_attn_implementation(self._attention)
        if device.type == "cuda":
            # Of all recordings, of which one runs at a time.
            self._pool = torch.cuda.graph_pool_handle()
            self._capture(self._write)
            if slots >= _MANY_SLOTS and attention.can_read(model):
                self._choose_attention()

    def _choose_attention(self) -> None:
        """Take the attention that is clearly quicker here."""
        plain, stream = self._graph, torch.cuda.current_stream()
        self._attention = attention.READING
        try:
            self._capture(self._write)
            own = self._graph
            seconds: dict[Any, float] = {}
            for graph in (own, plain, plain, own):
                self._graph = graph
                seconds[graph] = min(self._time_step(), seconds.get(graph, math.inf))
            is_quicker = seconds[own] < _WORTH * seconds[plain]
            log.debug("a step of our attention: %.3g s; of PyTorch's: %.3g s", *seconds.values())
        except Exception as error:  # whatever a compiler or driver says of a kernel
            torch.cuda.set_stream(stream)
            log.debug("no attention of our own: %s", first_line(error))
            is_quicker = False
        self._attention = attention.READING if is_quicker else attention.UNEXPANDED
        self._graph = own if is_quicker else plain
        self._model.set_attn_implementation(self._attention)  # of prefills too

    def compile_where_it_pays(self, tokens: int) -> None:
        """Compile the step, on a GPU, where so many tokens take less time with it.

        Compiling and all: what it costs and saves was measured by earlier decoders of this shape.
        """
        if self._graph is None or self.is_compiled:
            return
        config, shape = self._model.config, self.shape
        key = f"{config.model_type}-{config.hidden_size}x{config.num_hidden_layers}-{shape.slots}"
        key = f"{torch.cuda.get_device_name()}-{key}x{shape.length}-{self._attention}"
        key = key.replace(" ", "-")
        plain = self._time_step()
        if not compilation.expected(key).pays(tokens / shape.slots, plain):
            return
        began = time.perf_counter()
        with compilation.compiled_layers(self._model, self._cache.layers):
            self._capture(torch.compile(self._write, dynamic=False))
        seconds = time.perf_counter() - began
        self.is_compiled = True
        saved = 1 - self._time_step() / plain
        compilation.note(key, compilation.Gain(round(seconds, 2), round(saved, 3)))

    def _time_step(self) -> float:
        """Time a step in seconds while no slot is in use, as if all were half full."""
        self._cache.positions.fill_(self.shape.length // 2)
        torch.cuda.synchronize()
        began = time.perf_counter()
        self._run(_STEPS_BETWEEN_LOOKS)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        self._cache.positions.zero_()
        return seconds / _STEPS_BETWEEN_LOOKS

    def _step(self, write: Callable[[torch.Tensor], None]) -> None:
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
        write(logits)

    def _write(self, logits: torch.Tensor) -> None:
        """Choose the next token of every slot from its logits [slots, vocabulary]."""
        chosen = self._sampler.next_tokens(logits, self._keys, self._drafts, self._temperatures)
        going = self._drafts.append(chosen)
        self._cache.positions.add_(going)
        self._tokens.copy_(torch.where(going, chosen, self._tokens))

    def _capture(self, write: Callable[[torch.Tensor], None]) -> None:
        """Record the step once; replaying it costs one launch."""
        self._model.set_attn_implementation(self._attention)
        with torch.inference_mode():
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self._step(write)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            # The one before lives until this one is there: without any, the pool is gone.
            with torch.cuda.graph(graph, pool=self._pool):
                self._step(write)
            self._graph = graph

    def _run(self, steps: int) -> None:
        for _ in range(steps):
            self._graph.replay() if self._graph is not None else self._step(self._write)

    def decode(self, rows: Sequence[SlotRow]) -> list[Draft]:
        """Decode rows greedily or by their keyed noise, returned in their order.

        Args:
            rows: prompts that fit ``shape`` with their limits, best the longest first.
        """
        with torch.inference_mode():
            prefix = self._prefix_of(rows)
            self._drafts.done.fill_(True)
            waiting = list(range(len(rows)))[::-1]
            free = list(range(self.shape.slots))
            working: dict[int, int] = {}  # slots, and the places of their rows
            written: dict[int, Draft] = {}
            # Admitting a few rows costs about as much as admitting many.
            enough = max(self.shape.slots // 8, 1)
            while waiting or working:
                if waiting and (len(free) >= enough or not working):
                    slots = [free.pop() for _ in range(min(len(free), len(waiting)))]
                    places = [waiting.pop() for _ in slots]
                    self._admit([rows[place] for place in places], slots, prefix)
                    working.update(zip(slots, places, strict=True))
                self._run(_STEPS_BETWEEN_LOOKS)
                done = self._drafts.done.tolist()
                finished = [slot for slot in working if done[slot]]
                report(len(finished), len(working) * _STEPS_BETWEEN_LOOKS)
                for slot, draft in zip(finished, self._drafts.read(finished), strict=True):
                    written[working.pop(slot)] = draft
                    free.append(slot)
        return [written[place] for place in range(len(rows))]

    def admit(self, row: SlotRow, slot: int) -> None:
        """Put a row into a slot, alone: the same sums in the same order, whoever else comes."""
        with torch.inference_mode():
            self._admit([row], [slot], None)

    def advance(self, slots: list[int], steps: int) -> dict[int, Draft]:
        """Take some steps; return what stands in slots so far."""
        with torch.inference_mode():
            self._run(steps)
            return dict(zip(slots, self._drafts.read(slots), strict=True))

    def release(self, slot: int) -> None:
        """Stop a slot's row, so that the slot can be given away."""
        with torch.inference_mode():
            self._drafts.done[slot] = True

    def _prefix_of(self, rows: Sequence[SlotRow]) -> Prefix | None:
        """Compute the tokens that all prompts begin with, unless that was done before."""
        shared = common_beginning([row.ids[:-1] for row in rows])
        if not shared:
            return None
        if self._prefix is None or self._prefix[0] != shared:
            prefix = Prefix()
            self._prefill(torch.tensor([shared], device=self._tokens.device), 0, prefix)
            self._prefix = shared, prefix
        return self._prefix[1]

    def _prefill(self, ids: torch.Tensor, before: int, cache: Any) -> None:
        """Run tokens through the model for their keys and values only."""
        width, model = ids.shape[1], self._model
        positions = before + torch.arange(width, device=ids.device)
        mask = torch.full((width, before + width), -math.inf, dtype=model.dtype, device=ids.device)
        mask = torch.triu(mask, diagonal=before + 1)[None, None]
        getattr(model, model.base_model_prefix)(
            input_ids=ids,
            position_ids=positions[None].expand(len(ids), -1),
            attention_mask=mask.expand(len(ids), -1, -1, -1),
            past_key_values=cache,
            use_cache=True,
        )

    def _admit(self, rows: list[SlotRow], slots: list[int], prefix: Prefix | None) -> None:
        """Prefill prompts into slots, but for their last token: the next step takes that."""
        device = self._tokens.device
        index = torch.tensor(slots, device=device)
        before = prefix.keys[0].shape[2] if prefix else 0
        for places in group_by_length([len(row.ids) - 1 - before for row in rows]):
            rests = [rows[place].ids[before:-1] for place in places]
            cache = PrefillCache(self._cache, index[places], prefix)
            widest = len(rests[0])
            # A padded position is written again by the step that comes to it.
            padded = torch.tensor([rest + [0] * (widest - len(rest)) for rest in rests])
            if widest:
                self._prefill(padded.to(device), before, cache)
            elif prefix is not None:
                cache.copy_prefix(prefix)
        self._cache.positions[index] = torch.tensor([len(r.ids) - 1 for r in rows], device=device)
        self._tokens[index] = torch.tensor([row.ids[-1] for row in rows], device=device)
        self._keys[index] = torch.tensor([row.key for row in rows], device=device)
        if self._temperatures is not None:
            own = torch.tensor([row.temperature for row in rows], device=device)
            self._temperatures[index] = own
        self._drafts.begin(index, torch.tensor([row.limit for row in rows], device=device))


def group_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Group the places of rows by length, longest first, so that padding a group costs little."""
    groups: list[list[int]] = []
    widest = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        tokens = widest * len(groups[-1]) if groups else _PREFILL_TOKENS + 1
        least = _ALIKE * widest if tokens >= _BUSY_TOKENS else 0
        if tokens + widest > _PREFILL_TOKENS or lengths[place] < least:
            groups.append([])
            widest = lengths[place]
        groups[-1].append(place)
    return groups


def common_beginning(lists: Sequence[list[int]]) -> list[int]:
    """Return the longest list that all the lists begin with."""
    pairs = zip(min(lists, default=[]), max(lists, default=[]), strict=False)
    return [one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]


def bytes_per_slot(model: Any, length: int) -> int:
    """Estimate the memory of one slot: its cache, and its logits with what choosing needs."""
    config = model.config
    width = config.num_key_value_heads * attention.head_size(config)
    position = 2 * config.num_hidden_layers * width
    return int(position * length * model.dtype.itemsize + 32 * config.vocab_size)


def round_up(number: int) -> int:
    """Round a length up to what kernels like."""
    return -(-number // _ROUNDING) * _ROUNDING
