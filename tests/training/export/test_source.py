"""What may be exported, and whose prompt it has."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.errors import CatalogueError, ConfigError
from data.prompt import Prompt
from tests.training.export.conftest import Exported
from training.__main__ import main
from training.export import modelfile
from training.export.config import ExportConfig


def test_an_exported_model_becomes_gguf_with_its_prompt_limits_and_lineage(
    run: Path, exported: Exported
) -> None:
    merged = exported(run, "merged", precision="float32")
    out = exported(merged, format="gguf", precision="float32")
    record = manifest.read(Folder(str(out)), "export")
    assert record.facts["prompt"] == {
        "template": "alpaca", "instruction": "Write a product description.",
    }  # fmt: skip
    assert record.facts["longest_completion_tokens"] == 12
    parent = manifest.ancestor(record.made_from, "train")
    assert parent is not None
    assert parent.digest == manifest.read(Folder(str(run))).digest
    straight = exported(run, "straight", format="gguf", precision="float32")
    assert (straight / "model.gguf").read_bytes() == (out / "model.gguf").read_bytes()


@pytest.fixture
def elsewhere(run: Path, tmp_path: Path) -> Path:
    """A model that nothing is known of."""
    return Path(shutil.copytree(run / "base", tmp_path / "elsewhere"))


def test_a_model_from_elsewhere_demands_a_prompt(
    elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["export", f"--run={elsewhere}", f"--out={out}", "--format=gguf"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --prompt.template: expected how a title becomes a prompt, as")
    assert not out.exists()
    flags = ["--prompt.template=compact", "--prompt.instruction=Describe it."]
    assert main([*words, *flags]) == 0
    text = (out / modelfile.NAME).read_text()
    assert 'TEMPLATE """Describe it.\nTitle: {{ .Prompt }}\nDescription:\n"""' in text
    assert "num_predict" not in text
    record = manifest.read(Folder(str(out)), "export")
    assert record.facts["prompt"] == {"template": "compact", "instruction": "Describe it."}
    assert record.made_from == ()


def test_a_changed_model_from_elsewhere_is_another_output(
    elsewhere: Path, exported: Exported
) -> None:
    prompt = Prompt("compact")
    exported(elsewhere, format="gguf", prompt=prompt)
    file = elsewhere / "tokenizer.json"
    file.write_text(file.read_text() + " ")
    with pytest.raises(CatalogueError, match="expected an output made with run="):
        exported(elsewhere, format="gguf", prompt=prompt)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a merged model, merged": ("merged", {}, "expected a training run, found a merged model"),
    "a merged model's adapter": (
        "merged", {"format": "adapter"}, "expected a training run, found a merged model",
    ),
    "a model's adapter": (
        "base", {"format": "adapter"}, "expected a training run, found a merged model",
    ),
    "another prompt": (
        "run", {"prompt": Prompt("compact")}, "records, or none of these flags, found another",
    ),
    "no model": ("nothing", {"format": "gguf"}, "expected the finished output of train"),
    "a chat without a template": (
        "base", {"format": "gguf", "prompt": Prompt("chat")}, "expected a chat template",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("source", "flags", "line"), REFUSED.values(), ids=REFUSED)
def test_refused(
    source: str, flags: dict[str, Any], line: str, run: Path, exported: Exported, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    folders = {"run": run, "base": run / "base", "nothing": tmp_path / "nothing"}
    if source == "merged":
        folders["merged"] = exported(run, "merged")
    with pytest.raises(CatalogueError) as caught:
        exported(folders[source], **flags)
    assert line in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_precisions_of_gguf_are_its_own() -> None:
    with pytest.raises(ConfigError, match=r"expected bf16, float16 or float32, as --format is"):
        ExportConfig(precision="q8_0")


def test_a_config_without_the_new_flags_is_what_it_was() -> None:
    assert manifest.identify(ExportConfig()) == {"precision": "bf16"}
