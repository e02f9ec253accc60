"""A million titles through ``generate`` with an engine that writes at once: host memory by rows.

Shows that nothing but eight bytes a row (the hashes that count repeated descriptions) stays behind:
``python -m tests.benchmarks.stream --rows 1000000``. Driver and worker are one process here, so
that its resident memory is both. Prints a line every tenth of the rows.
"""

import argparse
import resource
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from data import console
from data.cluster.client import SETTINGS
from inference import engine
from inference.config import GenerateConfig
from inference.engine import Completion, Request
from inference.generate import command
from tests.benchmarks import tinyllama
from tests.benchmarks.generate import SMALL


class Echo:
    """Write something about every prompt, without a model."""

    def room(self, requests: Sequence[Request]) -> list[int]:
        return [100] * len(requests)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [Completion(request.prompt[-300:], "stop", 80, 100) for request in requests]


def watch(out: Path, rows: int, stop: threading.Event) -> None:
    """Print resident memory whenever a tenth of the parts is there."""
    process, reported = psutil.Process(), 0
    while not stop.wait(0.05):
        parts = len(list(out.glob("part-*.parquet")))
        written = min(parts * 2_048, rows)
        if written >= (reported + 1) * rows / 10:
            reported = int(written * 10 / rows)
            console.say(f"{written:>10,} rows  {process.memory_info().rss / 2**20:7.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, default=Path("data/store/bench-stream"))
    options = parser.parse_args()
    import dask
    from distributed import LocalCluster

    tinyllama.build(options.work / "base", SMALL, "cpu")
    titles, out = options.work / "titles.txt", options.work / "out"
    shutil.rmtree(out, ignore_errors=True)
    kinds = tinyllama.titles(1_000)
    with titles.open("w") as file:
        for row in range(options.rows):
            file.write(f"{kinds[row % len(kinds)]} No. {row}\n")
    engine.load = lambda model, settings: Echo()
    stop = threading.Event()
    watcher = threading.Thread(target=watch, args=(out, options.rows, stop))
    began = time.perf_counter()
    with (
        dask.config.set(SETTINGS),
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
    ):
        watcher.start()
        command.run(
            GenerateConfig(
                run=str(options.work / "base"), titles=str(titles), out=str(out), device="cpu",
                scheduler=cluster.scheduler_address,
            )
        )  # fmt: skip
        stop.set()
    watcher.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    console.say(f"{time.perf_counter() - began:.1f} s, peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
