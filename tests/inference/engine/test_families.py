"""Every family that the fast engine knows: token for token what the model itself would say."""

import random
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from inference.engine.batch import _FAMILIES
from inference.engine.sampler import Sampler
from inference.engine.slots.decoder import Decoder, SlotRow, SlotShape

VOCABULARY, END, LIMIT = 97, 2, 12


def random_model(family: str) -> Any:
    """Build a random model of four layers whose weights are large enough to speak."""
    config = AutoConfig.for_model(
        family, vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=256,
        pad_token_id=0, bos_token_id=1, eos_token_id=END,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.25)
    return model


def say(model: Any, prompt: list[int]) -> list[int]:
    """Greedy tokens without any cache."""
    ids = list(prompt)
    with torch.inference_mode():
        while len(ids) < len(prompt) + LIMIT and ids[-1] != END:
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("family", sorted(_FAMILIES))
def test_tokens_are_the_models_own(family: str) -> None:
    model = random_model(family)
    draw = random.Random(0)  # noqa: S311
    prompts = [
        [draw.randrange(3, VOCABULARY) for _ in range(draw.randrange(3, 40))] for _ in range(10)
    ]
    expected = [say(model, prompt) for prompt in prompts]
    assert len({tuple(ids) for ids in expected}) > 5
    decoder = Decoder(model, Sampler(0.0, 1.0, 0.0, 1.0, 0, None), END, SlotShape(4, 64, LIMIT))
    rows = [SlotRow(ids, (0, place), LIMIT) for place, ids in enumerate(prompts)]
    assert [draft.ids for draft in decoder.decode(rows)] == expected
