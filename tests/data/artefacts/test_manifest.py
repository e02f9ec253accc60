"""Manifests: the balance, who may write where, digests that travel, lineage."""

import dataclasses
import json
import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from data.artefacts import manifest, stage
from data.artefacts.folder import Artefact, Folder
from data.artefacts.manifest import Counts, Manifest, Parent, identify, placement
from data.artefacts.stage import begin
from data.errors import BalanceError, ManifestError, OutputError
from data.prompt import Prompt

PART = Artefact("part-00000.parquet", 7, 100, "0f")
IDENTITY = {"seed": 1, "rules": {"title_min": 2}}


def make(**changed: Any) -> Manifest:
    values: dict[str, Any] = {
        "stage": "clean",
        "config": {"seed": 1, "out": "/here"},
        "identity": IDENTITY,
        "inputs": (Artefact("/raw/trn.json", 10, 1_000, "ab"),),
        "outputs": (PART,),
        "counts": Counts(10, 7, {"title_empty": 1}, {"invalid_json": 2}),
        "made_from": (Parent("a", "/a", "01", (Parent("b", "/b", "02"),)),),
        "facts": {"longest": 3},
        "versions": {"python": "3"},
        "seconds": 1.5,
    }
    return Manifest(**(values | changed))


def finish(folder: Folder, made: Manifest | None = None) -> None:
    """Write a manifest and the outputs that it lists."""
    made = made or make()
    for output in made.outputs:
        folder.commit(output.path, bytes(output.bytes))
    made.write(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "out"))


# Counts ----------------------------------------------------------------------------------------


def test_counts_add_number_by_number() -> None:
    one = Counts(10, 6, {"b": 1, "a": 2}, {"x": 1})
    other = Counts(5, 4, {"b": 1}, {})
    assert one + other == Counts(15, 10, {"a": 2, "b": 2}, {"x": 1})
    assert list((one + other).dropped) == ["a", "b"]
    assert Counts() + one == one


def test_counts_that_balance_pass() -> None:
    Counts().check("here")
    Counts(10, 7, {"a": 1}, {"b": 2}).check("here")


@pytest.mark.parametrize("counts", [Counts(10, 7, {"a": 1}, {"b": 1}), Counts(1, 1, {"a": 1})])
def test_counts_that_do_not_balance_are_told(counts: Counts) -> None:
    with pytest.raises(BalanceError, match=r"here: expected .* rows accounted for"):
        counts.check("here")


def test_a_manifest_out_of_balance_is_never_written(folder: Folder) -> None:
    begin(folder, "clean", IDENTITY)
    with pytest.raises(BalanceError):
        make(counts=Counts(10, 9)).write(folder)
    assert folder.names() == ["begun.json"]


# Writing and reading ---------------------------------------------------------------------------


def test_a_manifest_is_read_as_it_was_written(folder: Folder) -> None:
    begin(folder, "clean", IDENTITY)
    folder.commit(".tmp-stray", b"x")
    finish(folder)
    assert folder.names() == ["manifest.json", PART.path]
    assert manifest.read(folder) == make()
    assert manifest.read(folder, "clean").made_from[0].made_from == (Parent("b", "/b", "02"),)
    stored = json.loads(folder.read("manifest.json"))
    assert stored["digest"] == make().digest
    assert stored["counts"]["dropped"] == {"title_empty": 1}


def test_a_manifest_of_another_stage_is_refused(folder: Folder) -> None:
    finish(folder)
    with pytest.raises(ManifestError, match="expected the finished output of subset, found that"):
        manifest.read(folder, "subset")


def test_an_unfinished_folder_and_none_at_all_are_told_apart(folder: Folder) -> None:
    with pytest.raises(ManifestError, match="found none"):
        manifest.read(folder)
    begin(folder, "clean", IDENTITY)
    with pytest.raises(ManifestError, match="found an unfinished one"):
        manifest.read(folder)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"{", b'{"stage": "clean"}', b"\xff"])
def test_a_damaged_manifest_is_told(folder: Folder, content: bytes) -> None:
    folder.commit("manifest.json", content)
    with pytest.raises(ManifestError, match=r"manifest\.json: expected a manifest of ours"):
        manifest.read(folder)


def test_the_digest_tells_what_was_made_and_not_where_when_or_how_fast() -> None:
    same = [
        {"config": {"seed": 1, "out": "/there"}},
        {"versions": {"python": "4"}},
        {"seconds": 9.0},
        {"inputs": (Artefact("/elsewhere/trn.json", 10, 1_000, "ab"),)},
        {"made_from": (Parent("a", "/moved", "01"),)},
    ]
    other = [
        {"stage": "subset"},
        {"identity": {"seed": 2}},
        {"inputs": (Artefact("/raw/trn.json", 10, 1_000, "ac"),)},
        {"outputs": (dataclasses.replace(PART, digest="10"),)},
        {"outputs": ()},
        {"counts": Counts(10, 7, {"title_empty": 2}, {"invalid_json": 1})},
        {"made_from": (Parent("a", "/a", "03"),)},
    ]
    assert {make(**changed).digest for changed in same} == {make().digest}
    assert len({make(**changed).digest for changed in other} | {make().digest}) == len(other) + 1


def test_lineage_grows_by_one_with_each_stage_and_survives_json() -> None:
    parent = make().as_parent("/clean")
    assert (parent.stage, parent.path, parent.digest) == ("clean", "/clean", make().digest)
    child = make(stage="subset", made_from=(parent,)).as_parent("/subset")
    assert child.made_from[0].made_from[0].made_from[0].stage == "b"
    assert Parent.parse(json.loads(json.dumps(dataclasses.asdict(child)))) == child


# Identity --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inner:
    low: int = 1
    seen: bool = placement(False)


@dataclass(frozen=True)
class Config:
    out: str = placement("here")
    seed: int = 3
    inner: Inner = field(default_factory=Inner)
    words: tuple[str, ...] = ("a",)


def test_the_identity_leaves_out_where_and_how_the_work_runs() -> None:
    assert identify(Config(), inputs=["x"]) == {
        "seed": 3, "inner": {"low": 1}, "words": ["a"], "inputs": ["x"],
    }  # fmt: skip
    assert identify(Config()) == identify(Config(out="there", inner=Inner(seen=True)))
    assert identify(Config()) != identify(Config(inner=Inner(low=2)))


def test_the_resolved_config_holds_every_field() -> None:
    assert manifest.config_dict(Config()) == {
        "out": "here", "seed": 3, "inner": {"low": 1, "seen": False}, "words": ["a"],
    }  # fmt: skip


def test_an_empty_optional_field_is_not_recorded() -> None:
    @dataclass(frozen=True)
    class Config:
        prompt: Prompt
        attributes: list[str] = field(default_factory=list, metadata={"optional": True})

    plain = Config(Prompt("compact"))
    assert set(manifest.config_dict(plain)) == {"prompt"}
    assert set(manifest.config_dict(plain)["prompt"]) == {
        "template", "instruction", "neighbours", "neighbour_tokens",
    }  # fmt: skip
    assert set(manifest.identify(plain)) == {"prompt"}
    told = Config(Prompt("compact", attributes=["price"]), ["brand", "price"])
    assert manifest.config_dict(told)["attributes"] == ["brand", "price"]
    assert manifest.config_dict(told)["prompt"]["attributes"] == ["price"]
    assert manifest.identify(told)["attributes"] == ["brand", "price"]
    assert manifest.identify(told)["prompt"]["attributes"] == ["price"]


def test_an_attribute_that_rows_lack_is_told_with_those_that_there_are() -> None:
    clean = Manifest("clean", {"attributes": ["brand", "colour"]}, {}, (), (), Counts())
    subset = Manifest("subset", {}, {}, (), (), Counts(), facts={"attributes": ["brand"]})
    plain = Manifest("clean", {}, {}, (), (), Counts())
    assert (clean.attributes, subset.attributes) == (["brand", "colour"], ["brand"])
    clean.check_attributes("here", ["colour"])
    plain.check_attributes("here", [])
    with pytest.raises(ManifestError) as caught:
        clean.check_attributes("here", ["price", "brand", "size"])
    assert str(caught.value) == (
        "here: expected attributes price, size, which prompts show, found brand, colour; "
        "keep more with preprocessing clean --attributes"
    )
    with pytest.raises(ManifestError, match="found none"):
        plain.check_attributes("here", ["brand"])


def test_nested_names_are_joined_by_dots() -> None:
    assert manifest.flatten({"a": {"b": 1, "c": {"d": 2}}, "e": []}) == {
        "a.b": 1, "a.c.d": 2, "e": [],
    }  # fmt: skip


# Claiming a folder -----------------------------------------------------------------------------


def test_a_new_folder_is_claimed(folder: Folder) -> None:
    assert begin(folder, "clean", IDENTITY) is None
    assert json.loads(folder.read("begun.json")) == {"stage": "clean", "identity": IDENTITY}


def test_an_empty_folder_is_claimed(folder: Folder) -> None:
    os.makedirs(folder.path())
    assert begin(folder, "clean", IDENTITY) is None


def test_a_finished_folder_of_the_same_identity_is_given_back(folder: Folder) -> None:
    finish(folder)
    assert begin(folder, "clean", IDENTITY) == make()
    assert folder.names() == ["manifest.json", PART.path]


def test_a_kill_between_manifest_and_clean_up_leaves_no_stray_for_good(folder: Folder) -> None:
    begin(folder, "clean", IDENTITY)
    begun = folder.read("begun.json")
    finish(folder)
    folder.commit("begun.json", begun)
    assert begin(folder, "clean", IDENTITY) == make()
    assert folder.names() == ["manifest.json", PART.path]


def test_an_unfinished_folder_of_the_same_identity_is_gone_on_with(folder: Folder) -> None:
    begin(folder, "clean", IDENTITY)
    folder.commit("part-00000.parquet", b"x")
    folder.commit(".tmp-part-00001.parquet-0badbad0", b"x")
    assert begin(folder, "clean", IDENTITY) is None
    assert folder.names() == ["begun.json", "part-00000.parquet"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_other_things_is_refused_and_left_alone(
    folder: Folder, overwrite: bool
) -> None:
    folder.commit("thesis.txt", b"mine")
    with pytest.raises(
        OutputError, match=r"an empty or new folder, found 'thesis.txt' in it.*--out"
    ):
        begin(folder, "clean", IDENTITY, overwrite)
    assert folder.names() == ["thesis.txt"]


@pytest.mark.parametrize("finished", [False, True])
def test_another_config_is_refused_by_the_fields_that_differ(
    folder: Folder, finished: bool
) -> None:
    finish(folder) if finished else begin(folder, "clean", IDENTITY)
    before = folder.names()
    with pytest.raises(OutputError) as caught:
        begin(folder, "clean", {"seed": 1, "rules": {"title_min": 5}, "noise": "x"})
    told = str(caught.value)
    assert "an output made with noise=x, rules.title_min=5" in told
    assert "found noise=None, rules.title_min=2" in told
    assert "--overwrite true" in told
    assert "seed" not in told
    assert folder.names() == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("finished", [False, True])
def test_the_output_of_another_stage_is_refused_and_never_overwritten(
    folder: Folder, finished: bool, overwrite: bool
) -> None:
    finish(folder) if finished else begin(folder, "clean", IDENTITY)
    folder.commit("part-00000.parquet", b"dear")
    with pytest.raises(OutputError, match=r"expected the output of subset, found that of clean"):
        begin(folder, "subset", IDENTITY, overwrite)
    assert folder.exists("part-00000.parquet")


@pytest.mark.parametrize("finished", [False, True])
def test_overwriting_starts_from_nothing(folder: Folder, finished: bool) -> None:
    finish(folder) if finished else begin(folder, "clean", IDENTITY)
    folder.commit("part-00000.parquet", b"x")
    folder.commit("quarantine/part-00000.parquet", b"x")
    other = {"seed": 2}
    assert begin(folder, "clean", other, overwrite=True) is None
    assert folder.names() == ["begun.json"]
    assert json.loads(folder.read("begun.json"))["identity"] == other


@pytest.mark.parametrize("name", ["manifest.json", "begun.json"])
def test_a_damaged_claim_is_told_and_can_be_overwritten(folder: Folder, name: str) -> None:
    folder.commit(name, b"{")
    with pytest.raises((OutputError, ManifestError), match=name):
        begin(folder, "clean", IDENTITY)
    assert begin(folder, "clean", IDENTITY, overwrite=True) is None
    assert folder.names() == ["begun.json"]


@pytest.mark.parametrize("removals", range(4))
def test_a_kill_while_overwriting_leaves_nothing_that_passes_for_an_output(
    folder: Folder, removals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [f"part-{i:05d}.parquet" for i in range(3)]
    finish(folder)
    for name in parts:
        folder.commit(name, b"old")
    left = removals

    def remove(self: Folder, name: str) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        os.remove(self.path(name))

    monkeypatch.setattr(Folder, "remove", remove)
    with pytest.raises(KeyboardInterrupt):
        begin(folder, "clean", {"seed": 2}, overwrite=True)
    monkeypatch.undo()
    for identity in (IDENTITY, {"seed": 2}):
        if removals:
            with pytest.raises(OutputError, match="--overwrite true"):
                begin(folder, "clean", identity)
    assert begin(folder, "clean", {"seed": 2}, overwrite=True) is None
    assert folder.names() == ["begun.json"]


def test_an_abandoned_folder_is_gone(folder: Folder) -> None:
    begin(folder, "clean", IDENTITY)
    folder.commit("quarantine/part-00000.parquet", b"x")
    stage.abandon(folder, "clean")
    assert not os.path.exists(folder.path())


def test_a_kill_while_abandoning_leaves_a_folder_that_the_same_command_takes(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(folder, "clean", IDENTITY)
    for name in ("part-00000.parquet", "part-00001.parquet"):
        folder.commit(name, b"x")
    removed: list[str] = []

    def remove(self: Folder, name: str) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(name)
        os.remove(self.path(name))

    monkeypatch.setattr(Folder, "remove", remove)
    with pytest.raises(KeyboardInterrupt):
        stage.abandon(folder, "clean")
    monkeypatch.undo()
    assert begin(folder, "clean", IDENTITY) is None


# For people ------------------------------------------------------------------------------------


def test_the_funnel_shows_where_every_row_went() -> None:
    assert manifest.funnel(make(counts=Counts(2_000, 1_500, {"title_empty": 499}, {"x": 1}))) == (
        "rows                    count    share\n"
        "--------------------  -------  -------\n"
        "read                    2,000  100.00%\n"
        "  dropped: title_empty    499   24.95%\n"
        "  quarantined: x            1    0.05%\n"
        "kept                    1,500   75.00%"
    ).replace("--------------------  -------  -------", "----------------------  -----  -------")


def test_versions_name_python_and_only_what_is_installed() -> None:
    found = manifest.versions()
    assert {"python", "pyarrow", "dask", "ftfy"} <= found.keys()
    assert all(found.values())


def test_paths_in_lineage_are_absolute_and_urls_are_kept(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert manifest.absolute("a/b") == str(tmp_path / "a/b")
    assert manifest.absolute("s3://bucket/a") == "s3://bucket/a"


def test_manifests_survive_pickling() -> None:
    assert pickle.loads(pickle.dumps(make())) == make()


@pytest.mark.parametrize("finished", [False, True])
def test_an_output_of_an_earlier_version_is_recognised_though_it_lacks_later_keys(
    folder: Folder, finished: bool
) -> None:
    made = make()
    finish(folder, made) if finished else begin(folder, "clean", IDENTITY)
    later = {**IDENTITY, "codec": "9", "rules": {**IDENTITY["rules"], "later_rule": 3}}
    assert begin(folder, "clean", later) == (made if finished else None)


@pytest.mark.parametrize(
    ("earlier", "asked"),
    [
        ({"seed": 1}, {"seed": 1, "noise": "v2"}),  # without it: the old noise
        ({"seed": 1, "noise": "v1"}, {"seed": 1, "noise": "v2"}),
        ({"seed": 1}, {"seed": 1, "checks": True}),  # without it: none
        ({"seed": 1}, {"seed": 1, "attributes": ["brand"]}),
        ({"prompt": {"template": "chat"}}, {"prompt": {"template": "chat", "attributes": ["a"]}}),
        ({"seed": 1, "checks": True}, {"seed": 1}),
        ({"seed": 1, "old_flag": 2}, {"seed": 1}),  # recorded, and no longer asked
        ({"seed": 1, "rules": {"a": 1, "old": 2}}, {"seed": 1, "rules": {"a": 1}}),
        ({"seed": 1, "rules": {"a": 1}}, {"seed": 1, "rules": None}),
    ],
)
def test_what_an_earlier_version_recorded_must_still_be_so_and_the_noise_always(
    folder: Folder, earlier: dict[str, Any], asked: dict[str, Any]
) -> None:
    begin(folder, "clean", earlier)
    with pytest.raises(OutputError):
        begin(folder, "clean", asked)


@pytest.mark.parametrize(
    "damage",
    [
        b'{"later_field": 1, ',
        b"[1, 2]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b"",
    ],
)
def test_a_manifest_that_is_none_is_told_in_one_short_line(folder: Folder, damage: bytes) -> None:
    folder.commit("manifest.json", damage)
    with pytest.raises(ManifestError, match="expected a manifest of ours, found") as caught:
        manifest.read(folder)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("later_field", {"a": 1}, "a later version (later_field)"),
        ("config", [], "config is no dict"),
        ("facts", "x", "facts is no dict"),
        ("stage", 3, "stage is no str"),
    ],
)
def test_a_manifest_of_a_later_version_or_of_other_kinds_says_so(
    folder: Folder, key: str, value: Any, named: str
) -> None:
    finish(folder)
    found = json.loads(folder.read("manifest.json")) | {key: value}
    found.pop("checksum")
    folder.commit("manifest.json", json.dumps(found).encode())
    with pytest.raises(ManifestError) as caught:
        manifest.read(folder)
    assert named in str(caught.value)


def test_a_name_that_is_no_utf_8_is_kept_in_the_manifest(folder: Folder) -> None:
    made = dataclasses.replace(make(), config={"out": "a\udcff"})
    finish(folder, made)
    folder.read("manifest.json").decode()
    assert manifest.read(folder).config == {"out": "a\udcff"}


def test_taking_back_hides_no_error_where_the_folder_is_a_link_or_cannot_be_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.mkdir()
    link.symlink_to(target)
    begin(Folder(str(link)), "clean", IDENTITY)
    stage.abandon(Folder(str(link)), "clean")
    assert link.is_symlink()
    assert list(target.iterdir()) == []

    begin(Folder(str(link)), "clean", IDENTITY)
    monkeypatch.setattr(Folder, "remove", lambda self, name: os.remove("/no/such/file"))
    stage.abandon(Folder(str(link)), "clean")
