"""How far a candidate is looked at, by its steps' seconds alone."""

import itertools
import math

import pytest

from training.plan.pace import Pace


def walk(pace: Pace, *seconds: float) -> tuple[int, str]:
    """Give the number of steps taken of those offered, and the last verdict."""
    for place, step in enumerate(itertools.chain(seconds, itertools.repeat(seconds[-1]))):
        if (verdict := pace.after(step)) != "go on":
            return place + 1, verdict
    raise AssertionError


@pytest.mark.parametrize(
    ("step", "steps"),
    [
        (0.3, 3 + 2 * 6),  # both passes take 3.6 s
        (1.0, 3 + 2 * 6),
        (1.1, 3 + 6),
        (2.5, 3 + 3),
        (60.0, 3 + 3),
    ],
)
def test_slow_steps_are_looked_at_fewer_times(step: float, steps: int) -> None:
    assert walk(Pace(6), step) == (steps, "enough")


@pytest.mark.parametrize(
    ("rival", "steps", "verdict"),
    [(math.inf, 6, "enough"), (2.1, 6, "enough"), (2.0, 2, "behind"), (0.1, 2, "behind")],
)
def test_what_is_behind_is_left_after_the_batch_of_middling_length(
    rival: float, steps: int, verdict: str
) -> None:
    assert walk(Pace(6, rival), 9.0, 2.45) == (steps, verdict)


def test_glances_once_all_is_recorded() -> None:
    pace = Pace(6, rival=1.0, first=5)
    assert walk(pace, 9.0, 4.0, 3.0, 2.0) == (4, "behind")
    assert pace.glance == 2.0


def test_of_quick_steps_the_second_pass_counts_by_its_mean() -> None:
    pace = Pace(2)
    walk(pace, 9.0, 0.5, 3.0, 1.0, 1.0, 0.4, 0.6)
    assert [pace.seconds[place] for place in pace.counted] == [0.4, 0.6]
    assert pace.mean([100, 100, 900, 80, 120, 80, 120], 150.0) == pytest.approx(0.75)


def test_of_slow_steps_one_that_compiled_does_not_count() -> None:
    pace = Pace(6)
    walk(pace, 9.0, 3.0, 8.0, 2.4, 5.0, 3.6)
    assert [pace.seconds[place] for place in pace.counted] == [2.4, 5.0, 3.6]
    assert pace.mean([100, 100, 300, 80, 100, 120], 110.0) == pytest.approx(3.3)


def test_of_what_was_left_its_glance_counts() -> None:
    pace = Pace(6, 1.0)
    walk(pace, 9.0, 3.0)
    assert pace.mean([100, 100, 300], 50.0) == pytest.approx(1.5)
