"""Prompts in, texts out: the protocol, and the reference engine on transformers' ``generate``.

The only file of this stage that imports torch, transformers and peft, and only inside functions.
Loads safetensors only, never remote code. Knows nothing of files of titles or of Dask.
"""

import functools
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from data.artefacts.run import check_vocabulary
from data.tokens import TextTokenizer
from inference.engine.requests import Completion, Request, Settings
from inference.engine.weights import Model, choose_device


class Texts:
    """A model's tokenizer: requests to ids, and ids to completions."""

    context: int = 0
    """Positions of the model; set once it is loaded."""

    def __init__(self, model: Model, settings: Settings) -> None:
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

    def fit(self, loaded: Any) -> None:
        """Take the context from the loaded model, which must know every token.

        Raises:
            ModelError: the tokenizer has more tokens than the model.
        """
        check_vocabulary(self.tokenizer, loaded, str(self.tokenizer.name_or_path))
        self.context = int(loaded.config.max_position_embeddings)

    def encode(self, requests: Sequence[Request]) -> list[list[int]]:
        """Tokenise prompts."""
        return self.tokens.encode([request.prompt for request in requests])

    def completions(self, prompts: list[list[int]], new: list[list[int]]) -> list[Completion]:
        """Make completions of new tokens: up to the end of sequence, or where the context ends."""
        kept: list[list[int]] = []
        stopped: list[bool] = []
        for prompt, tokens in zip(prompts, new, strict=True):
            # A row is cut where the context ends, whatever its batch had room for.
            within = tokens[: self.context - len(prompt)]
            stopped.append(self.eos in within)
            kept.append(within[: within.index(self.eos)] if stopped[-1] else within)
        texts = [self.tokenizer.decode(each, skip_special_tokens=True) for each in kept]
        return [
            Completion(text.strip(), "stop" if ends else "length", len(prompt), len(tokens))
            for text, ends, prompt, tokens in zip(texts, stopped, prompts, kept, strict=True)
        ]

    @functools.cached_property
    def _ids(self) -> "WeakKeyDictionary[Request, list[int]]":
        return WeakKeyDictionary()

    def encode_once(self, requests: Sequence[Request]) -> list[list[int]]:
        """Tokenise prompts, and remember them as long as their requests live.

        Whoever asks for room asks for texts next, and tokenising twice is no small part of both.
        """
        known = {each: ids for each in requests if (ids := self._ids.get(each)) is not None}
        new = [each for each in dict.fromkeys(requests) if each not in known]
        fresh = dict(zip(new, self.encode(new), strict=True))
        self._ids.update(fresh)
        known |= fresh
        return [known[each] for each in requests]
