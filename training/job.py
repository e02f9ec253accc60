"""What a run starts from: the subset, the base, the backend, the tokenised rows."""

import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.artefacts import manifest
from data.artefacts.dataset import Subset
from data.artefacts.run import BASE, Base, locate
from data.errors import ModelError, SubsetError
from training import children
from training.config import TrainConfig
from training.distributed import Ranks
from training.examples import cache
from training.examples.cache import Split, Tokenised
from training.examples.encoder import Encoder, TokenisationConfig
from training.hardware import limit_memory
from training.model import tiny
from training.model.adapter import check_init_adapter, digest_adapter
from training.model.backend import Backend, check, choose_backend

log = logging.getLogger("catalogue")

_COMPILED = ".tmp-compiled"


@dataclass(frozen=True)
class Prepared:
    """What is ready before the first step."""

    base: Base
    backend: Backend
    encoder: Encoder
    train: Tokenised
    validation: Tokenised | None


def open_subset(path: str) -> Subset:
    """Open a finished subset to train on.

    Raises:
        ManifestError: it is none, or was changed.
        SubsetError: it has no train rows.
    """
    subset = Subset.open(path)
    if not subset.count("train"):
        raise SubsetError(path, "train rows", "none")
    return subset


def identify(config: TrainConfig, subset: Subset) -> dict[str, Any]:
    """Collect what decides the adapter; local models count by their bytes, not their paths."""
    inputs: dict[str, Any] = {"subset": subset.record.digest}
    if config.tiny:
        inputs["base"] = BASE
    elif Path(config.base).expanduser().is_dir():
        inputs["base"] = locate(config.base).digest
    if config.init_adapter:
        inputs["init_adapter"] = digest_adapter(Path(config.init_adapter))
    return manifest.identify(config, **inputs)


def prepare(config: TrainConfig, subset: Subset, out: Path, ranks: Ranks) -> Prepared:
    """Import the backend, find or build the base, and tokenise.

    Args:
        config: of the run.
        subset: to train on.
        out: folder of the run; a tiny base is built in it.
        ranks: of these processes, the first builds and tokenises.

    Raises:
        ModelError: the base, its tokenizer or the adapter to go on from is missing or unfit.
        BatchError: rows must not be trained on.
    """
    compiled = out / (_COMPILED if ranks.is_first else f"{_COMPILED}-{ranks.rank}")
    if config.tiny:
        base, backend = _with_tiny(config, subset, out, compiled, ranks)
    else:
        base = ranks.in_turn(lambda: locate(config.base))
        backend = choose_backend(config.backend, compiled)
    if config.init_adapter:
        check_init_adapter(Path(config.init_adapter), base, config.lora)
    tokenizer = check(config, base, backend)
    limit_memory(config)
    form = TokenisationConfig(config.prompt, config.loss_on, config.max_length)
    encoder = Encoder(tokenizer, form)

    def tokenise(name: str) -> Tokenised:
        share = config.max_truncated_share
        split = Split(name, subset.dataset(name), subset.digest(name))
        return ranks.in_turn(lambda: cache.prepare(split, encoder, config.tokenized, share))

    evaluates = config.checkpoints.eval_steps is not None
    if evaluates and not subset.count("validation"):
        log.warning("no evaluation: %s has no validation rows", config.subset)
    validation = tokenise("validation") if evaluates and subset.count("validation") else None
    return Prepared(base, backend, encoder, tokenise("train"), validation)


def _with_tiny(
    config: TrainConfig, subset: Subset, out: Path, compiled: Path, ranks: Ranks
) -> tuple[Base, Backend]:
    """Build the base in a process of its own while this one imports the backend."""
    if not ranks.is_first:
        backend = choose_backend(config.backend, compiled)
        ranks.wait()
        return locate(str(out / BASE)), backend
    assert config.tiny is not None  # noqa: S101  # for the type checker
    plan = tiny.TinyJob(
        str(subset.path), str(out / BASE), config.tiny, config.max_length, config.seed
    )
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=children.end_with_parent) as pool:
        try:
            with children.sheltered():
                building = pool.submit(tiny.build, plan)
            backend = choose_backend(config.backend, compiled)
            if not building.done():
                log.info("pre-training the tiny base: %s steps", f"{config.tiny.steps:,}")
            base = locate(building.result())
        except BrokenProcessPool as error:
            expected, found = "the process that builds it to end by itself", "it killed"
            mend = "free some memory, or build a smaller one (--tiny.hidden, --tiny.batch_size)"
            raise ModelError("tiny base", expected, found, mend) from error
        except BaseException:
            for child in multiprocessing.active_children():
                child.kill()
            raise
    ranks.wait()
    return base, backend
