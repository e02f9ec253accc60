"""Inputs that were not named: say so, and what there is to name."""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import ConfigError

STORE = Path("data/store")
RAW = "raw"
"""In the place of a stage: files as they were fetched or invented."""
_RAW_FOLDERS = (STORE / "raw", Path("data/sample"))
_NAMED = 3
_INNER = {"tokenize", "neighbours", "titles"}
"""What stages keep for themselves, and nobody asks for."""
MAKERS = {
    RAW: "python -m data synthesize",
    "clean": "python -m preprocessing clean",
    "subset": "python -m data subset",
    "train": "python -m training run",
    "curve": "python -m training curve",
    "generate": "python -m inference generate",
    "evaluate": "python -m inference evaluate",
    "export": "python -m training export",
}
"""What makes the artefacts that commands read, by stage."""


@dataclass(frozen=True)
class Input:
    """A field that names what a command reads."""

    stages: tuple[str, ...] = ()
    """Whose outputs fit, the usual one first; none: any artefact."""
    unless: str = ""
    """Another field that may stand in for it."""


def check(
    command: str, config: type, inputs: Mapping[str, Input], fields: Mapping[str, Any],
    words: Sequence[str],
) -> None:  # fmt: skip
    """Check that each input was named, or is where it lies by default.

    Args:
        command: ``python -m PROGRAM COMMAND``.
        config: class of the command's config.
        inputs: by field.
        fields: values of the config; a positional one that was left out is missing.
        words: of the command line.

    Raises:
        ConfigError: one was not; names what there is.
    """
    defaults = {field.name: _default(field) for field in dataclasses.fields(config)}
    for name, kind in inputs.items():
        value = fields.get(name)
        is_named = value is not None and value != defaults[name]
        is_named = is_named or any(word.partition("=")[0] == f"--{name}" for word in words)
        if is_named or fields.get(kind.unless):
            continue
        if value is None or not value or not os.path.exists(value):
            flag = name if value is None else f"--{name}"
            raise ConfigError(command, "", f"{flag} was not given", _hint(kind))


def _default(field: Any) -> Any:
    has_factory = field.default_factory is not dataclasses.MISSING
    return field.default_factory() if has_factory else field.default


def _hint(kind: Input) -> str:
    paths = list(_there(kind.stages))
    if not paths:
        maker = MAKERS[kind.stages[0] if kind.stages else "clean"]
        return f"there is none in {STORE} yet: {maker} makes one"
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    return f"there is {', '.join(paths[:_NAMED])}{more}"


def _there(stages: Sequence[str]) -> Iterator[str]:
    """Yield the finished outputs of stages in the store, the newest first; raw files as well."""
    if RAW in stages:
        for folder in _RAW_FOLDERS:
            if folder.is_dir():
                yield from (str(file) for file in sorted(folder.iterdir()) if file.is_file())
    made = [*STORE.glob("*/manifest.json"), *STORE.glob("*/*/manifest.json")]
    for file in sorted(made, key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            stage = json.loads(file.read_bytes())["stage"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if stage in stages or not (stages or stage in _INNER):
            yield str(file.parent)
