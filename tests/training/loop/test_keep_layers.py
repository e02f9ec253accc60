"""Which layers run their forward pass a second time, under both backends."""

import importlib.util
import json
from pathlib import Path

import pytest

from tests.training import counting

KEEP = "--optimisation.keep_layers=1"


@pytest.mark.parametrize(
    ("backend", "flags", "calls"),
    [
        ("transformers", [], [2, 2]),
        ("transformers", [KEEP], [2, 1]),
        ("unsloth", [KEEP], [2, 1]),
    ],
)
def test_layers_that_recompute(
    backend: str,
    flags: list[str],
    calls: list[int],
    words: list[str],
    tmp_path: Path,
) -> None:
    if backend == "unsloth" and importlib.util.find_spec("unsloth") is None:
        pytest.skip("unsloth is not installed")
    more = [
        *flags, f"--backend={backend}", "--optimisation.max_steps=1",
        "--optimisation.gradient_checkpointing=every",
        "--optimisation.micro_batch_size=8", f"--out={tmp_path / 'run'}",
    ]  # fmt: skip
    count = counting.count_apart if backend == "unsloth" else counting.count
    passes = count([*words, *more])
    assert [passes.count(layer) for layer in (0, 1)] == calls


def test_keeping_changes_no_weight(words: list[str], tmp_path: Path) -> None:
    from training.__main__ import main

    adapters = []
    for name, flags in {
        "keep": [],
        "recompute": ["--optimisation.gradient_checkpointing=every"],
        "mixed": ["--optimisation.gradient_checkpointing=every", "--optimisation.keep_layers=1"],
    }.items():
        out = tmp_path / name
        assert main([*words, *flags, "--optimisation.max_steps=3", f"--out={out}"]) == 0
        facts = json.loads((out / "manifest.json").read_text())["facts"]
        assert facts["steps"] == 3
        adapters.append((out / "adapter" / "adapter_model.safetensors").read_bytes())
    assert adapters[0] == adapters[1] == adapters[2]


def test_layers_recompute_again_when_fewer_are_kept(base: Path) -> None:
    from transformers import AutoModelForCausalLM

    from training.loop.callbacks import keep_layers

    model = AutoModelForCausalLM.from_pretrained(str(base))
    model.gradient_checkpointing_enable()
    functions = [layer._gradient_checkpointing_func for layer in model.model.layers]
    keep_layers(model, 2)
    kept = [layer._gradient_checkpointing_func for layer in model.model.layers]
    assert all(new is not old for new, old in zip(kept, functions, strict=True))
    keep_layers(model, 0)
    assert [layer._gradient_checkpointing_func for layer in model.model.layers] == functions
