"""A tiny random Llama with an adapter of its own as a finished run, and titles to write for."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Before any library that reads them is imported, here and in the workers.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from data.artefacts import schema
from data.artefacts.folder import Artefact, Folder, digest_file
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.parts import commit_part, part_name
from data.artefacts.run import locate
from data.prompt import Prompt

CONTEXT = 256
NOUNS = ("kettle", "lamp", "novel", "jacket", "violin", "clock", "tent", "mirror")
COLOURS = ("green", "copper", "white", "quiet", "small")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def make_titles(rows: int) -> list[str]:
    """Titles of many lengths, none twice."""
    return [
        f"{COLOURS[i % 5].title()} {NOUNS[i % 8]} No. {i}" + " of steel, boxed" * (i % 4)
        for i in range(rows)
    ]


@pytest.fixture(scope="session")
def some_titles() -> Callable[[int], list[str]]:
    return make_titles


def save_tokenizer(folder: Path) -> None:
    """A byte-level BPE that writes <s> before every text, as Llama's own does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "</s>", "<pad>"]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([Prompt().render(title) for title in make_titles(40)], trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)


def make_base(folder: Path, seed: int = 0, hidden: int = 32) -> Path:
    """Random weights that are far from ties and end about half of the texts within 14 tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=hidden,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[1] *= 1.8
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def make_adapter(folder: Path, base: Path, seed: int = 1) -> None:
    """A LoRA whose both halves are random: what it adds is not zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM"
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(folder)


def finish_run(run: Path, **facts: Any) -> Path:
    """Write the manifest that a training run ends with."""
    base = locate(str(run / "base"))
    told = {
        "base": "base",
        "base_digest": base.digest,
        "prompt": {"template": "alpaca", "instruction": "Write a product description."},
        "longest_completion_tokens": 12,
    }
    Manifest("train", {}, {"seed": 1}, (), (), Counts(), facts=told | facts).write(Folder(str(run)))
    return run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: base, adapter and manifest. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("models") / "run"
    make_base(folder / "base")
    make_adapter(folder / "adapter", folder / "base")
    return finish_run(folder)


@pytest.fixture(scope="session")
def base_of() -> Callable[..., Path]:
    return make_base


@pytest.fixture(scope="session")
def adapter_of() -> Callable[..., None]:
    return make_adapter


@pytest.fixture(scope="session")
def finished() -> Callable[..., Path]:
    return finish_run


@pytest.fixture(scope="session")
def jsonl() -> Callable[..., Path]:
    """Write titles as JSON lines with uids u0, u1, ..."""

    def write(path: Path, titles: list[str]) -> Path:
        rows = [{"uid": f"u{i}", "title": title} for i, title in enumerate(titles)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture(scope="session")
def subset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A subset of literal rows, made by hand: 6 train rows, 3 validation, 5 test."""
    from datasets import Dataset, DatasetDict

    folder = tmp_path_factory.mktemp("subset") / "subset"
    splits = {}
    for split, rows in {"train": 6, "validation": 3, "test": 5}.items():
        columns: dict[str, list[Any]] = {name: [] for name in schema.SUBSET.names}
        for i in range(rows):
            row = (f"{split}-{i}", f"{split} kettle {i}", "Boils.", i, "raw.json", 10 * i)
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
        splits[split] = Dataset.from_dict(columns)
    DatasetDict(splits).save_to_disk(str(folder))
    outputs = []
    for split, made in splits.items():
        name = f"{split}/data-00000-of-00001.arrow"
        file = folder / name
        outputs.append(Artefact(name, len(made), file.stat().st_size, digest_file(file)))
    counts = Counts(14, 14)
    Manifest("subset", {}, {"size": 6}, (), tuple(outputs), counts).write(Folder(str(folder)))
    return folder


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clean shards of literal rows in two parts, the second without a validation row."""
    import pyarrow as pa

    folder = tmp_path_factory.mktemp("clean") / "clean"
    rows = [("a", "A", "test"), ("b", "B", "train"), ("c", "C", "validation")]
    more = [("d", "D", "train"), ("e", "E", "test"), ("f", "F", "test")]
    outputs = []
    for index, part in enumerate((rows, more)):
        table = pa.Table.from_pylist(
            [
                {
                    **{"uid": uid, "title": title, "content": "Boils.", "split": split},
                    **{"sample_key": i, "source": "raw.json", "byte_offset": i},
                }
                for i, (uid, title, split) in enumerate(part)
            ],
            schema=schema.CLEAN,
        )
        outputs.append(commit_part(Folder(str(folder)), part_name(index), table))
    Manifest("clean", {}, {"seed": 1}, (), tuple(outputs), Counts(6, 6)).write(Folder(str(folder)))
    return folder
