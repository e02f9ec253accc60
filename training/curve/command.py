"""The driver of ``curve``: train on nested sizes, fit a law, say how many rows are enough.

Each size is a finished subset and each run a finished run, in folders inside that of the curve, so
that an interrupted curve goes on from them and every other command takes them.
"""

import gc
import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from data import console
from data import subset as subsets
from data.artefacts import manifest
from data.artefacts.dataset import Subset
from data.artefacts.folder import Artefact, Folder, digest_bytes, digest_file, local_path
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.stage import Work, stage
from data.errors import BatchError, ConfigError, OutputError, SubsetError
from training import execution, hardware, job, processes
from training.config import TrainConfig
from training.curve import fit, losses, picture, quality, runs, summary
from training.curve.config import CurveConfig
from training.curve.runs import Planned, RunTime
from training.curve.summary import Point
from training.execution import Lender
from training.job import Job
from training.plan import command, plan
from training.plan.plan import Plan
from training.processes import Ranks

log = logging.getLogger("catalogue")

STAGE = "curve"
JSON, PNG = "curve.json", "curve.png"


def run(config: CurveConfig) -> Manifest:
    """Train the runs of a curve, or go on with them, and foretell.

    Raises:
        ConfigError: sizes that the subset does not have, or several processes.
        SubsetError: there are no rows to judge by.
        ModelError: the base cannot be loaded.
        BatchError: not one run ended with a finite loss.
        OutputError: the folder holds another output.
    """
    processes.refuse_several("curve")
    subset = job.open_subset(config.subset, config.prompt.attributes)
    _check(config, subset)
    resolved, choice = command.resolve(config, subset, Ranks())
    config = replace(config, optimisation=resolved.optimisation)
    out = local_path(config.out, "--out")
    keeps = lambda: any(out.glob("runs/*/*"))  # noqa: E731
    identity = job.identify(config, subset)
    with stage(STAGE, config, config.out, identity, keeps=keeps) as work:
        if work.finished:
            console.say(f"{config.out} is already finished for this subset and config")
            result = work.finished
        else:
            if choice:
                work.folder.commit(command.NAME, choice.to_json().encode())
            with execution.explained_faults(config, out, Ranks()):
                result = _Study(config, subset, out, choice).finish(work)
    for line in result.facts["lines"]:
        console.say(line)
    return result


def _check_same(own: Job, ready: Job) -> None:
    """Check that two sizes learn the same of validation rows, which each shows its neighbours.

    Raises:
        ConfigError: some neighbours leave a description less room.
    """
    learned = [one.validation and one.validation.seen.learned for one in (own, ready)]
    if learned[0] != learned[1]:
        expected = f"the same validation tokens at every size, {learned[1]:,}"
        hint = "raise it, and learn the description alone (--loss_on completion)"
        raise ConfigError("--max_length", expected, f"{learned[0]:,} beside other neighbours", hint)


def _check(config: CurveConfig, subset: Subset) -> None:
    rows, largest = subset.count("train"), config.sizes[-1]
    if largest > rows:
        expected, hint = f"at most the {rows:,} train rows of {config.subset}", "take a larger one"
        raise ConfigError("--sizes", expected, f"{largest:,}", hint)
    for split in ("validation", "test")[: 1 + config.evaluate]:
        if not subset.count(split):
            raise SubsetError(config.subset, f"{split} rows to judge the sizes by", "none")


class _Study:
    """A curve in the making: what is ready, and the points so far."""

    def __init__(self, config: CurveConfig, subset: Subset, out: Path, choice: Plan | None) -> None:
        self._config, self._subset, self._out, self._choice = config, subset, out, choice
        self._planned = runs.choose(config)
        self._lender = Lender()
        self._points: list[Point] = []
        self._left_out: list[dict[str, Any]] = []
        self._records: list[Manifest] = []
        self._pace: RunTime | None = None

    def finish(self, work: Work) -> Manifest:
        """Train all runs, fit the law through them and write what it says."""
        self._announce()
        nested = {size: self._nested(size) for size in self._config.sizes}
        ready = self._prepare(nested[self._config.sizes[-1]])
        for number, planned in enumerate(self._planned):
            self._train(ready, planned, nested[planned.rows], work.folder)
            if number == 0:
                self._foretell_time(self._planned[1:])
        self._lender = Lender()
        gc.collect()
        hardware.forget_peak()  # the model's memory is for the evaluation from here on
        values = self._measure(work.folder)
        as_json = json.dumps(values, indent=1, allow_nan=False).encode()
        title = f"{self._config.subset}: loss by train rows"
        png = picture.draw(values, title)
        for name, payload in ((JSON, as_json), (PNG, png)):
            work.folder.commit(name, payload)
        console.say(summary.table(values) + "\n")
        return self._record(work, values, {JSON: as_json, PNG: png})

    def _announce(self) -> None:
        sizes = self._config.sizes
        counts = {size: sum(p.rows == size for p in self._planned) for size in sizes}
        listed = ", ".join(f"{size:,} rows x {count}" for size, count in counts.items())
        steps = sum(runs.steps_of(self._config, planned.rows) for planned in self._planned)
        console.say(f"{len(self._planned)} runs: {listed} seeds; {steps:,} steps in all")
        if self._choice:
            self._foretell_time(self._planned)

    def _foretell_time(self, left: list[Planned]) -> None:
        """Say how long the runs that are left should take, once something tells."""
        if self._choice and len(left) < len(self._planned):
            return  # said before
        seconds = [self._seconds(planned.rows) for planned in left]
        known = [value for value in seconds if value is not None]
        if known and len(known) == len(seconds):
            console.say(f"{len(left)} runs to go, {console.duration(sum(known))} predicted")

    def _seconds(self, rows: int) -> float | None:
        config = runs.settings(self._config, Planned(rows, 0), self._out, self._subset.path, "")
        validation = self._subset.count("validation")
        return runs.predict(config, rows, validation, self._choice, self._pace)

    def _nested(self, size: int) -> Subset:
        if size == self._subset.count("train"):
            return self._subset
        return subsets.shrink(self._subset, size, str(self._out / "subsets" / str(size)))

    def _settings(self, planned: Planned, subset: Subset, base: str) -> TrainConfig:
        return runs.settings(self._config, planned, self._out / "runs", subset.path, base)

    def _prepare(self, largest: Subset) -> Job:
        """Find the base, or build it from the whole subset, and tokenise the largest size."""
        first = Planned(self._config.sizes[-1], self._config.seed)
        config = self._settings(first, largest, self._config.base)
        config = replace(config, tiny=self._config.tiny)
        ready = job.prepare(config, self._subset, self._out, Ranks(), largest)
        base = str(ready.base.folder) if self._config.tiny else self._config.base
        return replace(ready, config=replace(config, tiny=None, base=base))

    def _train(self, ready: Job, planned: Planned, nested: Subset, folder: Folder) -> None:
        """Train a run and measure its losses; one that diverges is left out."""
        config = self._settings(planned, nested, ready.config.base)
        identity = job.identify(config, nested, ready.base)
        try:
            own = job.on_rows(ready, config, nested, Path(config.out))
            _check_same(own, ready)
            record = self._advance(own, nested, identity)
            name = f"losses/{planned.name}.json"
            blocks = losses.of_run(folder, name, record, own, self._lender)
            loss = float(blocks[:, 0].sum() / blocks[:, 1].sum())
            if not math.isfinite(loss):
                raise BatchError(planned.name, "a finite validation loss", str(loss))
        except BatchError as error:
            log.warning("%s rows with seed %s are left out: %s", planned.rows, planned.seed, error)
            why = {"rows": planned.rows, "seed": planned.seed, "why": str(error)}
            self._left_out.append(why)
            return
        seconds = runs.seconds_of(own.out)
        self._pace = RunTime.of(record, seconds)
        self._records.append(record)
        steps = record.facts["steps"]
        self._points.append(Point(planned, str(own.out.resolve()), loss, steps, seconds, blocks))
        console.say(f"{planned.rows:,} rows, seed {planned.seed}: loss {loss:.4f}")

    def _advance(self, own: Job, nested: Subset, identity: dict[str, Any]) -> Manifest:
        """Train a run or find it finished; with ``overwrite`` one of other settings is replaced."""
        choice, validation = self._choice, own.validation
        if choice:
            rows = len(validation.rows) if validation else 0
            choice = choice.for_length(plan.length(own.config, len(own.train.rows), rows))
        try:
            record = execution.advance(own, nested, identity, self._lender, choice)
        except OutputError:
            if not self._config.overwrite:
                raise
            again = replace(own, config=replace(own.config, overwrite=True))
            record = execution.advance(again, nested, identity, self._lender, choice)
        assert record  # noqa: S101  # nothing halts it
        return record

    def _measure(self, folder: Folder) -> dict[str, Any]:
        """Fit the law, and let the runs' texts be judged where that was asked for."""
        if not self._points:
            raise BatchError("curve", "a run with a finite loss", self._left_out[-1]["why"])
        config, points = self._config, self._points
        curve = fit.estimate(
            [point.run.rows for point in points],
            *losses.stack([point.blocks for point in points]),
            config.seed,
        )
        largest, every = config.sizes[-1], self._subset.count("train")
        rows = config.predict or (every if every > largest else 10 * largest)
        values = summary.collect(curve, points, self._left_out, rows, self._seconds(rows))
        if config.evaluate:
            first = {p.run.rows: p.folder for p in points if p.run.seed == config.seed}
            scores = quality.judge(config, list(first.values()), folder)
            for size in values["sizes"]:
                if own := scores.get(first.get(size["rows"], "")):
                    size["quality"] = own
        return {"lines": summary.lines(values)} | values

    def _record(self, work: Work, values: dict[str, Any], files: dict[str, bytes]) -> Manifest:
        every, largest = self._subset.count("train"), self._config.sizes[-1]
        outputs = [
            Artefact(name, 0, len(payload), digest_bytes(payload))
            for name, payload in files.items()
        ]
        for point in self._points:
            name = f"losses/{point.run.name}.json"
            path = Path(work.folder.path(name))
            outputs.append(Artefact(name, 0, path.stat().st_size, digest_file(path)))
        parents = [
            record.as_parent(manifest.absolute(point.folder))
            for record, point in zip(self._records, self._points, strict=True)
        ]
        beyond = every - largest
        names = ("lines", "law", "foretold", "little_gain", "spread", "left_out")
        result = work.finish(
            outputs=tuple(outputs),
            counts=Counts(every, largest, {"beyond_size": beyond} if beyond else {}),
            inputs=self._subset.record.outputs,
            made_from=tuple(parents),
            facts={name: values[name] for name in names},
        )
        console.say(f"{self._config.out} finished in {result.seconds:.1f} s")
        return result
