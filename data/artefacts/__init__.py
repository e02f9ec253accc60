"""Artefacts on disk: folders, Parquet parts, manifests, subsets and runs."""

from data.artefacts.dataset import Subset
from data.artefacts.folder import Artefact, Folder
from data.artefacts.manifest import Counts, Manifest, Parent
from data.artefacts.run import Run, RunFacts

__all__ = ["Artefact", "Counts", "Folder", "Manifest", "Parent", "Run", "RunFacts", "Subset"]
