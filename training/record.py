"""What a run leaves beside its checkpoints: the adapter, the picture, the facts of its manifest."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import cli, manifest, shards
from data.errors import ManifestError
from data.manifest import Manifest
from data.shards import Artefact, Folder, digest_file
from training import adapters, metrics, picture
from training.config import TrainConfig
from training.inputs import BASE, Prepared
from training.model import Loaded

if TYPE_CHECKING:
    from training.loop import Outcome
    from training.plan import Choice

# A chain that comes round to itself, as moved folders can make one, has an end as well.
_MOST_CYCLES = 20


def finish(
    config: TrainConfig, prepared: Prepared, loaded: Loaded, outcome: "Outcome",
    choice: "Choice | None", processes: int,
) -> dict[str, Any]:  # fmt: skip
    """Write the adapter and the picture; give the facts for the manifest."""
    out = shards.local_path(config.out, "--out")
    base, is_ours = prepared.base, config.tiny is not None
    is_local = Path(config.base).expanduser().is_dir()
    told = str(base.folder.resolve()) if is_local else base.name
    # Beside the adapter in the run's folder, wherever that is moved.
    name = f"../{BASE}" if is_ours else told
    adapters.save(outcome.model, loaded.tokenizer, out / "adapter", name)
    lines = metrics.read(out / "metrics.jsonl")
    compared = choice.compare(lines) if choice else None
    earlier = _cycles_before(config)
    picture.draw(lines, out / "loss.png", _title(config, prepared), compared, earlier)
    prompt = config.prompt
    return {
        "base": BASE if is_ours else told,
        "base_digest": base.digest,
        "prompt": {"template": prompt.template, "instruction": prompt.instruction},
        "max_length": config.max_length,
        "loss_on": config.loss_on,
        "backend": loaded.backend.name,
        "backend_why": loaded.backend.why,
        "trainable_parameters": loaded.trainable,
        **_learned(config, lines, outcome),
        "processes": processes,
        **machine(),
        **({"plan": compared} if compared else {}),
        **_rows(prepared),
    }


def _learned(config: TrainConfig, lines: list[metrics.Line], outcome: "Outcome") -> dict[str, Any]:
    best = metrics.best_validation(lines)
    if config.checkpoints.keep_best and outcome.kept_loss is not None:
        # The best one that could be had: a disk may have damaged a better one.
        best = (outcome.kept_step, outcome.kept_loss)
    return {
        "steps": outcome.steps,
        "epochs": round(outcome.epochs, 4),
        "tokens": lines[-1].get("tokens") or metrics.last(lines, "tokens"),
        "final_loss": metrics.final_loss(lines),
        "best_validation_loss": best[1] if best else None,
        "best_step": best[0] if best else None,
        "adapter_step": outcome.kept_step,
        "adapter_validation_loss": outcome.kept_loss,
        "samples_per_second": outcome.samples_per_second,
        "resumed_from_step": outcome.resumed_from,
    }


def _cycles_before(config: TrainConfig) -> list[list[metrics.Line]]:
    """Read the figures of the runs that this one goes on from, where they are still there."""
    cycles: list[list[metrics.Line]] = []
    adapter = config.init_adapter
    while adapter and len(cycles) < _MOST_CYCLES:
        run = Path(adapter).resolve().parent
        cycles.insert(0, metrics.read(run / "metrics.jsonl"))
        try:
            adapter = manifest.read(Folder(str(run)), "train").config.get("init_adapter")
        except ManifestError:
            break
    return cycles


def _rows(prepared: Prepared) -> dict[str, Any]:
    seen = prepared.train.seen
    return {
        "tokenized": os.path.basename(prepared.train.folder),
        "longest_tokens": seen.longest,
        "longest_completion_tokens": seen.longest_completion,
        "truncated": seen.truncated,
        "truncated_uids": list(seen.truncated_uids),
        "left_out_uids": list(seen.left_out_uids),
    }


def _title(config: TrainConfig, prepared: Prepared) -> str:
    name = "tiny base" if config.tiny else os.path.basename(prepared.base.name.rstrip("/"))
    return f"{name}, LoRA r={config.lora.r}, {prepared.train.seen.rows:,} rows"


def machine() -> dict[str, Any]:
    """Name the device and its peak memory: what CUDA reserved, or the process's resident set."""
    import torch

    if torch.cuda.is_available():
        return {
            "device": torch.cuda.get_device_name(),
            "peak_memory_gib": round(torch.cuda.max_memory_reserved() / 2**30, 3),
            "peak_allocated_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3),
        }
    device = f"cpu, {torch.get_num_threads()} threads"
    return {"device": device, "peak_memory_gib": round(_peak_resident() / 2**30, 3)}


def _peak_resident() -> int:
    """Give this process's largest resident set so far, in bytes."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def artefacts(out: Path) -> tuple[Artefact, ...]:
    """Describe what a later stage reads: the adapter, the tiny base, the metrics."""
    files = [out / "metrics.jsonl", out / "loss.png"]
    for name in ("adapter", BASE):
        files += sorted(path for path in (out / name).glob("*") if path.is_file())
    return tuple(
        Artefact(str(file.relative_to(out)), 0, file.stat().st_size, digest_file(file))
        for file in files
    )


def tell(config: TrainConfig, record: Manifest) -> None:
    """Print the line that a run ends with, and how the plan fared."""
    facts = record.facts
    best = facts["best_validation_loss"]
    validation = f", best validation loss {best:.4f}" if best is not None else ""
    cli.say(
        f"{config.out} finished in {record.seconds:.1f} s: {facts['steps']:,} steps, "
        f"loss {facts['final_loss']:.4f}{validation}, "
        f"{facts['samples_per_second']:,.1f} samples/s, "
        f"peak {facts['peak_memory_gib']:.2f} GiB on {facts['device']}"
    )
    if plan := facts.get("plan"):
        cli.say(
            f"plan: {plan['predicted_seconds']:,.1f} s predicted, {plan['actual_seconds']:,.1f} s "
            f"taken ({plan['actual_seconds'] / plan['predicted_seconds'] - 1:+.1%})"
        )
