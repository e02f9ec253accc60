"""``--quantize nf4``: the base in 4 bits while training, as it is afterwards."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.cli import extras
from tests import forked
from training.__main__ import main
from training.loop import metrics

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


def losses(out: Path) -> list[float]:
    lines = metrics.read(out / "metrics.jsonl")
    return [line["validation_loss"] for line in lines if "validation_loss" in line]


@pytest.fixture(scope="module", autouse=True)
def plain_kernels() -> Iterator[None]:
    """Do without bf16 of the CPU's own: bitsandbytes packs rows of 64 weights, here are 32."""
    if importlib.util.find_spec("bitsandbytes") is None:
        yield
        return
    from bitsandbytes.nn import modules

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modules, "has_avx512bf16", lambda: False)
        yield


@pytest.fixture(scope="module")
def quantised(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quantised") / "run"
    more = ["--quantize=nf4", "--checkpoints.eval_steps=2", f"--out={out}"]
    assert main([*words, *more]) == 0
    return out


@needs_bitsandbytes
def test_base_is_in_4_bits_and_the_adapter_in_32(quantised: Path, finished: Path) -> None:
    facts = manifest.read(Folder(str(quantised)), "train").facts
    assert facts["quantize"] == "nf4"
    assert manifest.read(Folder(str(finished)), "train").facts["quantize"] is None
    own, exact = losses(quantised), losses(finished)
    # Near what the exact base ends with, and not the same.
    assert own != exact
    assert own[-1] == pytest.approx(exact[-1], rel=0.02)
    weights = load_file(quantised / "adapter" / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    # What bf16 would have rounded away.
    assert any((w.bfloat16().float() != w).any() for w in weights.values())


@needs_bitsandbytes
def test_export_merges_into_the_exact_base(quantised: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    words = [f"--run={quantised}", f"--out={out}", "--precision=float32"]
    assert main(["export", *words]) == 0
    merged, exact = (load_file(folder / "model.safetensors") for folder in (out, base))
    adapter = load_file(quantised / "adapter" / "adapter_model.safetensors")
    layer = "model.layers.0.self_attn.q_proj"
    low, high = (adapter[f"base_model.model.{layer}.lora_{part}.weight"] for part in "AB")
    expected = exact[f"{layer}.weight"] + 16 / 16**0.5 * high @ low
    assert torch.allclose(merged[f"{layer}.weight"], expected, atol=1e-6)


@needs_bitsandbytes
def test_interrupted_run_goes_on_to_the_same_adapter(
    quantised: Path, words: list[str], tmp_path: Path, interrupted_after: Callable[[int], Any]
) -> None:
    more = ["--quantize=nf4", "--checkpoints.eval_steps=2", f"--out={tmp_path}"]
    with interrupted_after(5):
        assert main([*words, *more]) == 130
    assert main([*words, *more]) == 0
    assert losses(tmp_path) == losses(quantised)
    name = "adapter/adapter_model.safetensors"
    assert (tmp_path / name).read_bytes() == (quantised / name).read_bytes()


@needs_bitsandbytes
@pytest.mark.skipif(importlib.util.find_spec("unsloth") is None, reason="unsloth is not installed")
def test_unsloth_learns_the_same(quantised: Path, words: list[str], tmp_path: Path) -> None:
    more = ["--quantize=nf4", "--checkpoints.eval_steps=2", "--backend=unsloth"]
    words = ["training", *words, *more, f"--out={tmp_path}"]
    done = forked.run_python("-m", *words, kind="unsloth")
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path) == pytest.approx(losses(quantised), rel=2e-3)


def test_without_bitsandbytes_a_line_says_what_to_install(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    has = extras.is_installed
    monkeypatch.setattr(extras, "is_installed", lambda name: name != "bitsandbytes" and has(name))
    assert main([*words, "--quantize=nf4", f"--out={tmp_path}"]) == 1
    error = capsys.readouterr().err
    assert "the extra gpu, found no bitsandbytes; pip install" in error
