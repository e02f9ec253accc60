"""The attention of slots: few KV heads as they are, by PyTorch or by a kernel of ours."""

import importlib.util
from typing import Any

import torch
from transformers import AttentionInterface

UNEXPANDED, READING = "unexpanded", "reading"
"""Names that the two are registered under."""
# Of a head, which the kernel holds whole.
_SIZES = (16, 32, 64, 128, 256)


def can_read(model: Any) -> bool:
    """Return whether the kernel is there for a model."""
    config = model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if size not in _SIZES or importlib.util.find_spec("triton") is None:
        return False
    # Triton multiplies tiles on no older card, and takes a minute to compile for one.
    device = model.device
    return bool(device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0))


def unexpanded(
    _module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend with grouped KV heads without expanding them, exactly.

    The query heads of one KV head become its query rows, so that each key is read once; by
    default transformers repeats K and V for every query head where there is a mask.

    Args:
        _module: the attention layer.
        query: [batch, heads, queries, dim].
        key: [batch, kv_heads, positions, dim].
        value: as key.
        attention_mask: additive, [batch, 1, queries, positions].
        scaling: of the products.

    Returns:
        [batch, queries, heads, dim], and no weights.
    """
    batch, heads, queries, dim = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    rows = query.reshape(batch, kv_heads, groups * queries, dim)
    mask = attention_mask[:, :, None].expand(-1, -1, groups, -1, -1)
    mask = mask.reshape(batch, 1, groups * queries, -1).expand(-1, kv_heads, -1, -1)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        rows, key, value, attn_mask=mask, scale=scaling
    )
    return mixed.reshape(batch, heads, queries, dim).transpose(1, 2), None


def reading(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **words: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as ``unexpanded``; one query a row reads only what it sees."""
    if query.shape[2] > 1:
        return unexpanded(module, query, key, value, attention_mask, scaling, **words)
    from inference.engine.slots.reading import read

    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return read(query, key, value, attention_mask, scale), None


AttentionInterface.register(UNEXPANDED, unexpanded)
AttentionInterface.register(READING, reading)
