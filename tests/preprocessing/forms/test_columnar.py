"""Damaged files of columns: an error each, never the end of the process or rows left out."""

import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import SourceError
from preprocessing import forms
from preprocessing.fields import Fields
from preprocessing.files import find

TEXTS = [f"word {i}" for i in range(20)]
ROWS = pa.table({"uid": TEXTS, "title": TEXTS, "content": TEXTS})


def written(rows: pa.Table, opening: Any = pa.ipc.new_stream) -> bytes:
    sink = io.BytesIO()
    with opening(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue()


def count(path: Path, fields: Fields | None = None) -> int:
    (file,) = find(str(path))
    return sum(len(block.starts) for block, _ in forms.records(file, fields or Fields(), 2**20, 99))


@pytest.mark.parametrize("kind", ["text", "dictionary", "list"])
@pytest.mark.parametrize("opening", [pa.ipc.new_stream, pa.ipc.new_file], ids=["stream", "file"])
def test_offsets_that_lead_out_of_a_batch_are_an_error(
    tmp_path: Path, kind: str, opening: Any
) -> None:
    titles = pa.array(TEXTS)
    if kind == "dictionary":
        titles = titles.dictionary_encode()
    if kind == "list":
        titles = pa.array([[text] for text in TEXTS])
    rows = ROWS.set_column(1, "title", titles)
    payload = written(rows, opening)
    offsets = pa.array(TEXTS).buffers()[1].to_pybytes()[:84]
    if kind == "list":
        offsets = bytes(titles.buffers()[1])[:84]
    at = payload.index(offsets, payload.index(offsets) + 1 if kind == "text" else 0)
    damaged = bytearray(payload)
    damaged[at + 42] ^= 0x40  # of the tenth offset, the third byte
    path = tmp_path / "a.arrow"
    path.write_bytes(bytes(damaged))
    with pytest.raises(SourceError, match=r"expected readable rows.*fetch it again"):
        count(path, Fields(is_strict=False))


def test_text_that_is_no_utf8_costs_its_row_alone(tmp_path: Path) -> None:
    titles = pa.array([b"\xff", *(text.encode() for text in TEXTS[1:])]).view(pa.string())
    for column in (titles, titles.dictionary_encode(), pa.array([[b"\xff"]] * 20).view(
        pa.list_(pa.string()))):  # fmt: skip
        path = tmp_path / "a.arrow"
        path.write_bytes(written(ROWS.set_column(1, "title", column)))
        assert count(path, Fields(is_strict=False)) == 20


@pytest.mark.parametrize("opening", [pa.ipc.new_stream, pa.ipc.new_file], ids=["stream", "file"])
def test_rows_behind_the_end_are_an_error(tmp_path: Path, opening: Any) -> None:
    payload = written(ROWS, opening)
    path = tmp_path / "a.arrow.gz"
    path.write_bytes(gzip.compress(payload))
    assert count(path) == 20
    path.write_bytes(gzip.compress(payload + payload))
    with pytest.raises(SourceError, match=r"one Arrow file or stream, found more behind its end"):
        count(path)
    path.write_bytes(payload + payload)
    with pytest.raises(SourceError, match="more behind its end"):
        count(path)


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gz"])
@pytest.mark.parametrize(
    "settings", [{}, {"write_page_index": True}, {"row_group_size": 7}], ids=str
)
def test_parquet_files_put_together_are_an_error(
    tmp_path: Path, packed: Any, settings: dict[str, Any]
) -> None:
    sink = io.BytesIO()
    pq.write_table(ROWS, sink, **settings)
    path = tmp_path / "a.parquet"
    path.write_bytes(packed(sink.getvalue()))
    assert count(path) == 20
    for copies in (2, 3):
        path.write_bytes(packed(copies * sink.getvalue()))
        with pytest.raises(SourceError, match="one Parquet file, found several in one; give each"):
            count(path)


def test_parquet_without_rows_or_groups_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(ROWS.slice(0, 0), path)
    assert count(path) == 0
    with pq.ParquetWriter(path, ROWS.schema) as writer:
        for part in (ROWS.slice(0, 0), ROWS, ROWS.slice(0, 0)):
            writer.write_table(part)
    assert count(path) == 20
    with pq.ParquetWriter(path, ROWS.schema):
        pass
    assert count(path) == 0


def test_a_uid_of_floats_is_the_digits_of_its_number_or_none(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for kind, large in ((pa.float64(), 9007199254740991), (pa.float32(), 16777215)):
        numbers = [1.0, None, float("nan"), 1.5, -0.0, large, large + 1, float("inf")]
        uids = pa.array(numbers, pa.float64()).cast(kind)
        pq.write_table(ROWS.slice(0, 8).set_column(0, "uid", uids), path)
        (file,) = find(str(path))
        [(block, _)] = forms.records(file, Fields(), 2**20, 99)
        parsed = forms.parse(block, file, Fields(), 99)
        assert parsed.rows["uid"].to_pylist() == ["1", "1.5", "0", str(large)]
        assert parsed.quarantine["reason"].to_pylist() == ["missing_field", *["wrong_type"] * 3]
