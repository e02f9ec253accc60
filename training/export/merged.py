"""Adapter and base merged into one model, and checked.

Loaded with transformers alone: who uses the result needs neither Unsloth nor PEFT.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import neighbours
from data.artefacts.weights import check_finite, load, with_adapter
from data.errors import ModelError
from data.tokens import TextTokenizer
from training.export.config import ExportConfig
from training.export.source import Source
from training.model.backend import hush, load_tokenizer, quietly

if TYPE_CHECKING:
    import torch

# Largest relative distance (2-norm) of the logits from those of adapter and base: rounding alone.
# A merge sums before it rounds, an adapter after: in 16 bits they differ by a share of 2**-8 a
# layer (bf16) or 2**-11 (float16).
TOLERANCE = {"bf16": 0.05, "float16": 0.01, "float32": 1e-4}
_PROBE_TOKENS = 64


@dataclass(frozen=True)
class Written:
    """What a form says of itself."""

    facts: dict[str, Any]
    line: str


@dataclass(frozen=True)
class Merged:
    """A run's weights as one model in float32, with what adapter and base say."""

    model: Any
    tokenizer: Any
    """Ends no text."""
    ids: "torch.Tensor"
    """``[2, tokens]``, to compare on."""
    logits: "torch.Tensor"
    """``[2, tokens, vocabulary]``, of adapter and base."""

    def apart(self, other: Any) -> float:
        """Measure the relative distance of another model's logits (2-norm)."""
        return float((_logits(other, self.ids) - self.logits).norm() / self.logits.norm())


def write(config: ExportConfig, source: Source, work: Path) -> Written:
    """Merge, save, load what was saved, and compare its logits.

    Raises:
        ModelError: the base is missing or another, or the merged model says something else.
    """
    import torch
    from transformers import AutoModelForCausalLM

    dtype = {"bf16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    with merging(source) as both:
        model = both.model.to(dtype[config.precision])
        hint = "export with --precision bf16 or float32"
        check_finite(model.named_parameters(), config.out, hint)
        # All that a plain ``generate`` needs to write what a run does: greedily, to the end.
        model.generation_config.update(
            eos_token_id=TextTokenizer(both.tokenizer, source.facts.chat).eos,
            pad_token_id=both.tokenizer.pad_token_id,
            bos_token_id=both.tokenizer.bos_token_id,
        )
        model.save_pretrained(str(work), safe_serialization=True)
        both.tokenizer.save_pretrained(str(work))
        saved = load(work, AutoModelForCausalLM, dtype="auto").eval()
        apart = both.apart(saved)
    check_apart(apart, config.precision, config.out)
    copy_neighbours(source, work)
    tolerance = TOLERANCE[config.precision]
    return Written(
        {"logits_apart": apart, "tolerance": tolerance},
        f"{config.precision}, logits {apart:.2e} apart from adapter and base "
        f"(at most {tolerance:.0e})",
    )


@contextmanager
def merging(source: Source) -> Iterator[Merged]:
    """Load a source as one model in float32, so that whatever is written from it rounds once.

    Raises:
        ModelError: the base is missing, or not the one that the adapter was trained on.
    """
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    hush()
    base = source.folder if source.is_merged else source.facts.find_base(source.folder).folder
    with quietly():
        model = load(base, AutoModelForCausalLM, dtype=torch.float32).eval()
        tokenizer = load_tokenizer(source.tokenizer)
        if not source.is_merged:
            model = with_adapter(model, source.folder / "adapter", peft)
        ids = _probe(tokenizer, model)
        logits = _logits(model, ids)
        if not source.is_merged:
            model = model.merge_and_unload(safe_merge=True)
        yield Merged(model, without_ending(tokenizer), ids, logits)


def check_apart(apart: float, precision: str, where: str) -> None:
    """Check that logits differ by rounding alone.

    Raises:
        ModelError: they differ by more, or are no numbers.
    """
    if not apart <= TOLERANCE[precision]:  # a NaN as well
        expected = f"logits within {TOLERANCE[precision]:.0e} of adapter and base"
        raise ModelError(where, expected, f"{apart:.2e}", "export with --precision float32")


def copy_neighbours(source: Source, work: Path) -> None:
    """Copy the rows that prompts show, where they show some."""
    if source.facts.prompt and source.facts.prompt.neighbours:
        shutil.copyfile(source.folder / neighbours.NAME, work / neighbours.NAME)


def without_ending(tokenizer: Any) -> Any:
    """Let a tokenizer end no text, so that a plain call gives the prompt that was trained on."""
    if TextTokenizer(tokenizer).ending:
        if getattr(tokenizer, "add_eos_token", False):
            tokenizer.add_eos_token = False
        backend = tokenizer.backend_tokenizer
        words = json.loads(backend.to_str())
        for part in (words["post_processor"], *words["post_processor"].get("processors", ())):
            if part["type"] == "TemplateProcessing":
                while "SpecialToken" in part["single"][-1]:
                    part["single"].pop()
        backend.post_processor = type(backend).from_str(json.dumps(words)).post_processor
    return tokenizer


def _probe(tokenizer: Any, loaded: Any) -> "torch.Tensor":
    """Choose ids to compare on: the same ones for every export of a vocabulary."""
    import torch

    generator = torch.Generator().manual_seed(0)
    highest = min(len(tokenizer), loaded.get_input_embeddings().num_embeddings)
    return torch.randint(0, highest, (2, _PROBE_TOKENS), generator=generator)


def _logits(loaded: Any, ids: "torch.Tensor") -> "torch.Tensor":
    import torch

    with torch.inference_mode():
        logits: torch.Tensor = loaded(input_ids=ids).logits.double()
    return logits
