"""Which trained rows stand before a title: by likeness, never its own family, the same anywhere."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from data import neighbours
from data.neighbours import ROWS, Neighbours
from data.prompt import Neighbour
from data.sampling import title_key

TITLES = [
    "Green Copper Kettle, 2-Litre",
    "Copper Kettle",
    "The Quiet Violin",
    "The Quiet River",
    "Copper Lamp",
    "copper  kettle!",
]


def table(titles: list[str], families: list[int] | None = None) -> pa.Table:
    """Rows that describe themselves by their number; a family of its own for every title."""
    keys = families or [title_key(title) for title in titles]
    described = [f"Row {place}." for place in range(len(titles))]
    return pa.table([titles, described, pa.array(keys, pa.uint64())], schema=ROWS)


def rows_of(index: Neighbours, title: str, most: int = 8) -> list[int]:
    """Places of the rows that are shown, the most similar first."""
    return [int(shown.description[4:-1]) for shown in index.find(title, most)]


def test_the_most_similar_titles_come_first() -> None:
    index = Neighbours(table(TITLES))
    # Three words in common, then two; a word of fewer titles counts more.
    assert rows_of(index, "Copper Kettle, 3-Litre") == [0, 1, 5, 4]
    assert rows_of(index, "A Violin") == [2]
    assert index.find("A Violin", 1) == (Neighbour("The Quiet Violin", "Row 2."),)
    assert rows_of(index, "Copper Kettle, 3-Litre", 2) == [0, 1]


@pytest.mark.parametrize("title", ["Copper Kettle", "COPPER-kettle", "copper kettle"])
def test_the_row_itself_is_none_however_its_title_is_spelt(title: str) -> None:
    assert rows_of(Neighbours(table(TITLES)), title) == [0, 4]


def test_the_family_of_the_title_is_none() -> None:
    families = [7, 7, 1, 2, 3, 7]
    assert rows_of(Neighbours(table(TITLES, families)), "Copper Kettle") == [4]
    # A title that no row has is of no family.
    assert rows_of(Neighbours(table(TITLES, families)), "Copper Kettles") == [1, 4, 5, 0]


def test_rows_of_one_title_in_two_families_leave_out_both() -> None:
    assert rows_of(Neighbours(table(TITLES, [1, 1, 2, 2, 3, 3])), "Copper Kettle") == []


@pytest.mark.parametrize("title", ["", "???", "Jacket", "a b c", " "])
def test_titles_without_a_word_in_common_have_none(title: str) -> None:
    assert rows_of(Neighbours(table(TITLES)), title) == []


@pytest.mark.parametrize("titles", [[], ["???", "!!!"], ["Kettle"]])
def test_rows_without_words_are_none(titles: list[str]) -> None:
    assert Neighbours(table(titles)).find("Kettle", 2) == ()


def test_a_word_of_every_title_still_counts() -> None:
    index = Neighbours(table(["Kettle", "Kettle 2", "Kettle 3"]))
    assert rows_of(index, "Kettle 4") == [0, 1, 2]


def test_equals_come_in_the_order_of_the_rows() -> None:
    titles = [f"Kettle {place}" for place in range(100)]
    assert rows_of(Neighbours(table(titles)), "Kettle", 4) == [0, 1, 2, 3]
    assert rows_of(Neighbours(table(titles)), "Kettle 0", 3) == [1, 2, 3]


@pytest.mark.parametrize(
    ("titles", "asked", "nearest"),
    [
        (["铜制水壶", "安静的小提琴", "铜灯"], "绿色铜制水壶", 0),
        (["กาต้มน้ำทองแดง", "ไวโอลินเงียบ"], "ไวโอลินสีเขียว", 1),
        (["銅のやかん", "静かなバイオリン"], "緑のバイオリン", 1),
        (["Медный чайник", "Тихая скрипка"], "ТИХАЯ река", 1),
        (["Café crème", "Thé vert"], "CAFÉ noir", 0),
    ],
)
def test_titles_of_any_script_are_compared(titles: list[str], asked: str, nearest: int) -> None:
    assert rows_of(Neighbours(table(titles)), asked)[0] == nearest


def test_it_is_the_same_alone_and_among_others_in_any_chunks() -> None:
    draw = random.Random(5)  # noqa: S311
    titles = [" ".join(draw.choices("abcdefghij", k=4)) for _ in range(400)]
    whole = Neighbours(table(titles))
    expected = [rows_of(whole, title) for title in titles]
    pieces = [table(titles).slice(start, 30) for start in range(0, 400, 30)]
    cut = Neighbours(pa.concat_tables(pieces))
    order = draw.sample(range(400), 400)
    assert {place: rows_of(cut, titles[place]) for place in order} == dict(enumerate(expected))
    assert all(title_key(titles[place]) != title_key(titles[near])
               for place, several in enumerate(expected) for near in several)  # fmt: skip


def test_rows_are_read_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / neighbours.NAME
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, ROWS) as writer:
        writer.write_table(table(TITLES), 2)
    opened = neighbours.open_rows(str(path), "0f")
    assert rows_of(opened, "Copper Kettle") == [0, 4]
    assert neighbours.open_rows(str(path), "0f") is opened
    assert neighbours.open_rows(str(path), "1f") is not opened
