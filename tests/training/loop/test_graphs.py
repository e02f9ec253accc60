"""CUDA graphs of a model's layers train as the layers do; without a GPU a stand-in is recorded."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from tests.training.test_run import adapter, figures
from training.__main__ import main
from training.config import LoraSettings, Optimisation
from training.loop import graphs
from training.loop.graphs import WARM_UP, Graphs

WIDTHS = (8, 16, 24)


def make_model(device: str = "cpu") -> Any:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=99, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    lora = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    return get_peft_model(LlamaForCausalLM(shape), lora).to(device).train()


def train(model: Any, recorded: Graphs | None, steps: int = 5) -> list[float]:
    """Train with a micro-batch of each width a step; return the losses, and the weights' norm."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    draw, losses = torch.Generator().manual_seed(1), []
    for _ in range(steps):
        for width in WIDTHS:
            ids = torch.randint(0, 99, (2, width), generator=draw).to(model.device)

            def step(ids: torch.Tensor = ids) -> torch.Tensor:
                inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
                loss = model(**inputs, use_cache=False).loss / len(WIDTHS)
                loss.backward()
                return loss.detach()

            losses.append(float(recorded.train(step) if recorded else step()))
        optimizer.step()
        model.zero_grad()
    return [*losses, float(torch.stack([p.detach().norm() for p in trained]).norm())]


class Pass:
    """A graph whose replay is the function that it was made of."""

    def __init__(self, replay: Any) -> None:
        self.replay = replay


def record(scale: float = 1.0) -> Any:
    """Return what records a stand-in; its gradients are ``scale`` times what they should be."""

    def recorded(
        forward: Any, words: dict[str, Any], tensors: Any, _pool: Any, share: Any
    ) -> graphs._Graph:
        inputs = {name: values.clone() for name, values in tensors.items()}
        said: list[torch.Tensor] = []

        def run() -> None:
            with torch.enable_grad():
                said[:] = [forward(**words | inputs)[0]]
            hidden.copy_(said[0].detach())

        output = forward(**words | inputs)
        hidden, gradient = share(graphs.only_hidden(output).detach())
        back = Pass(lambda: torch.autograd.backward(said[0], scale * gradient))
        passes: Any = Pass(run), back
        return graphs._Graph(inputs, passes[0], hidden, gradient, passes[1], type(output))

    return recorded


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        return
    stream = SimpleNamespace(synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda _: None)


def test_trains_as_without_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_record", record())
    model = make_model()
    recorded = Graphs(model)
    assert train(model, recorded) == train(make_model(), None)
    assert len(recorded.seconds) == len(WIDTHS)
    assert "forward" not in vars(model.get_base_model().model)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_trains_on_a_gpu_as_without_graphs() -> None:
    model = make_model("cuda")
    recorded = Graphs(model)
    losses = train(model, recorded)
    assert losses == pytest.approx(train(make_model("cuda"), None), rel=1e-4)
    assert len(recorded.seconds) == len(WIDTHS)


def test_the_graph_not_needed_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_record", record())
    monkeypatch.setattr(graphs, "_MOST", 2)
    model = make_model()
    recorded = Graphs(model)
    assert train(model, recorded) == train(make_model(), None)
    # The widths come in turn, so each finds its own gone.
    assert len(recorded.seconds) == 5 * len(WIDTHS) - WARM_UP + 1


@pytest.mark.parametrize("failures", [1, 9])
def test_what_cannot_be_recorded_runs_as_it_is(
    failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def fails(*arguments: Any) -> graphs._Graph:
        calls.append(1)
        if len(calls) <= failures:
            raise RuntimeError("operation not permitted when stream is capturing")
        return record()(*arguments)

    monkeypatch.setattr(graphs, "_record", fails)
    model = make_model()
    recorded = Graphs(model)
    assert train(model, recorded) == train(make_model(), None)
    assert len(calls) == (3 if failures > 3 else failures + len(WIDTHS))


def test_gives_up_where_the_first_graph_has_other_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graphs, "_record", record(scale=1.1))
    model = make_model()
    recorded = Graphs(model)
    assert train(model, recorded) == train(make_model(), None)
    assert len(recorded.seconds) == 1


class Quick:
    """Layers that are the model's own, their hidden states ``scale`` times as large."""

    def __init__(self, model: Any, scale: float = 1.0, fails: bool = False) -> None:
        self._body = model.get_base_model().model
        self._plain = self._body.forward
        self._scale, self._fails = scale, fails
        self.shared, self.calls, self.refreshed = 3, 0, 0
        self.fitted: list[tuple[int, int]] = []

    def refresh(self) -> None:
        self.refreshed += 1

    def fit(self, rows: int, width: int) -> None:
        self.fitted.append((rows, width))

    def __call__(self, input_ids: torch.Tensor) -> Any:
        self.calls += 1
        if self._fails:
            raise RuntimeError("out of resources")
        return self._plain(input_ids=input_ids, use_cache=False)[0] * self._scale


def test_quicker_layers_take_the_place_of_the_models_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_record", record())
    model = make_model()
    quick = Quick(model)
    recorded = Graphs(model, quick)
    assert train(model, recorded) == train(make_model(), None)
    assert len(recorded.seconds) == len(WIDTHS) == len(quick.fitted)
    assert (recorded.shared, quick.refreshed) == (3, 5)  # once a step
    assert quick.calls > len(WIDTHS)


@pytest.mark.parametrize(("scale", "fails"), [(1.5, False), (1.0, True)])
def test_quicker_layers_that_differ_or_fail_give_way_to_the_models_own(
    scale: float, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "_record", record())
    model = make_model()
    quick = Quick(model, scale, fails)
    recorded = Graphs(model, quick)
    assert train(model, recorded) == train(make_model(), None)
    assert recorded.shared == 0
    # The model's own are recorded instead.
    assert len(recorded.seconds) == len(WIDTHS) + (not fails)


@pytest.mark.parametrize("broken", ["nothing", "forward", "half of each adapter", "one weight"])
def test_layers_of_our_own_train_as_the_models_do_and_broken_ones_are_found(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton", reason="Triton is made for Linux")
    from tests.training.model.test_layers import ALL, make
    from training.model import layers

    # A new adapter, all of whose first step's micro-batches come before its half of zeros moves.
    new = {"init_lora_weights": True}
    model = make(ALL, new)
    quick = layers.Layers(model, 0, max(WIDTHS))
    refresh, weights = layers._Linears.refresh, layers._Linears.backward_weights

    def refreshed(linears: Any) -> None:
        refresh(linears)
        if broken == "forward":
            linears._beside().zero_()

    def backward_weights(linears: Any, *tensors: torch.Tensor) -> list[torch.Tensor]:
        gradients = weights(linears, *tensors)
        if broken == "half of each adapter":
            gradients[::2] = [torch.zeros_like(gradient) for gradient in gradients[::2]]
        if broken == "one weight" and linears is quick._layers[0].down:
            gradients[1] = torch.zeros_like(gradients[1])
        return gradients

    monkeypatch.setattr(layers._Linears, "seconds", lambda *_: 1.0)
    monkeypatch.setattr(layers._Linears, "refresh", refreshed)
    monkeypatch.setattr(layers._Linears, "backward_weights", backward_weights)
    monkeypatch.setattr(graphs, "_record", record())
    recorded = Graphs(model, quick)
    losses = train(model, recorded, steps=3)
    assert losses == pytest.approx(train(make(ALL, new), None, steps=3), rel=1e-4)
    assert (recorded._layers is quick) == (broken == "nothing")


def test_checks_the_first_graph_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def fails_once(*arguments: Any) -> graphs._Graph:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("operation not permitted when stream is capturing")
        return record(scale=1.1)(*arguments)

    monkeypatch.setattr(graphs, "_record", fails_once)
    model = make_model()
    assert train(model, Graphs(model)) == train(make_model(), None)
    assert len(calls) == 2


def test_layers_that_are_called_in_another_way_run_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graphs, "_record", record())
    model = make_model()
    recorded = Graphs(model)
    recorded._body = SimpleNamespace(forward=None)  # nobody asks it
    assert train(model, recorded) == train(make_model(), None)
    assert (recorded.seconds, recorded._warm) == ([], WARM_UP)


def test_a_model_whose_layers_have_no_name_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_record", record())
    monkeypatch.setattr(LlamaForCausalLM, "base_model_prefix", "elsewhere")
    model = make_model()
    recorded = Graphs(model)
    assert train(model, recorded) == train(make_model(), None)
    assert recorded.seconds == []


def test_a_later_recording_that_fails_leaves_quicker_layers_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def fails_later(*arguments: Any) -> graphs._Graph:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return record()(*arguments)

    monkeypatch.setattr(graphs, "_record", fails_later)
    model = make_model()
    quick = Quick(model)
    recorded = Graphs(model, quick)
    assert train(model, recorded) == train(make_model(), None)
    assert recorded._layers is quick
    recorded._failures = graphs._FAILURES
    assert recorded.shared == 0  # nothing is recorded any more


def test_experts_whose_loss_needs_more_than_hidden_states_are_not_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make_experts(with_loss: bool) -> Any:
        torch.manual_seed(0)
        shape = MixtralConfig(
            vocab_size=99, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, num_local_experts=4,
            output_router_logits=with_loss, router_aux_loss_coef=0.1,
        )  # fmt: skip
        lora = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
        return get_peft_model(MixtralForCausalLM(shape), lora).train()

    monkeypatch.setattr(graphs, "_record", record())
    for with_loss in (True, False):
        model = make_experts(with_loss)
        recorded = Graphs(model)
        assert train(model, recorded) == train(make_experts(with_loss), None)
        assert len(recorded.seconds) == (0 if with_loss else len(WIDTHS))


def test_outputs_of_all_graphs_share_their_memory() -> None:
    recorded = Graphs(make_model())
    shapes = [(2, width, 32) for width in range(1, 65)]
    pairs = [recorded._share(torch.empty(shape)) for shape in shapes]
    assert [tuple(tensor.shape) for pair in pairs for tensor in pair] == [
        shape for shape in shapes for _ in range(2)
    ]
    stored = {t.untyped_storage().data_ptr(): t.untyped_storage() for p in pairs for t in p}
    # All together at most four times what the largest takes.
    assert sum(memory.nbytes() for memory in stored.values()) <= 4 * 2 * 2 * 64 * 32 * 4


def test_a_run_that_was_interrupted_is_the_same_with_graphs(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    interrupted_after: Callable[[int], Any],
) -> None:  # fmt: skip
    # Pieces of long micro-batches, several a step, clipped, evaluated between steps.
    words = [
        *words, "--optimisation.batch_size=6", "--optimisation.micro_batch_size=3",
        "--optimisation.max_tokens=600", "--optimisation.max_grad_norm=0.1",
        "--checkpoints.eval_steps=2",
    ]  # fmt: skip
    plain, out = tmp_path / "plain", tmp_path / "graphs"
    assert main([*words, f"--out={plain}"]) == 0
    recordings: list[int] = []

    def counted(*arguments: Any) -> graphs._Graph:
        recordings.append(1)
        return record()(*arguments)

    monkeypatch.setattr(graphs, "_record", counted)
    monkeypatch.setattr(graphs, "are_for", lambda *_: True)
    with interrupted_after(3):
        assert main([*words, f"--out={out}"]) == 130
    done = len(recordings)
    assert main([*words, f"--out={out}"]) == 0
    assert 0 < done < len(recordings)
    if torch.cuda.is_available():  # which adds up in another order each time
        assert figures(out) == [pytest.approx(line, rel=1e-4) for line in figures(plain)]
    else:
        assert figures(out) == figures(plain)
        assert adapter(out) == adapter(plain)


@pytest.mark.parametrize(
    ("how", "more", "expected"),
    [
        ({}, {}, True),
        ({"gradient_checkpointing": "every", "keep_layers": 2}, {}, True),
        ({"gradient_checkpointing": "every", "keep_layers": 1}, {}, False),
        ({"gradient_checkpointing": "unsloth"}, {}, False),
        ({}, {"precision": "fp16"}, False),
        ({}, {"quantize": "nf4"}, False),
        ({}, {"lora": LoraSettings(dropout=0.1)}, False),
    ],
)
def test_jobs_that_are_recorded(
    how: dict[str, Any], more: dict[str, Any], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config = SimpleNamespace(
        optimisation=Optimisation(**how), lora=more.get("lora", LoraSettings()),
        quantize=more.get("quantize"),
    )  # fmt: skip
    job: Any = SimpleNamespace(config=config, precision=more.get("precision", "bf16"))
    assert graphs.are_for(job, layers=2) is expected
