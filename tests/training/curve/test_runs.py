"""Which runs a curve has, with which settings."""

from pathlib import Path
from typing import Any

import pytest

from data.errors import ConfigError
from training.config import Checkpoints, Optimisation, TinyBase
from training.curve import runs
from training.curve.config import CurveConfig
from training.curve.runs import Planned, RunTime

SIZES = [500, 1_000, 2_000, 4_000]


def config(**fields: Any) -> CurveConfig:
    how = fields.pop("optimisation", Optimisation(batch_size=10, epochs=2))
    return CurveConfig(**{"sizes": SIZES, "optimisation": how, "seed": 7} | fields)


def counts(own: CurveConfig) -> dict[int, int]:
    planned = runs.choose(own)
    assert len(set(planned)) == len(planned)
    return {size: sum(p.rows == size for p in planned) for size in own.sizes}


def test_further_seeds_cost_no_more_than_the_largest_size() -> None:
    assert counts(config()) == {500: 3, 1_000: 2, 2_000: 2, 4_000: 1}
    assert counts(config(seeds=3)) == dict.fromkeys(SIZES, 3)
    assert counts(config(seeds=1)) == dict.fromkeys(SIZES, 1)


def test_sizes_of_one_cost_share_one_further_run() -> None:
    same = Optimisation(batch_size=10, max_steps=100)
    assert counts(config(optimisation=same)) == {500: 2, 1_000: 1, 2_000: 1, 4_000: 1}


def test_a_seed_runs_through_all_sizes_before_the_next() -> None:
    planned = runs.choose(config(seeds=2))
    assert planned[:4] == [Planned(size, 7) for size in SIZES]
    assert planned[4:] == [Planned(size, 8) for size in SIZES]


@pytest.mark.parametrize(("rows", "third"), [(500, 34), (4_000, 267), (10, 1)])
def test_a_run_is_evaluated_at_each_third(rows: int, third: int) -> None:
    kept = Checkpoints(eval_steps=7, save_steps=100, patience=2)
    own = runs.settings(
        config(checkpoints=kept, tiny=TinyBase(), overwrite=True),
        Planned(rows, 9), Path("out"), Path("small"), "out/base",
    )  # fmt: skip
    assert (own.subset, own.out, own.base) == ("small", f"out/{rows}-9", "out/base")
    assert (own.tiny, own.seed, own.overwrite) == (None, 9, False)
    assert own.checkpoints == Checkpoints(
        eval_steps=third, save_steps=min(third, 100), keep_best=True
    )


def test_time_is_foretold_from_the_pace_of_a_run() -> None:
    pace = RunTime(step=0.5, rest=10)
    assert runs.predict(config(), 4_000, 100, None, pace) == 800 * 0.5 + 10
    assert runs.predict(config(), 4_000, 100, None, None) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"sizes": []},
            "--sizes: expected at least 3 sizes, such as '[500,1000,2000]', found none",
        ),
        ({"sizes": [1, 2]}, "--sizes: expected at least 3 sizes"),
        ({"sizes": [3, 2, 5]}, "each larger than the last, found 3, 2, 5"),
        ({"sizes": [2, 2, 5]}, "each larger than the last, found 2, 2, 5"),
        ({"sizes": [0, 2, 5]}, "--sizes: expected numbers of rows from 1 on"),
        ({"seeds": 0}, "--seeds: expected at least 1, found 0"),
        ({"predict": 0}, "--predict: expected at least 1, found 0"),
    ],
)
def test_settings_that_make_no_sense(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config(**fields)
    assert expected in str(refused.value)
