"""``python -m tests.benchmarks.train_ours COUNT OUT WORDS…``: one training command, several times.

In one process, which pays for importing Unsloth once; each run writes to ``OUT-0``, ``OUT-1``, ….
"""

import gc
import sys

from training.__main__ import main


def repeat(count: int, out: str, words: list[str]) -> int:
    """Run the command ``count`` times, each from a fresh model and peak memory; stop at a fault."""
    for place in range(count):
        code = main([*words, "--out", f"{out}-{place}"])
        if code:
            return code
        import torch

        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    return 0


if __name__ == "__main__":
    sys.exit(repeat(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
