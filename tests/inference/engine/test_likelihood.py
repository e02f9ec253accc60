"""Perplexity equals a computation by hand on the tiny model; rows are tokenised as in training."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data.artefacts.run import Run
from inference.engine import likelihood
from inference.engine.requests import Request
from inference.engine.weights import Texts, load_merged
from tests.builders import greedy

SETTINGS = greedy(max_new_tokens=8, engine="reference")
ROWS = [("u1", "Green kettle", "Boils."), ("u2", "Lamp", "Shines on and on </s> and on."),
        ("u3", "Quiet novel No. 3", "x")]  # fmt: skip


@pytest.mark.parametrize("is_bare", [False, True])
def test_costs_equal_a_computation_by_hand(run: Path, is_bare: bool) -> None:
    import torch

    model = Run.open(str(run))
    if is_bare:
        model = dataclasses.replace(model, adapter=None)
    prompts = [Request(uid, model.prompt.render(title)) for uid, title, _ in ROWS]
    found = likelihood.score(model, SETTINGS, prompts, [text for _, _, text in ROWS])
    texts = Texts(model, SETTINGS)
    loaded = load_merged(model, torch.device("cpu"))
    for row, request, (_, _, text) in zip(found, prompts, ROWS, strict=True):
        head = texts.tokenizer(request.prompt, split_special_tokens=True)["input_ids"]
        alone = {"add_special_tokens": False, "split_special_tokens": True}
        tail = [*texts.tokenizer(text, **alone)["input_ids"], texts.eos]
        with torch.inference_mode():
            chances = loaded(torch.tensor([head + tail])).logits[0].double().log_softmax(-1)
        nats = [-float(chances[len(head) - 1 + i, token]) for i, token in enumerate(tail)]
        assert row[1] == len(tail)
        assert row[0] == pytest.approx(sum(nats), rel=1e-4)


def test_base_and_adapter_differ(run: Path) -> None:
    model = Run.open(str(run))
    prompts = [Request(uid, model.prompt.render(title)) for uid, title, _ in ROWS]
    replies = [text for _, _, text in ROWS]
    one = likelihood.score(model, SETTINGS, prompts, replies)
    other = likelihood.score(dataclasses.replace(model, adapter=None), SETTINGS, prompts, replies)
    assert (one[:, 1] == other[:, 1]).all()
    assert not np.allclose(one[:, 0], other[:, 0])


def test_a_row_beyond_the_context_counts_as_far_as_it_goes(run: Path) -> None:
    model = Run.open(str(run))
    prompts = [Request("a", "Kettle. "), Request("b", "Kettle. " * 300)]
    cut, none = likelihood.score(model, SETTINGS, prompts, ["water " * 300, "water"])
    assert 0 < cut[1] < 256
    assert none.tolist() == [0, 0]


@pytest.mark.parametrize(("vocabulary", "most"), [(320, 64), (2**20, 1)])
def test_batches_hold_every_row_once_and_fit(vocabulary: int, most: int) -> None:
    lengths = [5, 300, 7, 300, 2] * 30
    found = list(likelihood.batches(lengths, vocabulary))
    assert sorted(place for batch in found for place in batch) == list(range(150))
    for batch in found:
        longest = max(lengths[place] for place in batch)
        assert len(batch) <= 64
        assert len(batch) == 1 or len(batch) * longest * vocabulary <= 2**27
    assert max(len(batch) for batch in found if lengths[batch[0]] == 300) == most
