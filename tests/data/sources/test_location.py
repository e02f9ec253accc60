"""Where a row came from: the command that is named prints its record, whatever the file is."""

import gzip
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from data.artefacts.folder import Artefact
from data.artefacts.manifest import Counts, Manifest
from data.sources.location import Location, locate
from preprocessing import forms
from preprocessing.fields import Fields
from preprocessing.files import SourceFile, find
from tests.preprocessing.forms.test_forms import FORMS, LINES, PARQUET, RECORDS

CHOSEN = 40
PLAIN = "\n".join(LINES).encode()


def catalogue(files: list[SourceFile], **config: Any) -> Manifest:
    inputs = tuple(Artefact(file.where, 1, 1, "0f") for file in files)
    return Manifest("clean", config, {}, inputs, (), Counts())


def printed(location: Location) -> str:
    done = subprocess.run(["bash", "-c", location.command], capture_output=True, check=True)
    return done.stdout.decode()


def parsed(file: SourceFile) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    fields, limit = Fields(attributes=(("price", "price"),)), 2**20
    blocks = [block for block, _ in forms.records(file, fields, 2**20, limit)]
    parts = [forms.parse(block, file, fields, limit) for block in blocks]
    return (
        [row for part in parts for row in part.rows.to_pylist()],
        [row for part in parts for row in part.quarantine.to_pylist()],
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_command_prints_the_record(form: str, tmp_path: Path) -> None:
    path = tmp_path / "it's a file"
    path.write_bytes(FORMS[form])
    (file,) = find(str(path))
    row = parsed(file)[0][CHOSEN]
    found = locate(catalogue([file]), row["source"], row["byte_offset"])
    unit = "row" if file.form in ("parquet", "arrow") else "byte"
    assert (found.path, found.place) == (file.where, f"{unit} {row['byte_offset']:,}")
    record = RECORDS[CHOSEN]
    out = printed(found)
    assert f"u{CHOSEN}" in out
    assert f"u{CHOSEN + 1}" not in out
    assert record["content"].rpartition(" | ")[2].split()[-1] in out
    assert record["price"] in out


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(
    "name",
    ["../y[1].json", "/abs/y.json", "./a b.json.gz", "deep/y.parquet", "-d.json", "--use=x.json"],
)
def test_members_are_printed_whatever_their_name(kind: str, name: str, tmp_path: Path) -> None:
    payload = gzip.compress(PLAIN) if name.endswith("gz") else PLAIN
    payload = PARQUET if name.endswith("parquet") else payload
    sink = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(sink, "w") as packed:
            packed.writestr("other.json", b"{}\n" * 9)
            packed.writestr(name, payload)
    else:
        with tarfile.open(fileobj=sink, mode="w:gz" if kind == "tar.gz" else "w") as packed:
            for member, content in (("other.json", b"{}\n" * 9), (name, payload)):
                about = tarfile.TarInfo(member)
                about.size = len(content)
                packed.addfile(about, io.BytesIO(content))
    path = tmp_path / f"raw.{kind}"
    path.write_bytes(sink.getvalue())
    files = find(str(tmp_path))
    (file,) = [file for file in files if "other" not in file.name]
    clean_name = name.removeprefix("/").removeprefix("../").removeprefix("./")
    assert (file.name, file.where) == (f"raw.{kind}/{clean_name}", f"{path}/{clean_name}")
    row = parsed(file)[0][CHOSEN]
    out = printed(locate(catalogue(files), row["source"], row["byte_offset"]))
    assert f"u{CHOSEN}" in out
    assert f"u{CHOSEN + 1}" not in out


@pytest.mark.parametrize("name", ["./a.json", "./a.json.gz", "./a.parquet"])
def test_a_member_far_on_in_a_packed_tar_is_found_by_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.sources.location._FURTHEST", 100_000)
    payload = gzip.compress(PLAIN) if name.endswith("gz") else PLAIN
    payload = PARQUET if name.endswith("parquet") else payload
    with tarfile.open(tmp_path / "raw.tar.gz", "w:gz") as packed:
        for member, content in (("./0.json", LINES[0].encode() * 2_000), (name, payload)):
            about = tarfile.TarInfo(member)
            about.size = len(content)
            packed.addfile(about, io.BytesIO(content))
    files = find(str(tmp_path))
    row = parsed(files[1])[0][CHOSEN]
    found = locate(catalogue(files), row["source"], row["byte_offset"])
    assert f"'uid': 'u{CHOSEN}'" in printed(found).replace('"', "'")


@pytest.mark.parametrize(
    ("payload", "line"),
    [
        (PLAIN + b"\n{broken\n" + PLAIN, b"{broken"),
        (b'[{"uid": "1", "title": "t", "content": "c"}, {"uid":\n 7}, {"uid": "2"}]',
         b'{"uid":\n 7}'),
        (b'uid,title,content\n1,t,c\n2,"t\nt","c"x\n3,t,c\n', b'2,"t\nt","c"x'),
    ],
)  # fmt: skip
def test_a_quarantined_record_is_printed_as_it_stands(
    payload: bytes, line: bytes, tmp_path: Path
) -> None:
    (tmp_path / "raw.json").write_bytes(payload)
    (file,) = find(str(tmp_path))
    fields = Fields()
    ((block, _),) = forms.records(file, fields, 2**20, 2**20)
    row = forms.parse(block, file, fields, 2**20).quarantine.to_pylist()[0]
    assert row["line"] == line
    found = locate(catalogue([file]), row["source"], row["byte_offset"], row["line"])
    assert printed(found).encode().removesuffix(b"\n") == line


def test_encodings_and_delimiters_are_those_that_were_stated(tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_bytes("uid^title^content\n1^Café^c\n2^Chá^d\n".encode("latin-1"))
    (file,) = find(str(tmp_path), "latin-1", "^")
    told = catalogue([file], encoding="iso8859-1", delimiter="^")
    assert printed(locate(told, "raw.csv", 18)) == "['1', 'Café', 'c']\n"


def test_of_files_with_one_name_the_one_of_the_row_is_printed(tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b" / "a.json"]
    paths[1].parent.mkdir()
    for place, path in enumerate(paths):
        path.write_bytes(b'{"uid": "%d"}\n' % place)
    inputs = tuple(Artefact(str(path), 1, 1, "0f") for path in reversed(paths))
    made = Manifest("clean", {}, {}, inputs, (), Counts())
    assert printed(locate(made, "a.json", 0)) == '{"uid": "0"}\n'
    assert printed(locate(made, "b/a.json", 0)) == '{"uid": "1"}\n'


def test_a_file_that_is_gone_is_named_without_a_command(tmp_path: Path) -> None:
    gone = f"{tmp_path}/gone.zip/rows.parquet"
    made = Manifest("clean", {}, {}, (Artefact(gone, 1, 1, "0f"),), (), Counts())
    assert locate(made, "gone.zip/rows.parquet", 1_234) == Location(gone, "row 1,234", "")
    assert locate(made, "other.json", 7) == Location("other.json", "byte 7", "")


def test_a_remote_file_is_printed(tmp_path: Path) -> None:
    (tmp_path / "raw.json").write_bytes(PLAIN)
    url = f"local://{tmp_path}/raw.json"
    made = Manifest("clean", {}, {}, (Artefact(url, 1, 1, "0f"),), (), Counts())
    found = locate(made, "raw.json", PLAIN.index(b'{"uid": "u1"'))
    assert found.command.startswith(f"{sys.executable} -c")
    done = subprocess.run(["bash", "-c", found.command], capture_output=True, check=True)
    assert done.stdout.decode() == LINES[1] + "\n"
    assert os.fspath(url) in found.command
