"""Titles from every kind of input: which, in what order, under which uid, and what is refused."""

import dataclasses
import gzip
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.artefacts import manifest, stage
from data.artefacts.folder import Folder
from data.artefacts.manifest import Counts, Manifest
from data.errors import ManifestError, SourceError
from data.subset import SubsetConfig, run
from inference.config import GenerateConfig
from inference.tables import titles
from inference.tables.text_files import ATTRIBUTE, TITLES
from inference.tables.titles import Titles
from preprocessing import forms
from preprocessing.fields import Fields
from preprocessing.files import find as find_files
from tests.builders import write_clean


def rows_of(path: Path, **settings: Any) -> list[tuple[str, str]]:
    """All (uid, title) of an input; checks the schema of every batch."""
    found = titles.find(GenerateConfig(titles=str(path), **settings))
    rows = []
    for batch in found.batches():
        assert batch.schema == TITLES
        assert batch.column("uid").null_count == batch.column("title").null_count == 0
        rows += [(row["uid"], row["title"]) for row in batch.to_pylist()]
    if found.rows is not None and "limit" not in settings:
        assert found.rows == len(rows)
    return rows


def file_of(folder: Path, name: str, payload: Any) -> Path:
    """Write bytes as they are, a table as Parquet."""
    path = folder / name
    if isinstance(payload, pa.Table):
        pq.write_table(payload, path)
    else:
        path.write_bytes(payload)
    return path


@pytest.mark.parametrize("form", [pa.ipc.new_file, pa.ipc.new_stream])
def test_arrow_files_of_both_forms(form: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    given = pa.table({"title": ["Kettle", None, "Lamp"], "uid": ["a", "b", None]})
    with pa.OSFile(str(path), "wb") as file, form(file, given.schema) as writer:
        writer.write_table(given, max_chunksize=2)
    assert rows_of(path) == [("a", "Kettle"), ("b", ""), ("2", "Lamp")]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(SourceError, match="expected readable rows"):
        rows_of(path)


# What our own stages made -----------------------------------------------------------------------


def test_a_split_of_a_subset(subset: Path) -> None:
    assert rows_of(subset) == [(f"test-{i}", f"test kettle {i}") for i in range(5)]
    assert rows_of(subset, split="validation") == [
        (f"validation-{i}", f"validation kettle {i}") for i in range(3)
    ]
    assert len(rows_of(subset, split="train")) == 6


def test_a_split_of_clean_shards_whatever_part_it_lies_in(clean: Path) -> None:
    assert rows_of(clean) == [("a", "A"), ("e", "E"), ("f", "F")]
    assert rows_of(clean, split="train") == [("b", "B"), ("d", "D")]
    assert rows_of(clean, split="validation") == [("c", "C")]


@pytest.mark.parametrize("kind", ["subset", "clean"])
def test_the_lineage_names_the_stage_that_made_the_titles(
    kind: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(kind)
    parent = titles.find(GenerateConfig(titles=str(folder))).parent
    made = manifest.read(Folder(str(folder)))
    assert parent is not None
    assert (parent.stage, parent.path, parent.digest) == (kind, str(folder.resolve()), made.digest)


@pytest.mark.parametrize("kind", ["subset", "clean"])
@pytest.mark.parametrize("kept", [[], ["content"], ["byte_offset"]])
def test_the_record_is_read_for_checks_alone(
    kind: str, kept: list[str], request: pytest.FixtureRequest
) -> None:
    config = GenerateConfig(titles=str(request.getfixturevalue(kind)), keep_columns=kept)
    for checks, names in ((False, kept), (True, [*dict.fromkeys([*kept, "content"])])):
        for batch in titles.find(dataclasses.replace(config, checks=checks)).batches():
            assert batch.schema.names == [*TITLES.names, *names]
            assert "content" not in names or set(batch.column("content").to_pylist()) <= {"Boils."}


@pytest.mark.parametrize("stage_name", ["subset", "clean"])
def test_the_attributes_of_our_own_rows(stage_name: str, tmp_path: Path) -> None:
    rows = [(f"u{i}", f"Kettle {i}", f"Boils {i} litres.") for i in range(40)]
    brands = [f"B{i}" for i in range(40)]
    folder = write_clean(tmp_path / "clean", rows, held_out=0.3, brand=brands, colour=["red"] * 40)
    if stage_name == "subset":
        run(SubsetConfig(clean=str(folder), out=str(tmp_path / "subset")))
        folder = tmp_path / "subset"
    config = GenerateConfig(titles=str(folder), keep_columns=["colour"])
    found = list(about(config, "brand", "colour"))
    assert found
    for row in found:
        assert row.pop("title").removeprefix("Kettle ") == row["uid"][1:]
        brand = f"B{row.pop('uid')[1:]}"
        assert row == {"colour": "red", "brand": brand, "shown colour": "red"}
    with pytest.raises(ManifestError, match=r"attributes size, which prompts show, found brand, "):
        list(about(config, "brand", "size"))


def about(config: GenerateConfig, *attributes: str) -> Iterator[dict[str, Any]]:
    """The rows of an input for prompts that show attributes, as generate reads them."""
    for batch in titles.find(config, True, attributes).batches():
        assert batch.schema.names[: len(TITLES)] == TITLES.names
        for row in batch.to_pylist():
            assert row.pop("refused") is None
            kept = {name: row[name] for name in config.keep_columns}
            shown = {name: row[ATTRIBUTE + name] for name in attributes}
            yield {
                "uid": row["uid"], "title": row["title"], **kept,
                **{f"shown {name}" if name in kept else name: v for name, v in shown.items()},
            }  # fmt: skip


PRICED = [{"uid": "7", "title": "Kettle", "brand": " A &amp;  B", "price": 9.5},
          {"uid": "8", "title": "Lamp", "brand": None, "price": 12}]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "payload", "prices"),
    [
        ("a.jsonl", "".join(json.dumps(row).replace("9.5", "9.50") + "\n" for row in PRICED),
         ["9.50", "12"]),
        ("a.csv", "uid,price,title,brand\n7,9.50,Kettle, A &amp;  B\n8,12,Lamp,\n", ["9.50", "12"]),
        ("a.parquet", pa.Table.from_pylist(PRICED), ["9.5", "12"]),
    ],
)  # fmt: skip
def test_the_attributes_of_a_file_are_repaired_text_and_kept_columns_stay(
    name: str, payload: Any, prices: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = file_of(tmp_path, name, payload.encode() if isinstance(payload, str) else payload)
    config = GenerateConfig(titles=str(path), keep_columns=["price"])
    rows = list(about(config, "brand", "price"))
    kept = ["9.50", "12"] if name == "a.csv" else [9.5, 12.0]
    assert rows == [
        {"uid": "7", "title": "Kettle", "brand": "A & B", "price": kept[0],
         "shown price": prices[0]},
        {"uid": "8", "title": "Lamp", "brand": "", "price": kept[1], "shown price": prices[1]},
    ]  # fmt: skip
    assert not caplog.records
    (first, _) = about(config, "price", "size", "colour")
    assert (first["shown price"], first["size"], first["colour"]) == (prices[0], "", "")
    assert caplog.messages == [f"{path}: no column size and no colour: prompts go without"]


def test_lists_and_objects_are_attributes_as_cleaning_writes_them(tmp_path: Path) -> None:
    lines = (
        b'{"title": "A", "it": ["Books", ["Novels", 2.50], null]}\n{"title": "B", "it": true}\n'
        b'{"title": "C", "it": {"Books": 1, "none": null}}\n{"title": "D", "it": null}\n'
    )
    path = file_of(tmp_path, "a.jsonl", lines)
    rows = about(GenerateConfig(titles=str(path)), "it")
    assert [row["it"] for row in rows] == ["Books Novels 2.50", "true", "Books: 1", ""]


def test_lists_of_a_file_of_columns_are_attributes_as_cleaning_reads_them(tmp_path: Path) -> None:
    broken = pa.array([[b"\xff"]], pa.list_(pa.binary())).cast(
        options=pc.CastOptions(pa.list_(pa.string()), allow_invalid_utf8=True)
    )
    table = pa.table({
        "uid": ["a", "b", "c", "d"], "title": ["A", "B", "C", "D"], "content": ["x"] * 4,
        "it": pa.chunked_array([pa.array([["Books", "Novels"], [], None]), broken]),
        "size": [{"w": 1, "h": None}, {"w": 2, "h": 3}, None, None],
    })  # fmt: skip
    path = file_of(tmp_path, "a.parquet", table)
    names = ["it", "size"]
    (cleaned,) = forms_read(path, names)
    assert [tuple(row[name] for name in names) for row in cleaned.to_pylist()] == [
        ("Books Novels", "w: 1"), ("", "w: 2 h: 3"), ("", ""), ("\ufffd", ""),
    ]  # fmt: skip
    titles_of = GenerateConfig(titles=str(path))
    (batch,) = titles.find(titles_of, True, names).batches()
    assert batch.column("refused").to_pylist() == [None, None, None, "invalid_utf8"]
    assert [tuple(row[ATTRIBUTE + name] for name in names) for row in batch.to_pylist()] == [
        tuple(row[name] for name in names) for row in cleaned.to_pylist()
    ]


def forms_read(path: Path, attributes: list[str]) -> list[pa.Table]:
    """The rows of a file as cleaning reads them, a table a block."""
    (file,) = find_files(str(path))
    fields = Fields(attributes=tuple((name, name) for name in attributes))
    blocks = forms.records(file, fields, 2**20, 2**20)
    return [forms.parse(block, file, fields, 2**20).rows for block, _ in blocks]


def test_a_file_of_titles_alone_has_no_attributes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = file_of(tmp_path, "a.txt", b"Kettle\nLamp\n")
    rows = about(GenerateConfig(titles=str(path)), "brand")
    assert [(row["title"], row["brand"]) for row in rows] == [("Kettle", ""), ("Lamp", "")]
    assert caplog.messages == [f"{path}: no column brand: prompts go without"]


def test_a_split_that_a_subset_does_not_have_is_refused(subset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "subset"
    shutil.copytree(subset, folder)
    made = manifest.read(Folder(str(folder)))
    train = tuple(each for each in made.outputs if each.path.startswith("train/"))
    Manifest("subset", {}, {}, (), train, Counts(6, 6)).write(Folder(str(folder)))
    with pytest.raises(SourceError, match="expected rows of split test, found only train"):
        titles.find(GenerateConfig(titles=str(folder)))


def test_the_output_of_another_stage_is_refused(run: Path) -> None:
    with pytest.raises(ManifestError, match=r"expected the output of clean or subset.*of train"):
        titles.find(GenerateConfig(titles=str(run)))


# What a user has --------------------------------------------------------------------------------

PAIRS = [("7", "Kettle"), ("8", "Lamp, green"), ("9", "Ünïcode 😀")]
TABLE = pa.table(
    {"uid": [7, 8, 9], "other": [1.5, 2.5, 3.5], "title": [title for _, title in PAIRS]}
)
LINES = "".join(f'{{"other": [1], "title": "{title}", "uid": {uid}}}\n' for uid, title in PAIRS)
CSV = "uid,other,title\n" + "".join(f'{uid},1.5,"{title}"\n' for uid, title in PAIRS)


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("titles.parquet", TABLE),
        ("titles.json", LINES.encode()),
        ("titles.jsonl", LINES.encode()),
        ("titles.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("titles.csv", CSV.encode()),
        ("titles.v2.csv", CSV.encode()),
        ("titles.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("with a mark.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("with a mark.jsonl", b"\xef\xbb\xbf" + LINES.encode()),
    ],
)
def test_every_kind_of_file_gives_the_same_rows(name: str, payload: Any, tmp_path: Path) -> None:
    assert rows_of(file_of(tmp_path, name, payload)) == PAIRS


def test_a_folder_of_parquet_files_is_read_by_name(tmp_path: Path) -> None:
    file_of(tmp_path, "b.parquet", TABLE.slice(1))
    file_of(tmp_path, "a.parquet", TABLE.slice(0, 1))
    file_of(tmp_path, "README.txt", b"not a title")
    assert rows_of(tmp_path) == PAIRS


def test_a_text_file_is_a_title_a_line(tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.txt", '\ufeffKettle\r\nLamp, "green"\r\n\r\n  Ünïcode\n'.encode())
    assert rows_of(path) == [("0", "Kettle"), ("1", 'Lamp, "green"'), ("2", ""), ("3", "  Ünïcode")]
    packed = file_of(tmp_path, "b.txt.gz", gzip.compress(b"Kettle\nno newline at the end"))
    assert rows_of(packed) == [("0", "Kettle"), ("1", "no newline at the end")]


def test_quoted_fields_of_a_csv_may_hold_line_ends_commas_and_quotes(tmp_path: Path) -> None:
    payload = b'uid,title\r\n1,"Two\nlines, one ""title"""\r\n2,"Windows\r\nline"\r\n'
    assert rows_of(file_of(tmp_path, "a.csv", payload)) == [
        ("1", 'Two\nlines, one "title"'),
        ("2", "Windows\r\nline"),
    ]


def test_a_quoted_title_may_lie_across_the_blocks_that_a_csv_is_read_in(tmp_path: Path) -> None:
    title = "one\ntwo\nthree\n" * 5
    rows = [(str(i), title) for i in range(20_000)]  # 1.5 MB, a block is 1 MiB
    payload = "uid,title\n" + "".join(f'{uid},"{title}"\n' for uid, _ in rows)
    assert rows_of(file_of(tmp_path, "a.csv", payload.encode())) == rows


@pytest.mark.parametrize("title", ["2020-01-01", "007", "1e3", "NA", "null", "true", "1.50"])
def test_a_title_that_looks_like_another_type_stays_as_it_is(title: str, tmp_path: Path) -> None:
    expected = [(title, title)]
    assert rows_of(file_of(tmp_path, "a.csv", f"uid,title\n{title},{title}\n".encode())) == expected
    line = json.dumps({"uid": title, "title": title}).encode()
    assert rows_of(file_of(tmp_path, "a.jsonl", line)) == expected


def test_numbers_where_strings_belong_are_taken_as_written_and_nulls_as_empty(
    tmp_path: Path,
) -> None:
    payload = b'{"title": 1984}\n{"title": null}\n{}\n'
    assert rows_of(file_of(tmp_path, "a.jsonl", payload)) == [("0", "1984"), ("1", ""), ("2", "")]
    nulls = pa.table({"uid": [None, "u", None], "title": ["a", None, "c"]})
    assert rows_of(file_of(tmp_path, "a.parquet", nulls)) == [("0", "a"), ("u", ""), ("2", "c")]


def test_a_title_may_be_null_for_longer_than_a_block(tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.jsonl", b'{"title": null}\n' * 80_000 + b'{"title": "late"}\n')
    assert rows_of(path)[-1] == ("80000", "late")


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int8(), pa.string())],
)
def test_any_arrow_type_of_text_is_read(kind: pa.DataType, tmp_path: Path) -> None:
    values = pa.array(["Kettle", "Lamp"]).cast(kind)
    path = file_of(tmp_path, "a.parquet", pa.table({"title": values}))
    assert rows_of(path) == [("0", "Kettle"), ("1", "Lamp")]


def test_positions_stand_in_for_uids_across_batches(tmp_path: Path) -> None:
    names = [f"t{i}" for i in range(5_000)]  # more than a batch
    expected = [(str(i), name) for i, name in enumerate(names)]
    assert rows_of(file_of(tmp_path, "a.txt", "\n".join(names).encode())) == expected
    assert rows_of(file_of(tmp_path, "a.parquet", pa.table({"title": names}))) == expected


@pytest.mark.parametrize("limit", [1, 3, 4_096, 4_099, 9_000])
def test_a_limit_takes_the_first_titles(limit: int, tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.txt", "".join(f"t{i}\n" for i in range(5_000)).encode())
    rows = rows_of(path, limit=limit)
    assert rows == [(str(i), f"t{i}") for i in range(min(limit, 5_000))]


def test_a_limit_counts_rows_of_the_split_alone(clean: Path, subset: Path) -> None:
    assert rows_of(clean, limit=2) == [("a", "A"), ("e", "E")]
    assert rows_of(subset, limit=2) == [("test-0", "test kettle 0"), ("test-1", "test kettle 1")]


def test_columns_are_named(tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.csv", b"sku,uid,name\ns1,u1,Kettle\ns2,u2,Lamp\n")
    assert rows_of(path, title_column="name") == [("u1", "Kettle"), ("u2", "Lamp")]
    assert rows_of(path, title_column="name", uid_column="sku") == [
        ("s1", "Kettle"),
        ("s2", "Lamp"),
    ]


def test_the_digest_follows_the_titles_and_not_the_name(tmp_path: Path) -> None:
    def digest(name: str, payload: bytes) -> str:
        path = file_of(tmp_path, name, payload)
        return titles.find(GenerateConfig(titles=str(path))).digest

    assert digest("a.txt", b"Kettle\n") == digest("b.txt", b"Kettle\n")
    assert digest("a.txt", b"Kettle\n") != digest("a.txt", b"Lamp\n")


# What is refused --------------------------------------------------------------------------------


def parquet_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def damaged(payload: bytes, start: int, length: int) -> bytes:
    return payload[:start] + b"\xff" * length + payload[start + length :]


NO_UTF8 = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")]
)
LONG = pa.table({"title": [f"Kettle {i}" for i in range(5_000)]})
REFUSED: dict[str, tuple[str, Any, str]] = {
    "empty text": ("a.txt", b"", "rows, found an empty file"),
    "empty CSV": ("a.csv", b"", "rows, found an empty file"),
    "empty Parquet": ("a.parquet", b"", "rows, found an empty file"),
    "unknown suffix": ("a.xlsx", b"PK", "a name that ends in .*json.*, found a.xlsx"),
    "no suffix": ("titles", b"Kettle", "a name that ends in .*, found titles"),
    "only .gz": ("titles.gz", b"Kettle", "a name that ends in .*, found titles.gz"),
    "no title column, CSV": ("a.csv", b"uid,name\n1,K\n", "one column 'title', found uid, name"),
    "no title column, JSON": ("a.jsonl", b'{"name": "K"}\n', "one column 'title', found name"),
    "no title column, Parquet": ("a.parquet", pa.table({"a": [1]}), "one column 'title', found a"),
    "two title columns": ("a.csv", b"title,title\na,b\n", "one column 'title', found title, title"),
    "two uid columns": ("a.csv", b"uid,uid,title\n1,2,a\n", "one column 'uid', found uid, uid"),
    "row too short": (
        "a.csv",
        b"uid,title\n1,K\n2\n",
        "readable rows, found wrong_field_count: '2'",
    ),
    "CSV with a quote left open": (
        "a.csv",
        b'uid,title\n1,A\n2,"B\n3,C\n4,"D"\n5,E\n',
        "quotes that close .* from line 3 on",
    ),
    "CSV with a quote open at the end": ("a.csv", b'title\nA\n"B\nC\n', "quotes that .* line 3 on"),
    "CSV with text after a quote": ("a.csv", b'title\n"A" or B\n', "quotes that .* line 2 on"),
    "Latin-1 CSV": ("a.csv", b"title\ncaf\xe9\n", "readable rows, found invalid_utf8"),
    "Latin-1 JSON": ("a.jsonl", b'{"title": "caf\xe9"}\n', "readable rows, found invalid_utf8"),
    "Latin-1 text": ("a.txt", b"caf\xe9\n", "readable rows, found invalid_utf8"),
    "UTF-16 text": ("a.txt", "Kettle\n".encode("utf-16"), "text in UTF-8, found UTF-16; convert"),
    "text as JSON": (
        "a.jsonl",
        b"Kettle\n",
        "JSON lines, found plain text, no records",
    ),
    "JSON cut short": ("a.jsonl", b'{"title": "a"}\n{"titl', "readable rows, found invalid_json"),
    "JSON array": ("a.json", b'[{"title": "a"}]', "JSON lines, found one JSON array; .*jq"),
    "JSON object as title": (
        "a.jsonl",
        b'{"title": {"en": "a"}}\n',
        "readable rows, found wrong_type",
    ),
    "JSON list as title": ("a.jsonl", b'{"title": ["a"]}\n', "readable rows, found wrong_type"),
    "gzip cut short": (
        "a.txt.gz",
        gzip.compress(b"Kettle\n" * 9, mtime=0)[:-9],
        "a whole gzip stream, found .*end",
    ),
    "gzip damaged": (
        "a.txt.gz",
        damaged(gzip.compress(b"Kettle\n" * 9, mtime=0), 10, 4),
        "a whole gzip stream, found Error -1",
    ),
    "text called Parquet": ("a.parquet", b"Kettle\n" * 9, "readable rows, found Parquet magic"),
    "Parquet cut short": ("a.parquet", parquet_bytes(LONG)[:-50], "readable rows, found Parquet"),
    "Parquet page damaged": ("a.parquet", damaged(parquet_bytes(LONG), 10, 99), "readable rows"),
    "Parquet with no UTF-8": (
        "a.parquet",
        pa.table({"title": NO_UTF8}),
        "readable rows.*invalid_utf8",
    ),
    "Parquet list as title": ("a.parquet", pa.table({"title": [["a"]]}), "texts in column .*list"),
}


@pytest.mark.parametrize(("name", "payload", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_what_holds_no_titles_is_refused_in_one_line(
    name: str, payload: Any, told: str, tmp_path: Path
) -> None:
    path = file_of(tmp_path, name, payload)
    with pytest.raises(SourceError, match=f"expected {told}") as raised:
        rows_of(path)
    assert str(path) in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_uid_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.csv", b"uid,title\n1,K\n")
    with pytest.raises(SourceError, match="one column 'sku', found uid, title; name the columns"):
        rows_of(path, uid_column="sku")


def test_a_missing_file_and_folders_without_titles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.txt: expected a file or folder, found none"):
        titles.find(GenerateConfig(titles=str(tmp_path / "none.txt")))
    empty, other, broken = (tmp_path / name for name in ("empty", "other", "broken"))
    for folder in (empty, other, broken):
        folder.mkdir()
    with pytest.raises(SourceError, match="found an empty folder"):
        titles.find(GenerateConfig(titles=str(empty)))
    file_of(other, "photo.png", b"PNG")
    with pytest.raises(SourceError, match=r"expected Parquet files, found photo\.png"):
        titles.find(GenerateConfig(titles=str(other)))
    file_of(broken, "a.parquet", b"not at all")
    with pytest.raises(ManifestError, match=r"a\.parquet: expected a Parquet file"):
        titles.find(GenerateConfig(titles=str(broken)))


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("a.csv", b"uid,title\n"),
        ("a.txt.gz", gzip.compress(b"", mtime=0)),
        ("a.jsonl", b"\n\n"),
        ("a.parquet", LONG.slice(0, 0)),
    ],
)
def test_a_file_without_rows_gives_none(name: str, payload: Any, tmp_path: Path) -> None:
    assert rows_of(file_of(tmp_path, name, payload)) == []


# Parts ------------------------------------------------------------------------------------------


@given(sizes=st.lists(st.integers(0, 9), max_size=12), part_rows=st.integers(1, 11))
def test_parts_are_cut_by_position_whatever_the_batches(sizes: list[int], part_rows: int) -> None:
    total = sum(sizes)
    every = [{"uid": str(i), "title": f"t{i}", "refused": None} for i in range(total)]

    def batches() -> Iterator[pa.RecordBatch]:
        start = 0
        for size in sizes:
            yield pa.RecordBatch.from_pylist(every[start : start + size], schema=TITLES)
            start += size

    cut = [part.to_pylist() for part in titles.parts(Titles("", None, batches), part_rows)]
    assert cut == [every[start : start + part_rows] for start in range(0, total, part_rows)]


def test_parts_of_clean_shards_follow_the_split_and_not_the_shards(clean: Path) -> None:
    found = titles.find(GenerateConfig(titles=str(clean)))
    cut = [part.column("uid").to_pylist() for part in titles.parts(found, 2)]
    assert cut == [["a", "e"], ["f"]]


def test_an_unfinished_output_is_no_input(tmp_path: Path) -> None:
    """Its parts are whole, but more were to come: reading them would lose rows silently."""
    stage.begin(Folder(str(tmp_path)), "clean", {})
    (tmp_path / "part-00000.parquet").write_bytes(parquet_bytes(pa.table({"title": ["K"]})))
    with pytest.raises(ManifestError, match="found an unfinished one"):
        rows_of(tmp_path)
