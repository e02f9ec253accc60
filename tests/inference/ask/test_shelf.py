"""The catalogue kept in step with its shards: cleaned anew, removed, half made, damaged."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data.artefacts import manifest
from data.errors import ManifestError
from inference.ask import search
from inference.ask.shelf import Shelf
from tests.builders import write_clean

PANS = [(f"p{i}", f"Frying Pan No. {i}", f"Fries {i}.") for i in range(20)]
BOOKS = [(f"b{i}", f"Book No. {i}", f"Reads {i}.") for i in range(20)]
PANS_LATER = [*BOOKS[:10], *PANS]


def find(shelf: Shelf, title: str) -> tuple[int, str]:
    with shelf.opened() as (db, digest):
        return search.find(db, title)[0].row, digest


def make(clean: Path, rows: list[tuple[str, str, str]]) -> Path:
    shutil.rmtree(clean, ignore_errors=True)
    return write_clean(clean, rows, parts=1)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return make(tmp_path / "clean", PANS)


def test_a_catalogue_cleaned_anew_is_indexed_anew(clean: Path) -> None:
    shelf = Shelf(str(clean))
    row, digest = find(shelf, "Frying Pan No. 7")
    assert shelf.record(row, digest).uid == "p7"
    make(clean, PANS_LATER)
    # What was found before is not looked up in the other one.
    with pytest.raises(ManifestError, match="another by now"):
        shelf.record(row, digest)
    row, digest = find(shelf, "Frying Pan No. 7")
    assert shelf.record(row, digest).uid == "p7"
    row, digest = find(shelf, "Book No. 7")
    assert shelf.record(row, digest).uid == "b7"
    assert shelf.digest == digest


def test_a_catalogue_that_is_gone_or_half_made_is_told(clean: Path) -> None:
    shelf = Shelf(str(clean))
    (clean / manifest.NAME).unlink()
    with pytest.raises(ManifestError, match="the finished output of clean"):
        find(shelf, "Frying Pan No. 7")
    shutil.rmtree(clean)
    with pytest.raises(ManifestError, match="the finished output of clean"):
        find(shelf, "Frying Pan No. 7")
    make(clean, BOOKS)
    row, digest = find(shelf, "Book No. 3")
    assert shelf.record(row, digest).uid == "b3"


def test_an_index_damaged_while_it_is_used_is_made_anew(clean: Path) -> None:
    shelf = Shelf(str(clean))
    file = Path(f"{clean}-titles") / "titles.sqlite"
    other = file.with_name("other")
    other.write_bytes(b"x" * file.stat().st_size)
    other.replace(file)
    # Another thread opens it now; this one may still read what it has in memory.
    with ThreadPoolExecutor(1) as pool, pytest.raises(ManifestError, match="ask again"):
        pool.submit(find, shelf, "Frying Pan No. 7").result()
    row, digest = find(shelf, "Frying Pan No. 7")
    assert shelf.record(row, digest).uid == "p7"
