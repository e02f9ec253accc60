"""Tables put one behind the other: the second header is no row."""

from codecs import BOM_UTF8
from pathlib import Path

import pytest

from data.errors import SourceError
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


HEADER = b"uid,title,content,price\n"
PART = HEADER + b"1,a,b,2\n"


def test_a_header_in_another_case_is_quarantined(tmp_path: Path) -> None:
    path = tmp_path / "raw.csv"
    path.write_bytes(PART + b"UID, Title ,CONTENT,Cost\n2,a,b,3\n")
    (file,) = find(str(path))
    [(block, _)] = forms.records(file, Fields(), 2**20, 100)
    parsed = forms.parse(block, file, Fields(), 100)
    assert parsed.rows["uid"].to_pylist() == ["1", "2"]
    assert parsed.quarantine["reason"].to_pylist() == ["repeated_header"]


@pytest.mark.parametrize(
    "header",
    [
        b"title,uid,content,price\n", b"uid,title,price,content\n", b"Content,Title,UID,Cost\n",
        b'\xef\xbb\xbf"title","uid","content","price"\n', b",uid,title,content\n",
        b"uid,title,content,cost\n", b"id,name,price,description\n", b"id,price,name,text\n",
    ],
)  # fmt: skip
def test_a_header_of_other_columns_ends_the_run(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "raw.csv"
    path.write_bytes(PART + header + b"a,2,b,3\n")
    (file,) = find(str(path))
    fields = Fields(attributes=(("price", "price"),))
    [(block, _)] = forms.records(file, fields, 2**20, 100)
    with pytest.raises(SourceError, match=rf"expected one table.* -c {len(PART)} .* -c \+"):
        forms.parse(block, file, fields, 100)


def test_rows_with_short_cells_are_no_headers(tmp_path: Path) -> None:
    path = tmp_path / "raw.csv"
    path.write_bytes(PART + b"id,name,x,price\nuid,title,x,price\ntitle,content,price,uid2\n")
    (file,) = find(str(path))
    [(block, _)] = forms.records(file, Fields(), 2**20, 100)
    assert forms.parse(block, file, Fields(), 100).rows.num_rows == 4


@pytest.mark.parametrize(
    "line", ['{"uid": "1", "title": "a", "content": "b"}', "{'a': 1, 'b': 2, 'c': 3}"]
)
def test_an_object_of_json_is_no_row(line: str, tmp_path: Path) -> None:
    path = tmp_path / "raw.csv"
    path.write_text(f'uid,title,content\n1,a,b\n{line}\n{{"x":2}},a,b\n')
    (file,) = find(str(path))
    [(block, _)] = forms.records(file, Fields(), 2**20, 100)
    parsed = forms.parse(block, file, Fields(), 100)
    assert parsed.rows["uid"].to_pylist() == ["1", '{"x":2}']
    assert parsed.quarantine["reason"].to_pylist() == ["invalid_csv"]
