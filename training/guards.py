"""Refuse to train on broken batches: pure checks over rows, tokenizers, adapters and losses.

No I/O and no torch here: tables and numbers in, an error or nothing out. Each check names the
rows or figures that are at fault.
"""

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from data.errors import BatchError, ModelError

IGNORED = -100
"""Label of a token that is not learned, as PyTorch's cross-entropy has it."""

_MOST_SKIPPED = 24
"""Steps in a row that a scaler may skip: each halves its scale, which begins at 2 ** 16 and has
room to spare once it is below 1."""


def _name(uids: Sequence[str]) -> str:
    more = f" and {len(uids) - 3:,} more" if len(uids) > 3 else ""
    return f"rows {', '.join(uids[:3])}{more}"


def check_truncated(
    cut: int, left_out: int, rows: int, uids: Sequence[str], max_share: float
) -> None:
    """Check that few enough descriptions were cut, or left out for want of any room.

    Args:
        cut: rows whose description did not fit as a whole.
        left_out: rows whose prompt alone fills ``max_length``.
        rows: all rows, those left out among them.
        uids: of the first rows at fault.
        max_share: largest share allowed, 0 to 1.

    Raises:
        BatchError: the share is larger.
    """
    bad = cut + left_out
    if bad > max_share * rows:
        expected = f"at most {max_share:.1%} of the descriptions cut by max_length"
        share = f"{bad:,} of {rows:,} ({bad / rows:.1%})"
        if left_out:
            share += f", {left_out:,} of them without room for a single token"
        hint = "raise --max_length or --max_truncated_share"
        raise BatchError(_name(uids), expected, share, hint)


def check_rows(table: pa.Table, uids: Sequence[str], eos: int, max_length: int) -> None:
    """Check tokenised rows: each learns something, and ends where it was not cut.

    Args:
        table: N rows with ``input_ids`` and ``labels``.
        uids: of the rows, [N].
        eos: id of the end-of-sequence token.
        max_length: a row of this length may have been cut.

    Raises:
        BatchError: a row has no label, labels of other tokens than its own, or no end.
    """
    rows = list(zip(_lists(table, "input_ids"), _lists(table, "labels"), strict=True))
    for expected, is_bad in (
        ("a label for some token", [not (label != IGNORED).any() for _, label in rows]),
        ("each label to be its own token", [_misplaced(ids, label) for ids, label in rows]),
        (
            "an end-of-sequence token, learned, at the end of an uncut row",
            [len(ids) < max_length and not (ids[-1] == eos == label[-1]) for ids, label in rows],
        ),
    ):
        if bad := [uid for uid, is_at_fault in zip(uids, is_bad, strict=True) if is_at_fault]:
            raise BatchError(_name(bad), expected, "none", "this is a bug, please report it")


def _misplaced(ids: np.ndarray, labels: np.ndarray) -> bool:
    return len(ids) != len(labels) or bool(((labels != IGNORED) & (labels != ids)).any())


def check_prompt_unlearned(
    table: pa.Table, prompt_lengths: Sequence[int], uids: Sequence[str]
) -> None:
    """Check that no token of the prompt has a label.

    Args:
        table: N rows with ``labels``.
        prompt_lengths: tokens of each row's prompt, [N].
        uids: of the rows, [N].

    Raises:
        BatchError: some prompt is in the loss.
    """
    rows = zip(_lists(table, "labels"), prompt_lengths, uids, strict=True)
    if bad := [uid for row, head, uid in rows if (row[:head] != IGNORED).any()]:
        raise BatchError(_name(bad), "prompt tokens without a label", "some in the loss")


def _lists(table: pa.Table, name: str) -> list[np.ndarray]:
    if not table.num_rows:
        return []
    column = table.column(name).combine_chunks()
    flat, offsets = column.flatten().to_numpy(), column.offsets.to_numpy()
    return np.split(flat, offsets[1:-1] - offsets[0])


def check_trainable(trainable: int, where: str) -> None:
    """Check that the adapter has weights to train.

    Raises:
        ModelError: it has none; the loss would stay where it is.
    """
    if trainable <= 0:
        hint = "name layers of this model with --lora.target_modules"
        raise ModelError(where, "an adapter with trainable parameters", "none", hint)


def check_loss(loss: float, grad_norm: float | None, step: int) -> None:
    """Check figures of a step: finite, and a loss that is not exactly 0.

    A loss of exactly 0 is what a NaN in half precision or a batch without labels looks like.

    Raises:
        BatchError: a figure is at fault.
    """
    where, hint = f"step {step}", "lower --optimisation.learning_rate"
    if not math.isfinite(loss) or loss == 0.0:
        hint += " or use --optimisation.precision float32"
        raise BatchError(where, "a finite training loss above 0", str(loss), hint)
    if grad_norm is not None and not math.isfinite(grad_norm):
        raise BatchError(where, "a finite gradient norm", str(grad_norm), hint)


def check_skipped(skipped: int, scale: float, step: int) -> None:
    """Check that a gradient scaler, which skips steps whose gradients overflow, comes to an end.

    Args:
        skipped: steps in a row up to this one.
        scale: of the loss; each skipped step halves it.
        step: number of this one.

    Raises:
        BatchError: too many were skipped: the gradients are not finite at any scale.
    """
    if skipped >= _MOST_SKIPPED:
        where, expected = f"step {step}", "gradients that a lower scale makes finite in fp16"
        reason = f"{skipped} steps skipped in a row, down to a scale of {scale:.1e}"
        hint = "lower --optimisation.learning_rate or use --optimisation.precision float32"
        raise BatchError(where, expected, reason, hint)


def check_taken(skipped: int, steps: int) -> None:
    """Check that a gradient scaler took one of a run's steps at least.

    Raises:
        BatchError: it skipped them all: nothing was learned.
    """
    if skipped and skipped >= steps:
        hint = "allow more --optimisation.max_steps, or use --optimisation.precision float32"
        raise BatchError("the run", "a step that fp16 can hold", f"all {steps} skipped", hint)


def check_moved(before: Sequence[float], after: Sequence[float], step: int) -> None:
    """Check that training moves the adapter, by a figure of each trainable tensor, [tensors].

    Raises:
        BatchError: not one tensor has moved: the optimizer holds other weights than the model,
            or the learning rate is too small for their precision.
    """
    if list(before) == list(after):
        where, expected = f"step {step}", "an adapter whose weights move"
        hint = "raise --optimisation.learning_rate, or try --backend transformers"
        raise BatchError(where, expected, "all of them where they began", hint)
