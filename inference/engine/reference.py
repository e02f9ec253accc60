"""The reference engine: transformers' own ``generate`` on merged weights."""

import threading
from collections.abc import Sequence
from typing import Any

from data.artefacts.run import Run
from data.errors import ModelError
from inference.engine import weights
from inference.engine.requests import Completion, Request, Settings, report
from inference.engine.sampler import Sampler, row_key

_REFERENCE_BATCH = 64


class ReferenceEngine:
    """transformers' ``generate`` on merged weights: any device, batches sorted by length."""

    def __init__(self, model: Run, settings: Settings) -> None:
        self._settings = settings
        self._model, self._texts = weights.load(model, settings)
        self._one_at_a_time = threading.Lock()

    def room(self, requests: Sequence[Request]) -> list[int]:
        """Count the tokens that each prompt leaves in the model's context."""
        return self._texts.room(requests)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Write the texts, longest prompts first, returned in the order of the requests."""
        ids = self._texts.encode_once(requests)
        order = sorted(range(len(ids)), key=lambda place: (-len(ids[place]), place))
        written: dict[int, list[int]] = {}
        size = self._settings.batch_size or _REFERENCE_BATCH
        for start in range(0, len(order), size):
            places = order[start : start + size]
            batch = [ids[place] for place in places]
            with self._one_at_a_time:
                tokens = self._write(batch, [requests[place].uid for place in places])
            written.update(zip(places, tokens, strict=True))
            report(len(places), sum(map(len, tokens)))
        return self._texts.completions(ids, [written[place] for place in range(len(requests))])

    def _write(self, ids: list[list[int]], uids: list[str]) -> list[list[int]]:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        tokenizer, settings, device = self._texts.tokenizer, self._settings, self._texts.device
        padded = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(device)
        config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
        )
        draws = [_keyed_choice(uids, settings)] if settings.temperature else []
        try:
            with torch.inference_mode():
                output = self._model.generate(
                    input_ids=padded["input_ids"],
                    attention_mask=padded["attention_mask"],
                    generation_config=config,
                    logits_processor=LogitsProcessorList(draws),
                )
        except torch.OutOfMemoryError as error:
            expected = f"memory for {len(ids)} titles at once"
            hint = "ask for fewer with --batch_size"
            raise ModelError(str(device), expected, "too little", hint) from error
        new: list[list[int]] = output[:, padded["input_ids"].shape[1] :].tolist()
        return new


def _keyed_choice(uids: Sequence[str], settings: Settings) -> Any:
    """Build a logits processor that turns greedy choice into a draw keyed by row and step."""
    import torch
    from transformers import LogitsProcessor

    sampler = Sampler(settings.temperature, settings.top_p)
    keys = torch.tensor([row_key(uid, settings.seed) for uid in uids])

    class KeyedChoice(LogitsProcessor):  # type: ignore[misc]
        step = 0

        def __call__(self, _: Any, scores: Any) -> Any:
            steps = torch.full((len(scores),), self.step, device=scores.device)
            self.step += 1
            chosen = sampler.choose(scores, keys.to(scores.device), steps)
            return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)

    return KeyedChoice()
