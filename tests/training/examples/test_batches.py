import numpy as np
import pytest
import torch
from datasets import Dataset

from training.examples.batches import Collator, KeyedOrder, pieces, rounded, shared_beginning
from training.guards import IGNORED

LENGTHS = np.random.default_rng(1).integers(5, 400, 1_003)


@pytest.mark.parametrize("order", ["random", "by_length"])
def test_every_row_comes_once_an_epoch(order: str) -> None:
    places = list(KeyedOrder(LENGTHS, 8, 3407, order))
    assert sorted(places) == list(range(len(LENGTHS)))


@pytest.mark.parametrize("order", ["random", "by_length"])
def test_order_depends_on_seed_and_epoch_alone(order: str) -> None:
    first = KeyedOrder(LENGTHS, 8, 3407, order)
    again = KeyedOrder(LENGTHS, 8, 3407, order)
    torch.manual_seed(99)
    epoch_0 = list(first)
    first.set_epoch(1)
    again.set_epoch(1)
    torch.rand(3)
    assert list(first) == list(again) != epoch_0
    again.set_epoch(0)
    assert list(again) == epoch_0
    assert list(KeyedOrder(LENGTHS, 8, 3408, order)) != epoch_0


def test_by_length_leaves_little_padding() -> None:
    def padding(order: str) -> float:
        places = np.array(list(KeyedOrder(LENGTHS, 8, 3407, order)))[:1_000]
        batches = LENGTHS[places].reshape(-1, 8)
        return 1 - batches.sum() / (batches.max(1) * 8).sum()

    assert padding("by_length") < 0.05 < 0.3 < padding("random")


def test_fewer_rows_than_a_batch() -> None:
    assert sorted(KeyedOrder([3, 1, 2], 8, 3407, "by_length")) == [0, 1, 2]


def test_collator_pads_on_the_right() -> None:
    rows = [
        {"input_ids": np.array([5, 6, 2], np.int32), "labels": np.array([IGNORED, 6, 2], np.int32)},
        {"input_ids": [5], "labels": [5]},
    ]
    batch = Collator(pad=9)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 2], [5, 9, 9]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 2], [5, IGNORED, IGNORED]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


@pytest.mark.parametrize("max_tokens", [1, 400, 900, 5_000])
def test_pieces_hold_every_row_once_within_the_limit(max_tokens: int) -> None:
    lengths = LENGTHS[:32]
    rows = [{"input_ids": np.full(n, i), "labels": np.full(n, i)} for i, n in enumerate(lengths)]
    batch = Collator(pad=99)(rows)
    parts = pieces(batch, max_tokens)
    found = []
    for part in parts:
        ids, mask = part["input_ids"], part["attention_mask"]
        assert ids.numel() <= max_tokens or len(ids) == 2
        assert len(ids) >= 2
        # Padded to its own longest row, and no token is lost.
        assert mask.sum(1).max() == ids.shape[1]
        for row, label, kept in zip(ids, part["labels"], mask, strict=True):
            place = int(row[0])
            found.append(place)
            assert int(kept.sum()) == lengths[place]
            assert (row[kept == 1] == place).all()
            assert (label[kept == 0] == IGNORED).all()
    assert sorted(found) == list(range(32))
    assert (len(parts) == 1) == (max_tokens >= 32 * lengths.max())


def test_pieces_are_as_wide_as_whole_micro_batches_are() -> None:
    rows = [{"input_ids": np.full(n, 7), "labels": np.full(n, 7)} for n in (30, 5, 9, 17)]
    parts = pieces(Collator(pad=9, widest=40)(rows), 64, widest=40)
    assert [tuple(part["input_ids"].shape) for part in parts] == [(2, 32), (2, 12)]
    # Never longer than a row may be.
    assert Collator(pad=9, widest=31)(rows)["input_ids"].shape == (4, 31)
    (part, _) = pieces(Collator(pad=9, widest=31)(rows), 62, widest=31)
    assert part["input_ids"].shape == (2, 31)


def test_rounded_widths_come_again() -> None:
    lengths = np.arange(1, 4_097)
    widths = rounded(lengths, 4_096)
    assert [rounded(n, 1_024) for n in (1, 4, 5, 256, 257, 512, 513, 1_024)] == [
        4, 4, 8, 256, 264, 512, 528, 1_024,
    ]  # fmt: skip
    assert [rounded(int(n), 4_096) for n in lengths] == widths.tolist()
    assert (widths >= lengths).all()
    assert (widths - lengths < np.maximum(4, lengths / 32)).all()
    assert (rounded(widths, 4_096) == widths).all()
    assert (rounded(lengths, 600) == np.minimum(widths, 600)).all()
    assert len(set(widths[:1_024])) == 128


def test_small_micro_batch_stays_as_it_is() -> None:
    batch = Collator(pad=9)([{"input_ids": [5, 6], "labels": [5, 6]}])
    for limit in (None, 2):
        (same,) = pieces(batch, limit)
        assert same is batch


@pytest.mark.parametrize(
    ("rows", "shared"),
    [
        ([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 6, 7]], 3),
        ([[1, 2], [1, 2, 3]], 1),  # never the whole of a row
        ([[1, 2, 3]], 2),
        ([[1, 2, 3], [4, 2, 3]], 0),
        ([[5], [5, 6]], 0),
        ([[1, 2, 3], [], [1, 2, 3]], 0),
        ([[1, 2, 3], [1, 2, 3], []], 0),
        ([[1, 2, 3, 4]] * 9_999 + [[1, 2, 3, 4], [1, 2, 9, 4]], 2),
    ],
)
def test_what_all_rows_begin_with_is_counted(rows: list[list[int]], shared: int) -> None:
    dataset = Dataset.from_dict({"input_ids": rows})
    assert shared_beginning(dataset) == shared
    # Rows that are chosen of others lie elsewhere in the same table.
    if len(rows) < 9:
        more = Dataset.from_dict({"input_ids": [[9], *rows]})
        assert shared_beginning(more.select(range(1, len(rows) + 1))) == shared
