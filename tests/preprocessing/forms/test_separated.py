"""Tables put one behind the other: the second header is no row."""

from codecs import BOM_UTF8
from pathlib import Path

import pytest

from preprocessing import forms
from preprocessing.fields import Fields
from preprocessing.files import find

TABLE = b"uid,title,content\n1,a,b\ntitle,title,content\n"


def test_a_header_between_rows_is_quarantined(tmp_path: Path) -> None:
    path = tmp_path / "raw.csv"
    path.write_bytes(TABLE + TABLE)
    (file,) = find(str(path))
    [(block, _)] = forms.records(file, Fields(), 2**20, 100)
    parsed = forms.parse(block, file, Fields(), 100)
    assert parsed.rows["uid"].to_pylist() == ["1", "title", "1", "title"]
    assert parsed.rows["title"].to_pylist() == ["a", "title"] * 2
    assert parsed.quarantine.select(["byte_offset", "reason"]).to_pylist() == [
        {"byte_offset": len(TABLE), "reason": "repeated_header"}
    ]


@pytest.mark.parametrize("header", ["uid,title,content\n", '"uid","title","content"\n'])
def test_a_header_behind_a_byte_order_mark_is_one_too(header: str, tmp_path: Path) -> None:
    path = tmp_path / "raw.csv"
    path.write_bytes(2 * (BOM_UTF8 + header.encode() + b"1,a,b\n"))
    (file,) = find(str(path))
    [(block, _)] = forms.records(file, Fields(), 2**20, 100)
    parsed = forms.parse(block, file, Fields(), 100)
    assert parsed.rows["uid"].to_pylist() == ["1", "1"]
    assert parsed.quarantine["reason"].to_pylist() == ["repeated_header"]
