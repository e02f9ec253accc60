"""Records with other names, lists, numbers and attributes: at once and alone the same."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import ConfigError
from preprocessing import alike, hints, objects
from preprocessing.config import CleanConfig
from preprocessing.fields import Fields
from preprocessing.objects import Text
from preprocessing.parse import Parsed, Records, parse_records

COLUMNS: dict[str, str | None] = {"uid": "asin", "title": "name", "content": "about"}
FIELDS = Fields.of(CleanConfig(columns=COLUMNS, attributes=["price", "category"]))


def parse(lines: list[bytes], fields: Fields = FIELDS, first: int = 0) -> Parsed:
    data, starts, stops = Text.of(lines)
    records = Records(data, starts, stops, starts, first=first)
    return parse_records(records, "raw", fields, 1_000)


def verdicts(lines: list[bytes], fields: Fields = FIELDS) -> list[Any]:
    """What became of each line, by its offset."""
    parsed = parse(lines, fields)
    names = ["uid", "title", "content", *(name for name, _ in fields.attributes)]
    found: dict[int, Any] = {
        row["byte_offset"]: tuple(row[name] for name in names) for row in parsed.rows.to_pylist()
    }
    found |= {row["byte_offset"]: row["reason"] for row in parsed.quarantine.to_pylist()}
    assert len(found) + parsed.blank == parsed.lines
    return [found[place] for place in sorted(found)]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"asin": "1", "name": "t", "about": "c"}, ("1", "t", "c", "", "")),
        ({"asin": 7, "name": "t", "about": ["a", "b"]}, ("7", "t", "a b", "", "")),
        ({"asin": "1", "name": "t", "about": [], "price": 5}, ("1", "t", "", "5", "")),
        ({"asin": "1", "name": "t", "about": "c", "category": [["a"], ["b", None]]},
         ("1", "t", "c", "", "a b ")),
        ({"asin": "1", "name": "t", "about": "c", "price": {"amount": 5}},
         ("1", "t", "c", "amount: 5", "")),
        ({"asin": "1", "name": "t", "about": "c", "price": True, "category": "x"},
         ("1", "t", "c", "true", "x")),
        ({"asin": True, "name": "t", "about": "c"}, "wrong_type"),
        ({"asin": "1", "name": 5, "about": "c"}, "wrong_type"),
        ({"asin": "1", "name": "t", "about": ["a", 1]}, "wrong_type"),
        ({"asin": "1", "name": "t", "about": ["a", None]}, "wrong_type"),
        ({"asin": "1", "name": "t", "about": None}, "wrong_type"),
        ({"asin": "1", "name": "t"}, "missing_field"),
        (["asin"], "not_an_object"),
    ],
)  # fmt: skip
def test_a_value_becomes_text_or_its_record_falls(record: Any, expected: Any) -> None:
    assert verdicts([json.dumps(record).encode()]) == [expected]


def test_numbers_are_kept_as_their_digits() -> None:
    line = b'{"asin": 1234567890123456789012, "name": "t", "about": "c", "price" : 9.90 }'
    assert verdicts([line]) == [("1234567890123456789012", "t", "c", "9.90", "")]
    tricky = b'{"asin": "1", "name": "\\"price\\": 5,", "about": "price", "price": 1e5}'
    assert verdicts([line, tricky, line])[1] == ("1", '"price": 5,', "price", "1e5", "")


def test_without_columns_lists_and_numbers_are_refused_as_ever() -> None:
    fields = Fields.of(CleanConfig(attributes=["price"]))
    lines = [json.dumps({"uid": uid, "title": "t", "content": content, "price": 5}).encode()
             for uid, content in (("1", "c"), (1, "c"), ("1", ["c"]))]  # fmt: skip
    assert verdicts(lines, fields) == [("1", "t", "c", "5"), "wrong_type", "wrong_type"]


POOL = [
    *(json.dumps(record).encode() for record in (
        {"asin": "1", "name": "t", "about": "c"}, {"asin": 1, "name": "t", "about": "c"},
        {"asin": "1", "name": "t", "about": ["a", "b"], "price": 1.5},
        {"asin": "1", "name": "t", "about": ["a", None], "price": "2"},
        {"asin": "1", "name": "t", "about": "c", "category": ["x", "y"]},
        {"asin": "1", "name": "t", "about": "c", "category": ["x", None]},
        {"asin": "1", "name": "t", "about": "c", "category": [1, ["z"]]},
        {"asin": "1", "name": None, "about": "c"}, {"asin": "1", "about": "c"}, [], 5, {},
    )),
    b'{"asin": "1", "name": "t", "name": "u", "about": "c"}', b'{"asin": "1"', b"", b" \r",
    b'{"asin": "1", "name": "\xff", "about": "c"}', b'{"asin": 01, "name": "t", "about": "c"}',
    b'{"asin": "1", "name": "\\ud800", "about": "c"}', b"x" * 1_100,
    b'{"asin": "1", "name": "t", "about": "c", "x": ' + b"[" * 300 + b"]" * 300 + b"}",
    b'{"asin": "1", "name": "t", "about": "c", "x": NaN}',
    b'{"asin": "1", "name": "t", "about": "c", "x": 1e999}',
]  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.sampled_from(POOL), max_size=8))
def test_the_fate_of_a_record_does_not_depend_on_its_neighbours(lines: list[bytes]) -> None:
    assert verdicts(lines) == [verdict for line in lines for verdict in verdicts([line])]


TEXT = st.text(st.sampled_from('ab\u00e9,:{} \\"\n\t\u20ac\U0001f600\U00020bb7'), max_size=6)
ALIKE = st.builds(
    lambda ascii, spaces, texts: [
        json.dumps(dict(zip(("asin", "name", "about"), row, strict=True)), ensure_ascii=ascii,
                   separators=(", ", ": ") if spaces else (",", ":")).encode()
        for row in texts
    ],
    st.booleans(), st.booleans(), st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=5),
)  # fmt: skip
PLAIN = Fields.of(CleanConfig(columns=COLUMNS))


def read_alike(lines: list[bytes]) -> pa.Table | None:
    return alike.read(*Text.of(lines), json.loads(lines[0]), ("asin", "name", "about"))


@settings(max_examples=300)
@given(
    ALIKE, st.integers(0, 4), st.integers(0, 80), st.booleans(),
    st.sampled_from([*(bytes([letter]) for letter in b',:"\\{}[]0- \t\r\x00\xff'), b"", b", ",
                     b', "about": "x"', b', "x": 01', b', "": 1', b'", "', b"\\ud800", b"\\x"]),
)  # fmt: skip
def test_of_records_that_are_alike_one_edited_anywhere_has_its_own_fate(
    lines: list[bytes], number: int, place: int, is_put_before: bool, piece: bytes
) -> None:
    line = lines[number % len(lines)]
    place %= len(line)
    lines[number % len(lines)] = line[:place] + piece + line[place + (not is_put_before) :]
    assert verdicts(lines, PLAIN) == [verdict for line in lines for verdict in
                                      verdicts([line], PLAIN)]  # fmt: skip


@given(ALIKE)
def test_records_that_are_alike_are_read_by_the_faster_parser(lines: list[bytes]) -> None:
    table = read_alike(lines)
    if any(rb'\\"' in line or rb"\ud" in line for line in lines):  # the other parser may as well
        return
    assert table is not None
    assert table.to_pylist() == [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b", ", b"  "), (b', "n', b',,"n'), (b'"}', b'",}'), (b'"}', b'", "x": 1-2}'),
        (b'"}', b'", "x": "y"}'), (b'"b"', b'"b", "name": "c"'), (b'"b"', b'"\tb"'),
        (b'"b"', b"5"), (b'"b"', b"null"), (b'"b"', b'["b"]'), (b'"b"', b'"\\ud800"'),
        (b'"b"', b'"\\ud842\\udfb7"'),
        (b'"b"', b'"\xff"'), (b'"name"', b'"title"'), (b'"}', b'" }'), (b'"}', b'"}\r'),
    ],
)  # fmt: skip
def test_what_the_faster_parser_may_take_for_something_else_is_left_to_the_other(
    old: bytes, new: bytes
) -> None:
    line = b'{"asin": "a", "name": "b", "about": "c"}'
    assert read_alike([line, line]) is not None
    assert read_alike([line, line.replace(old, new)]) is None


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"content": "about"}, b'{"uid":"1","about":["\\u0000"],"title":"a"}'),
        ({"content": "\U0001f600"}, b'{"uid":"1","title":"\\ud842\\udfb7","\xf0\x9f\x98\x80":"c"}'),
    ],
    ids=["a NUL in the parser's error", "as many characters in a name as are escaped"],
)
def test_fields_that_the_faster_parser_must_not_see(columns: dict[str, Any], line: bytes) -> None:
    record = json.loads(line)
    content = record[columns["content"]]
    (row,) = parse([line], Fields.of(CleanConfig(columns=columns))).rows.to_pylist()
    assert (row["title"], row["content"]) == (record["title"], "".join(content))


def test_a_row_number_stands_in_for_a_missing_uid() -> None:
    fields = Fields.of(CleanConfig(columns={"uid": None}))
    lines = [b'{"title": "t", "content": "c"}', b"{}", b'{"title": "t", "content": "d"}']
    assert [row["uid"] for row in parse(lines, fields, 40).rows.to_pylist()] == ["40", "42"]


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ({"attributes": ["uid"]}, "--attributes"),
        ({"attributes": ["sample_key"]}, "--attributes"),
        ({"attributes": ["a b"]}, "--attributes"),
        ({"attributes": ["brand", "brand"]}, "--attributes"),
        ({"columns": {"brand": "Brand"}}, "--columns"),
        ({"columns": {"title": None}}, "--columns"),
        ({"encoding": "utf-9"}, "--encoding"),
        ({"encoding": "utf-7"}, "--encoding"),
        ({"encoding": "base64"}, "--encoding"),
        ({"delimiter": ";;"}, "--delimiter"),
        ({"delimiter": "a"}, "--delimiter"),
    ],
)
def test_columns_that_cannot_be_meant_are_refused(words: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigError, match=f"^{flag}: expected "):
        CleanConfig(**words)


def test_a_preset_states_columns() -> None:
    assert CleanConfig(preset="amazon-2014").columns == {
        "uid": "asin", "title": "title", "content": "description",
    }  # fmt: skip


def test_columns_stand_in_for_those_of_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    config = CleanConfig(preset="amazon-2018", columns={"uid": None, "content": "text"})
    assert config.columns == {"uid": None, "title": "title", "content": "text"}
    hints.say_columns(config)
    hints.say_columns(CleanConfig(preset="amazon-2018"))
    hints.say_columns(CleanConfig(columns={"uid": "id"}))
    assert capsys.readouterr().out == (
        "columns of amazon-2018, with uid: None for asin, content: text for description\n"
    )


def test_lines_of_any_length_are_parsed_at_once() -> None:
    sizes = [900_000, 10, 1_100_000, 2**20, 2_500_000, 10]
    lines = [json.dumps({"content": "x" * size}).encode() + b"\r" for size in sizes]
    table = objects.records(
        b"\n".join(lines), 6, max(map(len, lines)), pa.schema([("content", pa.string())])
    )
    assert table is not None
    assert pc.utf8_length(table["content"]).to_pylist() == sizes
