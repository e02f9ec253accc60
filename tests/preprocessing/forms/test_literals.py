"""Python dictionaries: what ``ast.literal_eval`` says, at once and line by line."""

import ast
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.config import CleanConfig
from preprocessing.fields import Fields
from preprocessing.forms import literals
from preprocessing.parse import Records, line_bounds

FIELDS = Fields.of(
    CleanConfig(columns={"uid": "asin", "content": "description"}, attributes=["price"])
)


def parse(lines: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    data = "\n".join(lines).encode()
    starts, stops = line_bounds(data)
    parsed = literals.parse(Records(data, starts, stops, starts), "raw", FIELDS, 10**6)
    return parsed.rows.to_pylist(), parsed.quarantine["reason"].to_pylist()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{'asin': '1', 'title': 't', 'description': 'c'}", ("1", "t", "c", "")),
        ("{'asin': u'1', 'title': \"it's\", 'description': u\"c\"}", ("1", "it's", "c", "")),
        ("{'asin': '1', 'title': 'a\"b', 'description': 'it\\'s \"'}", ("1", 'a"b', "it's \"", "")),
        ("{'asin': '1', 'title': 'a\\x41\\u00e9', 'description': '\\\\n\\n'}",
         ("1", "aA\u00e9", "\\n\n", "")),
        ("{'asin': '1', 'title': 'None', 'description': 'True, False', 'price': None}",
         ("1", "None", "True, False", "")),
        ("{'asin': 7, 'title': 't', 'description': ['a', 'b'], 'price': 9.90}",
         ("7", "t", "a b", "9.90")),
        ("{'asin': '1', 'title': 'a' 'b', 'description': ('c',), 'price': True}",
         ("1", "ab", "c", "true")),
        ("{'asin': '1', 'title': '\\N{BULLET}\\a', 'description': 'c', 'price': -3}",
         ("1", "\u2022\a", "c", "-3")),
        ('{"asin": "1", "title": null, "title": "t", "description": "c"}', None),
        ('{"asin": "1", "title": "t", "description": "c", "x": null}', ("1", "t", "c", "")),
        ("{'asin': '1', 'title': 't', 'title': 't', 'description': 'c'}", None),
        ("{'asin': '1', 'title': __import__('os'), 'description': 'c'}", None),
        ("{'asin': '1', 'title': 't', 'description': 'c'", None),
        ("{'asin': '1', 'title': '\\ud800', 'description': 'c'}", None),
        ("'text'", "not_an_object"),
        ("b'bytes'", "not_an_object"),
        ("{'asin': '1', 'title': b'x', 'description': 'c'}", "wrong_type"),
        ("{'asin': '1', 'title': 't', 'description': {'a', 'b'}}", "wrong_type"),
        ("{'asin': '1', 'title': 't', 'description': 1j}", "wrong_type"),
        ("{'asin': '1', 'title': 't', 'description': ...}", "wrong_type"),
        ("{'asin': '1', 'title': 't', 'description': 'c', 'price': {'d', 'a', 'c', 'b'}}",
         ("1", "t", "c", "a b c d")),
    ],
)  # fmt: skip
def test_a_line_is_read_as_python_reads_it_alone_and_among_others(
    line: str, expected: tuple[str, ...] | str | None
) -> None:
    good = "{'asin': '0', 'title': \"o'ne\", 'description': 'c'}"
    for lines in ([line], [good, line, good], [good, line, "{'"]):
        found, reasons = parse(lines)
        own = [row for row in found if row["uid"] != "0"]
        if isinstance(expected, tuple):
            assert [(r["uid"], r["title"], r["content"], r["price"]) for r in own] == [expected]
        else:
            assert not own
            assert reasons[0] == (expected or "invalid_dict")


VALUES = st.one_of(
    st.text(max_size=20), st.sampled_from(["'", '"', "'\"\\", "None", "u'x'", "\\x41", "{'a': 1}"])
)


@settings(max_examples=300)
@given(st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=6))
def test_any_texts_come_back_as_they_were(rows: list[tuple[str, str, str]]) -> None:
    lines = [repr({"asin": uid, "title": title, "description": content, "x": None})
             for uid, title, content in rows]  # fmt: skip
    readable = [row for row in rows if not any("\ud800" <= c <= "\udfff" for c in "".join(row))]
    found, _ = parse([line.encode("utf-8", "backslashreplace").decode() for line in lines])
    assert [(row["uid"], row["title"], row["content"]) for row in found] == readable


PIECES = ["{", "}", "'", '"', ":", ",", " ", "\\", "\\'", "u'", "None", "1", "'asin'", "'title'",
          "'description'", "'a'", '"b"', "{'asin': '1', 'title': 't', 'description': 'c'}",
          "{'asin': '", "', 'title': \"", "\", 'description': 'x'}"]  # fmt: skip


@settings(max_examples=400)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), max_size=4))
def test_no_line_is_read_otherwise_than_python_reads_it(lines: list[str]) -> None:
    names = ("asin", "title", "description")
    expected = []
    for line in lines:
        try:
            tree = ast.parse(line.strip(), mode="eval").body
            value = ast.literal_eval(tree)
        except (ValueError, SyntaxError, TypeError):
            continue
        if isinstance(tree, ast.Dict) and all(type(value.get(name)) is str for name in names):
            keys = [key.value for key in tree.keys if isinstance(key, ast.Constant)]
            if all(keys.count(name) == 1 for name in names):
                expected.append(tuple(value[name] for name in names))
    rows, _ = parse(lines)
    assert [(row["uid"], row["title"], row["content"]) for row in rows] == expected


def test_json_between_dictionaries_is_read_as_json() -> None:
    lines = ["{'asin': '1', 'title': 'a', 'description': {1}}",
             r'{"asin": "2", "title": "b\/c \ud83d\ude00", "description": "d"}']  # fmt: skip
    rows, reasons = parse(lines)
    assert [row["title"] for row in rows] == ["b/c \U0001f600"]
    assert reasons == ["wrong_type"]
