"""The lines that a curve ends with: what it tells, and how little where it tells little."""

from typing import Any

import pytest

from data import console
from training.curve import summary


def values(**changes: Any) -> dict[str, Any]:
    sizes = [{"rows": rows, "seeds": 1, "loss": 3.0, "low": 2.9, "high": 3.1, "seconds": 12.34}
             for rows in (500, 1_000, 4_000)]  # fmt: skip
    return {
        "sizes": sizes,
        "left_out": [],
        "fall": {"value": 0.5, "low": 0.4, "high": 0.6},
        "foretold": {"rows": 40_000, "loss": 3.21, "low": 3.15, "high": 3.3, "seconds": 7_800.0},
        "little_gain": {"rows": 200_000, "low": 90_000, "high": None},
    } | changes


SHOULD = "40,000 rows should reach 3.210 (3.150 to 3.300) in 2 h 10"


def test_a_curve_says_loss_time_and_where_it_flattens() -> None:
    assert summary.lines(values()) == [
        f"{SHOULD}; beyond 200,000 rows (90,000 to over 400,000) twice as many gain under 1 %"
    ]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (None, "up to 400,000 rows twice as many gain 1 % or more"),
        (400, "at all these sizes twice as many gain under 1 %"),
    ],
)
def test_where_it_flattens_may_lie_outside(rows: int | None, said: str) -> None:
    little = {"rows": rows, "low": 100, "high": None}
    assert summary.lines(values(little_gain=little)) == [f"{SHOULD}; {said}"]


def test_an_interval_wider_than_all_that_was_seen_is_not_to_decide_by() -> None:
    (line,) = summary.lines(values(fall={"value": 0.1, "low": 0.05, "high": 0.15}))
    assert line == f"{SHOULD}: too wide to decide by, so add larger sizes or seeds"


@pytest.mark.parametrize(
    ("fall", "said"),
    [
        ((0.01, -0.02, 0.04), "the loss falls by 0.010, which runs and rows differ by as well"),
        ((-0.01, -0.04, 0.02), "the loss rises by 0.010, which runs and rows differ by as well"),
        ((-0.1, -0.2, -0.05), "the loss rises by 0.100: more rows make this recipe worse"),
    ],
)
def test_a_flat_or_rising_curve_is_called_that(fall: tuple[float, ...], said: str) -> None:
    own = dict(zip(("value", "low", "high"), fall, strict=True))
    first, second = summary.lines(values(fall=own))
    assert first == f"from 500 to 4,000 rows {said}: no curve to go by"
    assert second.endswith("too wide to decide by, so add larger sizes or seeds")


def test_too_few_sizes_have_no_curve_and_the_others_are_named() -> None:
    left = [{"rows": 4_000, "seed": 7, "why": "step 3: it diverged"}]
    two = values(sizes=values()["sizes"][:2], left_out=left, foretold=None, little_gain=None)
    assert summary.lines(two) == [
        "left out: 4,000 rows with seed 7: step 3: it diverged",
        "no curve can be fitted: 2 sizes are left, and it takes 3",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(7.4, "7 s"), (89, "89 s"), (90, "2 min"), (5_400, "1 h 30"), (7_800, "2 h 10")],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    assert console.duration(seconds) == said


def test_the_table_has_quality_where_it_was_measured() -> None:
    assert "ROUGE-L" not in summary.table(values())
    with_quality = values()
    score = {"value": 15.84, "low": 14.0, "high": 17.0}
    with_quality["sizes"][0]["quality"] = {"rougeL": score, "ended": score | {"low": None}}
    lines = summary.table(with_quality).splitlines()
    assert lines[0].split()[:3] == ["rows", "seeds", "loss"]
    assert lines[2].split()[-6:] == ["12.3", "15.8", "(14.0", "to", "17.0)", "–", "15.8"][-6:]
    assert [line.count("–") for line in lines[2:]] == [1, 3, 3]
