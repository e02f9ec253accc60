"""A run, its export, and the export in plain transformers write the same greedy texts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data import errors
from data.artefacts import Counts, Manifest, manifest
from data.artefacts.folder import Folder
from data.artefacts.run import Run
from data.prompt import SHOPPER, Prompt
from inference.engine import batch
from inference.engine.reference import ReferenceEngine
from inference.engine.requests import Request
from inference.evaluate.systems import check_run
from tests.builders import finish_run, greedy, some_titles
from training.export import command as export
from training.export.config import ExportConfig

PROMPTS = [
    Prompt(template, instruction)
    for template in ("alpaca", "compact")
    for instruction in ("Write a product description.", list(SHOPPER))
]
SETTINGS = greedy(max_new_tokens=12, batch_size=16)


@pytest.fixture(scope="module")
def hostile(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a base with generation settings of its own, whose tokenizer ends every text."""
    folder = Path(shutil.copytree(run, tmp_path_factory.mktemp("hostile") / "run"))
    settings = {"repetition_penalty": 1.8, "do_sample": True, "max_new_tokens": 3}
    (folder / "base/generation_config.json").write_text(json.dumps(settings))
    file = folder / "base/tokenizer.json"
    words = json.loads(file.read_text())
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    words["post_processor"]["single"].append(end)
    words["post_processor"]["special_tokens"]["</s>"] = {
        "id": "</s>", "ids": [1], "tokens": ["</s>"],
    }  # fmt: skip
    file.write_text(json.dumps(words))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / "base" / name, folder / "adapter" / name)
    return folder


def plain_texts(folder: Path, prompts: list[str]) -> list[str]:
    """What anyone gets who loads the export as its documentation says."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(str(folder)).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    given = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
    new = model.generate(**given, max_new_tokens=SETTINGS.max_new_tokens)
    begins = given["input_ids"].shape[1]
    texts = tokenizer.batch_decode(new[:, begins:], skip_special_tokens=True)
    return [text.strip() for text in texts]


def ours(folder: Path, requests: list[Request], kind: Callable[..., Any]) -> list[str]:
    return [each.text for each in kind(Run.open(str(folder)), SETTINGS).generate(requests)]


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda p: f"{p.template}-{len(p.instructions)}")
def test_run_export_and_plain_transformers_write_the_same(
    prompt: Prompt,
    hostile: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    told = {"template": prompt.template, "instruction": prompt.instruction}
    finish_run(hostile, prompt=told, longest_completion_tokens=12, max_length=200)
    out = tmp_path / "exported"
    export.run(ExportConfig(run=str(hostile), out=str(out), precision="float32"))
    found = Run.open(str(out))
    assert (found.prompt, found.longest) == (prompt, 12)
    requests = [
        Request(f"u{i}", found.prompt.render(title, f"u{i}"))
        for i, title in enumerate(some_titles(50))
    ]
    expected = ours(hostile, requests, batch.FastEngine)
    assert len(set(expected)) > 20
    assert ours(hostile, requests, ReferenceEngine) == expected
    assert ours(out, requests, batch.FastEngine) == expected
    assert plain_texts(out, [request.prompt for request in requests]) == expected


def test_an_export_knows_where_it_comes_from(hostile: Path, tmp_path: Path) -> None:
    finish_run(hostile, max_length=200)
    out = tmp_path / "exported"
    record = export.run(ExportConfig(run=str(hostile), out=str(out)))
    made = Run.open(str(out)).record
    assert made is not None
    assert made.digest == record.digest
    assert made.facts["max_length"] == 200
    parent = manifest.ancestor([made.as_parent(str(out))], "train")
    assert parent is not None
    assert parent.digest == manifest.read(Folder(str(hostile))).digest
    with pytest.raises(errors.ManifestError, match="a training run, found a merged model"):
        check_run(str(out), Run.open(str(out)))


def test_a_model_from_elsewhere_is_asked_by_our_defaults_and_says_so(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING", "catalogue"):
        found = Run.open(str(run / "base"))
    assert (found.prompt, found.longest, found.record) == (Prompt(), 256, None)
    assert "the alpaca prompt and 256 tokens a description at most" in caplog.text


def test_an_export_that_records_no_prompt_is_asked_by_our_defaults(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(run / "base", tmp_path / "exported"))
    facts = {"logits_apart": 0.0}
    record = Manifest("export", {}, {}, (), (), Counts(), facts=facts)
    record.write(Folder(str(folder)))
    with caplog.at_level("WARNING", "catalogue"):
        opened = Run.open(str(folder))
    assert (opened.prompt, opened.longest, opened.record) == (Prompt(), 256, record)
    assert "the alpaca prompt and 256 tokens" in caplog.text


def test_what_an_adapters_settings_change_is_in_its_identity(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    before = Run.open(str(copy))
    file = copy / "adapter/adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lora_alpha": 16}))
    after = Run.open(str(copy))
    # The digest stays that of earlier outputs.
    assert (before.digest, before.settings != after.settings) == (after.digest, True)


def test_weights_that_float16_cannot_hold_are_named(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft.tuners.lora import LoraModel

    finish_run(hostile)
    merge = LoraModel.merge_and_unload

    def huge(self: Any, **how: Any) -> Any:
        merged = merge(self, **how)
        merged.lm_head.weight.data[3, 0] = 1e5
        return merged

    monkeypatch.setattr(LoraModel, "merge_and_unload", huge)
    config = ExportConfig(run=str(hostile), out=str(tmp_path / "out"), precision="float16")
    with pytest.raises(errors.ModelError, match=r"NaN or infinity in lm_head.weight; export with"):
        export.run(config)
    assert not (tmp_path / "out").exists()
