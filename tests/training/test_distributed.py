"""Two processes train as one does: same batches, same losses, one of them writes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed

from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.errors import ConfigError
from data.subset import SubsetConfig, run
from tests import forked
from training import processes
from training.__main__ import main
from training.config import Optimisation
from training.loop import arguments, metrics
from training.processes import Ranks, leave


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


def test_process_that_leaves_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    leave()
    assert processes.join() == Ranks()


def test_group_of_a_launcher_of_one_process_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    alone = processes.join()
    # As the Trainer does under a launcher.
    meeting = f"file://{tmp_path / 'meeting'}"
    torch.distributed.init_process_group("gloo", meeting, rank=0, world_size=1)
    alone.end()
    assert not torch.distributed.is_initialized()


def test_process_uses_one_gpu_of_several() -> None:
    class Settings:  # where two GPUs are seen and no launcher started a process for each
        _n_gpu = 2
        n_gpu = property(lambda self: self._n_gpu)

    assert arguments.on_one_gpu(Settings()).n_gpu == 1


def start(root: Path, *words: str) -> "subprocess.Popen[str]":
    """Start ``training`` in two processes."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "-m", "training", *words],
        cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def launch(root: Path, *words: str) -> str:
    """Run ``training`` in two processes; give what it printed."""
    with start(root, *words) as running:
        told, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    return told


def test_fault_of_the_first_process_is_told_once(
    words: list[str], tmp_path: Path, root: Path
) -> None:
    with start(root, *words, "--base=no/such", "--tiny=null", f"--out={tmp_path}/run") as running:
        _, errors = running.communicate(timeout=120)
    assert running.returncode != 0
    (line,) = [each for each in errors.splitlines() if each.startswith("error: ")]
    assert "no/such" in line
    # The launcher's own is its last word on any process that fails.
    assert "DistBackendError" not in errors
    assert "training/processes.py" not in errors


def test_two_processes_plan_the_share_of_one(words: list[str], tmp_path: Path, root: Path) -> None:
    out, plans = tmp_path / "run", tmp_path / "plans"
    told = launch(root, *words, "--plan=auto", f"--plans={plans}", f"--out={out}")
    assert "each of 2 devices takes 4 rows of a step" in told
    made = json.loads((out / "plan.json").read_text())
    chosen = made["candidate"]
    assert chosen["micro_batch"] * chosen["accumulation"] == 4
    lines = [line for line in metrics.read(out / "metrics.jsonl") if "loss" in line]
    facts = manifest.read(Folder(str(out)), "train").facts
    assert facts["processes"] == 2
    assert made["trained"] == facts["trainable_parameters"]
    assert 0 < made["exchange_seconds"] < 10
    assert "to exchange gradients at a step: " in told
    # What is kept for other runs is of one device.
    (kept,) = plans.glob("*/plan.json")
    assert json.loads(kept.read_text())["exchange_seconds"] == 0
    # As many steps as were predicted, each of the whole batch.
    assert made["length"]["steps"] == len(lines)


# Beyond the end of an epoch of 6 steps, whose last step has 4 rows of 8, all of the first process.
ROWS = 44
LONG = [
    "--checkpoints.eval_steps=3", "--checkpoints.save_steps=4", "--checkpoints.keep_best=true",
    "--optimisation.max_steps=16",
]  # fmt: skip
TRAINING = ("-m", "training")
# Long micro-batches go in pieces, of which each process may have another number.
IN_PIECES = "--optimisation.max_tokens=500"


@contextmanager
def ranks(
    *words: str, folder: Path, program: Sequence[str] = TRAINING
) -> Iterator[list[forked.Process]]:
    """Run ``training`` in two processes, started as a launcher would, which imports much itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                forked.started(
                    [*program, *words], folder / "output", folder / "errors",
                    RANK=rank, LOCAL_RANK=rank, **env,
                )
            )
            for rank in "01"
        ]  # fmt: skip


def run_ranks(*words: str, folder: Path, program: Sequence[str] = TRAINING) -> str:
    """Run ``training`` in two processes to their end; give what they printed."""
    folder.mkdir()
    with ranks(*words, folder=folder, program=program) as both:
        assert [process.wait(120) for process in both] == [0, 0], (folder / "errors").read_text()
    return (folder / "output").read_text()


@pytest.fixture(scope="module")
def long(words: list[str], subset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags of a run of three epochs."""
    out = tmp_path_factory.mktemp("few") / "subset"
    run(SubsetConfig(clean=str(subset.parent / "clean"), out=str(out), size=ROWS))
    return [*words, *LONG, f"--subset={out}"]


@pytest.fixture(scope="module")
def two(long: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes."""
    folder = tmp_path_factory.mktemp("two")
    output = run_ranks(*long, IN_PIECES, f"--out={folder}/run", folder=folder / "printed")
    assert output.count("finished in") == 1
    return folder / "run"


def test_two_processes_train_as_one(long: list[str], two: Path, tmp_path: Path) -> None:
    one = tmp_path / "one"
    assert main([*long, f"--out={one}"]) == 0
    lines = [metrics.read(out / "metrics.jsonl") for out in (one, two)]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]]
    for mine, theirs in zip(*lines, strict=True):
        assert set(mine) == set(theirs)
        for name in {"loss", "validation_loss", "tokens", "learning_rate"} & set(mine):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4)
    facts = manifest.read(Folder(str(two)), "train").facts
    assert facts["processes"] == 2
    assert [line["epoch"] for line in lines[0] if "loss" in line][5] == 1


AVERAGED = """
import torch
from training import processes
from training.loop.trainer import average_gradients

ranks = processes.join()
trained = [torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 3), (4,), ())]
if ranks.is_first:
    trained[0].grad, trained[1].grad = torch.full((2, 3), 2.0), torch.arange(4.0)
else:
    trained[0].grad = torch.full((2, 3), 4.0)
average_gradients(trained)
# In one piece, as both processes write to the same file.
print(f"{[each.grad.tolist() for each in trained]}\\n", end="")
ranks.end()
"""


def test_gradients_are_averaged_where_a_process_has_none_too(tmp_path: Path) -> None:
    output = run_ranks(folder=tmp_path / "printed", program=("-c", AVERAGED))
    assert output.splitlines() == [str([[[3.0] * 3] * 2, [0.0, 0.5, 1.0, 1.5], 0.0])] * 2


JOINED = """
import torch
from training import processes

start = torch.distributed.init_process_group
torch.distributed.init_process_group = lambda _, **named: start("gloo", **named)
torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: {gpus}
torch.cuda.set_device = lambda index: print(f"on GPU {{index}}\\n", end="")
try:
    processes.join()
except (SystemExit, Exception) as error:
    print(f"{{type(error).__name__}}: {{error}}\\n", end="")
"""


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        (2, ["on GPU 0", "on GPU 1"]),
        (1, ["ConfigError: launcher: expected a GPU for each process, found fewer GPUs; lower "
             "torchrun's --nproc-per-node", "SystemExit: 1"]),
    ],
)  # fmt: skip
def test_each_process_gets_a_gpu_or_one_says_that_there_are_too_few(
    gpus: int, expected: list[str], tmp_path: Path
) -> None:
    program = ("-c", JOINED.format(gpus=gpus))
    output = run_ranks(folder=tmp_path / "printed", program=program)
    assert sorted(output.splitlines()) == expected


RECORDED = """
import sys
from types import SimpleNamespace
import torch
from tests.training.loop import test_graphs
from training.__main__ import main
from training.loop import graphs

torch.cuda.graph_pool_handle = torch.cuda.set_stream = lambda *_: None
torch.cuda.current_stream = lambda: SimpleNamespace(synchronize=lambda: None)
# Its hooks on a card's first stream spoil what is recorded on another.
torch.nn.parallel.DistributedDataParallel.__init__ = None
graphs._record, graphs.are_for = test_graphs.record(), lambda *_: True
with_graphs, replayed = graphs.Graphs._replayed, []
graphs.Graphs._replayed = lambda *words: replayed.append(1) or with_graphs(*words)
code = main(sys.argv[1:])
print(f"{len(replayed)} replayed\\n", end="")
sys.exit(code)
"""


def test_two_processes_whose_layers_are_recorded_train_as_one(
    long: list[str], two: Path, tmp_path: Path
) -> None:
    out = tmp_path / "recorded"
    words = [*long, IN_PIECES, f"--out={out}"]
    output = run_ranks(*words, folder=tmp_path / "printed", program=("-c", RECORDED))
    replayed = [line.split()[0] for line in output.splitlines() if line.endswith(" replayed")]
    assert len(replayed) == 2
    assert min(map(int, replayed)) > 16
    lines = [metrics.read(each / "metrics.jsonl") for each in (out, two)]
    for mine, theirs in zip(*lines, strict=True):
        for name in {"loss", "validation_loss"} & set(mine):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4)


def test_two_processes_go_on_after_a_kill(long: list[str], two: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    command = [*long, IN_PIECES, f"--out={killed}"]
    with ranks(*command, folder=tmp_path) as both:
        while not (killed / "checkpoints" / "checkpoint-8").exists():  # in the second epoch
            assert [process.poll() for process in both] == [None, None]
            time.sleep(0.01)
        for process in both:
            os.kill(process.pid, signal.SIGKILL)
    assert not (killed / "adapter").exists()
    assert "finished in" in run_ranks(*command, folder=tmp_path / "again")
    # The best weights, and the last ones.
    for folder in ("adapter", "checkpoints/checkpoint-16"):
        mine, theirs = (out / folder / "adapter_model.safetensors" for out in (two, killed))
        assert mine.read_bytes() == theirs.read_bytes()
    # Once more: all processes find it finished, and end well.
    assert "already finished" in run_ranks(*command, folder=tmp_path / "once more")


SHORT_OF_MEMORY = """
import os, sys, torch
from training import __main__, run

def make(*words):
    from training.loop import trainer
    step = trainer.Trainer.training_step

    def lacking(self, *words, **named):
        if self.state.global_step == 9 and os.environ["RANK"] == "1":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, *words, **named)

    trainer.Trainer.training_step = lacking
    return load(*words)

load, run.load_model = run.load_model, make
sys.exit(__main__.main(sys.argv[1:]))
"""


def test_memory_that_one_process_lacks_leaves_a_run_to_go_on_with(
    long: list[str], two: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = [*long, IN_PIECES, f"--out={out}"]
    with ranks(*command, folder=tmp_path, program=("-c", SHORT_OF_MEMORY)) as both:
        assert [process.wait(120) for process in both] == [1, 1]
    errors = (tmp_path / "errors").read_text()
    told = sorted(line for line in errors.splitlines() if line.startswith("error: "))
    assert [line.split(":")[1] for line in told] == [" GPU memory", " processes"]
    assert "Traceback" not in errors
    assert not (out / "adapter").exists()
    assert "finished in" in run_ranks(*command, folder=tmp_path / "again")
    assert manifest.read(Folder(str(out)), "train").facts["resumed_from_step"] >= 8
    mine, theirs = (each / "adapter/adapter_model.safetensors" for each in (out, two))
    assert mine.read_bytes() == theirs.read_bytes()
