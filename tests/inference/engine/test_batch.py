"""The fast engine: id for id what the reference writes, whatever its slots, order and memory."""

import dataclasses
import json
import logging
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from data.artefacts.run import Run
from data.errors import ModelError
from data.prompt import Chat, Prompt
from inference.engine import batch
from inference.engine.batch import FastEngine
from inference.engine.reference import ReferenceEngine
from inference.engine.requests import Completion, Request, Settings
from inference.engine.slots.decoder import (
    _STEPS_BETWEEN_LOOKS,
    Decoder,
    common_beginning,
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


def test_texts_end_where_the_chat_template_ends_an_answer(
    model: Run, requests: list[Request]
) -> None:
    """Around prompts stands what stands there without, so that the end alone is another one."""
    plain = FastEngine(model, GREEDY)
    whole = plain.generate(requests)
    tokenizer = plain._texts.tokenizer
    # Bytes that are no text are shown as U+FFFD, which the model did not write.
    texts = [text.text.replace("\ufffd", "") for text in whole]
    pieces = Counter(piece for text in texts for piece in set(tokenizer.tokenize(text)))
    end = pieces.most_common(1)[0][0]
    chatty = dataclasses.replace(model, chat=Chat("<s>", "", end))
    written = FastEngine(chatty, GREEDY).generate(requests)
    assert written == ReferenceEngine(chatty, GREEDY).generate(requests)
    assert [text.prompt_tokens for text in written] == [text.prompt_tokens for text in whole]
    stopped = [
        (text, before) for text, before in zip(written, whole, strict=True)
        if text.finish_reason == "stop"
    ]  # fmt: skip
    assert len(stopped) > 3
    # The base's own end of sequence ends nothing here: some texts go on behind it.
    shorter = [(text.text.rstrip("\ufffd").rstrip(), before.text) for text, before in stopped
               if text.new_tokens < before.new_tokens]  # fmt: skip
    assert len(shorter) > 3
    assert all(before.startswith(text) for text, before in shorter)


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


@pytest.mark.parametrize(("texts", "ahead"), [(1_000, (1_000, 950)), (None, (50, 50))])
def test_few_long_prompts_do_not_count_as_all_that_come(
    texts: int | None, ahead: tuple[int, int], model: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a decoder may pay to compile is by the share of the prompts that go through it."""
    expected: list[int] = []
    monkeypatch.setattr(
        Decoder, "compile_where_it_pays", lambda _self, tokens: expected.append(tokens)
    )
    monkeypatch.setattr(batch, "_USUAL_REST", 16)
    asked = [Request(str(i), "b" * (2 if i % 5 else 90)) for i in range(50)]
    writer = FastEngine(model, dataclasses.replace(GREEDY, texts=texts))
    for _ in ahead:
        writer.generate(asked)
    usual = writer._usual_tokens
    assert expected == [usual * n * k // 5 for n in ahead for k in (1, 4)]


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


@pytest.mark.parametrize(
    ("rows", "most", "slots"),
    [(1, 1_024, 16), (17, 1_024, 64), (1_000, 1_024, 1_024), (1_000, 832, 512), (8_192, 832, 832),
     (1_000, 7, 7), (5, 8, 8)],
)  # fmt: skip
def test_each_round_of_slots_is_full(rows: int, most: int, slots: int) -> None:
    assert batch.even_slots(rows, most) == slots


def test_a_decoder_is_built_anew_for_many_more_rows_alone(model: Run) -> None:
    writer = FastEngine(model, dataclasses.replace(GREEDY, batch_size=256))
    asked = [Request(str(place), "b") for place in range(200)]
    seen = []
    for rows in (3, 40, 20, 200, 130, 3):
        writer.generate(asked[:rows])
        seen += [decoder.shape.slots for decoder in writer._decoders.values()]
    assert seen == [16, 64, 64, 256, 256, 256]


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

    def counted(self: Decoder, write: Any) -> None:
        nonlocal steps
        steps += 1
        step(self, write)

    monkeypatch.setattr(Decoder, "_step", counted)
    writer = FastEngine(model, dataclasses.replace(GREEDY, batch_size=8))
    tokens = [each.new_tokens + 1 for each in writer.generate(requests)]
    # Looks are some steps apart, and the last rows leave slots empty.
    assert steps < sum(tokens) / 8 * 1.5 + 2 * _STEPS_BETWEEN_LOOKS
    assert steps < len(requests) / 8 * max(tokens)


def test_what_is_not_the_decoders_attention_is_named(model: Run, tmp_path: Path) -> None:
    assert not batch.unsupported(model)
    own = json.loads((Path(model.base) / "config.json").read_text())
    mistral = {"model_type": "mistral"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"model_type": "gemma2"}, "the family 'gemma2'"),
        ({"model_type": None}, "the family None"),
        (mistral | {"sliding_window": None}, ""),
        (mistral | {"max_position_embeddings": 4096}, ""),  # no row is longer than its window
        (mistral | {"max_position_embeddings": 8192}, "layers that see 4,096 of 8,192 tokens"),
        ({"model_type": "qwen2", "sliding_window": 128}, ""),  # named, not used
        ({"model_type": "qwen2", "sliding_window": 128, "use_sliding_window": True,
          "max_window_layers": 0}, "layers that see 128 of 256 tokens"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}},
         "dynamic positions"),
    ]  # fmt: skip
    for change, reason in cases:
        (tmp_path / "config.json").write_text(json.dumps(own | change))
        assert batch.unsupported(dataclasses.replace(model, base=str(tmp_path))) == reason
        if reason:
            with pytest.raises(ModelError, match=re.escape(reason)):
                batch.choose("fast", dataclasses.replace(model, base=str(tmp_path)))


def test_completions_tell_what_was_written(model: Run, requests: list[Request]) -> None:
    (written,) = FastEngine(model, GREEDY).generate(requests[:1])
    assert isinstance(written, Completion)
    assert written.new_tokens <= 14
    assert written.prompt_tokens == 256 - FastEngine(model, GREEDY).room(requests[:1])[0]
