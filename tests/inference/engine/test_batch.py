"""The fast engine: id for id what the reference writes, whatever its slots, order and memory."""

import dataclasses
import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from data.artefacts.run import Run
from data.errors import ModelError
from data.prompt import Prompt
from inference.engine import batch
from inference.engine.batch import FastEngine
from inference.engine.reference import ReferenceEngine
from inference.engine.requests import Completion, Request, Settings
from inference.engine.slots import (
    _STEPS_BETWEEN_LOOKS,
    Decoder,
    common_beginning,
    unexpanded_attention,
)
from tests.builders import greedy, show_neighbours, some_titles

GREEDY = greedy(batch_size=7)
SAMPLED = dataclasses.replace(GREEDY, temperature=1.0, top_p=0.95)


@pytest.mark.parametrize("near", [False, True], ids=["plain", "near"])
@pytest.mark.parametrize("settings", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_texts_are_the_references_in_any_number_of_slots_and_order(
    settings: Settings, near: bool, model: Run, requests: list[Request], tmp_path: Path
) -> None:
    if near:  # some prompts show a neighbour, some none
        run = Path(model.base).parent
        for name in ("base", "adapter"):
            (tmp_path / name).symlink_to(run / name)
        rows = [("A small kettle", "Boils."), ("Copper lamp", "Shines green.")]
        model = Run.open(str(show_neighbours(tmp_path, rows)))
        titles = some_titles(40)
        requests = [Request(f"u{i}", model.render(title, "")) for i, title in enumerate(titles)]
        assert 10 < sum("Similar input" in request.prompt for request in requests) < 40
    expected = dict(
        zip(
            [request.uid for request in requests],
            ReferenceEngine(model, settings).generate(requests),
            strict=True,
        )
    )
    assert {each.finish_reason for each in expected.values()} == {"stop", "length"}
    shuffled = random.Random(0).sample(requests, len(requests))  # noqa: S311
    for slots, asked in ((1, requests), (7, requests), (64, shuffled)):
        writer = FastEngine(model, dataclasses.replace(settings, batch_size=slots))
        for some in (asked, asked[:3]):  # a decoder is used again, and smaller ones are made
            written = writer.generate(some)
            assert written == [expected[request.uid] for request in some]
    assert writer.generate([]) == []


def test_long_prompts_and_those_near_the_end_of_the_context_are_the_references(
    model: Run,
) -> None:
    titles = ["Kettle", "ß" * 60, "ß" * 70 + "!", "Lamp", "ß" * 66, "ß" * 5]
    asked = [Request(str(i), Prompt().render(title)) for i, title in enumerate(titles)]
    reference = ReferenceEngine(model, GREEDY)
    writer = FastEngine(model, GREEDY)
    room = writer.room(asked)
    assert room == reference.room(asked)
    fitting = [request for request, left in zip(asked, room, strict=True) if left > 0]
    assert len(fitting) >= 3
    assert writer.generate(fitting) == reference.generate(fitting)


def test_prompts_that_share_nothing_or_are_one_another_s_beginning(model: Run) -> None:
    prompts = ["a", "ab", "b" * 30, "a" * 50, "a"]
    asked = [Request(str(i), prompt) for i, prompt in enumerate(prompts)]
    writer, reference = FastEngine(model, SAMPLED), ReferenceEngine(model, SAMPLED)
    assert writer.generate(asked) == reference.generate(asked)
    assert writer.generate(asked[:1]) == reference.generate(asked[:1])
    same = [Request(str(i), "the very same") for i in range(9)]
    assert writer.generate(same) == reference.generate(same)


def test_where_memory_runs_out_half_as_many_rows_go_on(
    model: Run,
    requests: list[Request],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = Decoder.decode

    def decode(self: Decoder, rows: Any) -> list[list[int]]:
        if self.shape.slots > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, rows)

    expected = FastEngine(model, GREEDY).generate(requests)
    monkeypatch.setattr(Decoder, "decode", decode)
    writer = FastEngine(model, dataclasses.replace(GREEDY, batch_size=64))
    with caplog.at_level(logging.WARNING, "catalogue"):
        assert writer.generate(requests) == expected
    assert [record.getMessage() for record in caplog.records] == [
        f"out of memory: on with {slots} titles at once" for slots in (32, 16)
    ]


def test_memory_for_no_row_is_told_in_one_line(
    model: Run, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(self: Decoder, rows: Any) -> list[list[int]]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Decoder, "decode", decode)
    with pytest.raises(ModelError, match="cpu: expected memory for 8 titles at once, found too"):
        FastEngine(model, GREEDY).generate(requests)


def test_attention_is_that_of_torch_with_expanded_heads() -> None:
    torch.manual_seed(0)
    for queries, positions in ((1, 9), (5, 9)):
        query = torch.randn(3, 8, queries, 16)
        key, value = torch.randn(2, 3, 2, positions, 16)
        seen = torch.rand(3, 1, queries, positions) < 0.7
        seen[..., 0] = True
        mask = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
        found, weights = unexpanded_attention(None, query, key, value, mask, scaling=0.3)
        expected = torch.nn.functional.scaled_dot_product_attention(
            query, key.repeat_interleave(4, 1), value.repeat_interleave(4, 1), mask, scale=0.3
        )
        torch.testing.assert_close(found, expected.transpose(1, 2))
        assert weights is None


@pytest.mark.parametrize(
    ("lists", "shared"),
    [
        ([], []),
        ([[]], []),
        ([[1, 2, 3]], [1, 2, 3]),
        ([[1, 2, 3], [1, 2]], [1, 2]),
        ([[1, 2, 3], [1, 9, 3], [1, 2, 4]], [1]),
        ([[1], [2]], []),
    ],
)
def test_the_common_beginning(lists: list[list[int]], shared: list[int]) -> None:
    assert common_beginning(lists) == shared


def test_a_slot_is_given_away_as_soon_as_its_row_ends(
    model: Run, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    step = Decoder._step

    def counted(self: Decoder) -> None:
        nonlocal steps
        steps += 1
        step(self)

    monkeypatch.setattr(Decoder, "_step", counted)
    writer = FastEngine(model, dataclasses.replace(GREEDY, batch_size=8))
    tokens = [each.new_tokens + 1 for each in writer.generate(requests)]
    # Looks are some steps apart, and the last rows leave slots empty.
    assert steps < sum(tokens) / 8 * 1.5 + 2 * _STEPS_BETWEEN_LOOKS
    assert steps < len(requests) / 8 * max(tokens)


def test_only_models_with_this_attention_are_supported(model: Run, tmp_path: Path) -> None:
    assert batch.supports(model)
    for change in ({"model_type": "gemma2"}, {"sliding_window": 128}):
        config = json.loads((Path(model.base) / "config.json").read_text()) | change
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert not batch.supports(dataclasses.replace(model, base=str(tmp_path)))


def test_completions_tell_what_was_written(model: Run, requests: list[Request]) -> None:
    (written,) = FastEngine(model, GREEDY).generate(requests[:1])
    assert isinstance(written, Completion)
    assert written.new_tokens <= 14
    assert written.prompt_tokens == 256 - FastEngine(model, GREEDY).room(requests[:1])[0]
