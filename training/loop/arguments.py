"""Our config as TRL's: every setting that matters is given, whatever the backend's defaults."""

from pathlib import Path

import torch
from trl import SFTConfig

from training.config import TrainConfig
from training.hardware import Precision


def settings(
    config: TrainConfig, precision: Precision, checkpoints: Path, evaluate: bool, processes: int = 1
) -> SFTConfig:
    """Give every setting of the Trainer that matters; Unsloth changes SFTConfig's defaults.

    Args:
        config: of the run.
        precision: of the arithmetic.
        checkpoints: folder that they are saved to.
        evaluate: whether there are validation rows to evaluate on.
        processes: that share each batch.
    """
    how, kept = config.optimisation, config.checkpoints
    on_cpu = not torch.cuda.is_available()
    recompute = how.gradient_checkpointing != "none"
    given = SFTConfig(
        output_dir=str(checkpoints),
        per_device_train_batch_size=how.rows_at_a_time(processes),
        per_device_eval_batch_size=how.rows_at_a_time(processes),
        gradient_accumulation_steps=how.accumulation(processes),
        num_train_epochs=how.epochs,
        max_steps=how.max_steps or -1,
        learning_rate=how.learning_rate,
        lr_scheduler_type=_schedule(how.schedule),
        warmup_steps=int(how.warmup_steps) if how.warmup_steps >= 1 else how.warmup_steps,
        weight_decay=how.weight_decay,
        optim=optimizer(config),
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        max_grad_norm=how.max_grad_norm,
        bf16=precision == "bf16",
        fp16=False,
        gradient_checkpointing=recompute,
        gradient_checkpointing_kwargs={"use_reentrant": False} if recompute else None,
        use_cpu=on_cpu,
        ddp_find_unused_parameters=False,
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
        # Ours are removed by us, once the next one is known to be whole.
        save_total_limit=None,
        save_only_model=False,
        # The best ones are found, saved, checked and taken by us.
        load_best_model_at_end=False,
        metric_for_best_model=None,
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
    return _on_one_gpu(given)


def _on_one_gpu(given: SFTConfig) -> SFTConfig:
    """Let a process use one GPU, however many it sees: more take a launcher and a process each.

    The Trainer would split each batch among all in threads (nn.DataParallel) and take as many times
    the rows at once. https://pytorch.org/docs/stable/generated/torch.nn.DataParallel.html advises
    against it, and recomputed layers fail in it.
    """
    if given.n_gpu > 1:  # which also finds out how many there are, once
        given._n_gpu = 1
    return given


def _schedule(name: str) -> str:
    return "constant_with_warmup" if name == "constant" else name


def optimizer(config: TrainConfig) -> str:
    """Give the optimizer that runs here: the 8-bit one has kernels for GPUs only."""
    asked = config.optimisation.optimizer
    if asked == "adamw_8bit" and not torch.cuda.is_available():
        return "adamw_torch"
    return asked
