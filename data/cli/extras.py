"""What is installed: which modules a command needs, and the extra that brings them."""

import importlib.util
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

from data.console import first_line
from data.errors import ExtraError

_EXTRA_OF = {
    **dict.fromkeys(("s3fs", "aiobotocore", "botocore"), "s3"),
    "pycld2": "languages",
    **{"gcsfs": "gs", "adlfs": "az", "huggingface_hub": "hf"},
    **dict.fromkeys(
        ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "safetensors",
         "matplotlib", "optuna", "bm25s"), "train",
    ),
    **dict.fromkeys(("unsloth", "unsloth_zoo", "bitsandbytes"), "gpu"),
    **dict.fromkeys(("pydivsufsort", "rouge_score", "sacrebleu"), "evaluate"),
    **dict.fromkeys(("openai", "model2vec"), "judge"),
    **dict.fromkeys(("fastapi", "uvicorn"), "ui"),
    "gguf": "gguf",
    **dict.fromkeys(("tensorboard", "trackio"), "track"),
}  # fmt: skip
"""Modules by the extra of ``pyproject.toml`` that brings them; a test compares the two."""
_OURS = {"data", "preprocessing", "training", "inference"}


@dataclass(frozen=True)
class Need:
    """Modules that a command cannot do without."""

    modules: tuple[str, ...]
    """Names as they are imported."""
    when: Callable[[Any], bool] = lambda _config: True
    """Whether a config asks for them."""


MODEL = Need(("torch", "transformers", "tokenizers", "peft", "safetensors"))
"""What writes texts."""
TRAINING = Need((*MODEL.modules, "trl", "accelerate", "matplotlib"))
"""What trains."""


def is_installed(module: str) -> bool:
    """Whether a module can be imported; it is not imported for that."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # its parent is missing; it is half imported
        return False


def command(modules: Iterable[str]) -> str:
    """Return the command that installs modules, by their extras where they have one."""
    names = list(dict.fromkeys(modules))
    extras = sorted({_EXTRA_OF[name] for name in names if name in _EXTRA_OF})
    others = [name for name in names if name not in _EXTRA_OF]
    words = ["pip install"]
    if extras:
        words.append(f"-c constraints.txt -e '.[{','.join(extras)}]'")
    words += others
    # The extra for a GPU holds the one for training.
    hint = " (on a GPU: '.[gpu]')" if "train" in extras and "gpu" not in extras else ""
    return " ".join(words) + hint


def check(where: str, needs: Iterable[Need], config: Any) -> None:
    """Check that what a command needs is installed, before it does anything.

    Raises:
        ExtraError: a module is missing.
    """
    modules = [name for need in needs if need.when(config) for name in need.modules]
    modules += [name for item in fields(config) for name in _store(getattr(config, item.name))]
    if missing := [name for name in dict.fromkeys(modules) if not is_installed(name)]:
        raise missing_modules(where, missing)


def missing_modules(where: str, names: list[str]) -> ExtraError:
    """Build the error for a command whose modules are not installed."""
    modules = ", ".join(names)
    extras = sorted({_EXTRA_OF[name] for name in names if name in _EXTRA_OF})
    kind = f"the extra{'s' if len(extras) > 1 else ''} {', '.join(extras)}" if extras else modules
    return ExtraError(where, kind, f"no {modules}", command(names))


def _store(value: Any) -> list[str]:
    """Return the module of the file system that a URL needs, if any."""
    if not isinstance(value, str) or "://" not in value:
        return []
    from fsspec.registry import known_implementations

    store = known_implementations.get(value.partition("://")[0].rpartition("::")[2])
    return [store["class"].partition(".")[0]] if store else []


def explain(error: ImportError) -> str | None:
    """Describe in one line what a failed import lacks; None where our own code is at fault."""
    root = (error.name or "").partition(".")[0]
    if root in _OURS:
        return None
    if not root:  # raised by a library in its own words
        named = [word for word in re.findall(r"\w+", str(error)) if word in _EXTRA_OF]
        missing = [word for word in dict.fromkeys(named) if not is_installed(word)]
        if missing:
            return str(missing_modules("installation", missing))
        return f"installation: {str(error).strip().splitlines()[0]}" if str(error).strip() else None
    if isinstance(error, ModuleNotFoundError) and root in sys.stdlib_module_names:
        return f"Python: expected its module {root}, found none on this system"
    if isinstance(error, ModuleNotFoundError) and not is_installed(root):
        return str(missing_modules("installation", [root]))
    return f"{root}: expected a version that fits, found {first_line(error)}; {command([root])}"
