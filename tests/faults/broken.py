"""``python -m tests.faults.broken``: a large file of which 1 % is broken in every way.

Every broken line must stand in quarantine with its reason, its bytes and its exact offset, every
other line must be kept, and the counts must balance. Ends with 1 where one of them is not so.
"""

import argparse
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from data import console
from data.artefacts import schema
from data.synthetic import broken
from tests.faults.cleaning import OPEN, command, counts, expect, parts, quarantined, synthesize

SEED = 3407


def check(raw: Path, out: Path, share: float) -> dict[str, int]:
    """Compare a cleaned folder with what is known of its plain raw file.

    Returns:
        How many lines were broken in each way, by reason and form.
    """
    expected, kept, ways = known(raw, share)
    found = {int(str(row["byte_offset"])): row for row in quarantined(out)}
    expect(found.keys() == expected.keys(), "other lines stand in quarantine than are broken")
    with raw.open("rb") as file:
        for offset, row in found.items():
            line = row["line"]
            expect(isinstance(line, bytes) and row["reason"] == expected[offset],
                   f"byte {offset:,}: {row['reason']} instead of {expected[offset]}")  # fmt: skip
            file.seek(max(offset - 1, 0))
            before = file.read(1) if offset else b"\n"
            there = file.read(len(line) + 1)
            whole = len(line) == schema.QUARANTINED_LINE_BYTES or there[-1:] == b"\n"
            expect(before == b"\n" and there[: len(line)] == line and whole,
                   f"byte {offset:,}: the line there is another")  # fmt: skip
    offsets = [pq.read_table(part, columns=["byte_offset"])["byte_offset"] for part in parts(out)]
    rows = np.sort(np.concatenate([column.to_numpy() for column in offsets]))
    expect(np.array_equal(rows, kept), "not every other line was kept once")
    told = counts(out)
    expect((told.read, told.kept) == (len(kept) + len(expected), len(kept)), "the counts are wrong")
    expect(told.quarantined == Counter(expected.values()), "the reasons' counts are wrong")
    return ways


def known(raw: Path, share: float) -> tuple[dict[int, str], np.ndarray, dict[str, int]]:
    """Tell the broken lines' reasons by offset, the others' offsets, and the ways' counts."""
    expected: dict[int, str] = {}
    kept: list[int] = []
    ways: Counter[str] = Counter()
    offset = 0
    with raw.open("rb") as file:
        for place, line in enumerate(file):
            if way := broken.choose(SEED, place, share):
                expected[offset] = way.reason
                ways[f"{way.reason}: {way.form}"] += 1
            else:
                kept.append(offset)
            offset += len(line)
    return expected, np.array(kept), dict(ways)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--work", type=Path, default=Path("data/store/faults"))
    options = parser.parse_args()
    raw = options.work / f"broken-{options.rows}-{options.share}.json"
    synthesize(raw, f"--rows={options.rows}", f"--seed={SEED}", f"--broken_share={options.share}")
    out = options.work / "broken"
    loose = ("--max_quarantined_share=1", "--overwrite=true")
    began = time.perf_counter()
    subprocess.run(command(raw, out, *OPEN, *loose), check=True)
    seconds = time.perf_counter() - began
    ways = check(raw, out, options.share)
    every = {f"{way.reason}: {way.form}" for forms in broken.FORMS.values() for way in forms}
    missing = every - ways.keys()
    console.say(
        console.table(
            [(way, f"{count:,}") for way, count in sorted(ways.items())], ("way", "lines")
        )
    )
    console.say(f"\n{sum(ways.values()):,} broken lines of {options.rows:,}, in {len(ways)} of "
            f"{len(every)} ways: all quarantined with their reason and exact offset, all others "
            f"kept, balance exact; cleaned in {seconds:.1f} s")  # fmt: skip
    if missing:
        console.say(f"too few lines for: {', '.join(sorted(missing))}")


if __name__ == "__main__":
    main()
