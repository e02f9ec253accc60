"""What a run starts from: the subset, the base, the backend, the tokenised rows."""

import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import manifest, models, shards
from data.cli import parse_memory
from data.errors import ModelError, SubsetError
from data.manifest import Manifest, Parent
from data.models import Base
from data.shards import Folder, digest_all
from training import adapters, children, examples, model, tiny
from training.config import TrainConfig
from training.encoder import Encoder, Form
from training.examples import Split, Tokenised
from training.model import Backend, Precision
from training.ranks import Ranks

log = logging.getLogger("catalogue")

BASE = "base"
_COMPILED = ".tmp-compiled"


@dataclass(frozen=True)
class Subset:
    """A subset on disk."""

    path: Path
    record: Manifest
    parent: Parent

    def has(self, split: str) -> bool:
        """Tell whether the subset holds rows of this split."""
        return any(output.path.startswith(f"{split}/") for output in self.record.outputs)

    def split(self, name: str) -> Split:
        """Open the rows of a split, memory-mapped."""
        import datasets

        digests = [o.digest for o in self.record.outputs if o.path.startswith(f"{name}/")]
        rows = datasets.load_from_disk(str(self.path))[name]
        return Split(name, rows, digest_all(digests))


@dataclass(frozen=True)
class Prepared:
    """What is ready before the first step."""

    base: Base
    backend: Backend
    encoder: Encoder
    train: Tokenised
    validation: Tokenised | None


def open_subset(path: str) -> Subset:
    """Open a finished subset.

    Raises:
        ManifestError: it is none.
        SubsetError: it has no train rows.
    """
    record = manifest.read(Folder(path), "subset")
    parent = record.as_parent(manifest.absolute(path))
    subset = Subset(shards.local_path(path, "--subset"), record, parent)
    if not subset.has("train"):
        raise SubsetError(path, "train rows", "none")
    return subset


def identify(config: TrainConfig, subset: Subset) -> dict[str, Any]:
    """Collect what decides the adapter; local models count by their bytes, not their paths."""
    inputs: dict[str, Any] = {"subset": subset.record.digest}
    if config.tiny:
        inputs["base"] = BASE
    elif Path(config.base).expanduser().is_dir():
        inputs["base"] = models.locate(config.base).digest
    if config.init_adapter:
        inputs["init_adapter"] = adapters.digest(Path(config.init_adapter))
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
        base = ranks.in_turn(lambda: models.locate(config.base))
        backend = model.prepare(config.backend, compiled)
    if config.init_adapter:
        adapters.check(Path(config.init_adapter), base, config.lora)
    tokenizer = model.check(config, base, backend)
    limit_memory(config)
    form = Form(config.prompt, config.loss_on, config.max_length)
    encoder = Encoder(tokenizer, form)

    def tokenise(name: str) -> Tokenised:
        share = config.max_truncated_share
        split = subset.split(name)
        return ranks.in_turn(lambda: examples.prepare(split, encoder, config.tokenized, share))

    evaluates = config.checkpoints.eval_steps is not None
    if evaluates and not subset.has("validation"):
        log.warning("no evaluation: %s has no validation rows", config.subset)
    validation = tokenise("validation") if evaluates and subset.has("validation") else None
    return Prepared(base, backend, encoder, tokenise("train"), validation)


def _with_tiny(
    config: TrainConfig, subset: Subset, out: Path, compiled: Path, ranks: Ranks
) -> tuple[Base, Backend]:
    """Build the base in a process of its own while this one imports the backend."""
    if not ranks.is_first:
        backend = model.prepare(config.backend, compiled)
        ranks.wait()
        return models.locate(str(out / BASE)), backend
    assert config.tiny is not None  # noqa: S101  # for the type checker
    plan = tiny.Plan(str(subset.path), str(out / BASE), config.tiny, config.max_length, config.seed)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=children.end_with_parent) as pool:
        try:
            with children.sheltered():
                building = pool.submit(tiny.build, plan)
            backend = model.prepare(config.backend, compiled)
            if not building.done():
                log.info("pre-training the tiny base: %s steps", f"{config.tiny.steps:,}")
            base = models.locate(building.result())
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


def limit_memory(config: TrainConfig) -> None:
    """Keep this process below ``--memory_limit`` on the GPU."""
    import torch

    if config.memory_limit is None:
        return
    if not torch.cuda.is_available():
        log.warning("--memory_limit has no effect: there is no GPU here")
        return
    limit, total = parse_memory(config.memory_limit), torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))


def precision(config: TrainConfig) -> Precision:
    """Choose the precision of weights and arithmetic."""
    import torch

    asked = config.optimisation.precision
    if asked != "auto":
        return asked
    if not torch.cuda.is_available():
        return "float32"
    # With emulation, torch says yes of every card.
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    name = torch.cuda.get_device_name()
    log.warning("precision: float32, as %s has no bf16 of its own", name)
    return "float32"
