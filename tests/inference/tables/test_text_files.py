"""Rows of users' files for prompts: what is taken, what is refused with its reason, and that no
row stops those after it."""

import gzip
import json
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import NetworkError, SourceError
from inference.config import GenerateConfig
from inference.tables import titles

Rows = list[tuple[str, str, str | None]]


def rows_of(where: Any, **settings: Any) -> Rows:
    """All (uid, title, refused) of an input, as generate takes it."""
    return [(row["uid"], row["title"], row["refused"]) for row in records(where, **settings)]


def records(where: Any, **settings: Any) -> list[dict[str, Any]]:
    found = titles.find(GenerateConfig(titles=str(where), **settings), for_prompts=True)
    return [row for batch in found.batches() for row in batch.to_pylist()]


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(name: str, payload: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(payload)
        return path

    return write


# JSON -------------------------------------------------------------------------------------------

GOOD = b'{"uid": "good", "title": "Lamp"}'


@pytest.mark.parametrize(
    ("value", "uid"),
    [
        ("12345678901234567890123", "12345678901234567890123"),
        ("-12345678901234567890123", "-12345678901234567890123"),
        ("18446744073709551616", "18446744073709551616"),
        ("1.0", "1.0"),
        ("1.50", "1.50"),
        ("1e5", "1e5"),
        ("-0", "-0"),
        ("-7", "-7"),
        ("0", "0"),
        ("true", "true"),
        ("false", "false"),
        ('"007"', "007"),
        ('"1e5"', "1e5"),
        ("null", "0"),
        ('""', ""),
    ],
)
def test_a_uid_of_json_is_taken_as_its_digits_stand(value: str, uid: str, file: Any) -> None:
    line = f'{{"uid": {value}, "title": "Lamp"}}\n'.encode()
    assert rows_of(file("a.jsonl", line)) == [(uid, "Lamp", None)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"title": ["a"], "uid": "x"}', "wrong_type"),
        (b'{"title": {"en": "a"}}', "wrong_type"),
        (b'{"title": "a", "uid": [1]}', "wrong_type"),
        (b'{"title": "a"', "invalid_json"),
        (b'{"title": NaN}', "invalid_json"),
        (b'{"title": "a", "other": Infinity}', "invalid_json"),
        (b'{"title": "a", "title": "b"}', "invalid_json"),
        (b'{"title": "a", "ti\\u0074le": "b"}', "invalid_json"),
        (b'{"title": "half a pair \\ud83d"}', "invalid_json"),
        (b'{"title": "a\0b"}', "invalid_json"),
        (b'\xef\xbb\xbf{"title": "a mark in the middle"}', "invalid_json"),
        (b'{"title": "caf\xe9"}', "invalid_utf8"),
        (b'["title"]', "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"title": "' + b"x" * (4 * 2**20) + b'"}', "line_too_long"),
        (b"[" * 5_000, "invalid_json"),
    ],
)
def test_a_bad_line_of_json_is_refused_with_its_reason_and_stops_no_other(
    line: bytes, reason: str, file: Any
) -> None:
    path = file("a.jsonl", b"\n".join([GOOD, line, GOOD, b""]))
    first, bad, last = rows_of(path)
    assert first == last == ("good", "Lamp", None)
    assert bad[2] == reason
    assert 0 < len(bad[1]) <= 1_000
    with pytest.raises(SourceError, match=f"expected readable rows, found {reason}"):
        list(titles.find(GenerateConfig(titles=str(path))).batches())


@pytest.mark.parametrize(
    "line",
    [
        b'{"title": "Lamp", "price": 3.5}\n{"title": "Lamp", "price": "$4"}',
        b'{"title": "Lamp", "tags": null}\n{"title": "Lamp", "tags": ["a", 1]}',
        b'{"title": "Lamp", "tags": []}\n{"title": "Lamp", "tags": {"a": 1}}',
        b'{"title": "Lamp", "a": 1, "a": 2}\n{"title": "Lamp", "b": "\\ud83d"}',
        b'{"title": "Lamp", "day": "2020-01-01"}\n{"title": "Lamp", "day": "today"}',
        b'{"title": "Lamp"}\n{"late": 1, "title": "Lamp", "big": "' + b"x" * (2 * 2**20) + b'"}',
        b'{"title": "Lamp"}\r\n\r\n  \n{"title": "Lamp"}',
    ],
)
def test_what_nobody_asked_for_refuses_nothing(line: bytes, file: Any) -> None:
    lamps: Rows = [("0", "Lamp", None), ("1", "Lamp", None)]
    assert rows_of(file("a.jsonl", line)) == lamps
    assert rows_of(file("b.JSON", gzip.compress(line))) == lamps


def test_a_column_may_appear_after_a_megabyte(file: Any) -> None:
    payload = (
        b'{"name": "early", "text": "some forty characters in all, or more"}\n' * 20_000
        + b'{"title": "late"}\n'
    )
    assert rows_of(file("a.jsonl", payload))[-1] == ("20000", "late", None)
    with pytest.raises(SourceError, match="expected one column 'price', found name, text, title"):
        records(file("a.jsonl", payload), keep_columns=["price"])


KEPT = {
    "mixed": ([3.5, "$4", None, [1]], pa.string(), ["3.5", "$4", None, "[1]"]),
    "whole": ([1, None, 3, 4], pa.int64(), [1, None, 3, 4]),
    "beyond 64 bits": ([1, 2**70, 3, 4], pa.string(), ["1", str(2**70), "3", "4"]),
    "number": ([1, 2.5, None, 2**60], pa.float64(), [1.0, 2.5, None, float(2**60)]),
    "flag": ([True, None, False, True], pa.bool_(), [True, None, False, True]),
    "flag or number": ([True, 1, False, 0], pa.string(), ["true", "1", "false", "0"]),
    "text": (["2020-01-01", "a", None, "b"], pa.string(), ["2020-01-01", "a", None, "b"]),
    "list": ([[], None, ["a"], ["b", "c"]], pa.list_(pa.string()), [[], None, ["a"], ["b", "c"]]),
    "empty objects": ([{}, None, {}, {}], pa.string(), ["{}", None, "{}", "{}"]),
    "endless": ([1, 2, 10**4_299, 4], pa.string(), ["1", "2", "1" + "0" * 4_299, "4"]),
    "nothing": ([None] * 4, pa.string(), [None] * 4),
}


@pytest.mark.parametrize("rows_at_once", [1, 3, 4_096])
@pytest.mark.parametrize("kind", KEPT)
def test_a_kept_column_has_one_type_and_is_text_where_its_values_are_of_several_kinds(
    kind: str, rows_at_once: int, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.tables.json_lines._ROWS", rows_at_once)
    monkeypatch.setattr("inference.tables.text_files._ROWS", rows_at_once)
    values, expected, kept = KEPT[kind]
    lines = [json.dumps({"title": "Lamp", "it": value}) for value in values]
    config = GenerateConfig(titles=str(file("a.jsonl", "\n".join(lines).encode())))
    found = titles.find(_with(config, keep_columns=["it"]), for_prompts=True)
    made = pa.Table.from_batches(found.batches())
    assert made.schema.field("it").type == expected
    assert made.column("it").to_pylist() == kept


@pytest.mark.parametrize("depth", [200, 400, 600, 900, 5_000])
def test_a_kept_value_of_any_depth_ends_no_run(depth: int, file: Any) -> None:
    deep = b'{"title": "deep", "it": ' + b"[" * depth + b"]" * depth + b"}"
    path = file("a.jsonl", b'{"title": "Lamp", "it": "x"}\n' + deep + b"\n")
    first, second = records(path, keep_columns=["it"])
    assert (first["title"], first["it"]) == ("Lamp", "x")
    assert second["refused"] in (None, "invalid_json")


def _with(config: GenerateConfig, **settings: Any) -> GenerateConfig:
    return GenerateConfig(**{**vars(config), **settings})


# CSV and text -----------------------------------------------------------------------------------


def test_a_bad_row_of_a_csv_is_refused_with_its_reason_and_stops_no_other(file: Any) -> None:
    payload = b"uid,title,other\n007,Lamp,\xff\n1,caf\xe9,\n2,Lamp\n3,Lamp,a,b\n\n-0,Lamp,\n"
    assert rows_of(file("a.csv", payload)) == [
        ("007", "Lamp", None),
        ("1", "1,caf\ufffd,", "invalid_utf8"),
        ("2", "2,Lamp", "wrong_field_count"),
        ("3", "3,Lamp,a,b", "wrong_field_count"),
        ("-0", "Lamp", None),
    ]


def test_a_field_of_a_csv_may_be_longer_than_pythons_own_limit(file: Any) -> None:
    payload = b'uid,title,text\n1,Lamp,"' + b"x, " * 50_000 + b'"\n2,Tent,\n'
    assert rows_of(file("a.csv", payload)) == [("1", "Lamp", None), ("2", "Tent", None)]
    assert records(file("a.csv", payload), keep_columns=["text"])[0]["text"] == "x, " * 50_000
    endless = b'title\nLamp\n"' + b"x\n" * (3 * 2**20)
    with pytest.raises(SourceError, match=r"fields of at most 4,194,304 .* from line 3 on"):
        rows_of(file("b.csv", endless))


def test_a_csv_with_bare_cr_or_crlf_is_read(file: Any) -> None:
    for end in ("\r", "\r\n"):
        payload = end.join(["title", "Lamp", '"Te,nt"', ""]).encode()
        assert rows_of(file("a.csv", payload)) == [("0", "Lamp", None), ("1", "Te,nt", None)]


def test_a_bad_line_of_text_is_refused_and_stops_no_other(file: Any) -> None:
    payload = b"Lamp\ncaf\xe9\n" + b"x" * (5 * 2**20) + b"\n\nTent"
    found = rows_of(file("a.txt", payload))
    assert [row[2] for row in found] == [None, "invalid_utf8", "line_too_long", None, None]
    assert (found[0][1], found[4]) == ("Lamp", ("4", "Tent", None))


# Repair and where files lie ---------------------------------------------------------------------

RAW, REPAIRED = "A&amp;B  caf\u00c3\u00a9 ", "A&B caf\u00e9"


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.parquet", "folder"])
def test_titles_of_files_are_repaired_for_prompts_and_kept_columns_are_not(
    name: str, file: Any, tmp_path: Path
) -> None:
    table = pa.table({"title": [RAW], "same": [RAW]})
    kept = [] if name == "a.txt" else ["same"]
    payloads = {
        "a.txt": RAW,
        "a.csv": f"title,same\n{RAW},{RAW}\n",
        "a.jsonl": json.dumps({"title": RAW, "same": RAW}),
    }
    if name in payloads:
        path = file(name, payloads[name].encode())
    else:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if name == "folder" else None
        pq.write_table(table, path / "a.parquet" if name == "folder" else path)
    [row] = records(path, keep_columns=kept)
    assert row["title"] == REPAIRED
    assert [row[each] for each in kept] == [RAW] * len(kept)
    [plain] = [
        row
        for batch in titles.find(GenerateConfig(titles=str(path))).batches()
        for row in batch.to_pylist()
    ]
    assert plain["title"] == RAW


def test_titles_of_our_own_folders_are_not_repaired_again(clean: Path, subset: Path) -> None:
    for folder in (clean, subset):
        found = titles.find(GenerateConfig(titles=str(folder)), for_prompts=True)
        assert not found.is_repaired
        assert found.batches().__next__().column("refused").null_count > 0


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt", "a.parquet", "a.csv.gz"])
def test_a_single_file_may_lie_at_a_url(name: str, tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    payloads = {"a.csv": b"title\nLamp\n", "a.jsonl": b'{"title": "Lamp"}', "a.txt": b"Lamp\n"}
    payloads["a.csv.gz"] = gzip.compress(payloads["a.csv"])
    pq.write_table(pa.table({"title": ["Lamp"]}), tmp_path / "a.parquet")
    payloads["a.parquet"] = (tmp_path / "a.parquet").read_bytes()
    fs.pipe(f"/titles_at_a_url/{name}", payloads[name])
    assert rows_of(f"memory://titles_at_a_url/{name}") == [("0", "Lamp", None)]
    with pytest.raises(SourceError, match="expected a file or folder, found none"):
        rows_of(f"memory://titles_at_a_url/none-{name}")


def test_parts_of_a_folder_give_a_kept_column_one_type_or_are_refused(tmp_path: Path) -> None:
    def write(*prices: Any) -> None:
        for place, price in enumerate(prices):
            pq.write_table(pa.table({"title": ["Lamp"], "price": [price]}),
                           tmp_path / f"{place}.parquet")  # fmt: skip

    write(1, 2.5)
    found = titles.find(GenerateConfig(titles=str(tmp_path), keep_columns=["price"]), True)
    assert pa.Table.from_batches(found.batches()).column("price").to_pylist() == [1.0, 2.5]
    write(1, "2")
    with pytest.raises(SourceError, match="kept columns of one type"):
        records(tmp_path, keep_columns=["price"])
    assert len(records(tmp_path)) == 2


def test_a_gzip_bomb_and_damage_at_the_end_are_found_before_a_row_is_given(
    file: Any,
) -> None:
    bomb = gzip.compress(b"Lamp\n" * 6_000_000)  # 30 MB from 30 kB
    with pytest.raises(SourceError, match=r"at most 200-fold, found .* unpack it first: gzip -dk"):
        titles.find(GenerateConfig(titles=str(file("a.txt.gz", bomb))))
    damaged = gzip.compress(b"Lamp\n" * 100_000)[:-8] + bytes(8)
    with pytest.raises(SourceError, match="expected a whole gzip stream"):
        titles.find(GenerateConfig(titles=str(file("b.txt.gz", damaged))))


def test_a_time_out_of_the_network_is_no_fault_of_the_titles(
    file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.exceptions import FSTimeoutError

    path = file("a.jsonl", GOOD)

    def fail(*_: Any) -> Any:
        raise FSTimeoutError

    monkeypatch.setattr("json.loads", fail)
    monkeypatch.setattr("inference.tables.titles._digest", fail)
    with pytest.raises(NetworkError, match="FSTimeoutError; run the same command again"):
        titles.find(GenerateConfig(titles=str(path)))


@pytest.mark.parametrize(
    ("name", "payload", "told"),
    [
        ("a.json", b'[\n  {"title": "a"},\n  {"title": "b"}\n]', "one JSON array; convert it: jq"),
        ("a.jsonl", b"{'title': 'a'}\n", "Python dictionaries"),
        ("a.jsonl", b'{"title": "a"}{"title": "b"}', "objects without line breaks"),
        ("a.jsonl", b"title,uid\na,1\nb,2\n", r"a table \(CSV\) with columns title, uid"),
        ("a.csv", b"PK\x03\x04....", "a zip archive; convert it: funzip < .* > titles.csv"),
        ("a.csv", b"title;uid\nA;1\nB;2\n", r"semicolons\) .*delimiter=';'.* > titles.jsonl"),
        ("a.csv", b"title\tuid\nA\t1\nB\t2\n", r"tab-separated\) with columns title, uid"),
        ("a.txt", "Lamp\n".encode("utf-16-le"), "UTF-16 without its mark"),
        ("a.txt", b"<!DOCTYPE html><html>", "a web page"),
        ("a.txt.gz", b"version https://git-lfs.github.com/spec/v1\n", "pointer .*; fetch it with"),
        ("a.txt", b"\x89PNG\r\n\x1a\n\0\0", "a picture"),
    ],
)
def test_a_file_of_another_kind_is_named(name: str, payload: bytes, told: str, file: Any) -> None:
    with pytest.raises(SourceError, match=f"found .*{told}") as raised:
        rows_of(file(name, payload))
    assert len(str(raised.value).splitlines()) == 1
