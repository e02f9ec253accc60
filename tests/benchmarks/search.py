"""How well and how fast titles are found: ``python -m tests.benchmarks.search CLEAN [QUESTIONS]``.

Builds the index of the clean shards where there is none, asks about titles drawn from it and
prints how many were found and how long a question took.
"""

import random
import sys
import time
from pathlib import Path

from data.artefacts.folder import Folder
from data.artefacts.parts import list_parts, read_part
from inference.ask import index, search
from tests.phrasings import questions

SEED = 11


def main(clean: str, count: int = 200) -> None:
    began = time.perf_counter()
    place = index.build(clean)
    print(f"index ready in {time.perf_counter() - began:.1f} s")
    size = Path(place, "titles.sqlite").stat().st_size
    db = index.open_index(place)
    titles = sample_titles(Folder(clean), 20 * count)
    search.find(db, "warm up")
    tally: dict[bool, list[int]] = {True: [], False: []}
    seconds, missed = [], []
    for question, title, is_whole in questions(titles, count, SEED, 0.4):
        began = time.perf_counter()
        matches = [match.title for match in search.find(db, question)]
        seconds.append(time.perf_counter() - began)
        tally[is_whole].append(matches.index(title) if title in matches else -1)
        if tally[is_whole][-1] < 0 or (is_whole and tally[is_whole][-1]):
            missed.append((question, title, matches[:2]))
    seconds.sort()
    for is_whole, places in tally.items():
        first, five = sum(p == 0 for p in places), sum(p >= 0 for p in places)
        what = "whole titles" if is_whole else "parts of titles"
        shares = f"first {first / len(places):.1%}, in five {five / len(places):.1%}"
        print(f"{what}: {len(places)} asked, {shares}")
    median, high = seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.95)]
    times = [f"{1000 * value:.1f} ms" for value in (median, high, seconds[-1])]
    print(f"a question: median {times[0]}, 95th percentile {times[1]}, most {times[2]}")
    print(f"index: {size / 2**20:,.1f} MiB")
    for question, title, matches in missed[:20]:
        print(f"  {question!r}\n    meant {title!r}\n    found {matches}")


def sample_titles(clean: Folder, count: int) -> list[str]:
    """Draw titles from a few parts."""
    draw = random.Random(SEED)  # noqa: S311
    names = list_parts(clean)
    titles: list[str] = []
    for name in draw.sample(names, min(len(names), 12)):
        titles += read_part(clean, name, ["title"]).column(0).to_pylist()
    return draw.sample(titles, min(count, len(titles)))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
