"""The picture holds the figures: looked up in the axes that were drawn."""

from pathlib import Path
from typing import Any

import pytest

from training.loop import metrics
from training.loop.metrics import Line


def lines(steps: int, start: float = 4.0) -> list[Line]:
    made: list[Line] = []
    for step in range(1, steps + 1):
        rate = 0.1 * (1 - step / steps)
        made.append(
            {"step": step, "loss": start / step, "learning_rate": rate, "seconds": 2.0 * step}
        )
        if step % 2 == 0:
            made.append(
                {"step": step, "validation_loss": start / step + 0.5, "seconds": 2.0 * step}
            )
    return made


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
