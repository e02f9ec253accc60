"""All candidates of a plan, measured alike: is there a faster one than it chose?

``gpu`` calls it. What was measured stays in ``sweep.jsonl``, so a call goes on where another's time
was up, and two calls on two GPUs share the work by ``0/2`` and ``1/2``.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data import cli
from training import plan, planning
from training.config import PlanConfig
from training.plan import Candidate, Choice, Measured
from training.search import better


class Sweep:
    """Measures candidates, largest micro-batches first, while there is time.

    Of those that differ by the layers kept alone, none is tried above one that did not fit.
    """

    def __init__(self, config: PlanConfig, work: Path, has_time: Callable[[], bool]) -> None:
        plans = sorted(work.glob("plans/*/plan.json"), key=lambda path: path.stat().st_mtime)
        self._chosen = Choice.from_json(plans[0].read_text())
        self._journal = work / "sweep.jsonl"
        self._has_time = has_time
        batch = config.optimisation.batch_size
        first = Candidate(batch, 1, "every", 0)
        self._bench = planning.Workbench(config, work / f"sweep-{os.getpid()}", first)
        self._layers = self._bench.ground.shape.layers
        unsloth = self._bench.ground.backend == "unsloth"
        self._grid = plan.candidates(batch, self._layers, unsloth)

    def run(self, share: str) -> dict[str, Any]:
        """Measure this share of the groups; compare the choice with all that is known."""
        groups: dict[Any, list[Candidate]] = {}
        for each in sorted(self._grid, key=lambda c: (-c.micro_batch, c.kept(self._layers))):
            groups.setdefault((each.micro_batch, each.family), []).append(each)
        part, parts = map(int, share.split("/"))
        for group in [*groups.values()][part::parts]:
            self._climb(group)
        found = self._judge()
        if not found["left_out"] and found["best"] != found["chosen"]:
            # The best of many is the luckiest, too: both once more.
            for each in self._grid:
                if str(each) in (found["best"], found["chosen"]):
                    self._measure(each)
            found = self._judge()
        self._bench.close()
        return found

    def _climb(self, group: Sequence[Candidate]) -> None:
        known = self._read()
        for candidate in group:
            told = known.get(candidate)
            if told is None and not self._has_time():
                return
            told = told or self._measure(candidate)
            if not told.fits(self._chosen.limit_bytes):
                return

    def _measure(self, candidate: Candidate) -> Measured:
        told = self._bench.measure(candidate)
        with self._journal.open("a") as file:
            file.write(json.dumps(dataclasses.asdict(told)) + "\n")
        speed, took = f"{told.samples_per_second:.1f}", f"{told.measuring_seconds:.0f} s"
        peak = f"{told.peak_bytes / 2**30:.2f} GiB"
        cli.say(f"{candidate}: {speed}, {peak}, measured in {took} {told.fault}")
        return told

    def _read(self) -> dict[Candidate, Measured]:
        """What was measured so far, by this call or others."""
        found: dict[Candidate, Measured] = {}
        for line in self._journal.read_text().splitlines() if self._journal.exists() else []:
            told = Measured.from_dict(json.loads(line))
            known = found.get(told.candidate)
            found[told.candidate] = better(known, told) if known else told
        return found

    def _judge(self) -> dict[str, Any]:
        ran, limit = self._read(), self._chosen.limit_bytes
        speeds = {c: each.samples_per_second for c, each in ran.items() if each.fits(limit)}
        best = max(speeds, key=lambda candidate: speeds[candidate])
        same = speeds.get(self._chosen.candidate)
        beyond = sum(
            each not in ran and any(
                (each.micro_batch, each.family) == (other.micro_batch, other.family)
                and each.kept(self._layers) > other.kept(self._layers)
                for other in ran.keys() - speeds.keys()
            )
            for each in self._grid
        )  # fmt: skip
        return {
            "best": str(best), "best_samples_per_second": speeds[best],
            "chosen": str(self._chosen.candidate), "chosen_samples_per_second": same,
            "share_of_best": same / speeds[best] if same else None,
            "candidates": len(self._grid), "measured": len(ran), "beyond_what_fits": beyond,
            "left_out": len(self._grid) - len(ran) - beyond,
        }  # fmt: skip
