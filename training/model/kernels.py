"""Triton kernels of a Llama's layers between their products: norms and gates.

A matrix's rows may lie further apart than they are long: behind them is room for what an adapter
adds to a product. Knows nothing of adapters, models or graphs.
"""

from typing import Any

import torch
import triton
import triton.language as tl

# Columns a tile of the gates.
_COLUMNS = 2048


@triton.jit
def _norm(x, weight, y, scales, x_stride, y_stride, size, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < size
    values = tl.load(x + row * x_stride + at, mask=inside, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(values * values, 0) / size + eps)
    tl.store(scales + row, scale)
    normed = (values * scale).to(y.dtype.element_ty) * tl.load(weight + at, mask=inside, other=0.0)
    tl.store(y + row * y_stride + at, normed, mask=inside)


@triton.jit
def _norm_back(
    dy, x, scales, weight, residual, dx, dy_stride, x_stride, residual_stride, dx_stride, size,
    HAS_RESIDUAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < size
    scale = tl.load(scales + row)
    normed = tl.load(x + row * x_stride + at, mask=inside, other=0.0).to(tl.float32) * scale
    change = tl.load(dy + row * dy_stride + at, mask=inside, other=0.0).to(tl.float32)
    change *= tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    change = scale * (change - normed * (tl.sum(change * normed, 0) / size))
    if HAS_RESIDUAL:
        change += tl.load(residual + row * residual_stride + at, mask=inside, other=0.0).to(
            tl.float32
        )
    tl.store(dx + row * dx_stride + at, change.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def _gate(gates, y, gates_stride, y_stride, size, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    gate = tl.load(gates + row * gates_stride + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gates + row * gates_stride + size + at, mask=inside, other=0.0).to(tl.float32)
    passed = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(y + row * y_stride + at, passed.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _gate_back(
    gates, dy, dgates, gates_stride, dy_stride, dgates_stride, size, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    gate = tl.load(gates + row * gates_stride + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gates + row * gates_stride + size + at, mask=inside, other=0.0).to(tl.float32)
    change = tl.load(dy + row * dy_stride + at, mask=inside, other=0.0).to(tl.float32)
    share = 1.0 / (1.0 + tl.exp(-gate))
    silu = gate * share
    of_gate = change * up * share * (1.0 + gate * (1.0 - share))
    kind = dgates.dtype.element_ty
    tl.store(dgates + row * dgates_stride + at, of_gate.to(kind), mask=inside)
    tl.store(dgates + row * dgates_stride + size + at, (change * silu).to(kind), mask=inside)
    tl.store(dy + row * dy_stride + at, (silu * up).to(kind), mask=inside)


def wide(rows: int, columns: int, spare: int, like: torch.Tensor) -> torch.Tensor:
    """Return an empty matrix with room for ``spare`` more columns, each row at 16 whole bytes."""
    stride = -(-(columns + spare) // 8) * 8
    return like.new_empty(rows, stride)


def norm(x: torch.Tensor, weight: torch.Tensor, eps: float, spare: int) -> Any:
    """Normalise by the root of the mean square: y [tokens, size + room], scales [tokens]."""
    count, size = x.shape
    y, scales = wide(count, size, spare, x), x.new_empty(count, dtype=torch.float32)
    block = triton.next_power_of_2(size)
    _norm[(count,)](x, weight, y, scales, x.stride(0), y.stride(0), size, eps, BLOCK=block)
    return y, scales


def norm_back(
    dy: torch.Tensor, x: torch.Tensor, scales: torch.Tensor, weight: torch.Tensor,
    residual: torch.Tensor | None, dx: torch.Tensor,
) -> None:  # fmt: skip
    """Write the gradient of a norm's input to ``dx``, with what flows past the norm added."""
    count, size = x.shape
    past = dy if residual is None else residual
    _norm_back[(count,)](
        dy, x, scales, weight, past, dx, dy.stride(0), x.stride(0), past.stride(0), dx.stride(0),
        size, HAS_RESIDUAL=residual is not None, BLOCK=triton.next_power_of_2(size),
    )  # fmt: skip


def gate(gates: torch.Tensor, spare: int) -> torch.Tensor:
    """Multiply by the gates, silu(first half) x second half: [tokens, size + room]."""
    count, size = gates.shape[0], gates.shape[1] // 2
    y = wide(count, size, spare, gates)
    grid = (count, triton.cdiv(size, _COLUMNS))
    _gate[grid](gates, y, gates.stride(0), y.stride(0), size, BLOCK=_COLUMNS)
    return y


def gate_back(gates: torch.Tensor, dy: torch.Tensor, spare: int) -> torch.Tensor:
    """Return the gradient of gates, [tokens, 2 x size + room]; ``dy`` becomes what passed them."""
    count, size = dy.shape
    dgates = wide(count, 2 * size, spare, gates)
    grid = (count, triton.cdiv(size, _COLUMNS))
    strides = gates.stride(0), dy.stride(0), dgates.stride(0)
    _gate_back[grid](gates, dy, dgates, *strides, size, BLOCK=_COLUMNS)
    return dgates
