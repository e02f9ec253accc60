"""Prompts in, texts out: the protocol, and the reference engine on transformers' ``generate``.

The only file of this stage that imports torch, transformers and peft, and only inside functions.
Loads safetensors only, never remote code. Knows nothing of files of titles or of Dask.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.artefacts import manifest
from data.artefacts.folder import Folder, digest_all, digest_file
from data.artefacts.manifest import Manifest
from data.artefacts.run import ADAPTER, load, locate, with_adapter
from data.console import parse_memory
from data.errors import ConfigError, ModelError
from data.prompt import Prompt
from inference.engine.requests import Settings

if TYPE_CHECKING:
    import torch

log = logging.getLogger("catalogue")

# For a model that does not tell what it was trained on.
_UNKNOWN_LONGEST = 256
_WORTH_THREADS = 20_000_000
_PROBE = 32
# Relative distance (2-norm) of logits before and after merging: rounding of weights alone.
_MERGED_APART = {"torch.bfloat16": 0.1, "torch.float32": 1e-3}


@dataclass(frozen=True)
class Model:
    """The weights to write with, found but not loaded."""

    base: str
    """Folder of the base, or of the merged model."""
    adapter: str | None
    digest: str
    """Of weights and tokenizer: the same digest writes the same text."""
    prompt: Prompt
    longest: int
    """Tokens of the longest description that was trained on."""
    made: Manifest | None = None
    """Of the run, or of the export."""
    settings: str = ""
    """Digest of the JSON files beside the weights that change the text as well."""


def find_model(run: str) -> Model:
    """Find the weights of a run, or a merged model.

    Args:
        run: a run's folder (``adapter/`` and manifest), or a model's (``config.json``).

    Raises:
        ManifestError: the run is unfinished.
        ModelError: neither is there, or the base is not the one that the adapter was trained on.
    """
    folder = Path(run)
    if (folder / "config.json").is_file():
        return _merged(run)
    if not folder.is_dir():
        raise ModelError(run, "the folder of a run or of a model", "none")
    made = manifest.read(Folder(run), "train")
    made.check(Folder(run))
    adapter = folder / "adapter"
    if not (adapter / ADAPTER).is_file():
        raise ModelError(str(adapter), f"an adapter with {ADAPTER}", "none")
    facts = made.facts
    told = str(facts["base"])
    base = locate(str(folder / "base") if told == "base" else told)
    if base.digest != facts["base_digest"]:
        expected = f"the base that the adapter was trained on ({facts['base_digest'][:12]})"
        raise ModelError(base.name, expected, f"another ({base.digest[:12]})")
    weights = [base.digest, digest_file(adapter / ADAPTER), _tokenizer_digest(base.folder)]
    return Model(
        str(base.folder), str(adapter), digest_all(weights), Prompt(**facts["prompt"]),
        _longest(facts), made, _settings_digest(adapter / "adapter_config.json", base.folder),
    )  # fmt: skip


def _merged(folder: str) -> Model:
    """Find a merged model: one that ``export`` made tells its prompt, one from elsewhere cannot."""
    base = locate(folder)
    digest = digest_all([base.digest, _tokenizer_digest(base.folder)])
    made = None
    if Folder(folder).exists(manifest.NAME):
        made = manifest.read(Folder(folder), "export")
        made.check(Folder(folder))
    facts = made.facts if made else {"prompt": {}}
    prompt, longest = Prompt(**facts["prompt"]), _longest(facts)
    if "longest_completion_tokens" not in facts:
        asked = f"the {prompt.template} prompt and " if made is None else ""
        log.warning("%s does not tell how it was trained: %s%s tokens a description at most",
                    folder, asked, longest)  # fmt: skip
    settings = _settings_digest(base.folder)
    return Model(str(base.folder), None, digest, prompt, longest, made, settings)


def _longest(facts: dict[str, Any]) -> int:
    return int(facts.get("longest_completion_tokens") or _UNKNOWN_LONGEST)


def _settings_digest(*places: Path) -> str:
    """Digest what ``Model.digest`` leaves out: the adapter's scale, which tokens are special."""
    names = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
    files = [place for place in places if place.is_file()]
    files += [folder / name for folder in places for name in names if (folder / name).is_file()]
    return digest_all([digest_file(file.resolve()) for file in files])


def _tokenizer_digest(folder: Path) -> str:
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ModelError(str(folder), "a tokenizer.json", "none")
    return digest_file(file)


def limit_memory(settings: Settings, device: "torch.device") -> None:
    """Keep this process below ``--memory_limit`` on a GPU."""
    import torch

    if settings.memory_limit and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        share = parse_memory(settings.memory_limit) / total
        torch.cuda.set_per_process_memory_fraction(min(share, 1.0), device)


def limit_threads(settings: Settings, loaded: Any) -> None:
    """Give torch on a CPU its share of the cores, and a small model one of them."""
    import torch

    if settings.threads and loaded.device.type == "cpu":
        # Threads of a small model wait for each other longer than they compute: 64 rows of the
        # sample's model took 1.4 s with one thread, 6 s with two on two busy cores.
        is_small = loaded.num_parameters() < _WORTH_THREADS
        torch.set_num_threads(1 if is_small else settings.threads)


def load_merged(model: Model, device: "torch.device") -> Any:
    """Load base weights, put the adapter into them, in 16 bits on a GPU and 32 on a CPU.

    Raises:
        ModelError: base or adapter are not whole and finite, or do not fit each other.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    # Missing and other tensors are told by our own error.
    logging.set_verbosity_error()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    loaded = load(model.base, AutoModelForCausalLM, dtype=dtype, device_map={"": device}).eval()
    if model.adapter:
        loaded = _with_adapter(loaded, model.adapter)
    return loaded.eval()


def _with_adapter(loaded: Any, adapter: str) -> Any:
    """Merge an adapter into its base; the merged model must say what both together said."""
    import peft

    both = with_adapter(loaded, adapter, peft)
    before = _probe(both)
    merged = both.merge_and_unload(safe_merge=True)
    apart = float((_probe(merged) - before).norm() / before.norm())
    if not apart <= _MERGED_APART[str(merged.dtype)]:
        found = f"logits that are {apart:.1%} apart"
        raise ModelError(adapter, "a merge that says what adapter and base say", found)
    return merged


def _probe(model: Any) -> "torch.Tensor":
    """Give the logits of a few tokens: float32 [tokens, vocabulary]."""
    import torch

    ids = torch.arange(_PROBE, device=model.device)[None] % model.config.vocab_size
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids).logits[0].float()
    return logits


def free_memory(device: str) -> None:
    """Hand back GPU memory that torch only keeps: an engine counts it as taken."""
    import gc

    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def choose_device(asked: str) -> str:
    """Choose ``cuda`` or ``cpu``.

    Raises:
        ConfigError: a GPU was asked for and there is none.
    """
    import torch

    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise ConfigError("--device", "a CUDA device", "none that torch can use")
    return asked if asked != "auto" else ("cuda" if there else "cpu")


def visible_gpus() -> list[str]:
    """Name the GPUs that this process may use, as CUDA_VISIBLE_DEVICES would."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]
