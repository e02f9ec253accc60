from pathlib import Path

import pytest

from training.loop import metrics

LINES = [
    {"step": 1, "loss": 4.0, "learning_rate": 0.1, "tokens": 10},
    {"step": 2, "loss": 3.0, "learning_rate": 0.05, "tokens": 20},
    {"step": 2, "validation_loss": 3.5},
    {"step": 3, "loss": 2.0, "learning_rate": 0.0, "tokens": 30},
    {"step": 3, "validation_loss": 3.6},
]


def test_a_half_written_line_ends_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for line in LINES:
        metrics.append(path, line)
    assert metrics.read(path) == LINES
    path.write_text(path.read_text()[:-5])
    assert metrics.read(path) == LINES[:-1]


def test_lines_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for line in LINES:
        metrics.append(path, line)
    assert metrics.trim(path, 2) == LINES[:3]
    assert metrics.read(path) == LINES[:3]
    assert metrics.trim(path, 0) == []
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_no_file_has_no_lines(tmp_path: Path) -> None:
    assert metrics.trim(tmp_path / "metrics.jsonl", 0) == []


def test_final_loss_is_the_mean_of_the_last_tenth() -> None:
    assert metrics.final_loss(LINES) == 2.0
    many = [{"step": i, "loss": float(i)} for i in range(1, 101)]
    assert metrics.final_loss(many) == pytest.approx(95.5)


def test_best_validation() -> None:
    assert metrics.best_validation(LINES) == (2, 3.5)
    assert metrics.best_validation(LINES[:2]) is None
    nan = {"step": 4, "validation_loss": float("nan")}
    assert metrics.best_validation([nan, *LINES]) == (2, 3.5)
    assert metrics.best_validation([nan]) is None
