"""A fast tokenizer as llama.cpp's: tokens, kinds, merges or scores, and how text is parted.

llama.cpp knows ways to part text by name only, so a tokenizer that is none of them is refused: it
would encode some titles otherwise, without a word.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from data.errors import ModelError

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
# llama.cpp's kinds of tokens, as ``gguf.TokenType`` has them.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_BYTES: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Names of llama.cpp by the steps that part a text in front of the merges, and whether a piece that
# is a token as a whole is taken without merges.
_WAYS: dict[str, tuple[list[dict[str, Any]], bool]] = {
    "gpt-2": ([_BYTES], False),
    "smollm": ([{"type": "Digits", "individual_digits": True}, _BYTES], False),
    "llama-bpe": (
        [
            {"type": "Split", "pattern": {"Regex": _LLAMA_3}, "behavior": "Isolated",
             "invert": False},
            _BYTES | {"use_regex": False},
        ],
        True,
    ),
}  # fmt: skip
_PREPEND: dict[str, Any] = {"type": "Prepend", "prepend": _SPACE}
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
_METASPACES = [
    {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": scheme, "split": False}
    for scheme in ("first", "always")
]
_HINT = "export --format merged, which keeps the tokenizer as it is"


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer; lists are in the order of the ids."""

    model: str
    """``gpt2``: byte-level BPE; ``llama``: sentencepiece's BPE."""
    pre: str
    """How text is parted in front of the merges."""
    tokens: list[str]
    kinds: list[int]
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    @property
    def adds_space(self) -> bool:
        """Whether a text begins with a space that it does not hold."""
        return self.model == "llama"


def read(tokenizer: Any, rows: int, where: str) -> Vocabulary:
    """Read a tokenizer.

    Args:
        tokenizer: of transformers, a fast one.
        rows: of the model's embeddings; ids beyond the tokenizer's are unused.
        where: the model, for errors.

    Raises:
        ModelError: llama.cpp has no tokenizer like it.
    """
    words = json.loads(tokenizer.backend_tokenizer.to_str())
    model = words["model"]
    special = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
    if model["type"] != "BPE" or any(model.get(name) for name in special):
        raise _unknown(where, f"a {model['type']} tokenizer")
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge)
              for merge in model["merges"]]  # fmt: skip
    tokens = {index: token for token, index in model["vocab"].items()}
    kinds = dict.fromkeys(tokens, NORMAL)
    pieces = _is_sentencepiece(words)
    if pieces:
        byte_tokens = {f"<0x{byte:02X}>" for byte in range(256)}
        kinds |= {index: BYTE for index, token in tokens.items() if token in byte_tokens}
    for token in words["added_tokens"]:
        tokens[token["id"]] = token["content"]
        kinds[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    if pieces and model.get("unk_token") is not None:
        kinds[model["vocab"][model["unk_token"]]] = UNKNOWN
    texts = [tokens.get(index, f"[PAD{index}]") for index in range(rows)]
    listed = [kinds.get(index, UNUSED) for index in range(rows)]
    if not pieces:
        # Since tokens hold no space, one may part a merge.
        joined = [" ".join(merge) for merge in merges]
        return Vocabulary("gpt2", _way(words, where), texts, listed, merges=joined)
    ranks = _ranks(merges, [t for i, t in tokens.items() if kinds[i] == NORMAL], where)
    return Vocabulary(
        "llama", "default", texts, listed, scores=[-float(ranks.get(text, 0)) for text in texts]
    )


def _way(words: dict[str, Any], where: str) -> str:
    """Name how a byte-level BPE parts text."""
    model, steps = words["model"], _steps(words["pre_tokenizer"], "pretokenizers")
    whole = bool(model.get("ignore_merges"))
    changes = _steps(words["normalizer"], "normalizers")
    for name, way in _WAYS.items():
        # Where all bytes are letters, none is left to fall back on.
        if (steps, whole) == way and not changes and "<0x00>" not in model["vocab"]:
            return name
    kinds = ", ".join(step["type"] for step in steps) or "none"
    raise _unknown(where, f"a BPE tokenizer that parts text in another way ({kinds})")


def _steps(step: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    """List the steps of a normalizer or pre-tokenizer, without what changes no ids."""
    if step is None:
        return []
    if step["type"] == "Sequence":
        return [one for part in step[inner] for one in _steps(part, inner)]
    return [{name: value for name, value in step.items() if name != "trim_offsets"}]


def _is_sentencepiece(words: dict[str, Any]) -> bool:
    """Whether a tokenizer is a BPE of sentencepiece in the form of a fast one."""
    model = words["model"]
    before = _steps(words["normalizer"], "normalizers")
    parting = _steps(words["pre_tokenizer"], "pretokenizers")
    spaces = (before == [_PREPEND, _REPLACE] and not parting) or (
        not before and len(parting) == 1 and parting[0] in _METASPACES
    )
    return bool(model["byte_fallback"] and not model.get("ignore_merges") and spaces)


def _ranks(merges: list[tuple[str, ...]], tokens: list[str], where: str) -> dict[str, int]:
    """Rank tokens as sentencepiece does: a pair is merged by what it makes, not by what it is.

    Raises:
        ModelError: some merges are not those that follow from the tokens.
    """
    ranks: dict[str, int] = {}
    last = ""
    for merge in merges:
        token = "".join(merge)
        if token in ranks and token != last:
            raise _unknown(where, "merges that sentencepiece would not make")
        ranks.setdefault(token, len(ranks) + 1)
        last = token
    known, pairs = set(tokens), set(merges)
    for token in tokens:
        if len(token) > 1 and not known.issuperset(token):
            raise _unknown(where, "a token of characters that are none")
        for at in range(1, len(token)):
            pair = (token[:at], token[at:])
            if pair[0] in known and pair[1] in known and pair not in pairs:
                raise _unknown(where, "merges that sentencepiece would not make")
    return ranks


def _unknown(where: str, other: str) -> ModelError:
    expected = "a byte-level BPE (GPT-2, SmolLM, Llama 3) or sentencepiece's BPE (Llama, TinyLlama)"
    return ModelError(where, expected, other, _HINT)
