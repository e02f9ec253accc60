"""A tiny random Llama with an adapter of its own as a finished run, and titles to write for."""

import os
from pathlib import Path
from typing import Any

import pytest

# Before any library that reads them is imported, here and in the workers.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from data.artefacts import schema
from data.artefacts.folder import Artefact, Folder, digest_file
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.parts import commit_part, part_name
from tests.builders import finish_run, save_adapter, save_base


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: base, adapter and manifest. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("models") / "run"
    save_base(folder / "base")
    save_adapter(folder / "adapter", folder / "base")
    return finish_run(folder)


@pytest.fixture(scope="session")
def subset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A subset of literal rows, made by hand: 6 train rows, 3 validation, 5 test."""
    from datasets import Dataset, DatasetDict

    folder = tmp_path_factory.mktemp("subset") / "subset"
    splits = {}
    for split, rows in {"train": 6, "validation": 3, "test": 5}.items():
        columns: dict[str, list[Any]] = {name: [] for name in schema.SUBSET.names}
        for i in range(rows):
            row = (f"{split}-{i}", f"{split} kettle {i}", "Boils.", i, "raw.json", 10 * i, i)
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
        splits[split] = Dataset.from_dict(columns)
    DatasetDict(splits).save_to_disk(str(folder))
    outputs = []
    for split, made in splits.items():
        name = f"{split}/data-00000-of-00001.arrow"
        file = folder / name
        outputs.append(Artefact(name, len(made), file.stat().st_size, digest_file(file)))
    counts = Counts(14, 14)
    Manifest("subset", {}, {"size": 6}, (), tuple(outputs), counts).write(Folder(str(folder)))
    return folder


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clean shards of literal rows in two parts, the second without a validation row."""
    import pyarrow as pa

    folder = tmp_path_factory.mktemp("clean") / "clean"
    rows = [("a", "A", "test"), ("b", "B", "train"), ("c", "C", "validation")]
    more = [("d", "D", "train"), ("e", "E", "test"), ("f", "F", "test")]
    outputs = []
    for index, part in enumerate((rows, more)):
        table = pa.Table.from_pylist(
            [
                {
                    **{"uid": uid, "title": title, "content": "Boils.", "split": split},
                    **{"sample_key": i, "source": "raw.json", "byte_offset": i},
                }
                for i, (uid, title, split) in enumerate(part)
            ],
            schema=schema.CLEAN,
        )
        outputs.append(commit_part(Folder(str(folder)), part_name(index), table))
    Manifest("clean", {}, {"seed": 1}, (), tuple(outputs), Counts(6, 6)).write(Folder(str(folder)))
    return folder
