"""A finished subset, memory-mapped: the one way to open it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from data.artefacts import manifest, schema
from data.artefacts.folder import Artefact, Folder, digest_all, local_path
from data.artefacts.manifest import Manifest, Parent

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Subset:
    """A subset on disk, whose files are those that its manifest lists."""

    path: Path
    record: Manifest

    @classmethod
    def open(cls, url: str) -> "Subset":
        """Open a finished subset.

        Raises:
            ConfigError: it lies on another machine.
            ManifestError: it is none, or a file of it was changed.
        """
        path = local_path(url, "--subset")
        record = manifest.read(Folder(url), "subset")
        record.check(Folder(url))
        return cls(path, record)

    @property
    def parent(self) -> Parent:
        """The subset as a manifest names what it was made from."""
        return self.record.as_parent(manifest.absolute(str(self.path)))

    @property
    def attributes(self) -> list[str]:
        """Name the attributes of its rows, in the order of their columns."""
        return self.record.attributes

    @property
    def schema(self) -> pa.Schema:
        """Return the columns of its rows: ``SUBSET`` and a column an attribute."""
        return schema.with_attributes(schema.SUBSET, self.attributes)

    def count(self, split: str) -> int:
        """Count the rows of a split; 0 where the subset has none."""
        return sum(file.rows for file in self._files(split))

    def digest(self, split: str) -> str:
        """Digest the files of a split."""
        return digest_all([file.digest for file in self._files(split)])

    def _files(self, split: str) -> list[Artefact]:
        return [file for file in self.record.outputs if file.path.startswith(f"{split}/")]

    def batches(self, split: str) -> Iterator[pa.RecordBatch]:
        """Stream the rows of a split in order; ``datasets`` leaves files of its own beside ours."""
        for name in sorted(file.path for file in self._files(split)):
            path = str(self.path / name)
            with pa.memory_map(path) as source, pa.ipc.open_stream(source) as reader:
                yield from reader

    def rows(self, split: str, columns: list[str]) -> pa.Table:
        """Map columns of a split into memory; maybe no rows."""
        plain = [pa.field(name, self.schema.field(name).type) for name in columns]
        batches = [batch.select(columns) for batch in self.batches(split)]
        return pa.Table.from_batches(batches, pa.schema(plain) if not batches else None)

    def dataset(self, split: str) -> "Dataset":
        """Open a split for ``datasets``, from the files that were checked alone."""
        from datasets import Dataset, concatenate_datasets

        files = [str(self.path / file.path) for file in self._files(split)]
        return concatenate_datasets([Dataset.from_file(file, split=split) for file in files])
