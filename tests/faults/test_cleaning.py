"""The fault scripts of cleaning on small files: what they promise holds, and they see where not."""

from pathlib import Path
from typing import Any

import pytest

from data.__main__ import main as data
from data.synthetic.broken import _COMMON, FORMS
from preprocessing.__main__ import main as preprocessing
from tests.faults import broken, texts
from tests.faults.cleaning import OPEN, digests


def invent(raw: Path, *words: str) -> Path:
    assert data(["synthesize", f"--out={raw}", "--workers=1", *words]) == 0
    return raw


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("broken") / "trn.json"
    return invent(raw, "--rows=8000", "--broken_share=0.1")


def test_lines_broken_in_every_way_are_quarantined_where_they_stand_and_all_others_kept(
    lines: Path, scheduler: str, tmp_path: Path
) -> None:
    words = (f"--source={lines}", f"--scheduler={scheduler}", *OPEN, "--max_quarantined_share=1")
    assert preprocessing(["clean", *words, f"--out={tmp_path}", "--block_bytes=500000"]) == 0
    ways = broken.check(lines, tmp_path, share=0.1)
    common = {f"{way.reason}: {way.form}" for reason in _COMMON
              for way in FORMS[reason]}  # fmt: skip
    assert common < set(ways)
    # Against other lines than were broken, the check fails.
    with pytest.raises(SystemExit, match="other lines stand in quarantine"):
        broken.check(lines, tmp_path, share=0.09)


def test_defective_texts_are_repaired_as_the_definition_has_them(
    scheduler: str, tmp_path: Path
) -> None:
    raw = invent(tmp_path / "trn.json", "--rows=3000", "--defects=10")
    words = (f"--source={raw}", f"--scheduler={scheduler}", *OPEN)
    assert preprocessing(["clean", *words, f"--out={tmp_path / 'clean'}"]) == 0
    rows, changed = texts.check(raw, tmp_path / "clean")
    assert rows == 3_000
    assert changed > 1_000
    # A text that was treated in another way is seen.
    other = (f"--out={tmp_path / 'other'}", "--rules.remove_characters=-")
    assert preprocessing(["clean", *words, *other]) == 0
    with pytest.raises(SystemExit, match="expected"):
        texts.check(raw, tmp_path / "other")


def test_a_changed_or_additional_file_is_seen(tmp_path: Path) -> None:
    (tmp_path / "part-00000.parquet").write_bytes(b"a")
    before: dict[str, Any] = digests(tmp_path)
    (tmp_path / "manifest.json").write_bytes(b"seconds")
    assert digests(tmp_path) == before
    (tmp_path / "quarantine").mkdir()
    (tmp_path / "quarantine" / ".tmp-part").write_bytes(b"")
    assert digests(tmp_path) != before
