"""The training loop: TRL's SFTTrainer on rows that are tokenised already.

Imports trl and transformers at once, so it is imported only after ``model.prepare`` has chosen
the backend.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import PrinterCallback, ProgressCallback, TrainerState
from trl import SFTTrainer

from training.config import TrainConfig
from training.distributed import Ranks
from training.examples.batches import Collator, KeyedOrder, pieces
from training.guards import IGNORED
from training.hardware import Precision
from training.loop import arguments, checkpoints, metrics
from training.loop.callbacks import (
    Keeper,
    MetricsCallback,
    MovementCheck,
    SignalCallback,
    losses_of,
    stalled,
)
from training.model import activations
from training.model.adapter import take_weights
from training.model.backend import Loaded
from training.quiet import quietly

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger("catalogue")


@dataclass(frozen=True)
class Job:
    """All that the loop needs."""

    config: TrainConfig
    loaded: Loaded
    train: "Dataset"
    """Tokenised rows."""
    validation: "Dataset | None"
    """Tokenised rows; None: no evaluation."""
    precision: Precision
    checkpoints: Path
    metrics: Path
    processes: Ranks = field(default_factory=Ranks)
    """That share each batch; the first one writes."""


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    model: Any
    """With the weights to keep: the best ones, or the last."""
    steps: int
    epochs: float
    samples_per_second: float
    """Over the steps alone, without evaluation and saving; 0 where no step was left."""
    resumed_from: int
    """Step of the checkpoint that was gone on from; 0: from the start."""
    kept_step: int
    """That the weights to keep are of."""
    kept_loss: float | None
    """On the validation rows at that step; None: it was not evaluated."""


class Epochs(transformers.TrainerCallback):  # type: ignore[misc]
    """Tells the order its epoch.

    The Trainer does so itself, but not to the order of several processes after a resume: it then
    lies too deep among the samplers.
    """

    def __init__(self, order: Any) -> None:
        self._order = order

    def on_epoch_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Set it before the first row is drawn; a resumed epoch is a broken number."""
        self._order.set_epoch(int((state.epoch or 0.0) + 1e-6))


class Trainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer with our order of rows, our counts, marked checkpoints and no model cards."""

    order: Any
    keep: int = 2
    max_tokens: int | None = None
    is_plain: bool = False
    samples: int = 0
    tokens: Any = 0
    _evaluated: list[Any]

    def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
        return self.order

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: it would hold this machine's paths."""

    def get_batch_samples(self, epoch_iterator: Any, *more: Any, **named: Any) -> Any:
        """Fetch the micro-batches of a step, each row of an epoch once."""
        return super().get_batch_samples(map(self._once, epoch_iterator), *more, **named)

    def _once(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Count a micro-batch's rows and tokens; let the model learn nothing from repeated rows."""
        own, of_all = self._unrepeated(len(inputs["labels"]), len(self.order))
        inputs["labels"][own:] = IGNORED
        self.samples += of_all
        # Stays a tensor: reading it here would make the GPU wait.
        self.tokens = self.tokens + inputs["attention_mask"][:own].sum()
        return inputs

    def _unrepeated(self, rows: int, length: int) -> tuple[int, int]:
        """Tell how many rows of a micro-batch are new: of this process, of all processes.

        accelerate fills up the last micro-batches of several processes with the first rows.

        Args:
            rows: of the micro-batch of each process.
            length: rows of the pass.
        """
        of_all = rows * self.args.world_size
        left = length % of_all
        at_end = self.accelerator.gradient_state.end_of_dataloader
        if self.args.world_size == 1 or not at_end or not left:
            return rows, of_all
        return min(max(left - self.args.process_index * rows, 0), rows), left

    def training_step(self, model: Any, inputs: dict[str, Any], *more: Any, **named: Any) -> Any:
        """Train on a micro-batch, in pieces if it is long."""
        # Without the step's tokens the loss is a mean of the piece: pieces would count too much.
        tokens = more[0] if more else named.get("num_items_in_batch")
        *early, last = pieces(inputs, None if tokens is None else self.max_tokens)
        loss = 0.0
        for piece in early:
            # Several processes add up their gradients once a micro-batch, at its last piece.
            with self.accelerator.no_sync(model):
                loss = loss + super().training_step(model, piece, *more, **named)
        return loss + super().training_step(model, last, *more, **named)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *more: Any, **named: Any) -> Any:
        """Compute the loss; without Unsloth, TRL would add the entropy of every token to it.

        That is a float32 copy of all logits and a wait for the GPU at every micro-batch. Of several
        processes each would wait for the others at every piece, of which they may have other
        numbers; so does Unsloth's on a CPU.
        """
        if not self.is_plain:
            return super().compute_loss(model, inputs, *more, **named)
        inputs["use_cache"] = False
        return transformers.Trainer.compute_loss(self, model, inputs, *more, **named)

    def prediction_step(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
        """Evaluate a micro-batch, and count what its loss is the mean of.

        The Trainer's own step asks all processes for their counts, which would hang here: each may
        have another number of pieces.
        """
        inputs = self._prepare_inputs(inputs)
        rows = self._unrepeated(len(inputs["input_ids"]), len(self.eval_dataset))[0]
        # All processes evaluate something, as the Trainer gathers what they found.
        inputs = {name: values[: max(rows, 1)] for name, values in inputs.items()}
        with torch.no_grad(), self.compute_loss_context_manager():
            for piece in pieces(inputs, self.max_tokens):
                loss = model(**piece, use_cache=False)["loss"].mean()
                learned = (piece["labels"][:, 1:] != IGNORED).sum() * min(rows, 1)
                self._evaluated.append(torch.stack([loss.double() * learned, learned.double()]))
        # Of the last piece alone: ours is counted above, and replaces the Trainer's.
        return loss, None, None

    def evaluation_loop(self, *given: Any, **named: Any) -> Any:
        """Evaluate; the loss is the mean over all tokens, whatever the micro-batches were.

        The Trainer's own is a mean of the micro-batches' means: another micro-batch, another loss.
        """
        self._evaluated = []
        output = super().evaluation_loop(*given, **named)
        total, learned = self.accelerator.reduce(torch.stack(self._evaluated).sum(0), "sum")
        prefix = named.get("metric_key_prefix", "eval")
        output.metrics[f"{prefix}_loss"] = float(total / learned)
        return output

    def all_tokens(self) -> int:
        """Count the tokens trained on, in all processes together."""
        if self.args.world_size == 1:
            return int(self.tokens)
        return int(self.accelerator.reduce(self.tokens, "sum"))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save, then mark the checkpoint as complete, then remove older ones."""
        folder = checkpoints.of_step(Path(self.args.output_dir), self.state.global_step)
        if self.is_world_process_zero():
            checkpoints.unmark(folder)
        super()._save_checkpoint(model, trial)
        # Every process writes the state of its own random numbers.
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            checkpoints.mark(folder)
            checkpoints.rotate(folder.parent, self.keep, metrics.ranked(losses_of(self.state)))
        self.accelerator.wait_for_everyone()


def train(job: Job, resume: Path | None) -> Outcome:
    """Train, from a checkpoint where there is one.

    Args:
        job: what to train on what.
        resume: checkpoint to go on from, from ``checkpoints.newest``; None: from the start.

    Raises:
        BatchError: a step's loss or gradient is not finite, or the loss is exactly 0, or the
            weights do not move.
        KeyboardInterrupt: asked for; a checkpoint was saved before.
    """
    if resume and (done := _already_done(job, resume)):
        return done
    started_at = checkpoints.step_of(resume) if resume else 0
    patience, batch_size = job.config.checkpoints.patience, job.config.optimisation.batch_size
    is_first = job.processes.is_first
    watcher = MetricsCallback(job.metrics, batch_size, patience, is_first)
    if resume:
        log.info("going on from step %s", f"{started_at:,}")
    if is_first:
        watcher.go_on(metrics.trim(job.metrics, started_at))
    stopper = SignalCallback(job.processes)
    with quietly(), stopper.listening():
        trainer = make_trainer(job, [watcher, stopper, MovementCheck(), *_keepers(job)])
        watcher.trainer = trainer
        try:
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        finally:
            watcher.close()
    state = trainer.state
    if stopper.stopped and state.global_step < state.max_steps:
        step, steps = f"{state.global_step:,}", f"{state.max_steps:,}"
        log.warning("saved at step %s of %s; the same command goes on from there", step, steps)
        raise KeyboardInterrupt
    speed = watcher.trained_samples / watcher.trained_seconds if watcher.trained_seconds else 0.0
    kept = _take_best(job, trainer.model, state)
    return _outcome(trainer.model, state, round(speed, 2), started_at, kept)


def _outcome(model: Any, state: Any, speed: float, started_at: int, kept: int) -> Outcome:
    epochs, loss = float(state.epoch or 0.0), losses_of(state).get(kept)
    return Outcome(model, state.global_step, epochs, speed, started_at, kept, loss)


def _keeps_best(job: Job) -> bool:
    return job.config.checkpoints.keep_best and job.validation is not None


def _keepers(job: Job) -> list[Keeper]:
    return [Keeper(job.checkpoints, job.processes)] if _keeps_best(job) else []


def _take_best(job: Job, model: Any, state: Any) -> int:
    """Put the best weights there are into a model that has the last ones; give their step."""
    last, losses = state.global_step, losses_of(state)
    if not _keeps_best(job):
        return int(last)
    ranking = metrics.ranked(losses)
    step = job.processes.first(lambda: checkpoints.choose(job.checkpoints, ranking, last))
    if step != last:
        take_weights(model, checkpoints.of_step(job.checkpoints, step))
    if not ranking:
        log.warning("no validation loss is finite: the adapter is that of the last step, %d", step)
    elif ranking[0] != step:
        log.warning(
            "the best weights, of step %d, are lost: the adapter is that of step %d, "
            "validation loss %.4f",
            ranking[0],
            step,
            losses[step],
        )
    return step


def _already_done(job: Job, resume: Path) -> Outcome | None:
    """Take the weights of a run whose last step is saved; the Trainer would add another step."""
    state = TrainerState.load_from_json(str(resume / "trainer_state.json"))
    patience = job.config.checkpoints.patience
    stopped_early = patience is not None and stalled(losses_of(state), patience)
    if state.global_step < state.max_steps and not stopped_early:
        return None
    model = job.loaded.model
    take_weights(model, resume)
    kept = _take_best(job, model, state)
    lines = [line["samples_per_second"] for line in metrics.read(job.metrics) if "loss" in line]
    speed = round(sum(lines) / len(lines), 2) if lines else 0.0
    return _outcome(model, state, speed, state.global_step, kept)


def make_trainer(job: Job, callbacks: list[Any], order: Any = None) -> Trainer:
    """Make the Trainer, its rows in our order.

    Args:
        job: what to train on what.
        callbacks: that look on.
        order: places of the rows to train on; None: the run's own, keyed by seed and epoch.
    """
    config, tokenizer = job.config, job.loaded.tokenizer
    how = config.optimisation
    has_validation = job.validation is not None
    trainer = Trainer(
        model=job.loaded.model,
        args=arguments.settings(
            config, job.precision, job.checkpoints, has_validation, job.processes.count
        ),
        train_dataset=job.train,
        eval_dataset=job.validation,
        processing_class=tokenizer,
        data_collator=Collator(tokenizer.pad_token_id),
        callbacks=[*callbacks, activations.KeepLayers(how.keep_layers)],
    )
    lengths = job.train.with_format("arrow")["length"].to_numpy()
    trainer.order = order or KeyedOrder(lengths, how.batch_size, config.seed, how.order)
    trainer.add_callback(Epochs(trainer.order))
    trainer.max_tokens = how.max_tokens
    trainer.keep = config.checkpoints.save_total_limit
    trainer.is_plain = job.loaded.backend.name == "transformers" or job.processes.count > 1
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer
