"""Python dictionaries, one a line: ours beside ``ast.literal_eval`` in pandas, side by side.

Real records, or any of ours, with the fields of 2014's metadata around them, in one process;
seconds of processor time, medians of ``--rounds``:
``python -m tests.benchmarks.dicts RECORDS.jsonl.gz``.
"""

import argparse
import ast
import gzip
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from data import console
from preprocessing import forms
from preprocessing.config import PRESETS, CleanConfig
from preprocessing.fields import Fields
from preprocessing.files import SourceFile
from preprocessing.parse import Records, line_bounds

_MAX_LINE_BYTES = 2**22


def dictionaries(records: Path, times: int) -> bytes:
    """Write records as the 2014 metadata does, some times over."""
    lines = []
    with gzip.open(records, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file):
            record = json.loads(line)
            lines.append(repr({
                "asin": record["uid"], "title": record["title"], "price": number % 5000 / 100,
                "imUrl": f"http://images.example/images/I/{record['uid']}.jpg",
                "description": record["content"], "salesRank": {"Books": number},
                "related": {"also_bought": [f"{number + step:010}" for step in range(5)]},
                "categories": [["Books"]],
            }))  # fmt: skip
    return ("\n".join(lines * times) + "\n").encode()


def by_pandas(data: bytes) -> int:
    lines = pd.Series(data.decode().splitlines())
    return len(pd.DataFrame(lines.map(ast.literal_eval).tolist()))


def ours(data: bytes) -> int:
    starts, stops = line_bounds(data)
    records = Records(data, starts, stops, starts, len(data))
    columns: Any = PRESETS["amazon-2014"]
    fields = Fields.of(CleanConfig(columns=columns))
    file = SourceFile("", "records", len(data), "", form="dicts")
    return int(forms.parse(records, file, fields, _MAX_LINE_BYTES).rows.num_rows)


def seconds(work: Callable[[bytes], int], data: bytes) -> tuple[float, int]:
    began = time.process_time()
    rows = work(data)
    return time.process_time() - began, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path)
    parser.add_argument("--times", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    data = dictionaries(options.records, options.times)
    ways = {"ast.literal_eval in pandas": by_pandas, "this": ours}
    figures: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        rows = set()
        for name, work in ways.items():
            took, count = seconds(work, data)
            figures[name].append(took)
            rows.add(count)
        if len(rows) > 1:
            raise SystemExit(f"other rows: {rows}")
    least = statistics.median(figures["this"])
    console.say(f"{rows.pop():,} records, {len(data) / 1e6:,.0f} MB, medians of {options.rounds}\n")
    lines = []
    for name, rounds in figures.items():
        median = statistics.median(rounds)
        spread = f"{min(rounds):.2f} to {max(rounds):.2f}"
        lines.append((name, f"{median:.2f}", spread, f"{median / least:.1f}"))
    console.say(console.table(lines, ("way", "seconds", "range", "times this")))


if __name__ == "__main__":
    main()
