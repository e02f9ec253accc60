"""Both attentions of slots say what PyTorch's says; the quicker one is taken."""

import contextlib
import json
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from inference.engine.sampler import Sampler
from inference.engine.slots import attention
from inference.engine.slots import decoder as decoder_module
from inference.engine.slots.decoder import (
    _ALIKE,
    _BUSY_TOKENS,
    _PREFILL_TOKENS,
    Decoder,
    SlotRow,
    SlotShape,
    group_by_length,
)  # fmt: skip
from tests.builders import run_python
from tests.inference.engine.test_families import END, LIMIT, random_model

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GREEDY = Sampler(0.0, 1.0, 0.0, 1.0, 0, None)


def test_attention_is_that_of_torch_with_expanded_heads() -> None:
    torch.manual_seed(0)
    for queries, positions in ((1, 9), (5, 9)):
        query = torch.randn(3, 8, queries, 16)
        key, value = torch.randn(2, 3, 2, positions, 16)
        seen = torch.rand(3, 1, queries, positions) < 0.7
        seen[..., 0] = True
        mask = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
        found, weights = attention.unexpanded(None, query, key, value, mask, scaling=0.3)
        torch.testing.assert_close(found, expanded(query, key, value, mask))
        assert weights is None


def expanded(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=0.3)
    return mixed.transpose(1, 2)


@pytest.mark.parametrize("positions", [[0, 3, 299], [31, 255, 256]])
@pytest.mark.parametrize(("group", "kv_heads", "size"), [(8, 2, 16), (3, 1, 64), (20, 1, 16)])
def test_a_slot_reads_up_to_its_position_and_nothing_behind_it(
    group: int, kv_heads: int, size: int, positions: list[int]
) -> None:
    pytest.importorskip("triton", reason="Triton is made for Linux")
    draw, length = torch.Generator().manual_seed(0), 300
    # As a projection leaves it: heads behind tokens.
    query = torch.randn(3, 1, group * kv_heads, size, generator=draw).to(DEVICE).transpose(1, 2)
    key = torch.randn(3, kv_heads, length, size, generator=draw).to(DEVICE)
    # As a projection of keys and values together leaves it.
    value = torch.randn(3, length, kv_heads, 2 * size, generator=draw).to(DEVICE)
    value = value[..., size:].transpose(1, 2)
    seen = torch.arange(length) <= torch.tensor(positions)[:, None]
    mask = torch.where(seen, 0.0, -torch.inf)[:, None, None].to(DEVICE)
    expected = expanded(query, key, value, mask)
    for row, position in enumerate(positions):
        key[row, :, position + 1 :] = value[row, :, position + 1 :] = torch.nan
    found, weights = attention.reading(None, query, key, value, mask, scaling=0.3)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert weights is None


def test_one_mask_serves_all_slots_and_heads_are_scaled_by_their_size() -> None:
    pytest.importorskip("triton", reason="Triton is made for Linux")
    torch.manual_seed(0)
    key, value = torch.randn(2, 3, 2, 40, 16).to(DEVICE)
    mask = torch.zeros(1, 1, 1, 40, device=DEVICE)
    mask[..., 9:] = -torch.inf
    query = torch.randn(3, 4, 1, 16).to(DEVICE)
    found, _ = attention.reading(None, query, key, value, mask)
    expected, _ = attention.unexpanded(None, query, key, value, mask.expand(3, -1, -1, -1))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_compiler_is_told_what_the_kernel_returns() -> None:
    reading = pytest.importorskip("inference.engine.slots.reading")
    key, value = torch.randn(2, 2, 1, 40, 16).to(DEVICE)
    mask = torch.zeros(2, 1, 1, 40, device=DEVICE)
    query = torch.randn(2, 4, 1, 16).to(DEVICE)
    torch.library.opcheck(reading.read, (query, key, value, mask, 0.25))


def small_llama() -> Any:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    return LlamaForCausalLM(shape).to(DEVICE).eval()


def small_rows(count: int) -> list[SlotRow]:
    lists = [[5 + place, 7, *range(3, 3 + place % 40)] for place in range(count)]
    return [SlotRow(ids, (0, place), LIMIT) for place, ids in enumerate(lists)]


def test_rows_get_the_same_tokens_whichever_attention_reads() -> None:
    pytest.importorskip("triton", reason="Triton is made for Linux")
    model = small_llama()
    assert attention.can_read(model)
    decoder = Decoder(model, GREEDY, END, SlotShape(2, 64, LIMIT))
    rows = small_rows(3)
    expected = [draft.ids for draft in decoder.decode(rows)]
    model.set_attn_implementation(attention.READING)
    decoder._attention, decoder._graph = attention.READING, None
    assert [draft.ids for draft in decoder.decode(rows)] == expected


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
@pytest.mark.parametrize("worth", [0.0, 1e9])
def test_a_gpu_records_both_compiles_the_quicker_and_says_the_same(
    worth: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_module, "_WORTH", worth)
    model, rows = small_llama(), small_rows(80)
    few = Decoder(model, GREEDY, END, SlotShape(2, 64, LIMIT))
    expected = [draft.ids for draft in few.decode(rows)]
    many = Decoder(model, GREEDY, END, SlotShape(64, 64, LIMIT))
    assert many._attention == (attention.READING if worth else attention.UNEXPANDED)
    assert [draft.ids for draft in many.decode(rows)] == expected
    many.compile_where_it_pays(10**12)
    assert many.is_compiled
    assert [draft.ids for draft in many.decode(rows)] == expected


def test_a_recording_begins_while_the_one_before_keeps_their_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder: Any = Decoder(small_llama(), GREEDY, END, SlotShape(2, 64, LIMIT))
    decoder._pool = None
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    found = []

    class Recording:
        def __init__(self) -> None:
            found.append(len(alive))
            alive.add(self)

    stream = SimpleNamespace(wait_stream=lambda _: None)
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)
    for _ in range(3):
        decoder._capture(decoder._write)
    assert found == [0, 1, 1]


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=200))
def test_rows_prefilled_together_are_alike(lengths: list[int]) -> None:
    groups = group_by_length(lengths)
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    for group in groups:
        first, *others = [lengths[place] for place in group]
        for count, length in enumerate(others, 1):
            assert length <= first
            assert (count + 1) * first <= _PREFILL_TOKENS
            assert length >= _ALIKE * first or count * first < _BUSY_TOKENS


@pytest.mark.parametrize(("own", "fails"), [(0.5, False), (0.97, False), (2.0, False), (0.5, True)])
def test_the_quicker_attention_is_taken_and_one_that_fails_is_not(
    own: float, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model("llama")
    decoder: Any = Decoder(model, GREEDY, END, SlotShape(2, 64, LIMIT))
    decoder._graph = "plain"

    def capture(_: Any) -> None:
        model.set_attn_implementation(decoder._attention)
        if fails:
            raise RuntimeError("no kernel image is available")
        decoder._graph = "own"

    monkeypatch.setattr(decoder, "_capture", capture)
    monkeypatch.setattr(decoder, "_time_step", lambda: own if decoder._graph == "own" else 1.0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "stream")
    monkeypatch.setattr(torch.cuda, "set_stream", {"stream"}.remove)
    decoder._choose_attention()
    taken = own < 0.9 and not fails
    assert decoder._graph == ("own" if taken else "plain")
    assert decoder._attention == (attention.READING if taken else attention.UNEXPANDED)
    assert model.config._attn_implementation == decoder._attention


def test_a_step_is_timed_as_if_all_slots_were_half_full(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder: Any = Decoder(random_model("llama"), GREEDY, END, SlotShape(2, 64, LIMIT))
    seen: list[list[int]] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(decoder, "_run", lambda _: seen.append(decoder._cache.positions.tolist()))
    decoder._time_step()
    assert seen == [[32, 32]]
    assert decoder._cache.positions.tolist() == [0, 0]


def test_heads_of_odd_sizes_are_left_to_pytorch() -> None:
    model = random_model("llama")
    model.config.head_dim = 24
    assert not attention.can_read(model)


@pytest.mark.parametrize(("capability", "can"), [((7, 5), False), ((8, 6), True)])
def test_cards_older_than_the_kernel_are_left_to_pytorch(
    capability: tuple[int, int], can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton", reason="Triton is made for Linux")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    shape = LlamaConfig(hidden_size=64, num_attention_heads=4)
    model = SimpleNamespace(config=shape, device=torch.device("cuda"))
    assert attention.can_read(model) == can


COMPILE = """
import json, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from inference.engine.slots import reading

for size in (64, 128, 256):
    how = {name: reading._HOW[name] for name in ("TILE", "LOOK")}
    constants = how | {"SIZE": size, "ROWS": 16}
    kinds, values, aligned = {}, {}, {}
    for place, name in enumerate(reading._read.arg_names):
        if name in constants:
            kinds[name], values[place,] = "constexpr", constants[name]
        elif name in ("query", "key", "value", "mask", "said"):
            kinds[name] = "*bf16"
        else:
            kinds[name] = "fp32" if name == "scale" else "i32"
        if kinds[name][0] == "*" or name.startswith(("query_", "key_", "value_")):
            aligned[place,] = [["tt.divisibility", 16]]
    compiled = triton.compile(
        ASTSource(reading._read, kinds, values, aligned), target=GPUTarget("cuda", 86, 32),
        options={name: reading._HOW[name] for name in ("num_warps", "num_stages")},
    )
    print(json.dumps(compiled.metadata.shared))
"""


def test_the_kernel_fits_a_3060_which_is_not_here() -> None:
    pytest.importorskip("triton", reason="Triton is made for Linux")
    done = run_python("-c", COMPILE, TRITON_INTERPRET="0")
    assert done.returncode == 0, done.stderr
    shared = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(shared) == 3
    assert max(shared) <= 99 * 2**10  # of an RTX 3060's multiprocessor
