"""``run --preview N``: rows as the model would see them, with what it learns marked."""

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from data import console
from data.artefacts.dataset import Subset
from data.artefacts.run import BASE, locate
from data.console import printable
from training import job
from training.config import TrainConfig
from training.examples.encoder import IGNORED, Encoder, TokenisationConfig
from training.model import tiny
from training.model.backend import load_tokenizer

_GREEN, _PLAIN = "\033[32m", "\033[0m"


def show(config: TrainConfig) -> None:
    """Print the first rows of the subset, tokenised; trains nothing and writes nothing.

    Raises:
        BatchError: these rows must not be trained on.
    """
    subset = job.open_subset(config.subset)
    with tempfile.TemporaryDirectory() as folder:
        base = _tiny_tokenizer(config, subset, folder) if config.tiny else _folder(config)
        tokenizer = load_tokenizer(base)
    encoder = Encoder(
        tokenizer, TokenisationConfig(config.prompt, config.loss_on, config.max_length)
    )
    rows = subset.dataset("train").select_columns(["uid", "title", "content"])
    rows = rows[: config.preview]
    is_colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    marks = (_GREEN, _PLAIN) if is_colour else ("[[", "]]")
    marked = "in green" if is_colour else "between [[ and ]]"
    console.say(f"learned: {marked}; special tokens as their names\n")
    for place, uid in enumerate(rows["uid"]):
        table, _ = encoder.encode_rows({name: [told[place]] for name, told in rows.items()})
        if not table.num_rows:
            console.say(f"--- {uid}: left out, its prompt fills max_length={config.max_length}\n")
            continue
        (row,) = table.to_pylist()
        learned = sum(label != IGNORED for label in row["labels"])
        console.say(f"--- {uid}: {row['length']} tokens, {learned} learned")
        console.say(_mark(tokenizer, row, marks) + "\n", is_safe=True)


def _folder(config: TrainConfig) -> Path:
    return locate(config.base).folder


def _tiny_tokenizer(config: TrainConfig, subset: Subset, folder: str) -> Path:
    assert config.tiny is not None  # noqa: S101  # for the type checker
    untrained = replace(config.tiny, steps=0)
    place = str(Path(folder) / BASE)
    built = tiny.build(
        tiny.TinyJob(str(subset.path), place, untrained, config.max_length, config.seed)
    )
    return Path(built)


def _mark(tokenizer: Any, row: dict[str, Any], marks: tuple[str, str]) -> str:
    """Decode runs of learned and of unlearned tokens apart from each other."""
    pieces: list[tuple[bool, list[int]]] = []
    for token, label in zip(row["input_ids"], row["labels"], strict=True):
        is_learned = label != IGNORED
        if not pieces or pieces[-1][0] != is_learned:
            pieces.append((is_learned, []))
        pieces[-1][1].append(token)
    texts = [(learned, printable(tokenizer.decode(tokens))) for learned, tokens in pieces]
    return "".join(f"{marks[0]}{text}{marks[1]}" if learned else text for learned, text in texts)
