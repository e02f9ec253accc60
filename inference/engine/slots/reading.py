"""A Triton kernel: the newest token of each slot attends; what it may not see is not read.

PyTorch's attention reads a slot to its end, and makes a tile of 64 rows of one KV head's few
queries: on a small card that takes longer than all products of a step. Knows nothing of slots'
tokens, models or graphs.
"""

from typing import Any

import torch
import triton
import triton.language as tl

_LOG2_E = tl.constexpr(1.4426950408889634)
# Rows of the smallest tile that cards multiply.
_LEAST_ROWS = 16
# Positions read, and looked at in the mask, at a time.
_HOW = {"TILE": 16, "LOOK": 256, "num_warps": 1, "num_stages": 4}


@triton.jit
def _read(
    query, key, value, mask, said, query_slot, query_head, key_slot, key_head, key_place,
    value_slot, value_head, value_place, mask_slot, length, scale, group,
    SIZE: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr, LOOK: tl.constexpr,
):  # fmt: skip
    slot, kv_head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row, at = tl.arange(0, ROWS), tl.arange(0, SIZE)
    head = (kv_head * group + row)[:, None]
    inside = (row < group)[:, None]
    asked = tl.load(query + slot * query_slot + head * query_head + at, mask=inside, other=0.0)
    key += slot * key_slot + kv_head * key_head
    value += slot * value_slot + kv_head * value_head
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    mixed = tl.zeros((ROWS, SIZE), tl.float32)
    end = 0
    for start in range(0, length, LOOK):
        j = start + tl.arange(0, LOOK)
        bias = tl.load(mask + slot * mask_slot + j, mask=j < length, other=float("-inf"))
        end = tl.maximum(end, tl.max(tl.where(bias.to(tl.float32) > float("-inf"), j + 1, 0), 0))
    for start in range(0, end, TILE):
        j = start + tl.arange(0, TILE)
        known = (j < end)[:, None]
        keys = tl.load(key + j[:, None] * key_place + at[None, :], mask=known, other=0.0)
        bias = tl.load(mask + slot * mask_slot + j, mask=j < end, other=float("-inf"))
        score = tl.dot(asked, tl.trans(keys), input_precision="ieee") * scale
        score += bias.to(tl.float32)[None, :] * _LOG2_E
        higher = tl.maximum(top, tl.max(score, 1))
        weight = tl.exp2(score - higher[:, None])
        fade = tl.exp2(top - higher)
        values = tl.load(value + j[:, None] * value_place + at[None, :], mask=known, other=0.0)
        mixed = mixed * fade[:, None]
        mixed += tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        total = total * fade + tl.sum(weight, 1)
        top = higher
    mixed = (mixed / total[:, None]).to(said.dtype.element_ty)
    out = said + (slot * tl.num_programs(1) * group + head) * SIZE + at
    tl.store(out, mixed, mask=inside)


@torch.library.custom_op("catalogue::read_slots", mutates_args=())
def read(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attend with one query a slot and head, grouped KV heads as they are.

    Args:
        query: [slots, heads, 1, size].
        key: [slots, kv_heads, positions, size].
        value: as key.
        mask: additive, [slots, 1, 1, positions]; of each slot's first positions some are seen.
        scale: of the products.

    Returns:
        [slots, 1, heads, size].
    """
    slots, heads, _, size = query.shape
    kv_heads, length = key.shape[1:3]
    group = heads // kv_heads
    said = query.new_empty(slots, 1, heads, size)
    rows = max(triton.next_power_of_2(group), _LEAST_ROWS)
    _read[(slots, kv_heads)](
        query, key, value, mask, said, query.stride(0), query.stride(1), *key.stride()[:3],
        *value.stride()[:3], mask.expand(slots, -1, -1, -1).stride(0), length,
        scale * _LOG2_E.value, group, SIZE=size, ROWS=rows, **_HOW,
    )  # fmt: skip
    return said


@read.register_fake
def _(query: torch.Tensor, *_: Any) -> torch.Tensor:
    return query.new_empty(query.transpose(1, 2).shape)
