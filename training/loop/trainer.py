"""The training loop: TRL's SFTTrainer on rows that are tokenised already.

Imports trl and transformers at once, so it is imported only after ``choose_backend`` has chosen
the backend.
"""

import functools
import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PrinterCallback, ProgressCallback, TrainerState
from trl import SFTTrainer

from training import guards
from training.examples.batches import Collator, KeyedOrder, pieces, shared_beginning
from training.guards import IGNORED
from training.job import Job
from training.loop import arguments, checkpoints, graphs, metrics, trackers
from training.loop.callbacks import (
    Halt,
    KeepLayers,
    MetricsCallback,
    MovementCheck,
    SaveBest,
    SignalCallback,
    losses_of,
    stalled,
)
from training.model.adapter import take_weights
from training.model.backend import quietly

log = logging.getLogger("catalogue")


@dataclass(frozen=True)
class Outcome:
    """The figures of a finished training."""

    steps: int
    epochs: float
    samples_per_second: float
    """Over the steps alone, without evaluation and saving; 0 where no step was left."""
    resumed_from_step: int
    """Step of the checkpoint that it started from; 0: from the beginning."""
    adapter_step: int
    """Step of the weights that the model has: the best ones, or the last."""
    adapter_validation_loss: float | None
    """On the validation rows at that step; None: it was not evaluated."""


class Epochs(transformers.TrainerCallback):  # type: ignore[misc]
    """Sets the epoch of the rows' order.

    The Trainer does so itself, but not to the order of several processes after a resume: it then
    lies too deep among the samplers.
    """

    def __init__(self, order: Any) -> None:
        self._order = order

    def on_epoch_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Set it before the first row is drawn; that of a resumed run is a fraction."""
        self._order.set_epoch(int((state.epoch or 0.0) + 1e-6))


def average_gradients(trained: list[torch.nn.Parameter]) -> None:
    """Give all processes the mean of their gradients; zeros are those of one that has none."""
    for each in trained:  # an expert may have seen no token here
        each.grad = torch.zeros_like(each) if each.grad is None else each.grad
    own: list[Any] = [each.grad for each in trained]
    mean = torch.cat([each.flatten() for each in own]).div_(torch.distributed.get_world_size())
    torch.distributed.all_reduce(mean)
    parts = mean.split([each.numel() for each in own])
    torch._foreach_copy_(own, [part.view_as(each) for each, part in zip(own, parts, strict=True)])


class Trainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer with our order of rows, our counts, marked checkpoints and no model cards."""

    order: Any
    keep: int = 2
    max_tokens: int | None = None
    widest: int | None = None
    """Of micro-batches and their pieces, in tokens, where their widths are rounded."""
    recorded: graphs.Graphs | None = None
    is_plain: bool = False
    is_masked: bool = True
    """Whether the model is told of padding where nothing is learned of it: experts are balanced
    over all tokens that they see."""
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
        """Count the new rows of a micro-batch of so many: of this process, of all processes.

        accelerate fills up the last micro-batches of several processes with the first rows of the
        pass, which has ``length`` rows.
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
        loss = 0.0
        for piece in pieces(inputs, None if tokens is None else self.max_tokens, self.widest):
            step = functools.partial(super().training_step, model, piece, tokens)
            loss = loss + (self.recorded.train(step) if self.recorded else step())
        if self.args.world_size > 1 and self.accelerator.sync_gradients:
            average_gradients([each for each in self.model.parameters() if each.requires_grad])
        return loss

    def compute_loss(self, model: Any, inputs: dict[str, Any], *more: Any, **named: Any) -> Any:
        """Compute the loss; without Unsloth, TRL would add the entropy of every token to it.

        That is a float32 copy of all logits and a wait for the GPU at every micro-batch. Several
        processes would wait for each other at every piece, and one may have more pieces than
        another; Unsloth's loss does the same on a CPU.
        """
        if not self.is_plain:
            return super().compute_loss(model, inputs, *more, **named)
        inputs = self._seen(inputs) | {"use_cache": False}
        return transformers.Trainer.compute_loss(self, model, inputs, *more, **named)

    def _seen(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs if self.is_masked else unmasked(inputs)

    def prediction_step(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
        """Evaluate a micro-batch, and count what its loss is the mean of.

        The Trainer's own step asks all processes for their counts, which would hang here: each may
        have another number of pieces.
        """
        inputs = self._prepare_inputs(inputs)
        rows = self._unrepeated(len(inputs["input_ids"]), len(self.eval_dataset))[0]
        # All processes evaluate something, as the Trainer gathers their losses.
        inputs = {name: values[: max(rows, 1)] for name, values in inputs.items()}
        with torch.no_grad(), self.compute_loss_context_manager():
            for piece in pieces(inputs, self.max_tokens, self.widest):
                loss = model(**self._seen(piece), use_cache=False)["loss"].mean()
                learned = (piece["labels"][:, 1:] != IGNORED).sum() * min(rows, 1)
                self._evaluated.append(torch.stack([loss.double() * learned, learned.double()]))
        # Of the last piece alone: ours is counted above, and replaces the Trainer's.
        return loss, None, None

    def evaluation_loop(self, *arguments: Any, **named: Any) -> Any:
        """Evaluate; the loss is the mean over all tokens, whatever the micro-batches were.

        The Trainer's own is a mean of the micro-batches' means: another micro-batch, another loss.
        """
        self._evaluated = []
        output = super().evaluation_loop(*arguments, **named)
        total, learned = self.accelerator.reduce(torch.stack(self._evaluated).sum(0), "sum")
        prefix = named.get("metric_key_prefix", "eval")
        output.metrics[f"{prefix}_loss"] = float(total / learned)
        return output

    def losses(self) -> Any:
        """Evaluate, and return the nats and tokens of each micro-batch, a NumPy array [batches, 2].

        A long micro-batch counts in pieces; the same rows always in the same ones.
        """
        self.evaluate()
        return torch.stack(self._evaluated).double().cpu().numpy()

    def all_tokens(self) -> int:
        """Count the tokens trained on, in all processes together."""
        if self.args.world_size == 1:
            return int(self.tokens)
        return int(self.accelerator.reduce(self.tokens, "sum"))

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Take the gradient scaler's state of a checkpoint; one saved in fp16 may go on in bf16."""
        if self.accelerator.scaler is not None:
            super()._load_scaler(checkpoint)

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


def unmasked(inputs: dict[str, Any]) -> dict[str, Any]:
    """Leave out the mask of a micro-batch that is padded on the right.

    No token attends to what comes after it, and nothing is learned of the padding; without a mask
    PyTorch's attention takes its quickest kernel. Unsloth does the same.
    """
    return {name: values for name, values in inputs.items() if name != "attention_mask"}


def train(job: Job, model: Any, resume: Path | None, halt_at: int | None = None) -> Outcome | None:
    """Train a model in place, from a checkpoint where there is one.

    Args:
        job: of the run.
        model: with the adapter to train.
        resume: checkpoint to go on from, from ``checkpoints.newest``; None: from the start.
        halt_at: step after which to evaluate, save and leave it; None: none.

    Returns:
        The figures; None where it halted before its last step.

    Raises:
        BatchError: a step's loss or gradient is not finite, or the loss is exactly 0, or the
            weights do not move.
        KeyboardInterrupt: somebody interrupted; a checkpoint was saved before.
    """
    if resume and (done := _already_done(job, model, resume)):
        return done
    started_at = checkpoints.step_of(resume) if resume else 0
    patience, batch_size = job.config.checkpoints.patience, job.config.optimisation.batch_size
    is_first = job.ranks.is_first
    recorder = MetricsCallback(job.metrics, batch_size, patience, is_first)
    if resume:
        log.info("going on from step %s", f"{started_at:,}")
    lines = metrics.trim(job.metrics, started_at) if is_first else []
    recorder.go_on(lines)
    stopper = SignalCallback(job.ranks)
    callbacks = [recorder, stopper, MovementCheck()]
    if halt_at is not None:
        if started_at >= halt_at:
            return None
        callbacks.append(Halt(halt_at))
    if _keeps_best(job):
        callbacks.append(SaveBest(job.checkpoints, job.ranks))
    with quietly(), stopper.listening():
        tracked = trackers.of_job(job, lines) if is_first else []
        recorder.trainer = trainer = make_trainer(job, model, [*callbacks, *tracked])
        try:
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        finally:
            recorder.close()
            for tracker in tracked:
                tracker.close()
    state = trainer.state
    if stopper.stopped and state.global_step < state.max_steps:
        step, steps = f"{state.global_step:,}", f"{state.max_steps:,}"
        log.warning("saved at step %s of %s; the same command goes on from there", step, steps)
        raise KeyboardInterrupt
    if halt_at is not None and state.global_step == halt_at < state.max_steps:
        return None
    guards.check_taken(recorder.skipped, state.global_step)
    seconds = recorder.trained_seconds
    speed = recorder.trained_samples / seconds if seconds else 0.0
    return conclude(job, trainer.model, state, speed, started_at)


def _keeps_best(job: Job) -> bool:
    return job.config.checkpoints.keep_best and job.validation is not None


def conclude(job: Job, model: Any, state: Any, speed: float, started_at: int) -> Outcome:
    """Put the best weights there are into a model that has the last ones; return the figures."""
    last, losses = state.global_step, losses_of(state)
    step = _take_best(job, model, last, losses) if _keeps_best(job) else last
    epochs = round(float(state.epoch or 0.0), 4)
    return Outcome(last, epochs, round(speed, 2), started_at, step, losses.get(step))


def _take_best(job: Job, model: Any, last: int, losses: dict[int, float]) -> int:
    ranking = metrics.ranked(losses)
    step = job.ranks.first(lambda: checkpoints.choose(job.checkpoints, ranking, last))
    if step != last:
        take_weights(model, checkpoints.of_step(job.checkpoints, step))
    if not ranking:
        log.warning("no validation loss is finite: the adapter is that of the last step, %d", step)
    elif ranking[0] != step:
        log.warning(
            "the best weights, of step %d, are lost: the adapter is that of step %d, validation "
            "loss %.4f", ranking[0], step, losses[step],
        )  # fmt: skip
    return step


def _already_done(job: Job, model: Any, resume: Path) -> Outcome | None:
    """Take the weights of a run whose last step is saved; the Trainer would add another step."""
    state = TrainerState.load_from_json(str(resume / "trainer_state.json"))
    patience = job.config.checkpoints.patience
    stopped_early = patience is not None and stalled(losses_of(state), patience)
    if state.global_step < state.max_steps and not stopped_early:
        return None
    take_weights(model, resume)
    speeds = [line["samples_per_second"] for line in metrics.read(job.metrics) if "loss" in line]
    speed = sum(speeds) / len(speeds) if speeds else 0.0
    return conclude(job, model, state, speed, state.global_step)


def make_trainer(job: Job, model: Any, callbacks: list[Any], order: Any = None) -> Trainer:
    """Build the Trainer, its rows in our order.

    Args:
        job: of the run.
        model: with the adapter to train.
        callbacks: beside those that every run has.
        order: places of the rows to train on; None: the run's own, keyed by seed and epoch.
    """
    config, how, rows = job.config, job.config.optimisation, job.train.rows
    weights = [(p, p.data) for p in model.parameters() if p.requires_grad]
    widest = config.max_length if torch.cuda.is_available() else None
    trainer = Trainer(
        model=model,
        args=arguments.trainer_settings(job, model),
        train_dataset=rows,
        eval_dataset=job.validation.rows if job.validation else None,
        processing_class=job.tokenizer,
        data_collator=Collator(job.tokenizer.pad_token_id, widest),
        callbacks=[*callbacks, KeepLayers(how.keep_layers)],
    )
    # DDP's hooks cannot be recorded: a step averages gradients itself.
    prepare = trainer.accelerator.prepare_model
    trainer.accelerator.prepare_model = functools.partial(prepare, evaluation_mode=True)
    # On a base of 4 bits TRL rounds them to bf16, which no scaler takes and small steps vanish in.
    for parameter, exact in weights:
        if parameter.dtype != exact.dtype:
            parameter.data = exact.to(parameter.device)
        if job.ranks.count > 1:
            torch.distributed.broadcast(parameter.data, 0)  # all begin alike
    lengths = rows.with_format("arrow")["length"].to_numpy()
    trainer.order = order or KeyedOrder(lengths, how.batch_size, config.seed, how.order)
    trainer.add_callback(Epochs(trainer.order))
    trainer.max_tokens, trainer.widest = how.max_tokens, widest
    # Of what is not recorded too: what is compiled must find the weights where they were.
    layers = _quick_layers(job, model)
    is_recorded = graphs.are_for(job, model.config.num_hidden_layers)
    trainer.recorded = graphs.Graphs(model, layers) if is_recorded else None
    trainer.keep = config.checkpoints.save_total_limit
    trainer.is_plain = job.backend.name == "transformers" or job.ranks.count > 1
    has_experts = arguments.sets(model.get_base_model().config, "router_aux_loss_coef")
    trainer.is_masked = has_experts or not trainer.is_plain
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer


def _quick_layers(job: Job, model: Any) -> Any:
    """Return layers for a GPU that are quicker than the model's own; None: not for this model."""
    if not torch.cuda.is_available() or importlib.util.find_spec("triton") is None:
        return None
    from training.model import layers

    if not layers.are_for(model):
        return None
    shared = shared_beginning(job.train.rows)
    return layers.Layers(model, shared, job.config.max_length)
