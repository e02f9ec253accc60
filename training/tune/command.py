"""The driver of ``tune``: draw trials, train them in turns, write what is best.

Trials are ordinary runs below ``trials/``, one after the other in this process: the base is loaded
and the rows are tokenised once. What is decided lies in the journal before it is acted upon.
"""

import itertools
import math
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data import console
from data.artefacts.dataset import Subset
from data.artefacts.folder import Artefact, digest_file, local_path
from data.artefacts.manifest import Manifest
from data.artefacts.stage import stage
from data.errors import BatchError, ConfigError, ModelError, SubsetError
from training import execution, job, processes
from training.config import Checkpoints, TrainConfig
from training.execution import Lender
from training.job import Job
from training.loop import metrics
from training.plan import command as planning
from training.plan import plan
from training.plan.plan import Plan
from training.processes import Ranks
from training.tune import halving, results
from training.tune.config import Range, TuneConfig, applied, parse_time
from training.tune.halving import Trial
from training.tune.results import Spent
from training.tune.study import NAME, Study

STAGE = "tune"
_TRIALS_OF_RANGES = 15
_LAST = len(halving.SHARES) - 1
# Of a whole run: at each third, and at the first rung.
_EVALUATIONS = 4
# A step of more than so many times the median one did something else as well.
_UNUSUAL = 3


def run(config: TuneConfig) -> Manifest:
    """Search, or go on with a search; print the table and where the best recipe is.

    Raises:
        ConfigError: the budget pays for no trial, or a launcher started several processes.
        SubsetError: the subset has no validation rows.
        ModelError: the base cannot be trained, or no trial came anywhere.
        OutputError: the folder holds another output.
    """
    processes.refuse_several("tune")
    subset = job.open_subset(config.subset, config.prompt.attributes)
    if not subset.count("validation"):
        expected = "validation rows, as the search goes by their loss"
        raise SubsetError(config.subset, expected, "none", "make a subset with --validation 1000")
    out = local_path(config.out, "--out")
    identity = job.identify(config, subset)
    with stage(STAGE, config, config.out, identity, keeps=(out / NAME).exists) as work:
        if work.finished:
            console.say(f"{config.out} is already finished for this subset and config")
            return work.finished
        search = Search(config, subset, out)
        search.run()
        search.study.conclude()
        trials, spent = search.study.trials, search.spent()
        files = results.write(config, trials, out)
        result = work.finish(
            inputs=subset.record.outputs,
            outputs=tuple(Artefact(f.name, 0, f.stat().st_size, digest_file(f)) for f in files),
            made_from=(subset.parent,),
            facts=results.facts(trials, spent),
        )
    console.say(results.summary(config, trials, spent))
    return result


@dataclass(frozen=True)
class Prepared:
    """A trial's run, ready to be trained."""

    job: Job
    choice: Plan | None
    steps: tuple[int, ...]
    """At each rung; the last one ends it."""


class Search:
    """A search that is under way."""

    def __init__(self, config: TuneConfig, subset: Subset, out: Path) -> None:
        began = time.perf_counter()
        self._config, self._subset, self._out = config, subset, out
        recipe = replace(applied(config, {}), checkpoints=Checkpoints(eval_steps=1), plan=None)
        self._job = job.prepare(recipe, subset, out, Ranks())
        self.study = Study(out, config.space, config.seed)
        self._budget = parse_time(config.budget) if config.budget else math.inf
        self._lender = Lender()
        self._plans: dict[tuple[int, int], tuple[TrainConfig, Plan | None] | ModelError] = {}
        self._note_seconds(began)
        if self.study.facts.get("budget") != config.budget:
            for name, value in (("trials", None), ("is_over", False), ("budget", config.budget)):
                self.study.decide(name, value)

    def run(self) -> None:
        """Train until nothing more is wanted, or the budget is spent.

        Raises:
            ConfigError: the budget pays for no trial.
            ModelError: no trial came anywhere.
        """
        if not self.study.trials:
            self.study.propose()
        if self._config.plan is None and self._budget < math.inf:
            self._train_first()
        count = self._decide_count()
        while not self._is_over:
            if move := self._next(count):
                self._train(*move)
            elif self._affordable() > count:  # a whole run tells better what others take
                self.study.decide("trials", None)
                count = self._decide_count()
            else:
                break
        while best := halving.next_repeat(self.study.trials):
            if not self._train(best, _LAST, again=True):
                break
        if halving.best(self.study.trials) is None:
            if self._is_over:
                raise self._unpaid(f"a first trial and {self._setup()} before it")
            fault = self.study.trials[0].fault
            hint = "see the first fault, and start afresh with --overwrite true"
            raise ModelError(self._config.out, "a trial that trains", f"none: {fault}", hint)

    @property
    def _is_over(self) -> bool:
        """Whether the budget is spent."""
        return bool(self.study.facts.get("is_over"))

    def _train_first(self) -> None:
        """Train trials to their first rung until one comes there: it tells what a run takes."""
        while not self._is_over and not any(trial.losses for trial in self.study.trials):
            if self.study.trials[-1].fault:
                if len(self.study.trials) >= self._most():
                    return
                self.study.propose()
            self._train(self.study.trials[-1], 0)

    def _next(self, count: int) -> tuple[Trial, int] | None:
        """Return the trial to train next and its rung, drawn anew where there are too few."""
        trials = self.study.trials
        if len(trials) < count and all(trial.losses or trial.fault for trial in trials):
            self.study.propose()
        trials = self.study.trials
        missing = [Trial(number, {}) for number in range(len(trials), count)]
        return halving.next_move([*trials, *missing])

    def _most(self) -> int:
        size = self._config.space.size
        trials = self._config.trials or (_TRIALS_OF_RANGES if math.isinf(size) else int(size))
        return int(min(trials, size))

    def _decide_count(self) -> int:
        """Return the number of trials; decided once a budget, and announced."""
        seconds = self._whole_seconds()
        count = self.study.facts.get("trials")
        if count is None:
            if seconds > self._budget - self._setup_seconds():
                about = f", about {console.duration(seconds)}" if seconds else ""
                raise self._unpaid(f"one trial{about} and {self._setup()} before it")
            count = max(self._affordable(), 1)
            self.study.decide("trials", count)
        console.say(results.announcement(count, self._config, seconds))
        return int(count)

    def _affordable(self) -> int:
        """Return the most trials that the rest of the budget pays for, second seeds included."""
        trials, seconds = self.study.trials, self._whole_seconds()
        done = sum(halving.SHARES[len(trial.losses) - 1] for trial in trials if trial.losses)
        left = self._budget - self.spent().seconds
        numbers = range(1, self._most() + 1)
        return max((n for n in numbers if (halving.cost(n) - done) * seconds <= left), default=0)

    def _setup(self) -> str:
        return console.duration(self._setup_seconds())

    def _unpaid(self, what: str) -> ConfigError:
        return ConfigError("--budget", f"time for {what}", str(self._config.budget))

    def _whole_seconds(self) -> float:
        """Return what a whole run should take, by the plans or what was trained; 0: unknown."""
        if self._config.plan:
            # All of them before a model is loaded, which would take memory from what is measured.
            space, recipe = self._config.space, self._config
            sides: dict[str, Any] = {
                "batch_size": space.batch_size or [recipe.optimisation.batch_size],
                "rank": space.rank or [recipe.lora.r],
            }
            if epochs := space.epochs:
                ends = [epochs.low, epochs.high] if isinstance(epochs, Range) else epochs
                sides["epochs"] = ends
            combined = itertools.product(*sides.values())
            whole = [self._plan_seconds(dict(zip(sides, v, strict=True))) for v in combined]
        else:
            whole = [self._extrapolate(trial) for trial in self.study.trials]
        whole = [*filter(None, whole)]
        return sum(whole) / len(whole) if whole else 0.0

    def _plan_seconds(self, values: dict[str, Any]) -> float:
        """Return what a plan says that a trial of these values takes; 0: there is no plan."""
        try:
            choice = self._prepare(Trial(0, values), again=False).choice
        except ModelError:  # of this combination alone; its trials say so
            return 0.0
        return choice.seconds if choice else 0.0

    def _extrapolate(self, trial: Trial) -> float:
        """Return what a trial should take to its end, by what it did so far; 0: nothing."""
        lines = metrics.read(self._folder(trial) / "metrics.jsonl")
        pairs = [(b, b["seconds"] - a["seconds"]) for a, b in itertools.pairwise(lines)]
        evaluations = [seconds for line, seconds in pairs if "validation_loss" in line]
        if not evaluations or not trial.steps:
            return 0.0
        # The clock of a trial that went on begins before the evaluation that it halted with.
        steps = [s for line, s in pairs if "validation_loss" not in line and s > 0]
        steps = steps or [lines[0]["seconds"]]
        # The first steps compile, once for all trials.
        usual = [seconds for seconds in steps if seconds <= _UNUSUAL * statistics.median(steps)]
        evaluation = statistics.median(evaluations)
        seconds = float(statistics.mean(usual) * trial.steps[-1] + _EVALUATIONS * evaluation)
        is_whole = trial.is_finished and trial.repeated is None
        return max(seconds, trial.seconds) if is_whole else seconds

    def _train(self, trial: Trial, rung: int, again: bool = False) -> bool:
        """Train a trial to a rung, or once more from the start with another seed.

        Returns:
            Whether the budget paid for it.
        """
        if self._is_too_late(trial, rung, again):
            self.study.decide("is_over", True)
            return False
        began = time.perf_counter()
        try:
            loss, fault = self._try(trial, rung, again)
        finally:  # an interrupted one took its time as well
            spent = time.perf_counter() - began
            self.study.note(trial.number, seconds=trial.seconds + spent)
        name = results.name_of(trial.values) + (", second seed" if again else "")
        where = f"trial {trial.number + 1} ({name})"
        if fault:
            console.say(f"{where} is given up: {fault}")
            self.study.note(trial.number, **({"repeated": math.inf} if again else {"fault": fault}))
            return True
        if again:
            self.study.note(trial.number, repeated=loss)
        else:
            self.study.report(trial.number, rung, loss)
        steps = self.study.trials[trial.number].steps
        where = f"{where}: step {steps[rung]:,} of {steps[-1]:,}"
        console.say(f"{where}, loss {loss:.4f}, {spent:.1f} s")
        return True

    def _try(self, trial: Trial, rung: int, again: bool) -> tuple[float, str]:
        """Return a trial's validation loss at a rung, and its fault; empty: none."""
        try:
            ready = self._prepare(trial, again)
            self.study.note(trial.number, steps=list(ready.steps))
            loss = self._advance(ready, ready.steps[rung])
        except (BatchError, ModelError) as error:
            self._lender = Lender()  # a model that ran out of memory holds what it had
            return math.nan, str(error)
        return loss, "" if math.isfinite(loss) else f"a validation loss of {loss}"

    def _is_too_late(self, trial: Trial, rung: int, again: bool) -> bool:
        """Return whether the budget would not pay for it."""
        if math.isinf(self._budget):
            return False
        whole = self._plan_seconds(trial.values) or self._extrapolate(trial)
        whole = whole or self._whole_seconds()
        reached = halving.SHARES[len(trial.losses) - 1] if trial.losses and not again else 0.0
        needed = (halving.SHARES[rung] - reached) * whole
        if not again and any(trial.is_finished for trial in self.study.trials):
            needed += whole  # the best one's second seed
        return self.spent().seconds + needed > self._budget

    def _advance(self, ready: Prepared, step: int) -> float:
        """Train to a step; return the validation loss there, of the best weights at the end."""
        identity = job.identify(ready.job.config, self._subset, ready.job.base)
        halt_at = step if step < ready.steps[-1] else None
        execution.advance(ready.job, self._subset, identity, self._lender, ready.choice, halt_at)
        lines = metrics.read(ready.job.metrics)
        if halt_at is None:
            best = metrics.best_validation(lines)
            return best[1] if best else math.nan
        losses = [line["validation_loss"] for line in lines
                  if line["step"] == step and "validation_loss" in line]  # fmt: skip
        return float(losses[-1]) if losses else math.nan

    def _prepare(self, trial: Trial, again: bool) -> Prepared:
        config, choice = self._planned(trial.values)
        config = replace(applied(config, trial.values), tiny=None, base=self._base())
        config = replace(
            config,
            out=str(self._folder(trial, again)),
            seed=config.seed + again,
            logging_steps=1,
            preview=0,
            overwrite=False,
        )
        rows, validation = len(self._job.train.rows), self._job.validation
        validated = len(validation.rows) if validation else 0
        steps = plan.length(config, rows, validated).steps
        config = replace(config, checkpoints=self._config.checkpoints.by_thirds(steps))
        if choice:
            choice = choice.for_length(plan.length(config, rows, validated))
        ready = replace(self._job, config=config, out=Path(config.out))
        return Prepared(ready, choice, halving.rung_steps(steps, config.optimisation.warmup_steps))

    def spent(self) -> Spent:
        """Sum up what the search took so far."""
        trials = self.study.trials
        figures = [metrics.read(path) for path in self._out.glob("trials/*/metrics.jsonl")]
        return Spent(
            halving.steps_taken(trials),
            whole_steps=sum(t.steps[-1] for t in trials if t.steps),
            seconds=self._setup_seconds() + sum(t.seconds for t in trials),
            training_seconds=sum(lines[-1]["seconds"] for lines in figures if lines),
            is_over=self._is_over,
        )

    def _setup_seconds(self) -> float:
        """Return the time outside the trials, in all processes of this search."""
        seconds: float = self.study.facts.get("seconds", 0.0)
        return seconds

    def _note_seconds(self, began: float) -> None:
        self.study.decide("seconds", self._setup_seconds() + time.perf_counter() - began)

    def _folder(self, trial: Trial, again: bool = False) -> Path:
        return self._out / "trials" / f"{trial.number:03d}{'-again' if again else ''}"

    def _base(self) -> str:
        """Return the base as trials name it: one made here lies beside them."""
        return str(self._job.base.folder) if self._config.tiny else self._config.base

    def _planned(self, values: dict[str, Any]) -> tuple[TrainConfig, Plan | None]:
        """Return the recipe with what a plan chose for a batch size and rank, made once.

        Raises:
            ModelError: nothing fits.
        """
        config = applied(self._config, values)
        key = (config.optimisation.batch_size, config.lora.r)
        if key not in self._plans:
            began = time.perf_counter()
            try:
                self._plans[key] = planning.resolve(config, self._subset, Ranks())
            except ModelError as error:
                self._plans[key] = error
            self._note_seconds(began)
        outcome = self._plans[key]
        if isinstance(outcome, ModelError):
            raise outcome
        planned, choice = outcome
        return replace(planned, plan=None), choice
