"""Families: planted twins are found, others are not joined, and no family is on both sides."""

import dataclasses
import itertools
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data import sampling, subset
from data.__main__ import main
from data.artefacts import manifest, schema
from data.artefacts.folder import Folder
from data.subset import SubsetConfig, families
from data.subset import rows as choosing
from tests.builders import write_clean

COLOURS = ("red", "blue", "green", "ivory", "black", "grey")


def planted(count: int, seed: int) -> list[list[str]]:
    """Descriptions in families of two to four: one to four words changed, a colour, an edition."""
    draw = random.Random(seed)  # noqa: S311
    vocabulary = ["".join(draw.choices("abcdefghiklmnoprstuvw", k=6)) for _ in range(3_000)]
    result = []
    for _ in range(count):
        words = [*draw.choices(vocabulary, k=draw.randint(20, 90)), "Edition", "1", "in", "red"]
        members = [words]
        for _ in range(draw.randint(1, 3)):
            other = list(words)
            for place in draw.sample(range(len(words) - 4), draw.randint(1, 4)):
                other[place] = draw.choice(vocabulary)
            other[-3], other[-1] = str(draw.randint(1, 9)), draw.choice(COLOURS)
            members.append(other)
        result.append([f"{' '.join(member).capitalize()}." for member in members])
    return result


def jaccard(one: str, other: str) -> float:
    def triples(text: str) -> set[tuple[str, ...]]:
        words = text.lower().rstrip(".").split()
        return set(zip(words, words[1:], words[2:], strict=False))

    a, b = triples(one), triples(other)
    return len(a & b) / len(a | b)


def heads_of(texts: list[str], similarity: float = 0.7) -> np.ndarray:
    return families.join([], *families.sign(texts), similarity)


def test_planted_families_are_found_and_nothing_else_is_joined() -> None:
    groups = planted(500, 1)
    texts = [text for group in groups for text in group]
    group_of = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    heads = heads_of(texts)
    near = near_joined = far = far_joined = 0
    for group in range(len(groups)):
        for one, other in itertools.combinations(np.flatnonzero(group_of == group), 2):
            likeness = jaccard(texts[one], texts[other])
            near += likeness >= 0.8
            near_joined += likeness >= 0.8 and heads[one] == heads[other]
            far += likeness < 0.5
            far_joined += likeness < 0.5 and heads[one] == heads[other]
    assert min(near, far) > 100
    assert near_joined >= 0.95 * near
    assert far_joined <= 0.01 * far
    assert all(group_of[head] == group for head, group in zip(heads, group_of, strict=True))


def test_pairs_alone_are_joined_by_their_jaccard() -> None:
    pairs = [group[:2] for group in planted(1_000, 2)]
    heads = heads_of([text for pair in pairs for text in pair])
    joined = heads[::2] == heads[1::2]
    likeness = np.array([jaccard(*pair) for pair in pairs])
    assert joined[likeness >= 0.8].mean() >= 0.99
    assert joined[likeness < 0.5].mean() <= 0.01
    assert min((likeness >= 0.8).sum(), (likeness < 0.5).sum()) > 100


@pytest.mark.parametrize(
    ("one", "other", "are_near"),
    [
        ("A kettle of steel, red.", "A KETTLE of steel; red!", True),
        ("Чайник из стали, красный, большой.", "чайник из стали красный большой", True),
        ("红色的钢制水壶适合家庭使用而且很轻", "红色的钢制水壶适合家庭使用而且很重", True),
        ("红色的钢制水壶适合家庭使用", "一本关于古代历史的有趣书籍", False),
        ("★★★", "***", False),
        ("★★★", "★★★", True),
        ("Good book", "Good cook", False),
        ("new", "New.", True),
    ],
)
def test_words_of_any_script_decide(one: str, other: str, are_near: bool) -> None:
    heads = heads_of(["another text altogether, of no one", one, other])
    assert (heads[1] == heads[2]) is np.bool_(are_near)


def test_boilerplate_of_thousands_of_rows_costs_no_more_than_its_rows() -> None:
    tail = "this product is made on demand and the usual terms of return apply to all of it " * 2
    texts = [f"{i} {tail}" for i in range(30_000)]
    assert len(set(heads_of(texts))) == 1


def test_a_chain_of_pairs_is_one_family() -> None:
    words = [f"w{i}" for i in range(60)]
    chain = []
    for step in range(40):
        words[step] = f"x{step}"
        chain.append(" ".join(words))
    assert jaccard(chain[0], chain[-1]) < 0.5
    assert set(heads_of(chain)) == {0}


# In subsets -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str, str]]:
    texts = [text for group in planted(500, 3) for text in group]
    rows = [(f"u{i}", f"Title number {i}", text) for i, text in enumerate(texts)]
    return [*rows, ("a", "The  same TITLE!", "of one thing"), ("b", "the same title", "of another")]


def make(clean: Path, out: Path, *words: str) -> dict[str, list[dict[str, object]]]:
    assert main(["subset", f"--clean={clean}", f"--out={out}", *words]) == 0
    return {split: dataset.to_list() for split, dataset in subset.load(str(out)).items()}


def test_no_family_is_on_both_sides_and_sizes_are_nested(
    rows: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    clean = write_clean(tmp_path / "clean", rows)
    every = make(clean, tmp_path / "all")
    train = {row["family"] for row in every["train"]}
    assert every["test"]
    for split in ("validation", "test"):
        assert not train & {row["family"] for row in every[split]}
    some, few = (make(clean, tmp_path / str(n), f"--size={n}") for n in (500, 200))
    assert (some["train"], few["train"]) == (every["train"][:500], every["train"][:200])
    assert every["test"] == some["test"] == few["test"]
    record = manifest.read(Folder(str(tmp_path / "all")))
    held_out = sum(
        split != "train"
        for split in sampling.splits([row[1] for row in rows], 3407, sampling.SplitShares(0.1, 0.1))
    )
    kept = len(every["validation"]) + len(every["test"])
    assert record.counts.dropped == {"near_leaked": held_out - kept}
    sizes = Counter(row["family"] for row in every["train"]).values()
    assert record.facts["families"]["largest"] >= max(sizes) > 1


@pytest.mark.parametrize("order", ["sample", "file"])
def test_of_a_family_one_row_is_trained_on_where_asked(
    rows: list[tuple[str, str, str]], tmp_path: Path, order: str
) -> None:
    clean = write_clean(tmp_path / "clean", rows)
    every = make(clean, tmp_path / "all", f"--order={order}")
    once = make(clean, tmp_path / "once", f"--order={order}", "--near_duplicates=once")
    first: dict[object, dict[str, object]] = {}
    for row in sorted(every["train"], key=lambda row: (row["sample_key"], row["uid"])):
        first.setdefault(row["family"], row)
    assert once["train"] == [row for row in every["train"] if first[row["family"]] == row]
    assert len(once["train"]) < 0.7 * len(every["train"])
    assert once["test"] == every["test"]
    dropped = manifest.read(Folder(str(tmp_path / "once"))).counts.dropped
    assert dropped["near_duplicate"] == len(every["train"]) - len(once["train"])


@pytest.mark.parametrize("parts", [1, 5])
def test_the_same_families_for_any_shards_and_order(
    rows: list[tuple[str, str, str]], tmp_path: Path, parts: int
) -> None:
    shuffled = random.Random(parts).sample(rows, len(rows))  # noqa: S311
    one = make(write_clean(tmp_path / "a", rows), tmp_path / "one")
    two = make(write_clean(tmp_path / "b", shuffled, parts=parts), tmp_path / "two")
    for split, expected in one.items():
        for row, other in zip(expected, two[split], strict=True):
            assert row | {"byte_offset": 0} == other | {"byte_offset": 0}


@pytest.mark.parametrize("similarity", [0.49, 1.01])
def test_a_similarity_that_signatures_cannot_tell_is_refused(similarity: float) -> None:
    with pytest.raises(ValueError, match=r"--similarity: expected 0\.5 to 1"):
        SubsetConfig(similarity=similarity)


def test_an_output_without_families_is_not_taken_for_the_same(
    rows: list[tuple[str, str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean, out = write_clean(tmp_path / "clean", rows), tmp_path / "out"
    make(clean, out)
    record = manifest.read(Folder(str(out)))
    earlier = {name: value for name, value in record.identity.items() if name != "similarity"}
    assert len(earlier) < len(record.identity)
    dataclasses.replace(record, identity=earlier).write(Folder(str(out)))
    assert main(["subset", f"--clean={clean}", f"--out={out}"]) == 1
    assert "similarity" in capsys.readouterr().err


def test_rows_that_say_nothing_are_no_family_of_each_other() -> None:
    titles = ["Kettle", "kettle!", "Lamp of brass", "Lamp of brass", "Violin"]
    columns = [list("abcde"), titles, ["", "", "", "It shines.", ""],
               ["train", "train", "test", "test", "test"], list(range(5)), ["s"] * 5,
               list(range(5))]  # fmt: skip
    arrays = [pa.array(c, field.type) for c, field in zip(columns, schema.CLEAN, strict=True)]
    index = choosing.index_part(pa.table(arrays, schema=schema.CLEAN), 0)
    choice = choosing.choose(index, SubsetConfig())
    assert choice.families == {"families": 2, "rows": 4, "of_2": 2, "largest": 2}
    # Their descriptions stand among the train rows' all the same.
    assert choice.counts.dropped == {"leaked": 2}
    assert choice.rows["test"].row.tolist() == [3]
