"""Adapters on disk: check, digest, load into a model, save. Safetensors only."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from data.artefacts import manifest
from data.artefacts.folder import Folder, digest_file
from data.artefacts.run import Base, RunFacts
from data.artefacts.weights import ADAPTER, adapter_names, check_adapter
from data.console import first_line
from data.errors import ManifestError, ModelError
from training.config import LoraSettings

WEIGHTS = ADAPTER
SETTINGS = "adapter_config.json"
# Settings of PEFT that change what the same weights say, and that we do not train with.
_ODD = ("alpha_pattern", "rank_pattern", "use_dora", "fan_in_fan_out")


def check_init_adapter(path: Path, base: Base, lora: LoraSettings) -> None:
    """Check that an adapter was made for this base with these LoRA settings.

    Args:
        path: the adapter's folder; beside a run's own adapter is its manifest, which has the
            digest of its base; other adapters have its name only.
        base: to put it on.
        lora: settings of the run.

    Raises:
        ModelError: it is no adapter in safetensors, or one of another base or other settings.
    """
    if not (path / SETTINGS).is_file() or not (path / WEIGHTS).is_file():
        raise ModelError(str(path), f"an adapter: {SETTINGS} and {WEIGHTS}", "none")
    saved = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
    own_base = _base_of(path, saved)
    if own_base not in {base.digest, base.name, str(base.folder)}:
        raise ModelError(str(path), f"an adapter of {base.name}", f"one of {own_base}")
    # By the layers that have weights: a library may have written names that match nothing.
    trained = {_layer(name.split(".lora_")[0]) for name in adapter_names(path)}
    settings = {
        "r": (lora.r, saved.get("r")),
        "alpha": (lora.alpha, saved.get("lora_alpha")),
        "use_rslora": (lora.use_rslora, saved.get("use_rslora", False)),
        "target_modules": (sorted({_layer(t) for t in lora.target_modules}), sorted(trained)),
    }
    for name, (ours, its) in settings.items():
        if ours != its:
            raise ModelError(str(path), f"lora.{name}={ours}", str(its), f"set --lora.{name}")
    if odd := [name for name in _ODD if saved.get(name)]:
        raise ModelError(str(path), "LoRA with one rank and scale", f"{odd[0]}={saved[odd[0]]}")


def _layer(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def digest_adapter(path: Path) -> str:
    """Digest the weights of an adapter to go on from.

    Raises:
        ModelError: there is no adapter.
    """
    if not (path / WEIGHTS).is_file():
        raise ModelError(str(path), f"an adapter with {WEIGHTS}", "none")
    return digest_file(path / WEIGHTS)


def _base_of(path: Path, saved: dict[str, Any]) -> str:
    try:
        facts = RunFacts.of(manifest.read(Folder(str(path.parent)), "train"))
    except ManifestError:
        facts = RunFacts()
    return facts.base_digest or str(saved.get("base_model_name_or_path"))


def take_weights(model: Any, path: Path) -> None:
    """Load the weights of an adapter or a checkpoint into a model that has one of the same shape.

    Raises:
        ModelError: the weights are damaged or of another shape.
    """
    import peft
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    names = adapter_names(path)
    check_adapter(model, names, str(path), peft)
    try:
        peft.set_peft_model_state_dict(model, load_file(path / WEIGHTS))
    except (RuntimeError, OSError, SafetensorError) as error:
        raise ModelError(str(path), "weights that fit the base", first_line(error)) from error
    check_adapter(model, names, str(path), peft)


def save_adapter(model: Any, tokenizer: Any, folder: Path, base_name: str) -> None:
    """Write the adapter as safetensors and JSON, with the tokenizer it was trained with.

    Args:
        model: with the adapter on it.
        tokenizer: of the base.
        folder: written beside its place, then renamed.
        base_name: of its base, for its settings: a hub id or a path.
    """
    work = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    model.save_pretrained(str(work), safe_serialization=True)
    tokenizer.save_pretrained(str(work))
    # PEFT writes a card that names the base by this machine's path.
    (work / "README.md").unlink(missing_ok=True)
    settings = json.loads((work / SETTINGS).read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = base_name
    # PEFT lists these in the random order of a set.
    if isinstance(settings["target_modules"], list):
        settings["target_modules"] = sorted(settings["target_modules"])
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    (work / SETTINGS).write_text(text, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(work, folder)
