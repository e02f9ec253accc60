"""Which trial goes on: literal losses in, moves out."""

import math
import random

import pytest

from training.tune import halving
from training.tune.halving import Trial

STEPS = (10, 30, 90)


def trials(*losses: tuple[float, ...]) -> list[Trial]:
    return [Trial(number, {}, each, steps=STEPS) for number, each in enumerate(losses)]


@pytest.mark.parametrize(
    ("count", "places"),
    [(1, (1, 1, 1)), (2, (2, 2, 2)), (4, (4, 3, 3)), (15, (15, 5, 3)), (60, (60, 20, 7))],
)
def test_places(count: int, places: tuple[int, ...]) -> None:
    assert halving.places(count) == places


def test_cost_counts_every_part_of_a_run_once() -> None:
    assert halving.cost(1) == pytest.approx(2)
    assert halving.cost(15) == pytest.approx(15 / 9 + 5 * 2 / 9 + 3 * 2 / 3 + 3)


def test_all_come_to_the_first_rung_in_their_order() -> None:
    move = halving.next_move(trials((3.0,), (), ()))
    assert move
    assert (move[0].number, move[1]) == (1, 0)


def test_the_best_go_on_and_nothing_is_trained_twice() -> None:
    """Losses that only depend on the trial and the rung: the moves are those of the ranking."""
    goal = {number: 3.0 + 0.1 * number for number in range(9)}
    begun: list[list[float]] = [[] for _ in goal]
    moves = []
    while move := halving.next_move(trials(*map(tuple, begun))):
        trial, rung = move
        assert len(begun[trial.number]) == rung
        begun[trial.number].append(goal[trial.number] - 0.5 * rung)
        moves.append((trial.number, rung))
    assert moves == [*((n, 0) for n in range(9)), (0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (2, 2)]


def test_a_halted_trial_goes_on_where_a_preferred_one_diverges() -> None:
    begun = trials((3.0, 2.5), (3.1, 2.6), (3.2, 2.7), (3.3,), (3.4,))
    begun[1] = Trial(1, {}, (3.1, 2.6), fault="loss is not finite", steps=STEPS)
    move = halving.next_move(begun)
    assert move
    assert (move[0].number, move[1]) == (3, 1)


def test_a_halted_trial_goes_on_where_a_preferred_one_gets_worse_than_it() -> None:
    begun = trials((3.0, 2.5), (3.1, 3.35), (3.2, 2.7), (3.3,), (3.4,))
    move = halving.next_move(begun)
    assert move
    assert (move[0].number, move[1]) == (3, 1)


def test_equal_losses_go_by_number() -> None:
    move = halving.next_move(trials((3.0,), (3.0,), (3.0,), (3.0,)))
    assert move
    assert (move[0].number, move[1]) == (0, 1)


def test_trials_at_fault_are_not_wanted_again() -> None:
    assert halving.next_move([Trial(0, {}, fault="out of memory"), Trial(1, {}, fault="x")]) is None


def test_any_losses_end_the_search_with_finalists_at_their_end() -> None:
    draw = random.Random(7)  # noqa: S311
    for count in (1, 2, 3, 7, 15, 40):
        begun: list[Trial] = [Trial(number, {}, steps=STEPS) for number in range(count)]
        moves = 0
        while move := halving.next_move(begun):
            trial, rung = move
            assert rung == len(trial.losses)
            fault = "diverged" if draw.random() < 0.1 else ""
            losses = trial.losses if fault else (*trial.losses, draw.uniform(2, 4))
            begun[trial.number] = Trial(trial.number, {}, losses, fault, steps=STEPS)
            moves += 1
        assert moves <= 3 * count
        assert len(halving.finalists(begun)) <= 3
        ended = [trial for trial in begun if trial.is_finished]
        if ended:
            best = halving.finalists(begun)[0]
            assert best.losses[-1] == min(trial.losses[-1] for trial in ended)


def test_the_best_is_the_mean_of_two_seeds() -> None:
    first = Trial(0, {}, (3.0, 2.5, 2.0), repeated=2.4)
    second = Trial(1, {}, (3.0, 2.5, 2.1), repeated=2.1)
    assert halving.best([first, second]) is second
    assert math.isclose(first.loss, 2.2)


def test_without_an_end_the_best_is_the_one_that_led_farthest() -> None:
    assert halving.best(trials((3.0,), (3.1, 2.9), (3.2, 2.8))).number == 2  # type: ignore[union-attr]
    assert halving.best(trials((), ())) is None


def test_rungs_lie_behind_the_warm_up() -> None:
    assert halving.rung_steps(90, 0.03) == (10, 30, 90)
    assert halving.rung_steps(24, 5) == (10, 10, 24)
    assert halving.rung_steps(4, 5) == (4, 4, 4)


def test_second_seeds_keep_to_half_of_all_steps() -> None:
    halted = [Trial(number, {}, (4.0,), steps=STEPS) for number in range(3, 9)]
    ended = [Trial(number, {}, (3.0, 2.5, 2.0 + number / 10), steps=STEPS) for number in range(3)]
    every = [*ended, *halted]
    assert halving.steps_taken(every) == 3 * 90 + 6 * 10
    first = halving.next_repeat(every)
    assert first
    assert first.number == 0
    every[0] = Trial(0, {}, ended[0].losses, steps=STEPS, repeated=2.0)
    assert halving.next_repeat(every) is None  # 420 of 810 steps already
    assert halving.next_repeat(every[:8]).number == 1  # type: ignore[union-attr]


def test_a_recipe_that_diverges_with_a_second_seed_is_not_the_best() -> None:
    first = Trial(0, {}, (3.0, 2.5, 2.0), steps=STEPS, repeated=math.inf)
    second = Trial(1, {}, (3.0, 2.5, 2.1), steps=STEPS)
    assert halving.best([first, second]) is second
    assert halving.next_repeat([first, second]) is second


def test_a_second_seed_never_counts_against_those_without_one() -> None:
    """One lucky seed of another trial is no better than two."""
    first = Trial(0, {}, (3.0, 2.5, 1.000), steps=STEPS, repeated=1.020)
    second = Trial(1, {}, (3.0, 2.5, 1.008), steps=STEPS)
    assert halving.best([first, second]) is first


def test_where_all_second_seeds_diverge_the_first_ones_decide() -> None:
    first = Trial(0, {}, (3.0, 2.5, 1.3), steps=STEPS, repeated=math.inf)
    second = Trial(1, {}, (3.0, 2.5, 1.0), steps=STEPS, repeated=math.inf)
    assert halving.best([first, second]) is second
