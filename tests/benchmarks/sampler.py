"""Does the sampler draw what it should? Every word of its hash, and whole rows of draws.

``python -m tests.benchmarks.sampler`` counts, within some minutes of two CPU cores:

- all 2**32 words that the hash can give: is the noise of each finite;
- the noise of ``--noises`` hashes (10**8): finite, with the mean and variance of Gumbel's;
- ``--rows`` rows of 32,000 tokens a control, one of which is certain: is another drawn;
- ``--draws`` draws among few tokens a control: chi-squared against the exact chances.

On a GPU (``--device cuda``) the rows without top-p are drawn by a compiled function that never
stores them, as in the fast engine: 10**8 of them take minutes.

Ends with 1 where something does not hold.
"""

import argparse
import math
import time
from collections.abc import Callable

import torch

from inference.engine.sampler import Sampler, gumbel, noise, row_key

_VOCABULARY = 32_000
_AT_ONCE = 2**24
CONTROLS = [(0.3, 1.0, 0.0), (1.0, 1.0, 0.0), (1.0, 0.9, 0.0), (0.3, 0.9, 0.0), (1.0, 1.0, 0.05)]
"""Temperature, top-p and min-p."""
# Of a right sampler one run in some 10**5 fails: five controls of the tail of 10**-6 and more.
_LEAST_CHANCE = 1e-6


def all_words() -> bool:
    """Look at the noise of every word of 32 bits."""
    infinite, words = 0, torch.arange(_AT_ONCE)
    for start in range(0, 2**32, _AT_ONCE):
        infinite += int((~torch.isfinite(noise(words + start))).sum())
    print(f"words: {2**32:,}, of which {infinite:,} give noise that is not finite")
    return infinite == 0


def keys(rows: int, start: int = 0) -> torch.Tensor:
    """Make keys as a run does: [rows, 2]."""
    return torch.tensor([row_key(str(i), 1) for i in range(start, start + rows)])


def noises(count: int) -> bool:
    """Look at the noise of so many tokens of successive rows."""
    rows, total, squares, infinite, done = _AT_ONCE // _VOCABULARY, 0.0, 0.0, 0, 0
    while done < count:
        values = gumbel(keys(rows, done), torch.arange(rows), _VOCABULARY)
        infinite += int((~torch.isfinite(values)).sum())
        total += float(values.double().sum())
        squares += float(values.double().square().sum())
        done += values.numel()
    mean, variance = total / done, squares / done - (total / done) ** 2
    # Standard errors: the variance is pi**2 / 6, and the fourth central moment 3 + 12 / 5 of it.
    errors = (math.pi / math.sqrt(6 * done), math.pi**2 / 6 * math.sqrt(4.4 / done))
    apart = (abs(mean - 0.5772156649) / errors[0], abs(variance - math.pi**2 / 6) / errors[1])
    print(
        f"noises: {done:,}, {infinite} not finite, mean {apart[0]:.1f} and variance "
        f"{apart[1]:.1f} standard errors from Gumbel's"
    )
    return not infinite and max(apart) < 5


def certain_rows(rows: int, device: str) -> bool:
    """Draw whole rows of 32,000 tokens one of which has all of the probability but 1e-30."""
    others, drawn = 0, 0
    size = 200 if device == "cpu" else 4_096
    own = keys(size).to(device)
    for temperature, top_p, min_p in CONTROLS:
        scores = torch.full((1, _VOCABULARY), -69.0 * temperature, device=device)
        scores[:, 17] = 0.0
        choose = Sampler(temperature, top_p, min_p).choose
        is_fused = device != "cpu" and top_p == 1
        if is_fused:
            choose = torch.compile(choose, dynamic=False)
        scores = scores.expand(size, -1)
        wrong = torch.zeros((), dtype=torch.int64, device=device)
        # Sorting stores the rows, and takes a hundred times as long.
        for step in range(-(-(rows if is_fused or device == "cpu" else rows // 100) // size)):
            steps = torch.full((size,), step, device=device)
            wrong += (choose(scores, own, steps) != 17).sum()
            drawn += size
        others += int(wrong)
    print(f"certain rows: {drawn:,} of {_VOCABULARY:,} tokens, another drawn in {others}")
    return others == 0


def few_tokens(draws: int) -> bool:
    """Draw among eight tokens, one of them rare, and compare with the exact chances."""
    logits = torch.tensor([2.0, 1.5, 1.5, 1.0, 0.0, -1.0, -4.0, -9.0])
    are_right = True
    for temperature, top_p, min_p in CONTROLS:
        counts, rows = torch.zeros(8), 2**20
        scores = logits.repeat(rows, 1)
        chooser, one = Sampler(temperature, top_p, min_p), keys(1).expand(rows, 2)
        for start in range(0, draws, rows):
            chosen = chooser.choose(scores, one, torch.arange(start, start + rows))
            counts += torch.bincount(chosen, minlength=8)
        shares = (logits.double() / temperature).softmax(0)
        # In falling order as they stand.
        shares = shares * (shares.cumsum(0) - shares < top_p)
        shares = shares * (shares >= min_p * shares.max())
        expected = shares / shares.sum() * counts.sum()
        chance, lost = _chance(counts.double(), expected), counts[expected == 0].sum()
        print(
            f"temperature {temperature}, top-p {top_p}, min-p {min_p}: "
            f"{int(counts.sum()):,} draws, "
            f"{int(lost)} of impossible tokens, as far from the exact shares as "
            f"{chance:.3g} of all samples"
        )
        are_right &= chance > _LEAST_CHANCE and not lost
    return are_right


def _chance(counts: torch.Tensor, expected: torch.Tensor) -> float:
    """Compute the chi-squared tail of counts; tokens rarer than 5 draws are pooled."""
    is_usual = expected >= 5
    pooled = [
        (float(c), float(e)) for c, e in zip(counts[is_usual], expected[is_usual], strict=True)
    ]
    rare = (float(counts[~is_usual].sum()), float(expected[~is_usual].sum()))
    pooled += [rare] if rare[1] >= 5 else []
    distance = sum((count - mean) ** 2 / mean for count, mean in pooled)
    half = torch.tensor([(len(pooled) - 1) / 2, distance / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


def main() -> int:
    """Count everything; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noises", type=int, default=10**8)
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--draws", type=int, default=4 * 10**6)
    parser.add_argument("--device", default="cpu", help="of the whole rows")
    parser.add_argument("--skip_words", action="store_true", help="leave out all 2**32 words")
    options = parser.parse_args()
    parts: list[Callable[[], bool]] = [
        lambda: noises(options.noises),
        lambda: certain_rows(options.rows, options.device),
        lambda: few_tokens(options.draws),
    ]
    if not options.skip_words:
        parts.insert(0, all_words)
    began, results = time.perf_counter(), []
    for part in parts:
        results.append(part())
        print(f"  {time.perf_counter() - began:.0f} s", flush=True)
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
