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
    results: dict[Candidate, Measured] = field(default_factory=dict)

    def run(self) -> None:
        """Measure until nothing better is to be expected."""
        for group in self._groups():
            self._climb(group)
        self._play_off()

    @property
    def skipped(self) -> list[Candidate]:
        """Those that were not measured."""
        return [candidate for candidate in self.grid if candidate not in self.results]

    def _groups(self) -> Iterator[list[Candidate]]:
        """Yield the candidates that differ by the layers kept alone, fewest first."""
        keys = dict.fromkeys((c.family, c.micro_batch) for c in self.grid)
        for key in keys:
            yield sorted((c for c in self.grid if (c.family, c.micro_batch) == key), key=self._kept)

    def _kept(self, candidate: Candidate) -> int:
        return candidate.kept(self.shape.layers)

    def _at_once(self, candidate: Candidate) -> int:
        return candidate.at_once(self.shape.layers)

    def _estimate(self, candidate: Candidate) -> MemoryEstimate:
        return estimate(candidate, self.shape, self.optimizer_bytes)

    def _try(self, candidate: Candidate) -> Measured:
        result = self.measure(candidate)
        estimated = self._estimate(candidate).peak_bytes
        self.results[candidate] = replace(result, estimated_bytes=estimated)
        return self.results[candidate]

    def _is_slow(self, least: Candidate) -> bool:
        """Return whether a like one with as large a micro-batch was too slow by far.

        Smaller micro-batches leave the device idle more, and parking activations in the host's
        memory is no faster than recomputing them.
        """
        return any(
            not measured.fault and self._cannot_win(measured)
            for c, measured in self.results.items()
            if c.attention == least.attention and c.micro_batch >= least.micro_batch
            if c.keep_layers == 0 and c.checkpointing in ("every", least.checkpointing)
        )

    def _climb(self, group: list[Candidate]) -> None:
        fewest, most = group[0], group[-1]
        if self._is_slow(fewest):
            return
        room = self.limit * (1 - MARGIN)
        # Recomputing cannot be faster than keeping all, where that fits.
        kept = replace(most, checkpointing="none", keep_layers=0)
        if kept in self.results and self.results[kept].fits(self.limit):
            return
        # Where everything surely fits, recomputing is not even worth a try.
        if self._estimate(most).peak_bytes < room / 2 and self._try(most).fits(self.limit):
            return
        if self._estimate(fewest).peak_bytes > HOPELESS * self.limit:
            return
        first = self._try(fewest)
        if not first.fits(self.limit) or self._cannot_win(first):
            return
        low, high = first, math.inf
        # Rather one measurement too many than the best candidate left out.
        layer = self._estimate(fewest).layer_bytes / _INACCURACY
        while True:
            more = int((room - low.peak_bytes) / layer) if layer > 0 else self.shape.layers
            reach = self._at_once(low.candidate) + max(more, 0)
            least = self._kept(low.candidate)
            above = [c for c in group if least < self._kept(c) < high and self._at_once(c) <= reach]
            if not above:
                return
            tried = self._try(above[-1])
            if not tried.fits(self.limit):
                high = self._kept(tried.candidate)
                continue
            if added := self._at_once(tried.candidate) - self._at_once(first.candidate):
                layer = max((tried.peak_bytes - first.peak_bytes) / added, layer / 4)
            low = tried

    def _cannot_win(self, first: Measured) -> bool:
        """Return whether another one is faster than this would be without any recomputing."""
        best = max((m.samples_per_second for m in self._fitting()), default=0.0)
        return first.samples_per_second / (1 - _RECOMPUTED_SHARE) < best

    def _play_off(self) -> None:
        """Measure the fastest once more, as the best of many measurements is partly luck."""
        close = sorted(self._close(_CLOSE), key=lambda m: -m.samples_per_second)[:_CONTENDERS]
        if len(close) < 2:
            return
        # Those of the process that still runs come first.
        family = [*self.results][-1].family
        for measured in sorted(close, key=lambda m: m.candidate.family != family):
            candidate = measured.candidate
            self.results[candidate] = together(measured, self.measure(candidate))

    def _fitting(self) -> list[Measured]:
        return [measured for measured in self.results.values() if measured.fits(self.limit)]

    def _close(self, share: float) -> list[Measured]:
        """List those that fit and are slower than the fastest by no more than a share."""
        fitting = self._fitting()
        least = max((m.samples_per_second for m in fitting), default=0.0) * (1 - share)
        return [measured for measured in fitting if measured.samples_per_second >= least]

    def best(self) -> Measured | None:
        """Return the fastest that fits; of equally fast ones that of least memory."""
        return min(self._close(_TIE), key=lambda measured: measured.peak_bytes, default=None)


def together(one: Measured, other: Measured) -> Measured:
    """Join two measurements of a candidate: the mean speed, the larger peak; a fault stands.

    Not the quicker one: small micro-batches wait for the host to launch their kernels, so their
    speed varies by a tenth, and no long run keeps up with the best of a few measurements.
    """
    if one.fault or other.fault:
        return replace(other if other.fault else one, estimated_bytes=one.estimated_bytes)
    steps = max(len(one.step_seconds), 1), max(len(other.step_seconds), 1)

    def mean(mine: float, theirs: float) -> float:
        return sum(steps) / (steps[0] / mine + steps[1] / theirs) if mine and theirs else 0.0

    return replace(
        one,
        peak_bytes=max(one.peak_bytes, other.peak_bytes),
        samples_per_second=mean(one.samples_per_second, other.samples_per_second),
        tokens_per_second=mean(one.tokens_per_second, other.tokens_per_second),
        step_seconds=one.step_seconds + other.step_seconds,
        step_tokens=one.step_tokens + other.step_tokens,
        measuring_seconds=round(one.measuring_seconds + other.measuring_seconds, 2),
    )
