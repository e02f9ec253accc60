"""The reference engine: what it writes is plain transformers' and the same in any batch."""

import dataclasses
import gc
import random
import shutil
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from data.artefacts.folder import Folder
from data.artefacts.run import Run
from data.errors import ConfigError, ManifestError, ModelError
from data.prompt import Prompt
from inference.engine import weights
from inference.engine.drafts import Draft
from inference.engine.reference import ReferenceEngine
from inference.engine.requests import Completion, Request, Settings, choose_device
from inference.engine.weights import Texts, load_merged, round_weights
from tests.builders import finish_run, greedy, save_adapter, save_base

CONTEXT = 256
GREEDY = greedy(engine="reference", batch_size=7)
SAMPLED = dataclasses.replace(GREEDY, temperature=1.0, top_p=0.95)


@pytest.fixture(scope="module")
def reference(model: Run) -> ReferenceEngine:
    return ReferenceEngine(model, GREEDY)


@pytest.fixture(scope="module")
def tokenizer(model: Run) -> Any:
    """The tokenizer as anyone else would load it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model.base)


@pytest.fixture(scope="module")
def unmerged(model: Run) -> Any:
    """Base and adapter by the libraries alone, the adapter not merged."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model.base, dtype=torch.float32)
    return PeftModel.from_pretrained(base, model.adapter).eval()


# What is written --------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_text_depends_neither_on_its_batch_nor_on_the_order(
    settings: Settings, model: Run, requests: list[Request]
) -> None:
    def write(batch_size: int, asked: list[Request]) -> dict[str, Completion]:
        own = dataclasses.replace(settings, batch_size=batch_size)
        texts = ReferenceEngine(model, own).generate(asked)
        return dict(zip([request.uid for request in asked], texts, strict=True))

    alone = write(1, requests)
    assert write(7, requests) == alone
    assert write(64, requests) == alone
    shuffled = random.Random(0).sample(requests, len(requests))  # noqa: S311
    assert write(7, shuffled) == alone
    assert len({each.text for each in alone.values()}) > 20
    assert {each.finish_reason for each in alone.values()} == {"stop", "length"}


def test_greedy_tokens_are_those_of_plain_generate_on_base_and_adapter(
    reference: ReferenceEngine, unmerged: Any, tokenizer: Any, requests: list[Request]
) -> None:
    expected = []
    for request in requests:
        prompt = tokenizer(request.prompt, return_tensors="pt")
        made = unmerged.generate(
            **prompt, max_new_tokens=14, do_sample=False, eos_token_id=1, pad_token_id=2
        )
        size = prompt["input_ids"].shape[1]
        new = made[0, size:].tolist()
        reason = "stop" if new[-1] == 1 else "length"
        kept = new[:-1] if reason == "stop" else new
        text = tokenizer.decode(kept, skip_special_tokens=True).strip()
        expected.append(Completion(text, reason, size, len(kept)))
    assert reference.generate(requests) == expected


def test_merged_weights_give_the_logits_of_base_and_adapter(
    model: Run, unmerged: Any, tokenizer: Any, requests: list[Request]
) -> None:
    merged = weights.load_merged(model, torch.device("cpu"))
    batch = tokenizer(requests[0].prompt, return_tensors="pt")
    with torch.inference_mode():
        found, expected = merged(**batch).logits, unmerged(**batch).logits
        with unmerged.disable_adapter():
            base = unmerged(**batch).logits
    # Of the largest logit, some 13: float32 itself holds no more than 1e-6 of it.
    assert (found - expected).abs().max() / expected.abs().max() < 1e-5
    assert (found - base).abs().max() > 0.1, "the adapter adds nothing: the test says nothing"
    assert merged.dtype == torch.float32
    assert not merged.training


def test_an_end_of_sequence_stops_a_text_and_is_not_counted(
    reference: ReferenceEngine, requests: list[Request]
) -> None:
    written = reference.generate(requests)
    stopped = [each for each in written if each.finish_reason == "stop"]
    cut = [each for each in written if each.finish_reason == "length"]
    assert stopped
    assert cut
    assert all(0 <= each.new_tokens < 14 for each in stopped)
    assert all(each.new_tokens == 14 for each in cut)
    assert any(each.new_tokens == 0 and not each.text for each in stopped)
    assert not any("</s>" in each.text or "<pad>" in each.text for each in written)


def test_an_end_of_sequence_at_the_last_allowed_token_is_a_stop(model: Run) -> None:
    _, texts = weights.load(model, GREEDY)
    drafts = [Draft([5] * 13 + [1], True, 0), Draft([5] * 14, True, 0), Draft([5] * 14, True, 9)]
    last, never, loop = (texts.completion([0] * 10, draft) for draft in drafts)
    assert (last.finish_reason, last.new_tokens) == ("stop", 13)
    assert (never.finish_reason, never.new_tokens) == ("length", 14)
    assert (loop.finish_reason, loop.new_tokens) == ("loop", 5)


def test_a_shorter_limit_gives_the_beginning_of_the_same_text(
    model: Run, reference: ReferenceEngine, requests: list[Request]
) -> None:
    short = ReferenceEngine(model, dataclasses.replace(GREEDY, max_new_tokens=3))
    pairs = zip(short.generate(requests), reference.generate(requests), strict=True)
    for brief, full in pairs:
        assert brief.new_tokens == min(full.new_tokens, 3)
        stopped = full.finish_reason == "stop" and full.new_tokens < 3
        assert brief.finish_reason == ("stop" if stopped else "length")


def test_no_requests_are_no_texts(reference: ReferenceEngine) -> None:
    assert reference.generate([]) == []
    assert reference.room([]) == []


# Prompts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", ["A </s> B", "<s>", "</s></s>", "<pad><s>Kettle</s>"])
def test_a_title_that_names_special_tokens_is_text(
    title: str, model: Run, reference: ReferenceEngine, tokenizer: Any
) -> None:
    prompt = Prompt().render(title)
    words = Texts(model, GREEDY)
    for _ in range(2):  # a tokenizer may set itself back after a call
        (ids,) = words.encode([Request("u", prompt)])
        assert ids[0] == 0
        assert not {0, 1, 2} & set(ids[1:])
        assert tokenizer.decode(ids[1:]) == prompt
    (written,) = reference.generate([Request("u", prompt)])
    assert written.prompt_tokens == len(ids)


def test_room_is_what_a_prompt_leaves_of_the_context(
    reference: ReferenceEngine, tokenizer: Any
) -> None:
    prompts = [Prompt().render(title) for title in ("Kettle", "ß" * 40, "ß" * 300)]
    sizes = [len(tokenizer(prompt)["input_ids"]) for prompt in prompts]
    room = reference.room([Request("u", prompt) for prompt in prompts])
    assert room == [CONTEXT - size for size in sizes]
    assert room[0] > 0 > room[2]


def test_a_text_ends_where_the_context_does_whatever_its_batch(
    reference: ReferenceEngine,
) -> None:
    long = Prompt().render("Kettle")
    while (room := reference.room([Request("u", long)])[0]) > 5:
        long += "x"
    asked = [Request("long", long), Request("short", Prompt().render("Lamp No. 3"))]
    written = reference.generate(asked)
    assert [each.finish_reason for each in written] == ["length", "length"]
    assert [each.new_tokens for each in written] == [room, 14]
    assert written[0].prompt_tokens + room == CONTEXT
    assert [reference.generate([each])[0] for each in asked] == written


# Draws ------------------------------------------------------------------------------------------


def texts(model: Run, requests: list[Request], **settings: Any) -> list[str]:
    made = ReferenceEngine(model, dataclasses.replace(SAMPLED, **settings)).generate(requests)
    return [each.text for each in made]


def test_a_draw_follows_seed_and_uid(model: Run, requests: list[Request]) -> None:
    one = texts(model, requests)
    assert texts(model, requests) == one
    pairs = zip(one, texts(model, requests, seed=2), strict=True)
    assert sum(a != b for a, b in pairs) > len(requests) / 2
    same = [Request(f"u{i}", requests[2].prompt) for i in range(20)]
    assert len(set(texts(model, same))) > 10
    assert len(set(texts(model, [Request("u", requests[2].prompt)] * 20))) == 1


def test_a_low_temperature_is_almost_greedy(
    model: Run, reference: ReferenceEngine, requests: list[Request]
) -> None:
    greedy = [each.text for each in reference.generate(requests)]
    pairs = zip(texts(model, requests, temperature=0.01, top_p=1.0), greedy, strict=True)
    assert sum(a == b for a, b in pairs) > 0.8 * len(greedy)


# Finding a model --------------------------------------------------------------------------------


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be spoilt."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def load(folder: Path) -> ReferenceEngine:
    return ReferenceEngine(Run.open(str(folder)), GREEDY)


def test_a_run_tells_its_prompt_and_its_longest_description(copy: Path) -> None:
    found = Run.open(str(copy))
    assert (found.longest, found.prompt) == (12, Prompt())
    assert found.base == str(copy / "base")
    assert found.adapter == str(copy / "adapter")
    assert found.record is not None
    other = {"template": "alpaca", "instruction": "Sell it."}
    finish_run(copy, prompt=other, longest_completion_tokens=99)
    found = Run.open(str(copy))
    assert (found.longest, found.prompt) == (99, Prompt(instruction="Sell it."))


def test_a_base_elsewhere_is_taken_by_the_path_in_the_manifest(copy: Path, run: Path) -> None:
    finish_run(copy, base=str(run / "base"))
    shutil.rmtree(copy / "base")
    assert Run.open(str(copy)).base == str(run / "base")


def test_the_digest_follows_base_adapter_and_tokenizer(copy: Path) -> None:
    digests = [Run.open(str(copy)).digest]
    file = copy / "base" / "tokenizer.json"
    file.write_text(file.read_text() + " ")
    digests.append(Run.open(str(copy)).digest)
    save_adapter(copy / "adapter", copy / "base", seed=9)
    digests.append(Run.open(str(copy)).digest)
    assert len(set(digests)) == 3


def test_a_merged_model_writes_what_its_run_does(
    copy: Path, model: Run, reference: ReferenceEngine, requests: list[Request]
) -> None:
    merged = copy / "merged"
    weights.load_merged(model, torch.device("cpu")).save_pretrained(merged)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(copy / "base" / name, merged)
    found = Run.open(str(merged))
    assert (found.adapter, found.record, found.longest) == (None, None, 256)
    assert ReferenceEngine(found, GREEDY).generate(requests) == reference.generate(requests)


def test_an_adapter_of_another_base_is_refused(copy: Path) -> None:
    save_base(copy / "base", seed=5)
    with pytest.raises(ModelError, match=r"base: expected the base that .* found another"):
        Run.open(str(copy))


def test_an_adapter_of_another_shape_is_refused(copy: Path) -> None:
    shutil.rmtree(copy / "adapter")
    save_adapter(copy / "adapter", save_base(copy / "wide", hidden=64))
    with pytest.raises(ModelError, match="an adapter of this base model, found size mis") as raised:
        load(copy)
    assert len(str(raised.value).splitlines()) == 1


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda run: shutil.rmtree(run / "adapter"), r"an adapter with .*, found none"),
        (
            lambda run: (run / "adapter/adapter_model.safetensors").rename(
                run / "adapter/adapter_model.bin"
            ),
            r"an adapter with adapter_model\.safetensors, found none",
        ),
        (lambda run: shorten(run / "adapter/adapter_model.safetensors"), "an adapter of this base"),
        (lambda run: (run / "adapter/adapter_config.json").unlink(), "an adapter of this base"),
        (lambda run: shorten(run / "base/model.safetensors"), "the base that the adapter was"),
        (lambda run: (run / "base/model.safetensors").unlink(), "weights in safetensors"),
        (lambda run: (run / "base/tokenizer.json").unlink(), r"a tokenizer\.json, found none"),
        (lambda run: shutil.rmtree(run / "base"), "a local model folder or an id"),
    ],
    ids=["no adapter", "pickled", "cut", "no config", "base cut", "no base", "no words", "bare"],
)
def test_a_run_that_is_not_whole_is_refused_in_one_line(
    spoil: Callable[[Path], Any], told: str, copy: Path
) -> None:
    spoil(copy)
    with pytest.raises(ModelError, match=f"expected .*{told}") as raised:
        load(copy)
    assert str(copy) in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_merged_model_that_is_not_whole_is_refused(copy: Path) -> None:
    shorten(copy / "base" / "model.safetensors")
    with pytest.raises(ModelError, match="expected weights that are whole and fit"):
        load(copy / "base")


def test_a_missing_folder_and_an_unfinished_run_are_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere: expected the folder of a run or of a model"):
        Run.open(str(tmp_path / "nowhere"))
    (copy / "manifest.json").unlink()
    with pytest.raises(ManifestError, match="expected the finished output of train, found none"):
        Run.open(str(copy))
    Folder(str(copy)).commit("begun.json", b"{}")
    with pytest.raises(ManifestError, match="found an unfinished one"):
        Run.open(str(copy))


def test_the_output_of_another_stage_is_no_run(subset: Path) -> None:
    with pytest.raises(ManifestError, match="the finished output of train, found that of subset"):
        Run.open(str(subset))


# Devices ----------------------------------------------------------------------------------------


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    with pytest.raises(ConfigError, match="--device: expected a CUDA device, found none"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == "cuda"


def test_the_gpus_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert weights.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5f")
    assert weights.visible_gpus() == ["3", "GPU-5f"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert weights.visible_gpus() == []


def test_room_and_texts_share_their_tokens(
    model: Run, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ReferenceEngine(model, GREEDY)
    expected = writer.generate(requests[:3])
    asked: list[str] = []
    encode = Texts.encode

    def counted(self: Texts, some: Sequence[Request]) -> list[list[int]]:
        asked.extend(each.prompt for each in some)
        return encode(self, some)

    monkeypatch.setattr(Texts, "encode", counted)
    some = [dataclasses.replace(each, uid=f"new {each.uid}") for each in requests[:3]]
    some.append(dataclasses.replace(some[0]))
    assert writer.room(some) == [CONTEXT - each.prompt_tokens for each in [*expected, expected[0]]]
    assert writer.generate(some) == [*expected, expected[0]]
    assert asked == [each.prompt for each in requests[:3]]
    # They live no longer than their requests.
    request = weakref.ref(some[0])
    del some
    gc.collect()
    assert request() is None


def test_rounded_weights_are_those_of_a_model_loaded_in_16_bits(model: Run, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    merged = load_merged(model, torch.device("cpu"))
    merged.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    rounded = round_weights(merged)
    assert rounded.dtype == torch.bfloat16
    for one, other in zip(rounded.buffers(), loaded.buffers(), strict=True):
        assert one.dtype == other.dtype == torch.float32
    ids = torch.arange(3, 200)[None]
    with torch.inference_mode():
        assert torch.equal(rounded(input_ids=ids).logits, loaded(input_ids=ids).logits)
