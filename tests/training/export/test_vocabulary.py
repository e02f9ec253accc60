"""Tokenizers as llama.cpp's: which it knows, and what the file says of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.errors import ModelError
from tests.training.export.conftest import save_tokenizer
from training.export import vocabulary
from training.model.backend import load_tokenizer

Change = Callable[[dict[str, Any]], Any]


def changed(folder: Path, change: Change) -> Any:
    """Load a tokenizer after a change of its file."""
    file = folder / "tokenizer.json"
    words = json.loads(file.read_text())
    change(words)
    file.write_text(json.dumps(words))
    return load_tokenizer(folder)


@pytest.mark.parametrize("kind", ["gpt-2", "smollm", "llama-bpe"])
def test_byte_level_tokenizers_are_told_by_how_they_part_text(kind: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(save_tokenizer(tmp_path, kind))
    words = vocabulary.read(tokenizer, len(tokenizer) + 3, "base")
    assert (words.model, words.pre, words.adds_space, words.scores) == ("gpt2", kind, False, [])
    assert words.tokens[:3] == ["<s>", "</s>", "<pad>"]
    assert words.kinds[:4] == [3, 3, 3, 1]
    assert words.tokens[-3:] == [f"[PAD{len(tokenizer) + i}]" for i in range(3)]
    assert words.kinds[-4:] == [1, 5, 5, 5]
    first, second = words.merges[0].split(" ")
    assert first + second in words.tokens


def test_sentencepieces_merges_become_scores(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(save_tokenizer(tmp_path, "sentencepiece"))
    words = vocabulary.read(tokenizer, len(tokenizer), "base")
    assert (words.model, words.pre, words.adds_space) == ("llama", "default", True)
    assert words.merges == []
    assert words.kinds[:5] == [2, 3, 3, 3, 6]
    assert words.tokens[4] == "<0x00>"
    scores = [score for score in words.scores if score]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) > 20


def test_an_added_token_that_is_not_special_stays_a_users_own(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, "gpt-2")
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    token = {"id": 320, "content": "KETTLE", "special": False} | plain
    tokenizer = changed(tmp_path, lambda words: words["added_tokens"].append(token))
    words = vocabulary.read(tokenizer, 321, "base")
    assert (words.tokens[320], words.kinds[320]) == ("KETTLE", vocabulary.USER_DEFINED)


def _with_zq(words: dict[str, Any]) -> None:
    vocab = words["model"]["vocab"]
    vocab["zq"] = len(vocab)


REFUSED: dict[str, tuple[str, Change, str]] = {
    "another way to part text": ("words", lambda words: None, "another way (Whitespace)"),
    "a normalizer": (
        "gpt-2", lambda words: words.update(normalizer={"type": "NFC"}), "another way (ByteLevel)",
    ),
    "a space in front": (
        "gpt-2",
        lambda words: words.update(
            pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                           "use_regex": True}
        ),
        "another way",
    ),
    "whole pieces": ("gpt-2", lambda words: words["model"].update(ignore_merges=True), "another"),
    "a character that is no token": (
        "sentencepiece", _with_zq, "that are none",
    ),
    "a merge too few": (
        "sentencepiece", lambda words: words["model"]["merges"].pop(), "would not make",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "change", "line"), REFUSED.values(), ids=REFUSED)
def test_what_llama_cpp_would_encode_otherwise_is_refused(
    kind: str, change: Change, line: str, tmp_path: Path
) -> None:
    tokenizer = changed(save_tokenizer(tmp_path, kind), change)
    with pytest.raises(ModelError) as caught:
        vocabulary.read(tokenizer, len(tokenizer), "base")
    assert line in str(caught.value)
    assert "base: expected a byte-level BPE" in str(caught.value)


@pytest.mark.parametrize(
    ("merges", "fits"),
    [
        ([("a", "b"), ("b", "c"), ("a", "bc"), ("ab", "c")], True),
        ([("a", "b"), ("ab", "c"), ("b", "c"), ("a", "bc")], False),
    ],
)
def test_merges_rank_by_what_they_make(merges: list[tuple[str, str]], fits: bool) -> None:
    from tokenizers import Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["<unk>", "</s>", "a", "b", "c", "ab", "bc", "abc"]
    made = Tokenizer(
        models.BPE(
            {token: index for index, token in enumerate(tokens)}, merges, unk_token="<unk>",
            byte_fallback=True,
        )
    )  # fmt: skip
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")
    if fits:
        words = vocabulary.read(tokenizer, len(tokens), "base")
        assert words.scores == [0, 0, 0, 0, 0, -1, -2, -3]
    else:
        with pytest.raises(ModelError, match="merges that sentencepiece would not make"):
            vocabulary.read(tokenizer, len(tokens), "base")


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({"<s>": 0, "kettle": 1}, unk_token="<s>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<s>")
    with pytest.raises(ModelError, match="found a WordLevel tokenizer"):
        vocabulary.read(tokenizer, 2, "base")
