"""``python -m tests.faults.tune_kills``: kill -9 a search at random moments, go on, compare.

Each round kills the whole process group of one search three times, at random moments of the time
that an uninterrupted one takes, types the same command again each time, and lets the last one end.
Then ``best.yaml``, the picture, the losses of all trials and the adapters must be those of the
uninterrupted search, byte for byte. Ends with 1 where one of them is not.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from data import console
from tests.faults.train_kills import finish, invent, kill, started

KILLS = 3
SPACE = ("--space.learning_rate=[0.3,0.1,0.03,0.01,0.003]", "--space.batch_size=[4,8,16]")


def command(work: Path, name: str, subset: Path, base: Path) -> list[str]:
    flags = {
        "subset": subset, "base": base, "out": work / name, "tokenized": work / "tokenized",
        "backend": "transformers", "max_length": 1024, "optimisation.epochs": 0.25,
        "optimisation.precision": "float32", "optimisation.learning_rate": 0.3,
    }  # fmt: skip
    words = [f"--{name}={value}" for name, value in flags.items()]
    return [sys.executable, "-m", "training", "tune", *words, *SPACE]


def play(words: list[str], log: Path, seconds: float, draw: random.Random) -> int:
    """Kill a search several times and let it end; count the kills that met it alive."""
    met = 0
    for _ in range(KILLS):
        with started(words, log) as process:
            deadline = time.monotonic() + draw.uniform(0.1, 0.7) * seconds
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            if process.poll() is None:
                kill(process)
                met += 1
    finish(words, log)
    return met


def leavings(out: Path) -> dict[str, Any]:
    """What must be the same: all but the times."""
    facts = json.loads((out / "manifest.json").read_text())["facts"]
    files = [out / "best.yaml", out / "tune.png", *out.glob("trials/*/adapter/*.safetensors")]
    same = {str(file.relative_to(out)): file.read_bytes() for file in files}
    return same | {name: facts[name] for name in ("best", "trials", "steps", "whole_steps")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    draw = random.Random(options.seed)  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        subset, base = invent(work)
        seconds = finish(command(work, "whole", subset, base), work / "whole.log")
        whole = leavings(work / "whole")
        console.say(f"uninterrupted: {seconds:.1f} s, {whole['steps']} steps, best {whole['best']}")
        differing = 0
        for number in range(options.rounds):
            name = f"round-{number}"
            words = command(work, name, subset, base)
            met = play(words, work / f"{name}.log", seconds, draw)
            own = leavings(work / name)
            apart = [key for key in whole | own if whole.get(key) != own.get(key)]
            differing += bool(apart)
            console.say(f"round {number}: killed {met} times; differs in {apart or 'nothing'}")
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
