"""Which checkpoints count, and which are kept."""

from pathlib import Path

import pytest

from training.loop import checkpoints


def make(folder: Path, step: int, marked: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    (path / "deep").mkdir(parents=True)
    (path / "weights").write_bytes(bytes([step]) * 100)
    (path / "deep" / "state").write_text(str(step))
    if marked:
        checkpoints.mark(path)
    return path


def test_newest_whole_one_counts(tmp_path: Path) -> None:
    make(tmp_path, 9)
    newest = make(tmp_path, 10)
    assert checkpoints.newest(tmp_path) == newest


def test_no_folder_and_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path / "none") is None
    (tmp_path / "runs").mkdir()
    (tmp_path / "checkpoint-x").mkdir()
    assert checkpoints.newest(tmp_path) is None


def flip(path: Path) -> None:
    content = bytearray((path / "weights").read_bytes())
    content[50] ^= 1
    (path / "weights").write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: (path / "complete.json").unlink(), "it was not finished"),
        (lambda path: (path / "complete.json").write_text("{"), "complete.json is damaged"),
        (lambda path: (path / "complete.json").write_text("[]"), "complete.json is damaged"),
        (lambda path: (path / "deep" / "state").unlink(), "deep/state is missing"),
        (lambda path: (path / "weights").write_bytes(b"half"), "weights is damaged"),
        (flip, "weights is damaged"),
    ],
)
def test_damaged_one_is_passed_over_named_and_removed(
    spoil, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, damaged = make(tmp_path, 2), make(tmp_path, 10)
    spoil(damaged)
    with caplog.at_level("WARNING", "catalogue"):
        assert checkpoints.newest(tmp_path) == whole
    assert caplog.messages == [f"checkpoint-10 is passed over: {told}"]
    assert not damaged.exists()


def test_all_damaged(tmp_path: Path) -> None:
    make(tmp_path, 2, marked=False)
    make(tmp_path, 4, marked=False)
    assert checkpoints.newest(tmp_path) is None


@pytest.mark.parametrize(
    ("ranking", "left"),
    [([], [8, 10]), ([2, 8], [2, 10]), ([10, 2], [8, 10]), ([4, 7, 2, 8], [2, 10])],
)
def test_rotation_keeps_the_best_that_is_finished_and_the_newest(
    ranking: list[int], left: list[int], tmp_path: Path
) -> None:
    for step in (2, 8, 10, 4):
        make(tmp_path, step, marked=step != 4)
    checkpoints.rotate(tmp_path, 2, ranking)
    assert sorted(checkpoints.step_of(path) for path in tmp_path.iterdir()) == left


def test_best_whole_one_is_chosen_and_damaged_ones_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (2, 8, 10, 4):
        make(tmp_path, step, marked=step != 4)
    flip(tmp_path / "checkpoint-8")
    with caplog.at_level("WARNING", "catalogue"):
        assert checkpoints.choose(tmp_path, [4, 6, 8, 2, 12], 12) == 2
    assert caplog.messages == [
        "checkpoint-4 is passed over: it was not finished",
        "checkpoint-8 is passed over: weights is damaged",
    ]
    # The last weights need no checkpoint, and are taken where nothing else is left.
    assert checkpoints.choose(tmp_path, [4, 12, 2], 12) == 12
    assert checkpoints.choose(tmp_path, [4, 8], 12) == 12
