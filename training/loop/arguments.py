"""Our config as TRL's: every setting that matters is set, whatever the backend's defaults."""

from typing import Any

import torch
from trl import SFTConfig

from training.config import TrainConfig
from training.job import Job

_SCHEDULES = {"constant": "constant_with_warmup"}


def trainer_settings(job: Job, model: Any) -> SFTConfig:
    """Return every setting of the Trainer that matters; Unsloth changes SFTConfig's defaults."""
    config, how, kept = job.config, job.config.optimisation, job.config.checkpoints
    evaluate = job.validation is not None
    on_cpu = not torch.cuda.is_available()
    recompute = how.gradient_checkpointing != "none"
    settings = SFTConfig(
        output_dir=str(job.checkpoints),
        per_device_train_batch_size=how.rows_at_a_time(job.ranks.count),
        per_device_eval_batch_size=how.rows_at_a_time(job.ranks.count),
        gradient_accumulation_steps=how.accumulation(job.ranks.count),
        num_train_epochs=how.epochs,
        max_steps=how.max_steps or -1,
        learning_rate=how.learning_rate,
        lr_scheduler_type=_SCHEDULES.get(how.schedule, how.schedule),
        warmup_steps=int(how.warmup_steps) if how.warmup_steps >= 1 else how.warmup_steps,
        weight_decay=how.weight_decay,
        optim=optimizer(config),
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        max_grad_norm=how.max_grad_norm,
        bf16=job.precision == "bf16",
        fp16=job.precision == "fp16",
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
        # We remove them, once the next one is whole.
        save_total_limit=None,
        save_only_model=False,
        # We find, save, check and take the best ones.
        load_best_model_at_end=False,
        metric_for_best_model=None,
        disable_tqdm=True,
        report_to="none",  # ``trackers`` makes them
        run_name=config.out,
        project="title-to-description",
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
        loss_type=_loss(job, model),
        label_smoothing_factor=0.0,
        neftune_noise_alpha=None,
        use_liger_kernel=False,
        torch_compile=False,
        auto_find_batch_size=False,
        average_tokens_across_devices=True,
        full_determinism=False,
        ignore_data_skip=False,
    )
    return on_one_gpu(settings)


# What some models do to their logits, or add to the loss, and TRL's chunked one does not.
_UNREAD = (
    "logits_scaling", "lm_head_multiplier", "logits_soft_cap", "output_logit_soft_cap",
    "z_loss_coefficient", "router_aux_loss_coef",
)  # fmt: skip


def _loss(job: Job, model: Any) -> str:
    """Make the logits of learned tokens alone, some at a time, where the backend does not itself.

    All of them at once, in 32 bits, would bound the rows at a time. TRL reads the head's weights
    past an adapter on it; Unsloth replaces the same forward pass.
    """
    base = model.get_base_model()
    adapted = hasattr(base.get_output_embeddings(), "lora_A")
    is_own = adapted or job.backend.name == "unsloth" or sets(base.config, *_UNREAD)
    return "nll" if is_own else "chunked_nll"


def sets(config: Any, *names: str) -> bool:
    """Tell whether a model's config sets one of some figures to anything but 0."""
    text = config.get_text_config()
    return any(getattr(text, name, None) for name in names)


def on_one_gpu(settings: SFTConfig) -> SFTConfig:
    """Let a process use one GPU, however many it sees: more take a launcher and a process each.

    The Trainer would split each batch among all in threads (nn.DataParallel) and take as many times
    the rows at once. https://pytorch.org/docs/stable/generated/torch.nn.DataParallel.html advises
    against it, and recomputed layers fail in it.
    """
    if settings.n_gpu > 1:  # this counts the GPUs, once
        settings._n_gpu = 1
    return settings


def optimizer(config: TrainConfig) -> str:
    """Return the optimizer that runs here: the 8-bit one has kernels for GPUs only."""
    name = config.optimisation.optimizer
    if name == "adamw_8bit" and not torch.cuda.is_available():
        return "adamw_torch"
    return name
