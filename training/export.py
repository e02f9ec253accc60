"""The driver of ``export``: adapter and base merged into one model of 16 bits, and checked.

Loaded with transformers alone: who uses the result needs neither Unsloth nor PEFT.
"""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import console, neighbours
from data.artefacts import manifest
from data.artefacts.folder import Artefact, Folder, digest_file, local_path
from data.artefacts.manifest import Manifest
from data.artefacts.run import RunFacts
from data.artefacts.stage import stage
from data.artefacts.weights import check_finite, load, with_adapter
from data.errors import ModelError
from data.tokens import TextTokenizer
from training.config import ExportConfig
from training.model.backend import hush, load_tokenizer, quietly

if TYPE_CHECKING:
    import torch

STAGE = "export"
# Largest relative distance (2-norm) of the logits from those of adapter and base: rounding alone.
# A merge sums before it rounds, an adapter after: in 16 bits they differ by a share of 2**-8 a
# layer (bf16) or 2**-11 (float16).
TOLERANCE = {"bf16": 0.05, "float16": 0.01, "float32": 1e-4}
_PROBE_TOKENS = 64


def run(config: ExportConfig) -> Manifest:
    """Write the merged model.

    Raises:
        ManifestError: the run is not finished.
        ModelError: its base is missing or has changed, or the merged model says something else.
        OutputError: the folder holds another output.
    """
    record = manifest.read(Folder(config.run), "train")
    record.check(Folder(config.run))
    facts = RunFacts.of(record)
    out = local_path(config.out, "--out")
    identity = manifest.identify(config, run=record.digest)
    with stage(STAGE, config, config.out, identity, spoiled_by=(BaseException,)) as work:
        if work.finished:
            console.say(f"{config.out} is already exported from this run")
            return work.finished
        apart, files = _write(config, facts, out)
        result = work.finish(
            inputs=record.outputs,
            outputs=tuple(Artefact(f.name, 0, f.stat().st_size, digest_file(f)) for f in files),
            made_from=(record.as_parent(manifest.absolute(config.run)),),
            facts={
                # For users who have no more than this folder.
                **dataclasses.replace(facts, base="").as_facts(),
                "logits_apart": apart,
                "tolerance": TOLERANCE[config.precision],
            },
        )
    console.say(
        f"{config.out} written in {result.seconds:.1f} s: {config.precision}, logits "
        f"{apart:.2e} apart from adapter and base (at most {TOLERANCE[config.precision]:.0e})"
    )
    return result


def _write(config: ExportConfig, facts: RunFacts, out: Path) -> tuple[float, list[Path]]:
    """Merge, save, load what was saved; return how far its logits are apart, and its files."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    hush()
    run = Path(config.run)
    base = facts.find_base(run)
    dtype = {"bf16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    with quietly():
        # In float32, so that merging rounds once, at the end.
        loaded = load(base.folder, AutoModelForCausalLM, dtype=torch.float32)
        both = with_adapter(loaded, run / "adapter", peft)
        tokenizer = load_tokenizer(run / "adapter")
        ids = _probe(tokenizer, both)
        expected_logits = _logits(both, ids)
        merged = both.merge_and_unload(safe_merge=True).to(dtype[config.precision])
        check_finite(merged.named_parameters(), str(out), "export with --precision bf16 or float32")
        # All that a plain ``generate`` needs to write what a run does: greedily, to the end.
        merged.generation_config.update(
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
        )
        work = out / f".tmp-model-{os.getpid()}"
        merged.save_pretrained(str(work), safe_serialization=True)
        _without_ending(tokenizer).save_pretrained(str(work))
        del merged, both, loaded
        saved = load(work, AutoModelForCausalLM, dtype="auto").eval()
    apart = float((_logits(saved, ids) - expected_logits).norm() / expected_logits.norm())
    if not apart <= TOLERANCE[config.precision]:  # a NaN as well
        shutil.rmtree(work)
        expected = f"logits within {TOLERANCE[config.precision]:.0e} of adapter and base"
        raise ModelError(str(out), expected, f"{apart:.2e}", "export with --precision float32")
    if facts.prompt and facts.prompt.neighbours:
        shutil.copyfile(run / neighbours.NAME, work / neighbours.NAME)
    names = sorted(file.name for file in work.iterdir())
    for name in names:
        os.replace(work / name, out / name)
    work.rmdir()
    return apart, [out / name for name in names]


def _without_ending(tokenizer: Any) -> Any:
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
