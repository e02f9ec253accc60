"""What a stage read, kept, dropped and wrote: digests, lineage, balance.

A manifest is written last, so a folder without one is unfinished. Its digest leaves out paths,
seconds and versions: the same data made by the same settings has the same digest on any machine.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from data.cli import table
from data.errors import BalanceError, ManifestError, OutputError
from data.shards import Artefact, Folder, digest_all, digest_bytes

NAME = "manifest.json"
_BEGUN = "begun.json"
_PACKAGES = (
    "pyarrow", "dask", "distributed", "ftfy", "datasets", "torch", "transformers", "trl", "peft",
    "unsloth",
)  # fmt: skip
_Value = TypeVar("_Value")
# Bytes of what is wrong with a manifest that an error shows.
_QUOTED = 200
_NOISE = "noise"
_KINDS = {"stage": str, "config": dict, "identity": dict, "facts": dict, "versions": dict}


def placement(default: Any) -> Any:
    """Declare a config field that says where or how work runs and never changes its output."""
    return field(default=default, metadata={"identity": False})


@dataclass(frozen=True)
class Counts:
    """How many rows came in and where each went; adding two adds every number."""

    read: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.read + other.read,
            self.kept + other.kept,
            _add(self.dropped, other.dropped),
            _add(self.quarantined, other.quarantined),
        )

    def check(self, where: str) -> None:
        """Check that ``read = kept + dropped + quarantined``.

        Raises:
            BalanceError: it is not; a row was lost or counted twice.
        """
        accounted = self.kept + sum(self.dropped.values()) + sum(self.quarantined.values())
        if self.read != accounted:
            expected = f"{self.read:,} rows accounted for"
            raise BalanceError(where, expected, f"{accounted:,}", "this is a bug, please report it")


def _add(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(one) + Counter(other)).items()))


@dataclass(frozen=True)
class Parent:
    """A manifest that another was made from, with its own parents."""

    stage: str
    path: str
    digest: str
    made_from: tuple["Parent", ...] = ()

    @classmethod
    def parse(cls, value: dict[str, Any]) -> "Parent":
        """Rebuild a parent from its JSON form."""
        made_from = tuple(cls.parse(parent) for parent in value["made_from"])
        return cls(value["stage"], value["path"], value["digest"], made_from)


@dataclass(frozen=True)
class Manifest:
    """The record of one finished stage."""

    stage: str
    config: dict[str, Any]
    """The resolved config, every field."""
    identity: dict[str, Any]
    """What decides the output: config without placement, and the inputs' digests."""
    inputs: tuple[Artefact, ...]
    outputs: tuple[Artefact, ...]
    counts: Counts
    made_from: tuple[Parent, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    """What later stages and people want to know, such as the longest description."""
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def digest(self) -> str:
        """Digest what was made and from what, but not where, when or how fast."""
        parents = [parent.digest for parent in self.made_from]
        outputs = [output.digest for output in self.outputs]
        inputs = [source.digest for source in self.inputs]
        told = [self.stage, self.identity, dataclasses.asdict(self.counts)]
        text = json.dumps([told, parents, inputs, outputs], sort_keys=True)
        return digest_bytes(text.encode())

    def as_parent(self, path: str) -> Parent:
        """Name this manifest as one that the next stage is made from."""
        return Parent(self.stage, path, self.digest, self.made_from)

    def write(self, folder: Folder) -> None:
        """Check the balance, write ``manifest.json`` and so declare the folder finished.

        Raises:
            BalanceError: rows are not all accounted for.
        """
        self.counts.check(folder.url)
        folder.sweep()
        value = dataclasses.asdict(self)
        value["digest"] = self.digest
        value["output_digest"] = digest_all([output.digest for output in self.outputs])
        folder.commit(NAME, _encode(value))
        folder.remove(_BEGUN)


def _encode(value: dict[str, Any]) -> bytes:
    # Halves of surrogates, as names that are not UTF-8 have them, become JSON's own escapes.
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")


def is_output(names: Collection[str]) -> bool:
    """Tell by its files whether a stage has written a folder, or has begun to.

    A folder that was only begun holds whole parts, but not all: ``read`` refuses it.
    """
    return NAME in names or _BEGUN in names


def read(folder: Folder, stage: str | None = None) -> Manifest:
    """Read the manifest of a finished folder.

    Args:
        folder: of any artefact.
        stage: refuse a folder that another stage made.

    Raises:
        ManifestError: there is none, it is damaged, or it is another stage's.
    """
    expected = f"the finished output of {stage}" if stage else "a finished output"
    if not folder.exists(NAME):
        state = "an unfinished one" if folder.exists(_BEGUN) else "none"
        mend = "run the command that makes it"
        raise ManifestError(folder.url, expected, state, mend)
    try:
        manifest = _parse(json.loads(folder.read(NAME)))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        found = f"{type(error).__name__}: {str(error)[:_QUOTED]}"
        raise ManifestError(folder.path(NAME), "a manifest of ours", found) from error
    if stage and manifest.stage != stage:
        raise ManifestError(folder.url, expected, f"that of {manifest.stage}")
    return manifest


def _parse(value: Any) -> Manifest:
    if not isinstance(value, dict):
        raise TypeError("no object")
    value = {key: value[key] for key in value if key not in ("digest", "output_digest")}
    known = {item.name for item in dataclasses.fields(Manifest)}
    if unknown := sorted(value.keys() - known):
        raise ValueError(f"fields of a later version ({', '.join(unknown)})")
    for key, kind in _KINDS.items():
        if not isinstance(value.get(key, kind()), kind):
            raise TypeError(f"{key} is no {kind.__name__}")
    for key in ("inputs", "outputs"):
        value[key] = tuple(Artefact(**artefact) for artefact in value[key])
    value["counts"] = Counts(**value["counts"])
    value["made_from"] = tuple(Parent.parse(parent) for parent in value["made_from"])
    return Manifest(**value)


def config_dict(config: Any) -> dict[str, Any]:
    """Give the resolved config as plain values, every field."""
    resolved: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return resolved


def identify(config: Any, **inputs: Any) -> dict[str, Any]:
    """Collect what decides a stage's output: config fields without placement, and its inputs."""
    chosen: dict[str, Any] = json.loads(json.dumps(_without_placement(config) | inputs))
    return chosen


def identity_digest(identity: dict[str, Any]) -> str:
    """Digest an identity, to name folders or fingerprints by it."""
    return digest_bytes(json.dumps(identity, sort_keys=True).encode())


def _without_placement(config: Any) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if item.metadata.get("identity", True):
            chosen[item.name] = (
                _without_placement(value) if dataclasses.is_dataclass(value) else value
            )
    return chosen


def begin(
    folder: Folder, stage: str, identity: dict[str, Any], overwrite: bool = False
) -> Manifest | None:
    """Claim an output folder for one stage and identity, or find the work already done.

    Args:
        folder: to be written.
        stage: name of the stage, as in its manifest.
        identity: from ``identify``.
        overwrite: remove what an earlier run of this stage left.

    Returns:
        The manifest when the same output is finished; None when there is work to do, whether
        from the start or from where an earlier run stopped.

    Raises:
        OutputError: the folder holds something else.
    """
    present = [name for name in folder.names() if not name.startswith(".tmp-")]
    ours = is_output(present)
    if present and not ours:
        mend = "name another folder with --out"
        raise OutputError(folder.url, "an empty or new folder", f"{present[0]!r} in it", mend)
    if ours and not overwrite:
        finished = read(folder) if NAME in present else None
        found = finished.stage if finished else _begun(folder)["stage"]
        earlier = finished.identity if finished else _begun(folder)["identity"]
        if found != stage or _as_recorded(identity, earlier) != earlier:
            _refuse(folder, (stage, identity), (found, earlier))
        if finished:
            folder.remove(_BEGUN)  # left by a kill right after the manifest was written
            return finished
    elif ours:
        _clear(folder, stage, present)
    folder.sweep()
    if not folder.exists(_BEGUN):
        begun = {"stage": stage, "identity": identity}
        folder.commit(_BEGUN, json.dumps(begun, indent=2).encode())
    return None


def _as_recorded(identity: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """Leave out what an earlier version did not record yet, but the noise: its absence says which.

    What that version recorded and this one no longer asks stays a difference.
    """
    chosen: dict[str, Any] = {}
    for key, value in identity.items():
        old = earlier.get(key)
        if key in earlier and isinstance(value, dict) and isinstance(old, dict):
            chosen[key] = _as_recorded(value, old)
        elif key in earlier or key == _NOISE:
            chosen[key] = value
    return chosen


def _clear(folder: Folder, stage: str, present: list[str]) -> None:
    """Remove an earlier output of this stage, so that a kill halfway leaves one to overwrite."""
    found = stage
    with contextlib.suppress(ManifestError, OutputError):  # a damaged one may be replaced
        found = read(folder).stage if NAME in present else _begun(folder)["stage"]
    if found != stage:
        _refuse(folder, (stage, {}), (found, {}))
    marked = {"stage": stage, "identity": {"half_removed": True}}
    folder.commit(_BEGUN, json.dumps(marked).encode())
    for name in sorted(present, key=lambda name: name != NAME):
        if name != _BEGUN:
            folder.remove(name)
    folder.remove(_BEGUN)


def abandon(folder: Folder) -> None:
    """Take back what a run wrote that can never be finished, as its input is at fault.

    What cannot be taken back stays: the input's fault is to be told, not this one's. So does a
    symbolic link to the folder, which the user made.
    """
    with contextlib.suppress(OSError):
        for name in sorted(folder.names(), key=lambda name: name == _BEGUN):
            folder.remove(name)
        if folder.is_local and not os.path.islink(folder.path()):
            os.rmdir(folder.path())


def _begun(folder: Folder) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(folder.read(_BEGUN))
        return {"stage": value["stage"], "identity": dict(value["identity"])}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        mend = "start afresh with --overwrite true"
        raise OutputError(folder.path(_BEGUN), "a file of ours", "another", mend) from error


def _refuse(
    folder: Folder, asked: tuple[str, dict[str, Any]], found: tuple[str, dict[str, Any]]
) -> None:
    mend = "name another --out"
    if asked[0] != found[0]:
        raise OutputError(folder.url, f"the output of {asked[0]}", f"that of {found[0]}", mend)
    mend += ", or replace it with --overwrite true"
    new, old = flatten(_as_recorded(asked[1], found[1])), flatten(found[1])
    names = [name for name in sorted(new | old) if new.get(name) != old.get(name)]
    expected = ", ".join(f"{name}={new.get(name)}" for name in names[:3])
    other = ", ".join(f"{name}={old.get(name)}" for name in names[:3])
    raise OutputError(folder.url, f"an output made with {expected}", other, mend)


def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts to dotted names: ``{"a": {"b": 1}}`` to ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            flat |= flatten(item, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = item
    return flat


def funnel(manifest: Manifest) -> str:
    """Lay out where the rows went as a small table: read, each reason, kept."""
    counts = manifest.counts
    lines = [("read", counts.read)]
    lines += [(f"  dropped: {reason}", count) for reason, count in counts.dropped.items()]
    lines += [(f"  quarantined: {reason}", count) for reason, count in counts.quarantined.items()]
    lines.append(("kept", counts.kept))
    total = max(counts.read, 1)
    rows = [(name, f"{count:,}", f"{count / total:.2%}") for name, count in lines]
    return table(rows, ("rows", "count", "share"))


def versions() -> dict[str, str]:
    """Tell the versions of Python and of the packages that are installed here."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def absolute(url: str) -> str:
    """Give a local path as an absolute one, so that lineage holds from any working folder."""
    return str(Path(url).resolve()) if Folder(url).is_local else url
