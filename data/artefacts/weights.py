"""What a model on disk passes before it is used: whole, finite, and of the adapter that it gets.

Training and inference must mean the same base. Imports no model library: what loads is passed in.
"""

import json
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from data.cli import faults
from data.errors import ModelError

ADAPTER = "adapter_model.safetensors"
_WHOLE = "weights that are whole and fit their config.json"


def load(folder: str | Path, auto: Any, **how: Any) -> Any:
    """Load a model that is whole, finite, not quantised, and says how long its texts may be.

    Its own generation settings are ignored: texts follow from weights and our flags alone.

    Args:
        folder: with config.json and weights in safetensors.
        auto: ``transformers.AutoModelForCausalLM``.
        how: further arguments, such as ``dtype``; with ``device_map={"": "meta"}`` names, shapes
            and settings alone are checked, in the time that it takes to read the files' heads.

    Raises:
        ModelError: a tensor is missing, of another shape or not finite, or a setting is one that
            training, export or inference cannot use.
    """
    where = str(folder)
    _check_settings(Path(folder))
    try:
        loaded, seen = auto.from_pretrained(
            where, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **how
        )
    except Exception as error:
        if faults.lacking(error):
            raise
        # Of safetensors, transformers or torch: each has errors of its own.
        raise ModelError(where, _WHOLE, _reason(error)) from error
    _check_names(seen["missing_keys"], (), where, _WHOLE)
    if getattr(loaded.config, "max_position_embeddings", None) is None:
        expected = "a config.json with max_position_embeddings"
        raise ModelError(where, expected, "none", "take a base that says how many tokens it reads")
    check_finite(loaded.named_parameters(), where)
    loaded.generation_config = type(loaded.generation_config)()
    return loaded


def _check_settings(folder: Path) -> None:
    """Refuse what config.json alone shows to be unusable, before a library fails on it."""
    where = str(folder)
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, quantised = settings.get("model_type"), settings.get("quantization_config")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(where, "a config.json", _reason(error)) from error
    if not kind:
        raise ModelError(where, "a config.json with a model_type", "none")
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        hint = "take the base in 16 or 32 bits"
        raise ModelError(where, "weights that are not quantised", str(method or "some"), hint)


def _reason(error: Exception) -> str:
    """Return in a line what a library's error means."""
    text = str(error)
    if "trust_remote_code" in text:
        return "one that needs code of its own, which is never run"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Its first line names the class that was loaded into.
    if lines and lines[0].startswith("Error(s) in loading") and len(lines) > 1:
        return lines[1]
    if "ignore_mismatched_sizes" in text:
        return "tensors of other shapes"
    return lines[0] if lines else type(error).__name__


def check_finite(tensors: Iterable[tuple[str, Any]], where: str, hint: str = "") -> None:
    """Check that no weight is NaN or infinite, in one pass.

    Raises:
        ModelError: one is; names its tensor.
    """
    for name, tensor in tensors:
        if tensor.is_meta or not tensor.is_floating_point():
            continue
        # What is not finite stays so in a sum, in a twentieth of the time of a test of each: 0.4 s
        # for 1.1e9 weights on one core. A sum of large finite ones may overflow: then each is.
        if not tensor.sum().isfinite() and not tensor.isfinite().all():
            raise ModelError(where, "finite weights", f"NaN or infinity in {name}", hint)


def _check_names(
    missing: Collection[str], other: Collection[str], where: str, expected: str
) -> None:
    for names, kind in ((missing, "lacks"), (other, "holds beside it")):
        if names:
            first, more = min(names), f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ModelError(where, expected, f"one that {kind} {first}{more}")


def check_vocabulary(tokenizer: Any, loaded: Any, where: str) -> None:
    """Check that the model has an embedding for every token of its tokenizer.

    Raises:
        ModelError: the tokenizer has more tokens; they would read foreign memory.
    """
    embeddings = loaded.get_input_embeddings().weight.shape[0]
    tokens = max(tokenizer.get_vocab().values(), default=-1) + 1
    if tokens > embeddings:
        expected = f"a tokenizer of at most the model's {embeddings:,} tokens"
        raise ModelError(where, expected, f"{tokens:,}", "take the tokenizer that came with it")


def with_adapter(loaded: Any, folder: str | Path, peft: Any) -> Any:
    """Put an adapter onto its base: every tensor there, finite, and no other.

    Args:
        loaded: the base.
        folder: of the adapter.
        peft: the module.

    Raises:
        ModelError: it is damaged, not finite, or of another base.
    """
    where, expected = str(folder), "an adapter of this base model"
    names = adapter_names(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of missing tensors, which are refused below
            both = peft.PeftModel.from_pretrained(loaded, where).eval()
    except Exception as error:
        if faults.lacking(error):
            raise
        raise ModelError(where, expected, _reason(error)) from error
    check_adapter(both, names, where, peft)
    return both


def adapter_names(folder: str | Path) -> set[str]:
    """Read the names of an adapter's tensors.

    Raises:
        ModelError: there is none in safetensors, or it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / ADAPTER
    if not path.is_file():
        raise ModelError(str(folder), f"an adapter with {ADAPTER}", "none")
    try:
        with safe_open(str(path), "np") as file:
            return set(file.keys())
    except (SafetensorError, OSError) as error:
        raise ModelError(str(folder), "an adapter of this base model", _reason(error)) from error


def check_adapter(both: Any, names: set[str], where: str, peft: Any) -> None:
    """Check that an adapter on its base has the tensors that its file had, all finite.

    Raises:
        ModelError: one is missing, another is there, or one is not finite; names it.
    """
    own = peft.get_peft_model_state_dict(both, save_embedding_layers=False)
    expected = "an adapter with the tensors that its adapter_config.json asks for"
    _check_names(own.keys() - names, names - own.keys(), where, expected)
    check_finite(own.items(), where)
