"""The attention of slots: few KV heads as they are, by PyTorch or by a kernel of ours."""

import importlib.util
from functools import partial
from typing import Any

import torch
from transformers import AttentionInterface

UNEXPANDED, READING = "unexpanded", "reading"
"""Names that the two are registered under."""
# Of a head, which the kernel holds whole.
_SIZES = (16, 32, 64, 128, 256)


def head_size(config: Any) -> int:
    """Return the columns of a model's head."""
    own = getattr(config, "head_dim", None)
    return int(own or config.hidden_size // config.num_attention_heads)


def can_read(model: Any) -> bool:
    """Return whether the kernel is there for a model."""
    # Triton multiplies tiles on no older card, and takes a minute to compile for one.
    is_old = model.device.type == "cuda" and torch.cuda.get_device_capability(model.device) < (8, 0)
    has_triton = importlib.util.find_spec("triton") is not None
    return head_size(model.config) in _SIZES and has_triton and not is_old


def _attend(
    _module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    *,
    by_kernel: bool,
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
        by_kernel: whether ours takes a single query, of which it reads what that sees alone.

    Returns:
        [batch, queries, heads, dim], and no weights.
    """
    batch, heads, queries, dim = query.shape
    if by_kernel and queries == 1:
        from inference.engine.slots.reading import read

        scale = dim**-0.5 if scaling is None else scaling
        return read(query, key, value, attention_mask, scale), None
    kv_heads, groups = key.shape[1], heads // key.shape[1]
    rows = query.reshape(batch, kv_heads, groups * queries, dim)
    mask = attention_mask[:, :, None].expand(-1, -1, groups, -1, -1)
    mask = mask.reshape(batch, 1, groups * queries, -1).expand(-1, kv_heads, -1, -1)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        rows, key, value, attn_mask=mask, scale=scaling
    )
    return mixed.reshape(batch, heads, queries, dim).transpose(1, 2), None


unexpanded, reading = (partial(_attend, by_kernel=by_kernel) for by_kernel in (False, True))
AttentionInterface.register(UNEXPANDED, unexpanded)
AttentionInterface.register(READING, reading)
