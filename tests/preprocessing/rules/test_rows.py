"""Row rules: literal rows in, the rows that stay and the reason of each that fell."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import text
from data.artefacts import schema
from preprocessing import rules
from preprocessing.config import RowRules

LOOSE: dict[str, Any] = {"title_min": 0, "content_min": 0, "content_max": None}


def table(*rows: tuple[str, str]) -> pa.Table:
    """Rows of (title, content); uid is the position."""
    columns = [
        [str(i) for i in range(len(rows))],
        [title for title, _ in rows],
        [content for _, content in rows],
        ["raw.json"] * len(rows),
        list(range(len(rows))),
    ]
    arrays = [pa.array(c, field.type) for c, field in zip(columns, schema.RAW, strict=True)]
    return pa.table(arrays, schema=schema.RAW)


def clean(
    row_rules: RowRules, *rows: tuple[str, str]
) -> tuple[list[tuple[str, str]], dict[str, int]]:
    kept, drops = rules.clean_rows(table(*rows), row_rules)
    assert kept.schema == schema.RAW
    assert kept.num_rows + sum(drops.values()) == len(rows)
    return [(row["title"], row["content"]) for row in kept.to_pylist()], drops


@pytest.mark.parametrize(
    ("settings", "row", "reason"),
    [
        ({"title_min": 1}, ("", "c"), "title_empty"),
        ({"title_min": 1}, (" &nbsp; ", "c"), "title_empty"),
        ({"title_min": 3}, ("ab", "c"), "title_too_short"),
        ({"title_max": 3}, ("abcd", "c"), "title_too_long"),
        ({"content_min": 1}, ("t", ""), "content_empty"),
        ({"content_min": 1}, ("t", "\n"), "content_empty"),
        ({"content_min": 5}, ("t", "four"), "content_too_short"),
        ({"content_max": 5}, ("t", "sixsix"), "content_too_long"),
        ({"content_excludes": ["translation"]}, ("t", "a translation."), "content_excluded"),
        ({"drop_markup": True}, ("<span class='a'>Kettle</span>", "c"), "title_markup"),
        ({"drop_boilerplate": True}, ("t", "Fine.--This text refers to"), "content_boilerplate"),
        ({"drop_shouting": True}, ("t", "BUY NOW"), "content_shouting"),
    ],
)  # fmt: skip
def test_each_reason(settings: dict[str, Any], row: tuple[str, str], reason: str) -> None:
    good = ("abc", "12345")
    assert clean(RowRules(**(LOOSE | settings)), good, row, good) == ([good, good], {reason: 1})


@pytest.mark.parametrize(
    ("settings", "row"),
    [
        ({"title_min": 3, "title_max": 3}, ("abc", "c")),
        ({"content_min": 3, "content_max": 3}, ("t", "abc")),
        ({"content_min": 3, "content_max": 3}, ("t", "😀é文")),
        ({"content_min": 3, "content_max": 3}, ("t", "&lt;b&gt;")),
        ({"content_min": 5, "content_max": 5}, ("t", " a   b\nc ")),
        ({}, ("", "")),
    ],
)
def test_bounds_are_inclusive_and_count_code_points_of_the_repaired_text(
    settings: dict[str, Any], row: tuple[str, str]
) -> None:
    assert clean(RowRules(**(LOOSE | settings)), row)[1] == {}


def test_rules_of_content_are_off_by_default() -> None:
    rows = [("<b>t</b>", "THIS TEXT REFERS TO THE <I>OTHER</I> EDITION, EIN BUCH")]
    assert clean(RowRules(**LOOSE), *rows) == (rows, {})


def test_html_is_stripped_before_lengths_are_measured() -> None:
    row_rules = RowRules(title_min=1, content_min=3, content_max=3, strip_html=True)
    rows = [("<b>t</b>", "<p>abc</p>"), ("<br>", "abc"), ("t", "&lt;i&gt;a&lt;/i&gt;")]
    assert clean(row_rules, *rows) == (
        [("t", "abc")], {"title_empty": 1, "content_too_short": 1},
    )  # fmt: skip


def test_the_first_rule_that_a_row_fails_is_its_reason() -> None:
    row_rules = RowRules(
        title_min=2, title_max=3, content_min=20, content_max=30, content_excludes=["x"]
    )
    long = "y" * 31
    assert clean(
        row_rules,
        ("", ""),
        ("a", ""),
        ("abcd", "x"),
        ("ab", ""),
        ("ab", "x"),
        ("ab", "yy"),
        ("ab", long + "x"),
        ("ab", long),
    )[1] == {
        "title_empty": 1,
        "title_too_short": 1,
        "title_too_long": 1,
        "content_empty": 1,
        "content_excluded": 2,
        "content_too_short": 1,
        "content_too_long": 1,
    }


def test_several_excluded_words_count_as_one_reason_and_a_row_only_once() -> None:
    row_rules = RowRules(**(LOOSE | {"content_excludes": ["one", "two"]}))
    assert clean(row_rules, ("t", "one"), ("t", "two"), ("t", "one two"), ("t", "three")) == (
        [("t", "three")],
        {"content_excluded": 3},
    )


def test_excluded_words_are_no_patterns_and_tell_cases_apart() -> None:
    row_rules = RowRules(**(LOOSE | {"content_excludes": ["a.c", "Word"]}))
    assert clean(row_rules, ("t", "abc"), ("t", "word"), ("t", "xa.cx"))[1] == {
        "content_excluded": 1
    }


def test_rows_that_stay_are_repaired_and_keep_their_order_and_line() -> None:
    kept, _ = rules.clean_rows(
        table(("B&amp;B", "CafÃ©  one"), ("", "x"), ("A", "&quot;two&quot;")), RowRules(**LOOSE)
    )
    assert kept.drop_columns(["source"]).to_pylist() == [
        {"uid": "0", "title": "B&B", "content": "Café one", "byte_offset": 0},
        {"uid": "1", "title": "", "content": "x", "byte_offset": 1},
        {"uid": "2", "title": "A", "content": '"two"', "byte_offset": 2},
    ]


def test_no_rows_are_no_drops() -> None:
    for measure in ("raw", "repaired"):
        row_rules = RowRules(measure=measure, content_excludes=["x"])  # type: ignore[arg-type]
        assert clean(row_rules) == ([], {})


def test_all_rows_dropped_leave_an_empty_table() -> None:
    assert clean(RowRules(), ("", ""), ("", "")) == ([], {"title_empty": 2})


NOTEBOOK = RowRules(
    title_min=1,
    content_min=401,
    content_max=500,
    measure="raw",
    content_excludes=["translation"],
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("x" * 400, "content_too_short"),
        ("x" * 401, None),
        ("x" * 500, None),
        ("x" * 501, "content_too_long"),
        ("&amp;" * 100, None),  # 500 raw characters, 100 repaired ones
        ("&amp;" * 80, "content_too_short"),  # exactly 400 raw ones
        (" " * 400 + "x", None),
        ("é" * 450, None),
        ("x" * 440 + "translation", "content_excluded"),
        ("x" * 440 + "Translation", None),
        ("x" * 440 + "trans&#108;ation", None),
    ],
)  # fmt: skip
def test_the_notebooks_rules_look_at_the_raw_text(content: str, reason: str | None) -> None:
    assert clean(NOTEBOOK, ("t", content))[1] == ({reason: 1} if reason else {})


def test_the_notebooks_rules_keep_a_title_that_repairs_to_nothing() -> None:
    assert clean(NOTEBOOK, ("&nbsp;", "x" * 450))[0] == [("", "x" * 450)]
    assert clean(NOTEBOOK, (" ", "x" * 450))[1] == {}
    assert clean(NOTEBOOK, ("", "x" * 450))[1] == {"title_empty": 1}


CONTENTS = st.builds(
    lambda piece, times, end: (piece * times)[:520] + end,
    st.sampled_from(["x", "&amp;", "é ", "  y", "translation ", "Ã©"]),
    st.integers(0, 520),
    st.sampled_from(["", "translation", "&nbsp;"]),
)


@given(st.lists(st.tuples(st.sampled_from(["", " ", "t", "&nbsp;"]), CONTENTS), max_size=6))
def test_the_notebooks_rows_are_those_that_its_own_lines_keep(rows: list[tuple[str, str]]) -> None:
    # The notebook's pandas steps, on the raw text, in its own order.
    expected = [i for i, (title, _) in enumerate(rows) if len(title) > 0]
    expected = [i for i in expected if "translation" not in rows[i][1]]
    expected = [i for i in expected if 400 < len(rows[i][1]) <= 500]
    kept, drops = rules.clean_rows(table(*rows), NOTEBOOK)
    assert kept.column("uid").to_pylist() == [str(i) for i in expected]
    assert kept.num_rows + sum(drops.values()) == len(rows)


def test_removed_characters_are_gone_before_the_repaired_text_is_measured() -> None:
    settings = LOOSE | {"title_min": 1, "content_max": 3, "remove_characters": "-;"}
    rows = (("---", "abc"), ("a-b", "a;-;b"), ("t", "a-bcd"))
    assert clean(RowRules(**settings), *rows) == (
        [("ab", "ab")],
        {"title_empty": 1, "content_too_long": 1},
    )


def test_removed_characters_do_not_count_where_the_raw_text_is_measured() -> None:
    settings = LOOSE | {"measure": "raw", "content_min": 5, "remove_characters": "-;"}
    assert clean(RowRules(**settings), ("-", "a;-;b"), ("t", "ab")) == (
        [("", "ab")],
        {"content_too_short": 1},
    )


@given(
    st.lists(st.tuples(st.text(max_size=5), st.text(max_size=12)), max_size=8),
    st.integers(0, 3),
    st.integers(0, 6),
    st.sampled_from(["raw", "repaired"]),
)
def test_each_row_is_judged_alone(
    rows: list[tuple[str, str]], title_min: int, content_min: int, measure: Any
) -> None:
    row_rules = RowRules(
        title_min=title_min, content_min=content_min, content_max=8, measure=measure,
        content_excludes=["a"],
    )  # fmt: skip
    together, drops = clean(row_rules, *rows)
    alone = [clean(row_rules, row) for row in rows]
    assert together == [row for kept, _ in alone for row in kept]
    total: dict[str, int] = {}
    for _, fallen in alone:
        for reason in fallen:
            total[reason] = total.get(reason, 0) + 1
    assert drops == total


PIECES = [
    "word",
    "x" * 60,
    " ",
    "   ",
    "&amp;",
    "&quot;",
    "&nbsp;",
    "&Creme;",
    "é",
    "Ã©",
    "ﬃ",
    "\n",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


def reason_of(title: str, content: str, row_rules: RowRules) -> str | None:
    """Judge a row by the words of the rules alone, on the repaired text."""
    for name, each, low, high in (
        ("title", title, row_rules.title_min, row_rules.title_max),
        ("content", content, row_rules.content_min, row_rules.content_max),
    ):
        length = len(text.repair(each))
        if low and not length:
            return f"{name}_empty"
        if length < low:
            return f"{name}_too_short"
        if high is not None and length > high:
            return f"{name}_too_long"
    return None


@settings(max_examples=500)
@given(
    st.lists(st.tuples(TEXTS, TEXTS), max_size=8),
    st.tuples(st.integers(0, 4), st.integers(0, 70)),
    st.tuples(st.sampled_from([None, 4, 9, 200]), st.sampled_from([None, 70, 130, 300])),
)
def test_rows_dropped_before_their_repair_fall_to_the_reason_that_the_repaired_text_gives(
    rows: list[tuple[str, str]], least: tuple[int, int], most: tuple[int | None, int | None]
) -> None:
    row_rules = RowRules(
        title_min=least[0], content_min=least[1], title_max=most[0], content_max=most[1]
    )
    expected: dict[str, int] = {}
    for row in rows:
        if reason := reason_of(*row, row_rules):
            expected[reason] = expected.get(reason, 0) + 1
    stay = [row for row in rows if reason_of(*row, row_rules) is None]
    kept, drops = clean(row_rules, *rows)
    assert kept == [(text.repair(title), text.repair(content)) for title, content in stay]
    assert drops == expected


@pytest.mark.parametrize("texts", [[], [""], ["a", "", "tea pot"], ["é", "a", "鉄瓶", "😀b"]])
def test_texts_are_measured_in_code_points_of_any_script(texts: list[str]) -> None:
    column = pa.chunked_array([pa.array(texts[:1], pa.string()), pa.array(texts[1:], pa.string())])
    assert rules.code_points(column).tolist() == [len(each) for each in texts]
