"""The trials on disk, in Optuna's journal: their values, how far each came, what it cost.

Every change is a line of the journal, so a search that is killed goes on with the next line. Values
come from Optuna's samplers, each drawn from the trials before it and the trial's own seed: the
same search draws the same values, however often it was interrupted.
"""

import os
import warnings
from pathlib import Path
from typing import Any

from training.tune.config import Range, Space
from training.tune.halving import Trial

NAME = "journal.log"
_SEEDS = 1_000_003


class _Unlocked:
    """No lock: the search's folder is locked, and a killed process would leave this one behind."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class Study:
    """The trials of a search."""

    def __init__(self, folder: Path, space: Space, seed: int) -> None:
        """Open the journal in a folder, or begin it."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        _drop_half_a_line(folder / NAME)
        self._seed = seed
        self._distributions = {
            name: _distribution(optuna.distributions, values)
            for name, values in space.dimensions.items()
        }
        self._is_finite = space.size < float("inf")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._storage = JournalStorage(JournalFileBackend(str(folder / NAME), _Unlocked()))
        self._study = optuna.create_study(
            storage=self._storage, study_name="tune", load_if_exists=True
        )

    @property
    def trials(self) -> list[Trial]:
        """Return the trials so far, in their order."""
        return [
            Trial(
                kept.number,
                dict(kept.params),
                tuple(kept.intermediate_values[rung] for rung in sorted(kept.intermediate_values)),
                **{**kept.user_attrs, "steps": tuple(kept.user_attrs.get("steps", ()))},
            )
            for kept in self._study.get_trials(deepcopy=False)
        ]

    @property
    def facts(self) -> dict[str, Any]:
        """Return what was decided once for the whole search."""
        return dict(self._study.user_attrs)

    def decide(self, name: str, value: Any) -> None:
        """Keep a decision for the whole search."""
        self._study.set_user_attr(name, value)

    def propose(self) -> None:
        """Add a trial with values that the sampler draws, of a list never the same twice."""
        import optuna

        samplers, number = optuna.samplers, len(self._study.trials)
        sampler = samplers.BruteForceSampler if self._is_finite else samplers.TPESampler
        seed = (self._seed * _SEEDS + number) % 2**32
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # In memory: a kill between two lines of the journal must not leave half a trial.
            draft = optuna.create_study(sampler=sampler(seed=seed))
        for earlier in self.trials:
            draft.add_trial(self._frozen(earlier))
        values = draft.ask(self._distributions).params
        self._study.add_trial(
            optuna.trial.create_trial(
                params=values,
                distributions=self._distributions,
                state=optuna.trial.TrialState.RUNNING,
            )
        )

    def _frozen(self, trial: Trial) -> Any:
        """Return a trial as the sampler is to know it: by its first loss."""
        from optuna.trial import TrialState, create_trial

        return create_trial(
            params=trial.values,
            distributions=self._distributions,
            state=TrialState.COMPLETE if trial.losses else TrialState.FAIL,
            value=trial.losses[0] if trial.losses else None,
        )

    def report(self, number: int, rung: int, loss: float) -> None:
        """Keep the loss of a trial at a rung."""
        self._storage.set_trial_intermediate_value(self._id(number), rung, loss)

    def note(self, number: int, **values: Any) -> None:
        """Keep other figures of a trial, by the names of ``Trial``."""
        for name, value in values.items():
            self._storage.set_trial_user_attr(self._id(number), name, value)

    def conclude(self) -> None:
        """Mark how each trial ended, for Optuna's own tools: at its end, halted, or at fault."""
        from optuna.trial import TrialState

        for trial in self.trials:
            kept = self._study.get_trials(deepcopy=False)[trial.number]
            if not kept.state.is_finished():
                halted = TrialState.FAIL if trial.fault else TrialState.PRUNED
                state = TrialState.COMPLETE if trial.is_finished else halted
                value = [trial.loss] if trial.is_finished else None
                self._storage.set_trial_state_values(self._id(trial.number), state, value)

    def _id(self, number: int) -> int:
        identity: int = self._study.get_trials(deepcopy=False)[number]._trial_id
        return identity


def _distribution(kinds: Any, values: Any) -> Any:
    if isinstance(values, Range):
        return kinds.FloatDistribution(values.low, values.high, log=values.low > 0)
    return kinds.CategoricalDistribution(list(values))


def _drop_half_a_line(journal: Path) -> None:
    """Drop what a killed process wrote of its last line."""
    if journal.exists():
        content = journal.read_bytes()
        os.truncate(journal, content.rfind(b"\n") + 1)
