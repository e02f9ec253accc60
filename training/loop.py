"""The training loop: TRL's SFTTrainer on rows that are tokenised already.

Imports trl and transformers at once, so it is imported only after ``model.prepare`` has chosen
the backend. Every setting that matters is given, as Unsloth gives SFTConfig other defaults.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerState
from trl import SFTConfig, SFTTrainer

from data import cli
from training import guards, metrics
from training.batches import Collator, KeyedOrder
from training.config import TrainConfig
from training.model import Loaded, Precision, quietly, take_weights

if TYPE_CHECKING:
    from datasets import Dataset


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


class Trainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer with our order of rows, our counts and no model cards."""

    order: KeyedOrder
    samples: int = 0
    tokens: Any = 0

    def _get_train_sampler(self, *_: Any, **__: Any) -> KeyedOrder:
        return self.order

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: it would hold this machine's paths."""

    def training_step(self, model: Any, inputs: dict[str, Any], *more: Any, **named: Any) -> Any:
        """Count the rows and tokens of a micro-batch, then train on it."""
        self.samples += len(inputs["input_ids"])
        # Stays a tensor: reading it here would make the GPU wait.
        self.tokens = self.tokens + inputs["attention_mask"].sum()
        return super().training_step(model, inputs, *more, **named)


class Watcher(TrainerCallback):  # type: ignore[misc]
    """Writes the metrics, shows the progress and stops on figures that are at fault."""

    def __init__(self, path: Path, batch_size: int) -> None:
        self.trainer: Trainer | None = None
        self.trained_seconds = 0.0
        self.trained_samples = 0
        self._path = path
        self._batch_size = batch_size
        self._earlier: metrics.Line = {}
        self._progress: cli.Progress | None = None
        self._began = self._since = time.perf_counter()

    def go_on(self, lines: list[metrics.Line]) -> None:
        """Take over tokens and seconds of the run that is gone on with."""
        trained = [line for line in lines if "tokens" in line]
        self._earlier = trained[-1] if trained else {}

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Open the progress bar at the step that training begins with."""
        self._began = self._since = time.perf_counter()
        left = (state.max_steps - state.global_step) * self._batch_size
        self._progress = cli.Progress("train", left, "samples")

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
            "tokens": self._earlier.get("tokens", 0) + int(trainer.tokens if trainer else 0),
            "seconds": self._seconds(),
        }

    def _seconds(self) -> float:
        earlier: float = self._earlier.get("seconds", 0.0)
        return round(earlier + time.perf_counter() - self._began, 3)

    def _write(self, state: Any, line: metrics.Line) -> None:
        told = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4)}
        metrics.append(self._path, told | line)

    def restart_clock(self) -> None:
        """Leave out what evaluation and saving took from the samples per second."""
        self._since = time.perf_counter()

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """Count no evaluation as training."""
        self.restart_clock()

    def on_save(self, *_: Any, **__: Any) -> None:
        """Count no saving as training."""
        self.restart_clock()

    def close(self) -> None:
        """Close the progress bar."""
        if self._progress:
            self._progress.__exit__()


def settings(job: Job) -> SFTConfig:
    """Give every setting of the Trainer that matters, whatever the backend's defaults."""
    config, how, kept = job.config, job.config.optimisation, job.config.checkpoints
    on_cpu = not torch.cuda.is_available()
    evaluate = job.validation is not None
    # Unsloth's own checkpointing is in the model already; this turns on the stock one.
    recompute = how.gradient_checkpointing != "none"
    return SFTConfig(
        output_dir=str(job.checkpoints),
        per_device_train_batch_size=how.micro_batch,
        per_device_eval_batch_size=how.micro_batch,
        gradient_accumulation_steps=how.accumulation,
        num_train_epochs=how.epochs,
        max_steps=how.max_steps or -1,
        learning_rate=how.learning_rate,
        lr_scheduler_type=_schedule(how.schedule),
        warmup_steps=int(how.warmup_steps) if how.warmup_steps >= 1 else how.warmup_steps,
        weight_decay=how.weight_decay,
        optim=optimizer(job.config),
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        max_grad_norm=how.max_grad_norm,
        bf16=job.precision == "bf16",
        fp16=False,
        gradient_checkpointing=recompute,
        gradient_checkpointing_kwargs={"use_reentrant": False} if recompute else None,
        use_cpu=on_cpu,
        seed=config.seed,
        data_seed=config.seed,
        logging_strategy="steps",
        logging_steps=config.logging_steps,
        logging_first_step=True,
        # On, it would hide a NaN by writing the mean of the other steps.
        logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=kept.eval_steps if evaluate else None,
        prediction_loss_only=True,
        save_strategy="steps",
        save_steps=kept.save_steps,
        save_total_limit=kept.save_total_limit,
        save_only_model=False,
        load_best_model_at_end=evaluate and kept.keep_best,
        metric_for_best_model="eval_loss" if evaluate else None,
        greater_is_better=False if evaluate else None,
        disable_tqdm=True,
        report_to=config.report_to or "none",
        push_to_hub=False,
        # Our rows go to our collator whole; their order is our sampler's.
        remove_unused_columns=False,
        train_sampling_strategy="random",
        dataloader_drop_last=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=not on_cpu,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=config.max_length,
        packing=False,
        eval_packing=False,
        padding_free=False,
        completion_only_loss=None,
        assistant_only_loss=False,
        # The default, chunked_nll, replaces the model's forward, and Unsloth replaces it as well.
        loss_type="nll",
        label_smoothing_factor=0.0,
        neftune_noise_alpha=None,
        use_liger_kernel=False,
        torch_compile=False,
        auto_find_batch_size=False,
        average_tokens_across_devices=True,
        full_determinism=False,
        ignore_data_skip=False,
    )


def _schedule(name: str) -> str:
    return "constant_with_warmup" if name == "constant" else name


def optimizer(config: TrainConfig) -> str:
    """Give the optimizer that runs here: the 8-bit one has kernels for GPUs only."""
    asked = config.optimisation.optimizer
    if asked == "adamw_8bit" and not torch.cuda.is_available():
        return "adamw_torch"
    return asked


def newest_checkpoint(folder: Path) -> Path | None:
    """Find the checkpoint to go on from: the newest that has its state, which is saved last."""
    found = []
    for path in folder.glob("checkpoint-*") if folder.is_dir() else ():
        step = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if step and (path / "trainer_state.json").is_file():
            found.append((int(step[1]), path))
    return max(found)[1] if found else None


def train(job: Job) -> Outcome:
    """Train, from the newest checkpoint where there is one.

    Raises:
        BatchError: a step's loss or gradient is not finite, or the loss is exactly 0.
    """
    resume = newest_checkpoint(job.checkpoints)
    if resume and (done := _already_done(job, resume)):
        return done
    started_at = int(resume.name.split("-")[1]) if resume else 0
    watcher = Watcher(job.metrics, job.config.optimisation.batch_size)
    watcher.go_on(metrics.trim(job.metrics, started_at))
    with quietly():
        trainer = _trainer(job, watcher)
        try:
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        finally:
            watcher.close()
    speed = watcher.trained_samples / watcher.trained_seconds if watcher.trained_seconds else 0.0
    state = trainer.state
    return Outcome(
        trainer.model, state.global_step, float(state.epoch or 0.0), round(speed, 2), started_at
    )


def _already_done(job: Job, resume: Path) -> Outcome | None:
    """Take the weights of a run whose last step is saved; the Trainer would add another step."""
    state = TrainerState.load_from_json(str(resume / "trainer_state.json"))
    if state.global_step < state.max_steps:
        return None
    best = state.best_model_checkpoint
    keeps_best = job.validation is not None and job.config.checkpoints.keep_best and best
    # By its name: the run's folder may have been moved since.
    chosen = job.checkpoints / Path(best).name if keeps_best else resume
    take_weights(job.loaded.model, chosen)
    lines = [line["samples_per_second"] for line in metrics.read(job.metrics) if "loss" in line]
    speed = round(sum(lines) / len(lines), 2) if lines else 0.0
    step = state.global_step
    return Outcome(job.loaded.model, step, float(state.epoch or 0.0), speed, step)


def _trainer(job: Job, watcher: Watcher) -> Trainer:
    how, tokenizer = job.config.optimisation, job.loaded.tokenizer
    trainer = Trainer(
        model=job.loaded.model,
        args=settings(job),
        train_dataset=job.train,
        eval_dataset=job.validation,
        processing_class=tokenizer,
        data_collator=Collator(tokenizer.pad_token_id),
        callbacks=[watcher],
    )
    lengths = job.train.with_format("arrow")["length"].to_numpy()
    trainer.order = KeyedOrder(lengths, how.batch_size, job.config.seed, how.order)
    watcher.trainer = trainer
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer
