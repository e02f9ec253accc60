"""The adapter alone, as PEFT loads it: on its base by name, with the tokenizer of its prompts."""

import json
import shutil
from pathlib import Path

from data.artefacts.run import BASE
from data.artefacts.weights import ADAPTER, load, with_adapter
from training.export.config import ExportConfig
from training.export.merged import Written, copy_neighbours, without_ending
from training.export.source import Source
from training.model.backend import hush, load_tokenizer, quietly

_SETTINGS = "adapter_config.json"


def write(_config: ExportConfig, source: Source, work: Path) -> Written:
    """Copy adapter and tokenizer, name the base as the hub does, and load them once.

    A base that the run made itself goes with it, in ``base/``.

    Raises:
        ModelError: the base is missing or another, or the adapter does not fit it.
    """
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    hush()
    base = source.facts.find_base(source.folder)
    own = source.folder / "adapter"
    shutil.copyfile(own / ADAPTER, work / ADAPTER)
    settings = json.loads((own / _SETTINGS).read_text(encoding="utf-8"))
    # PEFT wrote where the base lay on the machine that trained.
    settings["base_model_name_or_path"] = source.facts.base
    (work / _SETTINGS).write_text(json.dumps(settings, indent=2), encoding="utf-8")
    without_ending(load_tokenizer(source.tokenizer)).save_pretrained(str(work))
    copy_neighbours(source, work)
    if source.facts.base == BASE:
        shutil.copytree(base.folder, work / BASE)
    with quietly():
        # Names, shapes and finiteness: the weights are the run's own bytes.
        loaded = load(base.folder, AutoModelForCausalLM, dtype=torch.float32)
        with_adapter(loaded, work, peft)
    return Written({"base": source.facts.base}, f"the adapter of {base.name}, for PEFT")
