"""The repair of text: what it does to known defects, and that it equals its definition."""

import gzip
import html
import json
import subprocess
import sys
from pathlib import Path

import ftfy
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import text


def definition(raw: str) -> str:
    return " ".join(ftfy.fix_text(html.unescape(raw)).split())


def repair_all(raws: list[str]) -> list[str]:
    column = text.repair_column(pa.array(raws, pa.string()))
    assert column.type == pa.string()
    repaired: list[str] = column.to_pylist()
    return repaired


@pytest.mark.parametrize(
    ("raw", "repaired"),
    [
        ('100% "ASCII": ~!@#$%^*()_+|}{<>', '100% "ASCII": ~!@#$%^*()_+|}{<>'),
        ("", ""),
        (" ", ""),
        ("&nbsp;", ""),
        ("\u00a0\u2003", ""),
        ("a &amp; b", "a & b"),
        ("&quot;Dune&quot;", '"Dune"'),
        ("it&#x92;s", "it's"),
        ("1990&#151;1995", "1990—1995"),
        ("Pok&eacute;mon", "Pokémon"),
        ("CafÃ© DuNord", "Café DuNord"),
        ("Caf&Atilde;&copy;", "Café"),
        ("&Creme; &bogus;", "&Creme; &bogus;"),
        ("&amp;amp;", "&"),
        ("R&B", "R&B"),
        (" a  b\n\nc\t d ", "a b c d"),
        ("a\x00b\x07c\x7fd", "abcd"),
        ("ﬁsh & ﬂow", "fish & flow"),
        ("e\u0301", "é"),
        ("\ufeffmark", "mark"),
        ("😀 stays", "😀 stays"),
    ],
)  # fmt: skip
def test_known_defects(raw: str, repaired: str) -> None:
    assert definition(raw) == repaired
    assert repair_all([raw]) == [repaired]
    assert text.repair(raw) == repaired


def test_the_import_leaves_pandas_out() -> None:
    """A driver that only plans would wait for it: half of its start."""
    code = "import sys, data.text; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_crlf_needs_no_ftfy(monkeypatch: pytest.MonkeyPatch) -> None:
    raws = ["a\r\nb", "caf\u00e9\r\n\u2019s", "\r", "x\r", "\ny"]
    expected = [definition(raw) for raw in raws]
    monkeypatch.setattr(ftfy, "fix_text", None)
    assert repair_all(raws) == expected


def test_an_empty_column_stays_one() -> None:
    assert repair_all([]) == []


def test_rows_keep_their_order_whether_touched_or_not() -> None:
    assert repair_all(["plain", "a  b", "also plain", "&lt;", ""]) == [
        "plain", "a b", "also plain", "<", "",
    ]  # fmt: skip


PIECES = st.sampled_from(
    [
        *("a", "Zz", "9", " ", "  ", "\n", "\r\n", "\t", "\x0b", "\x1c", "\x85", "\xa0", "\u2028"),
        *("\u3000", "\u200b", "\ufeff", "\x00", "\x1b[31m", "\x7f", "\x92", "\x80", "&", ";", "#"),
        *("&amp;", "&quot;", "&#x92;", "&#151;", "&#x2019;", "&nbsp;", "&eacute;", "&Creme;"),
        *("&amp;lt;", "&#0;", "&#x110000;", "&#xD800;", "&lt", "&notit;", "&#38;#38;", "<b>"),
        *(
            "Ã©",
            "â€™",
            "Ã¢â‚¬Å“",
            "ï»¿",
            "Â ",
            "ä½ å¥½",
            "\ufb01",
            "ｆｕｌｌ",
            "“",
            "’",
            "é",
            "e\u0301",
        ),
        *("😀", "\ufffd", "½", "Å\u0082", "à", "\u0130", "ſ", "\u202e", "\U0001f1e9"),
    ]
)
TEXTS = st.lists(st.one_of(PIECES, PIECES, st.text(max_size=4)), max_size=8).map("".join)


@settings(max_examples=400)
@given(st.lists(st.one_of(TEXTS, st.text()), max_size=4))
def test_the_repair_of_a_column_equals_its_definition_on_any_text(raws: list[str]) -> None:
    assert repair_all(raws) == [definition(raw) for raw in raws]


def test_the_repair_equals_its_definition_on_every_character_of_the_first_plane() -> None:
    raws = [chr(c) for c in range(0x10000) if not 0xD800 <= c < 0xE000]
    sample = raws[:0x600] + raws[0x600::17]
    assert repair_all([f"a{c}b" for c in sample]) == [definition(f"a{c}b") for c in sample]


def remove(texts: list[str], characters: str) -> list[str]:
    removed: list[str] = text.remove_characters(
        pa.array(texts, pa.string()), characters
    ).to_pylist()
    return removed


def test_removed_characters_leave_no_double_spaces() -> None:
    assert remove(["a - b", "-a-", "(x): y;", "- -", "plain"], "-\",;:_()") == [
        "a b", "a", "x y", "", "plain",
    ]  # fmt: skip


def test_without_characters_nothing_is_removed() -> None:
    assert remove(["a - b"], "") == ["a - b"]


@settings(max_examples=200)
@given(
    st.lists(TEXTS.map(definition), max_size=4),
    st.text(st.sampled_from("-^]\\[.*+?&:;,_()\"'abdsw09é😀 |~#/"), max_size=5),
)
def test_removal_takes_every_listed_character_and_no_other(
    repaired: list[str], characters: str
) -> None:
    without = [
        " ".join("".join(c for c in each if c not in characters).split(" ")) for each in repaired
    ]
    expected = [" ".join(word for word in each.split(" ") if word) for each in without]
    assert remove(repaired, characters) == (expected if characters else repaired)


@pytest.mark.real
def test_the_repair_equals_its_definition_on_the_real_records(real_records: Path) -> None:
    with gzip.open(real_records, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    for name in ("title", "content"):
        raws = [record[name] for record in records]
        assert sum(map(len, raws)) > 0
        different = [
            i for i, repaired in enumerate(repair_all(raws)) if repaired != definition(raws[i])
        ]
        # Positions, not texts: theirs must not reach a log.
        assert different == []
