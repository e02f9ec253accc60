"""What is recorded of a model: its export, run, subset and clean rows, and their report."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.artefacts import manifest
from data.artefacts.folder import Folder, local_path
from data.artefacts.manifest import Manifest, Parent
from data.errors import ManifestError

_FORMAT = 1
"""Of ``report.json``."""


@dataclass(frozen=True)
class Lineage:
    """Manifests by stage: those that are still where others name them, unchanged."""

    top: Manifest
    stages: dict[str, Manifest]
    gone: tuple[str, ...]
    """Stages that are named, but no longer there."""

    @classmethod
    def of(cls, top: Manifest) -> "Lineage":
        """Follow a manifest's parents as far as they are there."""
        stages, gone = {top.stage: top}, []
        parents = list(top.made_from)
        while parents:
            parent = parents.pop(0)
            parents += parent.made_from
            if parent.stage in stages or parent.stage in gone:
                continue
            if record := _read(parent):
                stages[parent.stage] = record
            else:
                gone.append(parent.stage)
        return cls(top, stages, tuple(gone))

    def digests(self) -> list[tuple[str, str]]:
        """List stages with their digests, the model first, whether they are there or not."""
        listed, parents = [(self.top.stage, self.top.digest)], list(self.top.made_from)
        while parents:
            parent = parents.pop(0)
            listed.append((parent.stage, parent.digest))
            parents += parent.made_from
        return list(dict.fromkeys(listed))


def _read(parent: Parent) -> Manifest | None:
    try:
        record = manifest.read(Folder(parent.path), parent.stage)
    except (ManifestError, OSError):
        return None
    return record if record.digest == parent.digest else None


def without_paths(record: Manifest) -> Manifest:
    """Leave this machine's paths out of a manifest; its digest stays, as it holds none."""
    facts = dict(record.facts)
    if os.path.isabs(str(facts.get("base", ""))):
        facts["base"] = os.path.basename(facts["base"])
    parents = tuple(map(_pathless, record.made_from))
    return replace(record, config={}, facts=facts, made_from=parents)


def _pathless(parent: Parent) -> Parent:
    name = os.path.basename(parent.path.rstrip("/\\"))
    return replace(parent, path=name, made_from=tuple(map(_pathless, parent.made_from)))


@dataclass(frozen=True)
class Report:
    """What an evaluation says of one run."""

    values: dict[str, Any]
    """All of ``report.json``."""
    key: str
    """Of the run among the systems."""
    digest: str

    @property
    def verdict(self) -> dict[str, Any]:
        """What was judged of the run."""
        verdicts: list[dict[str, Any]] = self.values["verdicts"]
        return next(verdict for verdict in verdicts if verdict["candidate"] == self.key)


def open_report(url: str, run: str | None) -> Report:
    """Read the report of a run.

    Args:
        url: folder of the report.
        run: digest of the run that the model was exported from.

    Raises:
        ManifestError: there is none, it is damaged, or it is of other runs.
    """
    folder = Folder(str(local_path(url, "--report")))
    record = manifest.read(folder, "evaluate")
    record.check(folder)
    values = json.loads(Path(folder.path("report.json")).read_text(encoding="utf-8"))
    if values.get("format") != _FORMAT:
        expected = f"a report of the form {_FORMAT}"
        raise ManifestError(url, expected, str(values.get("format")), "evaluate again")
    paths = [own["path"] for own in values["runs"] if own["digest"] == run]
    keys = [
        system["key"]
        for system in values["candidates"]
        if system["run"] in paths and system["kind"] == "adapter"
    ]
    judged = {verdict["candidate"] for verdict in values["verdicts"]}
    if not (keys := [key for key in keys if key in judged]):
        hint = "evaluate the run that was exported"
        raise ManifestError(url, "a report of the run that was exported", "one of others", hint)
    return Report(values, keys[0], record.digest)
