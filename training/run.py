"""The driver of ``run``: a memory-mapped subset in, a LoRA adapter with its record out.

Splits the work among the modules and keeps the folder in order; computes nothing itself.
"""

import logging
import multiprocessing
import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import cli, manifest, models, shards
from data.errors import CatalogueError, ModelError, SubsetError
from data.manifest import Counts, Manifest, Parent
from data.models import Base
from data.shards import Artefact, Folder, digest_all, digest_file
from training import examples, metrics, model, tiny
from training.config import TrainConfig, parse_memory
from training.examples import Encoder, Form, Split, Tokenised
from training.model import Backend, Loaded, Precision

if TYPE_CHECKING:
    from training.loop import Outcome

log = logging.getLogger("catalogue")

STAGE = "train"
_BASE = "base"
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


def run(config: TrainConfig) -> Manifest:
    """Train an adapter, or go on with it.

    Raises:
        ManifestError: the subset is missing or unfinished.
        ModelError: the base, its tokenizer or the adapter to go on from is missing or unfit.
        BatchError: rows or losses must not be trained on.
        OutputError: the folder holds another output.
    """
    began = time.perf_counter()
    # Read when torch loads. By default OpenMP's threads spin while they wait: two processes on
    # two cores then get 4 steps/s of a tiny model each, with a short spin 20 (alone: 44 and 36).
    os.environ.setdefault("GOMP_SPINCOUNT", "500")
    subset = open_subset(config.subset)
    out = shards.local_path(config.out, "--out")
    folder = Folder(str(out))
    identity = _identify(config, subset)
    done = manifest.begin(folder, STAGE, identity, config.overwrite)
    if done:
        cli.say(f"{config.out} is already finished for this subset and config")
        return done
    try:
        prepared = _prepare(config, subset, out)
        loaded, outcome = _train(config, prepared, out)
    except CatalogueError:
        # Nothing to go on from: leave no folder that refuses the corrected command.
        if not any((out / "checkpoints").glob("checkpoint-*")):
            manifest.abandon(folder)
        raise
    result = _finish(config, prepared, loaded, outcome)
    record = Manifest(
        stage=STAGE,
        config=manifest.config_dict(config),
        identity=identity,
        inputs=subset.record.outputs,
        outputs=_artefacts(out),
        counts=Counts(prepared.train.seen.rows, prepared.train.seen.rows),
        made_from=(subset.parent,),
        facts=result,
        versions=manifest.versions(),
        seconds=round(time.perf_counter() - began, 3),
    )
    record.write(folder)
    _tell(config, record)
    return record


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


def _identify(config: TrainConfig, subset: Subset) -> dict[str, Any]:
    """Collect what decides the adapter; local models count by their bytes, not their paths."""
    inputs: dict[str, Any] = {"subset": subset.record.digest}
    if config.tiny:
        inputs["base"] = _BASE
    elif Path(config.base).expanduser().is_dir():
        inputs["base"] = models.locate(config.base).digest
    if config.init_adapter:
        inputs["init_adapter"] = model.adapter_digest(Path(config.init_adapter))
    return manifest.identify(config, **inputs)


def _prepare(config: TrainConfig, subset: Subset, out: Path) -> Prepared:
    """Import the backend, find or build the base, and tokenise."""
    if config.tiny:
        base, backend = _build_tiny(config, subset, out)
    else:
        base = models.locate(config.base)
        backend = model.prepare(config.backend, out / _COMPILED)
    if config.init_adapter:
        model.check_adapter(Path(config.init_adapter), base, config.lora)
    _limit_memory(config)
    form = Form(config.prompt, config.loss_on, config.max_length)
    encoder = Encoder(model.load_tokenizer(base.folder), form)

    def tokenise(name: str) -> Tokenised:
        share = config.max_truncated_share
        return examples.prepare(subset.split(name), encoder, config.tokenized, share)

    evaluates = config.checkpoints.eval_steps is not None
    if evaluates and not subset.has("validation"):
        log.warning("no evaluation: %s has no validation rows", config.subset)
    validation = tokenise("validation") if evaluates and subset.has("validation") else None
    return Prepared(base, backend, encoder, tokenise("train"), validation)


def _build_tiny(config: TrainConfig, subset: Subset, out: Path) -> tuple[Base, Backend]:
    """Build the base in a process of its own while this one imports the backend."""
    assert config.tiny is not None  # noqa: S101  # for the type checker
    plan = tiny.Plan(
        str(subset.path), str(out / _BASE), config.tiny, config.max_length, config.seed
    )
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            building = pool.submit(tiny.build, plan)
            backend = model.prepare(config.backend, out / _COMPILED)
            if not building.done():
                log.info("pre-training the tiny base: %s steps", f"{config.tiny.steps:,}")
            return models.locate(building.result()), backend
        except BaseException:
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _limit_memory(config: TrainConfig) -> None:
    import torch

    if config.memory_limit is None:
        return
    if not torch.cuda.is_available():
        log.warning("--memory_limit has no effect: there is no GPU here")
        return
    limit, total = parse_memory(config.memory_limit), torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))


def _precision(config: TrainConfig) -> Precision:
    import torch

    asked = config.optimisation.precision
    if asked != "auto":
        return asked
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32"


def _train(config: TrainConfig, prepared: Prepared, out: Path) -> tuple[Loaded, "Outcome"]:
    # Only now: it imports trl, which Unsloth must come before.
    from training import loop

    asked = config.optimisation.optimizer
    if loop.optimizer(config) != asked:
        log.warning("optimizer: adamw_torch, as %s needs a GPU", asked)
    precision = _precision(config)
    loaded = model.load(config, prepared.base, prepared.backend, precision)
    validation = prepared.validation.rows if prepared.validation else None
    job = loop.Job(
        config, loaded, prepared.train.rows, validation, precision,
        out / "checkpoints", out / "metrics.jsonl",
    )  # fmt: skip
    import torch

    try:
        return loaded, loop.train(job)
    except torch.OutOfMemoryError as error:
        rows = config.optimisation.micro_batch
        expected = f"room for {rows} rows of up to {prepared.train.seen.longest} tokens"
        mend = (
            "lower --optimisation.micro_batch_size or set --optimisation.gradient_checkpointing; "
            "the same command goes on from the newest checkpoint"
        )
        raise ModelError("GPU memory", expected, "too little", mend) from error


def _finish(
    config: TrainConfig, prepared: Prepared, loaded: Loaded, outcome: "Outcome"
) -> dict[str, Any]:
    """Write the adapter and the picture; give the facts for the manifest."""
    out = shards.local_path(config.out, "--out")
    base, is_ours = prepared.base, config.tiny is not None
    is_local = Path(config.base).expanduser().is_dir()
    told = str(base.folder.resolve()) if is_local else base.name
    # Beside the adapter in the run's folder, wherever that is moved.
    name = f"../{_BASE}" if is_ours else told
    model.save_adapter(outcome.model, loaded.tokenizer, out / "adapter", name)
    lines = metrics.read(out / "metrics.jsonl")
    metrics.draw(lines, out / "loss.png", _title(config, prepared))
    best = metrics.best_validation(lines)
    seen = prepared.train.seen
    prompt = config.prompt
    return {
        "base": _BASE if is_ours else told,
        "base_digest": base.digest,
        "prompt": {"template": prompt.template, "instruction": prompt.instruction},
        "max_length": config.max_length,
        "loss_on": config.loss_on,
        "backend": loaded.backend.name,
        "backend_why": loaded.backend.why,
        "trainable_parameters": loaded.trainable,
        "steps": outcome.steps,
        "epochs": round(outcome.epochs, 4),
        "tokens": lines[-1].get("tokens") or _last(lines, "tokens"),
        "final_loss": metrics.final_loss(lines),
        "best_validation_loss": best[1] if best else None,
        "best_step": best[0] if best else None,
        "samples_per_second": outcome.samples_per_second,
        "resumed_from_step": outcome.resumed_from,
        **_machine(),
        "tokenized": os.path.basename(prepared.train.folder),
        "longest_tokens": seen.longest,
        "longest_completion_tokens": seen.longest_completion,
        "truncated": seen.truncated,
        "truncated_uids": list(seen.truncated_uids),
    }


def _last(lines: list[metrics.Line], name: str) -> Any:
    return next((line[name] for line in reversed(lines) if name in line), None)


def _title(config: TrainConfig, prepared: Prepared) -> str:
    name = "tiny base" if config.tiny else os.path.basename(prepared.base.name.rstrip("/"))
    return f"{name}, LoRA r={config.lora.r}, {prepared.train.seen.rows:,} rows"


def _machine() -> dict[str, Any]:
    """Name the device and its peak memory: what CUDA reserved, or the process's resident set."""
    import torch

    if torch.cuda.is_available():
        return {
            "device": torch.cuda.get_device_name(),
            "peak_memory_gib": round(torch.cuda.max_memory_reserved() / 2**30, 3),
            "peak_allocated_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3),
        }
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    device = f"cpu, {torch.get_num_threads()} threads"
    return {"device": device, "peak_memory_gib": round(peak / 2**30, 3)}


def _artefacts(out: Path) -> tuple[Artefact, ...]:
    """Describe what a later stage reads: the adapter, the tiny base, the metrics."""
    files = [out / "metrics.jsonl", out / "loss.png"]
    for name in ("adapter", _BASE):
        files += sorted(path for path in (out / name).glob("*") if path.is_file())
    return tuple(
        Artefact(str(file.relative_to(out)), 0, file.stat().st_size, digest_file(file))
        for file in files
    )


def _tell(config: TrainConfig, record: Manifest) -> None:
    facts = record.facts
    best = facts["best_validation_loss"]
    validation = f", best validation loss {best:.4f}" if best is not None else ""
    cli.say(
        f"{config.out} finished in {record.seconds:.1f} s: {facts['steps']:,} steps, "
        f"loss {facts['final_loss']:.4f}{validation}, "
        f"{facts['samples_per_second']:,.1f} samples/s, "
        f"peak {facts['peak_memory_gib']:.2f} GiB on {facts['device']}"
    )
