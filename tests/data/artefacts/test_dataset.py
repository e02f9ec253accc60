"""A subset is what its manifest lists, whatever lies beside it."""

from pathlib import Path

import datasets

from data.artefacts.dataset import Subset
from data.subset import SubsetConfig, run
from tests.builders import write_clean


def test_what_datasets_caches_beside_the_rows_is_none_of_them(tmp_path: Path) -> None:
    rows = [(f"u{place}", f"Title {place}", f"Content {place}") for place in range(40)]
    clean = write_clean(tmp_path / "clean", rows)
    run(SubsetConfig(clean=str(clean), out=str(tmp_path / "subset")))
    before = Subset.open(str(tmp_path / "subset")).rows("train", ["content"])
    loaded = datasets.load_from_disk(str(tmp_path / "subset"))["train"]
    loaded.map(lambda row: {"text": row["title"]}, remove_columns=loaded.column_names)
    assert list((tmp_path / "subset" / "train").glob("cache-*.arrow"))
    assert Subset.open(str(tmp_path / "subset")).rows("train", ["content"]) == before
