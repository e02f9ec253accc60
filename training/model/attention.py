"""Attention of short rows as Triton kernels, and the positions that are turned into it.

Tokens stand one after the other, [tokens, …]: first those that all rows begin with, once, then what
is each row's own, then spare ones. Knows nothing of adapters, models or graphs.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from training.model.kernels import wide

# Queries a tile of attention, of so many heads at each position; its keys, warps and loads ahead:
# the quickest of 110 ways for rows of 170 to 600 tokens on 8 multiprocessors of an H100.
_FORWARD = {"HEADS": 8, "TILE": 64, "KEYS": 32, "num_warps": 4, "num_stages": 2}
_BACK_QUERIES = {"HEADS": 8, "TILE": 64, "KEYS": 32, "num_warps": 4, "num_stages": 3}
_BACK_KEYS = {"HEADS": 4, "TILE": 32, "KEYS": 64, "num_warps": 4, "num_stages": 1}
_LOG2_E = tl.constexpr(1.4426950408889634)
# What differs from one micro-batch to the next: nothing is compiled anew for it.
_CHANGING = ["tokens", "rows", "shared", "own"]


@dataclass(frozen=True)
class Rows:
    """How the tokens of a micro-batch lie one after the other."""

    count: int
    shared: int
    """Tokens that all rows begin with."""
    own: int
    """Tokens of each row after those, padding included."""
    spare: int = 0
    """Tokens behind all rows, which nothing attends to: products of some sizes are quicker."""

    @property
    def read(self) -> int:
        """Tokens of all rows, the shared ones once."""
        return self.shared + self.count * self.own

    @property
    def tokens(self) -> int:
        """All of them, spare ones included."""
        return self.read + self.spare

    @property
    def spans(self) -> int:
        """Of tokens that attend: each row, and the shared tokens as one of their own."""
        return self.count + (self.shared > 0)


@dataclass(frozen=True)
class Heads:
    """The heads of attention; a row of their matrix holds queries, keys, values."""

    queries: int
    keys: int
    size: int

    @property
    def columns(self) -> int:
        """Of queries, keys and values together."""
        return (self.queries + 2 * self.keys) * self.size


@triton.jit(do_not_specialize=_CHANGING[2:])
def _rotate(
    x, cosines, sines, stride, heads, shared, own, sign,
    HALF: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    position = tl.where(token < shared, token, shared + (token - shared) % own)
    head = tl.arange(0, BLOCK)[:, None]
    at = tl.arange(0, HALF)[None, :]
    cosine = tl.load(cosines + position * HALF + at)
    sine = tl.load(sines + position * HALF + at) * sign
    places = x + token * stride + head * (2 * HALF) + at
    inside = head < heads
    low = tl.load(places, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(places + HALF, mask=inside, other=0.0).to(tl.float32)
    tl.store(places, (low * cosine - high * sine).to(x.dtype.element_ty), mask=inside)
    tl.store(places + HALF, (high * cosine + low * sine).to(x.dtype.element_ty), mask=inside)


@triton.jit
def _span(row, rows, shared, own):
    """Return a row's own tokens, from first to end, and how far off they stand.

    Token i of a row stands at i where it is shared, else at i + offset; behind the last row come
    the shared tokens as a row of their own.
    """
    is_row = row < rows
    end = tl.where(is_row, shared + own, shared)
    return tl.where(is_row, shared, 0), end, tl.where(is_row, row * own, 0)


@triton.jit
def _part(matrix, stride, tokens, head, inside, SIZE: tl.constexpr):
    """Load a head's columns of some tokens, [tokens, SIZE]; 0 where they are not inside."""
    places = matrix + (tokens * stride + head * SIZE)[:, None] + tl.arange(0, SIZE)[None, :]
    return tl.load(places, mask=inside[:, None], other=0.0)


@triton.jit
def _queries(first, head, TILE: tl.constexpr, HEADS: tl.constexpr):
    """Return the positions and heads of a tile's queries, [TILE]: HEADS of them at each position.

    They attend to the same keys, of which short rows so need fewer beyond the queries' own.
    """
    query = tl.arange(0, TILE)
    return first + query // HEADS, head + query % HEADS


@triton.jit
def _tile(rows, shared, own, heads, group, TILE: tl.constexpr, HEADS: tl.constexpr):
    """Return what this program's tile of queries is.

    Its first position, its row's end and how far off that stands; each query's position and head;
    the heads of their keys and of their values.
    """
    first_head = tl.program_id(1) * HEADS
    first, end, offset = _span(tl.program_id(2), rows, shared, own)
    first += tl.program_id(0) * (TILE // HEADS)
    i, head = _queries(first, first_head, TILE, HEADS)
    key_head = heads + first_head // group
    return first, end, offset, i, head, key_head, key_head + heads // group


@triton.jit(do_not_specialize=_CHANGING)
def _attend(
    qkv, y, logs, qkv_stride, y_stride, tokens, rows, shared, own, scale, heads, group,
    SIZE: tl.constexpr, HEADS: tl.constexpr, TILE: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    first, end, offset, i, head, key_head, value_head = _tile(
        rows, shared, own, heads, group, TILE, HEADS
    )
    if first < end:
        at = tl.arange(0, SIZE)
        here = (i + offset).to(tl.int64)
        inside = i < end
        query = _part(qkv, qkv_stride, here, head, inside, SIZE)
        top = tl.full((TILE,), float("-inf"), tl.float32)
        total = tl.zeros((TILE,), tl.float32)
        said = tl.zeros((TILE, SIZE), tl.float32)
        for start in range(0, tl.minimum(end, first + TILE // HEADS), KEYS):
            j = start + tl.arange(0, KEYS)
            there = (j + tl.where(j < shared, 0, offset)).to(tl.int64)
            key = _part(qkv, qkv_stride, there, key_head, j < end, SIZE)
            score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
            score = tl.where(i[:, None] >= j[None, :], score, float("-inf"))
            higher = tl.maximum(top, tl.max(score, 1))
            weight = tl.exp2(score - higher[:, None])
            fade = tl.exp2(top - higher)
            value = _part(qkv, qkv_stride, there, value_head, j < end, SIZE)
            said = said * fade[:, None]
            said += tl.dot(weight.to(value.dtype), value, input_precision="ieee")
            total = total * fade + tl.sum(weight, 1)
            top = higher
        said = (said / total[:, None]).to(y.dtype.element_ty)
        tl.store(y + (here * y_stride + head * SIZE)[:, None] + at, said, mask=inside[:, None])
        tl.store(logs + head * tokens + here, top + tl.log2(total), mask=inside)


@triton.jit(do_not_specialize=_CHANGING)
def _attend_back_queries(
    qkv, y, dy, logs, deltas, dqkv, qkv_stride, y_stride, dy_stride, dqkv_stride,
    tokens, rows, shared, own, scale, heads, group,
    SIZE: tl.constexpr, HEADS: tl.constexpr, TILE: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    first, end, offset, i, head, key_head, value_head = _tile(
        rows, shared, own, heads, group, TILE, HEADS
    )
    if first < end:
        at = tl.arange(0, SIZE)
        here = (i + offset).to(tl.int64)
        inside = i < end
        query = _part(qkv, qkv_stride, here, head, inside, SIZE)
        said = _part(y, y_stride, here, head, inside, SIZE)
        change = _part(dy, dy_stride, here, head, inside, SIZE)
        delta = tl.sum(said.to(tl.float32) * change.to(tl.float32), 1)
        tl.store(deltas + head * tokens + here, delta, mask=inside)
        log = tl.load(logs + head * tokens + here, mask=inside, other=0.0)
        of_query = tl.zeros((TILE, SIZE), tl.float32)
        for start in range(0, tl.minimum(end, first + TILE // HEADS), KEYS):
            j = start + tl.arange(0, KEYS)
            there = (j + tl.where(j < shared, 0, offset)).to(tl.int64)
            key = _part(qkv, qkv_stride, there, key_head, j < end, SIZE)
            value = _part(qkv, qkv_stride, there, value_head, j < end, SIZE)
            score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
            weight = tl.exp2(score - log[:, None])
            weight = tl.where(i[:, None] >= j[None, :], weight, 0.0)
            moved = tl.dot(change, tl.trans(value), input_precision="ieee") - delta[:, None]
            of_query += tl.dot((weight * moved).to(key.dtype), key, input_precision="ieee")
        of_query = (of_query * (scale / _LOG2_E)).to(dqkv.dtype.element_ty)
        places = dqkv + (here * dqkv_stride + head * SIZE)[:, None] + at
        tl.store(places, of_query, mask=inside[:, None])


@triton.jit(do_not_specialize=_CHANGING)
def _attend_back_keys(
    qkv, dy, logs, deltas, dqkv, parts, qkv_stride, dy_stride, dqkv_stride,
    tokens, rows, shared, own, scale, heads, group,
    SIZE: tl.constexpr, HEADS: tl.constexpr, TILE: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    tile, key_head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    first, end, offset = _span(row, rows, shared, own)
    start = tile * KEYS
    if start < end:
        at = tl.arange(0, SIZE)
        j = start + tl.arange(0, KEYS)
        there = (j + tl.where(j < shared, 0, offset)).to(tl.int64)
        known = j < end
        key_heads = heads // group
        key = _part(qkv, qkv_stride, there, heads + key_head, known, SIZE)
        value = _part(qkv, qkv_stride, there, heads + key_heads + key_head, known, SIZE)
        of_key = tl.zeros((KEYS, SIZE), tl.float32)
        of_value = tl.zeros((KEYS, SIZE), tl.float32)
        begin = tl.maximum(start, first)
        for first_head in range(key_head * group, (key_head + 1) * group, HEADS):
            for tile_start in range(begin, end, TILE // HEADS):
                i, head = _queries(tile_start, first_head, TILE, HEADS)
                here = (i + offset).to(tl.int64)
                asked = i < end
                query = _part(qkv, qkv_stride, here, head, asked, SIZE)
                change = _part(dy, dy_stride, here, head, asked, SIZE)
                log = tl.load(logs + head * tokens + here, mask=asked, other=0.0)
                delta = tl.load(deltas + head * tokens + here, mask=asked, other=0.0)
                score = tl.dot(key, tl.trans(query), input_precision="ieee") * scale
                weight = tl.exp2(score - log[None, :])
                weight = tl.where((i[None, :] >= j[:, None]) & asked[None, :], weight, 0.0)
                of_value += tl.dot(weight.to(change.dtype), change, input_precision="ieee")
                moved = tl.dot(value, tl.trans(change), input_precision="ieee") - delta[None, :]
                of_key += tl.dot((weight * moved).to(query.dtype), query, input_precision="ieee")
        of_key *= scale / _LOG2_E
        own_keys = dqkv + there[:, None] * dqkv_stride + (heads + key_head) * SIZE + at[None, :]
        is_own = (known & (j >= shared))[:, None]
        kind = dqkv.dtype.element_ty
        tl.store(own_keys, of_key.to(kind), mask=is_own)
        tl.store(own_keys + key_heads * SIZE, of_value.to(kind), mask=is_own)
        # What is shared is added up over the rows afterwards.
        part = ((row * shared + j).to(tl.int64) * (2 * key_heads) + key_head)[:, None] * SIZE
        is_shared = (known & (j < shared))[:, None]
        tl.store(parts + part + at[None, :], of_key, mask=is_shared)
        tl.store(parts + part + key_heads * SIZE + at[None, :], of_value, mask=is_shared)


def rotate(
    qkv: torch.Tensor, table: tuple[torch.Tensor, torch.Tensor], rows: Rows, heads: Heads, sign: int
) -> None:
    """Turn queries and keys by their positions in place, or back by ``sign`` -1.

    Args:
        qkv: [tokens, at least queries, keys and values].
        table: cosines and sines, [positions, half a head], float32.
        rows: of the tokens.
        heads: of the matrix.
        sign: 1 or -1.
    """
    count = heads.queries + heads.keys
    _rotate[(rows.tokens,)](
        qkv, *table, qkv.stride(0), count, rows.shared, rows.own, sign,
        HALF=heads.size // 2, BLOCK=triton.next_power_of_2(count),
    )  # fmt: skip


def attend(
    qkv: torch.Tensor, rows: Rows, heads: Heads, spare: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend to what came before in each row: [tokens, queries + room], logs [heads, tokens]."""
    y = wide(rows.tokens, heads.queries * heads.size, spare, qkv)
    logs = qkv.new_empty(heads.queries, rows.tokens, dtype=torch.float32)
    how = _how(_FORWARD, heads)
    facts = _facts(rows, heads)
    _attend[_grid(rows, heads, how)](qkv, y, logs, qkv.stride(0), y.stride(0), *facts, **how)
    y[rows.read :] = 0
    return y, logs


def attend_back(
    qkv: torch.Tensor, y: torch.Tensor, dy: torch.Tensor, logs: torch.Tensor,
    rows: Rows, heads: Heads, spare: int,
) -> torch.Tensor:  # fmt: skip
    """Return the gradient of queries, keys and values, [tokens, all of them + room]."""
    dqkv = wide(rows.tokens, heads.columns, spare, qkv)
    deltas = torch.empty_like(logs)
    parts = logs.new_empty(rows.spans, rows.shared, 2 * heads.keys * heads.size)
    facts = _facts(rows, heads)
    how = _how(_BACK_QUERIES, heads)
    _attend_back_queries[_grid(rows, heads, how)](
        qkv, y, dy, logs, deltas, dqkv, qkv.stride(0), y.stride(0), dy.stride(0), dqkv.stride(0),
        *facts, **how,
    )  # fmt: skip
    grid = (triton.cdiv(rows.shared + rows.own, _BACK_KEYS["KEYS"]), heads.keys, rows.spans)
    _attend_back_keys[grid](
        qkv, dy, logs, deltas, dqkv, parts, qkv.stride(0), dy.stride(0), dqkv.stride(0),
        *facts, **_how(_BACK_KEYS, heads),
    )  # fmt: skip
    if rows.shared:
        dqkv[: rows.shared, heads.queries * heads.size : heads.columns] = parts.sum(0)
    dqkv[rows.read :] = 0
    return dqkv


def _how(kernel: dict[str, int], heads: Heads) -> dict[str, int]:
    """Return a kernel's settings, with no more heads at a position than read the same keys."""
    return kernel | {"HEADS": math.gcd(kernel["HEADS"], heads.queries // heads.keys)}


def _grid(rows: Rows, heads: Heads, how: dict[str, int]) -> tuple[int, int, int]:
    tiles = triton.cdiv(max(rows.own, rows.shared), how["TILE"] // how["HEADS"])
    return tiles, heads.queries // how["HEADS"], rows.spans


def _facts(rows: Rows, heads: Heads) -> tuple[Any, ...]:
    scale = heads.size**-0.5 * _LOG2_E.value
    group = heads.queries // heads.keys
    return (
        rows.tokens, rows.count, rows.shared, rows.own, scale, heads.queries, group, heads.size
    )  # fmt: skip
