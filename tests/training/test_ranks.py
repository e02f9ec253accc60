"""Two processes train as one does: same batches, same losses, one of them writes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data import manifest
from data.errors import ConfigError
from data.shards import Folder
from training import metrics
from training.__main__ import main
from training.config import Optimisation
from training.ranks import Ranks


@pytest.mark.parametrize(
    ("how", "processes", "expected"),
    [
        (Optimisation(batch_size=128, micro_batch_size=32), 1, (32, 4)),
        (Optimisation(batch_size=128, micro_batch_size=32), 2, (32, 2)),
        (Optimisation(batch_size=128, micro_batch_size=128), 2, (64, 1)),
        (Optimisation(batch_size=128), 4, (32, 1)),
    ],
)
def test_batch_is_shared_out(how: Optimisation, processes: int, expected: tuple[int, int]) -> None:
    assert (how.rows_at_a_time(processes), how.accumulation(processes)) == expected


@pytest.mark.parametrize(("batch", "processes"), [(128, 3), (2, 4)])
def test_batch_that_cannot_be_shared_out(batch: int, processes: int) -> None:
    with pytest.raises(ConfigError, match=r"--optimisation\.batch_size"):
        Optimisation(batch_size=batch).accumulation(processes)


def test_one_process_does_everything_itself() -> None:
    alone, seen = Ranks(), []
    assert alone.first(lambda: 7) == 7
    assert alone.in_turn(lambda: seen.append(1)) is None
    assert seen == [1]
    assert (alone.any(True), alone.any(False)) == (True, False)


def test_two_processes_train_as_one(words: list[str], tmp_path: Path, root: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    more = ["--checkpoints.eval_steps=2", "--checkpoints.keep_best=true"]
    assert main([*words, *more, f"--out={one}"]) == 0
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
            # Long micro-batches go in pieces, of which each process may have another number.
            "-m", "training", *words, *more, "--optimisation.max_tokens=500", f"--out={two}",
        ],
        cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished in") == 1
    lines = [metrics.read(out / "metrics.jsonl") for out in (one, two)]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]]
    for mine, theirs in zip(*lines, strict=True):
        assert set(mine) == set(theirs)
        for name in {"loss", "validation_loss", "tokens", "learning_rate"} & set(mine):
            # Two processes fill up the last validation batch with rows that they count twice.
            near = 0.02 if name == "validation_loss" else 1e-4
            assert mine[name] == pytest.approx(theirs[name], rel=near)
    facts = manifest.read(Folder(str(two)), "train").facts
    assert facts["processes"] == 2
