"""Callbacks of the Trainer: metrics, progress, guards, Ctrl-C, early stopping, kept layers."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.trainer_callback import ExportableState

from data import console
from training import guards
from training.loop import checkpoints, metrics
from training.processes import Ranks

log = logging.getLogger("catalogue")


class MetricsCallback(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Writes the metrics, shows the progress and stops where figures are at fault.

    Args:
        path: of ``metrics.jsonl``.
        batch_size: rows a step.
        patience: stop after so many evaluations without a better one; None: never.
        writes: False in all processes of a run but the first.
    """

    def __init__(
        self, path: Path, batch_size: int, patience: int | None = None, writes: bool = True
    ) -> None:
        self.trainer: Any = None
        """Counts samples and tokens."""
        self.trained_seconds = 0.0
        self.trained_samples = 0
        self._path = path
        self._batch_size = batch_size
        self._patience = patience
        self._writes = writes
        self._earlier: metrics.Line = {}
        self._scaler: Any = None
        self._skipped = self._skipped_in_a_row = 0
        self._progress: console.Progress | None = None
        self._began = self._since = time.perf_counter()

    def go_on(self, lines: list[metrics.Line]) -> None:
        """Count on from the tokens and seconds of a run that was interrupted."""
        trained = [line for line in lines if "tokens" in line]
        self._earlier = trained[-1] if trained else {}

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what checkpoints hold: steps are skipped between two lines of metrics, too."""
        return {"args": {}, "attributes": {"skipped_steps": self.skipped}}

    @property
    def skipped(self) -> int:
        """Steps that a gradient scaler skipped, those before an interruption too."""
        return int(self._earlier.get("skipped_steps", 0)) + self._skipped

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Open the progress bar at the step that training begins with."""
        self._began = self._since = time.perf_counter()
        if saved := state.stateful_callbacks.get(type(self).__name__):
            self._earlier = self._earlier | saved["attributes"]
        left = (state.max_steps - state.global_step) * self._batch_size
        if self._writes:
            self._progress = console.Progress("train", left, "samples")
            self._progress.advance(0, now="first step")  # which compiles, and takes a while

    def on_step_end(
        self, _args: Any, state: Any, _control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        """Count the steps that a gradient scaler skipped, as their gradients overflowed."""
        self._scaler = getattr(optimizer, "scaler", None)
        if not was_skipped(optimizer):
            self._skipped_in_a_row = 0
            return
        self._skipped += 1
        self._skipped_in_a_row += 1
        guards.check_skipped(self._skipped_in_a_row, self._scaler.get_scale(), state.global_step)

    def on_log(
        self, _args: Any, state: Any, _control: Any, logs: dict[str, float], **_: Any
    ) -> None:
        """Check a step's figures, write them and show them."""
        if "loss" in logs:
            if self._skipped_in_a_row:  # its gradients are nobody's fault, and were not taken
                logs.pop("grad_norm", None)
            guards.check_loss(logs["loss"], logs.get("grad_norm"), state.global_step)
            line = self._trained(logs)
            self._write(state, line)
            # For the trackers, which come after this one.
            logs |= {name: line[name] for name in ("samples_per_second", "tokens", "seconds")}
        elif "eval_loss" in logs:
            line = {"validation_loss": logs["eval_loss"]}
            self._write(state, line | {"seconds": self._seconds()})

    def _trained(self, logs: dict[str, float]) -> metrics.Line:
        samples = self.trainer.samples - self.trained_samples
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
            **self._scaled(),
            "samples_per_second": round(samples / spent, 2),
            "tokens": self._earlier.get("tokens", 0) + self.trainer.all_tokens(),
            "seconds": self._seconds(),
        }

    def _scaled(self) -> metrics.Line:
        if self._scaler is None:
            return {}
        return {"loss_scale": self._scaler.get_scale(), "skipped_steps": self.skipped}

    def _seconds(self) -> float:
        earlier: float = self._earlier.get("seconds", 0.0)
        return round(earlier + time.perf_counter() - self._began, 3)

    def _write(self, state: Any, line: metrics.Line) -> None:
        if self._writes:
            place = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4)}
            metrics.append(self._path, place | line)

    def restart_clock(self) -> None:
        """Leave the time of evaluation and saving out of the samples per second."""
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


def was_skipped(optimizer: Any) -> bool:
    """Return whether a gradient scaler left out the optimizer's last step."""
    return getattr(optimizer, "step_was_skipped", False)


def losses_of(state: Any) -> dict[int, float]:
    """Return the validation loss by step; the state of a resumed run has those of before."""
    return {line["step"]: line["eval_loss"] for line in state.log_history if "eval_loss" in line}


def stalled(losses: Mapping[int, float], patience: int) -> bool:
    """Return whether none of the last ``patience`` evaluations was better than the best before."""
    if len(losses) <= patience:
        return False
    best = metrics.ranked(losses)
    return not best or best[0] not in sorted(losses)[-patience:]


class SaveBest(TrainerCallback):  # type: ignore[misc]
    """Saves a checkpoint at every best evaluation, however far apart the regular ones lie.

    A loss whose checkpoint is not there does not count.
    """

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self._folder = folder
        self._ranks = ranks

    def on_evaluate(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint where this loss is the lowest, in all processes alike."""
        steps = checkpoints.finished(self._folder) | {state.global_step}
        losses = {step: loss for step, loss in losses_of(state).items() if step in steps}
        is_best = metrics.ranked(losses)[:1] == [state.global_step]
        if self._ranks.any(self._ranks.is_first and is_best):
            control.should_save = True


# One Ctrl-C reaches a process of several twice: from the terminal, and from their launcher.
_TOGETHER = 2.0


class SignalCallback(TrainerCallback):  # type: ignore[misc]
    """Turns Ctrl-C and SIGTERM into a checkpoint at the end of the step; a second one stops."""

    def __init__(self, ranks: Ranks) -> None:
        self.is_requested = False
        self.stopped = False
        """Whether all processes stopped for it; after a late request, training ends by itself."""
        self._ranks = ranks
        self._signalled_at: float | None = None
        self._together = _TOGETHER if ranks.count > 1 else 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals while the Trainer runs; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        earlier = {number: signal.signal(number, self._request) for number in numbers}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        # Not ``is_requested``: another process's signal sets that as well.
        now = time.monotonic()
        if self._signalled_at is not None:
            if now - self._signalled_at < self._together:
                return
            raise KeyboardInterrupt
        self._signalled_at, self.is_requested = now, True
        log.warning("saving after this step; once more stops at once, back to the last checkpoint")

    def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint and the end of training, in all processes at the same step."""
        self.is_requested = self.stopped = self._ranks.any(self.is_requested)
        if self.stopped:
            control.should_save = True
            control.should_training_stop = True


class Halt(TrainerCallback):  # type: ignore[misc]
    """Evaluates, saves and leaves a run after a step; it can go on from there."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for it, in all processes at the same step."""
        if state.global_step >= self._step:
            control.should_evaluate = control.should_save = control.should_training_stop = True


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
        """Note the weights; a warm-up begins with a rate of 0, at which none should move."""
        if self._steps < self.STEPS and max(lr_scheduler.get_last_lr()) > 0:
            self._before = self._before or fingerprint(model)
            self._steps += 1

    def on_step_end(
        self, _args: Any, state: Any, _control: Any, model: Any = None, optimizer: Any = None,
        **_: Any,
    ) -> None:  # fmt: skip
        """Compare, once; a step that a gradient scaler left out does not count."""
        if self._before is not None and was_skipped(optimizer):
            self._steps -= 1
        elif self._steps == self.STEPS and self._before is not None:
            guards.check_moved(self._before, fingerprint(model), state.global_step)
            self._before = None
            self._steps += 1


def fingerprint(model: Any) -> list[float]:
    """Sum up each trainable tensor; a tensor that moves has another sum."""
    import torch

    sums = [p.detach().double().abs().sum() for p in model.parameters() if p.requires_grad]
    return [] if not sums else torch.stack(sums).tolist()


class KeepLayers(TrainerCallback):  # type: ignore[misc]
    """Lets the last layers keep their activations, while the others recompute them.

    Recomputing costs about a third of the arithmetic of a step and saves most of its memory. Where
    some memory is left, the last layers keep theirs: they are freed first in the backward pass, so
    they do not stand beside the activations of a layer that is being recomputed.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def on_train_begin(
        self, _args: Any, _state: Any, _control: Any, model: Any = None, **_: Any
    ) -> None:
        """Replace the layers' functions, which the Trainer sets shortly before."""
        keep_layers(model, self._count)


_FUNCTION = "_gradient_checkpointing_func"


def keep_layers(model: Any, count: int) -> None:
    """Let the last ``count`` layers of a model keep their activations, and no others.

    transformers and Unsloth both pass a layer's forward pass to the function replaced here.
    """
    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    for place, layer in enumerate(layers):
        function = getattr(layer, _FUNCTION, None)
        if isinstance(function, _Keep):
            function = function.recomputing
        if place >= len(layers) - count:
            function = _Keep(function)
        if function is not None:
            setattr(layer, _FUNCTION, function)


class _Keep:
    """Calls a layer's forward pass as it is, and remembers what would recompute it."""

    def __init__(self, recomputing: Callable[..., Any] | None) -> None:
        self.recomputing = recomputing

    def __call__(self, function: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        return function(*arguments)
