"""Where lines come from: any cut of the input, plain or gzip, gives the same lines."""

import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xxhash
from fsspec.exceptions import FSTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st

from data.artefacts.folder import Folder
from data.errors import NetworkError, SourceError
from preprocessing import files
from preprocessing.files import find
from preprocessing.source import Lines, cut_stream, ranges, read_lines, read_packed
from tests.builders import parse_lines, raw_lines

MARK = b"\xef\xbb\xbf"
LIMIT = 1_000


def by_range(data: bytes, block: int, limit: int = LIMIT) -> list[Lines]:
    file = io.BytesIO(data)
    return [read_lines(file, start, stop, limit) for start, stop in ranges(len(data), block)]


def by_stream(data: bytes, block: int, limit: int = LIMIT) -> list[Lines]:
    return list(cut_stream(io.BytesIO(data), block, limit))


def held(blocks: list[Lines]) -> list[tuple[int, bytes]]:
    return [(lines.offset, lines.data) for lines in blocks if lines.data]


def verdicts(blocks: list[Lines], limit: int) -> tuple[list[Any], list[Any], int, int]:
    parsed = [parse_lines(lines.data, lines.offset, "raw", limit) for lines in blocks]
    return (
        [row for each in parsed for row in each.rows.to_pylist()],
        [row for each in parsed for row in each.quarantine.to_pylist()],
        sum(each.lines for each in parsed),
        sum(each.blank for each in parsed),
    )


def test_a_size_is_cut_into_ranges_and_the_last_may_be_shorter() -> None:
    assert ranges(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert ranges(8, 4) == [(0, 4), (4, 8)]
    assert ranges(0, 4) == []


@pytest.mark.parametrize("cut", [by_range, by_stream])
def test_a_block_holds_whole_the_lines_that_start_in_it(cut: Callable[..., list[Lines]]) -> None:
    data = b"aa\nbbbbb\ncc\ndddddddddd\ne"
    # bytes:  0..2 3..8     9..11 12..22      23
    assert held(cut(data, 4)) == [
        (0, b"aa\nbbbbb\n"),
        (9, b"cc\n"),
        (12, b"dddddddddd\n"),
        (23, b"e"),
    ]
    assert held(cut(data, 100)) == [(0, data)]
    assert held(cut(data, 3)) == [
        (0, b"aa\n"), (3, b"bbbbb\n"), (9, b"cc\n"), (12, b"dddddddddd\n"), (23, b"e"),
    ]  # fmt: skip


@pytest.mark.parametrize("cut", [by_range, by_stream])
def test_the_mark_of_utf8_is_no_part_of_the_first_line(cut: Callable[..., list[Lines]]) -> None:
    assert held(cut(MARK + b"a\n" + MARK + b"b\n", 100)) == [(3, b"a\n" + MARK + b"b\n")]
    assert held(cut(MARK, 16)) == []
    assert held(cut(MARK + b"\n" + b"x" * 30, 16)) == [(3, b"\n" + b"x" * 30)]


@pytest.mark.parametrize("cut", [by_range, by_stream])
def test_the_mark_of_utf8_later_in_the_file_belongs_to_its_line(
    cut: Callable[..., list[Lines]],
) -> None:
    data = b"x" * 15 + b"\n" + MARK + b"y\n"
    assert held(cut(data, 16)) == [(0, data[:16]), (16, data[16:])]


@pytest.mark.parametrize("cut", [by_range, by_stream])
def test_each_block_tells_its_size_and_the_digest_of_its_own_bytes(
    cut: Callable[..., list[Lines]],
) -> None:
    data = b"a" * 30 + b"\n" + b"b" * 9
    assert [(lines.size, lines.digest) for lines in cut(data, 16)] == [
        (len(piece), xxhash.xxh3_128_hexdigest(piece))
        for piece in (data[:16], data[16:32], data[32:])
    ]


PIECE = st.one_of(
    st.sampled_from([b"\n", b"\n", b"\n\n", b"\r\n", b" ", b"{", b"null", b"\0", b"\xff"]),
    st.sampled_from(
        [b'{"uid":"%d","title":"t","content":"c"}\n' % uid for uid in range(3)]
        + [b'{"uid":"9","title":"a longer title","content":"and a longer content"}\r\n']
        + [b'{"uid":"1","title":"t"}\n', b'{"uid":"1","title":2,"content":"c"}\n']
    ),
    st.integers(0, 80).map(lambda n: b"x" * n),
)
DATA = st.tuples(st.sampled_from([b"", b"", MARK]), st.lists(PIECE, max_size=14)).map(
    lambda parts: parts[0] + b"".join(parts[1])
)


@settings(max_examples=500)
@given(DATA, st.integers(16, 90), st.integers(1, 90))
def test_any_cut_gives_the_lines_offsets_and_verdicts_of_the_whole(
    data: bytes, block: int, limit: int
) -> None:
    start = 3 if data.startswith(MARK) else 0
    whole = [Lines(data[start:], start, len(data), "")]
    expected = verdicts(whole, limit)
    by_ranges, streamed = by_range(data, block, limit), by_stream(data, block, limit)
    assert verdicts(by_ranges, limit) == expected
    assert verdicts(streamed, limit) == expected
    # The same blocks both ways; of a cut line one way may hold the newline and the other not.
    assert [(b.offset, b.size, b.digest, b.data.removesuffix(b"\n")) for b in by_ranges] == [
        (b.offset, b.size, b.digest, b.data.removesuffix(b"\n")) for b in streamed
    ]
    assert sum(lines.size for lines in by_ranges) == len(data)
    for row in expected[0]:
        record = json.loads(data[row["byte_offset"] :].split(b"\n")[0])
        assert (record["uid"], record["title"]) == (row["uid"], row["title"])


class Counting(io.BytesIO):
    """A file that counts the bytes read from it."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def test_of_a_line_without_end_little_more_than_the_limit_is_read_or_kept() -> None:
    data = b"x" * 5_000_000 + b"\n"
    file = Counting(data)
    lines = read_lines(file, 0, 100, 1_000)
    assert lines.data == b"x" * 1_001
    assert file.taken == 1_001
    blocks = by_stream(data, 100_000, 1_000)
    assert max(len(each.data) for each in blocks) <= 100_001
    assert [len(each.data) for each in blocks[1:]] == [0] * (len(blocks) - 1)


def test_a_file_that_shrank_is_told() -> None:
    with pytest.raises(SourceError, match="expected 40 bytes, found only 10"):
        read_lines(io.BytesIO(b"x" * 10), 0, 40, LIMIT)


def test_find_gives_one_file_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"{}\n")
    (tmp_path / "b.json").write_bytes(b"{}\n")
    [found] = find(str(tmp_path / "a.json"))
    assert (found.name, found.size, found.compressed) == ("a.json", 3, False)


def test_find_gives_the_raw_files_of_a_folder_in_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.json", "c.json.gz", "notes.txt"):
        (tmp_path / name).write_bytes(gzip.compress(b"{}\n") if name.endswith("gz") else b"{}\n")
    for folder in (str(tmp_path), f"{tmp_path}/"):
        found = [(file.name, file.compressed) for file in find(folder)]
        assert found == [("a.json", False), ("b.jsonl", False), ("c.json.gz", True)]


def test_a_folder_is_read_whatever_the_case_of_its_endings_and_what_is_left_out_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = ["A.JSONL", "a.json", "b.JSON", "c.ndjson", "d.jsonl.GZ", "trn[1].json"]
    other = ["._trn.json", ".hidden.json", "a.json.bak", "a.json.swp", "a.json~", "notes.txt"]
    for name in (*raw, *other):
        (tmp_path / name).write_bytes(b"{}\n")
    (tmp_path / "zz.json.d").mkdir()
    with caplog.at_level("WARNING", "catalogue"):
        assert [file.name for file in find(str(tmp_path))] == raw
    [told] = caplog.messages
    assert told == f"{tmp_path}: left out {', '.join(other[:5])} and 2 more"


@pytest.mark.parametrize("ending", [".json.lz4", ".JSONL.7Z", ".csv.rar", ".xlsx"])
def test_a_file_of_records_packed_in_another_way_is_not_left_out_in_silence(
    ending: str, tmp_path: Path
) -> None:
    for name in ("a.json", f"e{ending}"):
        (tmp_path / name).write_bytes(b"{}\n")
    with pytest.raises(SourceError, match=f"files that can be read, found e{ending}; unpack it"):
        find(str(tmp_path))


def test_a_name_with_marks_of_a_pattern_is_a_name_where_such_a_file_exists(tmp_path: Path) -> None:
    for name in ("trn[1].json", "trn1.json"):
        (tmp_path / name).write_bytes(b"{}\n")
    assert [file.name for file in find(str(tmp_path / "trn[1].json"))] == ["trn[1].json"]
    (tmp_path / "trn[1].json").unlink()
    assert [file.name for file in find(str(tmp_path / "trn[1].json"))] == ["trn1.json"]
    assert [file.name for file in find(str(tmp_path / "*.json"))] == ["trn1.json"]


def test_what_is_no_file_is_told_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "none.json")
    for name, found in (
        ("pipe.json", "a pipe or device; write it to a file first"),
        ("link.json", "a link to a file that is not there"),
        ("folder.json", "nothing"),
    ):
        with pytest.raises(SourceError, match=found):
            find(str(tmp_path / name))
    with pytest.raises(SourceError, match=r"folder\.json: expected a file, found a folder"):
        find(str(tmp_path))


def test_find_gives_the_files_that_a_pattern_fits_whatever_their_ending(tmp_path: Path) -> None:
    for name in ("x-2.txt", "x-1.txt", "y.txt"):
        (tmp_path / name).write_bytes(b"{}\n")
    assert [file.name for file in find(str(tmp_path / "x-*"))] == ["x-1.txt", "x-2.txt"]


def test_gzip_is_told_by_its_bytes_and_not_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(gzip.compress(b"{}\n"))
    (tmp_path / "b.json.gz").write_bytes(b"{}\n")
    assert [file.compressed for file in find(str(tmp_path))] == [True, False]


def test_a_source_in_memory_is_found_and_read() -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe("/test_source/a.json", b'{"a": 1}\n')
    [found] = find("memory://test_source")
    assert found.name == "a.json"
    with found.open() as file:
        assert read_lines(file, 0, 9, LIMIT).data == b'{"a": 1}\n'


@pytest.mark.parametrize(
    ("content", "asked", "told"),
    [
        (None, "none.json", "expected a file or folder, found none"),
        (None, "no*.json", "expected at least one file"),
        (b"", "a.json", "expected records, found an empty file"),
        (
            b"x",
            "",
            "expected files that end in .json, .jsonl, .ndjson, .csv, .tsv, .parquet, .arrow, "
            ".feather, .zip or .tar, compressed or not, found other.txt",
        ),
        (
            "{}\n{}".encode("utf-16-be"),
            "a.json",
            "expected records, found UTF-16 without its mark; state it: --encoding utf-16-be",
        ),
    ],
)
def test_what_is_no_source_is_told(
    tmp_path: Path, content: bytes | None, asked: str, told: str
) -> None:
    if content is not None:
        (tmp_path / (asked or "other.txt")).write_bytes(content)
    with pytest.raises(SourceError) as caught:
        find(str(tmp_path / asked))
    assert told in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="found nothing"):
        find(str(tmp_path))


def test_files_of_one_size_are_told_apart_by_samples(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_bytes(b"a" * 500_000)
    second.write_bytes(b"a" * 250_000 + b"b" + b"a" * 249_999)
    assert find(str(first))[0].sampled != find(str(second))[0].sampled


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("block", [16, 100, 10**6])
def test_gzip_gives_the_blocks_of_the_plain_bytes(tmp_path: Path, members: int, block: int) -> None:
    data = MARK + b"".join(each + b"\n" for each in raw_lines(40))
    size = -(-len(data) // members)
    path = tmp_path / "a.json.gz"
    path.write_bytes(b"".join(gzip.compress(data[a:b]) for a, b in ranges(len(data), size)))
    [file] = find(str(path))
    found = list(read_packed(file, block, 10**6))
    assert [each for each, _ in found] == by_range(data, block, 10**6)
    read = [at for _, at in found]
    assert read == sorted(read)
    assert read[-1] == file.size


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_truncated_gzip_is_told(tmp_path: Path, kept: float) -> None:
    payload = gzip.compress(b"\n".join(raw_lines(300)))
    path = tmp_path / "a.json.gz"
    path.write_bytes(payload[: int(len(payload) * kept)])
    with pytest.raises(SourceError, match="expected a whole gzip stream"):
        list(read_packed(find(str(path))[0], 1_000, LIMIT))


def test_a_damaged_gzip_is_told(tmp_path: Path) -> None:
    payload = bytearray(gzip.compress(b"\n".join(raw_lines(300))))
    payload[len(payload) // 2 : len(payload) // 2 + 50] = b"\x00" * 50
    path = tmp_path / "a.json.gz"
    path.write_bytes(payload)
    with pytest.raises(SourceError, match="expected a whole gzip stream"):
        list(read_packed(find(str(path))[0], 1_000, LIMIT))


def test_a_gzip_with_a_wrong_checksum_is_told(tmp_path: Path) -> None:
    payload = bytearray(gzip.compress(b"\n".join(raw_lines(300))))
    payload[-6] ^= 0xFF
    path = tmp_path / "a.json.gz"
    path.write_bytes(payload)
    with pytest.raises(SourceError, match="expected a whole gzip stream"):
        list(read_packed(find(str(path))[0], 1_000, LIMIT))


def test_a_gzip_that_expands_beyond_the_limit_is_refused_before_it_is_read_whole(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b"\n" * 10**7))
    blocks = read_packed(find(str(path))[0], 10_000, LIMIT)
    with pytest.raises(SourceError, match=r"expands at most 200-fold, found .*--max_gzip_ratio"):
        list(blocks)
    assert len(list(read_packed(find(str(path), max_ratio=1_100)[0], 10_000, LIMIT))) == 1_000


class Failing(io.BytesIO):
    """A file whose network fails once 3,000 bytes are read."""

    def __init__(self, data: bytes, error: Exception) -> None:
        super().__init__(data)
        self.error = error

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= 3_000:
            raise self.error
        return super().read(min(size or 0, 3_000))

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@pytest.mark.parametrize(
    "error", [FSTimeoutError(), TimeoutError("timed out"), ConnectionResetError(104, "reset")]
)
def test_a_network_that_fails_is_no_damaged_gzip(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = gzip.compress(b"".join(each + b"\n" for each in raw_lines(300)), 0)
    path = tmp_path / "a.json.gz"
    path.write_bytes(payload)
    [file] = find(str(path))
    monkeypatch.setattr(Folder, "open", lambda *_: Failing(payload, error))
    with pytest.raises(NetworkError, match="run the same command again") as caught:
        list(read_packed(file, 1_000, LIMIT))
    assert not isinstance(caught.value, SourceError)
    assert str(path) in str(caught.value)


def test_what_tells_a_file_is_not_where_it_lies(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.json").write_bytes(b"{}\n")
    one, two = (find(str(tmp_path / folder))[0] for folder in ("one", "two"))
    assert files.file_facts(one) == files.file_facts(two)
