"""The GGUF file: what it holds, what llama.cpp makes of it, and what is refused."""

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.artefacts.run import Run
from data.errors import ModelError
from data.prompt import Prompt
from data.tokens import TextTokenizer, chat_of
from tests.builders import finish_run, some_titles
from tests.training.export.conftest import (
    Exported,
    change_config,
    save_tokenizer,
    with_tokenizer,
)
from tests.training.export.test_modelfile import HOSTILE
from training.export import gguf, modelfile
from training.model.backend import load_tokenizer

TITLES = some_titles(100)
NEW_TOKENS = 16
ROPE = {"rope_theta": 10000.0, "rope_type": "default"}
LLAMA_3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip


def tie(run: Path) -> Path:
    """Let a run's base read and write by the same embeddings."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    config = LlamaConfig.from_pretrained(str(run / "base"), tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(run / "base")
    return finish_run(run)


def fields(folder: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.read(folder / gguf.NAME).fields.items()}


def test_settings_and_tokens_are_the_runs(run: Path, exported: Exported) -> None:
    told = fields(exported(run, format="gguf", precision="float32"))
    assert told["general.architecture"] == "llama"
    assert told["llama.context_length"] == 256
    assert (told["llama.attention.head_count"], told["llama.attention.head_count_kv"]) == (4, 2)
    assert told["llama.rope.dimension_count"] == 8
    assert told["tokenizer.ggml.model"] == "gpt2"
    assert told["tokenizer.ggml.pre"] == "gpt-2"
    assert len(told["tokenizer.ggml.tokens"]) == 320
    ids = [told[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos", "padding")]
    assert ids == [0, 1, 2]
    assert told["tokenizer.ggml.add_bos_token"] is True
    assert told["tokenizer.ggml.add_eos_token"] is False


@pytest.mark.parametrize("precision", ["float32", "float16", "bf16", "q8_0"])
def test_tensors_are_those_of_adapter_and_base(
    precision: str, run: Path, exported: Exported
) -> None:
    from gguf import dequantize
    from transformers import AutoModelForCausalLM

    merged = AutoModelForCausalLM.from_pretrained(
        str(exported(run, "merged", precision="float32")), dtype="auto"
    )
    out = exported(run, format="gguf", precision=precision)
    tensors = {tensor.name: tensor for tensor in gguf.read(out / gguf.NAME).tensors}
    assert tensors["output_norm.weight"].tensor_type.name == "F32"
    query = tensors["blk.1.attn_q.weight"]
    back = np.array(dequantize(query.data, query.tensor_type)).reshape(4, 4, 2, 32)
    wanted = merged.model.layers[1].self_attn.q_proj.weight.detach().numpy().reshape(4, 2, 4, 32)
    # Rows of a head's two halves stand in turn.
    apart = np.linalg.norm(back.swapaxes(1, 2) - wanted) / np.linalg.norm(wanted)
    assert apart <= gguf.TOLERANCE[precision]
    record = manifest.read(Folder(str(out)), "export")
    assert 0 <= record.facts["weights_apart"] <= record.facts["tolerance"]
    assert record.facts["weights_apart"] > 0 or precision == "float32"


def test_tied_embeddings_stand_once(copy: Path, exported: Exported) -> None:
    out = exported(tie(copy), format="gguf")
    names = {tensor.name for tensor in gguf.read(out / gguf.NAME).tensors}
    assert "token_embd.weight" in names
    assert "output.weight" not in names


def test_a_file_cut_anywhere_is_refused(run: Path, exported: Exported, tmp_path: Path) -> None:
    whole = (exported(run, format="gguf", precision="q8_0") / gguf.NAME).read_bytes()
    file, draw = tmp_path / "cut.gguf", random.Random(7)  # noqa: S311
    heads = gguf.read(tmp_path / "out" / gguf.NAME).data_offset
    near = {0, 1, 3, 4, 8, 23, 24, heads - 1, heads, heads + 1, len(whole) - 1, len(whole) - 31}
    for size in sorted(near | {draw.randrange(heads) for _ in range(60)}
                       | {draw.randrange(heads, len(whole)) for _ in range(40)}):  # fmt: skip
        file.write_bytes(whole[:size])
        with pytest.raises(ModelError, match="expected a whole GGUF file"):
            gguf.read(file)
    file.write_bytes(whole + b"\0")
    with pytest.raises(ModelError, match=rf"of {len(whole):,} bytes, found {len(whole) + 1:,}"):
        gguf.read(file)
    file.write_bytes(whole)
    assert gguf.read(file).tensors


def test_a_file_that_is_written_wrongly_is_refused(
    run: Path, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gguf import quants

    def other(value: np.ndarray, form: Any) -> np.ndarray:
        return np.zeros_like(quantize(value, form))

    quantize = quants.quantize
    monkeypatch.setattr(quants, "quantize", other)
    with pytest.raises(ModelError, match=r"expected token_embd.weight within .* of the run's"):
        exported(run, format="gguf")
    assert not (tmp_path / "out").exists()


def test_another_architecture_is_refused(copy: Path, exported: Exported) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(copy / "base")
    finish_run(copy)
    with pytest.raises(ModelError, match="a model of the Llama family for GGUF, found qwen2"):
        exported(copy, format="gguf")


def test_other_rotary_positions_are_refused(copy: Path, exported: Exported) -> None:
    change_config(copy, rope_parameters=ROPE | {"rope_type": "dynamic", "factor": 2.0})
    with pytest.raises(ModelError, match=r"rotary positions of the kind default, .* found dynamic"):
        exported(copy, format="gguf")


def test_four_bits_need_llama_cpps_own_tool(
    run: Path, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelError, match=r"llama-quantize for q4_k_m, found none on PATH; install"):
        exported(run, format="gguf", precision="q4_k_m")


def test_weights_that_float16_cannot_hold_are_named(
    run: Path, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft.tuners.lora import LoraModel

    merge = LoraModel.merge_and_unload

    def huge(self: Any, **how: Any) -> Any:
        merged = merge(self, **how)
        merged.model.layers[0].mlp.down_proj.weight.data[0, 0] = 1e5
        return merged

    monkeypatch.setattr(LoraModel, "merge_and_unload", huge)
    monkeypatch.setattr(gguf, "check_apart", lambda *_: None)
    with pytest.raises(ModelError, match=r"NaN or infinity in .*down_proj.weight; export with"):
        exported(run, format="gguf", precision="float16")


def greedy(llama: Any, ids: list[int], end: int) -> list[int]:
    """Write the likeliest tokens after a prompt, by llama.cpp."""
    llama.reset()
    llama.eval(ids)
    new: list[int] = []
    while len(new) < NEW_TOKENS:
        new.append(int(np.argmax(llama.scores[llama.n_tokens - 1])))
        if new[-1] == end:
            break
        llama.eval(new[-1:])
    return new


def expected(folder: Path, prompts: list[list[int]], end: int) -> list[list[int]]:
    """What transformers writes."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    rows = []
    for ids in prompts:
        new = model.generate(
            torch.tensor([ids]), max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=end
        )
        rows.append(new[0, len(ids) :].tolist())
    return rows


CASES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "gpt-2": ("gpt-2", {}, True),
    "no begin": ("gpt-2", {}, False),
    "smollm": ("smollm", {}, True),
    "llama-bpe": ("llama-bpe", {}, True),
    "sentencepiece": ("sentencepiece", {}, True),
    "tied": ("gpt-2", {"tie_word_embeddings": True}, True),
    "llama3 rope": ("gpt-2", {"rope_parameters": LLAMA_3}, True),
    "linear rope": ("gpt-2", {"rope_parameters": ROPE | {"rope_type": "linear", "factor": 2.0}},
                    True),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "config", "begins"), CASES.values(), ids=CASES)
def test_llama_cpp_writes_what_transformers_does(
    kind: str, config: dict[str, Any], begins: bool, copy: Path, exported: Exported, tmp_path: Path
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is built from source")
    from llama_cpp import GGML_TYPE_F32, Llama

    change_config(copy, **config)
    if config.get("tie_word_embeddings"):
        tie(copy)
    with_tokenizer(copy, save_tokenizer(tmp_path / "tokenizer", kind, begins))
    merged = exported(copy, "merged", precision="float32")
    out = exported(copy, format="gguf", precision="float32")
    tokenizer = TextTokenizer(load_tokenizer(merged))
    opened = Run.open(str(merged))
    prompts = [opened.render(title, "") for title in TITLES]
    llama = Llama(
        str(out / gguf.NAME), n_ctx=512, logits_all=True, verbose=False, n_threads=2,
        # Keys and values in 32 bits as well; by default it keeps them in 16.
        type_k=GGML_TYPE_F32, type_v=GGML_TYPE_F32,
    )  # fmt: skip
    for text in [*HOSTILE, *prompts]:
        if "</s>" not in text:
            ours = tokenizer.encode([text])[0]
            assert llama.tokenize(text.encode(), add_bos=begins, special=False) == ours
    ids = tokenizer.encode(prompts)
    assert [greedy(llama, row, tokenizer.eos) for row in ids] == expected(
        merged, ids, tokenizer.eos
    )


def test_a_chat_runs_prompt_begins_with_its_template_alone(
    copy: Path, exported: Exported, tmp_path: Path
) -> None:
    folder = save_tokenizer(tmp_path / "tokenizer", "gpt-2")
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant: {% endif %}"
    )
    chat = chat_of(tokenizer)
    facts = {"head": chat.head, "tail": chat.tail, "end": chat.end}
    with_tokenizer(copy, folder, prompt=Prompt("chat").recorded, chat=facts)
    told = fields(exported(copy, format="gguf"))
    assert told["tokenizer.ggml.add_bos_token"] is False
    template = (tmp_path / "out" / modelfile.NAME).read_text()
    assert 'TEMPLATE """<s>user: Write a product' in template
    shutil.rmtree(tmp_path / "out")
