"""The search for the fastest candidate that fits, on machines with simple laws."""

import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.training.plan.test_plan import GIB, TINYLLAMA
from training.plan import candidates
from training.plan.candidates import Candidate, Measured, Speed
from training.plan.pace import Pace
from training.plan.search import Search, together
from training.plan.worker import Worker

ROWS = 128
SPREAD = (0.55, 0.75, 0.95, 1.1, 1.3, 1.6)
"""Tokens of batches of all lengths, in those of an average one."""


@dataclass
class Card:
    """A card whose memory and speed follow simple laws, measured at the worker's own pace."""

    tflops: float
    """Of matrix products; a step reaches a share of them."""
    launch: float
    """Seconds to launch the kernels of a micro-batch once forward and backward."""
    recorded: float | None = None
    """Likewise where no layer is recomputed, and all are recorded; None: as much."""
    gib_a_row: float = 0.0195
    """Of a layer that keeps its activations."""
    limit: float = 11.65
    row_tokens: float = 193.0
    """Of a micro-batch of 4 rows; each twice as large one is padded by 1 % more."""
    park: float = 0.0
    """Share that a step takes longer where activations go to the host's memory."""
    reached: float = 0.82
    start: float = 40.0
    """Seconds until a process has loaded its model."""
    compiling: float = 12.0
    now: float = 0.0
    process: object = None
    asked: list[Candidate] = field(default_factory=list)

    def padded(self, rows: int) -> float:
        """Tokens of a row, so many at a time."""
        return self.row_tokens * (1 + 0.01 * math.log2(rows / 4))

    def step(self, candidate: Candidate) -> float:
        """Seconds of an average step."""
        kept, rows = candidate.kept(22), candidate.micro_batch
        is_recorded = candidate.checkpointing == "none" and self.recorded is not None
        launch = self.recorded if is_recorded else self.launch
        # As on the stand-in: recomputing all costs a third more.
        passes = 1 + (1 - kept / 22) / 3
        flop = 4.3e9 * self.padded(rows) * rows
        a_micro = max(launch or 0.0, flop / (self.tflops * 1e12 * self.reached)) * passes
        parked = 1 + self.park if candidate.checkpointing == "unsloth" else 1
        return 0.02 + candidate.accumulation * a_micro * parked

    def peak(self, candidate: Candidate) -> float:
        rows, parks = candidate.micro_batch, candidate.checkpointing == "unsloth"
        a_row = 0.0 if parks else (22 - candidate.kept(22)) * 0.0009
        return 2.3 + rows * (a_row + 0.008 + candidate.at_once(22) * self.gib_a_row)

    def __call__(self, candidate: Candidate, rival: float = math.inf) -> Measured:
        self.asked.append(candidate)
        began, compiling = self.now, 0.5
        if self.process != candidate.family:
            self.now += self.start
            self.process, compiling = candidate.family, self.compiling
        peak, step = self.peak(candidate), self.step(candidate)
        if peak > self.limit:
            self.process = None
            self.now += step
            return Measured(candidate, fault="out of memory")
        pace = Pace(len(SPREAD), rival)
        shares = [1.0, 1.0, 1.3, *SPREAD, *SPREAD]
        for place, share in enumerate(shares):
            seconds = step * share + (compiling if place == 0 else 0)
            self.now += seconds
            verdict = pace.after(seconds)
            if verdict != "go on":
                break
        tokens = [int(10_000 * share) for share in shares]
        mean = pace.mean(tokens, 10_000)
        return Measured(
            candidate, peak_bytes=int(peak * GIB), samples_per_second=ROWS / mean,
            step_seconds=tuple(pace.seconds[place] for place in pace.counted),
            step_tokens=tuple(tokens[place] for place in pace.counted),
            glance_seconds=pace.glance, is_left=verdict == "behind",
            cold_seconds=compiling, measuring_seconds=self.now - began,
        )  # fmt: skip


def search(card: Card, rows: int = ROWS, unsloth: bool = True) -> Search:
    grid = candidates.candidates(rows, 22, unsloth)
    tokens = {size: card.padded(size) for size in candidates.micro_batches(rows)}
    result = Search(
        grid, TINYLLAMA, int(card.limit * GIB), 2, Speed(card.tflops * 1e12, tokens), card,
        lambda: card.now,
    )  # fmt: skip
    result.run()
    return result


CARDS = {
    "the stand-in": Card(55, 0.06),
    "a 3060": Card(25.5, 0.06, park=0.02),
    "a T4, 14.5 GiB": Card(50, 0.08, limit=14.5),
    "long rows": Card(55, 0.06, row_tokens=700, gib_a_row=0.07),
    "little memory a row": Card(55, 0.06, gib_a_row=0.005),
    "a slow host": Card(55, 0.25),
    "a large card, 11.65 GiB": Card(760, 0.1),
    "a large card, a quick host": Card(760, 0.03),
    "a large card, all of its memory": Card(760, 0.1, limit=78.0),
    "a large card, a slow host, layers recorded": Card(
        760, 0.2, recorded=0.02, start=50.0, compiling=25.0, reached=0.6
    ),
    "a small base, layers recorded": Card(
        5000, 0.2, recorded=0.02, gib_a_row=0.004, start=50.0, compiling=25.0
    ),
}


@pytest.mark.parametrize("name", CARDS)
def test_choice_is_near_the_best_of_all_and_soon_there(name: str) -> None:
    card = replace(CARDS[name], asked=[])
    found = search(card)
    chosen = found.best()
    assert chosen
    fitting = [c for c in found.grid if card.peak(c) <= 0.9 * card.limit]
    best = min(map(card.step, fitting))
    own = card.step(chosen.candidate)
    assert own <= 1.05 * best
    assert chosen.mean_step == pytest.approx(own, rel=0.1)
    assert card.now + card.start <= 240
    assert card.peak(chosen.candidate) <= 0.9 * card.limit
    # Of every one at most twice.
    assert len(card.asked) < 12


def test_choice_on_cards_of_all_kinds() -> None:
    """Of the model that the formula of memory was set against; by 2,000 such, 2 are over 5 %."""
    draw, ratios = np.random.default_rng(0), []
    for _ in range(300):
        launch = 10 ** draw.uniform(-1.7, -0.6)
        card = Card(
            10 ** draw.uniform(1.2, 3), launch, launch * draw.uniform(0.05, 0.6),
            gib_a_row=0.0195 * 10 ** draw.uniform(-0.11, 0.11),
            limit=float(draw.choice([7.5, 11.65, 14.5, 23.0, 39.0, 78.0])),
            park=float(draw.choice([0.0, 0.02, 0.1, 0.4])), reached=draw.uniform(0.3, 0.85),
            start=draw.uniform(15, 60), compiling=draw.uniform(3, 30),
        )  # fmt: skip
        found = search(card)
        chosen = found.best()
        assert chosen
        fitting = [c for c in found.grid if card.peak(c) <= 0.9 * card.limit]
        ratios.append(card.step(chosen.candidate) / min(map(card.step, fitting)))
    assert sum(ratio > 1.05 for ratio in ratios) <= 3
    assert max(ratios) <= 1.2


def test_what_is_surely_behind_is_left_after_a_batch() -> None:
    card = replace(CARDS["a large card, a slow host, layers recorded"], asked=[])
    found = search(card)
    left = [m for m in found.results.values() if m.is_left]
    best = found.best()
    assert left
    assert best
    for measured in left:
        assert len(measured.step_seconds) == 1
        assert measured.samples_per_second < best.samples_per_second / 1.19
        assert not measured.fits(found.limit)


def test_hopeless_candidates_are_not_tried() -> None:
    card = Card(760, 0.1, limit=4.0)
    found = search(card)
    assert Candidate(128, 1, "every", 0) not in card.asked
    assert Candidate(128, 1, "every", 0) in found.skipped
    assert found.best()


def test_where_everything_fits_nothing_is_recomputed() -> None:
    card = Card(55, 0.06, gib_a_row=1e-5, limit=100.0)
    search(card)
    assert {each.checkpointing for each in card.asked} == {"none"}


def test_nothing_fits() -> None:
    assert search(Card(55, 0.06, limit=1.0)).best() is None


LARGE = Speed(7.6e14, dict.fromkeys((128, 64, 32, 16, 8, 4), 192.0))
"""Of an H200."""


def test_of_equally_fast_ones_the_smaller_is_chosen() -> None:
    big = Measured(Candidate(128, 1, "every", 0), peak_bytes=4 * GIB, samples_per_second=100.0)
    small = Measured(Candidate(64, 2, "every", 0), peak_bytes=2 * GIB, samples_per_second=99.5)
    grid = [big.candidate, small.candidate]
    found = Search(grid, TINYLLAMA, 12 * GIB, 2, LARGE, Card(55, 0.06))
    found.results = {m.candidate: m for m in (big, small)}
    best = found.best()
    assert best
    assert best.candidate.micro_batch == 64


def test_layer_that_is_recomputed_makes_room_for_one_that_is_kept() -> None:
    """As on a GPU: 8.91 GiB without, 10.26 with two layers kept, where one takes 1.35."""
    shape = replace(TINYLLAMA, longest=284)

    def measure(candidate: Candidate, _rival: float) -> Measured:
        peak = 8.91 + 1.35 * (candidate.at_once(22) - 1)
        speed = 294 / (1 - candidate.keep_layers / 66)
        return Measured(candidate, peak_bytes=int(peak * GIB), samples_per_second=speed)

    grid = [each for each in candidates.candidates(128, 22, False) if each.micro_batch == 128]
    found = Search(grid, shape, int(11.65 * GIB), 2, LARGE, measure)
    found.run()
    best = found.best()
    assert best
    assert best.candidate.keep_layers == 2


# One H200 under 11.65 GiB, TinyLlama's shape, 128 rows a step: samples/s and peak GiB of all
# candidates of 128 and 64 rows that ran, and of the first of each smaller group.
SWEPT = {
    (128, "every"): {0: (331.0, 8.91), 2: (343.6, 10.26)},
    (64, "every"): {
        0: (265.9, 5.57), 2: (310.3, 6.30), 4: (329.4, 8.04), 6: (332.0, 9.78), 8: (306.0, 11.52),
    },
    (32, "every"): {0: (162.2, 3.89)},
    (16, "every"): {0: (93.0, 3.07)},
    (128, "unsloth"): {0: (331.3, 6.40), 2: (343.4, 8.08), 4: (352.6, 11.62)},
    (64, "unsloth"): {
        0: (305.5, 4.50), 2: (307.5, 5.36), 4: (299.4, 7.22), 6: (286.3, 9.07), 8: (281.3, 10.93),
    },
    (32, "unsloth"): {0: (131.5, 3.28)},
    (16, "unsloth"): {0: (72.7, 2.79)},
    (32, "none"): {0: (218.0, 10.07)},
    (16, "none"): {0: (125.0, 6.15)},
}  # fmt: skip


def test_choice_is_among_the_best_of_a_sweep_on_a_gpu() -> None:
    def measure(candidate: Candidate, _rival: float) -> Measured:
        group = SWEPT.get((candidate.micro_batch, candidate.checkpointing), {})
        if candidate.keep_layers not in group:
            return Measured(candidate, fault="not swept")
        speed, peak = group[candidate.keep_layers]
        return Measured(candidate, peak_bytes=int(peak * GIB), samples_per_second=speed)

    shape = replace(TINYLLAMA, longest=284)
    grid = candidates.candidates(128, 22, True)
    found = Search(grid, shape, int(11.65 * GIB), 2, LARGE, measure)
    found.run()
    best = found.best()
    assert best
    assert str(best.candidate) in {"128 x 1, offload, 2 kept", "128 x 1, recompute, 2 kept"}


def test_lucky_look_does_not_win() -> None:
    """As on that GPU: 64 rows once ran at 346 and once at 299, 128 both times at 344."""
    looks = {64: [345.6, 298.9], 128: [343.9, 344.2], 32: [177.1]}

    def measure(candidate: Candidate, _rival: float) -> Measured:
        speed = looks[candidate.micro_batch].pop(0)
        step = 128 / speed
        return Measured(
            candidate, peak_bytes=GIB, samples_per_second=speed, step_seconds=(step,),
            step_tokens=(900,), measuring_seconds=1,
        )  # fmt: skip

    grid = [Candidate(rows, 128 // rows, "every", 0) for rows in (128, 64, 32)]
    found = Search(grid, TINYLLAMA, 12 * GIB, 2, LARGE, measure)
    found.results = {candidate: measure(candidate, math.inf) for candidate in grid}
    found.run()
    best = found.best()
    assert best
    assert best.candidate.micro_batch == 128
    assert best.samples_per_second == pytest.approx(344.05, abs=0.01)
    assert best.measuring_seconds == 2
    # Those within 7 % of the fastest were measured once more, and no other.
    assert looks == {64: [], 128: [], 32: []}


def test_two_measurements_count_alike() -> None:
    one = Measured(
        Candidate(8, 1, "every", 0), 7, 100, 2.0, 200.0, step_seconds=(4.0,), step_tokens=(900,)
    )
    other = replace(one, estimated_bytes=0, peak_bytes=120, step_seconds=(8.0,))
    other = replace(other, samples_per_second=1.0, tokens_per_second=100.0)
    both = together(one, other)
    # 8 rows in 4 s and 8 in 8 s.
    assert both.samples_per_second == pytest.approx(16 / 12)
    assert both.tokens_per_second == pytest.approx(1600 / 12)
    assert (both.peak_bytes, both.estimated_bytes) == (120, 7)
    assert (both.step_seconds, both.step_tokens) == ((4.0, 8.0), (900, 900))
    fault = replace(other, fault="out of memory")
    assert together(one, fault) == replace(fault, estimated_bytes=7)
    assert together(fault, one) == fault


def test_what_all_rows_share_bounds_recorded_layers_less() -> None:
    grid = candidates.candidates(ROWS, 22, unsloth=False)
    kept = next(c for c in grid if c.is_recorded)
    redone = next(c for c in grid if c.micro_batch == kept.micro_batch and not c.is_recorded)
    speeds = [
        [
            Search(grid, TINYLLAMA, 12 * GIB, 2, Speed(1e13, rows, shared), measure=never)
            ._highest_speed(c) for c in (kept, redone)
        ]
        for shared in (0, 50) for rows in [dict.fromkeys([128, 64, 32, 16, 8, 4], 200.0)]
    ]  # fmt: skip
    assert speeds[1][0] == pytest.approx(speeds[0][0] * 200 / 150)
    assert speeds[1][1] == speeds[0][1]


def never(candidate: Candidate, _: float) -> Measured:
    raise AssertionError(candidate)


def test_one_that_was_left_adds_nothing_but_its_start() -> None:
    one = Measured(Candidate(8, 16, "none", 0), samples_per_second=50.0, peak_bytes=7)
    left = replace(one, samples_per_second=20.0, is_left=True, cold_seconds=9.0)
    assert together(one, left) == one
    assert together(one, replace(left, fault="the process died")).fault


def test_what_all_rows_share_is_counted_once_a_micro_batch() -> None:
    lengths = np.array([10, 9, 7, 6])
    own: Any = SimpleNamespace(_longest_whole=99, _widths=lambda widths: widths)
    assert Worker._padded(own, lengths, 2) == 2 * 10 + 2 * 7
    assert Worker._padded(own, lengths, 2, shared=3) == 2 * 10 - 3 + 2 * 7 - 3
    own._longest_whole = 5  # rows over it go through in pieces, of two rows at least
    assert Worker._padded(own, lengths, 4, shared=3) == 2 * 10 - 3 + 2 * 7 - 3
