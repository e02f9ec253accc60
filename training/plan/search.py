"""Find the fastest way of running a batch that fits the memory, with few measurements. Pure.

What was measured on the card bounds what is left: no candidate multiplies faster than the card
does, none does with fewer rows at a time better than with more, and one that has more rows at a
time gains at most what launching its kernels costs. Of those that could be faster by some per cent
the one expected to be fastest is measured next, until none is left.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from training.plan.candidates import (
    MARGIN,
    OUT_OF_MEMORY,
    Candidate,
    Family,
    Measured,
    MemoryEstimate,
    ModelShape,
    Speed,
    estimate,
)

# An estimate this many times the limit is not worth a try; below, measuring decides.
HOPELESS = 1.5
# What an estimate may be short of, before anything was measured: running out of memory costs a
# process, which takes as long as two measurements.
_INACCURACY = 1.25
# Recomputing all layers adds this share to a step's time: by arithmetic half of it (4 FLOP a weight
# and token without, 2 more with it), of which a small card showed a third and launches less.
_RECOMPUTING = (0.2, 0.5)
# Two candidates that are closer than this are equally fast.
_TIE = 0.01
# Only what may be faster by more than this is measured.
_WORTH = 0.03
# Of those expected to be alike the one with most rows is measured next: padding tells them apart by
# a few per cent, and launching costs more. The very first takes no more of the limit than this.
_ALIKE, _FIRST = 0.1, 0.5
# Before any was measured: seconds to launch a micro-batch whose layers are recorded and one whose
# are not, and the share of the card's matrix products that is reached.
_RECORDED, _LAUNCH, _REACHED = 0.02, 0.1, 0.6
# Those this close to the fastest, and no more than so many, are measured once more at the end.
_CLOSE = 0.07
_CONTENDERS = 3
# Seconds from which on no other measurement is begun, where something fits.
_PATIENCE = 120.0


@dataclass
class Search:
    """Finds the fastest candidate that fits with few measurements.

    Within one micro-batch and way of checkpointing, more kept layers are faster and take more
    memory: so of each such group only the one with the most layers that should fit is in question.
    """

    grid: Sequence[Candidate]
    shape: ModelShape
    limit: int
    optimizer_bytes: int
    speed: Speed
    measure: Callable[[Candidate, float], Measured]
    """Takes the seconds of the fastest so far for the batch of middling length as well."""
    clock: Callable[[], float] = time.monotonic
    results: dict[Candidate, Measured] = field(default_factory=dict)

    def run(self) -> None:
        """Measure until nothing better is to be expected, or the time is up."""
        began = self.clock()
        while candidate := self._next():
            if self._fitting() and self.clock() - began > _PATIENCE:
                break
            self._try(candidate)
        self._play_off(began + _PATIENCE)

    @property
    def skipped(self) -> list[Candidate]:
        """Those that were not measured."""
        return [candidate for candidate in self.grid if candidate not in self.results]

    def _next(self) -> Candidate | None:
        """Choose the one expected to be fastest, of the process that runs as long as it has any."""
        best = max((m.samples_per_second for m in self._fitting()), default=0.0)
        hopes = {c: self._highest_speed(c) for c in self._contenders()}
        worth = [c for c, speed in hopes.items() if speed > best * (1 + _WORTH)]
        last = next(reversed(self.results.values()), None)
        family = last.candidate.family if last and not last.fault else None
        near = [c for c in worth if c.family == family] or worth
        if not self.results:
            near = [c for c in near if self._peak(c) <= self.limit * _FIRST] or near
        expected = {c: self._expected_speed(c) for c in near}
        top = max(expected.values(), default=0.0)
        alike = [c for c, speed in expected.items() if speed >= top * (1 - _ALIKE)]
        return max(alike, key=lambda c: (c.is_recorded, c.micro_batch, expected[c]), default=None)

    def _expected_speed(self, candidate: Candidate) -> float:
        """Return the samples/s to expect: launching or multiplying, whichever takes longer."""
        rows = candidate.micro_batch
        launch = min(
            (c.micro_batch / m.samples_per_second for c, m in self.results.items()
             if m.samples_per_second and c.is_recorded == candidate.is_recorded),
            default=_RECORDED if candidate.is_recorded else _LAUNCH,
        )  # fmt: skip
        flop = self._estimate(candidate).flop_a_token * self._tokens(candidate) * rows
        return rows / max(launch, flop / (_REACHED * self.speed.flops))

    def _contenders(self) -> Iterator[Candidate]:
        """Yield of each group the one with the most layers kept that should fit, if not measured.

        Where nothing should fit, all that are not hopeless are in question, smallest first.
        """
        groups = [list(group) for group in self._groups()]
        top = [c for group in groups if (c := self._most_kept(group))]
        if top or self._fitting():
            yield from top
            return
        left = [c for c in self.skipped if not self._is_beyond(c)]
        smallest = min(left, key=lambda c: self._estimate(c).peak_bytes, default=None)
        if smallest and self._estimate(smallest).peak_bytes <= HOPELESS * self.limit:
            yield smallest

    def _groups(self) -> Iterator[Iterator[Candidate]]:
        """Yield the candidates that differ by the layers kept alone, fewest first."""

        def key(candidate: Candidate) -> tuple[Family, int]:
            return candidate.family, candidate.micro_batch

        ordered = sorted(self.grid, key=lambda c: (*key(c), self._kept(c)))
        for _, group in itertools.groupby(ordered, key):
            yield group

    def _most_kept(self, group: list[Candidate]) -> Candidate | None:
        """Return the one with the most layers kept that should fit; None: it was measured."""
        # Half of the margin: a look that ends above it has cost no process.
        room = self.limit * (1 - MARGIN / 2)
        for candidate in reversed(group):
            if candidate in self.results:
                if not self.results[candidate].fault and not self._is_over(candidate):
                    return None
            elif not self._is_beyond(candidate) and self._peak(candidate) <= room:
                return candidate
        return None

    def _is_over(self, candidate: Candidate) -> bool:
        measured = self.results[candidate]
        return not measured.is_left and not measured.fits(self.limit)

    def _is_beyond(self, candidate: Candidate) -> bool:
        """Return whether one with as many rows and no more kept layers did not fit or failed."""
        return any(
            self._is_over(other) and other.family == candidate.family
            and other.micro_batch == candidate.micro_batch
            and self._kept(other) <= self._kept(candidate)
            for other in self.results
        )  # fmt: skip

    def _kept(self, candidate: Candidate) -> int:
        return candidate.kept(self.shape.layers)

    def _estimate(self, candidate: Candidate) -> MemoryEstimate:
        return estimate(candidate, self.shape, self.optimizer_bytes)

    def _tokens(self, candidate: Candidate) -> float:
        """Return the tokens of a row on average, at the least."""
        shared = self.speed.shared if candidate.is_recorded else 0
        return self.speed.row_tokens[candidate.micro_batch] - shared

    def _peak(self, candidate: Candidate) -> float:
        """Estimate the peak by formula, set right by what others took on this machine."""
        formula = self._estimate(candidate)
        fixed = formula.fixed_bytes
        # One that ran out of memory took more than there is.
        peaks = {
            c: self.limit if m.fault == OUT_OF_MEMORY else m.peak_bytes
            for c, m in self.results.items() if not m.is_left
        }  # fmt: skip
        known = [c for c, peak in peaks.items() if peak]
        # The most alike one knows best.
        like = min(known, key=lambda c: self._unlike(c, candidate), default=None)
        if like is None:
            return fixed + (formula.peak_bytes - fixed) * _INACCURACY
        ratio = (peaks[like] - fixed) / (self._estimate(like).peak_bytes - fixed)
        return fixed + (formula.peak_bytes - fixed) * max(ratio, 0.1)

    def _unlike(self, one: Candidate, other: Candidate) -> tuple[bool, float]:
        peaks = (self._estimate(c).peak_bytes for c in (one, other))
        return one.checkpointing != other.checkpointing, abs(math.log(next(peaks) / next(peaks)))

    def _try(self, candidate: Candidate) -> Measured:
        fitting = self._fitting()
        best = max(fitting, key=lambda m: m.samples_per_second, default=None)
        rival = best.glance_seconds if best and best.glance_seconds else math.inf
        result = self.measure(candidate, rival)
        estimated = self._estimate(candidate).peak_bytes
        self.results[candidate] = replace(result, estimated_bytes=estimated)
        return self.results[candidate]

    def _highest_speed(self, candidate: Candidate) -> float:
        """Return the samples/s that a candidate cannot surpass, by all that was measured."""
        tokens = self._tokens(candidate)
        least = [self._estimate(candidate).flop_a_token * tokens / self.speed.flops]
        # The bus to the host's memory may slow down those that park there; recorded layers know no
        # launches, and have kernels of their own.
        like = {candidate.checkpointing, "none"}
        if not candidate.is_recorded:
            like.add("every")
        measured = [
            m for m in self.results.values()
            if m.samples_per_second and not m.fault
            and m.candidate.attention == candidate.attention and m.candidate.checkpointing in like
        ]  # fmt: skip
        least += [self._least_seconds(candidate, m) for m in measured]
        smaller = [
            m for m in measured
            if m.candidate.micro_batch < candidate.micro_batch
            and m.candidate.is_recorded == candidate.is_recorded
        ]  # fmt: skip
        least += [
            self._on_the_line(candidate, *pair) for pair in itertools.combinations(smaller, 2)
        ]
        return 1 / max(least)

    def _least_seconds(self, candidate: Candidate, measured: Measured) -> float:
        """Return the least seconds of a row, by one that was measured."""
        own, other = candidate.micro_batch, measured.candidate.micro_batch
        # With more rows all may be launching, which costs as much for any number of them.
        tokens = self._tokens(candidate) / self._tokens(measured.candidate)
        share = other / own if own > other else tokens
        return share * self._recomputed(candidate, measured.candidate) / measured.samples_per_second

    def _on_the_line(self, candidate: Candidate, one: Measured, other: Measured) -> float:
        """Return the least seconds of a row by two with fewer rows at a time.

        A micro-batch takes the seconds of launching plus those of its rows: a line through the two.
        In truth the larger of both counts, so the line runs below what a third one takes.
        """
        rows = [m.candidate.micro_batch for m in (one, other)]
        if rows[0] == rows[1]:
            return 0.0
        seconds = [
            m.candidate.micro_batch / m.samples_per_second
            * self._recomputed(candidate, m.candidate) for m in (one, other)
        ]  # fmt: skip
        slope = (seconds[1] - seconds[0]) / (rows[1] - rows[0])
        slope = min(max(slope, 0.0), *(s / r for s, r in zip(seconds, rows, strict=True)))
        return slope + (seconds[0] - slope * rows[0]) / candidate.micro_batch

    def _recomputed(self, candidate: Candidate, measured: Candidate) -> float:
        """Return the least that a step costs, in steps of another one, for what it recomputes."""
        own, other = (1 - self._kept(c) / self.shape.layers for c in (candidate, measured))
        return min((1 + share * own) / (1 + share * other) for share in _RECOMPUTING)

    def _play_off(self, until: float) -> None:
        """Measure the fastest once more, as the best of many measurements is partly luck."""
        close = sorted(self._close(_CLOSE), key=lambda m: -m.samples_per_second)[:_CONTENDERS]
        if len(close) < 2:
            return
        # Those of the process that still runs come first.
        family = [*self.results][-1].family
        for measured in sorted(close, key=lambda m: m.candidate.family != family):
            if self.clock() + measured.measuring_seconds > until:
                return
            self.repeat(measured)

    def repeat(self, measured: Measured, rival: float = math.inf) -> None:
        """Measure a candidate once more; a rival of 0 seconds sees nothing but its start."""
        again = self.measure(measured.candidate, rival)
        self.results[measured.candidate] = together(measured, again)

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

    One that was left adds nothing.

    Not the quicker one: small micro-batches wait for the host to launch their kernels, so their
    speed varies by a tenth, and no long run keeps up with the best of a few measurements.
    """
    if one.fault or other.fault:
        return replace(other if other.fault else one, estimated_bytes=one.estimated_bytes)
    if other.is_left:
        return one
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
