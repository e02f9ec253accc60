"""Win rates, position bias, agreement and damage, on literal judgements."""

import pytest

from inference.evaluate.judging import pairs
from inference.evaluate.judging.pairs import Pair, Vote


def test_a_win_rate_counts_ties_half() -> None:
    won = pairs.win_rate([1, 1, 0.5, 0])
    assert (won["win_rate"], won["won"], won["lost"], won["pairs"]) == (0.625, 2, 1, 4)
    assert 0 < won["low"] < 0.625 < won["high"] < 1


def test_without_pairs_there_is_no_win_rate() -> None:
    assert pairs.win_rate([])["win_rate"] is None
    assert pairs.both_orders([])["position_bias"] is None
    assert pairs.of_votes([])["chance"] is None


def test_who_always_takes_the_left_is_biased_and_tells_nothing() -> None:
    summed = pairs.both_orders([("left", "left")] * 40)
    assert (summed["win_rate"], summed["position_bias"]) == (0.5, 1)
    assert (summed["left"], summed["right"]) == (40, 0)
    assert summed["low"] < 0.4
    assert summed["high"] > 0.6


def test_the_same_text_twice_wins() -> None:
    summed = pairs.both_orders([("left", "right"), ("right", "left"), ("left", "neither")])
    assert summed["win_rate"] == pytest.approx((1 + 0 + 0.75) / 3)
    assert summed["position_bias"] == 0


def test_people_agree_with_each_other_and_with_themselves() -> None:
    votes = [
        Vote("p", 1, "ana"), Vote("p", 0, "bo"), Vote("p", 1, "cy"),
        Vote("q", 1, "ana"), Vote("q", 1, "ana"),
    ]  # fmt: skip
    summed = pairs.of_votes(votes)
    assert summed["between"] == {"same": 1, "of": 3}
    assert summed["within"] == {"same": 1, "of": 1}
    assert (summed["people"], summed["votes"], summed["pairs"]) == (3, 5, 2)
    # A pair counts once: two thirds of p, and all of q.
    assert summed["win_rate"] == pytest.approx((2 / 3 + 1) / 2)
    assert summed["chance"] == pytest.approx(0.8**2 + 0.2**2)


def test_a_key_tells_where_one_part_ends() -> None:
    keys = {Pair("a", "b", "c").key, Pair("ab", "", "c").key, Pair("a", "c", "b").key}
    assert len(keys) == 3
    assert Pair("a", "b", "c").key == Pair("a", "b", "c").key


def test_damage_is_the_same_each_time_and_always_damages() -> None:
    text = "A sturdy kettle of brushed steel that boils two litres in a few minutes."
    assert pairs.damage(text, "u1") == pairs.damage(text, "u1") != text
    assert pairs.damage(text, "u1") != pairs.damage(text, "u2")
    assert pairs.damage("kettle", "u1") != "kettle"
