"""What looks on while the Trainer trains: metrics, progress, guards, Ctrl-C, early stopping."""

import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from transformers import TrainerCallback

from data import console
from training import guards
from training.distributed import Ranks
from training.loop import checkpoints, metrics

log = logging.getLogger("catalogue")


class Counting(Protocol):
    """A trainer that counts what went through it."""

    samples: int

    def all_tokens(self) -> int:
        """Give the tokens trained on since the start of this process."""


class MetricsCallback(TrainerCallback):  # type: ignore[misc]
    """Writes the metrics, shows the progress and stops on figures that are at fault.

    Args:
        path: of ``metrics.jsonl``.
        batch_size: rows a step.
        patience: stop after so many evaluations without a better one; None: never.
        writes: False in all processes of a run but the first.
    """

    def __init__(
        self, path: Path, batch_size: int, patience: int | None = None, writes: bool = True
    ) -> None:
        self.trainer: Counting | None = None
        self.trained_seconds = 0.0
        self.trained_samples = 0
        self._path = path
        self._batch_size = batch_size
        self._patience = patience
        self._writes = writes
        self._earlier: metrics.Line = {}
        self._progress: console.Progress | None = None
        self._began = self._since = time.perf_counter()

    def go_on(self, lines: list[metrics.Line]) -> None:
        """Take over tokens and seconds of the run that is gone on with."""
        trained = [line for line in lines if "tokens" in line]
        self._earlier = trained[-1] if trained else {}

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Open the progress bar at the step that training begins with."""
        self._began = self._since = time.perf_counter()
        left = (state.max_steps - state.global_step) * self._batch_size
        if self._writes:
            self._progress = console.Progress("train", left, "samples")

    def on_log(
        self, _args: Any, state: Any, _control: Any, logs: dict[str, float], **_: Any
    ) -> None:
        """Check a step's figures, write them and show them."""
        if "loss" in logs:
            guards.check_loss(logs["loss"], logs.get("grad_norm"), state.global_step)
            self._write(state, self._trained(logs))
        elif "eval_loss" in logs:
            line = {"validation_loss": logs["eval_loss"]}
            self._write(state, line | {"seconds": self._seconds()})

    def _trained(self, logs: dict[str, float]) -> metrics.Line:
        trainer = self.trainer
        samples = (trainer.samples if trainer else 0) - self.trained_samples
        spent = time.perf_counter() - self._since
        self.trained_samples += samples
        self.trained_seconds += spent
        self.restart_clock()
        if self._progress:
            self._progress.advance(samples, loss=f"{logs['loss']:.3f}")
        return {
            "loss": logs["loss"],
            "learning_rate": logs["learning_rate"],
            "grad_norm": logs.get("grad_norm"),
            "samples_per_second": round(samples / spent, 2),
            "tokens": self._earlier.get("tokens", 0) + (trainer.all_tokens() if trainer else 0),
            "seconds": self._seconds(),
        }

    def _seconds(self) -> float:
        earlier: float = self._earlier.get("seconds", 0.0)
        return round(earlier + time.perf_counter() - self._began, 3)

    def _write(self, state: Any, line: metrics.Line) -> None:
        if self._writes:
            told = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4)}
            metrics.append(self._path, told | line)

    def restart_clock(self) -> None:
        """Leave out what evaluation and saving took from the samples per second."""
        self._since = time.perf_counter()

    def on_evaluate(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count no evaluation as training; stop where the last ones brought nothing."""
        self.restart_clock()
        if self._patience and stalled(losses_of(state), self._patience):
            log.info("stopped early at step %s: no better evaluation", f"{state.global_step:,}")
            control.should_save = control.should_training_stop = True

    def on_save(self, *_: Any, **__: Any) -> None:
        """Count no saving as training."""
        self.restart_clock()

    def close(self) -> None:
        """Close the progress bar."""
        if self._progress:
            self._progress.__exit__()


def losses_of(state: Any) -> dict[int, float]:
    """Give the validation loss by step, from the state that a resumed run gets back."""
    return {line["step"]: line["eval_loss"] for line in state.log_history if "eval_loss" in line}


def stalled(losses: Mapping[int, float], patience: int) -> bool:
    """Tell whether the last ``patience`` evaluations were none better than the best before."""
    if len(losses) <= patience:
        return False
    best = metrics.ranked(losses)
    return not best or best[0] not in sorted(losses)[-patience:]


class Keeper(TrainerCallback):  # type: ignore[misc]
    """Has the best weights saved as they are found, however far apart the other checkpoints lie.

    The best of those that can be had: a loss whose checkpoint is not there does not count.
    """

    def __init__(self, folder: Path, processes: Ranks) -> None:
        self._folder = folder
        self._processes = processes

    def on_evaluate(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint where this loss is the lowest, in all processes alike."""
        there = checkpoints.finished(self._folder) | {state.global_step}
        known = {step: loss for step, loss in losses_of(state).items() if step in there}
        is_best = metrics.ranked(known)[:1] == [state.global_step]
        if self._processes.any(self._processes.is_first and is_best):
            control.should_save = True


# One Ctrl-C reaches a process of several twice: from the terminal, and from their launcher.
_TOGETHER = 2.0


class SignalCallback(TrainerCallback):  # type: ignore[misc]
    """Turns Ctrl-C and SIGTERM into a checkpoint at the end of the step; a second one stops."""

    def __init__(self, processes: Ranks) -> None:
        self.asked = False
        self.stopped = False
        """Whether all processes stopped for it; asked later, training may end by itself."""
        self._processes = processes
        self._told_at: float | None = None
        self._together = _TOGETHER if processes.count > 1 else 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals while the Trainer runs; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        caught = (signal.SIGINT, signal.SIGTERM)
        earlier = {number: signal.signal(number, self._ask) for number in caught}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        # Not ``asked``: another process's signal sets that as well.
        now = time.monotonic()
        if self._told_at is not None:
            if now - self._told_at < self._together:
                return
            raise KeyboardInterrupt
        self._told_at, self.asked = now, True
        log.warning("saving after this step; once more stops at once, back to the last checkpoint")

    def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint and the end of training, in all processes at the same step."""
        self.asked = self.stopped = self._processes.any(self.asked)
        if self.stopped:
            control.should_save = True
            control.should_training_stop = True


class MovementCheck(TrainerCallback):  # type: ignore[misc]
    """Checks that the adapter's weights move in the first steps that have a learning rate."""

    STEPS = 3

    def __init__(self) -> None:
        self._before: list[float] | None = None
        self._steps = 0

    def on_step_begin(
        self, _args: Any, _state: Any, _control: Any, model: Any = None, lr_scheduler: Any = None,
        **_: Any,
    ) -> None:  # fmt: skip
        """Look at the weights; a warm-up begins with a rate of 0, at which none should move."""
        if self._steps < self.STEPS and max(lr_scheduler.get_last_lr()) > 0:
            self._before = self._before or fingerprint(model)
            self._steps += 1

    def on_step_end(
        self, _args: Any, state: Any, _control: Any, model: Any = None, **_: Any
    ) -> None:
        """Compare, once."""
        if self._steps == self.STEPS and self._before is not None:
            guards.check_moved(self._before, fingerprint(model), state.global_step)
            self._before = None
            self._steps += 1


def fingerprint(model: Any) -> list[float]:
    """Sum up each trainable tensor; a tensor that moves has another sum."""
    import torch

    sums = [p.detach().double().abs().sum() for p in model.parameters() if p.requires_grad]
    return [] if not sums else torch.stack(sums).tolist()
