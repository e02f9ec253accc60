"""fp16: a gradient scaler skips steps that overflow, and a resumed run has its state.

A CPU multiplies in fp16 too, so the overflows are real; only the scaler is put in by hand, as
accelerate makes one for GPUs alone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.errors import BatchError
from tests.training.test_run import adapter
from training import guards, hardware
from training.__main__ import main
from training.loop import metrics
from training.loop.callbacks import MetricsCallback

SCALE = 2.0**22
FIGURES = ("step", "loss", "grad_norm", "learning_rate", "loss_scale", "skipped_steps")


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> list[str]:
    """Flags of a run in fp16 whose scale begins too high by far and grows every other step."""
    made = Trainer.create_accelerator_and_postprocess

    def with_scaler(self: Any) -> None:
        made(self)
        self.accelerator.scaler = torch.amp.GradScaler("cpu", SCALE, growth_interval=2)

    monkeypatch.setattr(Trainer, "create_accelerator_and_postprocess", with_scaler)
    monkeypatch.setattr(hardware, "precision", lambda _config: "fp16")
    return [*words, "--optimisation.max_steps=10"]


def test_overflows_are_skipped_and_a_resumed_run_has_the_same(
    half: list[str], tmp_path: Path, interrupted_after: Callable[[int], Any]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*half, f"--out={whole}"]) == 0
    lines = [line for line in metrics.read(whole / "metrics.jsonl") if "loss" in line]
    scales = [SCALE, *(line["loss_scale"] for line in lines)]
    counts = [0, *(line["skipped_steps"] for line in lines)]
    for place, line in enumerate(lines):
        was_skipped = counts[place + 1] > counts[place]
        assert was_skipped == (scales[place + 1] < scales[place]) == (line["grad_norm"] is None)
    facts = manifest.read(Folder(str(whole)), "train").facts
    assert facts["precision"] == "fp16"
    assert 1 < facts["skipped_steps"] == counts[-1] < 10
    with interrupted_after(7):
        assert main([*half, f"--out={parts}"]) == 130
    assert main([*half, f"--out={parts}"]) == 0
    again = metrics.read(parts / "metrics.jsonl")
    assert [[line[name] for name in FIGURES] for line in again] == [
        [line[name] for name in FIGURES] for line in lines
    ]
    assert adapter(parts) == adapter(whole)


def test_steps_skipped_between_two_lines_of_metrics_are_counted_after_an_interruption(
    half: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, begin = tmp_path / "run", MetricsCallback.on_step_end
    counted = dict[int, int]()

    def stop(self: Any, args: Any, state: Any, control: Any, **named: Any) -> None:
        begin(self, args, state, control, **named)
        counted[state.global_step] = self.skipped
        if state.global_step == 9:
            raise KeyboardInterrupt

    words = [*half, "--logging_steps=5", f"--out={out}"]  # checkpoints are at 2, 4, 6, 8
    with monkeypatch.context() as patched:
        patched.setattr(MetricsCallback, "on_step_end", stop)
        assert main(words) == 130
    assert counted[8] > counted[5]
    assert main(words) == 0
    whole = tmp_path / "whole"
    assert main([*words[:-1], f"--out={whole}"]) == 0
    counts = [[line.get("skipped_steps") for line in metrics.read(folder / "metrics.jsonl")]
              for folder in (out, whole)]  # fmt: skip
    assert counts[0] == counts[1]


def test_endless_skipping_is_a_fault() -> None:
    guards.check_skipped(23, 2.0**-7, 23)
    with pytest.raises(BatchError, match="24 steps skipped in a row, down to"):
        guards.check_skipped(24, 2.0**-8, 24)


def test_a_run_whose_steps_were_all_skipped_is_none(
    half: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "SCALE", 2.0**60)
    assert main([*half, "--optimisation.max_steps=2", f"--out={tmp_path / 'run'}"]) == 1
    assert not (tmp_path / "run" / "manifest.json").exists()
