"""A model with its tokenizer: requests to ids, and ids to completions."""

import functools
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from data.artefacts.run import Run, check_vocabulary
from data.tokens import TextTokenizer
from inference.engine.requests import Completion, Request, Settings, choose_device
from inference.engine.weights import limit_memory, limit_threads, load_merged


def load(model: Run, settings: Settings) -> tuple[Any, "Texts"]:
    """Load a model with its tokenizer, within the settings' memory and threads.

    Raises:
        ModelError: the weights are not whole and finite, or the tokenizer has more tokens.
    """
    texts = Texts(model, settings)
    limit_memory(settings, texts.device)
    loaded = load_merged(model, texts.device)
    limit_threads(settings, loaded)
    check_vocabulary(texts.tokenizer, loaded, str(texts.tokenizer.name_or_path))
    texts.context = int(loaded.config.max_position_embeddings)
    return loaded, texts


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
        self.tokens = TextTokenizer(self.tokenizer)
        self.eos = self.tokens.eos

    def room(self, requests: Sequence[Request]) -> list[int]:
        """Count the tokens that each prompt leaves in the model's context, below 0 for none."""
        return [self.context - len(ids) for ids in self.encode_once(requests)]

    def encode(self, requests: Sequence[Request]) -> list[list[int]]:
        """Tokenise prompts."""
        return self.tokens.encode([request.prompt for request in requests])

    def completions(self, prompts: list[list[int]], new: list[list[int]]) -> list[Completion]:
        """Build completions of new tokens: up to the end of sequence, or of the context."""
        completions: list[Completion] = []
        for prompt, tokens in zip(prompts, new, strict=True):
            # A row is cut where the context ends, whatever its batch had room for.
            ids = tokens[: self.context - len(prompt)]
            reason = "stop" if self.eos in ids else "length"
            if reason == "stop":
                ids = ids[: ids.index(self.eos)]
            text = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
            completions.append(Completion(text, reason, len(prompt), len(ids)))
        return completions

    @functools.cached_property
    def _ids(self) -> "WeakKeyDictionary[Request, list[int]]":
        return WeakKeyDictionary()

    def encode_once(self, requests: Sequence[Request]) -> list[list[int]]:
        """Tokenise prompts, and remember them as long as their requests live.

        A caller asks for room first and for texts next, and tokenising is no small part of both.
        """
        remembered = {r: ids for r in requests if (ids := self._ids.get(r)) is not None}
        new = [request for request in dict.fromkeys(requests) if request not in remembered]
        fresh = dict(zip(new, self.encode(new), strict=True))
        self._ids.update(fresh)
        return [remembered.get(request) or fresh[request] for request in requests]
