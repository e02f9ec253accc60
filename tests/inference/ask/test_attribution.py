"""What an answer rests on: training state of a title, recited stretches."""

import dataclasses
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.artefacts.manifest import Counts, Manifest
from data.prompt import Neighbour
from data.subset import SubsetConfig
from data.subset import run as take_subset
from inference.ask.attribution import STATES, Training
from inference.ask.index import Record
from tests.builders import write_clean

TEXT = "The {0} kettle boils {0} litres of water in {0} minutes and never drips on the table."
ROWS = [(f"u{i}", f"Kettle No. {i}", TEXT.format(f"{i}th")) for i in range(60)]


@pytest.fixture(scope="module")
def subset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evidence")
    clean = write_clean(folder / "clean", ROWS, held_out=0.15)
    take_subset(SubsetConfig(clean=str(clean), out=str(folder / "subset"), size=20))
    return folder / "subset"


@pytest.fixture(scope="module")
def made(subset: Path) -> Manifest:
    parent = manifest.read(Folder(str(subset))).as_parent(str(subset))
    return Manifest("train", {}, {}, (), (), Counts(), made_from=(parent,))


def record(row: tuple[str, str, str], split: str = "train") -> Record:
    return Record(*row, split, "raw.json", 0)


def test_each_title_has_its_state(subset: Path, made: Manifest) -> None:
    from data.subset import load

    training = Training(made)
    taken = load(str(subset))
    trained = {row["title"] for row in taken["train"]}
    held_out = {row["title"] for split in ("test", "validation") for row in taken[split]}
    assert trained
    assert held_out
    for row in ROWS:
        expected = "unseen"
        expected = "held_out" if row[1] in held_out else expected
        expected = "trained" if row[1] in trained else expected
        split = "test" if expected == "held_out" else "train"
        assert training.state(row[1], record(row, split)) == expected
    title = min(trained)
    assert training.state(title.upper() + "!", record(("x", title, ""))) == "trained"
    assert training.state(title, None) == training.state(None, None) == "unknown"
    assert {"trained", "held_out", "unseen", "unknown"} < set(STATES)


def test_without_its_subset_a_run_tells_only_what_was_held_out(made: Manifest) -> None:
    gone = dataclasses.replace(
        made, made_from=(dataclasses.replace(made.made_from[0], path="/nowhere"),)
    )
    other = dataclasses.replace(
        made, made_from=(dataclasses.replace(made.made_from[0], digest="0f"),)
    )
    for training in (Training(gone), Training(other), Training(None)):
        assert training.state("Kettle No. 1", record(ROWS[1])) == "untold"
        assert training.state("Kettle No. 1", record(ROWS[1], "test")) == "held_out"


def test_recited_stretches_are_found_in_whole_words(subset: Path, made: Manifest) -> None:
    from data.subset import load

    training = Training(made)
    row = next(iter(load(str(subset))["train"]))
    own = record((row["uid"], row["title"], row["content"]))
    answer = "Buy this: " + row["content"][4:70] + "xx and so on."
    (found,) = training.copied(answer, own)
    assert (found.where, found.uid, found.title) == ("record", row["uid"], row["title"])
    assert answer[found.begin : found.end] == found.text
    assert found.text in row["content"]
    assert not answer[found.end - 1 : found.end + 1].isalnum()
    (other,) = training.copied(answer, record(("x", "Another", "Nothing alike.")))
    assert other.where == "training"
    assert other.title in {each["title"] for each in load(str(subset))["train"]}


def test_turns_of_phrase_are_not_recited(made: Manifest) -> None:
    training = Training(made)
    assert training.copied("boils a litre of water in two", None) == []
    assert training.copied("A novel about boils a litre of water in two nights.", None) == []
    assert training.copied("", None) == []


def test_the_records_own_text_is_always_looked_at() -> None:
    row = record(ROWS[3])
    (found,) = Training(None).copied("So: " + ROWS[3][2], row)
    assert (found.where, found.text) == ("record", ROWS[3][2])


def test_a_stretch_of_several_texts_names_none() -> None:
    content = "Alpha beta gamma delta epsilon zeta eta theta iota kappa."
    row = record(("a", "Greek", content))
    training = Training(None)
    halves = content[:-1] + " " + content
    found = training.copied(halves, row)
    assert "".join(each.text for each in found).replace(" ", "") in halves.replace(" ", "")
    assert all(each.uid == "a" or each.uid is None for each in found)


def test_training_texts_are_sorted_once(
    subset: Path, made: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inference import overlap

    sorts: list[int] = []
    real = overlap.Sorted
    monkeypatch.setattr("inference.overlap.Sorted", lambda texts: (sorts.append(1), real(texts))[1])
    training = Training(made)
    for row in ROWS[:5]:
        assert training.copied(row[2], record(row))[0].where == "record"
    assert sorts == [1]


@given(st.lists(st.text("abé ", min_size=1, max_size=30), max_size=6), st.text("abé ", max_size=40))
def test_spans_are_those_of_the_exact_search(texts: list[str], text: str) -> None:
    from inference import overlap

    found = overlap.Sorted(texts)
    exact = overlap.find_copies([text], pa.chunked_array([pa.array(texts, pa.string())]), 4)
    assert found.spans(text, 4) == exact.spans[0]
    for begin in range(len(text) - 3):
        piece = text[begin : begin + 4]
        first = next((i for i, each in enumerate(texts) if piece in each), -1)
        assert found.find(piece) == first


def test_what_the_prompt_showed_is_told_apart_from_training_texts(made: Manifest) -> None:
    shown = [Neighbour("A Loud Kettle", "It whistles so that all of the house comes down to tea.")]
    own = record(
        ("x", "A Kettle", "A kettle of brass with a wooden handle, made by hand in Leeds.")
    )
    answer = f"{shown[0].description} {own.content}"
    stretches = Training(made).copied(answer, own, shown)
    assert [(stretch.where, stretch.title) for stretch in stretches] == [
        ("neighbour", "A Loud Kettle"), ("record", "A Kettle"),
    ]  # fmt: skip
    assert [stretch.where for stretch in Training(None).copied(answer, own)] == ["record"]
