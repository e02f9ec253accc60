"""Long micro-batches go through the model in pieces: the same step, under both backends."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import transformers
from trl.trainer import sft_trainer

from tests.training import counting
from training import run
from training.__main__ import main
from training.loop import arguments, metrics

NAMES = ("loss", "grad_norm", "validation_loss")


def train(
    words: list[str], out: Path, count: Callable[[list[str]], list[int]], *more: str
) -> tuple[dict[str, float], int]:
    """Give the figures of a step of 8 rows and its evaluation, and the forward passes it took."""
    flags = [
        "--optimisation.max_steps=1", "--optimisation.micro_batch_size=8",
        "--checkpoints.eval_steps=1", "--optimisation.order=random", f"--out={out}", *more,
    ]  # fmt: skip
    passes = count([*words, *flags])
    found: dict[str, float] = {}
    for line in metrics.read(out / "metrics.jsonl"):
        found |= {name: line[name] for name in NAMES if line.get(name) is not None}
    return found, passes.count(0)


def test_pieces_change_no_figure(words: list[str], tmp_path: Path) -> None:
    whole, passes = train(words, tmp_path / "whole", counting.count)
    # Rows have some 150 to 250 tokens.
    limit = "--optimisation.max_tokens=700"
    pieces, more = train(words, tmp_path / "pieces", counting.count, limit)
    assert more >= 2 * passes
    assert pieces == pytest.approx(whole, rel=1e-5)
    if importlib.util.find_spec("unsloth") is None:
        pytest.skip("unsloth is not installed")
    flags = (limit, "--backend=unsloth")
    unsloth, more = train(words, tmp_path / "unsloth", counting.count_apart, *flags)
    assert more >= 2 * passes
    assert unsloth == pytest.approx(whole, rel=1e-4)


def test_logits_are_made_of_learned_tokens_some_at_a_time(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, calls = run.load_model, []

    def load_and_watch(*given: Any) -> Any:
        model = load(*given)
        model.get_output_embeddings().register_forward_hook(lambda *_: calls.append("whole"))
        return model

    made = sft_trainer._chunk

    def chunk(hidden: Any, *more: Any) -> Any:
        calls.append(len(hidden))
        return made(hidden, *more)

    monkeypatch.setattr(run, "load_model", load_and_watch)
    monkeypatch.setattr(sft_trainer, "_chunk", chunk)
    more = ["--optimisation.max_steps=1", "--checkpoints.eval_steps=1"]
    assert main([*words, *more, f"--out={tmp_path / 'run'}"]) == 0
    assert set(calls) == {sft_trainer._CHUNKED_LM_HEAD_CHUNK_SIZE}


@pytest.mark.parametrize(
    ("config", "loss"),
    [
        (transformers.LlamaConfig(), "chunked_nll"),
        (transformers.CohereConfig(), "chunked_nll"),
        (transformers.GraniteConfig(logits_scaling=8.0), "nll"),
        (transformers.MixtralConfig(), "nll"),
    ],
)
def test_heads_that_trl_does_not_read_make_all_logits(config: Any, loss: str) -> None:
    model = SimpleNamespace(config=config, get_output_embeddings=object)
    job = SimpleNamespace(backend=SimpleNamespace(name="transformers"))
    given: Any = SimpleNamespace(get_base_model=lambda: model)
    assert arguments._loss(cast(Any, job), given) == loss
