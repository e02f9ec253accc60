"""The engine for GPUs: prompts sorted into decoders of fixed shape, as large as memory allows.

Prompts in, texts out, like the reference engine, whose greedy tokens it gives in float32. Knows
nothing of files of titles or of Dask.
"""

import gc
import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from data.console import parse_memory
from data.errors import ModelError
from inference.engine.reference import ReferenceEngine
from inference.engine.requests import Completion, Engine, Request, Settings
from inference.engine.sampler import Sampler, row_key
from inference.engine.texts import Texts
from inference.engine.weights import Model, limit_memory, limit_threads, load_merged

log = logging.getLogger("catalogue")

# Model types whose attention is the decoder's: causal, no window, no soft cap.
_SUPPORTED = ("llama",)
# Prompts of up to so many tokens beyond what all of them share go through the large decoder; a
# few longer ones would otherwise lengthen the cache of all.
_USUAL_REST = 128
_MOST_SLOTS = 1_024
_CPU_SLOTS = 64
_LEAST_SLOTS = 8
_FEW = 16
# Of the free memory: the rest is for prefill, fragments and the graph's own pool.
_SHARE = 0.7


class FastEngine:
    """Continuous batching over fixed slots, a CUDA graph a step (``decoder``)."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self._texts = Texts(model, settings)
        self._settings = settings
        self._device = self._texts.device
        limit_memory(settings, self._device)
        self._model = load_merged(model, self._device)
        limit_threads(settings, self._model)
        self._chooser = Sampler(settings.temperature, settings.top_p)
        self._texts.fit(self._model)
        self._context = self._texts.context
        self._decoders: dict[int, Any] = {}
        usual = _MOST_SLOTS if self._device.type == "cuda" else _CPU_SLOTS
        self._most = settings.batch_size or usual
        self._compiles = self._device.type == "cuda"
        self._one_at_a_time = threading.Lock()

    def room(self, requests: Sequence[Request]) -> list[int]:
        """Tell how many tokens each prompt leaves in the model's context."""
        return [self._context - len(ids) for ids in self._texts.encode_once(requests)]

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Write the texts, in the order of the requests.

        Raises:
            ModelError: not even a few rows fit into memory.
        """
        from inference.engine.slots import SlotRow, common_beginning

        ids = self._texts.encode_once(requests)
        most = self._settings.max_new_tokens
        rows = [
            SlotRow(
                each,
                row_key(request.uid, self._settings.seed),
                min(most, self._context - len(each)),
            )
            for each, request in zip(ids, requests, strict=True)
        ]
        shared = len(common_beginning([each[:-1] for each in ids]))
        order = sorted(range(len(rows)), key=lambda place: (-len(ids[place]), place))
        written: dict[int, list[int]] = {}
        for cap, places in self._buckets(ids, order, shared).items():
            with self._one_at_a_time:
                found = self._decode([rows[place] for place in places], cap)
            written.update(zip(places, found, strict=True))
        tokens = [written[place] for place in range(len(rows))]
        return self._texts.completions(ids, tokens)

    def _buckets(self, ids: list[list[int]], order: list[int], shared: int) -> dict[int, list[int]]:
        """Sort prompts by the length of the decoder that they need."""
        from inference.engine.slots import round_up

        usual = round_up(shared + _USUAL_REST)
        buckets: dict[int, list[int]] = {}
        for place in order:
            cap = usual
            while cap < len(ids[place]):
                cap *= 2
            buckets.setdefault(min(cap, self._context), []).append(place)
        return buckets

    def _decode(self, rows: list[Any], cap: int) -> list[list[int]]:
        """Decode rows, with half as many slots whenever memory runs out."""
        import torch

        while True:
            try:
                return list(self._decoder(cap, len(rows)).decode(rows))
            except torch.OutOfMemoryError as error:
                slots = self._drop(cap) // 2
                if slots < _LEAST_SLOTS:
                    expected, mend = f"memory for {_LEAST_SLOTS} titles at once", "free some"
                    raise ModelError(str(self._device), expected, "too little", mend) from error
                self._most = slots
            log.warning("out of memory: on with %s titles at once", f"{self._most:,}")
            gc.collect()
            torch.cuda.empty_cache()

    def _drop(self, cap: int) -> int:
        dropped = self._decoders.pop(cap, None)
        self._decoders.clear()
        return dropped.shape.slots if dropped else self._most

    def _decoder(self, cap: int, rows: int) -> Any:
        """Give the decoder of prompts up to this length, made once."""
        from inference.engine.slots import Decoder, SlotShape, round_up

        made = self._decoders.get(cap)
        if made is not None and made.shape.slots >= min(rows, _FEW):
            return made
        most = self._settings.max_new_tokens
        length = round_up(cap + most)
        slots = min(self._most, self._fitting(length))
        # Few rows, as over-long prompts are, are not worth a large cache or a compilation.
        is_large = rows > _FEW
        if not is_large:
            slots = min(slots, _FEW)
        shape = SlotShape(slots, length, most)
        self._decoders.pop(cap, None)
        compiled = is_large and self._compiles
        made = Decoder(self._model, self._chooser, self._texts.eos, shape, compiled=compiled)
        self._decoders[cap] = made
        return made

    def _fitting(self, length: int) -> int:
        """Tell how many slots of a length fit into the memory that is free now."""
        import torch

        from inference.engine.slots import bytes_per_slot

        if self._device.type != "cuda":
            return self._most
        free, total = torch.cuda.mem_get_info(self._device)
        if self._settings.memory_limit:
            total = min(total, parse_memory(self._settings.memory_limit))
        reserved = torch.cuda.memory_reserved(self._device)
        left = min(free, total - reserved) * _SHARE
        slots = int(left / bytes_per_slot(self._model, length))
        return max(slots // 64 * 64, _LEAST_SLOTS)


def choose(
    asked: Literal["auto", "fast", "reference"], model: Model
) -> Literal["fast", "reference"]:
    """Choose the fast engine where it supports the model.

    Args:
        asked: by the user.
        model: to write with.

    Raises:
        ModelError: the fast engine was asked for and does not support the model.
    """
    if asked == "reference":
        return "reference"
    if supports(model):
        return "fast"
    if asked == "fast":
        expected = "a Llama without sliding window"
        raise ModelError(model.base, expected, "another model", "use --engine reference")
    log.warning("engine: reference, as the fast one does not support this model")
    return "reference"


def load(model: Model, settings: Settings) -> Engine:
    """Load a model into the engine that the settings name."""
    if settings.engine == "reference":
        return ReferenceEngine(model, settings)
    return FastEngine(model, settings)


def supports(model: Model) -> bool:
    """Tell whether the decoder's attention is the model's own: by its ``config.json`` alone."""
    config = json.loads((Path(model.base) / "config.json").read_text())
    return config.get("model_type") in _SUPPORTED and not config.get("sliding_window")
