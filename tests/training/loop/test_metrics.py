"""Figures are read whole, and the picture holds them: looked up in the axes that were drawn."""

from pathlib import Path
from typing import Any

import pytest

from training.loop import metrics
from training.loop.metrics import Line

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


def lines(steps: int, start: float = 4.0) -> list[Line]:
    result: list[Line] = []
    for step in range(1, steps + 1):
        rate = 0.1 * (1 - step / steps)
        result.append(
            {"step": step, "loss": start / step, "learning_rate": rate, "seconds": 2.0 * step}
        )
        if step % 2 == 0:
            result.append(
                {"step": step, "validation_loss": start / step + 0.5, "seconds": 2.0 * step}
            )
    return result


PLAN = {"predicted_seconds": 21.0, "low": 20.0, "high": 22.0}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of the pictures, before they are closed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    seen: list[Any] = []
    monkeypatch.setattr(pyplot, "close", lambda figure: seen.append(figure.axes))
    return seen


def test_losses_rate_and_validation(tmp_path: Path, drawn: list[Any]) -> None:
    metrics.draw(lines(10), tmp_path / "loss.png", "title")
    losses, rates = drawn[0]
    trained, validation = losses.get_lines()
    assert trained.get_ydata().tolist() == pytest.approx([4.0 / s for s in range(1, 11)])
    assert validation.get_xdata() == pytest.approx([2, 4, 6, 8, 10])
    assert [text.get_text() for text in losses.texts] == ["best 0.900"]
    assert rates.get_lines()[0].get_ydata()[0] == pytest.approx(0.09)
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_prediction_has_its_line_beside_the_time_taken(tmp_path: Path, drawn: list[Any]) -> None:
    metrics.draw(lines(10), tmp_path / "loss.png", "title", PLAN)
    predicted, taken = drawn[0][2].get_lines()
    assert list(predicted.get_ydata()) == [0, 21.0]
    assert taken.get_ydata()[-1] == 20.0


def test_second_cycle_follows_the_first(tmp_path: Path, drawn: list[Any]) -> None:
    metrics.draw(lines(6, 1.0), tmp_path / "loss.png", "title", PLAN, [lines(10)])
    losses, _, time = drawn[0]
    assert {text.get_text() for text in losses.texts} == {"cycle 1", "cycle 2", "best 0.667"}
    trained = [line for line in losses.get_lines() if len(line.get_xdata()) in (6, 10)]
    assert [line.get_xdata()[0] for line in trained] == [1, 11]
    assert list(time.get_lines()[0].get_xdata()) == [10, 16]


@pytest.mark.parametrize("some", [lines(1), lines(300)])
def test_any_number_of_steps(tmp_path: Path, some: list[Line]) -> None:
    metrics.draw(some, tmp_path / "loss.png", "title")
    assert (tmp_path / "loss.png").stat().st_size > 10_000
