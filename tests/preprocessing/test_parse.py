"""Bytes to rows: every verdict on a line, and that none depends on the line's neighbours."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.artefacts import schema
from preprocessing.parse import Parsed
from tests.builders import KEPT, REFUSED, parse_lines, raw_lines

GOOD = b'{"uid": "9", "title": "Lamp", "content": "Bright."}'
LIMIT = 100_000


def parse(data: bytes, offset: int = 0, limit: int = LIMIT) -> Parsed:
    return parse_lines(data, offset, "raw.json", limit)


def verdicts(parsed: Parsed) -> dict[int, Any]:
    """What became of each line that is not blank, by its offset."""
    rows = {r["byte_offset"]: (r["uid"], r["title"], r["content"]) for r in dicts(parsed.rows)}
    bad = {r["byte_offset"]: (r["reason"], r["line"]) for r in dicts(parsed.quarantine)}
    assert not rows.keys() & bad.keys()
    return rows | bad


def dicts(table: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def test_a_record_becomes_a_row_and_other_fields_are_ignored() -> None:
    data = b'{"uid": "1", "title": "Kettle", "content": "Boils.", "target_ind": [3]}\n' + GOOD
    parsed = parse(data, offset=1_000)
    assert dicts(parsed.rows) == [
        {"uid": "1", "title": "Kettle", "content": "Boils.", "source": "raw.json",
         "byte_offset": 1_000},
        {"uid": "9", "title": "Lamp", "content": "Bright.", "source": "raw.json",
         "byte_offset": 1_072},
    ]  # fmt: skip
    assert parsed.rows.schema == schema.RAW
    assert parsed.quarantine.schema == schema.QUARANTINE
    assert (parsed.lines, parsed.blank, parsed.quarantine.num_rows) == (2, 0, 0)


def test_a_refused_line_is_quarantined_as_it_stands(refused_line: tuple[bytes, str]) -> None:
    line, reason = refused_line
    parsed = parse(line + b"\n", offset=7)
    assert parsed.rows.num_rows == 0
    assert dicts(parsed.quarantine) == [
        {"source": "raw.json", "byte_offset": 7, "line": line, "reason": reason}
    ]
    assert parsed.quarantine.schema == schema.QUARANTINE
    assert reason in schema.REASONS


def test_a_refused_line_leaves_its_neighbours_alone(refused_line: tuple[bytes, str]) -> None:
    line, reason = refused_line
    parsed = parse(b"\n".join([GOOD, line, GOOD]))
    second = len(GOOD) + 1 + len(line) + 1
    assert [row["byte_offset"] for row in dicts(parsed.rows)] == [0, second]
    assert [row["reason"] for row in dicts(parsed.quarantine)] == [reason]


def test_an_odd_record_is_kept_alone_among_good_and_among_bad(
    kept_line: tuple[bytes, tuple[str, str, str]],
) -> None:
    line, texts = kept_line
    for before in (b"", GOOD + b"\n", b"null\n", b"{}\n\n"):
        found = verdicts(parse(before + line + b"\n" + GOOD))
        assert found[len(before)] == texts


def test_every_reason_but_the_length_has_a_case() -> None:
    assert {reason for _, reason in REFUSED.values()} | {"line_too_long"} == set(schema.REASONS)


@pytest.mark.parametrize("blank", [b"", b" ", b"\t \r", b"\r"])
def test_blank_lines_are_counted_and_are_neither_rows_nor_faults(blank: bytes) -> None:
    parsed = parse(blank + b"\n" + GOOD + b"\n" + blank + b"\n")
    assert (parsed.lines, parsed.blank) == (3, 2)
    assert list(verdicts(parsed)) == [len(blank) + 1]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_the_last_line_needs_no_newline(end: bytes) -> None:
    parsed = parse(GOOD + b"\n" + GOOD + end)
    assert (parsed.lines, parsed.rows.num_rows) == (2, 2)


def test_no_bytes_are_no_lines() -> None:
    parsed = parse(b"")
    assert (parsed.lines, parsed.rows.num_rows, parsed.quarantine.num_rows) == (0, 0, 0)
    assert parsed.rows.schema == schema.RAW


def test_an_object_over_two_lines_is_two_faults() -> None:
    first, second = b'{"uid": "1", "title": "t",', b'"content": "c"}'
    parsed = parse(first + b"\n" + second + b"\n" + GOOD)
    assert [(r["line"], r["reason"]) for r in dicts(parsed.quarantine)] == [
        (first, "invalid_json"),
        (second, "invalid_json"),
    ]
    assert parsed.rows.num_rows == 1


@pytest.mark.parametrize(
    "data",
    [
        b'{"uid":"1","title":"t","content":"c","x":{"y":1}\n{}}',
        b'{"uid":"1","title":"t","content":"c}\n{"}',
        # As many records as lines, but not one a line.
        b'{"uid":"1","title":"t","content":"c"}{"uid":"2","title":"t","content":"c"}\n{}}',
    ],
)
def test_lines_that_only_together_hold_records_are_faults(data: bytes) -> None:
    parsed = parse(data)
    assert (parsed.rows.num_rows, parsed.quarantine.num_rows) == (0, 2)


def test_a_line_of_the_limit_is_kept_and_one_byte_more_is_too_long() -> None:
    parsed = parse(GOOD + b"\n" + GOOD + b" \n" + GOOD, limit=len(GOOD))
    assert [row["byte_offset"] for row in dicts(parsed.rows)] == [0, 2 * len(GOOD) + 3]
    assert [(r["reason"], r["line"]) for r in dicts(parsed.quarantine)] == [
        ("line_too_long", GOOD + b" ")
    ]


def test_one_line_too_long_among_records_is_found_though_it_is_a_record_too() -> None:
    parsed = parse(GOOD + b"\n" + GOOD.replace(b"Lamp", b"Lamps"), limit=len(GOOD))
    assert [row["reason"] for row in dicts(parsed.quarantine)] == ["line_too_long"]
    assert parsed.rows.num_rows == 1


def test_of_a_line_that_is_too_long_the_first_bytes_are_kept() -> None:
    stored = schema.QUARANTINED_LINE_BYTES
    for limit, expected in ((40, 41), (stored + 10, stored)):
        parsed = parse(b"x" * (2 * stored) + b"\n" + GOOD[:40], limit=limit)
        assert len(dicts(parsed.quarantine)[0]["line"]) == expected


def test_a_quarantined_line_keeps_its_first_bytes_only_whatever_its_reason() -> None:
    parsed = parse(b"x" * (schema.QUARANTINED_LINE_BYTES + 9))
    assert dicts(parsed.quarantine) == [
        {"source": "raw.json", "byte_offset": 0, "reason": "invalid_json",
         "line": b"x" * schema.QUARANTINED_LINE_BYTES}
    ]  # fmt: skip


def test_fields_of_other_types_in_other_rows_do_not_matter() -> None:
    lines = [
        b'{"uid":"%d","title":"t","content":"c","x":%s}' % (i, value)
        for i, value in enumerate((b"1", b'"a"', b"[1]", b'{"b":2}', b"null", b"1.5", b"true"))
    ]
    assert [row["uid"] for row in dicts(parse(b"\n".join(lines)).rows)] == list("0123456")


def test_records_nested_too_deeply_for_python_do_not_hide_broken_ones() -> None:
    deep, endless = KEPT["deep nesting elsewhere"][0], REFUSED["nested without end"][0]
    parsed = parse(b"\n".join([deep, endless, deep]))
    assert (parsed.rows.num_rows, parsed.quarantine.num_rows) == (2, 1)


@settings(max_examples=80)
@given(draw=st.data())
def test_the_fate_of_a_line_does_not_depend_on_its_neighbours(
    draw: st.DataObject,
) -> None:
    odd = [line for line, _ in [*KEPT.values(), *REFUSED.values()]]
    pool = [GOOD, GOOD, b"", b" \r", *odd]
    lines = draw.draw(st.lists(st.sampled_from(pool), max_size=12))
    expected: dict[int, Any] = {}
    offset = 0
    for line in lines:
        expected |= verdicts(parse(line + b"\n", offset))
        offset += len(line) + 1
    data = b"".join(line + b"\n" for line in lines)
    parsed = parse(data)
    assert verdicts(parsed) == expected
    assert parsed.lines == len(lines) == len(expected) + parsed.blank
    offsets = [row["byte_offset"] for row in dicts(parsed.rows)]
    assert offsets == sorted(offsets)


def test_each_offset_addresses_its_line() -> None:
    data = b"".join(each + b"\n" for each in raw_lines(500))
    parsed = parse(data, offset=1_000)
    assert parsed.rows.num_rows > 400
    for row in dicts(parsed.rows):
        record = json.loads(data[row["byte_offset"] - 1_000 :].split(b"\n")[0])
        assert {name: row[name] for name in ("uid", "title", "content")} == {
            name: record[name] for name in ("uid", "title", "content")
        }
    assert parsed.quarantine.num_rows > 0
    for row in dicts(parsed.quarantine):
        assert data[row["byte_offset"] - 1_000 :].split(b"\n")[0] == row["line"]


PIECES = [
    *(bytes([byte]) for byte in b'{}[],:" \r\n\n\0\xff\\-1'),
    *(b"null", b"true", b"NaN", b'"uid"', b'"title":', b'"content"', b"\\ud800", b"\xef\xbb\xbf"),
    *(GOOD, GOOD[:-1], b"{}", b"}\n{", b'{"uid":null,"title":"t","content":"c"}'),
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=10).map(b"".join))
def test_whatever_the_bytes_every_line_is_accounted_for_and_judged_alone(data: bytes) -> None:
    expected: dict[int, Any] = {}
    offset = 0
    for line in data.split(b"\n"):
        expected |= verdicts(parse(line, offset))
        offset += len(line) + 1
    parsed = parse(data)
    assert verdicts(parsed) == expected
    assert parsed.lines == parsed.rows.num_rows + parsed.quarantine.num_rows + parsed.blank
