"""The cleaning stage as its command runs it: rows, balance, bad input, resumption after a kill."""

import dataclasses
import gzip
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.exceptions import FSTimeoutError

from data import sampling
from data.artefacts import manifest, schema
from data.artefacts.folder import Folder, digest_bytes
from data.artefacts.manifest import Counts
from data.artefacts.parts import list_parts
from data.errors import OutputError
from preprocessing.__main__ import main
from preprocessing.clean import (
    CleanPart,
    RawBlock,
    clean_part,
    is_too_broken,
    order_rows,
    shortest_record,
    verify_part,
)
from preprocessing.config import CleanConfig, RowRules
from preprocessing.files import SourceFile, find
from preprocessing.source import cut_stream
from tests import killing
from tests.builders import (
    KEPT,
    REFUSED,
    digest_files,
    random_text,
    raw_line,
    raw_lines,
    write_raw,
)

RULES = ("--rules.content_min=20", "--rules.content_max=200")
ROWS = 600


def read(folder: Path, inside: str = "") -> list[dict[str, Any]]:
    """All rows of a folder, in file order."""
    files = sorted((folder / inside).glob("part-*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return sorted(rows, key=lambda row: (row["source"], row["byte_offset"]))


def without_source(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "source"} for row in rows]


@pytest.fixture
def clean(scheduler: str) -> Callable[..., int]:
    """Run the command on the shared cluster, with rules that suit the invented records."""

    def run(source: Path, out: Path, *words: str) -> int:
        asked = (f"--source={source}", f"--out={out}", f"--scheduler={scheduler}")
        return main(["clean", *asked, *RULES, *words])

    return run


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw file of invented records, one in a hundred broken."""
    return Path(write_raw(tmp_path_factory.mktemp("raw") / "trn.json", raw_lines(ROWS)))


@pytest.fixture(scope="session")
def reference(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That file cleaned by one worker in one block."""
    out = tmp_path_factory.mktemp("reference") / "clean"
    assert main(["clean", f"--source={raw}", f"--out={out}", "--workers=1", *RULES, *LOOSE]) == 0
    return out


LOOSE = ("--max_quarantined_share=0.02",)


def test_every_line_is_kept_dropped_or_quarantined_for_the_reason_it_should(
    reference: Path, raw: Path
) -> None:
    result = manifest.read(Folder(str(reference)), "clean")
    assert result.counts.quarantined == {"invalid_json": 6}
    assert result.counts.dropped == {
        "title_empty": 18,
        "content_empty": 18,
        "content_too_short": 6,
        "content_too_long": 6,
    }
    assert (result.counts.read, result.counts.kept) == (ROWS, ROWS - 54)
    assert [(each.rows, each.bytes) for each in result.inputs] == [(ROWS, raw.stat().st_size)]
    assert result.inputs[0].path == str(raw)
    assert [each.path for each in result.outputs] == [
        "quarantine/part-00000.parquet",
        "part-00000.parquet",
    ]
    for each in result.outputs:
        payload = (reference / each.path).read_bytes()
        assert (each.bytes, each.digest) == (len(payload), digest_bytes(payload))
    assert len(read(reference)) == result.counts.kept
    assert sorted(os.listdir(reference)) == ["manifest.json", "part-00000.parquet", "quarantine"]


def test_rows_are_repaired_and_have_the_schema_key_split_and_line_of_the_design(
    reference: Path, raw: Path
) -> None:
    table = pq.read_table(reference / "part-00000.parquet")
    assert table.schema.remove_metadata() == schema.CLEAN
    schema.check(table, schema.CLEAN, "part")
    keys = table.column("sample_key").to_pylist()
    assert keys == sorted(keys)
    data = raw.read_bytes()
    shares = CleanConfig().shares
    for row in table.to_pylist():
        record = json.loads(data[row["byte_offset"] :].split(b"\n")[0])
        assert record["uid"] == row["uid"]
        assert row["title"] == record["title"].replace("&amp;", "&")
        assert "  " not in row["content"]
        assert [row["sample_key"]] == sampling.sample_keys([row["uid"]], 3407)
        assert [row["split"]] == sampling.splits([row["title"]], 3407, shares)
    repaired = next(row["content"] for row in table.to_pylist() if "DuNord" in row["content"])
    assert repaired.startswith("Café DuNord '")


def test_attributes_are_repaired_text_behind_the_other_columns(tmp_path: Path) -> None:
    text = "Boils water for as long as you like."
    lines = [
        raw_line("a", "A", text, brand=" A &amp;  B", price=9.5, size=43),
        raw_line("b", "B", text, price=None, size=True),
        raw_line("c", "C", text, brand="C", price="12").replace(b'"12"', b"12.50"),
    ]
    source = write_raw(tmp_path / "trn.json", lines)
    for name, words in (("with", ["--attributes=[price, brand]"]), ("without", [])):
        flags = (*RULES, f"--source={source}", f"--out={tmp_path / name}", "--workers=1")
        assert main(["clean", *flags, *words]) == 0
    rows, plain = read(tmp_path / "with"), read(tmp_path / "without")
    assert [(row.pop("price"), row.pop("brand")) for row in rows] == [
        ("9.5", "A & B"), ("", ""), ("12.50", "C"),
    ]  # fmt: skip
    assert rows == plain
    made = manifest.read(Folder(str(tmp_path / "with")), "clean")
    assert made.config["attributes"] == made.identity["attributes"] == ["price", "brand"]
    made = manifest.read(Folder(str(tmp_path / "without")), "clean")
    assert not {"attributes"} & {*made.config, *made.identity}
    flags = (f"--source={source}", f"--out={tmp_path / 'other'}", "--attributes=[content]")
    with pytest.raises(SystemExit, match="2"):
        main(["clean", *flags])


def test_quarantine_holds_the_broken_lines_as_they_stand(reference: Path, raw: Path) -> None:
    data = raw.read_bytes()
    table = pq.read_table(reference / "quarantine" / "part-00000.parquet")
    assert table.schema.remove_metadata() == schema.QUARANTINE
    for row in table.to_pylist():
        assert row["line"] == data[row["byte_offset"] :].split(b"\n")[0]
        assert (row["reason"], row["source"]) == ("invalid_json", "trn.json")


@pytest.mark.parametrize(("workers", "block"), [(2, 10_000), (3, 3_001)])
def test_any_number_of_workers_and_any_block_size_give_the_same_rows(
    raw: Path, reference: Path, tmp_path: Path, workers: int, block: int
) -> None:
    out = tmp_path / "clean"
    asked = (f"--source={raw}", f"--out={out}", f"--workers={workers}", f"--block_bytes={block}")
    assert main(["clean", *asked, *RULES, *LOOSE]) == 0
    assert len(list_parts(Folder(str(out)))) == -(-raw.stat().st_size // block)
    assert read(out) == read(reference)
    assert read(out, "quarantine") == read(reference, "quarantine")


def test_gzip_gives_the_same_rows_and_the_same_parts_but_for_the_name(
    raw: Path, reference: Path, tmp_path: Path, clean: Callable[..., int]
) -> None:
    packed = tmp_path / "trn.json.gz"
    packed.write_bytes(gzip.compress(raw.read_bytes()))
    assert clean(packed, tmp_path / "clean", "--block_bytes=5000", *LOOSE) == 0
    assert without_source(read(tmp_path / "clean")) == without_source(read(reference))
    plain, compressed = (
        manifest.read(Folder(str(folder))).inputs[0] for folder in (reference, tmp_path / "clean")
    )
    assert (compressed.rows, compressed.bytes) == (plain.rows, plain.bytes)


def test_two_files_of_a_folder_give_their_rows_under_their_names(
    reference: Path, tmp_path: Path, clean: Callable[..., int]
) -> None:
    cut = raw_lines(ROWS)
    write_raw(tmp_path / "raw" / "a.json", cut[:250])
    write_raw(tmp_path / "raw" / "b.json.gz", cut[250:])
    assert clean(tmp_path / "raw", tmp_path / "clean", "--block_bytes=7000", *LOOSE) == 0
    rows = read(tmp_path / "clean")
    assert {row["source"] for row in rows} == {"a.json", "b.json.gz"}
    names = ("uid", "title", "content", "split", "sample_key")
    assert [[row[name] for name in names] for row in rows] == [
        [row[name] for name in names] for row in read(reference)
    ]
    offset = sum(len(each) + 1 for each in cut[:250])
    expected = [row["byte_offset"] for row in read(reference)]
    assert [row["byte_offset"] + (row["source"] != "a.json") * offset for row in rows] == expected


def test_every_odd_line_among_good_ones_gets_the_verdict_that_it_gets_alone(
    tmp_path: Path, clean: Callable[..., int]
) -> None:
    good = [raw_line(f"good {i}", "Lamp", "Bright and small and green.") for i in range(300)]
    odd = [each for each, _ in REFUSED.values()] + [each for each, _ in KEPT.values()]
    shuffled = [*good[:100], b"", *odd, *good[100:], b"x" * 70_000]
    path = tmp_path / "trn.json"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(shuffled))
    words = ("--max_quarantined_share=1", "--max_line_bytes=60000", "--block_bytes=4096")
    loose = ("--rules.title_min=0", "--rules.content_min=0", "--rules.content_max=null")
    assert clean(path, tmp_path / "clean", *words, *loose) == 0
    counts = manifest.read(Folder(str(tmp_path / "clean"))).counts
    expected: dict[str, int] = {"line_too_long": 1}
    for _, reason in REFUSED.values():
        expected[reason] = expected.get(reason, 0) + 1
    assert counts.quarantined == expected
    assert counts.dropped == {"blank_line": 1}
    assert counts.kept == len(good) + len(KEPT)
    assert counts.read == len(shuffled)
    data = path.read_bytes()
    for row in read(tmp_path / "clean", "quarantine"):
        assert data[row["byte_offset"] :].startswith(row["line"])
        assert row["byte_offset"] == 3 or data[row["byte_offset"] - 1 :][:1] == b"\n"


def test_output_at_a_url_equals_local_output(
    raw: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Workers are other processes, whose memory this one cannot see: run the tasks here.
    out = "memory://test_pipeline/clean"
    config = CleanConfig(source=str(raw), out=out, rules=RowRules(content_min=20, content_max=200))
    [file] = find(str(raw))
    block = RawBlock(0, file, 0, file.size)
    part = clean_part(block, None, config)
    local = manifest.read(Folder(str(reference)))
    assert part.outputs == local.outputs
    fs = fsspec.filesystem("memory")
    for each in part.outputs:
        stored = fs.cat(f"/test_pipeline/clean/{each.path}")
        assert stored == (reference / each.path).read_bytes()
    assert verify_part(block, None, config) == part
    assert not [path for path in fs.find("/test_pipeline") if ".tmp-" in path]


def test_the_digest_of_a_run_is_the_same_in_another_folder_and_for_other_workers(
    raw: Path, reference: Path, tmp_path: Path, clean: Callable[..., int]
) -> None:
    moved = tmp_path / "elsewhere" / "trn.json"
    moved.parent.mkdir()
    moved.write_bytes(raw.read_bytes())
    assert clean(moved, tmp_path / "clean", *LOOSE) == 0
    one, two = (manifest.read(Folder(str(each))) for each in (reference, tmp_path / "clean"))
    assert one.digest == two.digest
    assert one.inputs[0].path != two.inputs[0].path


def test_a_finished_output_is_left_as_it_is_and_says_so(
    raw: Path, reference: Path, capsys: Any
) -> None:
    before = digest_files(reference) | {"manifest": (reference / "manifest.json").read_bytes()}
    asked = (f"--source={raw}", f"--out={reference}", "--workers=1")
    assert main(["clean", *asked, *RULES, *LOOSE]) == 0
    assert "already finished" in capsys.readouterr().out
    after = digest_files(reference) | {"manifest": (reference / "manifest.json").read_bytes()}
    assert after == before


def test_a_source_that_was_edited_in_place_is_not_called_finished(
    tmp_path: Path, clean: Callable[..., int], capsys: Any
) -> None:
    texts = [random_text(60, seed=i) for i in range(20)]
    lines = [raw_line(f"u{i}", content=text, x="y" * 100_000) for i, text in enumerate(texts)]
    raw, out = write_raw(tmp_path / "trn.json", lines), tmp_path / "clean"
    assert clean(raw, out) == 0
    files, payload = find(str(raw)), raw.read_bytes()
    raw.write_bytes(payload.replace(b'"u1"', b'"v1"'))
    assert find(str(raw)) == files  # neither size nor samples show it
    assert clean(raw, out) == 1
    told = f"{raw}: expected what the output was made of, found other bytes; use --overwrite true"
    assert told in capsys.readouterr().err
    raw.write_bytes(payload)
    assert clean(raw, out) == 0
    assert "already finished" in capsys.readouterr().out


def test_output_of_another_config_is_refused_by_field_and_replaced_when_asked(
    raw: Path, tmp_path: Path, clean: Callable[..., int], capsys: Any
) -> None:
    out = tmp_path / "clean"
    assert clean(raw, out, "--block_bytes=10000", *LOOSE) == 0
    first = len(read(out))
    capsys.readouterr()
    other = ("--rules.title_min=19", *LOOSE)
    assert clean(raw, out, *other) == 1
    told = capsys.readouterr().err
    assert "rules.title_min=19" in told
    assert "--overwrite true" in told
    assert len(read(out)) == first
    assert clean(raw, out, *other, "--overwrite=true") == 0
    assert 0 < len(read(out)) < first
    assert list_parts(Folder(str(out))) == ["part-00000.parquet"]


def test_attributes_stand_repaired_behind_the_columns_and_nothing_else_changes(
    tmp_path: Path, clean: Callable[..., int]
) -> None:
    lines = [raw_line(str(i), content="Bright and small and green.", brand=" Black &amp; Decker ",
                      price=9.5 if i % 2 else None) for i in range(4)]  # fmt: skip
    source = write_raw(tmp_path / "trn.json", lines)
    for name, words in (("with", ("--attributes=[brand, price]",)), ("without", ())):
        assert clean(source, tmp_path / name, *words) == 0
    table = pq.read_table(tmp_path / "with" / "part-00000.parquet")
    names = ["brand", "price"]
    assert table.schema.remove_metadata() == schema.with_attributes(schema.CLEAN, names)
    assert set(table.column("brand").to_pylist()) == {"Black & Decker"}
    assert sorted(table.column("price").to_pylist()) == ["", "", "9.5", "9.5"]
    plain = pq.read_table(tmp_path / "without" / "part-00000.parquet")
    assert table.select(schema.CLEAN.names).equals(plain)
    one, two = (manifest.read(Folder(str(tmp_path / name))) for name in ("with", "without"))
    assert one.config["attributes"] == one.identity["attributes"] == names
    optional = {"preset", "columns", "attributes", "encoding", "delimiter"}
    assert not optional & (two.config.keys() | two.identity.keys())


# Bad input -------------------------------------------------------------------------------------


def told_in_one_message(capsys: Any) -> str:
    told: str = capsys.readouterr().err
    errors = [each for each in told.splitlines() if each.startswith("error: ")]
    assert len(errors) == 1, told
    assert "Traceback" not in told
    return told[told.index("error: ") :]


def make_bad_source(kind: str, folder: Path, lines: list[bytes]) -> Path:
    path = folder / "raw" / "trn.json"
    path.parent.mkdir()
    match kind:
        case "missing":
            pass
        case "empty":
            path.write_bytes(b"")
        case "empty gzip":
            path = path.with_suffix(".json.gz")
            path.write_bytes(gzip.compress(b""))
        case "directory of other things":
            (path.parent / "notes.txt").write_text("no lines here")
            path = path.parent
        case "truncated gzip":
            path = path.with_suffix(".json.gz")
            payload = gzip.compress(b"\n".join(lines))
            path.write_bytes(payload[: len(payload) * 2 // 3])
        case "only blank lines":
            path.write_bytes(b"\n \n\r\n")
        case "only the mark":
            path.write_bytes(b"\xef\xbb\xbf")
        case "no row left":
            path.write_bytes(b'{"uid": "1", "title": "", "content": "c"}\n' * 5)
        case "a picture":
            path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40)
        case "UTF-16 without its mark":
            path.write_bytes(b"\n".join(lines).decode().encode("utf-16-le"))
    return path


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("missing", "expected a file or folder, found none"),
        ("empty", "expected records, found an empty file"),
        ("empty gzip", "expected records, found none"),
        ("directory of other things", "found notes.txt"),
        ("truncated gzip", "expected a whole gzip stream"),
        ("only blank lines", "expected rows that pass the rules, found none of 3"),
        ("only the mark", "expected records, found none"),
        ("no row left", "expected rows that pass the rules, found none of 5"),
        ("a picture", "expected records, found a picture"),
        (
            "UTF-16 without its mark",
            "found UTF-16 without its mark; state it: --encoding utf-16-le",
        ),
    ],
)
def test_bad_input_ends_in_one_message_and_leaves_no_output(
    tmp_path: Path, clean: Callable[..., int], capsys: Any, kind: str, found: str
) -> None:
    path = make_bad_source(kind, tmp_path, raw_lines(400))
    assert clean(path, tmp_path / "clean", "--block_bytes=4096", *LOOSE) == 1
    told = told_in_one_message(capsys)
    assert found in told
    assert str(path) in told
    assert not (tmp_path / "clean").exists()


@pytest.mark.parametrize("share", ["0.01", "1"])
@pytest.mark.parametrize(
    ("line", "mend"),
    [
        (
            {"asin": "1", "title": "t", "description": ["c"]},
            "name them with --columns '{uid: asin, title: title, content: description}'",
        ),
        (
            {"uid": 7, "title": "t", "content": "c"},
            "lists of texts are read with --columns '{uid: uid, title: title, content: content}'",
        ),
        ({"a": 1}, 'found a in the first records, such as {"a": 1}; name those that are ours with'),
    ],
)
def test_records_with_other_fields_are_told_with_the_flag_that_names_them(
    tmp_path: Path, clean: Callable[..., int], capsys: Any, line: Any, mend: str, share: str
) -> None:
    path = tmp_path / "trn.json.gz"
    path.write_bytes(gzip.compress(json.dumps(line).encode() + b"\n") * 9)
    assert clean(path, tmp_path / "clean", f"--max_quarantined_share={share}") == 1
    told = told_in_one_message(capsys)
    assert mend in told
    assert str(path) in told
    assert len(told.splitlines()) == 1
    assert "--max_quarantined_share" not in told
    assert "--rules" not in told


def test_lines_in_another_encoding_are_told_with_the_flag_that_states_it(
    tmp_path: Path, clean: Callable[..., int], capsys: Any
) -> None:
    path = tmp_path / "trn.json"
    good = [raw_line(str(i), content="Bright and small and green.") for i in range(50)]
    path.write_bytes(b"\n".join([*good, good[0].replace(b"Bright", b"Gr\xfcn")]))
    assert clean(path, tmp_path / "clean") == 1
    told = told_in_one_message(capsys)
    assert "they are no UTF-8; state what they are: --encoding windows-1252\n" in told
    assert clean(path, tmp_path / "clean", "--encoding=windows-1252") == 0
    assert read(tmp_path / "clean")[-1]["content"].startswith("Grün and")


def test_after_a_time_out_of_the_network_the_same_command_goes_on(
    raw: Path, reference: Path, tmp_path: Path, clean: Any, capsys: Any, monkeypatch: Any
) -> None:
    path, out = tmp_path / "trn.json.gz", tmp_path / "clean"
    path.write_bytes(gzip.compress(raw.read_bytes(), 1))
    real = cut_stream

    def failing(*words: Any) -> Any:
        for place, block in enumerate(real(*words)):
            if place == 5:
                raise FSTimeoutError
            yield block

    words = ("--block_bytes=10000", *LOOSE)
    with monkeypatch.context() as patch:
        patch.setattr("preprocessing.source.cut_stream", failing)
        assert clean(path, out, *words) == 1
    told = told_in_one_message(capsys)
    assert f"{path}: expected an answer of the network, found FSTimeoutError; run the same" in told
    assert list_parts(Folder(str(out)))
    assert clean(path, out, *words) == 0
    assert without_source(read(out)) == without_source(read(reference))


def test_too_many_broken_lines_stop_the_run_with_the_first_three_shown(
    tmp_path: Path, clean: Callable[..., int], capsys: Any
) -> None:
    good = [raw_line(str(i), content="Bright and small and green.") for i in range(90)]
    bad = [b"broken %d" % i for i in range(10)]
    path = write_raw(tmp_path / "trn.json", [*good, *bad])
    # In blocks so small that the first ones hold no broken line, and others just one.
    words = ("--block_bytes=64", "--max_quarantined_share=0.09")
    assert clean(path, tmp_path / "clean", *words) == 1
    told = told_in_one_message(capsys)
    assert "expected at most 9.00% broken lines, found 10 of 100" in told
    assert all(f"b'broken {i}'" in told for i in range(3))
    assert "b'broken 3'" not in told
    assert "--max_quarantined_share" in told
    assert not (tmp_path / "clean").exists()
    assert clean(path, tmp_path / "clean", "--block_bytes=64", "--max_quarantined_share=0.1") == 0


@pytest.mark.parametrize("name", ["trn.json", "trn.json.gz"])
def test_broken_lines_that_the_rest_makes_up_for_do_not_stop_the_run(
    tmp_path: Path, clean: Callable[..., int], name: str
) -> None:
    # One long broken line first: most of the bytes, but one line in 301.
    good = [raw_line(str(i), content="Bright and small and green.") for i in range(300)]
    path = write_raw(tmp_path / name, [b"x" * 200_000, *good])
    words = ("--block_bytes=4096", "--max_line_bytes=5000")
    assert clean(path, tmp_path / "clean", *words) == 0
    counts = manifest.read(Folder(str(tmp_path / "clean"))).counts
    assert counts == Counts(301, 300, {}, {"line_too_long": 1})


def test_a_file_where_the_output_folder_should_be_is_told(
    raw: Path, tmp_path: Path, clean: Callable[..., int], capsys: Any
) -> None:
    out = tmp_path / "clean"
    out.write_text("mine")
    assert clean(raw, out) == 1
    assert str(out) in told_in_one_message(capsys)
    assert out.read_text() == "mine"


@pytest.mark.parametrize("words", [(), ("--overwrite=true",)])
def test_a_folder_with_other_things_is_never_written_into(
    raw: Path, tmp_path: Path, clean: Callable[..., int], capsys: Any, words: tuple[str, ...]
) -> None:
    out = tmp_path / "clean"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    assert clean(raw, out, *words) == 1
    told = told_in_one_message(capsys)
    assert "'thesis.txt' in it" in told
    assert "--out" in told
    assert os.listdir(out) == ["thesis.txt"]


def test_no_scheduler_at_the_address_is_a_usage_error(
    raw: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (f"--source={raw}", f"--out={tmp_path / 'clean'}", "--scheduler=nowhere://x")
    assert main(["clean", *asked, *RULES]) == 2
    assert "--scheduler: expected an address like tcp://host:8786" in told_in_one_message(capsys)


# Parts and resumption --------------------------------------------------------------------------


@pytest.fixture
def one_part(raw: Path, tmp_path: Path) -> tuple[RawBlock, CleanConfig, CleanPart]:
    """One block cleaned in this process."""
    rules = RowRules(content_min=20, content_max=200)
    config = CleanConfig(source=str(raw), out=str(tmp_path / "clean"), rules=rules)
    [file] = find(str(raw))
    block = RawBlock(2, file, 40_000, 80_000)
    return block, config, clean_part(block, None, config)


def test_a_finished_part_is_described_as_it_was_and_not_written_again(
    one_part: tuple[RawBlock, CleanConfig, CleanPart],
) -> None:
    block, config, part = one_part
    path = Path(config.out) / "part-00002.parquet"
    before = path.stat().st_mtime_ns
    assert verify_part(block, None, config) == part
    assert path.stat().st_mtime_ns == before
    assert part.counts.quarantined
    assert [each.path for each in part.outputs] == [
        "quarantine/part-00002.parquet",
        "part-00002.parquet",
    ]


def test_cleaning_a_block_again_writes_the_same_bytes(
    one_part: tuple[RawBlock, CleanConfig, CleanPart],
) -> None:
    block, config, part = one_part
    before = digest_files(Path(config.out))
    assert clean_part(block, None, config) == part
    assert digest_files(Path(config.out)) == before


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *[("part-00002.parquet", how) for how in ("cut", "garbage", "removed", "foreign")],
        *[("quarantine/part-00002.parquet", how) for how in ("cut", "garbage", "removed")],
    ],
)
def test_a_damaged_part_is_made_again(
    one_part: tuple[RawBlock, CleanConfig, CleanPart],
    name: str,
    damage: str,
) -> None:
    block, config, part = one_part
    before = digest_files(Path(config.out))
    path = Path(config.out) / name
    payload = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(payload[: len(payload) // 2])
        case "garbage":
            path.write_bytes(b"no parquet here")
        case "removed":
            path.unlink()
        case "foreign":
            pq.write_table(pa.table({"a": [1]}), path)
    assert verify_part(block, None, config) == part
    assert digest_files(Path(config.out)) == before


def test_a_part_of_other_input_is_refused_and_the_mending_flag_named(
    one_part: tuple[RawBlock, CleanConfig, CleanPart], raw: Path, tmp_path: Path
) -> None:
    block, config, _ = one_part
    changed = tmp_path / "trn.json"
    changed.write_bytes(raw.read_bytes().replace(b"Lamp", b"Pump"))
    file = dataclasses.replace(block.file, url=str(changed))
    with pytest.raises(OutputError, match="other bytes; use --overwrite true"):
        verify_part(dataclasses.replace(block, file=file), None, config)


def test_rows_of_one_key_are_ordered_by_uid_and_then_by_offset() -> None:
    columns = [["b", "a", "a", "c"], ["t"] * 4, ["c"] * 4, ["train"] * 4, [5, 5, 5, 1], ["s"] * 4]
    arrays = [
        pa.array(values, field.type)
        for values, field in zip([*columns, [1, 9, 2, 3]], schema.CLEAN, strict=True)
    ]
    ordered = order_rows(pa.table(arrays, schema=schema.CLEAN))
    found = [(row["uid"], row["byte_offset"]) for row in ordered.to_pylist()]
    assert found == [("c", 3), ("a", 2), ("a", 9), ("b", 1)]


def words(path: Path, out: Path) -> list[str]:
    placed = (f"--source={path}", f"--out={out}", "--workers=2", "--block_bytes=32768")
    return ["preprocessing", "clean", *placed, *RULES, *LOOSE]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of 20,000 records, plain and gzip: over 80 blocks of 32 KiB."""
    folder = tmp_path_factory.mktemp("large")
    made = raw_lines(20_000)
    return {name: write_raw(folder / name, made) for name in ("trn.json", "trn.json.gz")}


@pytest.mark.parametrize("name", ["trn.json", "trn.json.gz"])
def test_after_a_kill_the_same_command_ends_in_the_bytes_of_an_uninterrupted_run(
    large: dict[str, Path], tmp_path: Path, clean: Any, name: str
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "clean"
    killed = killing.kill_midway(words(large[name], out), out, 5)
    # What a kill in the middle of a write leaves behind, were it not so rare.
    for stray in (
        ".tmp-part-00001.parquet-0badbad0",
        "quarantine/.tmp-part-00001.parquet-0badbad0",
    ):
        (out / stray).parent.mkdir(exist_ok=True)
        (out / stray).write_bytes(b"PAR1")
    blocks = ("--block_bytes=32768", *LOOSE)
    assert clean(large[name], whole, *blocks) == 0
    assert clean(large[name], out, *blocks) == 0
    killing.check_resumed(out, whole, killed, digest_files)


def test_an_interrupted_run_says_that_it_goes_on_and_ends_with_130(
    large: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "clean"
    with killing.start(words(large["trn.json"], out)) as process, killing.none_left(process):
        killing.wait_for_parts(process, out, 3)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: the workers get it too
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "error: interrupted; the same command goes on from here" in told
    assert "Traceback" not in told
    assert not (out / "manifest.json").exists()


def test_a_run_stops_early_only_where_no_rest_can_make_up_for_the_broken_lines() -> None:
    config = CleanConfig(max_quarantined_share=0.01)
    counts = Counts(10, 0, {}, {"invalid_json": 10})
    assert not is_too_broken(config, counts, 990)
    assert is_too_broken(config, counts, 989)


def test_short_rows_of_a_table_make_up_for_broken_ones_before_them(
    clean: Callable[..., int], tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    good = "1,Lamp," + random_text(40, 1) + "\n"
    path.write_text("uid,title,content\n" + good + "x\n" * 10 + "1,,\n" * 1_000)
    words = ("--block_bytes=1024", "--max_quarantined_share=0.01")
    assert clean(path, tmp_path / "clean", *words) == 0


def test_no_record_is_shorter_than_the_shortest() -> None:
    file = SourceFile("a", "a", 0, "")
    assert shortest_record(CleanConfig(), file) == len('{"uid":"","title":"","content":""}')
    config = CleanConfig(columns={"uid": "a", "title": "\u00e9", "content": "c"})
    assert shortest_record(config, file) == len('{"a":0,"\u00e9":"","c":""}')
    config = CleanConfig(columns={"uid": None, "title": "t", "content": "t"})
    assert shortest_record(config, file) == len('{"t":""}')
    table = dataclasses.replace(file, form="table", columns=("uid", "title", "content", "price"))
    assert shortest_record(config, table) == len(",,,\n")


# The real records ------------------------------------------------------------------------------


@pytest.mark.real
def test_the_real_records_balance_under_each_recipe(
    real_records: Path, tmp_path: Path, scheduler: str, root: Path
) -> None:
    with gzip.open(real_records) as file:
        lines = sum(1 for _ in file)
    for recipe in ("default", "tech-challenge-03"):
        out = tmp_path / recipe
        words = (
            f"--config={root}/preprocessing/recipes/{recipe}.yaml",
            f"--source={real_records}", f"--out={out}", f"--scheduler={scheduler}",
            "--block_bytes=300000",
        )  # fmt: skip
        assert main(["clean", *words]) == 0
        counts = manifest.read(Folder(str(out)), "clean").counts
        assert counts.read == lines
        assert counts.kept == len(read(out)) > 0
        assert counts.read == counts.kept + sum(counts.dropped.values()) + len(
            read(out, "quarantine") if counts.quarantined else []
        )


@pytest.mark.parametrize("block", [20_000, 200_000])
def test_records_that_one_line_in_quarantine_hides_are_told(
    block: int, tmp_path: Path, clean: Callable[..., int], caplog: Any
) -> None:
    lines = [raw_line(f"u{i}", content=random_text(60, seed=i)) for i in range(300)]
    raw = tmp_path / "trn.json"
    raw.write_bytes(b"\n".join(lines[:200]) + b"\n" + b"\r".join(lines[200:]))
    assert clean(raw, tmp_path / "clean", f"--block_bytes={block}") == 0
    told = caplog.text
    assert f"{raw}: lines in quarantine hold at least 99 records more; convert" in told
