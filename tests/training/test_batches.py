import numpy as np
import pytest
import torch

from training.batches import Collator, KeyedOrder
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
