"""Load a base model with a LoRA adapter on it, through Unsloth or through transformers + PEFT.

The only file that imports Unsloth. Unsloth changes transformers, trl and peft as it is imported, so
``choose_backend`` comes before any import of those. Knows nothing of rows or training.
"""

import contextlib
import importlib
import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data.artefacts.run import Base
from data.artefacts.weights import check_finite, check_vocabulary, load
from data.cli import faults
from data.console import first_line
from data.errors import ConfigError, ModelError
from training import guards
from training.config import LoraSettings, TrainConfig
from training.hardware import Precision
from training.model.adapter import take_weights

log = logging.getLogger("catalogue")


@dataclass(frozen=True)
class Backend:
    """What trains, and why it was taken."""

    name: Literal["unsloth", "transformers"]
    why: str


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep libraries' banners off standard output, which is for results, and their warnings too.

    They warn of each other's use; faults of rows and losses are for our guards to find.
    """
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def hush() -> None:
    """Turn off the libraries' own progress bars and notes; ``console.Progress`` shows progress."""
    import datasets
    from transformers.utils import logging as transformers_logging

    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def choose_backend(name: Literal["auto", "unsloth", "transformers"], compiled: Path) -> Backend:
    """Choose the backend and import it; prints in one line what was chosen and why.

    Args:
        name: ``auto`` takes unsloth where it imports.
        compiled: folder for what Unsloth compiles; else it writes into the working folder.

    Raises:
        ModelError: unsloth was asked for by name and does not import.
    """
    if name == "transformers":
        backend = Backend("transformers", "asked for")
    else:
        backend = _try_unsloth(name, compiled)
    log.info("backend: %s (%s)", backend.name, backend.why)
    hush()
    return backend


def _try_unsloth(name: str, compiled: Path) -> Backend:
    os.environ["UNSLOTH_COMPILE_LOCATION"] = str(compiled)
    # It reports every start to its makers unless this is set.
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    os.environ.setdefault("UNSLOTH_DISABLE_AUTO_UPDATES", "1")
    # It pads to 128 tokens where cuDNN attends, which plans anew for every length; ours are few.
    os.environ.setdefault("UNSLOTH_SDPA_CUDNN_BUCKET", "0")
    try:
        with quietly():
            importlib.import_module("unsloth")
    # It raises whatever it likes: ImportError, NotImplementedError, RuntimeError of a driver.
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        if name == "unsloth":
            hint = "install it (README), or use --backend transformers"
            raise ModelError("unsloth", "a package that imports", reason, hint) from error
        return Backend("transformers", f"unsloth does not import: {reason}")
    return Backend("unsloth", "asked for" if name == "unsloth" else "it imports here")


def load_tokenizer(folder: Path) -> Any:
    """Load the base's own tokenizer, the same under every backend.

    Raises:
        ModelError: there is none that transformers can read.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(str(folder), "a tokenizer", first_line(error)) from error
    if tokenizer.pad_token_id is None:
        # Padding is masked and unlearned by our collator, so its id decides nothing.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def check(config: TrainConfig, base: Base, backend: Backend) -> Any:
    """Check by names, shapes and settings that a base can be trained, and used later.

    Returns:
        Its tokenizer.

    Raises:
        ModelError: files are missing, do not fit each other, or cannot be used later.
        ConfigError: the LoRA settings name layers that are not there.
    """
    from transformers import AutoModelForCausalLM

    # Without it training works, but nobody can be answered: inference reads it alone.
    if not (base.folder / "tokenizer.json").is_file():
        raise ModelError(base.name, "a tokenizer.json", "none", "save its fast tokenizer there")
    tokenizer = load_tokenizer(base.folder)
    with quietly():
        shapes = load(base.folder, AutoModelForCausalLM, device_map={"": "meta"})
    check_vocabulary(tokenizer, shapes, base.name)
    _check_targets(shapes, config.lora.target_modules, backend)
    return tokenizer


def _check_targets(shapes: Any, targets: list[str], backend: Backend) -> None:
    """Refuse LoRA on what is no layer of this model, or none that can be merged and exported.

    A name that matches nothing is left out by the libraries, each in its own way: on fused layers
    one trains half of what the other does.
    """
    ends = (shapes.get_input_embeddings(), shapes.get_output_embeddings())
    layers = {
        path: any(module is end for end in ends)
        for path, module in shapes.named_modules()
        if getattr(getattr(module, "weight", None), "ndim", 0) == 2
    }
    # As PEFT matches them: whole paths, or their last parts.
    matches = {
        target: [is_end for path, is_end in layers.items() if f".{path}".endswith(f".{target}")]
        for target in targets
    }
    flag = "--lora.target_modules"
    if strange := [target for target in targets if not matches[target]]:
        inner = {path.rsplit(".", 1)[-1]: None for path, is_end in layers.items() if not is_end}
        hint = f"set {flag} '[{', '.join(inner)}]'"
        raise ConfigError(flag, "names of this model's layers", ", ".join(strange), hint)
    at_ends = [target for target in targets if any(matches[target])]
    is_tied = bool(shapes.config.tie_word_embeddings)
    if at_ends and (is_tied or backend.name == "unsloth"):
        why = "tied to each other" if is_tied else "trained as a whole by Unsloth"
        expected, hint = f"no embeddings, as they are {why}", f"leave them out of {flag}"
        raise ConfigError(flag, expected, ", ".join(at_ends), hint)


def load_model(config: TrainConfig, base: Base, backend: Backend, precision: Precision) -> Any:
    """Load a base that was checked, with a fresh adapter on it or with the one to go on from.

    The adapter's first weights depend on the seed alone, not on the backend.

    Raises:
        ModelError: files are missing or do not fit each other.
    """
    import torch

    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}
    make = _with_unsloth if backend.name == "unsloth" else _with_peft
    try:
        model = make(config, base, dtypes[precision])
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if faults.lacking(error) or isinstance(error, ModelError):
            raise
        raise ModelError(base.name, "a causal language model", first_line(error)) from error
    if config.init_adapter:
        take_weights(model, Path(config.init_adapter))
    guards.check_trainable(count_trainable(model), base.name)
    return model


def count_trainable(model: Any) -> int:
    """Count the parameters of a model's adapter."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_frozen(model: Any) -> tuple[int, int]:
    """Count the parameters of a model's base, and the bytes that they take.

    Two of 4 bits share a byte; what they are scaled by takes another 0.13 bits of each, by QLoRA.
    """
    count = size = 0
    for weight in model.parameters():
        if not weight.requires_grad:
            state = getattr(weight, "quant_state", None)
            own = math.prod(state.shape) if state else weight.numel()
            count += own
            size += weight.numel() * weight.element_size() + (own // 62 if state else 0)
    return count, size


def _with_unsloth(config: TrainConfig, base: Base, dtype: Any) -> Any:
    from unsloth import FastLanguageModel

    checkpointing = config.optimisation.gradient_checkpointing
    recompute = {"none": False, "unsloth": "unsloth", "every": True}[checkpointing]
    with quietly():
        model, _ = FastLanguageModel.from_pretrained(
            model_name=str(base.folder),
            max_seq_length=config.max_length,
            dtype=dtype,
            load_in_4bit=config.quantize == "nf4",
            trust_remote_code=False,
            use_gradient_checkpointing=recompute,
            use_exact_model_name=True,
            random_state=config.seed,
            **_own_device(),
        )
        check_finite(model.named_parameters(), base.name)
        return FastLanguageModel.get_peft_model(
            model,
            use_gradient_checkpointing=recompute,
            random_state=config.seed,
            **_adapter_settings(config.lora),
        )


def _own_device() -> dict[str, Any]:
    """Keep a model on this process's GPU: of several, Unsloth may part it among all."""
    import torch

    if not torch.cuda.is_available() or torch.cuda.device_count() == 1:
        return {}
    return {"device_map": {"": f"cuda:{torch.cuda.current_device()}"}}


def _with_peft(config: TrainConfig, base: Base, dtype: Any) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, set_seed

    attention = config.optimisation.attention
    with quietly():
        model = load(
            base.folder, AutoModelForCausalLM, dtype=dtype,
            attn_implementation=None if attention == "auto" else attention,
            **_quantised(config, dtype),
        )  # fmt: skip
        # Unsloth seeds right before it draws the weights; so must we, to draw the same ones.
        set_seed(config.seed)
        settings = LoraConfig(task_type="CAUSAL_LM", **_adapter_settings(config.lora))
        return get_peft_model(model, settings)


def _quantised(config: TrainConfig, dtype: Any) -> dict[str, Any]:
    """Return what loads a base in 4 bits (QLoRA, https://arxiv.org/abs/2305.14314)."""
    import torch
    from transformers import BitsAndBytesConfig

    if config.quantize is None:
        return {}
    device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )  # fmt: skip
    return {"quantization_config": settings, "device_map": {"": device}}


def _adapter_settings(lora: LoraSettings) -> dict[str, Any]:
    return {
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.use_rslora,
        "target_modules": list(lora.target_modules),
        "bias": "none",
    }
