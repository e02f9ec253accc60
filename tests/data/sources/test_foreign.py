"""Files that hold no records: each is named, with what to type; the commands do what they say."""

import bz2
import gzip
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest

from data.errors import CatalogueError, SourceError
from data.sources import foreign, kinds
from preprocessing import forms, hints
from preprocessing.config import CleanConfig
from preprocessing.fields import Fields

ROWS = [{"uid": f"u{i}", "title": f"Kettle {i}", "content": "Boils http://water, // fast."}
        for i in range(5)]  # fmt: skip
LINES = [json.dumps(row) for row in ROWS]
YAML = "".join("- " + "\n  ".join(f"{k}: '{v}'" for k, v in row.items()) + "\n" for row in ROWS)


def written(write: Any) -> bytes:
    sink = io.BytesIO()
    write(sink)
    return sink.getvalue()


def zipped(*members: tuple[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        for name, payload in members:
            file.writestr(name, payload)
    return sink.getvalue()


def fault(path: Path, payload: bytes) -> str:
    path.write_bytes(payload)
    with pytest.raises(SourceError) as caught:
        hints.find(CleanConfig(source=str(path)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows_of(path: Path) -> list[dict[str, Any]]:
    (file,) = hints.find(CleanConfig(source=str(path)))
    blocks = [block for block, _ in forms.records(file, Fields(), 2**20, 2**20)]
    parsed = [forms.parse(block, file, Fields(), 2**20) for block in blocks]
    assert not any(block.quarantine.num_rows for block in parsed)
    return [{name: row[name] for name in ROWS[0]} for b in parsed for row in b.rows.to_pylist()]


CONVERTED = {
    "JSON with comments": "[\n// all\n" + ", // one\n".join(LINES) + "\n]\n",
    "JSON with comments, before": "/* all */\n# of them\n[" + ",\n".join(LINES) + "]",
    "YAML": YAML,
    "YAML, documents": YAML.replace("- ", "---\n").replace("\n  ", "\n"),
    "records with title and content inside": "".join(f'{{"id": 1, "it": {x}}}\n' for x in LINES),
    "records with title and content inside other objects": json.dumps(
        {"took": 3, "hits": {"hits": [{"_source": row} for row in ROWS]}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERTED)
def test_the_command_that_converts_a_file_makes_it_one_that_is_read(
    name: str, tmp_path: Path
) -> None:
    message = fault(tmp_path / "raw.json", CONVERTED[name].encode())
    assert name.partition(", ")[0] in message
    command = message.partition("convert it: ")[2]
    python = ["bash", "-c", command.replace("python3 ", f"{sys.executable} ")]
    subprocess.run(python, cwd=tmp_path, check=True)
    assert rows_of(tmp_path / "lines.jsonl") == ROWS


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"title\nKettle\nLamp\n", "a table of one column, title, or plain text; give the file"),
        (b'"title"\n"Kettle"\n"Lamp"\n', "a table of one column, title, or plain text"),
        (b"Just text.\nNo more.\n", "plain text, no records, from 'Just text.' on; write its"),
        (b"From a@b Thu Jan  1 00:00:00 2026\nFrom: a@b\nSubject: x, y\n\nHi\n", "a mailbox"),
        (b"-- dump\nINSERT INTO `p` VALUES (1,'a');\n", "a dump of an SQL database; export its"),
        (b"INSERT INTO p VALUES (1,'a');\n" * 9, "a dump of an SQL database; export its"),
        (b"--\n-- dump, of 5\n--\n\nSET a = 0;\nCREATE TABLE p (a, b);\n", "a dump of an SQL"),
        (b"<p>moved</p>\n", "a web page or XML; fetch the file itself again"),
        (b"(lp0\nS'a'\np1\n", "a Python pickle; write it as Parquet"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "HDF5; write it as Parquet"),
        (b"outs:\n- md5: a304\n  size: 9\n  path: a.json\n", "the file; fetch it with dvc pull"),
        (zipped(("a.json", b"")), "found a.json, hidden, empty or a link"),
        (b"PARE" + b"\0" * 99, "Parquet that is encrypted; write it without encryption"),
        (b"L\0\0\0\x01\x14\x02\0\0\0", "a Windows shortcut; name the file that it leads to"),
        (b"\x89PNG\r\n\x1a\n\0", "a picture, not a catalogue; give the file with titles"),
        (b"\x3a\0\0\0\x02uid\0\x02\0\0\0" * 9, "binary data; fetch the file itself again"),
        (b"Obj\x01\x04", "Avro; convert it: pip install fastavro; fastavro {path} > lines.jsonl"),
        (b'{"$schema": "http://json-schema.org/", "type": "object"}',
         "a JSON schema, not records; give the data that it describes"),
        (written(lambda sink: np.save(sink, np.arange(9))), "a NumPy array; write it as Parquet"),
        (zipped(("a.npy", b"x")), "arrays of NumPy; write it as Parquet"),
        (zipped(("m/data.pkl", b"x"), ("m/version", b"3")), "a model of PyTorch"),
        (written(lambda sink: orc.write_table(pa.Table.from_pylist(ROWS), sink)),
         "ORC; write it as Parquet: python3 -c"),
        (written(lambda sink: pq.write_table(pa.Table.from_pylist(ROWS), sink))[:-9],
         "a file that breaks off: its footer is not there; fetch it again"),
    ],
)  # fmt: skip
def test_what_is_no_catalogue_is_told_in_one_line(
    payload: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "raw.json"
    assert message.replace("{path}", str(path)) in fault(path, payload)


@pytest.mark.parametrize(
    ("name", "payload", "hint"),
    [
        ("a.json.bz2", bz2.compress(YAML.encode()), "; unpack it, then convert it: python3 -c "),
        ("a.json.bz2", bz2.compress(YAML.encode()), ".safe_load_all(sys.stdin)), sys.stdout, "
         "default=str)\" < a.json > lines.jsonl"),
        ("a.avro.gz", gzip.compress(b"Obj\x01\x04", mtime=0), "; unpack it, then convert it: pip "
         "install fastavro; fastavro a.avro > lines.jsonl"),
        ("a.zip", zipped(("b.csv", b"Obj\x01\x04")), "fastavro; fastavro b.csv > lines.jsonl"),
        ("a.json.gz", gzip.compress(b"%PDF", mtime=0), "a PDF document; export the catalogue as"),
    ],
)  # fmt: skip
def test_what_is_packed_is_converted_behind_that(
    name: str, payload: bytes, hint: str, tmp_path: Path
) -> None:
    assert hint in fault(tmp_path / name, payload)


def test_orc_is_written_anew_by_its_command(tmp_path: Path) -> None:
    payload = written(lambda sink: orc.write_table(pa.Table.from_pylist(ROWS), sink))
    command = fault(tmp_path / "it's raw.json", payload).partition("as Parquet: ")[2]
    python = ["bash", "-c", command.replace("python3 ", f"{sys.executable} ")]
    subprocess.run(python, cwd=tmp_path, check=True)
    assert rows_of(tmp_path / "catalogue.parquet") == ROWS


@pytest.mark.parametrize(
    "first", ["# all of them", "// one", "no record", '"text"', "<b>", "title: x", "-- x"]
)
def test_lines_of_records_behind_any_first_line_are_read(first: str, tmp_path: Path) -> None:
    path = tmp_path / "raw.jsonl"
    path.write_text("\n".join([first, *LINES]) + "\n")
    (file,) = hints.find(CleanConfig(source=str(path)))
    assert file.form == "lines"
    if first.startswith(("#", "//")):
        hint = hints.hint(CleanConfig(), file, {"invalid_json": 1})
        assert hint.startswith("it begins with a comment; convert it: sed -E")
        subprocess.run(["bash", "-c", hint.partition("convert it: ")[2]], cwd=tmp_path, check=True)
        assert rows_of(tmp_path / "lines.jsonl") == ROWS


@pytest.mark.parametrize("before", ["# dump\n{broken\n", "12:00 started\n" * 6_000])
def test_lines_of_records_behind_broken_ones_are_read(before: str, tmp_path: Path) -> None:
    path = tmp_path / "raw.jsonl"
    path.write_text(before + "\n".join(LINES) + "\n")
    (file,) = hints.find(CleanConfig(source=str(path)))
    assert file.form == "lines"


def test_a_stated_separator_is_no_sign_of_binary_data() -> None:
    rows = b"uid\x01title\x01content\n" + b"1\x01Kettle\x01\n" * 9
    assert kinds.recognise(rows, "\x01").form == "table"


@pytest.mark.parametrize(
    "text", [b"<b>Kettle</b>\nLamp\n", b"ORC\nThe Hobbit\n", b"RDX\n", b"GIF8"]
)
def test_titles_may_begin_like_another_file(text: bytes) -> None:
    assert foreign.of_bytes(text) is None


def test_records_beside_each_other_are_not_inside_one_another(tmp_path: Path) -> None:
    path = tmp_path / "raw.json"
    for payload in ("\n".join(LINES), json.dumps(ROWS), json.dumps(ROWS)[:-2]):
        path.write_text(payload)
        with pytest.raises(SourceError, match="expected the column brand, found uid, title, cont"):
            hints.find(CleanConfig(source=str(path), attributes=["brand"]))


def test_columns_inside_others_are_flattened_by_the_command(tmp_path: Path) -> None:
    payload = written(lambda sink: pq.write_table(pa.table({"product": pa.array(ROWS)}), sink))
    message = fault(tmp_path / "raw.parquet", payload)
    command = message.partition("flatten it: ")[2].replace("python3 ", f"{sys.executable} ")
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    assert pq.read_schema(tmp_path / "flat.parquet").names == [
        "product.uid", "product.title", "product.content",
    ]  # fmt: skip


class _Keys(encryption.KmsClient):
    """Keys that are not wrapped at all."""

    def wrap_key(self, key: bytes, _name: str) -> str:
        return key.hex()

    def unwrap_key(self, wrapped: str, _name: str) -> bytes:
        return bytes.fromhex(wrapped)


def test_columns_that_are_encrypted_are_told(tmp_path: Path) -> None:
    factory = encryption.CryptoFactory(lambda _: _Keys())
    about = encryption.EncryptionConfiguration(
        footer_key="f", column_keys={"c": ["content"]}, plaintext_footer=True
    )
    keys = factory.file_encryption_properties(encryption.KmsConnectionConfig(), about)
    path, table = tmp_path / "raw.parquet", pa.Table.from_pylist(ROWS)
    with pq.ParquetWriter(path, table.schema, encryption_properties=keys) as writer:
        writer.write_table(table)
    with pytest.raises(CatalogueError, match="found Parquet that is encrypted; write it without"):
        rows_of(path)
