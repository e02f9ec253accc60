"""Find the fastest way of running a batch that fits the memory, with few measurements. Pure."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from training.plan import MARGIN, Candidate, Estimate, Measured, Shape, estimate

# An estimate this many times the limit is not worth a try; below, measuring decides.
HOPELESS = 1.5
# Backward and forward pass of a frozen model cost 4 FLOP a weight and token, recomputing 2 more.
_RECOMPUTED_SHARE = 1 / 3
# Two candidates that are closer than this are equally fast.
_TIE = 0.01


@dataclass
class Search:
    """Finds the fastest candidate that fits with few measurements.

    Within one micro-batch and way of checkpointing, more kept layers are faster and take more
    memory: so the largest number that fits is looked for, by the memory that the ones before took.
    """

    grid: Sequence[Candidate]
    shape: Shape
    limit: int
    optimizer_bytes: int
    measure: Callable[[Candidate], Measured]
    found: dict[Candidate, Measured] = field(default_factory=dict)
    skipped: list[Candidate] = field(default_factory=list)

    def run(self, exhaustive: bool = False) -> None:
        """Measure until nothing better is to be expected, or every candidate."""
        for group in self._groups():
            if not exhaustive:
                self._climb(group)
                continue
            for candidate in group:
                if not self._is_hopeless(candidate):
                    self._try(candidate)
        self.skipped = [each for each in self.grid if each not in self.found]

    def _groups(self) -> Iterator[list[Candidate]]:
        """Give the candidates that differ by the layers kept alone, fewest first."""
        keys = dict.fromkeys((each.family, each.micro_batch) for each in self.grid)
        for family, rows in keys:
            group = [c for c in self.grid if (c.family, c.micro_batch) == (family, rows)]
            yield sorted(group, key=self._kept)

    def _kept(self, candidate: Candidate) -> int:
        return self.shape.layers if candidate.checkpointing == "none" else candidate.keep_layers

    def _estimate(self, candidate: Candidate) -> Estimate:
        return estimate(candidate, self.shape, self.optimizer_bytes)

    def _is_hopeless(self, candidate: Candidate) -> bool:
        return self._estimate(candidate).peak_bytes > HOPELESS * self.limit

    def _try(self, candidate: Candidate) -> Measured:
        result = self.measure(candidate)
        estimated = self._estimate(candidate).peak_bytes
        self.found[candidate] = replace(result, estimated_bytes=estimated)
        return self.found[candidate]

    def _is_slow(self, least: Candidate) -> bool:
        """Tell whether a like one with as large a micro-batch was too slow by far.

        Smaller micro-batches leave the device idle more, and parking activations in the host's
        memory is no faster than recomputing them.
        """
        likes = [
            each
            for c, each in self.found.items()
            if c.attention == least.attention and c.micro_batch >= least.micro_batch
            if c.keep_layers == 0 and c.checkpointing in ("every", least.checkpointing)
        ]
        return any(not each.fault and self._cannot_win(each) for each in likes)

    def _climb(self, group: list[Candidate]) -> None:
        least, most = group[0], group[-1]
        if self._is_slow(least):
            return
        room = self.limit * (1 - MARGIN)
        # Recomputing cannot be faster than keeping all, where that fits.
        kept = replace(most, checkpointing="none", keep_layers=0)
        if kept in self.found and self.found[kept].fits(self.limit):
            return
        # Where everything surely fits, recomputing is not even worth a try.
        if self._estimate(most).peak_bytes < room / 2 and self._try(most).fits(self.limit):
            return
        if self._is_hopeless(least):
            return
        first = self._try(least)
        if not first.fits(self.limit) or self._cannot_win(first):
            return
        low, high = first, math.inf
        layer = float(self._estimate(least).layer_bytes)
        while True:
            steps = int((room - low.peak_bytes) / layer) if layer > 0 else self.shape.layers
            reach = min(self._kept(low.candidate) + max(steps, 0), high - 1)
            above = [c for c in group if self._kept(low.candidate) < self._kept(c) <= reach]
            if not above:
                return
            tried = self._try(above[-1])
            if tried.fits(self.limit):
                more = self._kept(tried.candidate) - self._kept(first.candidate)
                layer = max((tried.peak_bytes - first.peak_bytes) / more, layer / 4)
                low = tried
            else:
                high = self._kept(tried.candidate)

    def _cannot_win(self, first: Measured) -> bool:
        """Tell whether even without any recomputing a faster one is known."""
        best = max((m.samples_per_second for m in self._fitting()), default=0.0)
        return first.samples_per_second / (1 - _RECOMPUTED_SHARE) < best

    def _fitting(self) -> list[Measured]:
        return [each for each in self.found.values() if each.fits(self.limit)]

    def best(self) -> Measured | None:
        """Give the fastest that fits; of equally fast ones that of least memory."""
        fitting = self._fitting()
        if not fitting:
            return None
        fastest = max(each.samples_per_second for each in fitting)
        close = [each for each in fitting if each.samples_per_second >= fastest * (1 - _TIE)]
        return min(close, key=lambda each: each.peak_bytes)
