"""``python -m tests.faults.train_kills``: kill -9 a training run at random moments, go on, compare.

Each round starts a run, kills its whole process group while it trains, while a checkpoint is being
written or while it finishes, types the same command again and compares the adapter with that of
an uninterrupted run: byte by byte, and by the largest difference of any weight where they differ,
as they may on a GPU. Ends with 1 if a CPU's differ.

Without ``--subset`` and ``--base`` it invents a small catalogue and builds a tiny base. Flags after
``--`` go to ``training run``.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data import console
from tests import killing
from tests.forked import Process

KINDS = ("training", "saving", "finishing")
MARKER = "complete.json"
PATIENCE = 600.0


def command(options: argparse.Namespace, out: Path, more: list[str]) -> list[str]:
    """The run's command line: the same for every start of a round."""
    flags = {
        "subset": options.subset, "base": options.base, "out": out,
        "tokenized": options.work / "tokenized", "backend": options.backend,
        "optimisation.max_steps": options.steps, "checkpoints.save_steps": options.save_steps,
    }  # fmt: skip
    words = [f"--{name}={value}" for name, value in flags.items()]
    return [sys.executable, "-m", "training", "run", *options.defaults, *words, *more]


@contextmanager
def started(words: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A run in a process group of its own; none of it is left behind."""
    with log.open("ab") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)
    with killing.none_left(process):
        yield process


def kill(process: Process) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def finish(words: list[str], log: Path) -> float:
    """Run to the end; give the seconds."""
    began = time.perf_counter()
    with started(words, log) as process:
        if process.wait(PATIENCE):
            raise SystemExit(f"{log}: the run failed\n{log.read_text()[-3000:]}")
    return time.perf_counter() - began


def steps_written(out: Path) -> int:
    file = out / "metrics.jsonl"
    return file.read_text().count("\n") if file.exists() else 0


def is_saving(out: Path) -> bool:
    """Whether a checkpoint is being written: its folder is there, its marker is not."""
    folders = out.glob("checkpoints/checkpoint-*")
    return any(not (folder / MARKER).exists() for folder in folders)


def is_finishing(out: Path, steps: int) -> bool:
    return (out / "checkpoints" / f"checkpoint-{steps}" / MARKER).exists()


def interrupt(
    process: Process,
    out: Path,
    kind: str,
    steps: int,
    draw: random.Random,
) -> tuple[str, int]:
    """Kill the run at a moment of this kind; tell what it was at."""
    at = draw.randint(1, steps - 1)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        written = steps_written(out)
        if kind == "training" and written >= at:
            break
        if kind == "saving" and written >= at and is_saving(out):
            time.sleep(draw.random() * 0.01)
            break
        if kind == "finishing" and is_finishing(out, steps):
            time.sleep(draw.random() * 0.2)
            break
        time.sleep(0.0005)
    if process.poll() is not None:
        return "ended before", steps_written(out)
    kill(process)
    return ("saving" if is_saving(out) else kind), steps_written(out)


def compare(one: Path, other: Path) -> float:
    """The largest difference of any weight of two adapters; 0: their files are the same."""
    from safetensors.torch import load_file

    files = [path / "adapter" / "adapter_model.safetensors" for path in (one, other)]
    if files[0].read_bytes() == files[1].read_bytes():
        return 0.0
    mine, theirs = load_file(files[0]), load_file(files[1])
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)


def play(options: argparse.Namespace, number: int, draw: random.Random) -> dict[str, Any]:
    """One round: kill, go on, compare."""
    out, log = options.work / f"round-{number}", options.work / f"round-{number}.log"
    words = command(options, out, options.more)
    kind = KINDS[number % len(KINDS)]
    with started(words, log) as process:
        at, step = interrupt(process, out, kind, options.steps, draw)
    seconds = finish(words, log)
    facts = json.loads((out / "manifest.json").read_text())["facts"]
    return {
        "round": number, "killed while": at, "lines written": step,
        "resumed from": facts["resumed_from_step"], "seconds": round(seconds, 1),
        "difference": compare(options.work / "whole", out),
    }  # fmt: skip


def invent(work: Path) -> tuple[Path, Path]:
    """A small catalogue and a tiny base, with the project's own commands."""
    from training.config import TinyBase
    from training.model import tiny

    raw, clean, subset = work / "trn.json", work / "clean", work / "subset"
    for words in (
        ["data", "synthesize", "--rows", "3000", "--out", raw],
        ["preprocessing", "clean", "--source", raw, "--out", clean, "--workers", "1"],
        ["data", "subset", "--clean", clean, "--out", subset],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *map(str, words)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr)
    shape = TinyBase(vocabulary=600, hidden=32, intermediate=64, steps=40)
    tiny.build(tiny.TinyJob(str(subset), str(work / "base"), shape, positions=1024, seed=3407))
    return subset, work / "base"


def parse() -> argparse.Namespace:
    own, more = sys.argv[1:], []
    if "--" in own:
        place = own.index("--")
        own, more = own[:place], own[place + 1 :]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default="transformers")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--save_steps", type=int, default=3)
    parser.add_argument("--subset", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--work", type=Path, help="folder for the runs; default: a temporary one")
    parser.add_argument("--report", type=Path, help="JSON of the rounds")
    options = parser.parse_args(own)
    options.more = more
    options.defaults = []
    return options


def main() -> int:
    options = parse()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as folder:
        options.work = options.work or Path(folder)
        options.work.mkdir(parents=True, exist_ok=True)
        if options.subset is None or options.base is None:
            options.subset, options.base = invent(options.work)
            options.defaults = [
                "--optimisation.batch_size=4", "--optimisation.learning_rate=0.01",
                "--optimisation.precision=float32", "--max_length=1024",
                "--checkpoints.eval_steps=3", "--checkpoints.keep_best=true",
            ]  # fmt: skip
        whole = command(options, options.work / "whole", options.more)
        seconds = finish(whole, options.work / "whole.log")
        console.say(f"uninterrupted: {seconds:.1f} s")
        draw = random.Random(options.seed)  # noqa: S311
        rounds: list[dict[str, Any]] = []
        for number in range(options.rounds):
            rounds.append(play(options, number, draw))
            if options.report:  # as they come: the next may take minutes
                options.report.write_text(json.dumps(rounds, indent=2))
        device = json.loads((options.work / "whole" / "manifest.json").read_text())["facts"]
    header = tuple(rounds[0])
    console.say(console.table([[str(each[name]) for name in header] for each in rounds], header))
    worst = max(each["difference"] for each in rounds)
    same = sum(each["difference"] == 0 for each in rounds)
    told = f"{same} of {len(rounds)} adapters are the same byte for byte"
    console.say(f"{told}; largest difference {worst:g} ({device['device']})")
    return int(worst > 0 and device["device"].startswith("cpu"))


if __name__ == "__main__":
    sys.exit(main())
