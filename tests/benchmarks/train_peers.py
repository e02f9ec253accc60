"""The trainers that ``training run`` is measured against, as their users write them.

``python -m tests.benchmarks.train_peers notebook|trl --base B --subset S --out FILE``: the
notebook's own code (Unsloth and SFTTrainer on rendered texts), and TRL with PEFT alone. No code of
the training stage in it. Writes samples/s after the warm-up and the peak memory of each repeat as
JSON.
"""

import argparse
import gc
import itertools
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

from data.console import parse_memory

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ALPACA = """Below is an instruction that describes a task, paired with an input that provides \
further context. Write a response that appropriately completes the request.

### Instruction:
Write a book review.

### Input:
{}

### Response:
{}"""


def texts(subset: Path, eos: str) -> Any:
    import datasets

    rows = datasets.load_from_disk(str(subset))["train"]

    def render(row: dict[str, str]) -> dict[str, str]:
        return {"text": ALPACA.format(row["title"], row["content"]) + eos}

    return rows.map(render, remove_columns=rows.column_names)


def with_unsloth(options: argparse.Namespace) -> tuple[Any, Any]:
    from unsloth import FastLanguageModel

    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=str(options.base), max_seq_length=2048, dtype=None, load_in_4bit=False
    )
    model = FastLanguageModel.get_peft_model(
        model, r=16, target_modules=PROJECTIONS, lora_alpha=16, lora_dropout=0, bias="none",
        use_gradient_checkpointing="unsloth", random_state=3407, use_rslora=True,
    )  # fmt: skip
    return model, tokenizer


def with_trl(options: argparse.Namespace) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    model = AutoModelForCausalLM.from_pretrained(options.base, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(options.base)
    return model, tokenizer


def settings(options: argparse.Namespace) -> Any:
    import torch
    from trl import SFTConfig

    on_gpu = torch.cuda.is_available()
    more: dict[str, Any] = {}
    if options.peer == "trl":
        more = {"gradient_checkpointing": True, "packing": False}
    else:
        more = {"packing": False, "padding_free": False}
    return SFTConfig(
        output_dir=str(options.work), dataset_text_field="text", max_length=2048,
        per_device_train_batch_size=options.micro_batch,
        gradient_accumulation_steps=options.batch // options.micro_batch,
        warmup_steps=5, max_steps=options.steps, learning_rate=2e-4, bf16=on_gpu, fp16=False,
        logging_steps=1, optim="adamw_8bit" if on_gpu else "adamw_torch", weight_decay=0.01,
        lr_scheduler_type="linear", seed=3407, report_to="none", save_strategy="no",
        use_cpu=not on_gpu, disable_tqdm=True, dataset_num_proc=1, **more,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=("notebook", "trl"))
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--subset", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--micro_batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=26)
    parser.add_argument("--warm_up", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--memory_limit")
    options = parser.parse_args()
    os.environ["UNSLOTH_COMPILE_LOCATION"] = str(options.work / "compiled")
    repeats = []
    for _ in range(options.repeats):
        repeats.append(measure(options))
        options.out.write_text(json.dumps(repeats))
        print(repeats[-1], flush=True)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Load the model and train once."""
    model, tokenizer = (with_unsloth if options.peer == "notebook" else with_trl)(options)
    import torch

    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if on_gpu and options.memory_limit:
        total = torch.cuda.mem_get_info()[1]
        share = parse_memory(options.memory_limit) / total
        torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    ends = train(model, tokenizer, options, on_gpu)
    del model
    gc.collect()
    measured = ends[options.warm_up :]
    speed = options.batch * (len(measured) - 1) / (measured[-1] - measured[0])
    peak = torch.cuda.max_memory_reserved() / 2**30 if on_gpu else 0.0
    steps = [later - end for end, later in itertools.pairwise(measured)]
    return {
        "samples_per_second": round(speed, 2),
        "steady_samples_per_second": round(options.batch / statistics.median(steps), 2),
        "peak_gib": round(peak, 3),
    }


def train(model: Any, tokenizer: Any, options: argparse.Namespace, on_gpu: bool) -> list[float]:
    """Train; return the moments at which the steps ended."""
    import torch
    from transformers import TrainerCallback
    from trl import SFTTrainer

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if on_gpu:
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    more: dict[str, Any] = {}
    if options.peer == "trl":
        from peft import LoraConfig

        more["peft_config"] = LoraConfig(
            r=16, lora_alpha=16, lora_dropout=0.0, use_rslora=True, bias="none",
            target_modules=PROJECTIONS, task_type="CAUSAL_LM",
        )  # fmt: skip
    trainer = SFTTrainer(
        model=model, processing_class=tokenizer, args=settings(options), callbacks=[Clock()],
        train_dataset=texts(options.subset, tokenizer.eos_token), **more,
    )  # fmt: skip
    trainer.train()
    return ends


if __name__ == "__main__":
    main()
