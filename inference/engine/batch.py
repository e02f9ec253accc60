"""The engine for GPUs: prompts sorted into decoders of fixed shape, as large as memory allows.

Its greedy tokens in float32 are those of the reference engine.
"""

import json
import logging
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data.artefacts.run import Run
from data.console import parse_memory
from data.errors import ModelError
from inference.engine import weights
from inference.engine.drafts import Draft
from inference.engine.reference import ReferenceEngine
from inference.engine.requests import Completion, Engine, Request, Settings
from inference.engine.sampler import row_key
from inference.engine.weights import free_memory

if TYPE_CHECKING:
    from inference.engine.slots.decoder import Decoder, SlotRow

log = logging.getLogger("catalogue")

# Model types whose attention is the decoder's: causal, grouped heads, no soft cap, no experts.
_FAMILIES = frozenset(
    (
        "apertus", "arcee", "bitnet", "cohere", "cohere2", "cwm", "diffllama", "ernie4_5",
        "exaone4", "gemma", "glm", "glm4", "granite", "helium", "hunyuan_v1_dense",
        "hyperclovax", "jais2", "llama", "ministral", "ministral3", "mistral", "nanochat",
        "nemotron", "olmo", "olmo2", "olmo3", "phi", "phi3", "qwen2", "qwen3", "seed_oss",
        "smollm3", "stablelm", "starcoder2",
    )
)  # fmt: skip
# Prompts of up to so many tokens beyond what all of them share go through the large decoder; a
# few longer ones would otherwise lengthen the cache of all.
_USUAL_REST = 128
_MOST_SLOTS = {"cuda": 1_024, "cpu": 64}
_LEAST_SLOTS = 8
_FEW = 16
# Of the free memory: the rest is for prefill, fragments and the graph's own pool.
_SHARE = 0.7


class FastEngine:
    """Continuous batching over fixed slots, a CUDA graph a step (``slots``)."""

    def __init__(self, model: Run, settings: Settings) -> None:
        self._settings = settings
        self._model, self._texts = weights.load(model, settings)
        self._device = self._texts.device
        self._sampler = weights.sampler(self._model, self._texts, settings)
        self._decoders: dict[int, Decoder] = {}
        self._slots_that_fit: dict[int, int] = {}
        self._usual_rest = _USUAL_REST + model.prompt.shown_tokens
        self._most = settings.batch_size or _MOST_SLOTS[self._device.type]
        self._usual_tokens = min(
            model.mean_completion_tokens or settings.max_new_tokens, settings.max_new_tokens
        )
        self._written = 0
        self._one_at_a_time = threading.Lock()

    def room(self, requests: Sequence[Request]) -> list[int]:
        """Count the tokens that each prompt leaves in the model's context."""
        return self._texts.room(requests)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Write the texts, in the order of the requests.

        Raises:
            ModelError: not even a few rows fit into memory.
        """
        from inference.engine.slots.decoder import SlotRow

        ids = self._texts.encode_once(requests)
        rows = []
        for prompt, request in zip(ids, requests, strict=True):
            limit = min(self._settings.max_new_tokens, self._texts.context - len(prompt))
            key = row_key(request.uid, self._settings.seed, request.draw)
            rows.append(SlotRow(prompt, key, limit))
        written: dict[int, Draft] = {}
        # Where nobody knows how many come, as many as came so far.
        ahead = max((self._settings.texts or 2 * self._written) - self._written, len(ids))
        for cap, places in self._buckets(ids).items():
            with self._one_at_a_time:
                like = ahead * len(places) // len(ids)
                drafts = self._decode([rows[place] for place in places], cap, like)
            written.update(zip(places, drafts, strict=True))
        self._written += len(ids)
        return [self._texts.completion(ids[place], written[place]) for place in range(len(ids))]

    def _buckets(self, ids: list[list[int]]) -> dict[int, list[int]]:
        """Sort prompts by the length of the decoder that they need, longest first."""
        from inference.engine.slots.decoder import common_beginning, round_up

        shared = len(common_beginning([prompt[:-1] for prompt in ids]))
        buckets: dict[int, list[int]] = {}
        for place in sorted(range(len(ids)), key=lambda place: (-len(ids[place]), place)):
            cap = round_up(shared + self._usual_rest)
            while cap < len(ids[place]):
                cap *= 2
            buckets.setdefault(min(cap, self._texts.context), []).append(place)
        return buckets

    def _decode(self, rows: "list[SlotRow]", cap: int, ahead: int) -> list[Draft]:
        """Decode rows, of ``ahead`` like them, with half as many slots when memory runs out."""
        import torch

        while True:
            try:
                decoder = self._decoder(cap, len(rows))
                decoder.compile_where_it_pays(ahead * self._usual_tokens)
                return decoder.decode(rows)
            except torch.OutOfMemoryError as error:
                slots = self._decoders[cap].shape.slots if cap in self._decoders else self._most
                self._decoders.clear()
                self._slots_that_fit.clear()
                if slots // 2 < _LEAST_SLOTS:
                    expected, hint = f"memory for {_LEAST_SLOTS} titles at once", "free some"
                    raise ModelError(str(self._device), expected, "too little", hint) from error
                self._most = slots // 2
            log.warning("out of memory: on with %s titles at once", f"{self._most:,}")
            free_memory(self._device.type)

    def _decoder(self, cap: int, rows: int) -> "Decoder":
        """Return the decoder of prompts up to this length, built anew only for many more rows."""
        from inference.engine.slots.decoder import Decoder, SlotShape, round_up

        most = self._settings.max_new_tokens
        length = round_up(cap + most)
        if cap not in self._slots_that_fit:
            self._slots_that_fit[cap] = min(self._most, self._fitting(length))
        slots = even_slots(rows, self._slots_that_fit[cap])
        decoder = self._decoders.get(cap)
        if decoder is not None and 2 * decoder.shape.slots > slots:
            return decoder
        self._decoders.pop(cap, None)
        shape = SlotShape(slots, length, most)
        self._decoders[cap] = Decoder(self._model, self._sampler, self._texts.eos, shape)
        return self._decoders[cap]

    def _fitting(self, length: int) -> int:
        """Count the slots of a length that fit into the memory that is free now."""
        import torch

        from inference.engine.slots.decoder import bytes_per_slot

        if self._device.type != "cuda":
            return self._most
        free, total = torch.cuda.mem_get_info(self._device)
        if self._settings.memory_limit:
            total = min(total, parse_memory(self._settings.memory_limit))
        reserved = torch.cuda.memory_reserved(self._device)
        left = min(free, total - reserved) * _SHARE
        slots = int(left / bytes_per_slot(self._model, length))
        return max(slots // 64 * 64, _LEAST_SLOTS)


def even_slots(rows: int, most: int) -> int:
    """Choose how many slots so many rows go through, at most ``most``, so that each round is full.

    A step costs by its slots, in use or not: 1,000 rows in 832 take as long as 1,664 would.
    """
    from inference.engine.slots.decoder import round_up

    if rows <= _FEW:
        return min(most, _FEW)
    rounds = -(-rows // most)
    return min(most, round_up(-(-rows // rounds)))


def choose(
    engine: Literal["auto", "fast", "reference"], model: Run
) -> Literal["fast", "reference"]:
    """Choose the fast engine for ``auto`` where it knows the model.

    Raises:
        ModelError: the fast engine was named and does not know the model.
    """
    if engine == "reference":
        return "reference"
    reason = unsupported(model)
    if not reason:
        return "fast"
    if engine == "fast":
        expected = "a model that the fast engine knows"
        raise ModelError(model.base, expected, reason, "use --engine reference")
    log.warning("engine: reference: the fast one does not know %s", reason)
    return "reference"


def load(model: Run, settings: Settings) -> Engine:
    """Load a model into the engine that the settings name."""
    if settings.engine == "reference":
        return ReferenceEngine(model, settings)
    return FastEngine(model, settings)


def unsupported(model: Run) -> str:
    """Say what of a model is not the decoder's, by its ``config.json`` alone; "" for nothing."""
    raw = json.loads((Path(model.base) / "config.json").read_text(encoding="utf-8"))
    kind = raw.get("model_type")
    if kind not in _FAMILIES:
        return f"the family {kind!r}"
    if kind == "llama" and not raw.get("rope_scaling") and not raw.get("sliding_window"):
        rope = raw.get("rope_parameters") or {}
        if rope.get("rope_type", "default") == "default":
            return ""  # the usual one: importing transformers takes seconds
    from transformers import AutoConfig

    # The class fills in what the file leaves out: Mistral has a window by default.
    config = AutoConfig.from_pretrained(model.base, trust_remote_code=False)
    window = getattr(config, "sliding_window", None) or math.inf
    layers = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    if "sliding_attention" in layers and window < config.max_position_embeddings:
        return f"layers that see {window:,} of {config.max_position_embeddings:,} tokens"
    if others := layers - {"full_attention", "sliding_attention"}:
        return f"layers of {', '.join(sorted(others))}"
    # Frequencies that follow the longest row would differ with a row's neighbours.
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = {each.get("rope_type") for each in (rope, *rope.values()) if isinstance(each, dict)}
    if following := kinds & {"dynamic", "longrope"}:
        return f"{following.pop()} positions"
    return ""
