"""The model to write with: base and adapter merged, and its tokenizer."""

import functools
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from data.artefacts import weights
from data.artefacts.run import Run
from data.console import parse_memory
from data.errors import ModelError
from data.tokens import TextTokenizer
from inference.engine.drafts import Draft, Ending, find_sentence_ends
from inference.engine.requests import Completion, Request, Settings, choose_device
from inference.engine.sampler import Sampler

if TYPE_CHECKING:
    import torch

_WORTH_THREADS = 20_000_000
_PROBE = 32
# Relative distance (2-norm) of logits before and after merging: rounding of weights alone.
_MERGED_APART = 1e-3


def load(model: Run, settings: Settings) -> tuple[Any, "Texts"]:
    """Load a model with its tokenizer, within the settings' memory and threads.

    Raises:
        ModelError: the weights are not whole and finite, or the tokenizer has more tokens.
    """
    texts = Texts(model, settings)
    _limit_memory(settings, texts.device)
    loaded = load_merged(model, texts.device)
    _limit_threads(settings, loaded)
    weights.check_vocabulary(texts.tokenizer, loaded, str(texts.tokenizer.name_or_path))
    texts.context = int(loaded.config.max_position_embeddings)
    return loaded, texts


def sampler(loaded: Any, texts: "Texts", settings: Settings) -> Sampler:
    """Build what chooses the tokens of a loaded model."""
    ending = None
    if settings.end_after:
        marks = find_sentence_ends(texts.tokenizer, loaded.config.vocab_size)
        ending = Ending(settings.end_after, texts.eos, marks.to(texts.device))
    return Sampler(settings.temperature, settings.top_p, settings.min_p,
                   settings.repetition_penalty, settings.no_repeat_ngram, ending)  # fmt: skip


def _limit_memory(settings: Settings, device: "torch.device") -> None:
    """Keep this process below ``--memory_limit`` on a GPU."""
    import torch

    if settings.memory_limit and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        share = parse_memory(settings.memory_limit) / total
        torch.cuda.set_per_process_memory_fraction(min(share, 1.0), device)


def _limit_threads(settings: Settings, loaded: Any) -> None:
    """Limit torch on a CPU to its share of the cores, and a small model to one of them."""
    import torch

    if settings.threads and loaded.device.type == "cpu":
        # Threads of a small model wait for each other longer than they compute: 64 rows of the
        # sample's model took 1.4 s with one thread, 6 s with two on two busy cores.
        is_small = loaded.num_parameters() < _WORTH_THREADS
        torch.set_num_threads(1 if is_small else settings.threads)


def load_merged(model: Run, device: "torch.device") -> Any:
    """Load base weights, put the adapter into them, in 16 bits on a GPU and 32 on a CPU.

    Raises:
        ModelError: base or adapter are not whole and finite, or do not fit each other.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    # Our own error names missing and other tensors.
    logging.set_verbosity_error()
    # Merged in 32 bits and rounded once: in 16 bits, adding a well-trained adapter rounded away so
    # much that a third of the logits changed.
    in_16_bits = device.type == "cuda"
    dtype = torch.bfloat16 if in_16_bits and not model.adapter else torch.float32
    loaded = weights.load(
        model.base, AutoModelForCausalLM, dtype=dtype, device_map={"": device}
    ).eval()
    if model.adapter:
        loaded = _with_adapter(loaded, model.adapter)
    return (round_weights(loaded) if in_16_bits else loaded).eval()


def round_weights(loaded: Any) -> Any:
    """Round a model's weights to bf16, in place, and nothing else.

    ``to`` would round the frequencies of its positions too, which must stay in 32 bits.
    """
    import torch

    for weight in loaded.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    return loaded


def _with_adapter(loaded: Any, adapter: str) -> Any:
    """Merge an adapter into its base; the merged model must say what both together said."""
    # A worker is told nothing by the command line: of kernels for 4 bits on a CPU, for one.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import peft

    both = weights.with_adapter(loaded, adapter, peft)
    before = _probe(both)
    merged = both.merge_and_unload(safe_merge=True)
    apart = float((_probe(merged) - before).norm() / before.norm())
    if not apart <= _MERGED_APART:
        expected = "a merge that says what adapter and base say"
        raise ModelError(adapter, expected, f"logits that are {apart:.1%} apart")
    return merged


def _probe(model: Any) -> "torch.Tensor":
    """Compute the logits of a few tokens: float32 [tokens, vocabulary]."""
    import torch

    ids = torch.arange(_PROBE, device=model.device)[None] % model.config.vocab_size
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids).logits[0].float()
    return logits


class Texts:
    """A model's tokenizer: requests to ids, and ids to completions."""

    context: int = 0
    """Positions of the model; set once it is loaded."""

    def __init__(self, model: Run, settings: Settings) -> None:
        import torch
        from transformers import AutoTokenizer

        # A worker sees the GPU that it is to use as its first.
        index = 0 if choose_device(settings.device) == "cuda" else None
        self.device = torch.device(choose_device(settings.device), index)
        self.tokenizer = AutoTokenizer.from_pretrained(
            model.base, padding_side="left", trust_remote_code=False
        )
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.tokens = TextTokenizer(self.tokenizer, model.chat)
        self.eos = self.tokens.eos

    def room(self, requests: Sequence[Request]) -> list[int]:
        """Count the tokens that each prompt leaves in the model's context, below 0 for none."""
        return [self.context - len(ids) for ids in self.encode_once(requests)]

    def encode(self, requests: Sequence[Request]) -> list[list[int]]:
        """Tokenise prompts."""
        return self.tokens.encode([request.prompt for request in requests])

    def completion(self, prompt: list[int], draft: Draft) -> Completion:
        """Build the completion of a row: up to its end of sequence, or its loop."""
        ids, reason = draft.ids, "length"
        if draft.tail:
            ids, reason = ids[: -draft.tail], "loop"
        elif ids[-1:] == [self.eos]:
            ids, reason = ids[:-1], "stop"
        text = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
        return Completion(text, reason, len(prompt), len(ids))

    @functools.cached_property
    def _ids(self) -> "WeakKeyDictionary[Request, list[int]]":
        return WeakKeyDictionary()

    def encode_once(self, requests: Sequence[Request]) -> list[list[int]]:
        """Tokenise prompts, and remember them as long as their requests live.

        A caller asks for room first and for texts next, and tokenising is no small part of both.
        """
        remembered = {r: ids for r in requests if (ids := self._ids.get(r)) is not None}
        new = [request for request in dict.fromkeys(requests) if request not in remembered]
        # Several texts of a title have one prompt.
        prompts = {request.prompt: request for request in new}
        encoded = dict(zip(prompts, self.encode([*prompts.values()]), strict=True))
        fresh = {request: encoded[request.prompt] for request in new}
        self._ids.update(fresh)
        return [remembered.get(request) or fresh[request] for request in requests]


def free_memory(device: str) -> None:
    """Return GPU memory that torch only keeps: an engine counts it as used."""
    import gc

    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def visible_gpus() -> list[str]:
    """Name the GPUs that this process may use, as CUDA_VISIBLE_DEVICES would."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]
