"""Candidates, estimates and the prediction: numbers in, numbers out."""

import itertools
from dataclasses import replace

import pytest

from training.config import Checkpoints, Optimisation, TrainConfig
from training.plan import candidates, plan
from training.plan.candidates import Candidate, Measured, ModelShape
from training.plan.plan import Length, Plan

GIB = 2**30
TINYLLAMA = ModelShape(
    layers=22, hidden=2048, intermediate=5632, kv_hidden=256, vocabulary=32_000,
    parameters=1_100_048_384, trainable=12_615_680, weight_bytes=2, longest=230, fused=True,
)  # fmt: skip


def test_candidates_make_exactly_the_batch() -> None:
    grid = candidates.candidates(96, 22, unsloth=True)
    assert {each.micro_batch * each.accumulation for each in grid} == {96}
    assert [*dict.fromkeys(each.micro_batch for each in grid)] == [96, 48, 24, 12, 6, 3]
    assert {each.checkpointing for each in grid} == {"none", "every", "unsloth"}
    assert all(0 <= each.keep_layers < 22 for each in grid)
    assert len(set(grid)) == len(grid)


def test_batch_that_cannot_be_halved() -> None:
    assert {each.micro_batch for each in candidates.candidates(7, 2, unsloth=False)} == {7}


def test_attention_paths_multiply() -> None:
    one = candidates.candidates(8, 2, unsloth=False)
    two = candidates.candidates(8, 2, unsloth=False, attentions=["auto", "flash_attention_2"])
    assert len(two) == 2 * len(one)


@pytest.mark.parametrize(
    ("candidate", "measured"),
    [
        # facts measured on a GPU with Unsloth, rows grouped by length: reserved GiB
        (Candidate(128, 1, "unsloth", 0), 5.14),
        (Candidate(32, 4, "none", 0), 10.07),
        (Candidate(16, 8, "none", 0), 6.15),
    ],
)
def test_estimate_is_within_thirty_percent(candidate: Candidate, measured: float) -> None:
    found = candidates.estimate(candidate, TINYLLAMA, optimizer_bytes=2).peak_bytes / GIB
    assert found == pytest.approx(measured, rel=0.3)


@pytest.mark.parametrize(
    ("candidate", "measured"),
    [
        # the same on a GPU, rows of up to 284 tokens whole
        (Candidate(128, 1, "every", 0), 8.91),
        (Candidate(128, 1, "every", 2), 10.26),
        (Candidate(64, 2, "every", 8), 11.52),
        (Candidate(32, 4, "every", 18), 11.04),
        (Candidate(128, 1, "unsloth", 4), 11.62),
    ],
)
def test_estimate_with_kept_layers_is_within_a_tenth(candidate: Candidate, measured: float) -> None:
    shape = replace(TINYLLAMA, longest=284)
    found = candidates.estimate(candidate, shape, optimizer_bytes=2).peak_bytes / GIB
    assert found == pytest.approx(measured, rel=0.1)


def test_recomputing_costs_a_third_and_saves_memory() -> None:
    none = candidates.estimate(Candidate(128, 1, "none", 0), TINYLLAMA)
    every = candidates.estimate(Candidate(128, 1, "every", 0), TINYLLAMA)
    assert every.flop_a_token == pytest.approx(1.5 * none.flop_a_token)
    assert every.peak_bytes < none.peak_bytes / 3


MEASURED = Measured(
    Candidate(8, 1, "every", 1), peak_bytes=GIB, samples_per_second=8.0,
    step_seconds=(0.9, 1.0, 1.1), step_tokens=(90, 100, 110), cold_seconds=5.0,
    evaluation_seconds=0.01, saving_seconds=2.0,
)  # fmt: skip


def test_prediction_adds_up() -> None:
    low, seconds, high = plan.predict(MEASURED, Length(100, 500, 3), [5.0])
    assert seconds == pytest.approx(100 * 1.0 + 5.0 + 500 * 0.01 + 3 * 2.0)
    # The tokens explain the spread of the steps, so the least interval is left.
    assert (low / seconds, high / seconds) == pytest.approx((0.97, 1.03))


def test_spread_that_tokens_do_not_explain_widens_the_interval() -> None:
    noisy = replace(MEASURED, step_seconds=(1.5, 0.5, 1.0), step_tokens=(100, 100, 100))
    low, seconds, high = plan.predict(noisy, Length(100, 0, 0), [5.0])
    assert high - seconds == pytest.approx(seconds - low)
    assert high > 1.3 * seconds


def test_recording_is_predicted_once() -> None:
    recorded = replace(MEASURED, recording_seconds=6.0)
    seconds = [plan.predict(m, Length(100, 0, 0), [5.0])[1] for m in (MEASURED, recorded)]
    assert seconds[1] - seconds[0] == pytest.approx(6.0)


def test_exchange_is_predicted_for_each_step() -> None:
    alone, together = (choice().for_length(Length(100, 0, 0), each) for each in (0.0, 0.2))
    assert (alone.exchange_seconds, together.exchange_seconds) == (0.0, 0.2)
    assert together.seconds - alone.seconds == pytest.approx(100 * 0.2)


def test_start_is_predicted_by_the_middle_one() -> None:
    _, seconds, _ = plan.predict(MEASURED, Length(100, 0, 0), [9.0, 30.0, 10.0])
    assert seconds == pytest.approx(110.0)


def test_start_is_that_of_the_family_without_what_only_the_first_process_compiles() -> None:
    keeps, parks = Candidate(8, 1, "none", 0), Candidate(8, 1, "unsloth", 2)
    starts = [(keeps.family, 30.0), (parks.family, 18.0), (keeps.family, 10.0)]
    assert plan.starts_like(keeps, starts) == (10.0,)
    assert plan.starts_like(parks, starts) == (18.0,)
    assert plan.starts_like(keeps, starts[:2]) == (30.0,)


def test_start_of_the_first_process_alone_matters_to_short_runs() -> None:
    keeps, parks = MEASURED.candidate.family, Candidate(8, 1, "unsloth", 2).family
    first = [(keeps, 5.0)]
    assert plan.hangs_on_start(MEASURED, Length(94, 0, 0), first)
    assert not plan.hangs_on_start(MEASURED, Length(96, 0, 0), first)
    assert plan.hangs_on_start(MEASURED, Length(10, 0, 0), [*first, (parks, 9.0)])
    assert not plan.hangs_on_start(MEASURED, Length(10, 0, 0), [*first, (keeps, 4.0)])
    assert not plan.hangs_on_start(MEASURED, Length(10, 0, 0), [(parks, 9.0), (keeps, 4.0)])


def test_start_that_varies_widens_the_interval_of_a_short_run() -> None:
    # Three runs in new processes, each of 14.9 s of steps; the plan's own starts beside them.
    chosen = replace(MEASURED, step_seconds=(0.372,) * 3, step_tokens=(1, 2, 3))
    low, _, high = plan.predict(chosen, Length(40, 0, 0), [10.05, 8.89, 10.88])
    assert high - low == pytest.approx(2 * 0.2 * 10.05)
    low, long, high = plan.predict(chosen, Length(4_000, 0, 0), [10.05, 8.89, 10.88])
    assert high / long == pytest.approx(1.03)


@pytest.mark.parametrize(
    ("how", "kept", "expected"),
    [
        (Optimisation(batch_size=8, epochs=3), Checkpoints(save_steps=20), Length(39, 0, 2)),
        (
            Optimisation(batch_size=8, max_steps=50),
            Checkpoints(eval_steps=10, save_steps=20),
            Length(50, 5 * 30, 3),
        ),
        # The last step is evaluated as well.
        (
            Optimisation(batch_size=8, max_steps=51),
            Checkpoints(eval_steps=10, save_steps=20),
            Length(51, 6 * 30, 3),
        ),
        (
            Optimisation(batch_size=8, max_steps=3),
            Checkpoints(eval_steps=10, save_steps=20),
            Length(3, 30, 1),
        ),
        # Each evaluation may find the best so far: saved at 10, 15, 20, 30, 40, 45, 50 and 51.
        (
            Optimisation(batch_size=8, max_steps=51),
            Checkpoints(eval_steps=10, save_steps=15, keep_best=True),
            Length(51, 6 * 30, 8),
        ),
    ],
)
def test_length_of_a_run(how: Optimisation, kept: Checkpoints, expected: Length) -> None:
    config = TrainConfig(optimisation=how, checkpoints=kept)
    assert plan.length(config, rows=100, validation_rows=30) == expected


@pytest.mark.parametrize(
    ("evaluate", "save", "steps"), [*itertools.product((1, 3, 4), (2, 4, 9), (5, 12, 24))]
)
def test_length_counts_what_a_run_does(evaluate: int, save: int, steps: int) -> None:
    config = TrainConfig(
        optimisation=Optimisation(max_steps=steps),
        checkpoints=Checkpoints(eval_steps=evaluate, save_steps=save, keep_best=True),
    )
    evaluated = {*range(evaluate, steps + 1, evaluate), steps}
    saved = evaluated | {*range(save, steps + 1, save)}
    expected = Length(steps, len(evaluated) * 7, len(saved))
    assert plan.length(config, rows=100, validation_rows=7) == expected


def test_plan_of_a_memory_class_fits_wherever_it_is_taken() -> None:
    total = 80 * GIB
    classes: dict[int, list[int]] = {}
    for share in range(1, 101):
        free = total * share // 100
        classes.setdefault(plan.memory_class(free, total, candidates.MARGIN), []).append(free)
    # What fits with the most memory of a class fits with the least of it.
    for amounts in classes.values():
        assert max(amounts) * (1 - candidates.MARGIN) <= min(amounts) * 1.0001
    assert plan.memory_class(total, total, candidates.MARGIN) == 0
    assert plan.memory_class(total * 2, total, candidates.MARGIN) == 0
    assert plan.memory_class(0, total, candidates.MARGIN) > 100


def choice() -> Plan:
    return Plan(
        MEASURED.candidate, "cpu", 2 * GIB, (MEASURED,), Length(10, 0, 1), 17.0, 16.0, 18.0, 100,
        30, 250, (5.0, 4.0), ("8 x 1, keep all",),
    )  # fmt: skip


# plan.json as version 0.1.0 writes it at first: later ones must read it.
WRITTEN = """{
 "candidate":
  {"micro_batch": 8, "accumulation": 1, "checkpointing": "every", "keep_layers": 1,
   "attention": "auto"},
 "device": "cpu", "limit_bytes": 2147483648,
 "measured": [
  {"candidate":
    {"micro_batch": 8, "accumulation": 1, "checkpointing": "every", "keep_layers": 1,
     "attention": "auto"},
   "estimated_bytes": 0, "peak_bytes": 1073741824, "samples_per_second": 8.0,
   "tokens_per_second": 0.0, "step_seconds": [0.9, 1.0, 1.1], "step_tokens": [90, 100, 110],
   "cold_seconds": 5.0, "evaluation_seconds": 0.01, "saving_seconds": 2.0,
   "measuring_seconds": 0.0, "fault": ""}],
 "length": {"steps": 10, "evaluated_rows": 0, "checkpoints": 1},
 "seconds": 17.0, "low": 16.0, "high": 18.0, "rows": 100, "validation_rows": 30,
 "whole_length": 250, "starts": [5.0, 4.0], "skipped": ["8 x 1, keep all"]}"""


def test_plan_of_an_earlier_version_is_read() -> None:
    assert Plan.from_json(WRITTEN) == choice()


def test_plan_survives_its_file() -> None:
    assert Plan.from_json(choice().to_json()) == choice()


def test_choice_is_put_into_the_settings() -> None:
    how = choice().apply(TrainConfig(optimisation=Optimisation(batch_size=8))).optimisation
    assert (how.micro_batch, how.gradient_checkpointing, how.keep_layers) == (8, "every", 1)


def test_comparison_with_the_run() -> None:
    lines = [{"step": 1, "seconds": 3.0}, {"step": 2, "seconds": 18.5}]
    told = choice().compare(lines)
    assert (told["predicted_seconds"], told["actual_seconds"]) == (17.0, 18.5)
    assert told["predicted_peak_gib"] == 1.0
