"""How far a candidate is looked at: fewer batches on a slow card, and none once it is behind. Pure.

Its batches are one of middling length, twice or more (the first times compile), then the longest
rows, then some of all lengths, and these once more where that takes little time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

# Seconds that both passes over the batches of all lengths may take; beyond, one pass is enough, as
# compiling and allocating vanish in steps so long.
_QUICK = 12.0
# Seconds that the single pass takes then, and its least number of batches, so that the median of
# their speeds is not one that compiled.
_ENOUGH, _LEAST = 8.0, 3
# Times the fastest candidate's seconds for the same rows: speeds of launch-bound steps vary by a
# tenth.
_BEHIND = 1.2


@dataclass
class Pace:
    """Says after each step whether to look any further."""

    steps: int
    """Batches of all lengths."""
    rival: float = math.inf
    """Seconds of the batch of middling length by the fastest candidate so far."""
    first: int = 3
    """Batches before those: all but the last are that of middling length."""
    seconds: list[float] = field(default_factory=list)

    def after(self, seconds: float) -> Literal["go on", "behind", "enough"]:
        """Take a step's seconds and say how to go on."""
        self.seconds.append(seconds)
        done = len(self.seconds)
        if done < self.first - 1:
            return "go on"
        if done == self.first - 1 and self.glance > _BEHIND * self.rival:
            return "behind"
        return "enough" if done >= self.first + self._looked_at() else "go on"

    @property
    def glance(self) -> float:
        """Seconds of the batch of middling length, the last time."""
        return self.seconds[self.first - 2]

    @property
    def is_quick(self) -> bool:
        """Whether the batches of all lengths are looked at twice, and the second time counts."""
        return 2 * self.steps * self.glance <= _QUICK

    @property
    def counted(self) -> range:
        """Places of the steps that count: of a candidate that was left, its glance alone."""
        done = len(self.seconds)
        if done < self.first:
            return range(self.first - 2, done)
        return range(self.first + (self.steps if self.is_quick else 0), done)

    def mean(self, tokens: Sequence[int], run_tokens: float) -> float:
        """Return the seconds of a run's step, by the tokens of these.

        A slow card's few steps count by their median speed, as one that compiled is none of a
        run's; of many quick ones the mean counts, as how much they vary is the run's too.

        Args:
            tokens: of each step, with padding.
            run_tokens: of a step of the run on average, with padding.
        """
        pairs = [(self.seconds[place], tokens[place]) for place in self.counted]
        if self.is_quick:
            return sum(s for s, _ in pairs) / sum(t for _, t in pairs) * run_tokens
        return median(s / t for s, t in pairs) * run_tokens

    def _looked_at(self) -> int:
        if self.is_quick:
            return 2 * self.steps
        return min(self.steps, max(_LEAST, int(_ENOUGH / self.glance)))
