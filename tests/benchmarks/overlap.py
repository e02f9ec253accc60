"""How fast texts are compared with all training texts: copied spans and nearest texts, exactly.

    python -m tests.benchmarks.overlap [TRAINED] [TEXTS]

Half of the training texts are put together from 500 sentences, as boilerplate is, half from words
drawn anew; so are the texts. Prints seconds and the peak memory of the process.
"""

import random
import resource
import sys
import time

import pyarrow as pa

from inference.overlap import find_copies, find_nearest

LEAST = 50


def main(trained: int = 100_000, texts: int = 1_000) -> None:
    """Compare and print."""
    draw = random.Random(3407)  # noqa: S311
    words = [f"{a}{b}" for a in "bcdfghjklmnprstvwz" for b in ("am", "elo", "ity", "ont", "us")]
    sentences = [" ".join(draw.choices(words, k=12)) + "." for _ in range(500)]

    def text(place: int) -> str:
        return " ".join(draw.choices(sentences, k=7) if place % 2 else draw.choices(words, k=84))

    corpus = pa.chunked_array([pa.array([text(i) for i in range(trained)])])
    written = [text(i) for i in range(texts)]
    size = corpus.nbytes / 1e6
    print(f"{trained:,} training texts ({size:.0f} MB), {texts:,} texts")
    began = time.perf_counter()
    find_copies(written, corpus, LEAST)
    between = time.perf_counter()
    find_nearest(written, corpus)
    ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"copied spans {between - began:.1f} s, nearest texts {ended - between:.1f} s, "
          f"peak {peak:.2f} GiB")  # fmt: skip


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
