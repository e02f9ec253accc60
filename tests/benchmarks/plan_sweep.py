"""All candidates of a plan, measured alike: is there a faster one than it chose?

``gpu`` calls it. What was measured stays in ``sweep.jsonl``, so a call goes on where another's time
was up, and two calls on two GPUs share the work by ``0/2`` and ``1/2``.
"""

import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from data import console
from data.console import parse_memory
from training.config import PlanConfig
from training.plan import candidates
from training.plan.candidates import Candidate, Measured
from training.plan.measuring import WorkerHandle
from training.plan.plan import Plan
from training.plan.search import together

# Keeping all activations saves a third of the arithmetic at most, so of a group whose first
# candidate is slower than this share of the best none should win: a glance shows whether one does.
_SLOW = 0.6
# A glance takes two batches; from this share of the best on, the full look is taken.
_GLANCE_STEPS = 2
_NEAR = 0.75


class Sweep:
    """Measures candidates, a family after the other, largest micro-batches first, while time lasts.

    Of those that differ by the layers kept alone, none is tried above one that did not fit.
    """

    def __init__(self, config: PlanConfig, work: Path, has_time: Callable[[], bool]) -> None:
        self._config, self._work, self._has_time = config, work, has_time
        self._journal = work / "sweep.jsonl"
        self._bench = self._open(config)
        ground = self._bench.start(Candidate(config.optimisation.batch_size, 1, "every", 0))
        limit = parse_memory(config.memory_limit) if config.memory_limit else ground.free_bytes
        self._limit = min(limit, ground.free_bytes)
        self._layers = ground.shape.layers
        batch, unsloth = config.optimisation.batch_size, ground.backend == "unsloth"
        self._grid = candidates.candidates(batch, self._layers, unsloth)

    def _open(self, config: PlanConfig) -> WorkerHandle:
        return WorkerHandle(config, self._work / f"sweep-{os.getpid()}")

    def run(self, share: str) -> dict[str, Any]:
        """Measure this share of the groups; compare the plan's choice with all figures."""
        part, parts = map(int, share.split("/"))
        slow = [rest for group in self._groups()[part::parts] if (rest := self._climb(group))]
        self._bench.close()
        if slow and self._has_time():
            self._bench = self._open(dataclasses.replace(self._config, steps=_GLANCE_STEPS))
            near = [candidate for group in slow for candidate in self._glance(group)]
            self._bench.close()
            self._bench = self._open(self._config)
            for candidate in near:
                if candidate not in self._read()[0] and self._has_time():
                    self._measure(candidate)
        verdict = self._judge()
        if not verdict["left_out"] and verdict["best"] != verdict["chosen"]:
            # The best of many was measured fast by luck as well: both once more.
            for candidate in self._grid:
                if str(candidate) in (verdict["best"], verdict["chosen"]):
                    self._measure(candidate)
            verdict = self._judge()
        self._bench.close()
        return verdict

    def _groups(self) -> list[list[Candidate]]:
        """Group the candidates that differ by the layers kept alone, fewest first."""

        def key(candidate: Candidate) -> tuple[Any, int]:
            return candidate.family, -candidate.micro_batch

        ordered = sorted(self._grid, key=lambda c: (*key(c), c.kept(self._layers)))
        return [list(group) for _, group in itertools.groupby(ordered, key)]

    def _climb(self, group: list[Candidate]) -> list[Candidate]:
        """Measure in full up to the first that does not fit; return the rest of a slow group."""
        for place, candidate in enumerate(group):
            measured = self._read()[0].get(candidate)
            if measured is None and not self._has_time():
                break
            measured = measured or self._measure(candidate)
            if not measured.fits(self._limit):
                break
            if place == 0 and measured.samples_per_second < _SLOW * self._best():
                return group[1:]
        return []

    def _glance(self, group: Iterable[Candidate]) -> list[Candidate]:
        """Measure two batches each; return those that come near the best."""
        near = []
        for candidate in group:
            full, glances = self._read()
            measured = full.get(candidate) or glances.get(candidate)
            if measured is None and not self._has_time():
                break
            measured = measured or self._measure(candidate, glance=True)
            if not measured.fits(self._limit):
                break
            if measured.samples_per_second >= _NEAR * self._best():
                near.append(candidate)
        return near

    def _best(self) -> float:
        fitting = (m for m in self._read()[0].values() if m.fits(self._limit))
        return max((m.samples_per_second for m in fitting), default=0.0)

    def _measure(self, candidate: Candidate, glance: bool = False) -> Measured:
        measured = self._bench.measure(candidate)
        with self._journal.open("a") as file:
            file.write(json.dumps({"glance": glance, "told": dataclasses.asdict(measured)}) + "\n")
        speed, took = f"{measured.samples_per_second:.1f}", f"{measured.measuring_seconds:.0f} s"
        peak = f"{measured.peak_bytes / 2**30:.2f} GiB"
        look = "glanced at" if glance else "measured"
        console.say(f"{candidate}: {speed}, {peak}, {look} in {took} {measured.fault}")
        return measured

    def _read(self) -> tuple[dict[Candidate, Measured], dict[Candidate, Measured]]:
        """Read what was measured so far, by this call or others: in full, and by a glance."""
        looks: tuple[dict[Candidate, Measured], dict[Candidate, Measured]] = ({}, {})
        for line in self._journal.read_text().splitlines() if self._journal.exists() else []:
            entry = json.loads(line)
            measured, look = Measured.from_dict(entry["told"]), looks[entry["glance"]]
            earlier = look.get(measured.candidate)
            look[measured.candidate] = together(earlier, measured) if earlier else measured
        return looks

    def _judge(self) -> dict[str, Any]:
        full, glances = self._read()
        speeds = {c: m.samples_per_second for c, m in full.items() if m.fits(self._limit)}
        best = max(speeds, key=lambda candidate: speeds[candidate])
        looked = glances | full
        over = [c for c, m in looked.items() if not m.fits(self._limit)]
        beyond = sum(
            candidate not in looked and any(
                (candidate.micro_batch, candidate.family) == (other.micro_batch, other.family)
                and candidate.kept(self._layers) > other.kept(self._layers)
                for other in over
            )
            for candidate in self._grid
        )  # fmt: skip
        chosen = self._chosen()
        same = speeds.get(chosen) if chosen else None
        return {
            "best": str(best), "best_samples_per_second": speeds[best],
            "chosen": str(chosen), "chosen_samples_per_second": same,
            "share_of_best": same / speeds[best] if same else None,
            "candidates": len(self._grid), "measured": len(full),
            "glanced_at": len(glances.keys() - full.keys()),
            "fastest_glance": max((m.samples_per_second for m in glances.values()), default=None),
            "beyond_what_fits": beyond, "left_out": len(self._grid) - len(looked) - beyond,
        }  # fmt: skip

    def _chosen(self) -> Candidate | None:
        """Read the choice of the first plan; none: it is still being made."""
        plans = sorted(self._work.glob("plans/*/plan.json"), key=lambda path: path.stat().st_mtime)
        return Plan.from_json(plans[0].read_text()).candidate if plans else None
