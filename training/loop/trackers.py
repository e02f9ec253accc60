"""Trackers, which show runs beside each other: where they write, and what becomes of a resumed run.

The Trainer's own callbacks, made by us: it would make them without the place of a run's folder, and
before ours, which measure the speed.
"""

import contextlib
import copy
import io
import itertools
import logging
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, rewrite_logs

from training.job import Job
from training.loop import metrics

log = logging.getLogger("catalogue")


class Tracker(TrainerCallback):  # type: ignore[misc]
    """Passes a run's figures on; what a tracker cannot do ends its tracking, never the run.

    Args:
        name: of the tracker.
        make: makes the Trainer's callback for it.
    """

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        self._name = name
        self._callback: Any = None
        self._end: Callable[[], None] | None = None
        with self._forgiven():
            self._callback = make()

    @contextlib.contextmanager
    def _forgiven(self) -> Iterator[None]:
        """Turn a fault, and a warning of lost figures, into one line; hide what is printed."""
        with contextlib.ExitStack() as hidden:
            hidden.enter_context(contextlib.redirect_stdout(io.StringIO()))
            lost = hidden.enter_context(warnings.catch_warnings(record=True))
            warnings.simplefilter("always", UserWarning)
            faults: list[Any] = []
            try:
                yield
            except Exception as error:
                self._callback = None
                faults = [error]
        for fault in [*faults, *(warning.message for warning in lost)][:1]:
            log.warning("%s misses figures of this run, which goes on: %s", self._name, fault)

    def _pass_on(self, event: str, *arguments: Any, **named: Any) -> None:
        if self._callback:
            with self._forgiven():
                getattr(self._callback, event)(*arguments, **named)

    def on_train_begin(self, *arguments: Any, **named: Any) -> None:
        """Open the run, and remember how to close it, whatever ends the training."""
        self._end = partial(self._pass_on, "on_train_end", *arguments, **named)
        self._pass_on("on_train_begin", *arguments, **named)

    def on_log(self, *arguments: Any, logs: dict[str, Any], **named: Any) -> None:
        """Pass on a step's figures and an evaluation's; not the Trainer's summary at the end.

        That counts the steps since a resumption alone.
        """
        if "loss" in logs or "eval_loss" in logs:
            self._pass_on("on_log", *arguments, logs=logs, **named)

    def on_save(self, *arguments: Any, **named: Any) -> None:
        """Pass on that a checkpoint was saved."""
        self._pass_on("on_save", *arguments, **named)

    def close(self) -> None:
        """Close the run."""
        if self._end:
            self._end()


def of_job(job: Job, lines: list[metrics.Line]) -> list[Tracker]:
    """Make the trackers of a run.

    Args:
        job: of the run.
        lines: of its metrics, up to the step that it goes on from.
    """
    step = lines[-1]["step"] if lines else 0
    makers: dict[str, Callable[[], Any]] = INTEGRATION_TO_CALLBACK | {
        "tensorboard": partial(_tensorboard, job.out / "tensorboard", step),
        "trackio": partial(_Trackio, lines),
    }
    return [Tracker(name, makers[name]) for name in job.config.report_to]


def _tensorboard(folder: Path, step: int) -> Any:
    """Write into the run's folder; what a killed run wrote after a step is hidden."""
    from torch.utils.tensorboard import SummaryWriter

    return TensorBoardCallback(SummaryWriter(str(folder), purge_step=step + 1))


class _Trackio(TrackioCallback):  # type: ignore[misc]
    """Writes a run anew from its metrics where it goes on: trackio cannot take steps back."""

    def __init__(self, lines: list[metrics.Line]) -> None:
        super().__init__()
        self._lines = lines

    def setup(self, args: Any, state: Any, model: Any, **named: Any) -> None:
        """Open the run of this folder, and of no other one that has the same name."""
        # Fails where its folder cannot be written; later it would lose the figures in silence.
        self._trackio.SQLiteStorage.init_db(args.project)
        folder, others = str(Path(args.output_dir).resolve().parent), set()
        for run in self._trackio.Api().runs(args.project):
            if (run.config or {}).get("folder") == folder:
                run.delete()
            else:
                others.add(run.name)
        names = (f"{args.run_name} ({n})" if n > 1 else args.run_name for n in itertools.count(1))
        args = copy.copy(args)
        args.run_name = next(name for name in names if name not in others)
        super().setup(args, state, model, **named)
        self._trackio.config["folder"] = folder
        for line in self._lines:
            logs = {"eval_loss" if key == "validation_loss" else key: line[key] for key in line}
            step = logs.pop("step")
            self._trackio.log(rewrite_logs(logs), step=step)

    def on_log(self, _args: Any, state: Any, *_: Any, logs: dict[str, Any], **__: Any) -> None:
        """Log under the optimizer's step, not the count of what was logged."""
        self._trackio.log(rewrite_logs(logs), step=state.global_step)
