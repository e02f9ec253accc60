from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset

from data.artefacts import lock, manifest
from data.artefacts.dataset import Subset
from data.artefacts.folder import Folder
from data.errors import BatchError, ModelError
from data.neighbours import ROWS as NEAR_ROWS
from data.prompt import Neighbour, Prompt
from data.sampling import title_key
from data.tokens import TextTokenizer
from training.examples import cache
from training.examples.cache import Split
from training.examples.encoder import TOKENISED, Encoder, TokenisationConfig
from training.guards import IGNORED

FORM = TokenisationConfig(Prompt(), "completion", 640)
ROWS = {
    "uid": ["u0", "u1", "u2"],
    "title": ["Steel Kettle", "A {title} in braces", "The </s> of <s> it"],
    "content": ["Boils water. Café.", "x", "Says </s> and goes on."],
}


def encoder(tokenizer: Any, **changes: Any) -> Encoder:
    return Encoder(tokenizer, replace(FORM, **changes))


def split(rows: dict[str, list[str]], digest: str = "d0") -> Split:
    return Split("train", Dataset.from_dict(rows), digest)


def test_prompt_is_an_exact_prefix_and_only_the_rest_is_learned(tokenizer: Any) -> None:
    table, seen = encoder(tokenizer).encode_rows(ROWS)
    assert table.schema == TOKENISED
    for row, title, content in zip(table.to_pylist(), ROWS["title"], ROWS["content"], strict=True):
        # What inference feeds: the tokenizer's own ids of the prompt.
        fed = tokenizer(FORM.prompt.render(title), split_special_tokens=True)["input_ids"]
        ids, labels = row["input_ids"], row["labels"]
        assert fed[0] == tokenizer.bos_token_id
        assert ids[: len(fed)] == fed
        assert labels[: len(fed)] == [IGNORED] * len(fed)
        assert labels[len(fed) :] == ids[len(fed) :]
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids[len(fed) : -1]) == content
        assert row["length"] == len(ids)
        # Text that spells the end of sequence is text.
        assert ids.count(tokenizer.eos_token_id) == 1
    assert (seen.rows, seen.truncated, seen.split_boundaries) == (3, 0, 0)
    assert seen.tokens == sum(table.column("length").to_pylist())
    assert seen.longest == max(table.column("length").to_pylist())


def test_full_loss_learns_the_prompt_too(tokenizer: Any) -> None:
    table, seen = encoder(tokenizer, loss_on="full").encode_rows(ROWS)
    assert table.column("labels") == table.column("input_ids")
    assert seen.learned == seen.tokens


def test_cut_rows_are_counted_and_named(tokenizer: Any) -> None:
    whole, _ = encoder(tokenizer).encode_rows(ROWS)
    limit = whole.column("length")[0].as_py() - 2
    table, seen = encoder(tokenizer, max_length=limit).encode_rows(ROWS)
    assert (seen.truncated, seen.truncated_uids) == (2, ("u0", "u2"))
    assert table.column("input_ids")[0].as_py() == whole.column("input_ids")[0].as_py()[:limit]
    assert tokenizer.eos_token_id not in table.column("input_ids")[0].as_py()


def test_row_whose_prompt_leaves_no_room_is_left_out_and_named(tokenizer: Any) -> None:
    whole, _ = encoder(tokenizer).encode_rows(ROWS)
    titles = [*ROWS["title"][:2], ROWS["title"][2] + " kettle" * 500]
    limit = max(whole.column("length").to_pylist())
    table, seen = encoder(tokenizer, max_length=limit).encode_rows(ROWS | {"title": titles})
    assert table.to_pylist() == whole.to_pylist()[:2]
    assert (seen.rows, seen.left_out, seen.left_out_uids) == (2, 1, ("u2",))
    table, seen = encoder(tokenizer, max_length=20).encode_rows(ROWS)
    assert (table.num_rows, seen.rows, seen.left_out, seen.longest) == (0, 0, 3, 0)


def test_left_out_rows_count_as_cut_ones(tmp_path: Path, tokenizer: Any) -> None:
    whole, _ = encoder(tokenizer).encode_rows(ROWS)
    titles = [*ROWS["title"][:2], "kettle " * 500]
    short = encoder(tokenizer, max_length=max(whole.column("length").to_pylist()))
    rows = split(ROWS | {"title": titles})
    with pytest.raises(BatchError, match=r"1 of 3.* without room") as error:
        cache.prepare(rows, short, str(tmp_path), 0.01)
    assert error.value.args[0] == "rows u2"
    allowed = cache.prepare(rows, short, str(tmp_path), 0.5)
    assert (allowed.rows.num_rows, allowed.seen.left_out) == (2, 1)
    with pytest.raises(BatchError, match="room for a description"):
        cache.prepare(rows, encoder(tokenizer, max_length=20), str(tmp_path), 1.0)


def test_token_across_the_boundary_is_split(tokenizer: Any) -> None:
    """A tokenizer that would merge the prompt's last character with the description's first."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    tokens = ["<s>", "</s>", "<unk>", "\n", "x", "\nx", "y"]
    merging = Tokenizer(
        models.BPE({token: i for i, token in enumerate(tokens)}, [("\n", "x")], unk_token="<unk>")
    )
    merging.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\nxy]+"), "isolated")
    merging.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )

    class Fake:
        backend_tokenizer = merging
        eos_token_id = 1
        name_or_path = "fake"

    rows = {"uid": ["a", "b"], "title": ["t", "t"], "content": ["xy", "yx"]}
    one = Encoder(Fake(), FORM)
    table, seen = one.encode_rows(rows)
    prompt = TextTokenizer(Fake()).encode([FORM.prompt.render("t")])[0]
    assert seen.split_boundaries == 1
    assert [ids.as_py() for ids in table.column("input_ids")] == [
        [*prompt, 4, 6, 1],
        [*prompt, 6, 4, 1],
    ]


def test_end_that_the_tokenizer_adds_itself_stands_once(tokenizer: Any) -> None:
    from tokenizers import processors

    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id

    class Fake:
        backend_tokenizer = type(tokenizer.backend_tokenizer).from_str(
            tokenizer.backend_tokenizer.to_str()
        )
        eos_token_id = eos
        name_or_path = "fake"

    Fake.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", bos), ("</s>", eos)]
    )
    table, seen = Encoder(Fake(), FORM).encode_rows(ROWS)
    plain, _ = encoder(tokenizer).encode_rows(ROWS)
    assert table.equals(plain)
    assert seen.split_boundaries == 0


def test_tokenizer_without_an_end_is_refused(tokenizer: Any) -> None:
    class Fake:
        backend_tokenizer = tokenizer.backend_tokenizer
        eos_token_id = None
        name_or_path = "fake"

    with pytest.raises(ModelError, match="end-of-sequence"):
        Encoder(Fake(), FORM)


def test_written_once_and_memory_mapped(tmp_path: Path, tokenizer: Any) -> None:
    first = cache.prepare(split(ROWS), encoder(tokenizer), str(tmp_path), 0.01)
    folder = Path(first.folder)
    before = (folder / "rows.arrow").stat().st_mtime_ns
    again = cache.prepare(split(ROWS), encoder(tokenizer), str(tmp_path), 0.01)
    assert again.folder == first.folder
    assert again.seen == first.seen
    assert (folder / "rows.arrow").stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert first.rows.cache_files
    assert first.rows.features["input_ids"].feature.dtype == "int32"
    assert first.rows.data.table.schema.field("length").type == pa.int32()
    record = manifest.read(Folder(first.folder), "tokenize")
    assert (record.counts.read, record.facts["tokens"]) == (3, first.seen.tokens)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": Prompt(instruction="Write a book review.")},
        {"loss_on": "full"},
        {"max_length": 600},
    ],
)
def test_what_decides_the_tokens_decides_the_folder(
    tmp_path: Path, tokenizer: Any, change: dict[str, Any]
) -> None:
    first = cache.prepare(split(ROWS), encoder(tokenizer), str(tmp_path), 0.01)
    other = cache.prepare(split(ROWS), encoder(tokenizer, **change), str(tmp_path), 0.01)
    assert other.folder != first.folder
    assert cache.prepare(split(ROWS, "d1"), encoder(tokenizer), str(tmp_path), 0.01).folder not in (
        first.folder,
        other.folder,
    )


def test_unfinished_folder_is_written_again(tmp_path: Path, tokenizer: Any) -> None:
    first = cache.prepare(split(ROWS), encoder(tokenizer), str(tmp_path), 0.01)
    (Path(first.folder) / "manifest.json").unlink()
    (Path(first.folder) / "rows.arrow").write_bytes(b"half")
    again = cache.prepare(split(ROWS), encoder(tokenizer), str(tmp_path), 0.01)
    assert again.rows.num_rows == 3


def test_what_killed_runs_left_is_removed_and_what_another_run_writes_stays(
    tmp_path: Path, tokenizer: Any
) -> None:
    killed, busy, foreign = (tmp_path / name for name in ("0" * 32, "1" * 32, "notes"))
    earlier = tmp_path / f".tmp-{'2' * 32}-4711"
    for folder in (killed, busy, foreign, earlier):
        folder.mkdir()
        (folder / ".tmp-rows.arrow").write_bytes(b"half")
    with lock.locked(Folder(str(busy))):
        first = cache.prepare(split(ROWS), encoder(tokenizer), str(tmp_path), 0.01)
        left = {busy, foreign, Path(first.folder)}
        assert set(tmp_path.iterdir()) == left
        assert (busy / ".tmp-rows.arrow").exists()
    other = cache.prepare(split(ROWS, "d1"), encoder(tokenizer), str(tmp_path), 0.01)
    assert set(tmp_path.iterdir()) == {foreign, Path(first.folder), Path(other.folder)}
    assert sorted(path.name for path in Path(first.folder).iterdir()) == [
        "manifest.json", "rows.arrow",
    ]  # fmt: skip


def test_too_many_cut_rows_are_refused(
    tmp_path: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    whole, _ = encoder(tokenizer).encode_rows(ROWS)
    short = encoder(tokenizer, max_length=whole.column("length")[0].as_py() - 2)
    with pytest.raises(BatchError, match="2 of 3") as error:
        cache.prepare(split(ROWS), short, str(tmp_path), 0.01)
    assert error.value.args[0] == "rows u0, u2"
    with caplog.at_level("WARNING", "catalogue"):
        allowed = cache.prepare(split(ROWS), short, str(tmp_path), 0.7)
    assert allowed.seen.truncated_uids == ("u0", "u2")
    assert "u0, u2" in caplog.text


def test_no_rows_are_refused(tmp_path: Path, tokenizer: Any) -> None:
    empty = {name: [] for name in ROWS}
    with pytest.raises(BatchError, match="rows to train on"):
        cache.prepare(split(empty), encoder(tokenizer), str(tmp_path), 0.01)
    assert list(tmp_path.iterdir()) == []


class FewRows(Subset):
    """Train rows by hand, in batches of two, with families or as subsets had none."""

    def __init__(self, families: list[int] | None) -> None:
        columns = dict(ROWS) | ({"family": pa.array(families, pa.uint64())} if families else {})
        self.table = pa.table(columns)

    def count(self, _: str) -> int:
        return self.table.num_rows

    def digest(self, split: str) -> str:
        return f"{split} {self.table.column_names}"

    def batches(self, _: str) -> Any:
        return self.table.to_batches(2)


NEAR = Prompt("compact", neighbours=1, neighbour_tokens=6)


def test_rows_to_show_are_cut_and_written_once(tmp_path: Path, tokenizer: Any) -> None:
    shows = encoder(tokenizer, prompt=NEAR)
    near = cache.prepare_near(FewRows([3, 1, 3]), shows, str(tmp_path))
    assert near
    before = Path(near.path).stat().st_mtime_ns
    assert cache.prepare_near(FewRows([3, 1, 3]), shows, str(tmp_path)) == near
    assert Path(near.path).stat().st_mtime_ns == before
    with pa.memory_map(near.path) as file, pa.ipc.open_stream(file) as stream:
        table = stream.read_all()
    assert table.schema == NEAR_ROWS
    assert table.column("title").to_pylist() == ROWS["title"]
    assert table.column("family").to_pylist() == [3, 1, 3]
    for shown, whole in zip(table.column("description").to_pylist(), ROWS["content"], strict=True):
        assert whole.startswith(shown)
        assert len(tokenizer(shown, add_special_tokens=False)["input_ids"]) <= 6
    assert near.find("the title") == (Neighbour("A {title} in braces", "x"),)
    other = replace(NEAR, neighbour_tokens=7)
    again = cache.prepare_near(FewRows([3, 1, 3]), encoder(tokenizer, prompt=other), str(tmp_path))
    assert again
    assert again.path != near.path
    assert cache.prepare_near(FewRows(None), encoder(tokenizer), str(tmp_path)) is None


def test_a_subset_without_families_has_one_a_title(tmp_path: Path, tokenizer: Any) -> None:
    near = cache.prepare_near(FewRows(None), encoder(tokenizer, prompt=NEAR), str(tmp_path))
    assert near
    with pa.memory_map(near.path) as file, pa.ipc.open_stream(file) as stream:
        families = stream.read_all().column("family").to_pylist()
    assert families == [title_key(title) for title in ROWS["title"]]


def test_what_prompts_show_stands_in_the_rows_and_decides_their_folder(
    tmp_path: Path, tokenizer: Any
) -> None:
    shows = encoder(tokenizer, prompt=NEAR)
    near = cache.prepare_near(FewRows([1, 2, 3]), shows, str(tmp_path))
    whole = cache.prepare(split(ROWS), shows, str(tmp_path), 0.01, near)
    prompt = NEAR.render(ROWS["title"][1], "u1", near.find(ROWS["title"][1]) if near else ())
    assert "Similar title: " not in prompt  # nothing shares a word with it
    rows = {name: ["The {title}", *column[1:]] for name, column in ROWS.items()}
    several = cache.prepare(split(rows, "d1"), shows, str(tmp_path), 0.01, near)
    ids = several.rows[0]["input_ids"]
    shown = "Similar title: A {title} in braces\nIts description: x\nTitle: The {title}\n"
    assert shown in tokenizer.decode(ids)
    assert shows.encode_rows(rows)[1].tokens < several.seen.tokens
    # The same rows beside other train rows are other rows.
    other = cache.prepare_near(FewRows(None), shows, str(tmp_path))
    assert cache.prepare(split(ROWS), shows, str(tmp_path), 0.01, other).folder != whole.folder


def test_attributes_stand_in_the_rows_and_decide_their_folder(
    tmp_path: Path, tokenizer: Any
) -> None:
    rows = ROWS | {"brand": ["Ostravik", "", "Hexley"], "colour": ["red", "blue", ""]}
    shows = encoder(tokenizer, prompt=Prompt("compact", attributes=["colour", "brand"]))
    assert shows.columns == ["uid", "title", "content", "colour", "brand"]
    made = cache.prepare(split(rows), shows, str(tmp_path), 0.01)
    texts = [tokenizer.decode(row["input_ids"][1:-1]) for row in made.rows]
    assert texts == [
        "Write a product description.\nColour: red\nBrand: Ostravik\n"
        "Title: Steel Kettle\nDescription:\nBoils water. Café.",
        "Write a product description.\nColour: blue\nTitle: A {title} in braces\nDescription:\nx",
        "Write a product description.\nBrand: Hexley\n"
        "Title: The </s> of <s> it\nDescription:\nSays </s> and goes on.",
    ]
    others = [["brand", "colour"], ["brand"], []]
    folders = {made.folder} | {
        cache.prepare(
            split(rows), encoder(tokenizer, prompt=Prompt("compact", attributes=names)),
            str(tmp_path), 0.01,
        ).folder
        for names in others
    }  # fmt: skip
    assert len(folders) == 4


def test_without_neighbours_the_folder_is_that_of_earlier_versions(
    tmp_path: Path, tokenizer: Any
) -> None:
    plain = encoder(tokenizer)
    first = cache.prepare(split(ROWS), plain, str(tmp_path), 0.01)
    identity = {
        "rows": "d0", "tokenizer": plain.digest, "format": 2,
        "form": {
            "prompt": {"template": "alpaca", "instruction": "Write a product description."},
            "loss_on": "completion", "max_length": 640,
        },
    }  # fmt: skip
    assert Path(first.folder).name == manifest.identity_digest(identity)
