"""``make bench-clean``: ours and other tools on the same rows and cores, side by side.

Invented rows, or with ``--records`` real ones over and over. Whole processes, start-up included, in
turn, medians of ``--rounds``; every tool's texts are checked against ours. Memory is measured in a
round before those, untimed, as each look takes a processor from the tool, the longer the more
processes it has. Prints the table and saves it as JSON with the machine named.
"""

import argparse
import contextlib
import dataclasses
import gzip
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.dataset as ds

from data import console
from data.cluster.client import cores
from tests.benchmarks.peers import PEERS

NEEDS = {"datatrove": "datatrove", "Polars + ftfy": "polars", "DuckDB (no repair)": "duckdb"}
OURS = "ours"


def command(tool: str, source: Path, out: Path, bounds: tuple[int, int], workers: int) -> list[str]:
    if tool != OURS:
        numbers = [str(number) for number in (*bounds, workers)]
        peer = [sys.executable, "-m", "tests.benchmarks.peers", tool]
        return [*peer, str(source), str(out), *numbers]
    return [
        sys.executable, "-m", "preprocessing", "clean", "--source", str(source), "--out", str(out),
        "--rules.content_min", str(bounds[0]), "--rules.content_max", str(bounds[1]),
        "--workers", str(workers),
    ]  # fmt: skip


def timed(words: list[str]) -> float:
    """Run a command; return its seconds."""
    began = time.perf_counter()
    with running(words) as process:
        process.wait()
    return time.perf_counter() - began


def peak(words: list[str]) -> float:
    """Run a command; return GiB at most of all its processes together."""
    most = 0
    with running(words) as process:
        while process.poll() is None:
            most = max(most, memory_of(process.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
    return most / 2**30


@contextlib.contextmanager
def running(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command, to be waited for inside; show what it said where it fails."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT)
        yield process
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(words)}\n{said.read().decode()}")


def memory_of(pid: int) -> int:
    """Add up the memory of a process and its children: proportional set size, in bytes."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().pss
    return total


def rows(out: Path) -> set[tuple[str, str, str]]:
    """Read what a tool kept: uid, title, content, under the tool's own column names."""
    files = sorted(
        file for file in out.rglob("*.parquet") if not {"cache", "quarantine"} & set(file.parts)
    )
    table = ds.dataset(files).to_table()
    kept = set()
    for row in table.to_pylist():
        if "metadata" in row:  # datatrove's form
            row = {"uid": row["id"], "title": row["metadata"]["title"], "content": row["text"]}
        kept.add((row["uid"], row["title"], row["content"]))
    return kept


def repeat(records: Path, out: Path, size: int) -> int:
    """Write lines, plain or gzip, over and over up to some bytes; return how many they are."""
    with gzip.open(records) if records.suffix == ".gz" else records.open("rb") as file:
        lines = file.read().rstrip(b"\n") + b"\n"
    times = max(size // len(lines), 1)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as file:
        for _ in range(times):
            file.write(lines)
    return times * lines.count(b"\n")


@dataclasses.dataclass
class Figures:
    """What was measured of one tool."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    """Of each round."""
    gib: float = 0.0
    """Memory at its peak."""


def measure(tools: list[str], options: argparse.Namespace, work: Path) -> dict[str, Figures]:
    figures = {tool: Figures() for tool in tools}
    expected: set[tuple[str, str, str]] = set()
    for number in range(options.rounds + 1):
        for tool in tools:
            out = work / tool.split()[0]
            shutil.rmtree(out, ignore_errors=True)
            words = command(tool, options.source, out, tuple(options.bounds), options.workers)
            if number == 0:
                figures[tool].gib = peak(words)
                console.say(f"memory   {tool:<20} {figures[tool].gib:8.2f} GiB")
            else:
                figures[tool].seconds.append(timed(words))
                console.say(f"round {number}  {tool:<20} {figures[tool].seconds[-1]:8.2f} s")
            if number == 0 and tool == OURS:
                expected = rows(out)
            elif number == 0 and expected and "no repair" not in tool and rows(out) != expected:
                raise SystemExit(f"{tool} kept other rows or texts than ours")
            shutil.rmtree(out)
    return figures


def report(figures: dict[str, Figures], options: argparse.Namespace) -> None:
    ours = statistics.median(figures[OURS].seconds)
    lines = []
    for tool, measured in figures.items():
        seconds = measured.seconds
        median = statistics.median(seconds)
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        times = f"{median / ours:.2f}"
        lines.append([tool, f"{median:.2f}", spread, times, f"{measured.gib:.2f}"])
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    console.say(f"\n{options.rows:,} lines, {options.source.stat().st_size / 1e6:,.0f} MB, "
            f"{options.bounds[0]} to {options.bounds[1]} characters, {options.workers} workers, "
            f"{machine}, medians of {options.rounds}\n")  # fmt: skip
    console.say(console.table(lines, ("tool", "seconds", "range", "times ours", "peak GiB")))
    saved = vars(options) | {"source": str(options.source), "machine": machine}
    saved["figures"] = {tool: dataclasses.asdict(measured) for tool, measured in figures.items()}
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(json.dumps(saved, indent=2, default=str))
    console.say(f"\nsaved as {options.report}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--records", type=Path, help="real lines, taken over and over instead")
    parser.add_argument("--megabytes", type=int, default=876, help="of those")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--bounds", type=int, nargs=2, default=(400, 500))
    parser.add_argument("--tools", nargs="*", default=[OURS, *PEERS])
    parser.add_argument("--work", type=Path, default=Path("data/store/bench"))
    parser.add_argument("--report", type=Path, default=Path("data/store/reports/bench-clean.json"))
    options = parser.parse_args()
    options.source = options.work / f"trn-{options.rows}.json"
    if options.records:
        options.source = options.work / "real.json"
        options.rows = repeat(options.records, options.source, options.megabytes * 1_000_000)
    elif not options.source.exists():
        timed([sys.executable, "-m", "data", "synthesize", "--rows", str(options.rows),
               "--out", str(options.source)])  # fmt: skip
    tools = []
    for tool in options.tools:
        if tool in NEEDS and importlib.util.find_spec(NEEDS[tool]) is None:
            console.say(f"{tool} left out: not installed (make bench-clean installs it)")
            continue
        tools.append(tool)
    report(measure(tools, options, options.work), options)


if __name__ == "__main__":
    main()
