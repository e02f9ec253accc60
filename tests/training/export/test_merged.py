"""The merged model: what plain transformers loads says what adapter and base say."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data.artefacts import manifest
from data.artefacts.folder import Folder
from training.__main__ import main

SCRIPT = """
import sys, torch
sys.modules["peft"] = sys.modules["unsloth"] = None  # plain transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto").eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
ids = torch.arange(40)[None] + 5
torch.save(model(input_ids=ids).logits.float().detach(), sys.argv[2])
print(model.dtype, tokenizer("Kettle")["input_ids"])
"""


@pytest.fixture(scope="module")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "model"
    assert main(["export", f"--run={finished}", f"--out={out}"]) == 0
    return out


def test_plain_transformers_loads_it_and_says_the_same(
    exported: Path, finished: Path, base: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    saved = tmp_path / "logits.pt"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(exported), str(saved)], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("torch.bfloat16")
    merged = torch.load(saved)
    bare = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32).eval()
    ids = torch.arange(40)[None] + 5
    with torch.inference_mode():
        untrained = bare(input_ids=ids).logits
        both = PeftModel.from_pretrained(bare, str(finished / "adapter")).eval()
        wanted = both(input_ids=ids).logits
    apart = float((merged - wanted).norm() / wanted.norm())
    assert apart < 0.02
    assert float((merged - untrained).norm() / wanted.norm()) > 2 * apart


def test_record_names_the_run_and_the_distance(exported: Path, finished: Path) -> None:
    record = manifest.read(Folder(str(exported)), "export")
    assert record.made_from[0].digest == manifest.read(Folder(str(finished))).digest
    assert 0 < record.facts["logits_apart"] < record.facts["tolerance"]
    assert {output.path for output in record.outputs} >= {"config.json", "model.safetensors"}


def test_second_export_ends_at_once(
    exported: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", f"--run={finished}", f"--out={exported}"]) == 0
    assert "already exported" in capsys.readouterr().out


def test_merge_that_says_something_else_is_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from peft.tuners.lora import LoraModel

    # As a merge that leaves the adapter out would be.
    monkeypatch.setattr(LoraModel, "merge_and_unload", lambda self, **_: self.unload())
    monkeypatch.setattr("training.export.merged.TOLERANCE", {"float32": 1e-4})
    words = ["export", f"--run={finished}", f"--out={tmp_path / 'out'}", "--precision=float32"]
    assert main(words) == 1
    assert "expected logits within" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_base_that_has_changed_is_refused(
    finished: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, run = tmp_path / "base", tmp_path / "run"
    shutil.copytree(base, other)
    shutil.copytree(finished, run)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    record = json.loads((run / "manifest.json").read_text())
    record["facts"]["base"] = str(other)
    del record["checksum"]  # as an earlier version wrote it
    (run / "manifest.json").write_text(json.dumps(record))
    assert main(["export", f"--run={run}", f"--out={tmp_path / 'out'}"]) == 1
    assert "the base that the adapter was trained on" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
