"""Subsets: nested, free of duplicates and leaks, memory-mapped, the same bytes every time."""

import itertools
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import sampling, subset
from data.__main__ import main
from data.artefacts import manifest, schema, stage
from data.artefacts.dataset import Subset
from data.artefacts.folder import Folder, digest_bytes
from data.artefacts.parts import read_batches
from data.errors import ConfigError, ManifestError, OutputError, SubsetError
from data.sampling import SplitShares
from data.subset import SubsetConfig, command
from data.subset import rows as choosing
from tests.builders import digest_files, write_clean

Row = tuple[str, str, str]


def make_rows(rows: int) -> list[Row]:
    """Rows of few titles and contents, so that some stand twice and some leak."""
    draw = random.Random(7)  # noqa: S311
    return (
        [
            (f"{i:06d}", f"Title {draw.randrange(rows)}", f"Content {draw.randrange(rows * 3)}.")
            for i in range(rows)
        ]
        + [(f"again {i}", f"Title {i}", "One content under many titles.") for i in range(30)]
        + [(f"twice {i}", f"Title {i % 20}", "One content under many titles.") for i in range(30)]
    )


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_clean(tmp_path_factory.mktemp("clean") / "clean", make_rows(1_200)))


@pytest.fixture(scope="module")
def make(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a subset by its command, once for each set of words."""
    made: dict[tuple[str, ...], Path] = {}

    def run(*words: str) -> Path:
        if words not in made:
            out = tmp_path_factory.mktemp("subset") / "out"
            assert main(["subset", f"--clean={clean}", f"--out={out}", *words]) == 0
            made[words] = out
        return made[words]

    return run


def rows_of(folder: Path, split: str) -> list[dict[str, Any]]:
    """The rows of a split without their family."""
    loaded = subset.load(str(folder))
    return loaded[split].remove_columns("family").to_list() if split in loaded else []


def by_key(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["sample_key"], row["uid"], row["byte_offset"]))


def all_rows(clean: Path) -> list[dict[str, Any]]:
    return [row for batch in read_batches(Folder(str(clean))) for row in batch.to_pylist()]


def family_of(rows: list[dict[str, Any]]) -> dict[str, set[str]]:
    """The titles of each title's family; no content here is nearly another."""
    joined: dict[str, set[str]] = {}
    for key in (lambda row: row["content"], lambda row: sampling.normalise_title(row["title"])):
        alike: dict[str, list[str]] = {}
        for row in rows:
            alike.setdefault(key(row), []).append(row["title"])
        for titles in alike.values():
            union = set().union(*(joined.get(title, {title}) for title in titles))
            joined |= dict.fromkeys(union, union)
    return joined


def expected(rows: list[dict[str, Any]], split: str) -> list[dict[str, Any]]:
    """What the design says of a split, in so many words; ``family`` left out."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        first.setdefault((row["title"], row["content"]), row)
    train, families = {row["title"] for row in rows if row["split"] == "train"}, family_of(rows)
    return [
        {name: row[name] for name in schema.SUBSET.names if name != "family"}
        for row in first.values()
        if row["split"] == split and (split == "train" or not families[row["title"]] & train)
    ]


def test_subsets_are_nested(make: Callable[..., Path]) -> None:
    small, middle, every = (
        rows_of(make(*words), "train") for words in (("--size=100",), ("--size=300",), ())
    )
    assert (len(small), len(middle)) == (100, 300)
    assert len(every) > 600
    assert small == middle[:100]
    assert middle == every[:300]


@pytest.mark.parametrize("split", schema.SPLITS)
def test_a_split_holds_its_different_rows_that_do_not_leak_in_sample_key_order(
    make: Callable[..., Path], clean: Path, split: str
) -> None:
    rows = rows_of(make(), split)
    assert rows == expected(by_key(all_rows(clean)), split)
    assert rows
    keys = [row["sample_key"] for row in rows]
    assert keys == sorted(keys)


def test_every_size_has_the_same_held_out_rows(make: Callable[..., Path]) -> None:
    for split in ("validation", "test"):
        of_all = rows_of(make(), split)
        assert of_all
        assert rows_of(make("--size=1"), split) == rows_of(make("--size=100"), split) == of_all


def test_no_title_and_no_content_stands_on_both_sides(
    make: Callable[..., Path], clean: Path
) -> None:
    train = [row for row in all_rows(clean) if row["split"] == "train"]
    for split in ("validation", "test"):
        for row in rows_of(make(), split):
            assert row["content"] not in {each["content"] for each in train}
            assert sampling.normalise_title(row["title"]) not in {
                sampling.normalise_title(each["title"]) for each in train
            }


def test_duplicates_leaks_and_the_rest_are_counted(make: Callable[..., Path], clean: Path) -> None:
    rows = by_key(all_rows(clean))
    kept = {split: len(expected(rows, split)) for split in schema.SPLITS}
    duplicates = len(rows) - len({(row["title"], row["content"]) for row in rows})
    counts = manifest.read(Folder(str(make("--size=100"))), "subset").counts
    trained = {row["content"] for row in rows if row["split"] == "train"}
    seen = {(row["title"], row["content"]) for row in rows if row["split"] != "train"}
    leaked = sum(content in trained for _, content in seen)
    near = len(rows) - duplicates - leaked - sum(kept.values())
    assert min(duplicates, leaked, near) > 0
    assert (counts.read, counts.kept) == (len(rows), 100 + kept["validation"] + kept["test"])
    assert counts.dropped == {
        "beyond_size": kept["train"] - 100, "duplicate": duplicates, "leaked": leaked,
        "near_leaked": near,
    }  # fmt: skip
    facts = manifest.read(Folder(str(make("--size=100")))).facts
    assert facts["rows"] == {"train": 100} | {s: kept[s] for s in ("validation", "test")}


def test_the_longest_texts_of_the_subset_are_noted_in_code_points(tmp_path: Path) -> None:
    rows = [(str(i), "é" * (i + 1), "😀" * (i + 3)) for i in range(20)]
    clean = write_clean(tmp_path / "clean", rows, held_out=0.0)
    found = subset.run(SubsetConfig(clean=str(clean), out=str(tmp_path / "out")))
    assert (found.facts["longest_title"], found.facts["longest_content"]) == (20, 22)


def test_rows_held_out_are_at_most_as_many_as_asked(make: Callable[..., Path]) -> None:
    few = make("--validation=3", "--test=2")
    assert rows_of(few, "validation") == rows_of(make(), "validation")[:3]
    assert rows_of(few, "test") == rows_of(make(), "test")[:2]
    assert len(rows_of(few, "test")) == 2


def test_an_empty_split_is_left_out_and_the_rest_loads(make: Callable[..., Path]) -> None:
    folder = make("--validation=0", "--size=10")
    assert list(subset.load(str(folder))) == ["train", "test"]
    assert not (folder / "validation").exists()
    assert json.loads((folder / "dataset_dict.json").read_text()) == {"splits": ["train", "test"]}


def test_file_order_takes_the_rows_as_the_file_has_them(
    make: Callable[..., Path], clean: Path
) -> None:
    in_file_order = sorted(all_rows(clean), key=lambda row: (row["source"], row["byte_offset"]))
    rows = rows_of(make("--order=file", "--size=50"), "train")
    assert rows == expected(in_file_order, "train")[:50]
    assert rows != rows_of(make("--size=100"), "train")[:50]


def test_splits_are_mapped_from_one_copy_without_an_indices_mapping(
    make: Callable[..., Path], clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(cache))
    folder = tmp_path / "out"
    subset.run(SubsetConfig(clean=str(clean), out=str(folder)))
    for split, dataset in subset.load(str(folder)).items():
        assert dataset._indices is None
        [file] = dataset.cache_files
        assert Path(file["filename"]).parent == folder / split
        assert isinstance(
            dataset._data, datasets.table.ConcatenationTable | datasets.table.MemoryMappedTable
        )
        blocks = getattr(dataset._data, "blocks", [[dataset._data]])
        assert all(isinstance(b, datasets.table.MemoryMappedTable) for row in blocks for b in row)
    assert not cache.exists()


def test_the_same_command_writes_the_same_bytes(
    make: Callable[..., Path], clean: Path, tmp_path: Path
) -> None:
    os.utime(clean / "part-00000.parquet", (1, 1))
    again = tmp_path / "again"
    assert main(["subset", f"--clean={clean}", f"--out={again}", "--size=100"]) == 0
    first = make("--size=100")
    assert digest_files(again) == digest_files(first)
    assert len(digest_files(again)) == 10
    one, two = (manifest.read(Folder(str(folder))) for folder in (first, again))
    assert one.digest == two.digest


@pytest.mark.parametrize("parts", [1, 7])
def test_the_catalogues_shards_do_not_show_in_the_data(
    make: Callable[..., Path], tmp_path: Path, parts: int
) -> None:
    other = write_clean(tmp_path / "clean", make_rows(1_200), parts=parts)
    out = tmp_path / "out"
    assert main(["subset", f"--clean={other}", f"--out={out}", "--size=300"]) == 0
    found, reference = (
        {name: digest for name, digest in digest_files(folder).items() if name.endswith(".arrow")}
        for folder in (out, make("--size=300"))
    )
    assert len(found) == 3
    assert found == reference


def test_rows_are_found_across_row_groups_and_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.artefacts.parts.ROWS_PER_GROUP", 64)
    monkeypatch.setattr("data.subset.command._ROWS_AT_ONCE", 50)
    clean = write_clean(tmp_path / "clean", make_rows(700))
    subset.run(SubsetConfig(clean=str(clean), out=str(tmp_path / "out")))
    for split in schema.SPLITS:
        assert rows_of(tmp_path / "out", split) == expected(by_key(all_rows(clean)), split)


def test_a_range_holds_no_more_text_than_a_column_of_strings_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 50,000 rows of 45 KB, which are more than 2 GiB together.
    sizes = np.full(120_000, 45_000, dtype=np.int32)
    cut = list(command.ranges(sizes))
    assert cut == [(0, 47_721), (47_721, 95_442), (95_442, 120_000)]
    assert max(sizes[a:b].sum(dtype=np.int64) for a, b in cut) < 2**31
    assert list(command.ranges(np.full(120_000, 600))) == [
        (0, 50_000), (50_000, 100_000), (100_000, 120_000),
    ]  # fmt: skip
    # A row that is larger than a range, too, and the rows are the same however they are cut.
    monkeypatch.setattr("data.subset.command._BYTES_AT_ONCE", 60)
    assert list(command.ranges(np.array([50, 10, 1, 900, 7]))) == [(0, 2), (2, 3), (3, 4), (4, 5)]
    clean = write_clean(tmp_path / "clean", make_rows(200))
    subset.run(SubsetConfig(clean=str(clean), out=str(tmp_path / "out")))
    for split in schema.SPLITS:
        assert rows_of(tmp_path / "out", split) == expected(by_key(all_rows(clean)), split)


def test_each_output_is_described_by_its_rows_bytes_and_digest(make: Callable[..., Path]) -> None:
    folder = make()
    found = manifest.read(Folder(str(folder)), "subset")
    assert sum(each.rows for each in found.outputs) == found.counts.kept
    for each in found.outputs:
        payload = (folder / each.path).read_bytes()
        assert (each.bytes, each.digest) == (len(payload), digest_bytes(payload))


def test_the_manifest_names_the_catalogue_that_the_subset_was_made_from(
    make: Callable[..., Path], clean: Path
) -> None:
    parent = manifest.read(Folder(str(clean)))
    [found] = manifest.read(Folder(str(make()))).made_from
    assert (found.stage, found.path, found.digest) == ("clean", str(clean), parent.digest)


def test_rows_of_one_key_are_taken_by_uid_and_then_by_offset() -> None:
    columns = [["b", "a", "a"], list("xyz"), list("xyz"), ["train"] * 3, [5] * 3, ["s"] * 3,
               [1, 9, 2]]  # fmt: skip
    arrays = [pa.array(c, field.type) for c, field in zip(columns, schema.CLEAN, strict=True)]
    index = choosing.index_part(pa.table(arrays, schema=schema.CLEAN), 0)
    chosen = choosing.choose(index, SubsetConfig()).rows
    assert chosen["train"].row.tolist() == [2, 1, 0]


UIDS = st.integers(0, 30)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(UIDS, st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=30),
    st.integers(1, 6),
    st.sampled_from(["sample", "file"]),
    st.integers(1, 4),
)  # fmt: skip
def test_any_rows_in_any_shards_give_what_the_design_says(
    drawn: list[tuple[int, int, int]], size: int, order: Any, parts: int
) -> None:
    shares = SplitShares(0.25, 0.25)
    uids = [str(uid) for uid, _, _ in drawn]
    titles = [f"T{title}" for _, title, _ in drawn]
    columns = [
        uids, titles, [f"c{content}" for *_, content in drawn],
        sampling.splits(titles, 1, shares), sampling.sample_keys(uids, 1),
        ["raw.json"] * len(drawn), list(range(len(drawn))),
    ]  # fmt: skip
    arrays = [pa.array(c, field.type) for c, field in zip(columns, schema.CLEAN, strict=True)]
    table = pa.table(arrays, schema=schema.CLEAN)
    cuts = np.linspace(0, len(drawn), parts + 1).astype(int).tolist()
    tables = [table.slice(a, b - a) for a, b in itertools.pairwise(cuts)]
    index = pa.concat_tables([choosing.index_part(each, i) for i, each in enumerate(tables)])
    config = SubsetConfig(size=size, order=order, validation=2, test=2)
    rows = table.to_pylist()
    rows = by_key(rows) if order == "sample" else rows
    limits = {"train": size, "validation": 2, "test": 2}
    if len(expected(rows, "train")) < size:
        with pytest.raises(SubsetError):
            choosing.choose(index, config)
        return
    choice = choosing.choose(index, config)
    choice.counts.check("here")
    for split in schema.SPLITS:
        places = choice.rows.get(split)
        found = [] if places is None else [
            tables[part].slice(row, 1).select(schema.SUBSET.names[:-1]).to_pylist()[0]
            for part, row in zip(places.part.tolist(), places.row.tolist(), strict=True)
        ]  # fmt: skip
        assert found == expected(rows, split)[: limits[split]]


# Faults ----------------------------------------------------------------------------------------


def fail(capsys: Any, *words: str) -> str:
    assert main(["subset", *words]) == 1
    told: str = capsys.readouterr().err
    assert [each for each in told.splitlines() if each.startswith("error: ")] == told.splitlines()[
        -1:
    ]
    assert "Traceback" not in told
    return told


def test_more_rows_than_there_are_is_told_with_how_many_and_leaves_no_folder(
    clean: Path, tmp_path: Path, capsys: Any
) -> None:
    there = len(expected(by_key(all_rows(clean)), "train"))
    words = (f"--clean={clean}", f"--out={tmp_path / 'out'}")
    told = fail(capsys, *words, f"--size={there + 1}")
    assert f"expected {there + 1:,} different train rows, found {there:,}" in told
    assert f"--size {there}" in told
    assert not (tmp_path / "out").exists()
    assert main(["subset", *words, f"--size={there}"]) == 0


def test_a_catalogue_without_train_rows_is_told(tmp_path: Path) -> None:
    shares = SplitShares(0.1, 0.1)
    held_out = [f"T{i}" for i in range(200) if sampling.splits([f"T{i}"], 3407, shares) == ["test"]]
    clean = write_clean(tmp_path / "clean", [(t, t, t) for t in held_out], parts=1)
    with pytest.raises(SubsetError, match="expected train rows, found none"):
        subset.run(SubsetConfig(clean=str(clean), out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_a_catalogue_that_is_missing_or_unfinished_is_told(tmp_path: Path, capsys: Any) -> None:
    words = (f"--clean={tmp_path / 'clean'}", f"--out={tmp_path / 'out'}")
    assert "expected the finished output of clean, found none" in fail(capsys, *words)
    stage.begin(Folder(str(tmp_path / "clean")), "clean", {})
    assert "found an unfinished one" in fail(capsys, *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_a_damaged_catalogue_is_told_and_no_smaller_subset_is_made_of_it(
    tmp_path: Path, capsys: Any, damage: str
) -> None:
    clean = write_clean(tmp_path / "clean", make_rows(50))
    path = clean / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:200]) if damage == "cut" else path.unlink()
    told = fail(capsys, f"--clean={clean}", f"--out={tmp_path / 'out'}")
    assert "part-00001.parquet: expected the" in told
    assert "--overwrite true" in told
    assert not (tmp_path / "out").exists()


def test_the_catalogues_own_folder_is_never_written_over(tmp_path: Path, capsys: Any) -> None:
    clean = write_clean(tmp_path / "clean", make_rows(50))
    before = digest_files(clean)
    fail(capsys, f"--clean={clean}", f"--out={clean}", "--overwrite=true")
    assert digest_files(clean) == before


def test_a_size_that_cannot_be_had_removes_nothing(
    clean: Path, tmp_path: Path, capsys: Any
) -> None:
    words = (f"--clean={clean}", f"--out={tmp_path / 'out'}")
    assert main(["subset", *words, "--size=10"]) == 0
    before = digest_files(tmp_path / "out")
    fail(capsys, *words, "--size=100000", "--overwrite=true")
    assert digest_files(tmp_path / "out") == before


def test_a_finished_subset_is_left_as_it_is_and_another_size_is_refused(
    clean: Path, tmp_path: Path, capsys: Any
) -> None:
    config = SubsetConfig(clean=str(clean), out=str(tmp_path / "out"), size=5)
    first = subset.run(config)
    assert subset.run(config) == first
    assert "already finished" in capsys.readouterr().out
    with pytest.raises(
        OutputError, match=r"expected an output made with size=6, found size=5.*--over"
    ):
        subset.run(SubsetConfig(clean=str(clean), out=str(tmp_path / "out"), size=6))


@pytest.mark.parametrize("moment", ["_write_stream", "_save", "_artefacts", "replace"])
def test_a_kill_at_any_moment_is_made_good_by_the_same_command(
    make: Callable[..., Path],
    clean: Path,
    tmp_path: Path,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    where = os if moment == "replace" else command
    plain = getattr(where, moment)

    def stop(*arguments: Any) -> Any:
        calls.append(1)
        # The second stream; the dataset in place of the streams; the fourth file moved.
        if len(calls) == {"_write_stream": 2, "replace": 4}.get(moment, 1):
            if moment == "_save":
                plain(*arguments)
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(where, moment, stop)
    words = ["subset", f"--clean={clean}", f"--out={tmp_path / 'out'}", "--size=100"]
    assert main(words) == 130
    monkeypatch.undo()
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert main(words) == 0
    assert digest_files(tmp_path / "out") == digest_files(make("--size=100"))


@pytest.mark.parametrize(
    ("values", "flag"),
    [({"size": 0}, "--size"), ({"validation": -1}, "--validation"), ({"test": -1}, "--test")],
)
def test_a_size_that_cannot_be_meant_is_refused(values: dict[str, int], flag: str) -> None:
    with pytest.raises(ConfigError, match=f"^{flag}: expected "):
        SubsetConfig(**values)  # type: ignore[arg-type]


def test_a_remote_folder_is_refused_as_it_cannot_be_mapped(clean: Path) -> None:
    with pytest.raises(ConfigError, match="--out: expected a local folder"):
        subset.run(SubsetConfig(clean=str(clean), out="memory://bucket/out"))


def test_a_folder_that_is_no_subset_does_not_load(clean: Path) -> None:
    with pytest.raises(ManifestError, match="expected the finished output of subset"):
        subset.load(str(clean))


def test_configs_survive_pickling() -> None:
    for config in (SubsetConfig(), SubsetConfig(size=3, order="file")):
        assert pickle.loads(pickle.dumps(config)) == config


def test_rows_come_from_checked_files_alone(make: Callable[..., Path], tmp_path: Path) -> None:
    copy = shutil.copytree(make(), tmp_path / "copy")
    rows = rows_of(copy, "train")
    for name in ("dataset_dict.json", "train/state.json", "train/dataset_info.json"):
        (copy / name).write_bytes(b"{")
    assert rows_of(copy, "train") == rows


@pytest.mark.parametrize(
    ("words", "size"), [((), 100), (("--size=300",), 299), (("--order=file", "--test=0"), 7)]
)
def test_a_shrunk_subset_is_the_one_that_the_command_makes(
    make: Callable[..., Path], clean: Path, words: tuple[str, ...], size: int, tmp_path: Path
) -> None:
    own = make(*[word for word in words if "size" not in word], f"--size={size}")
    small = subset.shrink(Subset.open(str(make(*words))), size, str(tmp_path / "small"))
    assert small.count("train") == size
    assert digest_files(small.path) == digest_files(own)
    record = manifest.read(Folder(str(own)))
    for name in ("identity", "counts", "facts", "inputs", "outputs", "made_from", "digest"):
        assert getattr(small.record, name) == getattr(record, name), name
    before = (small.path / "manifest.json").stat().st_mtime_ns
    again = subset.shrink(Subset.open(str(make(*words))), size, str(small.path))
    assert (again.path / "manifest.json").stat().st_mtime_ns == before


def test_more_rows_than_a_batch_of_arrow_are_shrunk_to_the_same_bytes(tmp_path: Path) -> None:
    rows = [(f"{i:06d}", f"Title {i}", f"Content {i}.") for i in range(2_000)]
    clean = write_clean(tmp_path / "clean", rows)
    for name, size in (("whole", 1_500), ("own", 1_100)):
        subset.run(SubsetConfig(clean=str(clean), out=str(tmp_path / name), size=size))
    whole = Subset.open(str(tmp_path / "whole"))
    small = subset.shrink(whole, 1_100, str(tmp_path / "small"))
    assert small.record.digest == Subset.open(str(tmp_path / "own")).record.digest


def test_a_subset_does_not_grow(make: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(SubsetError, match="expected 101 train rows, found 100"):
        subset.shrink(Subset.open(str(make("--size=100"))), 101, str(tmp_path / "large"))
    assert not (tmp_path / "large").exists()


def test_attributes_stand_behind_the_other_columns_in_every_size(tmp_path: Path) -> None:
    rows = make_rows(300)
    brands = [f"Brand {i}" if i % 3 else "" for i in range(len(rows))]
    clean = write_clean(tmp_path / "clean", rows, brand=brands, price=["9.50"] * len(rows))
    plain = write_clean(tmp_path / "plain", rows)
    for name, folder in (("with", clean), ("without", plain)):
        subset.run(SubsetConfig(clean=str(folder), out=str(tmp_path / name)))
    made = Subset.open(str(tmp_path / "with"))
    assert made.record.facts["attributes"] == made.attributes == ["brand", "price"]
    brand_of = {uid: brand for (uid, _, _), brand in zip(rows, brands, strict=True)}
    loaded = subset.load(str(made.path))
    for split, other in subset.load(str(tmp_path / "without")).items():
        assert loaded[split].column_names == [*schema.SUBSET.names, "brand", "price"]
        assert loaded[split].remove_columns(["brand", "price"]).to_list() == other.to_list()
        for row in loaded[split]:
            assert (row["brand"], row["price"]) == (brand_of[row["uid"]], "9.50")
    words = (f"--clean={clean}", "--size=50", f"--out={tmp_path / 'small'}")
    assert main(["subset", *words]) == 0
    shrunk = subset.shrink(made, 50, str(tmp_path / "shrunk"))
    assert digest_files(shrunk.path) == digest_files(tmp_path / "small")
    assert shrunk.record.digest == Subset.open(str(tmp_path / "small")).record.digest
    assert shrunk.attributes == ["brand", "price"]


def test_without_attributes_a_subset_is_that_of_earlier_versions(tmp_path: Path) -> None:
    clean = write_clean(tmp_path / "clean", make_rows(300))
    made = subset.run(SubsetConfig(clean=str(clean), out=str(tmp_path / "subset"), size=50))
    # What the version before attributes wrote.
    assert manifest.read(Folder(str(clean))).digest == "644f3ca023ba8cf1c3945c9b3a162519"
    assert made.digest == "f54b5be2cb38cd3c2056c0321eaf0fa3"
    assert [output.digest for output in made.outputs] == [
        "e3d3f8cc7e039ee48f6ab32377b38f52", "b8f4897ec7ec617588ea1fcf66a099be",
        "38efbccaa29553e40dcd0189ece70ced",
    ]  # fmt: skip
    assert list(made.facts) == ["rows", "longest_title", "longest_content", "families"]
