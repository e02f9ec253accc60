"""``python -m tests.benchmarks.train_memory``: does the host's memory grow with the subset?

Trains a few steps of a tiny model on 10,000 and on 100,000 invented rows, and reads the processes'
anonymous memory (``RssAnon``) while they train; mapped files do not count there. Linux only.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from data import console

SIZES = (10_000, 100_000)


def run(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)


def anonymous(pid: int) -> int:
    """Read the bytes of anonymous memory that a process holds."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    match = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(match[1]) * 1024 if match else 0


def train(work: Path, size: int, steps: int) -> tuple[int, int]:
    """Train; return the most anonymous memory of the run, and the median while it steps."""
    out = work / f"run-{size}"
    words = [
        "--subset", work / f"subset-{size}", "--base", work / "base", "--out", out,
        "--tokenized", work / "tokenized", "--backend", "transformers", "--overwrite", "true",
        "--optimisation.max_steps", steps, "--checkpoints.eval_steps", steps // 2,
        # Small, so that a longer row in one of the subsets does not show.
        "--optimisation.batch_size", 2, "--max_length", 1024, "--prompt.template", "compact",
    ]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "training", "run", *map(str, words)])
    whole, stepping = 0, []
    while process.poll() is None:
        now = anonymous(process.pid)
        whole = max(whole, now)
        if (out / "metrics.jsonl").exists():
            stepping.append(now)
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"the run on {size:,} rows failed")
    return whole, int(median(stepping))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("data/store/bench/train-memory"))
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    raw, clean = work / "trn.json", work / "clean"
    if not (work / f"subset-{SIZES[-1]}").exists():
        run("data", "synthesize", "--rows", 260_000, "--out", raw)
        rules = ["--rules.content_min", 100, "--rules.content_max", 2000]
        run("preprocessing", "clean", "--source", raw, "--out", clean, *rules)
        for size in SIZES:
            run(
                "data", "subset", "--clean", clean, "--size", size, "--out", work / f"subset-{size}"
            )
    from training.config import TinyBase
    from training.model import tiny

    shape = TinyBase(vocabulary=2_000, hidden=32, intermediate=64, steps=0)
    subset = str(work / f"subset-{SIZES[0]}")
    tiny.build(tiny.TinyJob(subset, str(work / "base"), shape, positions=1024, seed=1))
    # Once before, so that the tokenised rows are there and only training is measured.
    rows = []
    for name in ("tokenising", "tokenised before"):
        peaks = [train(work, size, options.steps) for size in SIZES]
        for what, place in (("highest", 0), ("median of the steps", 1)):
            small, large = (peak[place] / 2**20 for peak in peaks)
            rows.append(
                [f"{name}, {what}", f"{small:.0f}", f"{large:.0f}", f"{large - small:+.0f}"]
            )
    header = ("anonymous memory, MiB", *(f"{size:,} rows" for size in SIZES), "difference")
    console.say(console.table(rows, header))


if __name__ == "__main__":
    main()
