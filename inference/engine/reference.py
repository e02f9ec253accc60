"""The reference engine: transformers' own ``generate`` on merged weights."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from data.artefacts.run import Run
from data.errors import ModelError
from inference.engine import weights
from inference.engine.drafts import Draft, Drafts
from inference.engine.requests import AS_SET, Completion, Request, Settings, Wish, report
from inference.engine.sampler import Sampler, row_key

if TYPE_CHECKING:
    import torch

_REFERENCE_BATCH = 64


class ReferenceEngine:
    """transformers' ``generate`` on merged weights: any device, batches sorted by length."""

    def __init__(self, model: Run, settings: Settings) -> None:
        self._settings = settings
        self._model, self._texts = weights.load(model, settings)
        self._sampler = weights.sampler(self._model, self._texts, settings)
        self._one_at_a_time = threading.Lock()

    @property
    def context(self) -> int:
        """Tokens of prompt and text together at most."""
        return self._texts.context

    def room(self, requests: Sequence[Request]) -> list[int]:
        """Count the tokens that each prompt leaves in the model's context."""
        return self._texts.room(requests)

    def cut(self, text: str, tokens: int) -> str:
        """Cut a text behind so many tokens at most."""
        return self._texts.tokens.cut([text], tokens)[0]

    def generate(self, requests: Sequence[Request], wish: Wish = AS_SET) -> list[Completion]:
        """Write the texts, longest prompts first, returned in the order of the requests."""
        ids = self._texts.encode_once(requests)
        order = sorted(range(len(ids)), key=lambda place: (-len(ids[place]), place))
        written: dict[int, Draft] = {}
        size = self._settings.batch_size or _REFERENCE_BATCH
        for start in range(0, len(order), size):
            places = order[start : start + size]
            batch = [ids[place] for place in places]
            with self._one_at_a_time:
                drafts = self._write(batch, [requests[place] for place in places], wish)
            written.update(zip(places, drafts, strict=True))
            report(len(places), sum(len(draft.ids) for draft in drafts))
        return [self._texts.completion(ids[place], written[place]) for place in range(len(ids))]

    def _write(self, ids: list[list[int]], requests: Sequence[Request], wish: Wish) -> list[Draft]:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        tokenizer, settings, device = self._texts.tokenizer, self._settings, self._texts.device
        padded = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(device)
        config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=self._texts.eos,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
        )
        most = min(wish.most_tokens or settings.max_new_tokens, settings.max_new_tokens)
        limits = [min(most, self._texts.context - len(prompt)) for prompt in ids]
        drafts = Drafts(len(ids), most, self._texts.eos, device)
        drafts.begin(torch.arange(len(ids), device=device), torch.tensor(limits, device=device))
        keys = [row_key(request.uid, settings.seed, request.draw) for request in requests]
        sampler = self._sampler
        if wish.temperature is not None:
            sampler = replace(sampler, temperature=wish.temperature)
        choice = _keyed_choice(sampler, torch.tensor(keys, device=device), drafts)
        try:
            with torch.inference_mode():
                self._model.generate(
                    input_ids=padded["input_ids"],
                    attention_mask=padded["attention_mask"],
                    generation_config=config,
                    logits_processor=LogitsProcessorList([choice]),
                    stopping_criteria=StoppingCriteriaList([lambda *_, **__: drafts.done]),
                )
        except torch.OutOfMemoryError as error:
            expected = f"memory for {len(ids)} titles at once"
            hint = "ask for fewer with --batch_size"
            raise ModelError(str(device), expected, "too little", hint) from error
        return drafts.read(range(len(ids)))


def _keyed_choice(sampler: Sampler, keys: "torch.Tensor", drafts: Drafts) -> Any:
    """Build a logits processor that leaves each draft the token that the sampler chooses."""
    import torch
    from transformers import LogitsProcessor

    class KeyedChoice(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, _: Any, scores: Any) -> Any:
            chosen = sampler.next_tokens(scores, keys, drafts)
            drafts.append(chosen)
            return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)

    return KeyedChoice()
