"""``generate`` on one GPU and on all of them: rows/s, and whether the rows are the same.

Runs the command itself on invented titles with a random TinyLlama. Start-up (loading, compiling) is
left out: the rate is that of the parts after each worker's first, by the times at which the parts
were committed. ``python -m tests.benchmarks.generate_gpus --gpus 1 2``.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.dataset as ds

from data import console
from tests.benchmarks import tinyllama
from tests.benchmarks.generate import SMALL


def rate(out: Path, workers: int, part_rows: int) -> float:
    """Return rows/s once every worker has written a part."""
    times = sorted(part.stat().st_mtime for part in out.glob("part-*.parquet"))
    return (len(times) - workers) * part_rows / (times[-1] - times[workers - 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rows", type=int, default=65_536)
    parser.add_argument("--part_rows", type=int, default=4_096)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a small model, to try the script")
    parser.add_argument("--work", type=Path, default=Path("data/store/bench-generate"))
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    base = options.work / "base"
    tinyllama.build(base, SMALL if options.small else tinyllama.SHAPE, options.device)
    titles = options.work / "titles.txt"
    named = tinyllama.titles(options.rows)
    titles.write_text("".join(f"{title} No. {i}\n" for i, title in enumerate(named)))
    rates: dict[int, list[float]] = {}
    texts = {}
    for _ in range(options.rounds):
        for gpus in options.gpus:
            out = options.work / f"out-{gpus}"
            shutil.rmtree(out, ignore_errors=True)
            began = time.perf_counter()
            subprocess.run(
                [
                    sys.executable, "-m", "inference", "generate", "--run", str(base),
                    "--titles", str(titles), "--out", str(out), "--workers", str(gpus),
                    "--part_rows", str(options.part_rows), "--max_new_tokens", "128",
                    "--device", options.device,
                ],
                check=True,
            )  # fmt: skip
            rates.setdefault(gpus, []).append(rate(out, gpus, options.part_rows))
            console.say(
                f"{gpus} GPUs: {time.perf_counter() - began:.1f} s, {rates[gpus][-1]:.0f} rows/s"
            )
            texts[gpus] = ds.dataset(sorted(map(str, out.glob("part-*.parquet")))).to_table()
    first = options.gpus[0]
    lines = []
    for gpus, speeds in rates.items():
        median, one = statistics.median(speeds), statistics.median(rates[first])
        same = sum(
            a == b
            for a, b in zip(
                texts[gpus]["description"].to_pylist(), texts[first]["description"].to_pylist(),
                strict=True,
            )
        )  # fmt: skip
        lines.append([str(gpus), f"{median:.0f}", f"{median / one:.2f}", f"{same:,}"])
    console.say(console.table(lines, ("GPUs", "rows/s", "times the first", "rows the same")))


if __name__ == "__main__":
    main()
