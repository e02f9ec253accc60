"""``make bench-gpu``: the shipped recipes on the GPU at hand, under a 12 GB card's memory.

Speed and memory do not depend on what the weights say, so the base is a TinyLlama of random bf16
weights, made here, with a tokenizer trained on the invented catalogue: nothing is downloaded. A run
on real weights gives the same samples/s; its losses are another matter, and are not reported.

Trains each recipe for ``--steps`` steps through the command line, generates with each adapter, and
prints the table; logs and figures go to ``--work`` and ``--report``.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from data import cli, manifest
from data.shards import Folder
from data.subset import load

RECIPES = ("tech-challenge-03", "rtx3060")
# Steps until the allocator and the compiled kernels are warm.
WARM_UP = 10
TINYLLAMA = {
    "vocab_size": 32_000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
    "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048,
}  # fmt: skip


def run(log: Path, *words: str) -> None:
    with log.open("w") as file:
        done = subprocess.run([sys.executable, "-m", *words], stdout=file, stderr=file, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{log.read_text()[-3000:]}")


def build_base(folder: Path, subset: Path) -> None:
    """Save a TinyLlama of random weights and a 32,000-token BPE tokenizer of the subset's text."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    rows = load(str(subset))["train"]
    trainer = trainers.BpeTrainer(
        vocab_size=TINYLLAMA["vocab_size"],
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f"{row['title']}\n{row['content']}" for row in rows), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        pad_token="<unk>", padding_side="left",
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = LlamaConfig(**TINYLLAMA, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)


def prepare(work: Path, rows: int) -> Path:
    """Invent, clean and sample a catalogue with the project's own commands."""
    raw, clean, subset = work / "trn.json", work / "clean", work / "subset"
    # About 5 lines of 100 have a description of 400 to 500 characters.
    lines = str(rows * 25)
    run(work / "synthesize.log", "data", "synthesize", "--rows", lines, "--out", str(raw))
    run(work / "clean.log", "preprocessing", "clean", "--source", str(raw), "--out", str(clean))
    run(work / "subset.log", "data", "subset", "--clean", str(clean), "--size", str(rows),
        "--out", str(subset))  # fmt: skip
    return subset


def steady_speed(metrics: Path, batch: int) -> float:
    """Samples a second over the steps after the warm-up: the median step's, by the clock."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    clock = [line["seconds"] for line in lines if "loss" in line]
    steps = [later - earlier for earlier, later in itertools.pairwise(clock)]
    return batch / statistics.median(steps[WARM_UP:])


def measure(recipe: str, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    out, texts = work / recipe, work / f"{recipe}-generated"
    run(
        work / f"{recipe}.log", "training", "run",
        "--config", f"training/recipes/{recipe}.yaml", "--backend", options.backend,
        "--base", str(work / "base"), "--subset", str(work / "subset"), "--out", str(out),
        "--tokenized", str(work / "tokenized"), "--memory_limit", options.memory_limit,
        "--optimisation.max_steps", str(options.steps),
    )  # fmt: skip
    run(
        work / f"{recipe}-generate.log", "inference", "generate", "--run", str(out),
        "--titles", str(work / "subset"), "--split", "train", "--limit", "256",
        "--max_new_tokens", "128", "--memory_limit", options.memory_limit, "--out", str(texts),
    )  # fmt: skip
    trained = manifest.read(Folder(str(out)), "train")
    generated = manifest.read(Folder(str(texts)), "generate")
    batch = trained.config["optimisation"]["batch_size"]
    return {
        "recipe": recipe,
        "samples_per_second": steady_speed(out / "metrics.jsonl", batch),
        "facts": trained.facts,
        "rows_generated": generated.counts.kept,
        "generated": generated.facts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--backend", default="unsloth")
    parser.add_argument("--memory_limit", default="11.65GiB")
    parser.add_argument("--work", type=Path, default=Path("data/store/bench-gpu"))
    parser.add_argument("--report", type=Path, default=Path("data/store/reports/bench-gpu.json"))
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    options.work.mkdir(parents=True, exist_ok=True)
    prepare(options.work, options.rows)
    if not (options.work / "base" / "config.json").exists():
        build_base(options.work / "base", options.work / "subset")
    found = [measure(recipe, options.work, options) for recipe in RECIPES]
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(json.dumps(found, indent=2, default=str))
    lines = [
        [
            each["recipe"],
            f"{each['samples_per_second']:.0f}",
            f"{each['facts']['peak_memory_gib']:.2f}",
            str(each["facts"]["steps"]),
            f"{each['rows_generated']:,}",
        ]
        for each in found
    ]
    header = ("recipe", "samples/s", "peak GiB", "steps", "rows generated")
    cli.say(f"{found[0]['facts']['device']}, memory capped at {options.memory_limit}\n")
    cli.say(cli.table(lines, header))


if __name__ == "__main__":
    main()
