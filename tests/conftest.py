"""Builders that the tests share: invented records, raw files, clean folders, one small cluster."""

import gzip
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import settings

from data import sampling
from data.artefacts import schema
from data.artefacts.folder import Artefact, Folder
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.parts import commit_part, part_name
from data.sampling import SplitShares

ROOT = Path(__file__).resolve().parents[1]
WORDS = (
    *("kettle", "steel", "green", "quiet", "garden", "novel", "lamp", "boils"),
    *("folds", "lasts", "small", "bright", "river", "paper", "copper"),
)

# A shell ignores Ctrl-C for what it starts in the background, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("house", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("house")


def make_line(
    uid: str, title: str = "Kettle", content: str = "Boils water.", **other: Any
) -> bytes:
    """One raw line in the shape of the catalogue, without its newline."""
    record = {"uid": uid, "title": title, "content": content} | other
    return json.dumps(record).encode()


def make_text(characters: int, seed: int = 0) -> str:
    """Words of exactly so many characters, neither starting nor ending with a space."""
    draw = random.Random(seed)  # noqa: S311
    text = ""
    while len(text) < characters:
        text += draw.choice(WORDS) + " "
    text = text[:characters]
    return text[:-1] + "." if text.endswith(" ") else text


def make_lines(rows: int) -> list[bytes]:
    """Invented records: most pass ``content_min=20, content_max=200``; one in a hundred is broken,
    and entities, mojibake, double spaces, empty fields and duplicates are among them."""
    lines = []
    for i in range(rows):
        title = f"{WORDS[i % 15].title()} No. {i % (rows // 2 + 1)} &amp; Son"
        content = make_text(30 + i % 120, seed=i % (rows - rows // 20 or 1))
        match i % 100:
            case 3:
                lines.append(b'{"uid": "' + str(i).encode() + b'", "title": broken}')
                continue
            case 7 | 17 | 27:
                title = ""
            case 8 | 18 | 28:
                content = ""
            case 9:
                content = f"CafÃ© DuNord  &#x92;{content}&nbsp;"
            case 10:
                content = "short"
            case 11:
                content = make_text(300, seed=i)
        lines.append(make_line(f"{i:010d}", title, content, target_ind=[i], target_rel=[1.0]))
    return lines


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def line() -> Callable[..., bytes]:
    return make_line


@pytest.fixture(scope="session")
def text() -> Callable[..., str]:
    return make_text


@pytest.fixture(scope="session")
def lines() -> Callable[[int], list[bytes]]:
    return make_lines


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """Write lines as a raw file, gzip where its name ends so."""

    def write_lines(path: Path, lines: list[bytes]) -> Path:
        payload = b"".join(line + b"\n" for line in lines)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(payload) if path.suffix == ".gz" else payload)
        return path

    return write_lines


REFUSED = {
    "text": (b"no JSON at all", "invalid_json"),
    "cut short": (b'{"uid": "1", "title": "t", "conte', "invalid_json"),
    "a line of an array": (b'{"uid": "1", "title": "t", "content": "c"},', "invalid_json"),
    "one of our fields twice": (
        b'{"uid": "1", "title": "t", "title": "u", "content": "c"}',
        "invalid_json",
    ),
    "one of our fields twice, once escaped": (
        b'{"uid": "1", "title": "t", "\\u0074itle": "u", "content": "c"}',
        "invalid_json",
    ),
    "two objects": (
        b'{"uid": "1", "title": "t", "content": "c"}{"uid": "2", "title": "t", "content": "c"}',
        "invalid_json",
    ),
    "null between two objects": (
        b'{"uid":"1","title":"t","content":"c"}null{"uid":"2","title":"t","content":"c"}',
        "invalid_json",
    ),
    "NUL between two objects": (
        b'{"uid":"1","title":"t","content":"c"}\0{"uid":"2","title":"t","content":"c"}',
        "invalid_json",
    ),
    "raw NUL in a text": (b'{"uid": "1", "title": "a\0b", "content": "c"}', "invalid_json"),
    "raw NUL in another field": (
        b'{"uid": "1", "title": "t", "content": "c", "x": "\0"}',
        "invalid_json",
    ),
    "only NULs": (b"\0\0\0\0", "invalid_json"),
    "raw tab in a text": (b'{"uid": "1", "title": "a\tb", "content": "c"}', "invalid_json"),
    "high surrogate alone": (
        b'{"uid": "1", "title": "\\ud800", "content": "c"}',
        "invalid_json",
    ),
    "low surrogate alone": (b'{"uid": "1", "title": "\\udc00", "content": "c"}', "invalid_json"),
    "mark inside the file": (
        b'\xef\xbb\xbf{"uid": "1", "title": "t", "content": "c"}',
        "invalid_json",
    ),
    "nested without end": (
        b'{"uid": "1", "title": "t", "content": "c", "x": ' + b"[" * 20_000,
        "invalid_json",
    ),
    "single quotes": (b"{'uid': '1', 'title': 't', 'content': 'c'}", "invalid_json"),
    "Latin-1": (b'{"uid": "1", "title": "caf\xe9", "content": "c"}', "invalid_utf8"),
    "surrogate as UTF-8": (
        b'{"uid": "1", "title": "\xed\xa0\x80", "content": "c"}',
        "invalid_utf8",
    ),
    "overlong UTF-8": (b'{"uid": "1", "title": "\xc0\xaf", "content": "c"}', "invalid_utf8"),
    "invalid UTF-8 in another field": (
        b'{"uid": "1", "title": "t", "content": "c", "x": "\xff"}',
        "invalid_utf8",
    ),
    "null": (b"null", "not_an_object"),
    "number": (b"17", "not_an_object"),
    "string": (b'"uid title content"', "not_an_object"),
    "array": (b'["uid", "title", "content"]', "not_an_object"),
    "empty object": (b"{}", "missing_field"),
    "no uid": (b'{"title": "t", "content": "c"}', "missing_field"),
    "no title": (b'{"uid": "1", "content": "c"}', "missing_field"),
    "no content": (b'{"uid": "1", "title": "t"}', "missing_field"),
    "field in other case": (b'{"UID": "1", "title": "t", "content": "c"}', "missing_field"),
    "number for uid": (b'{"uid": 1, "title": "t", "content": "c"}', "wrong_type"),
    "fraction for title": (b'{"uid": "1", "title": 1.5, "content": "c"}', "wrong_type"),
    "null for title": (b'{"uid": "1", "title": null, "content": "c"}', "wrong_type"),
    "true for content": (b'{"uid": "1", "title": "t", "content": true}', "wrong_type"),
    "array for content": (b'{"uid": "1", "title": "t", "content": ["c"]}', "wrong_type"),
    "object for title": (b'{"uid": "1", "title": {"en": "t"}, "content": "c"}', "wrong_type"),
}
"""Lines that are no records, and why."""

_TEXTS = b'{"uid": "1", "title": "t", "content": "c"'

KEPT = {
    "plain": (_TEXTS + b"}", ("1", "t", "c")),
    "other fields": (
        b'{"uid":"1","target_ind":[1,2],"title":"t","content":"c","target_rel":[0.5]}',
        ("1", "t", "c"),
    ),
    "windows line end": (_TEXTS + b"}\r", ("1", "t", "c")),
    "space around": (b" \t" + _TEXTS + b"} ", ("1", "t", "c")),
    "empty texts": (b'{"uid": "", "title": "", "content": ""}', ("", "", "")),
    "escaped NUL": (b'{"uid": "1", "title": "a\\u0000b", "content": "c"}', ("1", "a\0b", "c")),
    "escaped newline": (b'{"uid": "1", "title": "a\\nb", "content": "c"}', ("1", "a\nb", "c")),
    "escaped pair of surrogates": (
        b'{"uid": "1", "title": "\\ud83d\\ude00", "content": "c"}',
        ("1", "😀", "c"),
    ),
    "beyond ASCII": ('{"uid":"1","title":"Café 😀","content":"c"}'.encode(), ("1", "Café 😀", "c")),
    "braces in texts": (b'{"uid":"1","title":"}{","content":"}\\n{"}', ("1", "}{", "}\n{")),
    "looks like dates": (
        b'{"uid": "2020-01-01", "title": "2020-01-01", "content": "10:00:00"}',
        ("2020-01-01", "2020-01-01", "10:00:00"),
    ),
    "NaN elsewhere": (_TEXTS + b', "x": NaN}', ("1", "t", "c")),
    "huge integer elsewhere": (_TEXTS + b', "x": ' + b"9" * 6_000 + b"}", ("1", "t", "c")),
    "deep nesting elsewhere": (
        _TEXTS + b', "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        ("1", "t", "c"),
    ),
    "another field twice": (_TEXTS + b', "x": 1, "x": "2"}', ("1", "t", "c")),
    "null elsewhere": (_TEXTS + b', "x": null}', ("1", "t", "c")),
    "our names deeper down": (_TEXTS + b', "x": {"uid": 1, "title": null}}', ("1", "t", "c")),
}
"""Lines that are records, however odd, and the texts that they hold."""


@pytest.fixture(scope="session")
def refused() -> dict[str, tuple[bytes, str]]:
    return REFUSED


@pytest.fixture(scope="session")
def kept() -> dict[str, tuple[bytes, tuple[str, str, str]]]:
    return KEPT


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes one odd line with every one of them in turn."""
    if "refused_line" in metafunc.fixturenames:
        metafunc.parametrize("refused_line", REFUSED.values(), ids=REFUSED.keys())
    if "kept_line" in metafunc.fixturenames:
        metafunc.parametrize("kept_line", KEPT.values(), ids=KEPT.keys())


def make_clean(
    folder: Path, rows: list[tuple[str, str, str]], parts: int = 3, held_out: float = 0.1
) -> Path:
    """A finished clean folder of literal (uid, title, content) rows, as the cleaning writes it."""
    to = Folder(str(folder))
    keys = sampling.sample_keys([uid for uid, _, _ in rows], 3407)
    shares = SplitShares(held_out, held_out)
    split = sampling.splits([title for _, title, _ in rows], 3407, shares)
    full = [
        (*row, split[i], keys[i], "raw.json", 100 * i) for i, row in enumerate(rows)
    ]  # offsets rise with the position in the file
    outputs = []
    for index in range(parts):
        own = full[len(full) * index // parts : len(full) * (index + 1) // parts]
        columns = list(zip(*sorted(own, key=lambda row: (row[4], row[0])), strict=True))
        arrays = [
            pa.array(column, field.type)
            for column, field in zip(columns, schema.CLEAN, strict=True)
        ]
        table = pa.table(arrays, schema=schema.CLEAN)
        outputs.append(commit_part(to, part_name(index), table))
    Manifest(
        stage="clean",
        config={"seed": 3407},
        identity={"seed": 3407},
        inputs=(Artefact("/raw.json", len(rows), 1, "0f"),),
        outputs=tuple(outputs),
        counts=Counts(len(rows), len(rows)),
    ).write(to)
    return folder


@pytest.fixture(scope="session")
def clean_of() -> Callable[..., Path]:
    return make_clean


@pytest.fixture(scope="session")
def digests() -> Callable[[Path], dict[str, str]]:
    """The digest of every file below a folder but its manifest, which holds seconds."""

    def of(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path != folder / "manifest.json"
        }

    return of


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """Address of one running cluster, shared by the tests that do not start their own."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="session")
def python() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run this Python in a process of its own, from the checkout."""

    def run(*words: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=os.environ | env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def real_records() -> Path:
    """The real records, where this machine has them."""
    path = os.environ.get("CATALOGUE_REAL_RECORDS", "")
    if not path or not Path(path).is_file():
        pytest.skip("CATALOGUE_REAL_RECORDS names no file: the real records are not to be shared")
    return Path(path)
