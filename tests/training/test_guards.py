"""Each guard is fed the real defect."""

import pickle

import pyarrow as pa
import pytest

from data.errors import BatchError, ModelError
from training import guards
from training.examples.encoder import TOKENISED
from training.guards import IGNORED

EOS = 2
UIDS = ["a", "b"]


def table(*rows: tuple[list[int], list[int]]) -> pa.Table:
    ids, labels = zip(*rows, strict=True)
    return pa.table([list(ids), list(labels), [len(i) for i in ids]], schema=TOKENISED)


GOOD = ([5, 6, 7, EOS], [IGNORED, IGNORED, 7, EOS])


def test_good_rows_pass() -> None:
    cut = ([5, 6, 7, 8, 9, 9], [IGNORED, IGNORED, 7, 8, 9, 9])
    guards.check_rows(table(GOOD, cut), UIDS, EOS, max_length=6)
    guards.check_prompt_unlearned(table(GOOD, cut), [2, 2], UIDS)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (([5, 6, EOS], [IGNORED] * 3), "a label for some token"),
        (([5, 6, EOS], [IGNORED, 7, EOS]), "its own token"),
        (([5, 6, EOS], [IGNORED, EOS]), "its own token"),
        (([5, 6, 7], [IGNORED, 6, 7]), "end-of-sequence"),
        (([5, 6, EOS], [IGNORED, 6, IGNORED]), "end-of-sequence"),
    ],
)
def test_broken_row_is_named(row: tuple[list[int], list[int]], told: str) -> None:
    with pytest.raises(BatchError, match=told) as error:
        guards.check_rows(table(GOOD, row), UIDS, EOS, max_length=6)
    assert error.value.args[0] == "rows b"


def test_prompt_in_the_loss_is_refused() -> None:
    leaking = ([5, 6, 7, EOS], [IGNORED, 6, 7, EOS])
    with pytest.raises(BatchError, match="rows a"):
        guards.check_prompt_unlearned(table(leaking, GOOD), [2, 2], UIDS)


def test_share_of_cut_rows() -> None:
    guards.check_truncated(1, 0, 100, ["a"], 0.01)
    guards.check_truncated(0, 1, 100, ["a"], 0.01)
    guards.check_truncated(0, 0, 0, [], 0.0)
    with pytest.raises(BatchError, match=r"2 of 100 \(2.0%\);") as error:
        guards.check_truncated(2, 0, 100, UIDS, 0.01)
    assert error.value.args[0] == "rows a, b"
    with pytest.raises(BatchError, match=r"2 of 100 \(2.0%\), 1 of them without room"):
        guards.check_truncated(1, 1, 100, UIDS, 0.01)


def test_only_the_first_rows_are_named() -> None:
    with pytest.raises(BatchError) as error:
        guards.check_truncated(5, 0, 5, ["a", "b", "c", "d", "e"], 0.5)
    assert error.value.args[0] == "rows a, b, c and 2 more"


def test_adapter_without_trainable_parameters_is_refused() -> None:
    guards.check_trainable(1, "base")
    with pytest.raises(ModelError, match="trainable"):
        guards.check_trainable(0, "base")


@pytest.mark.parametrize(
    ("loss", "norm"),
    [
        (float("nan"), 1.0), (float("inf"), 1.0), (0.0, 1.0),
        (1.0, float("nan")), (1.0, float("inf")),
    ],
)  # fmt: skip
def test_figures_at_fault_stop_the_run(loss: float, norm: float) -> None:
    with pytest.raises(BatchError, match="step 7") as error:
        guards.check_loss(loss, norm, 7)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_sound_figures_pass() -> None:
    guards.check_loss(1e-9, 0.0, 1)
    guards.check_loss(3.5, None, 1)
