"""What to type next: after each command a whole one, with the paths that were just used.

Stages are named here as a shell names them; nothing of theirs is imported.
"""

import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.artefacts.manifest import Manifest
from data.errors import CatalogueError

Words = Sequence[str]
_STORE = "data/store"
_ROOMS = {"subsets", "runs", "exported", "generated", "reports", "tunes", "curves"}
"""Folders of a store that hold one artefact a name."""


def after_synthesize(config: Any, _result: Any, _words: Words = ()) -> str:
    """Clean what was invented."""
    return _line("preprocessing clean", source=config.out, out="data/store/clean")


def after_clean(config: Any, _result: Any, _words: Words = ()) -> str:
    """Choose rows of the clean catalogue."""
    parent, name = os.path.split(config.out.rstrip("/"))
    name = name.removeprefix("clean").strip("-_.") or "all"
    store = _STORE if "://" in parent else parent
    return _line("data subset", clean=config.out, out=os.path.join(store, "subsets", name))


def after_subset(config: Any, _result: Any, _words: Words = ()) -> str:
    """Train on the subset, by the recipe that this machine can follow."""
    recipe = "rtx3060" if shutil.which("nvidia-smi") else "cpu"
    return _line("training run", config=f"training/recipes/{recipe}.yaml", subset=config.out,
                 out=_beside(config.out, "runs"))  # fmt: skip


def after_plan(_config: Any, _result: Any, words: Words = ()) -> str:
    """Train by the plan, with the words that it was made with."""
    kept = list(words[1:])
    for place, word in enumerate(kept):
        if word == "--steps" or word.startswith("--steps="):
            del kept[place : place + (2 if word == "--steps" else 1)]
            break
    count = os.environ.get("LOCAL_WORLD_SIZE", "1")
    start = ["python"] if count == "1" else ["torchrun", "--nproc-per-node", count]
    return shlex.join([*start, "-m", "training", "run", *kept, "--plan", "auto"])


def after_tune(config: Any, _result: Any, _words: Words = ()) -> str:
    """Train by the best recipe."""
    planned = {"plan": "auto"} if config.plan else {}
    return _line("training run", config=f"{config.out}/best.yaml", subset=config.subset,
                 out=_beside(config.out, "runs"), **planned)  # fmt: skip


def after_curve(config: Any, _result: Any, _words: Words = ()) -> str:
    """Train on all rows of the subset."""
    return after_subset(SimpleNamespace(out=config.subset), None)


def after_train(config: Any, result: Any, _words: Words = ()) -> str | None:
    """Write descriptions of titles that the run never saw."""
    return _generate(config.out, config.subset) if result else None


def after_export(config: Any, result: Manifest, _words: Words = ()) -> str | None:
    """Write descriptions with the exported model; of a form for others, let them take it."""
    form = getattr(config, "format", "merged")
    if form == "gguf":
        name = os.path.basename(config.out.rstrip("/"))
        return shlex.join(["ollama", "create", name, "-f", os.path.join(config.out, "Modelfile")])
    if form != "merged":
        return _show(config.out)
    subset = manifest.ancestor(result.made_from, "subset")
    return _generate(config.out, _short(subset.path)) if subset else _show(config.out)


def after_generate(config: Any, _result: Any, _words: Words = ()) -> str | None:
    """Judge the texts where they are those of held-out rows; else look at them."""
    is_judged = os.path.isdir(os.path.join(config.run, "adapter"))
    if not is_judged or config.split == "train" or not _rows(config.titles):
        return _show(config.out)
    split = {"split": config.split} if config.split != "test" else {}
    return _line("inference evaluate", run=config.run, generated=config.out, subset=config.titles,
                 **split, out=_beside(config.out, "reports"))  # fmt: skip


def after_evaluate(config: Any, result: Manifest, _words: Words = ()) -> str | None:
    """Look at the report and ask the model, on the web page."""
    runs = [config.run] if isinstance(config.run, str) else config.run
    clean = manifest.ancestor(result.made_from, "clean")
    if not runs or clean is None:
        return _show(config.out)
    return _line("inference serve", run=runs[0], catalogue=_short(clean.path), report=config.out)


def after_ask(config: Any, _result: Any, _words: Words = ()) -> str | None:
    """Ask on the web page; nothing where another program reads the answers."""
    if config.json or config.question == "-":
        return None
    return _line("inference serve", run=config.run, catalogue=config.catalogue)


AFTER: dict[str, Callable[[Any, Any, Words], str | None]] = {
    "clean": after_clean, "subset": after_subset, "tune": after_tune, "curve": after_curve,
    "train": after_train, "export": after_export, "generate": after_generate,
    "evaluate": after_evaluate,
}  # fmt: skip
"""By stage, as manifests name it."""


def after_show(config: Any, record: Manifest, _words: Words = ()) -> str | None:
    """Name what comes after the artefact that was shown."""
    if record.stage not in AFTER:
        return None
    made_with = SimpleNamespace(**(record.config | {"out": config.path}))
    try:
        return AFTER[record.stage](made_with, record, ())
    except AttributeError:  # an earlier version's, which had no such setting
        return None


def _line(command: str, **flags: str) -> str:
    words = ["python", "-m", *command.split()]
    for name, value in flags.items():
        words += [f"--{name}", value]
    return shlex.join(words)


def _generate(model: str, titles: str) -> str:
    rows = _rows(titles)
    split = next((name for name in ("test", "validation") if rows.get(name)), "train")
    return _line("inference generate", run=model, titles=titles, split=split,
                 out=_beside(model, "generated"))  # fmt: skip


def _show(path: str) -> str:
    return f"python -m data show {shlex.quote(path)}"


def _beside(path: str, room: str) -> str:
    """Name the folder of the same name in another room of the store."""
    parent, name = os.path.split(path.rstrip("/"))
    store = os.path.dirname(parent) if os.path.basename(parent) in _ROOMS else parent
    if "://" in path:  # much of what follows has to be local
        store = _STORE
    return os.path.join(store, room, name)


def _short(path: str) -> str:
    """Return a path relative to the working folder, where it lies in it."""
    own, here = Path(path), Path.cwd()
    return str(own.relative_to(here)) if own.is_relative_to(here) else path


def _rows(path: str) -> dict[str, int]:
    """Return the rows of a subset by split; none where it is no subset."""
    try:
        return dict(manifest.read(Folder(path), "subset").facts["rows"])
    except (CatalogueError, KeyError, OSError):
        return {}
