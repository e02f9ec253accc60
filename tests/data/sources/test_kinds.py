"""What a file is from its first bytes: its name, and a command that does what it says."""

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.sources import kind, kinds

RECORDS = [{"uid": str(i), "title": f"Lamp {i}, caf\u00e9", "content": "Bright."} for i in range(9)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in RECORDS)
PLAIN = LINES.encode()
THEIRS = [{"asin": r["uid"], "title": r["title"], "description": [r["content"]]} for r in RECORDS]


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("trn.json", PLAIN)
    return sink.getvalue()


def tarred() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as file:
        held = tarfile.TarInfo("trn.json")
        held.size = len(PLAIN)
        file.addfile(held, io.BytesIO(PLAIN))
    return sink.getvalue()


def table(write: Any) -> bytes:
    sink = io.BytesIO()
    write(pa.Table.from_pylist(RECORDS), sink)
    return sink.getvalue()


def csv(separator: str) -> bytes:
    rows = [f'{r["uid"]}{separator}"{r["title"]}"{separator}{r["content"]}\n' for r in RECORDS]
    return (separator.join(RECORDS[0]) + "\n" + "".join(rows)).encode()


OTHERS: dict[str, tuple[bytes, str]] = {
    "zip": (zipped(), "a zip archive"),
    "bz2": (bz2.compress(PLAIN), "bzip2"),
    "xz": (lzma.compress(PLAIN), "xz"),
    "tar": (tarred(), "a tar archive"),
    "gzip twice": (gzip.compress(PLAIN), "gzip inside gzip"),
    "Parquet": (table(pq.write_table), "Parquet"),
    "Arrow": (
        table(lambda rows, to: pyarrow.feather.write_feather(rows, to, compression="uncompressed")),
        "an Arrow file",
    ),
    "UTF-16": (LINES.encode("utf-16"), "UTF-16"),
    "UTF-16, big": (b"\xfe\xff" + LINES.encode("utf-16-be"), "UTF-16"),
    "UTF-16, no mark": (LINES.encode("utf-16-le"), "UTF-16 without its mark"),
    "UTF-16, big, no mark": (LINES.encode("utf-16-be"), "UTF-16 without its mark"),
    "UTF-32": (LINES.encode("utf-32"), "UTF-32"),
    "array": (json.dumps(RECORDS).encode(), "one JSON array"),
    "array of lines": (f"[{LINES.strip()}]".replace("\n", ",\n").encode(), "one JSON array"),
    "pretty array": (json.dumps(RECORDS, indent=2).encode(), "one JSON array"),
    "pretty objects": (
        "\n".join(json.dumps(row, indent=1) for row in RECORDS).encode(),
        "pretty-printed JSON, an object over several lines",
    ),
    "dictionaries": (
        "".join(f"{row}\n" for row in RECORDS).encode(),
        "Python dictionaries, one a line",
    ),
    "run together": (
        LINES.replace("\n", "").encode(),
        "objects without line breaks between them",
    ),
    "spaced": (LINES.replace("\n", " ").encode(), "objects without line breaks between them"),
    "CR": (LINES.replace("\n", "\r").encode(), "lines that end in a bare CR"),
    "commas": (LINES.replace("}\n", "},\n").encode(), "objects with a comma after each line"),
    "CSV": (csv(","), "a table (CSV) with columns uid, title, content"),
    "TSV": (csv("\t"), "a table (tab-separated) with columns uid, title, content"),
    "semicolons": (csv(";"), "a table (CSV with semicolons) with columns uid, title, content"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", OTHERS)
def test_the_command_for_a_kind_gives_its_records_as_lines(
    kind: str, packed: bool, tmp_path: Path
) -> None:
    payload, name = OTHERS[kind]
    found = kinds.recognise(payload[: 2**16])
    assert found.name == name
    path = tmp_path / "a file's name.json"
    path.write_bytes(gzip.compress(payload) if packed else payload)
    mend = found.hint(str(path), packed)
    assert mend.startswith("convert it: ")
    assert len(mend.splitlines()) == 1
    if not shutil.which(found.filter.split()[0]):
        pytest.skip(f"{found.filter.split()[0]} is not installed")
    if "pandas" in mend and packed:
        return  # as plain, and pandas takes its time
    command = mend.removeprefix("convert it: ").replace("python3", os.sys.executable)
    subprocess.run(["bash", "-ec", command], check=True, cwd=tmp_path)
    lines = (tmp_path / "lines.jsonl").read_text("utf-8").split("\n")
    assert [json.loads(line) for line in lines if line] == RECORDS


@pytest.mark.parametrize(
    ("payload", "name", "advice"),
    [
        (b"<!DOCTYPE html><html>", "a web page or XML", "fetch"),
        (b'\n<?xml version="1.0"?><Error>', "a web page or XML", "fetch"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer to a large", "fetch"),
        (b"\x8f\x00\x01\x02\x03\0\0\0", "binary data", "fetch"),
    ],
)
def test_what_no_command_turns_into_lines_has_an_advice(
    payload: bytes, name: str, advice: str
) -> None:
    found = kinds.recognise(payload)
    assert found.name.startswith(name)
    assert found.hint("x").startswith(advice)


@pytest.mark.parametrize(
    "text",
    ["uid,title,content", "uid,title,content\n", "id;name;description\r\n",
     "uid\ttitle\tcontent\n1\ta\tb",
     "uid,title,content\n1,a", "a,b\n1,c"],
)  # fmt: skip
def test_a_header_alone_or_with_a_row_without_its_end_is_a_table(text: str) -> None:
    assert kinds.recognise(text.encode()).form == "table"


def test_an_object_over_several_lines_is_one_where_its_end_is_not_seen() -> None:
    record = {"uid": "1", "content": "x" * 70_000, "title": "t"}
    text = "\n".join(json.dumps(record, indent=2) for _ in range(2))
    found = kinds.recognise(text.encode()[: 2**16])
    assert (found.name, found.form) == (
        "pretty-printed JSON, an object over several lines", "objects",
    )  # fmt: skip


@pytest.mark.parametrize("text", ["Kettle, red", "Kettle, red\n", "a,b,c\n1", "a\nb"])
def test_a_line_with_commas_alone_is_no_table(text: str) -> None:
    assert kinds.recognise(text.encode()).form in ("lines", "")


GOOD = '{"uid": "1", "title": "t", "content": "c"}'


@pytest.mark.parametrize(
    "text",
    [
        "", "\n\n", "{}", "null\n17", '["a"]\n["b"]', "[1]\n" + GOOD, "{'a'\n" + GOOD,
        GOOD, GOOD + "\n", GOOD + "\n{", "\ufeff" + GOOD + "\r\n" + GOOD,
        GOOD + "\n\n" + GOOD, f"{GOOD}\n{GOOD}\n{GOOD}\nrubbish\nrubbish\nrubbish\nrubbish",
        '{"uid": "1", "title": "' + "x" * 70_000, '{"a": "[\\r{"}\n',
    ],
)  # fmt: skip
def test_what_is_or_may_be_json_lines_is_left_to_the_parser(text: str) -> None:
    assert kinds.recognise(text.encode()[: 2**16]).name == kind.LINES


@settings(max_examples=150)
@given(st.binary(max_size=60), st.sampled_from([b"", b"{", b"[", b"[{", b"a,b\n", b"\xef\xbb\xbf"]))
def test_any_bytes_are_some_kind(payload: bytes, start: bytes) -> None:
    found = kinds.recognise(start + payload)
    assert found.name
    assert found.name == kind.LINES or found.hint("x")


@settings(max_examples=100)
@given(
    st.lists(
        st.fixed_dictionaries({"uid": st.text(), "title": st.text(), "content": st.text()}),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 300),
)
def test_good_json_lines_are_never_another_kind_wherever_they_are_cut(
    rows: list[dict[str, str]], cut: int
) -> None:
    payload = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    assert kinds.recognise(payload).name == kind.LINES
    assert kinds.recognise(payload[:cut]).name == kind.LINES


def test_the_fields_of_others_are_named_as_ours() -> None:
    assert kind.to_columns({"a": 1}) is None
    assert kind.to_columns(["id", "Product Name", " Name", "text"]) == {
        "uid": "id", "title": " Name", "content": "text",
    }  # fmt: skip


@pytest.mark.parametrize("order", ["le", "be"])
def test_utf_32_without_its_mark_is_named(order: str) -> None:
    assert kinds.recognise(LINES.encode(f"utf-32-{order}")).encoding == f"utf-32-{order}"


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (b"[]\n", "an empty JSON array"), (b'["a", "b"]', "a JSON array of values, not of objects"),
        (bytes(50), "nothing but zeros"), (b"FEA1\0\0\0\0", "Feather of version 1"),
        (b"../.git/annex/objects/a/b", "a pointer to a large file, not the file"),
        (b"<div>\n<p>a, b</p>\n<p>c, d</p>", "a web page or XML"),
        (b"{'a': 1},\n{'a': 2},\n", "Python dictionaries with a comma behind each line"),
        (b"{'a': 1}\r{'a': 2}", "Python dictionaries that end in a bare CR"),
    ],
)  # fmt: skip
def test_more_that_is_not_read_is_named(payload: bytes, name: str) -> None:
    found = kinds.recognise(payload)
    assert (found.name, found.form) == (name, "")
    assert found.hint("x")


def test_json_with_bare_controls_in_its_texts_is_no_python() -> None:
    assert kinds.recognise(LINES.replace("Lamp ", "Lamp\t").encode()).form == "lines"


def test_python_dictionaries_of_which_none_is_seen_whole_are_read_as_such() -> None:
    assert kinds.recognise(b"{'uid': '1', 'title': '" + b"x" * 2**16).form == "dicts"


def test_objects_on_one_line_may_have_commas_between_them() -> None:
    assert kinds.recognise(LINES.strip().replace("\n", ", ").encode()).form == "objects"


def test_arrow_streams_of_before_its_marks_are_known() -> None:
    sink = io.BytesIO()
    rows = pa.table({"uid": ["1"]})
    options = pa.ipc.IpcWriteOptions(use_legacy_format=True)
    with pa.ipc.new_stream(sink, rows.schema, options=options) as writer:
        writer.write_table(rows)
    assert kinds.is_columnar(sink.getvalue())
    assert kinds.recognise(sink.getvalue()).form == "arrow"


def test_several_marks_of_their_order_are_no_text() -> None:
    line = b'{"uid": "1", "title": "t", "b": 1}\n'
    assert kinds.recognise(b"\xef\xbb\xbf" * 2 + line).form == "lines"
