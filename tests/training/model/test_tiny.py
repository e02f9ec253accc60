from pathlib import Path
from typing import Any

import pytest
import torch

from data.prompt import Prompt
from training.config import TinyBase
from training.model import tiny
from training.model.tiny import TinyJob

SHAPE = TinyBase(vocabulary=400, hidden=32, intermediate=64, steps=4)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_plan_same_bytes(subset: Path, tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        torch.manual_seed(len(made))
        tiny.build(TinyJob(str(subset), str(tmp_path / name), SHAPE, 256, 3407))
        made.append(files(tmp_path / name))
    assert made[0] == made[1]
    assert "model.safetensors" in made[0]
    tiny.build(TinyJob(str(subset), str(tmp_path / "three"), SHAPE, 256, 1))
    assert files(tmp_path / "three")["model.safetensors"] != made[0]["model.safetensors"]


def test_a_base_that_is_there_is_kept(subset: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    tiny.build(TinyJob(str(subset), str(tmp_path / "base"), SHAPE, 256, 3407))
    assert [path.name for path in (tmp_path / "base").iterdir()] == ["config.json"]


def test_shape_of_the_base(base: Path) -> None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base)
    assert config.max_position_embeddings == 640
    assert config.tie_word_embeddings
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (0, 1, 2)
    assert config.vocab_size <= 600


def test_tokenizer_gives_back_any_text(tokenizer: Any) -> None:
    text = 'Café "Zürich" – 北京\n\t 5 €, <s>'
    ids = tokenizer(text, split_special_tokens=True)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == text


def test_few_texts_make_a_small_vocabulary() -> None:
    tokenizer = tiny.train_tokenizer(iter(["ab ab"]), 2_000, 64)
    assert 259 <= len(tokenizer) < 270
    assert tokenizer.model_max_length == 64


def test_pretraining_lowers_the_loss(subset: Path, tmp_path: Path) -> None:
    import datasets

    from training.examples.batches import Collator

    rows = datasets.load_from_disk(str(subset))["train"]
    shape = TinyBase(vocabulary=400, hidden=32, intermediate=64, steps=40)
    plan = TinyJob(str(subset), str(tmp_path), shape, 128, 3407)
    texts = list(tiny.texts(rows, plan.prompt))
    tokenizer = tiny.train_tokenizer(iter(texts), 400, 128)
    encoded = list(tiny.encode(texts, tokenizer, 128))
    batch = Collator(2)([{"input_ids": row, "labels": row} for row in encoded[:16]])
    model = tiny.make_model(plan, tokenizer)
    with torch.no_grad():
        before = model(**batch).loss.item()
    tiny.pretrain(model, encoded, plan)
    with torch.no_grad():
        after = model(**batch).loss.item()
    assert after < before - 1


def test_cycle_gives_exactly_the_steps() -> None:
    from training.examples.batches import KeyedOrder

    shape = TinyBase(steps=5, batch_size=4)
    batches = list(tiny.batches(KeyedOrder([1] * 10, 4, 1, "random"), shape))
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4]


@pytest.mark.parametrize("steps", [1, 2, 100])
def test_rate_rises_then_falls_to_nothing(steps: int) -> None:
    rates = [tiny.rate(step, steps) for step in range(steps + 1)]
    assert max(rates) == 1.0
    assert rates[-1] == 0.0
    assert all(rate > 0 for rate in rates[:-1])


def test_the_base_reads_the_attributes_that_prompts_show() -> None:
    from datasets import Dataset

    columns = {"title": ["Kettle", "Lamp"], "content": ["Boils.", "Shines."],
               "brand": ["Ostravik", ""], "colour": ["red", "blue"]}  # fmt: skip
    rows = Dataset.from_dict(columns)
    assert list(tiny.texts(rows, Prompt())) == ["Kettle\nBoils.", "Lamp\nShines."]
    assert list(tiny.texts(rows, Prompt(attributes=["brand"]))) == [
        "Brand: Ostravik\nKettle\nBoils.", "Lamp\nShines.",
    ]  # fmt: skip
