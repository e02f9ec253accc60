"""``python -m tests.faults.texts``: repaired texts against their one-line definition, row by row.

Invents rows with the text defects turned up, cleans them with every row kept, and compares both
texts of each with the definition, written out here. Ends with 1 at the first that differs.
"""

import argparse
import concurrent.futures
import html
import json
import multiprocessing
import subprocess
from functools import partial
from pathlib import Path

import ftfy
import pyarrow.parquet as pq

from data import console
from tests.faults.cleaning import OPEN, command, expect, finished, parts, synthesize


def repaired(raw: str) -> str:
    return " ".join(ftfy.fix_text(html.unescape(raw)).split())


def compare(raw: Path, part: Path) -> tuple[int, int, list[str]]:
    """Count the rows of a part and the texts that were changed, and tell those that differ."""
    changed = 0
    wrong = []
    rows = pq.read_table(part, columns=["uid", "title", "content", "byte_offset"]).to_pylist()
    with raw.open("rb") as file:
        for row in rows:
            file.seek(row["byte_offset"])
            record = json.loads(file.readline())
            if record["uid"] != row["uid"]:
                wrong.append(f"byte {row['byte_offset']:,}: another record")
            for name in ("title", "content"):
                expected = repaired(record[name])
                changed += expected != record[name]
                if row[name] != expected:
                    wrong.append(f"{row['uid']} {name}: {row[name]!r}, expected {expected!r}")
    return len(rows), changed, wrong


def check(raw: Path, out: Path) -> tuple[int, int]:
    """Compare a folder with its plain raw file; give its rows and the texts that repair changed."""
    rows = changed = 0
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(mp_context=context) as pool:
        for count, differing, wrong in pool.map(partial(compare, raw), parts(out)):
            expect(not wrong, "\n".join(wrong[:3]))
            rows, changed = rows + count, changed + differing
    expect(rows == finished(out).counts.read, "not every row was kept")
    return rows, changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--defects", type=float, default=10.0)
    parser.add_argument("--work", type=Path, default=Path("data/store/faults"))
    options = parser.parse_args()
    raw = options.work / f"texts-{options.rows}-{options.defects:g}.json"
    synthesize(raw, f"--rows={options.rows}", f"--defects={options.defects}")
    out = options.work / "texts"
    subprocess.run(command(raw, out, *OPEN, "--overwrite=true"), check=True)
    rows, changed = check(raw, out)
    console.say(f"{rows:,} rows, {2 * rows:,} texts, {changed:,} of them changed by repair: "
            "all as the definition has them")  # fmt: skip


if __name__ == "__main__":
    main()
