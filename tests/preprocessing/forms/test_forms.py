"""Catalogues of every form: the same records give the same rows, wherever a file is cut."""

import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import SourceError
from preprocessing import forms
from preprocessing.config import CleanConfig
from preprocessing.fields import Fields
from preprocessing.files import SourceFile, find
from preprocessing.parse import Parsed
from tests.builders import random_text

RECORDS = [
    {
        "uid": f"u{i}",
        "title": f'Lamp "{i}", caf\u00e9; it\u2019s {{}}',
        "content": f"Bright,\nlight\\ and | {'x' * (i % 7)} \U0001f600 don't.",
        "price": f"{i}.50" if i % 3 else "",
    }
    for i in range(60)
]
LINES = [json.dumps(row, ensure_ascii=False) for row in RECORDS]
PLAIN = "\n".join(LINES).encode()
COLUMNS = list(RECORDS[0])


def table(separator: str, end: str = "\r\n") -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, COLUMNS, delimiter=separator, lineterminator=end)
    writer.writeheader()
    writer.writerows(RECORDS)
    return sink.getvalue().encode()


def columnar(write: Callable[[pa.Table, Any], object]) -> bytes:
    sink = io.BytesIO()
    write(pa.Table.from_pylist(RECORDS), sink)
    return sink.getvalue()


def arrow_stream(rows: pa.Table, sink: Any) -> None:
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=7)


def zipped(name: str, payload: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("notes.txt", "none")
        file.writestr(name, payload)
    return sink.getvalue()


def tarred(mode: Any, name: str, payload: bytes) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as file:
        about = tarfile.TarInfo(name)
        about.size = len(payload)
        file.addfile(about, io.BytesIO(payload))
    return sink.getvalue()


ARRAY = json.dumps(RECORDS, ensure_ascii=False).encode()
PARQUET = columnar(lambda rows, sink: pq.write_table(rows, sink, row_group_size=11))
FORMS = {
    "lines": PLAIN,
    "marked lines": b"\xef\xbb\xbf" + PLAIN,
    "CR": PLAIN.replace(b"\n", b"\r"),
    "commas": PLAIN.replace(b"\n", b",\n"),
    "UTF-16": PLAIN.decode().encode("utf-16"),
    "UTF-16, big": b"\xfe\xff" + PLAIN.decode().encode("utf-16-be"),
    "UTF-32": PLAIN.decode().encode("utf-32"),
    "array": ARRAY,
    "pretty array": json.dumps(RECORDS, indent=2).encode(),
    "array of lines": b"[\n" + PLAIN.replace(b"\n", b",\n") + b"\n]\n",
    "arrays of objects": json.dumps([RECORDS[:20], RECORDS[20:]]).encode(),
    "run together": PLAIN.replace(b"\n", b""),
    "pretty objects": "".join(json.dumps(row, indent=1) for row in RECORDS).encode(),
    "array in UTF-16": ARRAY.decode().encode("utf-16"),
    "dictionaries": "\n".join(map(repr, RECORDS)).encode(),
    "CSV": table(","),
    "CSV, marked": b"\xef\xbb\xbf" + table(","),
    "CSV, CR": table(",", "\r"),
    "CSV in UTF-16": table(",").decode().encode("utf-16"),
    "semicolons": table(";"),
    "tabs": table("\t", "\n"),
    "bars": table("|"),
    "Parquet": PARQUET,
    "Arrow": columnar(lambda rows, sink: pa.feather.write_feather(rows, sink)),
    "Arrow stream": columnar(arrow_stream),
    "gz": gzip.compress(PLAIN),
    "gz, padded": gzip.compress(PLAIN) + b"\0" * 512,
    "gz twice": gzip.compress(gzip.compress(PLAIN)),
    "bz2": bz2.compress(PLAIN),
    "xz": lzma.compress(table(",")),
    "zst": pa.compress(ARRAY, codec="zstd", asbytes=True),
    "zip": zipped("a.json", PLAIN),
    "gz in zip": zipped("a.json.gz", gzip.compress(PLAIN)),
    "Parquet in zip": zipped("a.parquet", PARQUET),
    "tar": tarred("w", "a.csv", table(",")),
    "tar.gz": tarred("w:gz", "a.json", PLAIN),
}
PLAIN_FIELDS = Fields(attributes=(("price", "price"),))


def read(
    file: SourceFile, fields: Fields, block: int = 2**24, limit: int = 100_000
) -> list[Parsed]:
    """All blocks of a file, each parsed."""
    return [
        forms.parse(records, file, fields, limit)
        for records, _ in forms.records(file, fields, block, limit)
    ]


def rows(parsed: list[Parsed]) -> list[dict[str, Any]]:
    return [row for block in parsed for row in block.rows.to_pylist()]


def quarantined(parsed: list[Parsed]) -> list[tuple[int, str, bytes]]:
    return [(row["byte_offset"], row["reason"], row["line"])
            for block in parsed for row in block.quarantine.to_pylist()]  # fmt: skip


def write(folder: Path, payload: bytes) -> SourceFile:
    path = folder / "raw"
    path.write_bytes(payload)
    [file] = find(str(path))
    return file


@pytest.mark.parametrize("block", [2**24, 1_000, 64])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(form: str, block: int, tmp_path: Path) -> None:
    file = write(tmp_path, FORMS[form])
    parsed = read(file, PLAIN_FIELDS, block)
    assert [[row[name] for name in COLUMNS] for row in rows(parsed)] == [
        list(row.values()) for row in RECORDS
    ]
    assert quarantined(parsed) == []
    assert sum(block.lines - block.blank for block in parsed) == len(RECORDS)


@pytest.mark.parametrize(
    ("form", "encoding"),
    [("lines", "utf-8"), ("UTF-16", "utf-16"), ("UTF-16, big", "utf-16-be"), ("array", "utf-8"),
     ("array in UTF-16", "utf-16"), ("dictionaries", "utf-8"), ("pretty array", "utf-8"),
     ("CSV", "utf-8"), ("CSV in UTF-16", "utf-16"), ("UTF-32", "utf-32")],
)  # fmt: skip
def test_each_offset_is_where_the_record_stands_in_the_file(
    form: str, encoding: str, tmp_path: Path
) -> None:
    width = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(encoding, encoding)
    for row in rows(read(write(tmp_path, FORMS[form]), PLAIN_FIELDS, 700)):
        there = FORMS[form][row["byte_offset"] :].decode(width)
        assert there.lstrip("{[\n ").startswith(
            (f'"uid": "{row["uid"]}"', f"'uid': '{row['uid']}'", row["uid"] + ",")
        )


def test_offsets_in_files_of_columns_are_row_numbers(tmp_path: Path) -> None:
    for form in ("Parquet", "Arrow", "Arrow stream"):
        parsed = read(write(tmp_path, FORMS[form]), PLAIN_FIELDS, 500)
        assert [row["byte_offset"] for row in rows(parsed)] == list(range(60))


@pytest.mark.parametrize("encoding", ["latin-1", "windows-1252", "gbk", "shift_jis", "utf-16-le"])
def test_text_of_a_stated_encoding_is_read_and_traced(encoding: str, tmp_path: Path) -> None:
    word = "\u65e5\u672c" if encoding in ("gbk", "shift_jis") else "caf\u00e9"
    line = '{"uid": "%d", "title": "%s", "content": "c"}\n'
    payload = "".join(line % (i, word) for i in range(9)).encode(encoding)
    (tmp_path / "raw").write_bytes(payload)
    [file] = find(str(tmp_path / "raw"), encoding)
    found = rows(read(file, Fields(), 100))
    assert [row["title"] for row in found] == [word] * 9
    size = len(payload) // 9
    assert [row["byte_offset"] for row in found] == [size * i for i in range(9)]


def test_bytes_of_no_character_cost_their_record_alone(tmp_path: Path) -> None:
    lines = [b'{"uid": "%d", "title": "t", "content": "c"}' % i for i in range(3)]
    lines[1] = lines[1].replace(b'"t"', b'"\x81"')
    (tmp_path / "raw").write_bytes(b"\n".join(lines))
    [file] = find(str(tmp_path / "raw"), "windows-1252")
    parsed = read(file, Fields())
    assert [row["uid"] for row in rows(parsed)] == ["0", "2"]
    assert quarantined(parsed) == [(len(lines[0]) + 1, "invalid_utf8", lines[1])]


def test_rows_of_a_table_fall_for_their_own_reason_with_their_offset(tmp_path: Path) -> None:
    good, multi = b"1,Lamp,b\n", b'7,"multi\nline",e\n'
    bad = {
        b"2,only two\n": "wrong_columns",
        b"3,a,b,c\n": "wrong_columns",
        b'"4","unclosed,b\n': "invalid_csv",
        b'6,"12" disc",d\n': "invalid_csv",
        b"8,\xff,f\n": "invalid_utf8",
        b"9," + b"x" * 300 + b",c\n": "line_too_long",
    }
    kept = b'5,5" pipe,""\n'
    payload = b"uid,title,content\n" + good * 3 + b"".join(bad) + kept + b"\n" + multi
    file = write(tmp_path, payload)
    for block in (2**20, 40, 16):
        parsed = read(file, Fields(), block, 200)
        assert [row["title"] for row in rows(parsed)] == ["Lamp"] * 3 + ['5" pipe', "multi\nline"]
        assert [reason for _, reason, _ in quarantined(parsed)] == list(bad.values())
        for offset, reason, line in quarantined(parsed):
            assert payload[offset:].startswith(line)
            assert reason == "line_too_long" or payload[offset + len(line) :][:1] == b"\n"
        assert sum(block.blank for block in parsed) == 1


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'3,e,f\n4,"q",g\n\n"a\r\nb","q",b c\n',
         [("3", "e", "f"), ("4", "q", "g"), ("a\r\nb", "q", "b c")]),
        (b'\r,b c,""\n', [("\r", "b c", "")]),
        (b"1,b,c\r\r\n2,b\rb,c\n", [("1", "b", "c\r"), ("2", "b\rb", "c")]),
    ],
)  # fmt: skip
def test_rows_of_a_table_are_the_same_in_any_block(
    payload: bytes, expected: list[tuple[str, ...]], tmp_path: Path
) -> None:
    file = write(tmp_path, b"uid,title,content\n" + b"7,h,i\n" * 3 + payload)
    for block in (2**20, *range(16, 90)):
        parsed = read(file, Fields(), block)
        texts = [(row["uid"], row["title"], row["content"]) for row in rows(parsed)]
        assert (texts[3:], quarantined(parsed)) == (expected, [])


def test_the_lines_of_a_row_that_is_too_long_never_make_a_row(tmp_path: Path) -> None:
    lines = [b'1,5",t,"' + b"x" * 20, b"y" * 60 + b'"']
    file = write(tmp_path, b"uid,size,title,content\n" + b"7,g,h,i\n" * 3 + b"\n".join(lines))
    for block in (2**20, 64, 16):
        parsed = read(file, Fields(), block, 50)
        assert len(rows(parsed)) == 3
        assert [(reason, line) for _, reason, line in quarantined(parsed)] == [
            ("invalid_csv", lines[0]), ("line_too_long", lines[1][:51]),
        ]  # fmt: skip


def test_quotes_that_close_beyond_the_limit_are_open_in_any_block(tmp_path: Path) -> None:
    payload = b'1,b,c\n2,"a\n\nb","q\n""' + b"x" * 30 + b'",\n'
    file = write(tmp_path, b"uid,title,content\n" + b"7,h,i\n" * 3 + payload)
    for block in (2**20, *range(16, 60)):
        parsed = read(file, Fields(), block, 20)
        assert len(rows(parsed)) == 4
        assert [(reason, line) for _, reason, line in quarantined(parsed)] == [
            ("invalid_csv", b'2,"a\n\nb","q'), ("line_too_long", b'""' + b"x" * 19),
        ]  # fmt: skip


def test_what_is_no_object_in_an_array_is_a_fault_of_its_own(tmp_path: Path) -> None:
    payload = b'[1, null,\n "a, b", {"uid": "1", "title": "t", "content": "c"} x, {}]'
    parsed = read(write(tmp_path, payload), Fields(), 16)
    assert len(rows(parsed)) == 1
    assert [(reason, line) for _, reason, line in quarantined(parsed)] == [
        ("not_an_object", b"1"),
        ("not_an_object", b"null"),
        ("not_an_object", b'"a, b"'),
        ("invalid_json", b"x"),
        ("missing_field", b"{}"),
    ]
    for offset, _, line in quarantined(parsed):
        assert payload[offset:].startswith(line)


@pytest.mark.parametrize("end", [-1, -2, -20, -100, -300])
@pytest.mark.parametrize("form", ["array", "pretty array", "array of lines"])
def test_an_array_that_breaks_off_is_told_with_its_place(
    form: str, end: int, tmp_path: Path
) -> None:
    payload = FORMS[form].rstrip()[:end]
    with pytest.raises(SourceError, match=r"found a JSON array that breaks off at byte [\d,]+"):
        read(write(tmp_path, payload), Fields(), 500)


def test_values_of_files_of_columns_become_text_or_fall_for_a_reason(tmp_path: Path) -> None:
    table = pa.table({
        "asin": pa.array([7, 8, None, 9, 10]),
        "title": pa.array(["t", "u", "v", None, "w"]).dictionary_encode(),
        "content": [["a", "b"], None, ["c"], ["d"], ["e", None]],
        "cat": [[["Books", "Fiction"]], None, [], [["x"]], None],
        "price": [9.5, None, 2.0, 3.0, 4.0],
    })  # fmt: skip
    sink = io.BytesIO()
    pq.write_table(table, sink)
    config = CleanConfig(columns={"uid": "asin"}, attributes=["cat", "price"])
    parsed = read(write(tmp_path, sink.getvalue()), Fields.of(config))
    assert rows(parsed) == [
        {"uid": "7", "title": "t", "content": "a b", "source": "raw", "byte_offset": 0,
         "cat": "Books Fiction", "price": "9.5"},
    ]  # fmt: skip
    assert [(place, reason) for place, reason, _ in quarantined(parsed)] == [
        (1, "missing_field"), (2, "missing_field"), (3, "missing_field"), (4, "wrong_type"),
    ]  # fmt: skip
    assert json.loads(quarantined(parsed)[1][2])["title"] == "v"


def test_an_attribute_that_a_file_of_columns_lacks_is_empty(tmp_path: Path) -> None:
    texts = pa.array(["a", "b"])
    columns = {"uid": texts, "title": texts, "content": texts, "price": pa.array([None, 2])}
    file = write(tmp_path, arrow(columns))
    (parsed,) = read(file, PLAIN_FIELDS)
    assert parsed.rows.column("price").to_pylist() == ["", "2"]


def arrow(columns: dict[str, pa.Array]) -> bytes:
    sink = io.BytesIO()
    arrow_stream(pa.table(columns), sink)
    return sink.getvalue()


def test_views_and_runs_of_arrow_are_text(tmp_path: Path) -> None:
    payload = arrow({
        "uid": pa.array(["1", "2"], pa.string_view()),
        "title": pc.run_end_encode(pa.array(["t", "t"])),
        "content": pa.array([["a", "b"], None], pa.list_(pa.string_view())),
        "price": pa.array([["8"], ["9"]], pa.list_view(pa.string())),
    })  # fmt: skip
    parsed = read(write(tmp_path, payload), PLAIN_FIELDS)
    assert [[row[name] for name in COLUMNS] for row in rows(parsed)] == [["1", "t", "a b", "8"]]
    assert [(place, reason) for place, reason, _ in quarantined(parsed)] == [(1, "missing_field")]


def test_a_type_that_becomes_no_text_is_told(tmp_path: Path) -> None:
    interval = pa.array([(1, 2, 3)], pa.month_day_nano_interval())
    payload = arrow({"uid": ["1"], "title": ["t"], "content": ["c"], "price": interval})
    with pytest.raises(SourceError, match="expected text in column price, found month_day_nano"):
        read(write(tmp_path, payload), PLAIN_FIELDS)


def test_a_column_that_is_there_twice_is_told(tmp_path: Path) -> None:
    names = ["uid", "title", "content", "title"]
    sink = io.BytesIO()
    pq.write_table(pa.table([["1"], ["t"], ["c"], ["u"]], names=names), sink)
    with pytest.raises(SourceError, match="each name once, found 'title' twice"):
        read(write(tmp_path, sink.getvalue()), Fields())


def test_bytes_of_no_character_in_a_list_cost_their_row_alone(tmp_path: Path) -> None:
    titles = pa.array([[b"t", b"u"], [b"\xff"]], pa.list_(pa.binary()))
    payload = arrow({"uid": ["1", "2"], "title": titles, "content": ["c", "d"]})
    parsed = read(write(tmp_path, payload), Fields())
    assert [row["title"] for row in rows(parsed)] == ["t u"]
    line = b'{"uid": "2", "title": ["\\\\xff"], "content": "d"}'
    assert quarantined(parsed) == [(1, "invalid_utf8", line)]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_an_encoding_without_its_mark_is_told(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(PLAIN.decode().encode(f"{encoding}-le"))
    [file] = find(str(tmp_path / "raw"), encoding)
    with pytest.raises(SourceError, match=f"--encoding {encoding}-le or {encoding}-be"):
        read(file, Fields())


@pytest.mark.parametrize("is_list", [False, True])
def test_a_text_that_a_file_holds_once_for_many_rows_is_read_in_pieces(
    is_list: bool, tmp_path: Path
) -> None:
    content = pa.DictionaryArray.from_arrays([0] * 200, ["x" * 400_000])
    if is_list:
        content = pa.ListArray.from_arrays(range(201), content)
    columns = {"uid": list(map(str, range(200))), "title": ["t"] * 200, "content": content}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, store_schema=False)
    file = write(tmp_path, sink.getvalue())
    blocks = [block for block, _ in forms.records(file, Fields(), 2**24, 10**6)]
    assert max(len(block.data) for block in blocks) < 2**25
    assert sum(len(block.starts) for block in blocks) == 200


def test_columns_of_an_arrow_file_that_are_not_read_take_no_memory(tmp_path: Path) -> None:
    sink = io.BytesIO()
    columns = {"uid": ["1"], "image": ["x" * 2**24], "title": ["t"], "content": ["c"]}
    pa.feather.write_feather(pa.table(columns), sink, compression="uncompressed")
    file = write(tmp_path, sink.getvalue())
    tracemalloc.start()
    assert len(rows(read(file, Fields()))) == 1
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_a_column_that_holds_no_text_is_told(tmp_path: Path) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"uid": ["1"], "title": [{"en": "a"}], "content": ["c"]}), sink)
    with pytest.raises(SourceError, match="expected text in column title, found struct"):
        read(write(tmp_path, sink.getvalue()), Fields())


@pytest.mark.parametrize("form", ["lines", "array", "dictionaries", "CSV", "Parquet", "gz", "CR"])
def test_a_missing_uid_is_the_number_of_the_row_in_its_file(form: str, tmp_path: Path) -> None:
    fields = Fields.of(CleanConfig(columns={"uid": None}))
    found = rows(read(write(tmp_path, FORMS[form]), fields, 600))
    assert [row["uid"] for row in found] == [str(i) for i in range(60)]


def test_a_line_without_an_end_is_kept_by_its_first_bytes(tmp_path: Path) -> None:
    line = '{"uid": "1", "title": "t", "content": "c"}\n'
    text = line + "x" * 5_000 + "\n" + line
    file = write(tmp_path, text.encode("utf-16"))
    for block in (64, 1_000, 2**20):
        parsed = read(file, Fields(), block, 200)
        assert len(rows(parsed)) == 2
        assert [(reason, len(kept)) for _, reason, kept in quarantined(parsed)] == [
            ("line_too_long", 201)
        ]
    assert rows(parsed)[1]["byte_offset"] == len((line + "x" * 5_000 + "\n").encode("utf-16"))


def test_objects_of_many_lines_are_read_though_the_first_is_long(tmp_path: Path) -> None:
    records = [{"uid": str(i), "title": "t", "content": "x" * 70_000} for i in range(2)]
    file = write(tmp_path, "\n".join(json.dumps(row, indent=2) for row in records).encode())
    for block in (2**20, 1_000):
        assert [row["uid"] for row in rows(read(file, Fields(), block))] == ["0", "1"]


def test_objects_too_large_to_be_records_are_told(tmp_path: Path) -> None:
    payload = b"[" + b'{"a": "' + b"x" * 5_000 + b'"}, {"uid": "1", "title": "", "content": ""}]'
    file = write(tmp_path, payload)
    for block in (100, 2**20):
        with pytest.raises(SourceError, match="objects of at most 1,600 bytes"):
            read(file, Fields(), block, 100)


PIECES = {
    "objects": [b"[", b"]", b",", b" ", b"\n", b"{", b"}", b'"', b"\\", b"1", b"{}", b'"a}{"',
                LINES[1].encode(), LINES[2].encode(), b'{"uid": "\\"}\\\\", "x": [{}]}'],
    "table": [b",", b"\n", b"\r\n", b'"', b'""', b"a", b"1,b,c\n", b'1,"b,\n""",c\n', b"\xff",
              b"x" * 30],
    "lines": [b"\n", b"\r", b"{", b"\xff", b"\xc3\xa9", LINES[1].encode() + b"\n", b"x" * 90],
    "dicts": [b"\n", b"'", b'"', b"\\", b"None", repr(RECORDS[1]).encode() + b"\n",
              b"{'uid': u'1', 'title': \"it's\", 'content': 'a\\x41\\n'}\n", b"{'uid': 1}\n"],
}  # fmt: skip


@pytest.mark.parametrize("form", PIECES)
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
@settings(max_examples=60)
@given(draw=st.data())
def test_wherever_a_file_is_cut_it_gives_the_same_rows_and_faults(
    form: Any, encoding: str, draw: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = b"".join(draw.draw(st.lists(st.sampled_from(PIECES[form]), max_size=12)))
    if encoding == "utf-16":
        data = data.decode("utf-8", "replace").encode("utf-16")
    path = tmp_path_factory.mktemp("cut") / "raw"
    path.write_bytes(data)
    file = SourceFile(str(path), "raw", len(data), "", (), form, ",", encoding,
                      ("uid", "title", "content"), is_array=True)  # fmt: skip

    def outcome(block: int) -> Any:
        try:
            parsed = read(file, Fields(), block, 80)
        except SourceError as error:
            return str(error)
        assert sum(b.lines for b in parsed) == sum(
            b.rows.num_rows + b.quarantine.num_rows + b.blank for b in parsed
        )
        return rows(parsed), quarantined(parsed), sum(b.lines for b in parsed)

    whole = outcome(2**20)
    for block in (16, draw.draw(st.integers(16, 200))):
        assert outcome(block) == whole


def test_five_thousand_records_give_the_same_parts_of_rows_in_ten_forms(tmp_path: Path) -> None:
    records = [
        {"sku": f"s{i}", "name": f"Lamp {i % 4_000}", "text": random_text(30 + i % 150, i)}
        for i in range(5_000)
    ]
    lines = "\n".join(map(json.dumps, records)).encode()
    config = CleanConfig(columns={"uid": "sku", "title": "name", "content": "text"})
    rows_of = pa.Table.from_pylist(records)
    tables = {
        separator: "\n".join([separator.join(records[0]),
                              *(separator.join(row.values()) for row in records)]).encode()
        for separator in ",\t"
    }  # fmt: skip
    parquet, arrow = io.BytesIO(), io.BytesIO()
    pq.write_table(rows_of, parquet)
    pa.feather.write_feather(rows_of, arrow)
    payloads = [
        lines, json.dumps(records).encode(), "\n".join(map(repr, records)).encode(), tables[","],
        tables["\t"], parquet.getvalue(), arrow.getvalue(), gzip.compress(lines),
        pa.compress(lines, codec="zstd", asbytes=True), zipped("a.jsonl", lines),
    ]  # fmt: skip
    found = [
        [(row["uid"], row["title"], row["content"])
         for row in rows(read(write(tmp_path, payload), Fields.of(config), 100_000))]
        for payload in payloads
    ]  # fmt: skip
    assert found == [[tuple(row.values()) for row in records]] * len(payloads)


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_a_batch_of_any_size_is_read_in_pieces(kind: str, tmp_path: Path) -> None:
    rows, block = 3_000, 2**20
    table = pa.table({
        "uid": [str(i) for i in range(rows)], "title": ["t"] * rows,
        "content": [random_text(20_000)] * rows,
    })  # fmt: skip
    path = tmp_path / "raw.arrow"
    opened = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with opened(path, table.schema) as writer:
        writer.write_batch(table.to_batches()[0])
    (file,) = find(str(path))
    before, most, count = pa.total_allocated_bytes(), 0, 0
    for records, _ in forms.records(file, Fields(), block, block):
        most = max(most, pa.total_allocated_bytes() - before)
        count += len(records.offsets)
    assert count == rows
    assert most < path.stat().st_size // 3


def test_a_batch_that_cannot_be_mapped_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "raw.arrow.gz"
    path.write_bytes(gzip.compress(columnar(lambda rows, sink: arrow_stream(rows, sink))))
    (file,) = find(str(path))
    assert len(rows(read(file, PLAIN_FIELDS))) == 60
    monkeypatch.setattr("preprocessing.forms.columnar._LARGEST_BATCH", 300)
    with pytest.raises(SourceError, match=r"batches of at most 300 bytes.*bring it to a disk"):
        read(file, PLAIN_FIELDS)
