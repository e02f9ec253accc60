"""The adapter for PEFT: on its base it says what the run says."""

import json
from pathlib import Path

import pytest

from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.errors import ModelError
from tests.builders import finish_run
from tests.training.export.conftest import Exported


def test_peft_loads_it_and_says_what_the_run_says(run: Path, exported: Exported) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out, logits = exported(run, format="adapter"), []
    ids = AutoTokenizer.from_pretrained(str(out))("Kettle", return_tensors="pt")["input_ids"]
    for base, adapter in ((run / "base", run / "adapter"), (out / "base", out)):
        loaded = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)
        with torch.inference_mode():
            logits.append(PeftModel.from_pretrained(loaded, str(adapter)).eval()(ids).logits)
    assert torch.equal(*logits)


def test_it_names_the_base_as_the_run_does_and_keeps_its_facts(
    run: Path, exported: Exported
) -> None:
    out = exported(run, format="adapter")
    settings = json.loads((out / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "base"
    record = manifest.read(Folder(str(out)), "export")
    assert record.facts["base"] == "base"
    assert record.facts["prompt"]["template"] == "alpaca"
    assert record.made_from[0].digest == manifest.read(Folder(str(run))).digest
    record.check(Folder(str(out)))


def test_a_base_from_elsewhere_stays_where_it_is(copy: Path, run: Path, exported: Exported) -> None:
    finish_run(copy, base=str(run / "base"))
    out = exported(copy, format="adapter")
    assert not (out / "base").exists()
    settings = json.loads((out / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(run / "base")


def test_an_adapter_of_another_base_is_refused(copy: Path, exported: Exported) -> None:
    file = copy / "adapter/adapter_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"target_modules": ["q_proj"]}))
    with pytest.raises(ModelError, match=r"that its adapter_config.json asks for"):
        exported(copy, format="adapter")
