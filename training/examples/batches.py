"""Which rows stand in which batch, and how they become tensors.

The order depends on seed and epoch alone, never on a global random state, so a resumed run goes
on with the rows that the interrupted one would have taken. Knows nothing of models.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Sampler

from training.guards import IGNORED

# A rounded width is a multiple of so many tokens, and of such a part of the next power of two.
_LEAST_STEP, _PART = 4, 64
# Rows are sorted by length within chunks of so many batches: long enough that a batch holds rows
# of one length, short enough that every epoch mixes anew.
_BATCHES_SORTED_TOGETHER = 50
_EPOCHS_A_SEED = 1_000_003


class KeyedOrder(Sampler[int]):  # type: ignore[misc]
    """The places of the rows in one epoch's order, keyed by (seed, epoch).

    Args:
        lengths: tokens of each row, [rows].
        batch: rows an optimizer step; rows of like length are grouped within one.
        seed: of the run.
        order: ``random``, or ``by_length`` for groups of like length in random succession.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch: int,
        seed: int,
        order: Literal["random", "by_length"],
    ) -> None:
        self._lengths = torch.as_tensor(np.array(lengths))
        self._batch = batch
        self._seed = seed
        self._order = order
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the Trainer calls this, after a resume too."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * _EPOCHS_A_SEED + self._epoch)
        order = torch.randperm(len(self), generator=generator)
        if self._order == "by_length":
            order = self._group(order, generator)
        yield from order.tolist()

    def _group(self, order: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        chunks = order.split(self._batch * _BATCHES_SORTED_TOGETHER)
        order = torch.cat([chunk[self._descending(chunk)] for chunk in chunks])
        full = len(self) // self._batch * self._batch
        batches = order[:full].view(-1, self._batch)
        batches = batches[torch.randperm(len(batches), generator=generator)]
        return torch.cat([batches.flatten(), order[full:]])

    def _descending(self, rows: torch.Tensor) -> torch.Tensor:
        return self._lengths[rows].argsort(descending=True, stable=True)


@dataclass(frozen=True)
class Collator:
    """Pads rows on the right to the longest of them."""

    pad: int
    """Id of the padding token; it is neither attended to nor learned."""
    widest: int | None = None
    """Of the widths that are ``rounded`` up, in tokens; None: as wide as its longest row."""

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Pad rows to ``input_ids``, ``labels`` and ``attention_mask``, int64 [rows, longest]."""
        width = max(len(row["input_ids"]) for row in rows)
        width = int(rounded(width, self.widest)) if self.widest else width
        ids = np.full((len(rows), width), self.pad, np.int64)
        labels = np.full((len(rows), width), IGNORED, np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        for place, row in enumerate(rows):
            length = len(row["input_ids"])
            ids[place, :length] = row["input_ids"]
            labels[place, :length] = row["labels"]
            mask[place, :length] = 1
        arrays = {"input_ids": ids, "labels": labels, "attention_mask": mask}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def rounded(lengths: Any, widest: int) -> Any:
    """Round lengths, int or NumPy array, up to widths that come again, up to ``widest``.

    CUDA graphs are recorded of shapes, and cuDNN has plans for them. Up to 256 tokens they are
    multiples of 4, up to 512 of 8 and so on: 2 % of padding, and 128 widths up to 1,024.
    """
    step = np.maximum(_LEAST_STEP, 2 ** np.frexp(np.subtract(lengths, 1))[1] // _PART)
    return np.minimum(-(-lengths // step) * step, widest)


def pieces(
    batch: dict[str, torch.Tensor], max_tokens: int | None, widest: int | None = None
) -> list[dict[str, torch.Tensor]]:
    """Part a micro-batch of more than ``max_tokens``, so that a few long rows take no more memory.

    Args:
        batch: ``input_ids``, ``labels`` and ``attention_mask``, [rows, longest].
        max_tokens: of a piece, its rows times its width; None: any number.
        widest: of the widths where they are ``rounded``, as that of the batch is.

    Returns:
        The batch as it is where it is small enough; else its rows, longest first, in pieces of two
        rows at least that are padded to their own longest rows: a row alone would be compiled for
        as a shape of its own.
    """
    mask = batch["attention_mask"]
    if max_tokens is None or mask.numel() <= max_tokens:
        return [batch]
    lengths, order = mask.sum(1).sort(descending=True, stable=True)
    widths = lengths.tolist()
    if widest:
        widths = rounded(np.array(widths), widest).tolist()
    return [
        {name: rows[order[first:last], : widths[first]] for name, rows in batch.items()}
        for first, last in cuts(widths, max_tokens)
    ]


def cuts(widths: Sequence[int], max_tokens: int) -> list[tuple[int, int]]:
    """List where ``pieces`` parts rows of these widths, longest first: first row, end."""
    if not widths or len(widths) * widths[0] <= max_tokens:
        return [(0, len(widths))]
    starts, start = [], 0
    while start < len(widths):
        starts.append(start)
        start += max(2, max_tokens // widths[start])
    if starts[-1] == len(widths) - 1 > 2:
        starts[-1] -= 1
    return list(zip(starts, [*starts[1:], len(widths)], strict=True))


def shared_beginning(rows: Any) -> int:
    """Count the tokens that all rows of a dataset begin with, short of the whole shortest row."""
    shared: np.ndarray | None = None
    for table in rows.select_columns("input_ids").with_format("arrow").iter(10_000):
        ids = table["input_ids"].combine_chunks()
        starts, lengths = ids.offsets.to_numpy()[:-1], ids.value_lengths().to_numpy()
        tokens = ids.values.to_numpy()
        if shared is None:
            shared = tokens[starts[0] : starts[0] + lengths[0]]
        shared = shared[: max(0, lengths.min() - 1)]
        alike = (tokens[starts[:, None] + np.arange(len(shared))] == shared).all(0)
        shared = shared[: len(alike) if alike.all() else int(alike.argmin())]
        if not len(shared):
            break
    return 0 if shared is None else len(shared)
