"""``run --preview N``: rows as the model would see them, with what it learns marked."""

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from data import cli, models
from data.terminal import shown
from training import inputs, model, tiny
from training.config import TrainConfig
from training.encoder import IGNORED, Encoder, Form

_GREEN, _PLAIN = "\033[32m", "\033[0m"


def show(config: TrainConfig) -> None:
    """Print the first rows of the subset, tokenised; trains nothing and writes nothing.

    Raises:
        BatchError: these rows must not be trained on.
    """
    subset = inputs.open_subset(config.subset)
    with tempfile.TemporaryDirectory() as folder:
        base = _tiny_tokenizer(config, subset, folder) if config.tiny else _folder(config)
        tokenizer = model.load_tokenizer(base)
    encoder = Encoder(tokenizer, Form(config.prompt, config.loss_on, config.max_length))
    rows = subset.split("train").rows.select_columns(["uid", "title", "content"])
    rows = rows[: config.preview]
    is_colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    marks = (_GREEN, _PLAIN) if is_colour else ("[[", "]]")
    marked = "in green" if is_colour else "between [[ and ]]"
    cli.say(f"learned: {marked}; special tokens as their names\n")
    for place, uid in enumerate(rows["uid"]):
        table, _ = encoder.encode_rows({name: [told[place]] for name, told in rows.items()})
        if not table.num_rows:
            cli.say(f"--- {uid}: left out, its prompt fills max_length={config.max_length}\n")
            continue
        (row,) = table.to_pylist()
        learned = sum(label != IGNORED for label in row["labels"])
        cli.say(f"--- {uid}: {row['length']} tokens, {learned} learned")
        cli.say(_mark(tokenizer, row, marks) + "\n", is_safe=True)


def _folder(config: TrainConfig) -> Path:
    return models.locate(config.base).folder


def _tiny_tokenizer(config: TrainConfig, subset: inputs.Subset, folder: str) -> Path:
    assert config.tiny is not None  # noqa: S101  # for the type checker
    untrained = replace(config.tiny, steps=0)
    place = str(Path(folder) / inputs.BASE)
    built = tiny.build(
        tiny.Plan(str(subset.path), place, untrained, config.max_length, config.seed)
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
    texts = [(learned, shown(tokenizer.decode(tokens))) for learned, tokens in pieces]
    return "".join(f"{marks[0]}{text}{marks[1]}" if learned else text for learned, text in texts)
