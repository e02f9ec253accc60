"""What a run starts from: the subset, the base, the backend, the tokenised rows."""

import logging
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from data import console, neighbours
from data.artefacts import manifest
from data.artefacts.dataset import Subset
from data.artefacts.run import BASE, Base, locate
from data.errors import ModelError, SubsetError
from data.prompt import Chat
from training import hardware, processes
from training.config import TrainConfig
from training.examples import cache
from training.examples.cache import NearRows, Split, Tokenised
from training.examples.encoder import IGNORED, Encoder, TokenisationConfig
from training.hardware import Precision
from training.model import tiny
from training.model.adapter import check_init_adapter, digest_adapter
from training.model.backend import Backend, check, choose_backend, load_tokenizer
from training.model.tiny import TinyJob
from training.processes import Ranks

log = logging.getLogger("catalogue")

_COMPILED = ".tmp-compiled"
_GREEN, _PLAIN = "\033[32m", "\033[0m"


@dataclass(frozen=True)
class Job:
    """A run with all that is ready before its first step."""

    config: TrainConfig
    out: Path
    """Folder of the run."""
    ranks: Ranks
    base: Base
    backend: Backend
    tokenizer: Any
    precision: Precision
    train: Tokenised
    validation: Tokenised | None
    """None: no evaluation."""
    completion_tokens: tuple[int, int]
    """Of a description: the mean, and what 98 % keep within."""
    near: NearRows | None = None
    """What prompts show of other rows; None: nothing."""
    chat: Chat | None = None
    """What the base's chat template sets around prompts; None: nothing."""

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.out / "checkpoints"

    @property
    def metrics(self) -> Path:
        """File of the metrics."""
        return self.out / "metrics.jsonl"


def open_subset(path: str, attributes: Sequence[str] = ()) -> Subset:
    """Open a finished subset to train on, whose rows have the attributes that prompts show.

    Raises:
        ManifestError: it is none, or was changed, or its rows lack an attribute.
        SubsetError: it has no train rows.
    """
    subset = Subset.open(path)
    if not subset.count("train"):
        raise SubsetError(path, "train rows", "none")
    subset.record.check_attributes(path, attributes)
    return subset


def identify(config: TrainConfig, subset: Subset, base: Base | None = None) -> dict[str, Any]:
    """Collect what decides the adapter; local models count by their bytes, not their paths.

    Args:
        config: of the run.
        subset: that it trains on.
        base: where it was located before, as its digest takes a while.
    """
    inputs: dict[str, Any] = {"subset": subset.record.digest}
    if config.tiny:
        inputs["base"] = BASE
    elif Path(config.base).expanduser().is_dir():
        inputs["base"] = (base or locate(config.base)).digest
    if config.init_adapter:
        inputs["init_adapter"] = digest_adapter(Path(config.init_adapter))
    return manifest.identify(config, **inputs)


def prepare(
    config: TrainConfig, subset: Subset, out: Path, ranks: Ranks, rows: Subset | None = None
) -> Job:
    """Import the backend, find the base or build it in ``out``, and tokenise.

    Of several processes the first builds and tokenises.

    Args:
        config: of the run.
        subset: that it trains on.
        out: folder of the run.
        ranks: processes of the run.
        rows: what to train on where that is another subset than a tiny base is built from.

    Raises:
        ModelError: the base, its tokenizer or the adapter to go on from is missing or unfit.
        BatchError: rows must not be trained on.
    """
    compiled = out / (_COMPILED if ranks.is_first else f"{_COMPILED}-{ranks.rank}")
    if config.tiny:
        base, backend = _build_tiny(_tiny_job(config, subset, out), config, compiled, ranks)
    else:
        base = ranks.in_turn(lambda: locate(config.base))
        with console.Waiting("loading the libraries"):
            backend = choose_backend(config.backend, compiled)
    if config.init_adapter:
        check_init_adapter(Path(config.init_adapter), base, config.lora)
    tokenizer = check(config, base, backend)
    hardware.limit_memory(config)
    return Job(
        config, out, ranks, base, backend, tokenizer, hardware.precision(config),
        **_examples(config, rows or subset, tokenizer, ranks),
    )  # fmt: skip


def on_rows(job: Job, config: TrainConfig, subset: Subset, out: Path) -> Job:
    """Return the job of another run on the same base, validation rows and devices.

    Args:
        job: that is ready.
        config: of the other run.
        subset: whose train rows it takes.
        out: its folder.

    Raises:
        BatchError: rows must not be trained on.
    """
    # The prompts of validation rows show train rows.
    return replace(
        job, config=config, out=out, **_examples(config, subset, job.tokenizer, job.ranks)
    )


def _examples(config: TrainConfig, subset: Subset, tokenizer: Any, ranks: Ranks) -> dict[str, Any]:
    """Tokenise the rows of a job, and find what their prompts show: its fields by name."""
    encoder, share = _encoder(config, tokenizer), config.max_truncated_share
    near = ranks.in_turn(lambda: cache.prepare_near(subset, encoder, config.tokenized))

    def tokenise(name: str) -> Tokenised:
        split = Split(name, subset.dataset(name), subset.digest(name))
        return ranks.in_turn(lambda: cache.prepare(split, encoder, config.tokenized, share, near))

    validation = None
    if config.checkpoints.eval_steps is not None:
        if subset.count("validation"):
            validation = tokenise("validation")
        else:
            log.warning("no evaluation: %s has no validation rows", config.subset)
    train = tokenise("train")
    neighbours.open_rows.cache_clear()  # the index is large, and all are found
    contents = subset.rows("train", ["content"]).column("content")
    lengths = encoder.completion_tokens(contents)
    return {
        "train": train, "validation": validation, "near": near, "chat": encoder.chat,
        "completion_tokens": lengths,
    }  # fmt: skip


def _encoder(config: TrainConfig, tokenizer: Any) -> Encoder:
    form = TokenisationConfig(config.prompt, config.loss_on, config.max_length)
    return Encoder(tokenizer, form)


def _tiny_job(config: TrainConfig, subset: Subset, out: Path, **changes: Any) -> TinyJob:
    assert config.tiny is not None  # noqa: S101  # for the type checker
    shape = replace(config.tiny, **changes)
    folder = str(out / BASE)
    return TinyJob(str(subset.path), folder, shape, config.max_length, config.seed, config.prompt)


def _build_tiny(
    plan: TinyJob, config: TrainConfig, compiled: Path, ranks: Ranks
) -> tuple[Base, Backend]:
    """Build the base in a process of its own while this one imports the backend."""
    if not ranks.is_first:
        backend = choose_backend(config.backend, compiled)
        ranks.wait()
        return locate(plan.folder), backend
    try:
        with processes.start(tiny.build, plan) as building:
            backend = choose_backend(config.backend, compiled)
            if not building.done():
                log.info("pre-training the tiny base: %s steps", f"{plan.tiny.steps:,}")
            base = locate(building.result())
    except BrokenProcessPool as error:
        hint = "free some memory, or build a smaller one (--tiny.hidden, --tiny.batch_size)"
        raise ModelError("tiny base", "", "the process that built it was killed", hint) from error
    ranks.wait()
    return base, backend


def preview(config: TrainConfig) -> None:
    """Print the first rows as the model would see them, what it learns marked; writes nothing.

    Raises:
        BatchError: these rows must not be trained on.
    """
    subset = open_subset(config.subset, config.prompt.attributes)
    with tempfile.TemporaryDirectory() as folder:
        if config.tiny:
            base = Path(tiny.build(_tiny_job(config, subset, Path(folder), steps=0)))
        else:
            base = locate(config.base).folder
        tokenizer = load_tokenizer(base)
        encoder = _encoder(config, tokenizer)
        near = cache.prepare_near(subset, encoder, folder)
        find = near.find if near else lambda _title: ()
    rows = subset.dataset("train").select_columns(encoder.columns)[: config.preview]
    is_colour = console.has_colours(sys.stdout)
    marks = (_GREEN, _PLAIN) if is_colour else ("[[", "]]")
    where = "in green" if is_colour else "between [[ and ]]"
    console.say(f"learned: {where}; special tokens as their names\n")
    for place, uid in enumerate(rows["uid"]):
        table, _ = encoder.encode_rows({name: [rows[name][place]] for name in rows}, find)
        if not table.num_rows:
            console.say(f"--- {uid}: left out, its prompt fills max_length={config.max_length}\n")
            continue
        (row,) = table.to_pylist()
        learned = sum(label != IGNORED for label in row["labels"])
        console.say(f"--- {uid}: {row['length']} tokens, {learned} learned")
        console.say(_mark(tokenizer, row, marks) + "\n", is_safe=True)


def _mark(tokenizer: Any, row: dict[str, Any], marks: tuple[str, str]) -> str:
    """Decode runs of learned and of unlearned tokens apart from each other."""
    text = ""
    tokens = zip(row["input_ids"], row["labels"], strict=True)
    for is_learned, run in groupby(tokens, lambda pair: pair[1] != IGNORED):
        piece = console.printable(tokenizer.decode([token for token, _ in run]))
        text += f"{marks[0]}{piece}{marks[1]}" if is_learned else piece
    return text
