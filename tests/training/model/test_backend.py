import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data.artefacts.run import locate
from data.errors import ConfigError, ModelError
from training.config import LoraSettings, Optimisation, TrainConfig
from training.model.adapter import check_init_adapter, digest_adapter, save_adapter
from training.model.backend import (
    Backend,
    check,
    choose_backend,
    count_trainable,
    load_model,
    load_tokenizer,
)

PEFT = Backend("transformers", "asked for")


@pytest.fixture(scope="module")
def config(base: Path) -> TrainConfig:
    return TrainConfig(base=str(base), optimisation=Optimisation(precision="float32"))


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {
        name: value.detach().clone()
        for name, value in model.named_parameters()
        if value.requires_grad
    }


def test_fresh_adapter_depends_on_the_seed_alone(base: Path, config: TrainConfig) -> None:
    torch.manual_seed(5)
    one = weights(load_model(config, locate(str(base)), PEFT, "float32"))
    torch.manual_seed(6)
    two = weights(load_model(config, locate(str(base)), PEFT, "float32"))
    other = weights(load_model(replace(config, seed=1), locate(str(base)), PEFT, "float32"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    # LoRA begins as no change: one factor is drawn, the other is zero.
    assert all(value.any() == ("lora_A" in name) for name, value in one.items())


def test_trainable_parameters(base: Path, config: TrainConfig) -> None:
    model = load_model(config, locate(str(base)), PEFT, "float32")
    assert count_trainable(model) == sum(value.numel() for value in weights(model).values()) > 0
    assert {name.split(".")[-4] for name in weights(model)} == set(config.lora.target_modules)


def test_layers_that_the_model_lacks(base: Path, config: TrainConfig) -> None:
    strange = replace(config, lora=LoraSettings(target_modules=["no_such_layer"]))
    with pytest.raises(ConfigError, match=r"found no_such_layer; set .*\[q_proj, k_proj"):
        check(strange, locate(str(base)), PEFT)


def test_tokenizer_larger_than_the_model(base: Path, config: TrainConfig, tmp_path: Path) -> None:
    broken = tmp_path / "base"
    shutil.copytree(base, broken)
    tokenizer = load_tokenizer(broken)
    tokenizer.add_tokens(["another", "more"])
    tokenizer.save_pretrained(broken)
    with pytest.raises(ModelError, match="a tokenizer of at most"):
        check(config, locate(str(broken)), PEFT)


def test_no_tokenizer(base: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(base / name, tmp_path / name)
    with pytest.raises(ModelError, match="a tokenizer"):
        load_tokenizer(tmp_path)


def test_saved_adapter_holds_nothing_of_this_machine(finished: Path, base: Path) -> None:
    names = {path.name for path in (finished / "adapter").iterdir()}
    assert names == {
        "adapter_config.json", "adapter_model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    made = json.loads((finished / "adapter" / "adapter_config.json").read_text())
    assert made["base_model_name_or_path"] == str(base)
    assert made["target_modules"] == sorted(LoraSettings().target_modules)


def test_adapter_of_another_base_is_refused(finished: Path, base: Path, tmp_path: Path) -> None:
    adapter = finished / "adapter"
    check_init_adapter(adapter, locate(str(base)), LoraSettings())
    moved = tmp_path / "elsewhere"
    shutil.copytree(base, moved)
    check_init_adapter(adapter, locate(str(moved)), LoraSettings())
    (moved / "config.json").write_text((base / "config.json").read_text() + " ")
    with pytest.raises(ModelError, match="an adapter of"):
        check_init_adapter(adapter, locate(str(moved)), LoraSettings())


def test_adapter_without_a_run_is_told_by_its_name(
    finished: Path, base: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished / "adapter", tmp_path / "adapter")
    check_init_adapter(tmp_path / "adapter", locate(str(base)), LoraSettings())
    moved = tmp_path / "elsewhere"
    shutil.copytree(base, moved)
    with pytest.raises(ModelError, match="an adapter of"):
        check_init_adapter(tmp_path / "adapter", locate(str(moved)), LoraSettings())


@pytest.mark.parametrize(
    "change",
    [{"r": 8}, {"alpha": 32}, {"use_rslora": False}, {"target_modules": ["q_proj"]}],
)
def test_adapter_of_other_settings_is_refused(
    finished: Path, base: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match=next(iter(change))):
        check_init_adapter(
            finished / "adapter", locate(str(base)), replace(LoraSettings(), **change)
        )


def test_folder_without_an_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"adapter_config\.json"):
        check_init_adapter(tmp_path, locate(str(base)), LoraSettings())
    with pytest.raises(ModelError, match="safetensors"):
        digest_adapter(tmp_path)


def test_going_on_takes_the_adapters_weights(
    finished: Path, base: Path, config: TrainConfig
) -> None:
    from safetensors.torch import load_file

    again = replace(config, init_adapter=str(finished / "adapter"))
    loaded = weights(load_model(again, locate(str(base)), PEFT, "float32"))
    saved = load_file(finished / "adapter" / "adapter_model.safetensors")
    assert len(saved) == len(loaded)
    for name, value in loaded.items():
        assert torch.equal(value, saved[name.replace(".default", "")])


def test_damaged_weights_are_refused(
    finished: Path, base: Path, config: TrainConfig, tmp_path: Path
) -> None:
    shutil.copytree(finished / "adapter", tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match="an adapter of this base model"):
        load_model(
            replace(config, init_adapter=str(tmp_path / "adapter")),
            locate(str(base)),
            PEFT,
            "float32",
        )


def test_auto_falls_back_with_a_line_that_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "unsloth", None)
    with caplog.at_level("INFO", "catalogue"):
        backend = choose_backend("auto", tmp_path)
    assert backend.name == "transformers"
    assert "backend: transformers (unsloth does not import:" in caplog.text
    with pytest.raises(ModelError, match="--backend transformers"):
        choose_backend("unsloth", tmp_path)


def test_unsloth_is_imported_nowhere_else() -> None:
    folder = Path("training")
    importing = [p.name for p in folder.rglob("*.py") if "import unsloth" in p.read_text()]
    from_it = [p.name for p in folder.rglob("*.py") if "from unsloth" in p.read_text()]
    assert (importing, from_it) == ([], ["backend.py"])


def test_embeddings_are_no_targets_where_they_are_tied(base: Path, config: TrainConfig) -> None:
    for name in ("embed_tokens", "lm_head"):
        lora = LoraSettings(target_modules=["q_proj", name])
        with pytest.raises(ConfigError, match=f"tied to each other, found {name}; leave"):
            check(replace(config, lora=lora), locate(str(base)), PEFT)


def test_untied_embeddings_are_targets_where_they_are_trained_by_parts(
    base: Path, config: TrainConfig, tmp_path: Path
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    settings = LlamaConfig.from_pretrained(base, tie_word_embeddings=False)
    LlamaForCausalLM(settings).save_pretrained(tmp_path)
    untied = locate(str(tmp_path))
    lora = replace(config, lora=LoraSettings(target_modules=["lm_head", "self_attn.q_proj"]))
    check(lora, untied, PEFT)
    with pytest.raises(ConfigError, match="trained as a whole by Unsloth, found lm_head"):
        check(lora, untied, Backend("unsloth", "it imports here"))


@pytest.fixture
def fused(base: Path, tmp_path: Path) -> Path:
    """A Phi-3, whose attention and feed-forward layers are fused, with the tiny vocabulary."""
    from transformers import Phi3Config, Phi3ForCausalLM

    shutil.copytree(base, tmp_path / "phi")
    settings = Phi3Config(
        vocab_size=600, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=640,
        original_max_position_embeddings=640, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    Phi3ForCausalLM(settings).save_pretrained(tmp_path / "phi")
    return tmp_path / "phi"


def test_names_that_match_nothing_are_refused_and_an_adapter_of_some_goes_on(
    fused: Path, config: TrainConfig, tmp_path: Path
) -> None:
    found = locate(str(fused))
    expected = r"found q_proj, k_proj, v_proj, gate_proj, up_proj; set --lora.target_modules"
    with pytest.raises(ConfigError, match=expected):
        check(config, found, PEFT)
    matching = ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]
    own = replace(config, base=str(fused), lora=LoraSettings(target_modules=matching))
    tokenizer = check(own, found, PEFT)
    model = load_model(own, found, PEFT, "float32")
    assert {name.split(".")[-4] for name in weights(model)} == set(matching)
    save_adapter(model, tokenizer, tmp_path / "adapter", str(fused))
    # As earlier versions wrote it: more names than match, or one expression for all of them.
    settings = tmp_path / "adapter" / "adapter_config.json"
    made = json.loads(settings.read_text())
    for told in ([*matching, "q_proj"], ".*(qkv|o|gate_up|down)_proj"):
        settings.write_text(json.dumps(made | {"target_modules": told}))
        check_init_adapter(tmp_path / "adapter", found, own.lora)
    settings.write_text(json.dumps(made | {"alpha_pattern": {"o_proj": 2}}))
    with pytest.raises(ModelError, match="one rank and scale, found alpha_pattern"):
        check_init_adapter(tmp_path / "adapter", found, own.lora)


def test_a_base_that_could_not_be_asked_later_is_refused(
    base: Path, config: TrainConfig, tmp_path: Path
) -> None:
    copy = tmp_path / "base"
    shutil.copytree(base, copy)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"a tokenizer\.json, found none"):
        check(config, locate(str(copy)), PEFT)
