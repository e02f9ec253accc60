"""A stage's output folder: claim it, find it finished, go on with it, write its manifest.

A folder without a manifest is unfinished; ``begun.json`` says what is being made of it. A finished
output is one whose files are there, in the sizes that its manifest lists.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from data import console
from data.artefacts import lock, manifest
from data.artefacts.folder import TEMPORARY, Artefact, Folder
from data.artefacts.manifest import BEGUN, NAME, Counts, Manifest, Parent, flatten
from data.errors import CatalogueError, ManifestError, OutputError

# What each stage writes: --overwrite and a faulty input remove these files, and no others.
_PARTS = ("part-*.parquet", "quarantine/part-*.parquet", "show.png")
_WRITES = {
    "clean": _PARTS,
    "generate": _PARTS,
    "subset": (
        "dataset_dict.json", "*/data-*.arrow", "*/dataset_info.json", "*/state.json", "show.png",
    ),
    "plan": ("plan.json", "measured.json"),
    "train": (
        "adapter/*", "base/*", "checkpoints/*/*", "checkpoints/runs/*/*", "metrics.jsonl",
        "loss.png", "plan.json", "neighbours.arrow", "tensorboard/*",
    ),
    "tune": (
        "best.yaml", "tune.png", "journal.log", "base/*", "trials/*/*", "trials/*/adapter/*",
        "trials/*/checkpoints/*/*", "trials/*/tensorboard/*",
    ),
    "curve": (
        "curve.json", "curve.png", "plan.json", "losses/*", "base/*", "subsets/*/*",
        "subsets/*/*/*",
    ),
    "export": (
        "*.json", "*.safetensors", "*.jinja", "*.txt", "tokenizer.model", "neighbours.arrow",
        "*.gguf", "Modelfile", "base/*",
    ),
    "publish": ("repository/*", "repository/*/*", "repository/*/*/*"),
    "evaluate": ("report.json", "report.html"),
    "compare": ("compare.json", "compare.html"),
}  # fmt: skip
# Where these keys are absent, the output has other noise, no checks, no curve, no families, prompts
# without neighbours or attributes, texts that nothing kept from looping, no rules of content, or a
# catalogue of our own columns in UTF-8; other absent keys say that an earlier version did not
# record them.
_TELLING = (
    "noise", "checks", "best_of", "curve", "similarity", "neighbours", "attributes", "columns",
    "encoding", "delimiter", "strip_html", "drop_markup", "drop_boilerplate", "drop_shouting",
    "languages", "judge", "judge_model", "judge_pairs", "judging", "votes", "semantic",
)  # fmt: skip


@dataclass
class Work:
    """An output folder that this process alone writes, or one that is finished."""

    stage: str
    config: Any
    folder: Folder
    identity: dict[str, Any]
    finished: Manifest | None = None
    """The manifest, where the same output is there already."""
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Time since the folder was claimed."""
        return time.perf_counter() - self.began

    def finish(
        self,
        outputs: tuple[Artefact, ...],
        counts: Counts | None = None,
        inputs: tuple[Artefact, ...] = (),
        made_from: tuple[Parent, ...] = (),
        facts: dict[str, Any] | None = None,
    ) -> Manifest:
        """Write the manifest and so finish the output.

        Raises:
            BalanceError: rows are not all accounted for.
            OutputError: an output is gone or has another size.
        """
        result = Manifest(
            stage=self.stage,
            config=manifest.config_dict(self.config),
            identity=self.identity,
            inputs=inputs,
            outputs=outputs,
            counts=counts or Counts(),
            made_from=made_from,
            facts=facts or {},
            versions=manifest.versions(),
            seconds=round(self.seconds, 3),
        )
        result.write(self.folder)
        return result


@contextlib.contextmanager
def stage(
    name: str,
    config: Any,
    out: str,
    identity: dict[str, Any],
    *,
    spoiled_by: tuple[type[BaseException], ...] = (CatalogueError,),
    keeps: Callable[[], bool] = lambda: False,
) -> Iterator[Work]:
    """Claim an output folder for a stage.

    Args:
        name: of the stage, as in its manifest.
        config: with ``overwrite``.
        out: the folder.
        identity: what decides the output, from ``manifest.identify``.
        spoiled_by: faults after which no run can go on: what was written is removed again.
        keeps: whether a run can go on from the folder all the same.

    Yields:
        The work; ``finished`` holds the manifest where nothing is left to do.

    Raises:
        ConfigError: the folder is the root or somebody's home.
        OutputError: the folder holds something else, or another process writes it.
    """
    folder = Folder.for_output(out)
    work = Work(name, config, folder, identity)
    with lock.locked(folder):
        work.finished = begin(folder, name, identity, config.overwrite)
        try:
            yield work
        except spoiled_by:
            if not work.finished and not keeps():
                abandon(folder, name)
            raise


def begin(
    folder: Folder, stage: str, identity: dict[str, Any], overwrite: bool = False
) -> Manifest | None:
    """Mark a folder as begun for one stage and identity, or find the work already done.

    Returns:
        The manifest when the same output is finished; None when there is work to do, whether
        from the start or from where an earlier run stopped.

    Raises:
        OutputError: the folder holds something else.
    """
    present = [name for name in folder.names() if not name.startswith((TEMPORARY, lock.NAME))]
    is_ours = manifest.is_output(present)
    if present and not is_ours:
        hint = "name another folder with --out"
        raise OutputError(folder.url, "an empty or new folder", f"{present[0]!r} in it", hint)
    if is_ours and overwrite:
        _clear(folder, stage)
    elif is_ours and (finished := _recognise(folder, stage, identity)):
        return finished
    folder.sweep()
    if not folder.exists(BEGUN):
        _mark(folder, stage, identity)
    return None


def _recognise(folder: Folder, stage: str, identity: dict[str, Any]) -> Manifest | None:
    """Return the finished output of the same stage and identity; None where some is missing."""
    finished = manifest.read(folder) if folder.exists(NAME) else None
    earlier = (finished.stage, finished.identity) if finished else _begun(folder)
    if earlier[0] != stage or _as_recorded(identity, earlier[1]) != earlier[1]:
        _refuse(folder, (stage, identity), earlier)
    if finished and (lost := finished.lost(folder)):
        console.say(f"{folder.url}: {lost[0]} is gone or cut, and is made again")
        _mark(folder, stage, identity)
        folder.remove(NAME)
        return None
    if finished:
        folder.remove(BEGUN)  # left by a kill right after the manifest was written
    return finished


def _mark(folder: Folder, stage: str, identity: dict[str, Any]) -> None:
    begun = {"stage": stage, "identity": identity}
    folder.commit(BEGUN, json.dumps(begun, indent=2).encode())


def _begun(folder: Folder) -> tuple[str, dict[str, Any]]:
    try:
        value: dict[str, Any] = json.loads(folder.read(BEGUN))
        return value["stage"], dict(value["identity"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        hint = "start afresh with --overwrite true"
        raise OutputError(folder.path(BEGUN), "a file of ours", "another", hint) from error


def _as_recorded(identity: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """Leave out what an earlier version did not record yet, but not what tells by its absence.

    What that version recorded and this one no longer asks stays a difference.
    """
    chosen: dict[str, Any] = {}
    for key, value in identity.items():
        old = earlier.get(key)
        if key in _TELLING:
            chosen[key] = value
        elif isinstance(value, dict) and isinstance(old, dict):
            chosen[key] = _as_recorded(value, old)
        elif key in earlier:
            chosen[key] = value
    return chosen


def _refuse(
    folder: Folder, own: tuple[str, dict[str, Any]], other: tuple[str, dict[str, Any]]
) -> None:
    hint = "name another --out"
    if own[0] != other[0]:
        raise OutputError(folder.url, f"the output of {own[0]}", f"that of {other[0]}", hint)
    hint += ", or replace it with --overwrite true"
    new, old = flatten(_as_recorded(own[1], other[1])), flatten(other[1])
    names = [name for name in sorted(new | old) if new.get(name) != old.get(name)][:3]
    values = [", ".join(f"{name}={side.get(name)}" for name in names) for side in (new, old)]
    raise OutputError(folder.url, f"an output made with {values[0]}", values[1], hint)


def _clear(folder: Folder, stage: str) -> None:
    """Remove an earlier output of this stage, so that a kill halfway leaves one to overwrite."""
    other, listed = stage, set()
    with contextlib.suppress(ManifestError, OutputError):  # a damaged one may be replaced
        if folder.exists(NAME):
            earlier = manifest.read(folder)
            other, listed = earlier.stage, {output.path for output in earlier.outputs}
        else:
            other = _begun(folder)[0]
    if other != stage:
        _refuse(folder, (stage, {}), (other, {}))
    _mark(folder, stage, {"half_removed": True})
    folder.remove(NAME)
    _remove(folder, stage, listed)


def abandon(folder: Folder, stage: str) -> None:
    """Take back what a run wrote that can never be finished, as its input is at fault.

    What cannot be taken back stays: the user is to see the input's fault, not this one's.
    """
    with contextlib.suppress(OSError):
        _remove(folder, stage)


def _remove(folder: Folder, stage: str, listed: set[str] | None = None) -> None:
    """Remove what the stage writes, the mark that it has begun last; leave everything else."""
    for name in folder.sizes():
        is_own = name in (listed or ()) or any(_matches(name, form) for form in _WRITES[stage])
        if is_own and name not in (NAME, BEGUN):
            folder.remove(name)
    folder.sweep()
    folder.remove(BEGUN)
    if folder.is_local:
        _remove_empty(folder.path())


def _matches(name: str, form: str) -> bool:
    """Whether a path has a pattern's parts, each matched alone."""
    names, forms = name.split("/"), form.split("/")
    return len(names) == len(forms) and all(map(fnmatch, names, forms))


def _remove_empty(root: str) -> None:
    """Remove the folders below that hold nothing, and the root itself but where it is a link."""
    for folder, _, _ in os.walk(root, topdown=False):
        if not os.path.islink(folder):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
