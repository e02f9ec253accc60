"""Compiling pays or not, by what it cost before; one compiled layer serves all of a model's."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from inference.engine.sampler import Sampler
from inference.engine.slots import compilation
from inference.engine.slots.compilation import Gain, caches, compiled_layers, expected, note
from inference.engine.slots.decoder import Decoder, SlotRow, SlotShape
from tests.inference.engine.test_families import END, LIMIT, random_model


def test_many_steps_pay_for_compiling_and_few_do_not() -> None:
    gain = Gain(seconds=10, share=0.5)
    assert gain.pays(steps=2_001, step_seconds=0.01)
    assert not gain.pays(steps=2_000, step_seconds=0.01)
    assert not Gain(seconds=0, share=-0.1).pays(10**9, 0.01)


def test_what_compiling_cost_is_remembered_beside_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    assert caches()["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / compilation.FOLDER)
    assert expected("a-card") == compilation._USUAL
    note("a-card", Gain(3.5, 0.25))
    assert expected("a-card") == Gain(3.5, 0.25)
    assert expected("another") == compilation._USUAL
    (tmp_path / compilation.FOLDER / "gains/a-card.json").write_text('{"seconds": ')
    assert expected("a-card") == compilation._USUAL


def test_a_cache_folder_of_the_users_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    assert caches()["TRITON_CACHE_DIR"] == "/elsewhere"


@pytest.mark.parametrize(("family", "graphs"), [("llama", 1), ("granite", 1), ("smollm3", 2)])
def test_all_layers_run_one_compiled_layer_and_write_the_same(
    family: str, graphs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SmolLM3 has layers with and without positions, each of which is compiled."""
    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    model = random_model(family)
    decoder = Decoder(model, Sampler(0.0, 1.0, 0.0, 1.0, 0, None), END, SlotShape(3, 64, LIMIT))
    rows = [SlotRow([5 + place, 7, 11], (0, place), LIMIT) for place in range(3)]
    expected_ids = [draft.ids for draft in decoder.decode(rows)]
    torch._dynamo.reset()
    steps = decoder._step

    def step(write: object) -> None:
        with compiled_layers(model, decoder._cache.layers):
            steps(decoder._write)

    monkeypatch.setattr(decoder, "_step", step)
    assert [draft.ids for draft in decoder.decode(rows)] == expected_ids
    assert counter.frame_count == graphs
    monkeypatch.undo()
    assert [draft.ids for draft in decoder.decode(rows)] == expected_ids
