"""Load a base model with a LoRA adapter on it, through Unsloth or through transformers + PEFT.

The only file that imports Unsloth. Unsloth changes transformers, trl and peft as it is imported,
so ``prepare`` comes before any import of those. Knows nothing of rows or training.
"""

import contextlib
import importlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data import manifest
from data.errors import ManifestError, ModelError
from data.models import Base
from data.shards import Folder, digest_file
from training import guards
from training.config import LoraSettings, TrainConfig

log = logging.getLogger("catalogue")

Precision = Literal["bf16", "float32"]
_WEIGHTS = "adapter_model.safetensors"
_SETTINGS = "adapter_config.json"


@dataclass(frozen=True)
class Backend:
    """What trains, and why it was taken."""

    name: Literal["unsloth", "transformers"]
    why: str


@dataclass(frozen=True)
class Loaded:
    """A model with an adapter to train, and its tokenizer."""

    model: Any
    tokenizer: Any
    backend: Backend
    trainable: int
    """Parameters of the adapter."""


def prepare(asked: Literal["auto", "unsloth", "transformers"], compiled: Path) -> Backend:
    """Choose the backend and import it; says in one line what was taken and why.

    Args:
        asked: ``auto`` takes unsloth where it imports.
        compiled: folder for what Unsloth compiles; else it writes into the working folder.

    Raises:
        ModelError: unsloth was asked for by name and does not import.
    """
    if asked == "transformers":
        backend = Backend("transformers", "asked for")
    else:
        backend = _try_unsloth(asked, compiled)
    log.info("backend: %s (%s)", backend.name, backend.why)
    hush()
    return backend


def _try_unsloth(asked: str, compiled: Path) -> Backend:
    os.environ["UNSLOTH_COMPILE_LOCATION"] = str(compiled)
    # It tells its makers of every start unless told not to.
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    os.environ.setdefault("UNSLOTH_DISABLE_AUTO_UPDATES", "1")
    try:
        with quietly():
            importlib.import_module("unsloth")
    # It raises whatever it likes: ImportError, NotImplementedError, RuntimeError of a driver.
    except Exception as error:
        reason = f"{type(error).__name__}: {_first_line(error)}"
        if asked == "unsloth":
            mend = "install it (README), or use --backend transformers"
            raise ModelError("unsloth", "a package that imports", reason, mend) from error
        return Backend("transformers", f"unsloth does not import: {reason}")
    return Backend("unsloth", "asked for" if asked == "unsloth" else "it imports here")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep libraries' banners off standard output, which is for results, and their warnings too.

    What they warn of is each other's use; faults of rows and losses are our guards' to find.
    """
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def hush() -> None:
    """Turn off the libraries' own progress bars and notes; ``cli.Progress`` shows what is slow."""
    import datasets
    from transformers.utils import logging as transformers_logging

    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def load_tokenizer(folder: Path) -> Any:
    """Load the base's own tokenizer, the same under every backend.

    Raises:
        ModelError: there is none that transformers can read.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(str(folder), "a tokenizer", _first_line(error)) from error
    if tokenizer.pad_token_id is None:
        # Padding is masked and unlearned by our collator, so its id decides nothing.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def load(config: TrainConfig, base: Base, backend: Backend, precision: Precision) -> Loaded:
    """Load a base with a fresh adapter on it, or with the one to go on from.

    The adapter's first weights depend on the seed alone, not on the backend.

    Raises:
        ModelError: files are missing or do not fit each other.
    """
    import torch

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    tokenizer = load_tokenizer(base.folder)
    make = _with_unsloth if backend.name == "unsloth" else _with_peft
    try:
        model = make(config, base, dtype)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if "out of memory" in str(error).lower():
            raise
        raise ModelError(base.name, "a causal language model", _first_line(error)) from error
    embeddings = model.get_input_embeddings().num_embeddings
    guards.check_vocabulary(len(tokenizer), embeddings, base.name)
    if config.init_adapter:
        take_weights(model, Path(config.init_adapter))
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    guards.check_trainable(trainable, base.name)
    return Loaded(model, tokenizer, backend, trainable)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _with_unsloth(config: TrainConfig, base: Base, dtype: Any) -> Any:
    from unsloth import FastLanguageModel

    lora = config.lora
    checkpointing = config.optimisation.gradient_checkpointing
    recompute = {"none": False, "unsloth": "unsloth", "every": True}[checkpointing]
    with quietly():
        model, _ = FastLanguageModel.from_pretrained(
            model_name=str(base.folder),
            max_seq_length=config.max_length,
            dtype=dtype,
            load_in_4bit=False,
            trust_remote_code=False,
            use_gradient_checkpointing=recompute,
            use_exact_model_name=True,
            random_state=config.seed,
        )
        return FastLanguageModel.get_peft_model(
            model,
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            use_rslora=lora.use_rslora,
            target_modules=list(lora.target_modules),
            bias="none",
            use_gradient_checkpointing=recompute,
            random_state=config.seed,
        )


def _with_peft(config: TrainConfig, base: Base, dtype: Any) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, set_seed

    lora = config.lora
    with quietly():
        model = AutoModelForCausalLM.from_pretrained(
            str(base.folder), dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
        # Unsloth seeds right before it draws the weights; so must we, to draw the same ones.
        set_seed(config.seed)
        return get_peft_model(
            model,
            LoraConfig(
                r=lora.r,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                use_rslora=lora.use_rslora,
                target_modules=list(lora.target_modules),
                bias="none",
                task_type="CAUSAL_LM",
            ),
        )


def check_adapter(path: Path, base: Base, lora: LoraSettings) -> None:
    """Check that an adapter was made for this base with these LoRA settings.

    Args:
        path: the adapter's folder; a run's own adapter has its manifest beside it, which tells
            the base by digest, others tell it by name only.
        base: to put it on.
        lora: asked for.

    Raises:
        ModelError: it is no adapter in safetensors, or one of another base or other settings.
    """
    if not (path / _SETTINGS).is_file() or not (path / _WEIGHTS).is_file():
        raise ModelError(str(path), f"an adapter: {_SETTINGS} and {_WEIGHTS}", "none")
    made = json.loads((path / _SETTINGS).read_text())
    told, asked = _base_told(path, made), {base.digest, base.name, str(base.folder)}
    if told not in asked:
        raise ModelError(str(path), f"an adapter of {base.name}", f"one of {told}")
    settings = {
        "r": (lora.r, made.get("r")),
        "alpha": (lora.alpha, made.get("lora_alpha")),
        "use_rslora": (lora.use_rslora, made.get("use_rslora", False)),
        "target_modules": (sorted(lora.target_modules), sorted(made.get("target_modules") or [])),
    }
    for name, (wanted, found) in settings.items():
        if wanted != found:
            raise ModelError(str(path), f"lora.{name}={wanted}", str(found), f"set --lora.{name}")


def adapter_digest(path: Path) -> str:
    """Digest the weights of an adapter to go on from.

    Raises:
        ModelError: there is no adapter.
    """
    if not (path / _WEIGHTS).is_file():
        raise ModelError(str(path), f"an adapter with {_WEIGHTS}", "none")
    return digest_file(path / _WEIGHTS)


def _base_told(path: Path, made: dict[str, Any]) -> str:
    try:
        digest = manifest.read(Folder(str(path.parent)), "train").facts["base_digest"]
    except (ManifestError, KeyError):
        return str(made.get("base_model_name_or_path"))
    return str(digest)


def take_weights(model: Any, path: Path) -> None:
    """Put the weights of an adapter into a model that has one of the same shape.

    Args:
        model: from ``load``.
        path: folder of the adapter, or of a checkpoint.

    Raises:
        ModelError: the weights are damaged or of another shape.
    """
    from peft import set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        result = set_peft_model_state_dict(model, load_file(path / _WEIGHTS))
    except (RuntimeError, OSError, SafetensorError) as error:
        raise ModelError(str(path), "weights that fit the base", _first_line(error)) from error
    missing = [key for key in result.missing_keys if "lora_" in key]
    if missing or result.unexpected_keys:
        found = f"{len(missing)} missing and {len(result.unexpected_keys)} other weights"
        raise ModelError(str(path), "weights for every target module", found)


def save_adapter(model: Any, tokenizer: Any, folder: Path, base_name: str) -> None:
    """Write the adapter as safetensors and JSON, with the tokenizer it was trained with.

    Args:
        model: with the adapter on it.
        tokenizer: of the base.
        folder: written beside its place, then renamed.
        base_name: what the adapter is told to be made for: a hub id or a path.
    """
    import shutil

    work = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    with quietly():
        model.save_pretrained(str(work), safe_serialization=True)
        tokenizer.save_pretrained(str(work))
    # PEFT writes a card that names the base by this machine's path.
    (work / "README.md").unlink(missing_ok=True)
    settings = json.loads((work / _SETTINGS).read_text())
    settings["base_model_name_or_path"] = base_name
    # PEFT lists these in the random order of a set.
    settings["target_modules"] = sorted(settings["target_modules"])
    (work / _SETTINGS).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(work, folder)
