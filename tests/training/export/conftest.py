"""Runs to export: a tiny random Llama with an adapter, of several tokenizers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builders import finish_run, save_adapter, save_base
from training.export import command
from training.export.config import ExportConfig

Exported = Callable[..., Path]
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
TEXTS = [f"Green Kettle No. {i} of 12.5 steel\n\n  It's boiled, isn't it?" for i in range(60)]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: base, adapter and manifest. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("models") / "run"
    save_base(folder / "base")
    save_adapter(folder / "adapter", folder / "base")
    return with_tokenizer(folder, folder / "base")


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture
def exported(tmp_path: Path) -> Exported:
    """Export a run in a form of its own."""

    def export(run: Path, name: str = "out", **flags: Any) -> Path:
        command.run(ExportConfig(run=str(run), out=str(tmp_path / name), **flags))
        return tmp_path / name

    return export


def with_tokenizer(run: Path, folder: Path, **facts: Any) -> Path:
    """Give a run a tokenizer, in base and adapter, and finish it."""
    for name in _TOKENIZER:
        for to in (run / "base", run / "adapter"):
            if to != folder:
                shutil.copy(folder / name, to / name)
    return finish_run(run, **facts)


def change_config(run: Path, **values: Any) -> Path:
    """Change the settings of a run's base and finish it again."""
    file = run / "base/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return finish_run(run)


def save_tokenizer(folder: Path, kind: str, begins: bool = True) -> Path:
    """A tokenizer that parts text in front of its merges in one of several ways."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    if kind == "sentencepiece":
        made = sentencepiece()
    else:
        made = Tokenizer(models.BPE(ignore_merges=kind == "llama-bpe"))
        made.pre_tokenizer = pre_tokenizers.Sequence(steps(kind))
        made.decoder = decoders.ByteLevel()
        made.train_from_iterator(TEXTS, trainer(pre_tokenizers.ByteLevel.alphabet()))
    if begins:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)
    return folder


def steps(kind: str) -> list[Any]:
    from tokenizers import Regex, pre_tokenizers

    from training.export.vocabulary import _LLAMA_3

    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
    of_pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return {
        "gpt-2": [by_bytes],
        "smollm": [pre_tokenizers.Digits(individual_digits=True), by_bytes],
        "llama-bpe": [pre_tokenizers.Split(Regex(_LLAMA_3), "isolated"), of_pieces],
        "words": [pre_tokenizers.Whitespace()],
    }[kind]


def trainer(alphabet: list[str], tokens: int = 320) -> Any:
    from tokenizers.trainers import BpeTrainer

    return BpeTrainer(
        vocab_size=tokens, special_tokens=["<s>", "</s>", "<pad>"], initial_alphabet=alphabet,
        show_progress=False,
    )  # fmt: skip


def sentencepiece() -> Any:
    """A BPE as Llama's: bytes for unknown characters, all merges that follow from its tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

    space = "\u2581"
    spaces = normalizers.Sequence(
        [normalizers.Prepend(space), normalizers.Replace(" ", space)]
    )  # fmt: skip
    learned = Tokenizer(models.BPE())
    learned.normalizer = spaces
    learned.pre_tokenizer = pre_tokenizers.Split(space, "merged_with_next")
    # A line break is a byte, as it is to Llama.
    learned.train_from_iterator([" ".join(text.split()) for text in TEXTS], trainer([], 63))
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    ordered = sorted(learned.get_vocab().items(), key=lambda item: item[1])
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [token for token, _ in ordered if token not in special]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [
        (token[:at], token[at:])
        for token in tokens[260:]
        for at in range(1, len(token))
        if token[:at] in vocabulary and token[at:] in vocabulary
    ]
    made = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    made.normalizer = spaces
    made.add_special_tokens([AddedToken(token, special=True) for token in special])
    made.decoder = decoders.Sequence([
        decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    return made
