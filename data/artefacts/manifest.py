"""What a stage read, kept, dropped and wrote: digests, lineage, balance.

A manifest is written last, so a folder without one is unfinished. Its digest leaves out paths,
seconds and versions: the same data made by the same settings has the same digest on any machine.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import platform
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from data.artefacts.folder import Artefact, Folder, check_file, digest_all, digest_bytes
from data.artefacts.parts import PART
from data.cli.forgotten import MAKERS
from data.console import table
from data.errors import BalanceError, ManifestError, OutputError

NAME = "manifest.json"
BEGUN = "begun.json"
"""Says what is being made of a folder that has no manifest yet."""
_PACKAGES = (
    "pyarrow", "dask", "distributed", "ftfy", "datasets", "torch", "transformers", "trl", "peft",
    "unsloth",
)  # fmt: skip
# Characters of what is wrong with a manifest that an error shows.
_QUOTED = 200
# Digests that a manifest holds of itself.
_SEALS = ("digest", "output_digest", "checksum")
_KINDS = {"stage": str, "config": dict, "identity": dict, "facts": dict, "versions": dict}


def placement(default: Any) -> Any:
    """Declare a config field that says where or how work runs and never changes its output."""
    return field(default=default, metadata={"identity": False})


OPTIONAL = {"optional": True}
"""Metadata of a config field that is recorded only where it differs from its default, so that what
was made before there was the field keeps its identity."""


@dataclass(frozen=True)
class Counts:
    """How many rows came in and where each went; adding two adds every number."""

    read: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)

    @classmethod
    def tally(
        cls, where: str, read: int, kept: int, dropped: dict[str, int], quarantine: pa.Table
    ) -> "Counts":
        """Count rows of which some are quarantined, each for a ``reason``, and check the balance.

        Raises:
            BalanceError: as ``check``.
        """
        reasons = quarantine.column("reason").value_counts().to_pylist()
        quarantined = {reason["values"]: reason["counts"] for reason in reasons}
        counts = cls(read, kept, dropped, quarantined)
        counts.check(where)
        return counts

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
        work = [self.stage, self.identity, dataclasses.asdict(self.counts)]
        text = json.dumps([work, parents, inputs, outputs], sort_keys=True)
        return digest_bytes(text.encode())

    @property
    def parts(self) -> tuple[Artefact, ...]:
        """The Parquet parts, quarantine left out, in order."""
        return tuple(output for output in self.outputs if PART.fullmatch(output.path))

    @property
    def attributes(self) -> list[str]:
        """Name the attributes of a clean folder's or a subset's rows, in order of their columns."""
        return list(self.facts.get("attributes", self.config.get("attributes", [])))

    def check_attributes(self, where: str, names: Iterable[str]) -> None:
        """Check that rows have the attributes that prompts show.

        Raises:
            ManifestError: one is missing; names those that there are.
        """
        if lacking := [name for name in names if name not in self.attributes]:
            expected = f"attributes {', '.join(lacking)}, which prompts show"
            hint = "keep more with preprocessing clean --attributes"
            raise ManifestError(where, expected, ", ".join(self.attributes) or "none", hint)

    def part(self, name: str) -> Artefact | None:
        """Find an output by its path."""
        return next((output for output in self.outputs if output.path == name), None)

    def lost(self, folder: Folder) -> list[str]:
        """List the outputs that are missing or have another size."""
        sizes = folder.sizes()
        return [file.path for file in self.outputs if sizes.get(file.path) != file.bytes]

    def check(self, folder: Folder, inside: str = "") -> None:
        """Compare the bytes of local outputs with their digests, ``inside`` a path alone.

        Raises:
            ManifestError: one is missing or changed; names it.
        """
        for output in self.outputs:
            if output.path.startswith(inside):
                check_file(folder, output)

    def as_parent(self, path: str) -> Parent:
        """Name this manifest as one that the next stage is made from."""
        return Parent(self.stage, path, self.digest, self.made_from)

    def write(self, folder: Folder) -> None:
        """Check the balance, write ``manifest.json`` and so declare the folder finished.

        Raises:
            BalanceError: rows are not all accounted for.
            OutputError: an output is gone or has another size: somebody touched the folder.
        """
        self.counts.check(folder.url)
        if lost := self.lost(folder):
            hint = "run the same command again, and nothing beside it that touches the folder"
            expected = "the files that were written"
            raise OutputError(folder.url, expected, f"no whole {lost[0]}", hint)
        folder.sweep()
        value = dataclasses.asdict(self)
        value["digest"] = self.digest
        value["output_digest"] = digest_all([output.digest for output in self.outputs])
        value["checksum"] = _checksum(value)
        folder.commit(NAME, _encode(value))
        folder.remove(BEGUN)


def ancestor(parents: Iterable[Parent], stage: str) -> Parent | None:
    """Find the nearest manifest of a stage among parents and theirs; the first of several."""
    generation = list(parents)
    while generation:
        if nearest := next((parent for parent in generation if parent.stage == stage), None):
            return nearest
        generation = [older for parent in generation for older in parent.made_from]
    return None


def _checksum(value: dict[str, Any]) -> str:
    """Digest everything that a manifest says."""
    text = json.dumps({key: value[key] for key in value if key != "checksum"}, sort_keys=True)
    return digest_bytes(text.encode())


def _encode(value: dict[str, Any]) -> bytes:
    # Halves of surrogates, as names that are not UTF-8 have them, become JSON's own escapes.
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")


def is_output(names: Collection[str]) -> bool:
    """Whether a stage has written a folder of these files, or has begun to.

    A folder that was only begun holds whole parts, but not all: ``read`` refuses it.
    """
    return NAME in names or BEGUN in names


def read(folder: Folder, stage: str | None = None) -> Manifest:
    """Read the manifest of a finished folder, of any stage or of one alone.

    Raises:
        ManifestError: there is none, it is damaged, or it is another stage's.
    """
    expected = f"the finished output of {stage}" if stage else "a finished output"
    if not folder.exists(NAME):
        state = "an unfinished one" if folder.exists(BEGUN) else "none"
        maker = MAKERS.get(stage or "")
        hint = f"{maker} makes one" if maker else "run the command that makes it"
        raise ManifestError(folder.url, expected, state, hint)
    try:
        manifest = _parse(json.loads(folder.read(NAME)))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        fault = f"{type(error).__name__}: {str(error)[:_QUOTED]}"
        raise ManifestError(folder.path(NAME), "a manifest of ours", fault) from error
    if stage and manifest.stage != stage:
        raise ManifestError(folder.url, expected, f"that of {manifest.stage}")
    return manifest


def _parse(value: Any) -> Manifest:
    if not isinstance(value, dict):
        raise TypeError("no object")
    seals = {key: value.get(key) for key in _SEALS}
    if seals["checksum"] not in (None, _checksum(value)):
        raise ValueError("what it says was changed since it was written")
    value = {key: value[key] for key in value if key not in _SEALS}
    fields = {item.name for item in dataclasses.fields(Manifest)}
    if unknown := sorted(value.keys() - fields):
        raise ValueError(f"fields of a later version ({', '.join(unknown)})")
    for key, kind in _KINDS.items():
        if not isinstance(value.get(key, kind()), kind):
            raise TypeError(f"{key} is no {kind.__name__}")
    for key in ("inputs", "outputs"):
        value[key] = tuple(Artefact(**artefact) for artefact in value[key])
    value["counts"] = Counts(**value["counts"])
    value["made_from"] = tuple(Parent.parse(parent) for parent in value["made_from"])
    manifest = Manifest(**value)
    if seals["digest"] not in (None, manifest.digest):  # of an earlier version, without a checksum
        raise ValueError("its digest is that of other outputs, inputs or settings")
    return manifest


def config_dict(config: Any) -> dict[str, Any]:
    """Return the resolved config as plain values, every field but ``OPTIONAL`` ones not set."""
    resolved: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return _recorded(config, resolved)


def _recorded(config: Any, resolved: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in resolved.items() if name not in _unset(config)}
    for name in kept:
        if dataclasses.is_dataclass(inner := getattr(config, name)):
            kept[name] = _recorded(inner, kept[name])
    return kept


def identify(config: Any, **inputs: Any) -> dict[str, Any]:
    """Collect what decides a stage's output: config fields without placement, and its inputs."""
    chosen: dict[str, Any] = json.loads(json.dumps(_without_placement(config) | inputs))
    return chosen


def identity_digest(identity: dict[str, Any]) -> str:
    """Digest an identity, to name folders or fingerprints by it."""
    return digest_bytes(json.dumps(identity, sort_keys=True).encode())


def _unset(config: Any) -> set[str]:
    """Name the optional fields that have their default."""
    defaults = {
        item.name: [] if item.default is dataclasses.MISSING else item.default
        for item in dataclasses.fields(config)
        if item.metadata.get("optional")
    }
    return {name for name, default in defaults.items() if getattr(config, name) == default}


def _without_placement(config: Any) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    unset = _unset(config)
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if item.metadata.get("identity", True) and item.name not in unset:
            if dataclasses.is_dataclass(value):
                own = getattr(value, "recorded", None)
                value = _without_placement(value) if own is None else own
            chosen[item.name] = value
    return chosen


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
    """Return a small table of where the rows went: read, each reason, kept."""
    counts = manifest.counts
    lines = [("read", counts.read)]
    lines += [(f"  dropped: {reason}", count) for reason, count in counts.dropped.items()]
    lines += [(f"  quarantined: {reason}", count) for reason, count in counts.quarantined.items()]
    lines.append(("kept", counts.kept))
    total = max(counts.read, 1)
    rows = [(name, f"{count:,}", f"{count / total:.2%}") for name, count in lines]
    return table(rows, ("rows", "count", "share"))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that are installed here."""
    installed = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[package] = importlib.metadata.version(package)
    return installed


def absolute(url: str) -> str:
    """Return a local path as an absolute one, so that lineage holds from any working folder."""
    return str(Path(url).resolve()) if Folder(url).is_local else url
