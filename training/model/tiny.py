r"""Build a tiny Llama and its tokenizer from a subset's own text, for CPUs, demos and tests.

The base reads ``title\ndescription`` in a short pre-training, before them the lines of attributes
where prompts show any, never the prompt: how that is answered is left for the adapter to learn.
Nothing is downloaded.
"""

import itertools
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data import console
from data.artefacts.dataset import Subset
from data.prompt import Prompt
from training.config import TinyBase

BEGIN, END, PAD = "<s>", "</s>", "<pad>"
# Fixed, because the order of additions in a product, and so the last bits, depend on it.
_THREADS = 2


@dataclass(frozen=True)
class TinyJob:
    """What to build."""

    subset: str
    """Folder of a subset; its train rows are read."""
    folder: str
    """Where the base goes; renamed into place once whole."""
    tiny: TinyBase
    positions: int
    """Tokens a row at most."""
    seed: int
    prompt: Prompt = field(default_factory=Prompt)
    """What it shows of attributes is read too."""


def build(plan: TinyJob) -> str:
    """Build the base, unless it is there already; return its folder.

    The same plan makes the same bytes on the same kind of CPU. Runs in a process of its own, so
    that nothing that patches transformers reaches it.
    """
    final = Path(plan.folder)
    if (final / "config.json").exists():
        return plan.folder
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    torch.set_num_threads(_THREADS)
    rows = Subset.open(plan.subset).dataset("train")
    read = list(texts(rows, plan.prompt))
    tokenizer = train_tokenizer(iter(read), plan.tiny.vocabulary, plan.positions)
    model = make_model(plan, tokenizer)
    pretrain(model, list(encode(read, tokenizer, min(plan.positions, plan.tiny.tokens))), plan)
    work = final.parent / f".tmp-{final.name}-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    model.save_pretrained(work)
    tokenizer.save_pretrained(work)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(work, final)
    return plan.folder


def texts(rows: Any, prompt: Prompt) -> Iterator[str]:
    """Yield a row's attributes that prompts show, its title and description as one text."""
    for row in rows.select_columns(["title", "content", *prompt.attributes]):
        yield f"{prompt.about(row)}{row['title']}\n{row['content']}"


def train_tokenizer(texts: Iterator[str], vocabulary: int, positions: int) -> Any:
    """Train a byte-level BPE tokenizer that adds its begin-of-sequence token.

    Args:
        texts: to learn the merges from; few texts make a smaller vocabulary.
        vocabulary: tokens at most, the 256 bytes and the special ones included.
        positions: tokens that the model can take.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BEGIN, END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    begin = tokenizer.token_to_id(BEGIN)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, begin)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=PAD,
        model_max_length=positions, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def make_model(plan: TinyJob, tokenizer: Any) -> Any:
    """Build the untrained Llama, its weights drawn from the seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tiny = plan.tiny
    torch.manual_seed(plan.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=tiny.hidden,
            intermediate_size=tiny.intermediate,
            num_hidden_layers=tiny.layers,
            num_attention_heads=tiny.heads,
            num_key_value_heads=tiny.kv_heads,
            max_position_embeddings=plan.positions,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def encode(texts: list[str], tokenizer: Any, positions: int) -> Iterator[list[int]]:
    """Yield a text's ids with the end-of-sequence token, cut to ``positions``."""
    for encoded in tokenizer.backend_tokenizer.encode_batch_fast(texts):
        yield [*encoded.ids, tokenizer.eos_token_id][:positions]


def pretrain(model: Any, rows: list[list[int]], plan: TinyJob) -> None:
    """Train all weights on whole rows with AdamW, warm-up and a linear fall to 0."""
    import torch

    from training.examples.batches import Collator, KeyedOrder

    tiny = plan.tiny
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=tiny.learning_rate, betas=(0.9, 0.95), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, tiny.steps))
    order = KeyedOrder([len(row) for row in rows], tiny.batch_size, plan.seed, "by_length")
    collate = Collator(model.config.pad_token_id)
    model.train()
    with console.Progress("pre-train the tiny base", tiny.steps, "steps") as progress:
        for places in batches(order, tiny):
            batch = collate([{"input_ids": rows[place], "labels": rows[place]} for place in places])
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            progress.advance(1)
    model.eval()


def rate(step: int, steps: int) -> float:
    """Return the share of the highest learning rate that a step has."""
    warmup = max(1, math.ceil(0.05 * steps))
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))


def batches(order: Any, tiny: TinyBase) -> Iterator[list[int]]:
    """Yield ``steps`` batches of rows, by their places, epoch after epoch."""

    def all_epochs() -> Iterator[list[int]]:
        for epoch in range(tiny.steps):
            order.set_epoch(epoch)
            places = list(order)
            for start in range(0, len(places), tiny.batch_size):
                yield places[start : start + tiny.batch_size]

    return itertools.islice(all_epochs(), tiny.steps)
