"""What a user is told of records in quarantine: what they are, and what to type."""

import csv
import io
import json
import subprocess
from pathlib import Path

import pytest

from preprocessing import hints
from preprocessing.config import CleanConfig

ROWS = [{"uid": str(i), "title": f'the "{i}"', "content": "c, d"} for i in range(5)]


def hinted(path: Path, payload: bytes, reason: str, **settings: object) -> str:
    path.write_bytes(payload)
    config = CleanConfig(source=str(path), **settings)  # type: ignore[arg-type]
    (file,) = hints.find(config)
    return hints.hint(config, file, {reason: 1})


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_columns_are_proposed_only_where_they_help(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    payload = lines(*({"uid": i, "title": "t", "content": ["c"]} for i in range(5)))
    assert "are read with --columns" in hinted(path, payload, "wrong_type")
    columns = {"uid": "uid", "title": "title", "content": "content"}
    for row, stated in (({"uid": 1, "title": None, "content": "c"}, None),
                        ({"uid": "1", "title": 7, "content": "c"}, None),
                        ({"uid": [], "title": "t", "content": "c"}, columns)):  # fmt: skip
        assert hinted(path, lines(row), "wrong_type", columns=stated) == (
            "uid, title, content have to be texts; accept the others with --max_quarantined_share"
        )


@pytest.mark.parametrize("gap", [b"\t", b"\0", b"\x1b"])
def test_control_characters_in_json_are_named_and_taken_out(gap: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    payload = lines(*ROWS).replace(b"the ", b"the" + gap)
    hint = hinted(path, payload, "invalid_json")
    assert hint.startswith("control characters, such as tabs, stand in them; convert it: tr")
    subprocess.run(["bash", "-c", hint.partition("convert it: ")[2]], cwd=tmp_path, check=True)
    written = (tmp_path / "lines.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == ROWS


def test_json_and_python_on_lines_of_one_file_are_made_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    payload = b"".join(lines(row) if i < 4 else f"{row}\n".encode() for i, row in enumerate(ROWS))
    hint = hinted(path, payload, "invalid_json")
    assert hint.startswith("they are JSON lines with Python dictionaries between them")
    subprocess.run(["bash", "-c", hint.partition("convert it: ")[2]], cwd=tmp_path, check=True)
    written = (tmp_path / "lines.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == ROWS


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_quotes_behind_backslashes_in_a_table_are_named_and_doubled(
    delimiter: str, tmp_path: Path
) -> None:
    sink, style = io.StringIO(newline=""), {"doublequote": False, "escapechar": "\\"}
    writer = csv.DictWriter(sink, ROWS[0], delimiter=delimiter, quoting=csv.QUOTE_ALL, **style)  # type: ignore[arg-type]
    writer.writeheader()
    writer.writerows(ROWS)
    hint = hinted(tmp_path / "a.csv", sink.getvalue().encode(), "invalid_csv")
    assert hint.startswith("quotes in its cells follow a backslash; convert it: python3 -c")
    subprocess.run(["bash", "-c", hint.partition("convert it: ")[2]], cwd=tmp_path, check=True)
    with (tmp_path / "table.csv").open(newline="") as file:
        assert list(csv.DictReader(file, delimiter=delimiter)) == ROWS


def test_binary_data_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    payload = lines(*ROWS)
    assert "--encoding windows-1252" in hinted(tmp_path / "a", payload + b"\xe9", "invalid_utf8")
    hint = hinted(tmp_path / "a", payload + b"\xe9\0\0", "invalid_utf8")
    assert hint == "they look like binary data: fetch the file itself again"


def test_names_with_blanks_are_proposed_in_quotes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("uid, title, content\n1, a, b\n2, c, d\n")
    with pytest.raises(Exception, match=r'\{uid: uid, title: " title", content: " content"\}'):
        hints.find(CleanConfig(source=str(path)))


def test_of_many_columns_the_first_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["uid", "title", "content", *(f"c{i}" for i in range(999))]
    (tmp_path / "a.csv").write_text(f"{','.join(names)}\n" + "a," * 1_001 + "b\n")
    hints.say_forms(hints.find(CleanConfig(source=str(tmp_path / "a.csv"))))
    assert capsys.readouterr().out.endswith("c7, c8, …\n")
