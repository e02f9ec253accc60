"""A subset on the hub: its rows, its warning, and its description in Croissant."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from data.artefacts.dataset import Subset
from tests.training.publish.conftest import Chain, Publish
from tests.training.publish.hub import Hub
from training.publish import dataset, dataset_card
from training.publish.config import PublishConfig


@pytest.fixture
def written(chain: Chain, tmp_path: Path) -> Path:
    subset = Subset.open(str(chain.subset))
    config = PublishConfig(to="user/kettles", subset=str(chain.subset))
    dataset.write(subset, tmp_path / "files", config)
    return tmp_path / "files"


def test_rows_are_the_subsets_without_where_they_came_from(chain: Chain, written: Path) -> None:
    subset = Subset.open(str(chain.subset))
    for split in ("train", "validation", "test"):
        table = pq.read_table(written / f"data/{split}.parquet")
        names = ["uid", "title", "content", "brand"]
        assert table.column_names == names
        assert table.to_pylist() == subset.rows(split, names).to_pylist()
        assert len(table)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of rdflib, by mlcroissant
def test_croissant_is_valid_and_reads_the_rows(
    chain: Chain, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlcroissant")
    import mlcroissant

    described = mlcroissant.Dataset(jsonld=str(written / dataset.CROISSANT))
    assert not described.metadata.ctx.issues.errors
    rows = list(described.records("train"))
    table = pq.read_table(written / "data/train.parquet")
    expected = [
        {f"train/{name}": value.encode() for name, value in row.items()}
        for row in table.to_pylist()
    ]
    assert rows == expected


def test_it_is_private_and_warns_of_others_texts(chain: Chain, hub: Hub, publish: Publish) -> None:
    done = publish(f"--subset={chain.subset}")
    assert done.returncode == 0, done.stderr
    assert hub.repositories["datasets/user/kettles"]["private"] is True
    files = hub.files("datasets/user/kettles")
    assert files.keys() == {
        "README.md", "croissant.json", "data/train.parquet", "data/validation.parquet",
        "data/test.parquet",
    }  # fmt: skip
    card = files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert [one["split"] for one in metadata["configs"][0]["data_files"]] == [
        "train", "validation", "test",
    ]  # fmt: skip
    assert dataset_card.WARNING in card
    assert "None is granted." in card
    assert "license" not in metadata
    assert str(chain.subset.parent) not in card + files["croissant.json"].decode()


def test_sizes_are_the_hubs_classes() -> None:
    assert [dataset_card._size(rows) for rows in (1, 999, 1_000, 2_000_000)] == [
        "n<1K", "n<1K", "1K<n<10K", "1M<n<10M",
    ]  # fmt: skip


def test_croissant_names_the_files_with_their_digests(written: Path) -> None:
    import hashlib

    described = json.loads((written / dataset.CROISSANT).read_text())
    for file in described["distribution"]:
        payload = (written / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(payload).hexdigest()
        assert file["contentSize"] == f"{len(payload)} B"
