"""Every model passes here before it is used: whole, finite, usable later, no code of its own."""

import ast
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from data.artefacts.weights import (
    ADAPTER,
    adapter_names,
    check_finite,
    check_vocabulary,
    load,
    with_adapter,
)
from data.errors import ModelError

META = {"device_map": {"": "meta"}}
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def make(tied: bool = False) -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
            tie_word_embeddings=tied,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    make().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    peft.get_peft_model(load_base(base), config).save_pretrained(str(folder))
    return folder


def load_base(folder: Path, **how: Any) -> Any:
    return load(folder, AutoModelForCausalLM, dtype=torch.float32, **how)


def rewrite(file: Path, change: Callable[[Tensors], Any]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def changed(folder: Path, to: Path, settings: dict[str, Any]) -> Path:
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | settings))
    return to


def test_each_tensor_that_a_base_lacks_is_named_before_and_while_it_is_loaded(
    base: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(base, tmp_path / "broken"))
    whole = (base / "model.safetensors").read_bytes()
    names = sorted(load_file(base / "model.safetensors"))
    assert len(names) == 12
    for name in names:
        (broken / "model.safetensors").write_bytes(whole)
        rewrite(broken / "model.safetensors", lambda tensors, name=name: tensors.pop(name))
        for how in (META, {}):
            with pytest.raises(ModelError, match=f"found one that lacks {name}$"):
                load_base(broken, **how)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_each_tensor_of_a_base_that_is_not_finite_is_named(
    base: Path, tmp_path: Path, value: float
) -> None:
    broken = Path(shutil.copytree(base, tmp_path / "broken"))
    whole = (base / "model.safetensors").read_bytes()
    for name in load_file(base / "model.safetensors"):
        (broken / "model.safetensors").write_bytes(whole)
        rewrite(
            broken / "model.safetensors",
            lambda tensors, name=name: tensors[name].view(-1)[-1].fill_(value),
        )
        with pytest.raises(ModelError, match=f"finite weights, found NaN or infinity in {name}$"):
            load_base(broken)


def test_weights_whose_sum_overflows_are_finite() -> None:
    large = torch.full((4,), 6e4, dtype=torch.float16)
    check_finite([("large", large), ("none", torch.empty(0)), ("ids", torch.ones(2).int())], "")
    large[3] = torch.inf
    with pytest.raises(ModelError, match=r"NaN or infinity in large; export"):
        check_finite([("large", large)], "base", "export")


def test_each_tensor_of_an_adapter_is_looked_at(base: Path, adapter: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(adapter, tmp_path / "broken"))
    file = broken / ADAPTER
    whole = file.read_bytes()
    assert len(adapter_names(adapter)) == 4
    for name in adapter_names(adapter):
        file.write_bytes(whole)
        rewrite(file, lambda tensors, name=name: tensors.pop(name))
        with pytest.raises(ModelError, match=f"found one that lacks {name}$"):
            with_adapter(load_base(base), broken, peft)
        file.write_bytes(whole)
        rewrite(file, lambda tensors, name=name: tensors[name].fill_(torch.nan))
        with pytest.raises(ModelError, match=f"NaN or infinity in {name}$"):
            with_adapter(load_base(base), broken, peft)
    file.write_bytes(whole)
    rewrite(file, lambda tensors: tensors.update(other=torch.zeros(2)))
    with pytest.raises(ModelError, match=r"found one that holds beside it other$"):
        with_adapter(load_base(base), broken, peft)


def test_an_adapter_whose_settings_name_other_layers_is_refused(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(adapter, tmp_path / "broken"))
    settings = json.loads((broken / "adapter_config.json").read_text())
    for targets, found in ((["q_proj"], "holds beside it"), (["q_proj", "k_proj"], "lacks")):
        text = json.dumps(settings | {"target_modules": targets})
        (broken / "adapter_config.json").write_text(text)
        with pytest.raises(ModelError, match=f"found one that {found} .*lora_A"):
            with_adapter(load_base(base), broken, peft)


@pytest.mark.parametrize("how", [META, {}], ids=["before", "loading"])
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda t: t.update({"model.norm.weight": torch.ones(5)}), "tensors of other shapes"),
        (lambda t: t.clear(), "one that lacks"),
    ],
    ids=["shape", "nothing"],
)
def test_other_shapes_are_refused_in_a_line(
    base: Path, tmp_path: Path, spoil: Callable[[Tensors], Any], told: str, how: dict[str, Any]
) -> None:
    broken = Path(shutil.copytree(base, tmp_path / "broken"))
    rewrite(broken / "model.safetensors", spoil)
    with pytest.raises(ModelError, match=f"broken: expected weights .*, found {told}") as raised:
        load_base(broken, **how)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("how", [META, {}], ids=["before", "loading"])
def test_a_cut_file_and_a_missing_shard_are_refused(
    base: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    cut = Path(shutil.copytree(base, tmp_path / "cut"))
    file = cut / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ModelError, match="cut: expected weights that are whole"):
        load_base(cut, **how)
    shards = tmp_path / "shards"
    make().save_pretrained(shards, max_shard_size="4KB")
    assert load_base(shards, **how) is not None
    first, *others = sorted(shards.glob("*.safetensors"))
    assert others
    first.unlink()
    with pytest.raises(ModelError, match="shards: expected weights that are whole"):
        load_base(shards, **how)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "found bitsandbytes; take"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "found gptq; take"),
        ({"model_type": None}, "a model_type, found none"),
        ({"model_type": "ours", "auto_map": {"AutoConfig": "code.C"}}, "found one that needs code"),
        ({"num_hidden_layers": 2}, "lacks model.layers.1"),
    ],
    ids=["bitsandbytes", "gptq", "untyped", "own code", "more layers"],
)
def test_settings_that_cannot_be_used_are_refused_in_a_line(
    base: Path, tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(ModelError, match=told) as raised:
        load_base(changed(base, tmp_path / "base", settings), **META)
    assert len(str(raised.value).splitlines()) == 1


def test_a_model_that_says_nothing_of_its_length_is_refused(tmp_path: Path) -> None:
    from transformers import BloomConfig, BloomForCausalLM

    bloom = BloomForCausalLM(BloomConfig(vocab_size=40, hidden_size=16, n_layer=1, n_head=2))
    bloom.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="max_position_embeddings, found none"):
        load_base(tmp_path, **META)


def test_code_beside_a_known_model_is_not_run(base: Path, tmp_path: Path) -> None:
    own = changed(base, tmp_path / "base", {"auto_map": {"AutoModelForCausalLM": "code.Model"}})
    ran = tmp_path / "ran"
    (own / "code.py").write_text(f"open({str(ran)!r}, 'w')\nclass Model: ...\n")
    assert type(load_base(own)) is LlamaForCausalLM
    assert not ran.exists()


def test_tied_embeddings_may_be_left_out(tmp_path: Path) -> None:
    make(tied=True).save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    loaded = load_base(tmp_path)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


def test_generation_settings_of_a_base_change_nothing(base: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(base, tmp_path / "base"))
    settings = {"repetition_penalty": 1.8, "do_sample": True, "max_length": 7, "eos_token_id": 5}
    (own / "generation_config.json").write_text(json.dumps(settings))
    assert (
        load_base(own).generation_config.to_diff_dict()
        == load_base(base).generation_config.to_diff_dict()
    )
    assert load_base(own).generation_config.repetition_penalty in (None, 1.0)


def test_a_vocabulary_larger_than_the_embedding_is_refused(base: Path) -> None:
    class Words:
        def __init__(self, highest: int) -> None:
            self.highest = highest

        def get_vocab(self) -> dict[str, int]:
            return {"a": 0, "b": self.highest}

    check_vocabulary(Words(39), load_base(base), "base")
    with pytest.raises(ModelError, match="at most the model's 40 tokens, found 41"):
        check_vocabulary(Words(40), load_base(base), "base")


def test_every_loading_says_that_no_code_of_a_model_is_run(root: Path) -> None:
    bad, seen = [], 0
    stages = ("data", "preprocessing", "training", "inference")
    for file in (file for stage in stages for file in (root / stage).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = ast.unparse(node.func.value)
            # Adapters and static embeddings are JSON and safetensors, without code of their own.
            is_code_free = "Peft" in owner or owner == "StaticModel"
            if node.func.attr not in ("from_pretrained", "from_config") or is_code_free:
                continue
            seen += 1
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if words.get("trust_remote_code") != "False":
                bad.append(f"{file.name}:{node.lineno}")
    assert (bad, seen >= 4) == ([], True)
