"""Quicker layers say and learn what a Llama's own do; without a GPU, in Triton's interpreter."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

pytest.importorskip("triton", reason="Triton is made for Linux")

from tests.builders import run_python
from training.model import attention, layers
from training.model.attention import Heads, Rows

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
HIDDEN, ROWS, WIDTH, ALIKE = 64, 3, 24, 9


def make(targets: list[str], adapter: dict[str, Any] | None = None, **settings: Any) -> Any:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=99, hidden_size=HIDDEN, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, **settings,
    )  # fmt: skip
    own = {"r": 4, "lora_alpha": 8, "target_modules": targets, "init_lora_weights": False}
    lora = LoraConfig(**own | (adapter or {}))
    return get_peft_model(LlamaForCausalLM(shape), lora).to(DEVICE).train()


def make_ids() -> torch.Tensor:
    ids = torch.randint(0, 99, (ROWS, WIDTH), generator=torch.Generator().manual_seed(1))
    ids[:, :ALIKE] = ids[0, :ALIKE]
    return ids.to(DEVICE)


def gradients(model: Any, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    draw = torch.Generator().manual_seed(2)
    (hidden * torch.randn(hidden.shape, generator=draw).to(DEVICE)).sum().backward()
    trained = (pair for pair in model.named_parameters() if pair[1].requires_grad)
    return {name: parameter.grad.clone() for name, parameter in trained}


def own(model: Any, ids: torch.Tensor) -> torch.Tensor:
    hidden: torch.Tensor = model.get_base_model().base_model(ids, use_cache=False)[0]
    return hidden


ROTARY = {
    "default": {"rope_type": "default", "rope_theta": 10_000.0},
    "linear": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0},
    "llama3": {
        "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 4.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("targets", "shared"),
    [(ALL, 0), (ALL, ALIKE), (["q_proj", "up_proj"], 5), (["down_proj"], ALIKE)],
)
def test_hidden_states_and_gradients_are_the_models_own(targets: list[str], shared: int) -> None:
    model, ids = make(targets), make_ids()
    expected = own(model, ids)
    before = gradients(model, expected)
    assert layers.are_for(model)
    quick = layers.Layers(model, shared, WIDTH)
    quick.refresh()
    hidden = quick(ids)
    torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=1e-4)
    after = gradients(model, hidden)
    for name, gradient in before.items():
        assert (after[name] - gradient).norm() < 1e-4 * gradient.norm(), name


@pytest.fixture
def nan_where_nothing_was_written() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)  # which fills memory that is new
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(("quicker", "spare"), [(0.9, 2), (0.999, 0), (1.1, 0)])
def test_spare_tokens_are_taken_where_they_save_time(
    quicker: float, spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = layers.Layers(make(ALL), ALIKE, 3 * WIDTH)
    tried: list[int] = []

    def seconds(_: Any, tokens: int) -> float:
        tried.append(tokens)
        return 1.0 if tokens % 8 else quicker

    monkeypatch.setattr(layers._Linears, "seconds", seconds)
    for _ in range(2):
        quick.fit(ROWS, 3 * WIDTH)
    assert tried == [200, 198]
    quick.fit(1_000, ALIKE + 10)
    assert tried[2:] == [*range(10_016, 10_074, 8), 10_009]
    assert quick._rows(ROWS, 3 * WIDTH).tokens == ALIKE + ROWS * (3 * WIDTH - ALIKE) + spare


@pytest.mark.usefixtures("nan_where_nothing_was_written")
def test_spare_tokens_change_nothing() -> None:
    model, ids = make(ALL), make_ids()
    quick = layers.Layers(model, ALIKE, WIDTH)
    quick._spare[ALIKE + ROWS * (WIDTH - ALIKE)] = 2
    quick.refresh()
    expected, hidden = own(model, ids), quick(ids)
    torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=1e-4)
    before, after = gradients(model, expected), gradients(model, hidden)
    for name, gradient in before.items():
        assert (after[name] - gradient).norm() < 1e-4 * gradient.norm(), name


@pytest.mark.parametrize("name", ROTARY)
def test_positions_turn_as_the_models_do(name: str) -> None:
    model, ids = make(ALL, rope_parameters=ROTARY[name]), make_ids()
    quick = layers.Layers(model, ALIKE, WIDTH)
    quick.refresh()
    torch.testing.assert_close(quick(ids), own(model, ids), atol=1e-4, rtol=1e-4)


def test_the_model_itself_stays_as_it_was_and_a_step_is_seen_after_a_refresh() -> None:
    model, ids = make(ALL), make_ids()
    before = own(model, ids)
    quick = layers.Layers(model, 0, WIDTH)
    again = layers.Layers(model, ALIKE, WIDTH)  # as a plan does for its next candidate
    torch.testing.assert_close(own(model, ids), before, atol=0, rtol=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.mul_(2)
    for way in (quick, again):
        way.refresh()
        torch.testing.assert_close(way(ids), own(model, ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"head_dim": 24},
        {"attention_dropout": 0.05},
    ],
)
def test_layers_of_another_kind_are_left_to_the_model(settings: dict[str, Any]) -> None:
    assert not layers.are_for(make(ALL, **settings))


@pytest.mark.filterwarnings("ignore:.lora_bias=True")
@pytest.mark.parametrize(
    "settings", [{"use_dora": True}, {"lora_dropout": 0.1}, {"lora_bias": True}]
)
def test_adapters_of_another_kind_are_left_to_the_model(settings: dict[str, Any]) -> None:
    assert not layers.are_for(make(ALL, settings))


def test_another_family_is_left_to_the_model() -> None:
    shape = Qwen2Config(
        vocab_size=99, hidden_size=HIDDEN, intermediate_size=96, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    lora = LoraConfig(r=4, target_modules=ALL)
    assert not layers.are_for(get_peft_model(Qwen2ForCausalLM(shape), lora))


@pytest.mark.parametrize(
    "rows",
    [Rows(3, 0, 70), Rows(3, 7, 66), Rows(2, 70, 5), Rows(2, 64, 64), Rows(1, 0, 1)],
    ids=str,
)
@pytest.mark.parametrize("heads", [Heads(4, 2, 64), Heads(6, 2, 16), Heads(8, 1, 16)], ids=str)
def test_attention_is_pytorchs_row_by_row(rows: Rows, heads: Heads) -> None:
    size, draw = heads.size, torch.Generator().manual_seed(0)
    qkv = torch.randn(rows.tokens, heads.columns + 8, generator=draw).to(DEVICE)
    exact = qkv[:, : heads.columns].clone().requires_grad_()
    parts = []
    for row in range(rows.count):
        own_tokens = exact[rows.shared + row * rows.own :][: rows.own]
        tokens = torch.cat([exact[: rows.shared], own_tokens])
        tokens = tokens.view(len(tokens), -1, size).transpose(0, 1)
        query, key, value = tokens.split([heads.queries, heads.keys, heads.keys])
        group = heads.queries // heads.keys
        key, value = key.repeat_interleave(group, 0), value.repeat_interleave(group, 0)
        said = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        said = said.transpose(0, 1).flatten(1)
        parts += [said if row == 0 else said[rows.shared :]]
    expected = torch.cat(parts)
    said, logs = attention.attend(qkv, rows, heads, 3)
    torch.testing.assert_close(said[:, : heads.queries * size], expected, atol=1e-4, rtol=1e-4)
    change = torch.randn(expected.shape, generator=draw).to(DEVICE)
    expected.backward(change)
    turned = attention.attend_back(qkv, said, change, logs, rows, heads, 5)
    torch.testing.assert_close(turned[:, : heads.columns], exact.grad, atol=1e-4, rtol=1e-4)


COMPILE = """
import json, sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from training.model import attention

ways = (
    (attention._attend, attention._FORWARD),
    (attention._attend_back_queries, attention._BACK_QUERIES),
    (attention._attend_back_keys, attention._BACK_KEYS),
)
for size in (64, 128):
    for kernel, how in ways:
        constants = {"SIZE": size, "HEADS": how["HEADS"], "TILE": how["TILE"], "KEYS": how["KEYS"]}
        kinds, values, aligned = {}, {}, {}
        for place, name in enumerate(kernel.arg_names):
            if name in constants:
                kinds[name], values[place,] = "constexpr", constants[name]
            elif name in ("logs", "deltas", "parts"):
                kinds[name] = "*fp32"
            elif name in ("qkv", "y", "dy", "dqkv"):
                kinds[name] = "*bf16"
            else:
                kinds[name] = "fp32" if name == "scale" else "i32"
            if kinds[name][0] == "*" or name.endswith("stride"):
                aligned[place,] = [["tt.divisibility", 16]]
        compiled = triton.compile(
            ASTSource(kernel, kinds, values, aligned),
            target=GPUTarget("cuda", int(sys.argv[1]), 32),
            options={name: how[name] for name in ("num_warps", "num_stages")},
        )
        print(json.dumps([kernel.__name__, size, compiled.metadata.shared]))
"""


def test_attention_fits_a_3060_which_is_not_here() -> None:
    done = run_python("-c", COMPILE, "86", TRITON_INTERPRET="0")
    assert done.returncode == 0, done.stderr
    shared = [json.loads(line)[-1] for line in done.stdout.splitlines()]
    assert len(shared) == 6
    assert max(shared) <= 99 * 2**10  # of an RTX 3060's multiprocessor
