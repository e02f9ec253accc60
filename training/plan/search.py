"""Find the fastest way of running a batch that fits the memory, with few measurements. Pure."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from training.plan.candidates import (
    MARGIN,
    Candidate,
    Measured,
    MemoryEstimate,
    ModelShape,
    estimate,
)

# An estimate this many times the limit is not worth a try; below, measuring decides.
HOPELESS = 1.5
# Backward and forward pass of a frozen model cost 4 FLOP a weight and token, recomputing 2 more.
_RECOMPUTED_SHARE = 1 / 3
# A layer's activations may take less than estimated by this factor.
_INACCURACY = 1.3
# Two candidates that are closer than this are equally fast.
_TIE = 0.01
# Those this close to the fastest, and no more than so many, are measured once more at the end.
_CLOSE = 0.07
_CONTENDERS = 3


@dataclass
class Search:
    """Finds the fastest candidate that fits with few measurements.

    Within one micro-batch and way of checkpointing, more kept layers are faster and take more
    memory: so the largest number that fits is looked for, by the memory that the ones before took.
    """

    grid: Sequence[Candidate]
    shape: ModelShape
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
        self._play_off()
        self.skipped = [each for each in self.grid if each not in self.found]

    def _groups(self) -> Iterator[list[Candidate]]:
        """Give the candidates that differ by the layers kept alone, fewest first."""
        keys = dict.fromkeys((each.family, each.micro_batch) for each in self.grid)
        for family, rows in keys:
            group = [c for c in self.grid if (c.family, c.micro_batch) == (family, rows)]
            yield sorted(group, key=self._kept)

    def _kept(self, candidate: Candidate) -> int:
        return candidate.kept(self.shape.layers)

    def _held(self, candidate: Candidate) -> int:
        return candidate.held(self.shape.layers)

    def _estimate(self, candidate: Candidate) -> MemoryEstimate:
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
        fewest, most = group[0], group[-1]
        if self._is_slow(fewest):
            return
        room = self.limit * (1 - MARGIN)
        # Recomputing cannot be faster than keeping all, where that fits.
        kept = replace(most, checkpointing="none", keep_layers=0)
        if kept in self.found and self.found[kept].fits(self.limit):
            return
        # Where everything surely fits, recomputing is not even worth a try.
        if self._estimate(most).peak_bytes < room / 2 and self._try(most).fits(self.limit):
            return
        if self._is_hopeless(fewest):
            return
        first = self._try(fewest)
        if not first.fits(self.limit) or self._cannot_win(first):
            return
        low, high = first, math.inf
        # Rather one look too many than the best one left out.
        layer = self._estimate(fewest).layer_bytes / _INACCURACY
        while True:
            more = int((room - low.peak_bytes) / layer) if layer > 0 else self.shape.layers
            reach = self._held(low.candidate) + max(more, 0)
            least = self._kept(low.candidate)
            above = [c for c in group if least < self._kept(c) < high and self._held(c) <= reach]
            if not above:
                return
            tried = self._try(above[-1])
            if not tried.fits(self.limit):
                high = self._kept(tried.candidate)
                continue
            if added := self._held(tried.candidate) - self._held(first.candidate):
                layer = max((tried.peak_bytes - first.peak_bytes) / added, layer / 4)
            low = tried

    def _cannot_win(self, first: Measured) -> bool:
        """Tell whether even without any recomputing a faster one is known."""
        best = max((m.samples_per_second for m in self._fitting()), default=0.0)
        return first.samples_per_second / (1 - _RECOMPUTED_SHARE) < best

    def _play_off(self) -> None:
        """Measure the fastest once more: of many, the fastest is the luckiest as well."""
        fitting = sorted(self._fitting(), key=lambda each: -each.samples_per_second)
        least = fitting[0].samples_per_second * (1 - _CLOSE) if fitting else 0.0
        close = [each for each in fitting if each.samples_per_second >= least][:_CONTENDERS]
        if len(close) < 2:
            return
        # That of the process that still runs comes first.
        family = [*self.found][-1].family
        for each in sorted(close, key=lambda each: each.candidate.family != family):
            self.found[each.candidate] = together(each, self.measure(each.candidate))

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


def together(one: Measured, other: Measured) -> Measured:
    """Make one of two measurements of a candidate: the mean speed, the larger peak; a fault stands.

    Not the quicker one: small micro-batches wait for the host to launch their kernels, so their
    speed varies by a tenth, and the best of a few looks is one that no long run keeps up.
    """
    if one.fault or other.fault:
        return replace(other if other.fault else one, estimated_bytes=one.estimated_bytes)
    looks = max(len(one.step_seconds), 1), max(len(other.step_seconds), 1)

    def mean(mine: float, theirs: float) -> float:
        return sum(looks) / (looks[0] / mine + looks[1] / theirs) if mine and theirs else 0.0

    return replace(
        one,
        peak_bytes=max(one.peak_bytes, other.peak_bytes),
        samples_per_second=mean(one.samples_per_second, other.samples_per_second),
        tokens_per_second=mean(one.tokens_per_second, other.tokens_per_second),
        step_seconds=one.step_seconds + other.step_seconds,
        step_tokens=one.step_tokens + other.step_tokens,
        measuring_seconds=round(one.measuring_seconds + other.measuring_seconds, 2),
    )
