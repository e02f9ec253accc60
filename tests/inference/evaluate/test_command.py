"""The command evaluate: what it compares, flags and refuses, and what the report says."""

import dataclasses
import importlib.metadata
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data import subset
from data.artefacts import manifest, stage
from data.artefacts.dataset import Subset
from data.artefacts.folder import Artefact, Folder, digest_bytes
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.parts import commit_part, part_name
from data.artefacts.run import Run, locate
from data.errors import (
    ConfigError,
    GateError,
    ManifestError,
    ModelError,
    OutputError,
    SourceError,
    SubsetError,
)
from data.prompt import Prompt
from data.subset import SubsetConfig
from inference.__main__ import main
from inference.config import EvaluateConfig, Thresholds
from inference.evaluate import command, samples, systems
from inference.evaluate.samples import EvalSet
from inference.evaluate.systems import Ready, Written
from tests.builders import run_python, save_adapter, save_base, show_neighbours, write_clean
from tests.reports import CURVE

NOUNS = ("kettle", "lamp", "novel", "jacket", "violin", "clock", "tent", "mirror")
ROWS = [
    (f"u{i}", f"{NOUNS[i % 8].title()} No. {i}",
     f"This {NOUNS[i % 8]} is the {i} th of its kind and lasts {i * 7} years; nobody says more.")
    for i in range(200)
]  # fmt: skip
BRIEF = {"max_new_tokens": 8, "resamples": 100}


def _subset(folder: Path, clean: Path, **sizes: Any) -> Path:
    subset.run(SubsetConfig(clean=str(clean), out=str(folder), **sizes))
    return folder


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clean(tmp_path_factory.mktemp("evaluate") / "clean", ROWS, held_out=0.2)


@pytest.fixture(scope="module")
def sample(clean: Path) -> Path:
    """A subset: some 130 train rows and at least 20 test rows, from which on figures are sure."""
    return _subset(clean.parent / "subset", clean)


def _train(folder: Path, run: Path, sample: Path, **config: Any) -> Path:
    """A run that was trained on a subset: the tiny model of the fixture with that lineage."""
    shutil.copytree(run, folder)
    base = locate(str(folder / "base"))
    facts = {
        "base": "base", "base_digest": base.digest, "longest_completion_tokens": 12,
        "prompt": {"template": "alpaca", "instruction": "Write a product description."},
    }  # fmt: skip
    parent = manifest.read(Folder(str(sample)), "subset").as_parent(str(sample))
    identity = {"run": folder.name}
    record = Manifest("train", config, identity, (), (), Counts(), (parent,), facts=facts)
    record.write(Folder(str(folder)))
    lines = [{"step": i, "loss": 3.0 - i / 10} for i in range(1, 9)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def trained(run: Path, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train(tmp_path_factory.mktemp("runs") / "ten", run, sample)


def _report(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def _line(report: dict[str, Any], key: str) -> dict[str, Any]:
    return next(line for line in report["verdicts"][0]["lines"] if line["key"] == key)


@pytest.fixture(scope="module")
def reported(trained: Path, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reports") / "out"
    command.run(EvaluateConfig(run=str(trained), subset=str(sample), out=str(out), **BRIEF))
    return out


def test_seen_and_unseen_rows_side_by_side(reported: Path, sample: Path) -> None:
    report = _report(reported)
    splits = {name: set(subset.load(str(sample))[name]["uid"]) for name in ("train", "test")}
    for side, split in (("unseen", "test"), ("seen", "train")):
        uids = {row["uid"] for row in report["rows"] if row["side"] == side}
        assert uids
        assert uids <= splits[split]
    assert report["sides"]["seen"]["rows"] == report["sides"]["unseen"]["rows"]
    kinds = [system["kind"] for system in report["candidates"]]
    assert sorted(kinds) == ["adapter", "base", "nearest", "reference", "title"]
    unseen = report["sides"]["unseen"]["scores"]
    assert unseen["title"]["title_words"]["value"] == 100
    assert unseen["adapter"]["perplexity"]["value"] != unseen["base"]["perplexity"]["value"]
    assert unseen["adapter"]["rougeL"]["low"] is not None


def test_the_page_is_whole_and_needs_nothing_else(reported: Path) -> None:
    page = (reported / "report.html").read_text()
    assert not re.search(r"""src\s*=|href="[^#]|url\(|@import|https?://|<script""", page)
    assert "NaN" not in page
    listed = page.split('id="more"')[1].count("<article")
    assert listed == len(_report(reported)["rows"])
    assert page.index('class="verdict') < page.index("<table>")
    # How its texts were written: the run of this test records no usual length to end after.
    assert "--no_repeat_ngram=8 --max_new_tokens=8 --seed=3407 --best_of=4</code>" in page


def test_texts_cannot_break_out_of_the_page(trained: Path, sample: Path, tmp_path: Path) -> None:
    texts = _write_texts(tmp_path / "texts.jsonl", sample, lambda _: "</script><script>alert(1)")
    out = _judge(texts, sample, tmp_path)
    page = (out / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;/script&gt;&lt;script&gt;alert(" in page


def test_what_texts_copy_of_their_neighbours_is_shown(
    trained: Path, reported: Path, sample: Path, tmp_path: Path
) -> None:
    run, out = Path(shutil.copytree(trained, tmp_path / "run")), tmp_path / "out"
    lineage = manifest.read(Folder(str(run)), "train").made_from
    rows = Subset.open(str(sample)).rows("train", ["title", "content"]).to_pylist()
    show_neighbours(run, [(row["title"], row["content"]) for row in rows])
    record = dataclasses.replace(manifest.read(Folder(str(run)), "train"), made_from=lineage)
    record.write(Folder(str(run)))
    how = BRIEF | {"copied_span": 20}
    command.run(EvaluateConfig(run=str(run), subset=str(sample), out=str(out), **how))
    report = _report(out)
    for side in report["sides"].values():
        scores = side["scores"]
        for key in ("adapter", "base"):
            assert 0 <= scores[key]["near_copied"]["value"] <= scores[key]["copied"]["value"] + 1e-6
        # Real descriptions of one template share long spans with those of their neighbours.
        assert scores["reference"]["near_copied"]["value"] > 0
        assert "near_numbers" in scores["adapter"]
        assert not {"near_copied", "near_numbers"} & {
            name for key in ("alone", "nearest", "title") for name in scores[key]
        }
    [verdict] = report["verdicts"]
    assert "gain_over_alone" in [line["key"] for line in verdict["lines"]]
    texts = [
        {key: row["texts"][key]["text"] for key in ("adapter", "alone")} for row in report["rows"]
    ]
    assert any(row["adapter"] != row["alone"] for row in texts)
    assert "Copied from neighbours" in (out / "report.html").read_text()
    for side in _report(reported)["sides"].values():
        assert not any("near_copied" in scores for scores in side["scores"].values())


def test_a_finished_report_is_left_alone(
    reported: Path, trained: Path, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (reported / "report.json").read_bytes()
    config = EvaluateConfig(run=str(trained), subset=str(sample), out=str(reported), **BRIEF)
    command.run(config)
    assert "already finished" in capsys.readouterr().out
    assert (reported / "report.json").read_bytes() == before


def test_an_adapter_of_zeros_has_not_learned(
    trained: Path, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    run = tmp_path / "zeros"
    shutil.copytree(trained, run)
    file = run / "adapter" / "adapter_model.safetensors"
    save_file({name: weights * 0 for name, weights in load_file(file).items()}, file)
    words = ["evaluate", "--run", str(run), "--subset", str(sample), "--out", str(tmp_path / "out"),
             "--max_new_tokens", "8", "--resamples", "100", "--rows", "20"]  # fmt: skip
    assert main(words) == 0
    report = _report(tmp_path / "out")
    assert "it has not learned to describe" in report["verdicts"][0]["headline"]
    for key in ("perplexity_drop", "gain_over_base"):
        assert _line(report, key)["passed"] is False
    assert "0.0% (0.0% to 0.0%) lower" in _line(report, "perplexity_drop")["told"]
    assert "  NOT MET  Hardly predicts unseen descriptions better: " in capsys.readouterr().out
    # The gate holds for a finished report too.
    assert main([*words, "--gate"]) == 3
    assert "perplexity_drop met" in capsys.readouterr().err


def _write_texts(path: Path, sample: Path, text: Callable[[dict[str, str]], str]) -> Path:
    loaded = subset.load(str(sample))
    rows = [row for split in ("train", "test") for row in loaded[split]]
    lines = [json.dumps({"uid": row["uid"], "description": text(row)}) + "\n" for row in rows]
    path.write_text("".join(lines))
    return path


def _judge(texts: Path, sample: Path, tmp_path: Path, **fields: Any) -> Path:
    out = tmp_path / "out"
    command.run(
        EvaluateConfig(
            generated=str(texts), subset=str(sample), out=str(out), resamples=100, **fields
        )
    )
    return out


def test_reciting_is_flagged_and_describing_is_not(sample: Path, tmp_path: Path) -> None:
    learned = subset.load(str(sample))["train"]["content"]
    recited = _write_texts(tmp_path / "recited.jsonl", sample, lambda _: learned[0])
    report = _report(_judge(recited, sample, tmp_path))
    assert _line(report, "recited_unseen")["passed"] is False
    assert "it recites" in report["verdicts"][0]["headline"]
    assert report["sides"]["unseen"]["scores"]["generated:recited.jsonl"]["copied"]["value"] == 100
    own = _write_texts(
        tmp_path / "own.jsonl", sample, lambda row: f"Behold our {row['title']}, new!"
    )
    fewer = Thresholds(recited_unseen=0.2)
    report = _report(_judge(own, sample, tmp_path / "other", thresholds=fewer))
    assert _line(report, "recited_unseen")["passed"] is True
    assert _line(report, "title_kept")["passed"] is True


def test_no_model_is_needed_for_ready_texts(sample: Path, tmp_path: Path) -> None:
    texts = _write_texts(tmp_path / "texts.jsonl", sample, lambda row: row["title"])
    report = _report(_judge(texts, sample, tmp_path))
    assert _line(report, "perplexity_drop")["told"] == "not measured"
    assert _line(report, "ended")["passed"] is None
    pairs = report["sides"]["unseen"]["differences"]
    gain = next(pair["scores"]["rougeL"] for pair in pairs if pair["other"] == "title")
    assert (gain["value"], gain["low"], gain["high"]) == (0, 0, 0)


def test_texts_of_the_run_stand_in_for_writing(
    trained: Path,
    sample: Path,
    scheduler: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from inference.config import GenerateConfig
    from inference.generate import command as generate

    out = tmp_path / "generated"
    settings = GenerateConfig(
        run=str(trained), titles=str(sample), out=str(out), max_new_tokens=8, device="cpu",
        scheduler=scheduler,
    )  # fmt: skip
    generate.run(settings)
    written: list[str] = []
    write = systems.Writer.write

    def counted(self: Any, side: Any, ready: Any, what: str) -> Any:
        written.append(f"{what}: {len(side) - len(ready)}")
        return write(self, side, ready, what)

    monkeypatch.setattr(systems.Writer, "write", counted)
    config = EvaluateConfig(
        run=str(trained), generated=str(out), subset=str(sample), out=str(tmp_path / "o"), **BRIEF
    )
    command.run(config)
    assert "adapter, unseen titles: 0" in written
    report = _report(tmp_path / "o")
    assert [system["kind"] for system in report["candidates"]].count("generated") == 0
    assert [entry["stage"] for entry in report["lineage"]][:3] == ["generate", "train", "subset"]
    # The same run with another adapter: its texts are not those.
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    save_adapter(other / "adapter", other / "base", seed=7)
    again = EvaluateConfig(
        run=str(other), generated=str(out), subset=str(sample), out=str(tmp_path / "p"), **BRIEF
    )
    command.run(again)
    report = _report(tmp_path / "p")
    assert [system["kind"] for system in report["candidates"]].count("generated") == 1


def test_several_runs_share_their_base(
    trained: Path, run: Path, sample: Path, tmp_path: Path
) -> None:
    other = _train(tmp_path / "again", run, sample)
    runs = [str(trained), str(other)]
    out = tmp_path / "out"
    command.run(EvaluateConfig(run=runs, subset=str(sample), out=str(out), rows=6, **BRIEF))
    report = _report(out)
    keys = [system["key"] for system in report["candidates"]]
    assert keys == ["base", "adapter:ten", "adapter:again", "nearest", "title", "reference"]
    pairs = [(p["one"], p["other"]) for p in report["sides"]["unseen"]["differences"]]
    assert ("adapter:again", "adapter:ten") in pairs
    assert len(report["verdicts"]) == 2


@pytest.mark.parametrize("goes_on", [False, True], ids=["the run", "the one before"])
def test_rows_that_a_run_was_trained_on_are_refused(
    clean: Path,
    run: Path,
    sample: Path,
    tmp_path: Path,
    goes_on: bool,
) -> None:
    trained_rows = subset.load(str(sample))["test"].to_list()
    everything = [(row["uid"], row["title"], row["content"]) for row in trained_rows]
    others = [(f"x{i}", f"Other {i}", f"Text number {i}.") for i in range(20)]
    all_train = _subset(
        tmp_path / "leaky", write_clean(tmp_path / "c", everything + others, held_out=0.01)
    )
    leaky = _train(tmp_path / "run", run, all_train)
    if goes_on:
        first = str(leaky / "adapter")
        leaky = _train(tmp_path / "second", run, sample, init_adapter=first)
    config = EvaluateConfig(run=str(leaky), subset=str(sample), out=str(tmp_path / "o"), **BRIEF)
    with pytest.raises(SubsetError, match="that no run was trained on"):
        command.run(config)
    assert not (tmp_path / "o").exists()


def test_other_held_out_rows_lose_those_that_were_trained_on(
    trained: Path, sample: Path, tmp_path: Path
) -> None:
    trained_row = subset.load(str(sample))["train"][0]
    rows = [(f"t{i}", f"Official {i}", f"An official text, number {i}.") for i in range(9)]
    rows.append(("t9", trained_row["title"].upper(), "Same title, other words."))
    official = write_clean(tmp_path / "official", rows, held_out=0.3)
    out = tmp_path / "out"
    command.run(
        EvaluateConfig(
            run=str(trained), subset=str(sample), held_out=str(official), out=str(out), **BRIEF
        )
    )
    unseen = _report(out)["sides"]["unseen"]
    assert (unseen["rows"], unseen["left_out"]) == (9, {"trained_on": 1})


def test_a_missing_training_subset_is_refused(
    run: Path, clean: Path, sample: Path, tmp_path: Path
) -> None:
    small = _subset(tmp_path / "small", clean, size=10)
    trained = _train(tmp_path / "run", run, small)
    config = EvaluateConfig(run=str(trained), subset=str(sample), out=str(tmp_path / "o"), **BRIEF)
    shutil.rmtree(small)
    with pytest.raises(ManifestError, match="cannot be told without it"):
        command.run(config)


def test_another_base_is_refused(trained: Path, sample: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(trained, other)
    shutil.rmtree(other / "base")
    save_base(other / "base", seed=9)
    config = EvaluateConfig(run=str(other), subset=str(sample), out=str(tmp_path / "o"), **BRIEF)
    with pytest.raises(ModelError, match="the base that the adapter was trained on"):
        command.run(config)


def test_texts_for_other_rows_are_refused(sample: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"uid": "elsewhere", "description": "A text."}\n')
    with pytest.raises(SourceError, match=r"first: elsewhere"):
        _judge(texts, sample, tmp_path)


def test_texts_without_their_columns_are_refused(sample: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"uid": "a", "text": "A text."}\n')
    with pytest.raises(SourceError, match=r"'description', found uid, text; give the output"):
        _judge(texts, sample, tmp_path)


def test_unfinished_texts_are_refused(sample: Path, tmp_path: Path) -> None:
    """Its parts are whole, but more were to come."""
    texts = Folder(str(tmp_path / "texts"))
    rows = {"uid": ["a"], "description": ["A text."]}
    stage.begin(texts, "generate", {})
    pq.write_table(pa.table(rows), tmp_path / "texts" / "part-00000.parquet")
    with pytest.raises(ManifestError, match=r"found an unfinished one"):
        _judge(tmp_path / "texts", sample, tmp_path)


def test_a_merged_model_alone_is_refused(run: Path, sample: Path, tmp_path: Path) -> None:
    config = EvaluateConfig(
        run=str(run / "base"), subset=str(sample), out=str(tmp_path / "o"), **BRIEF
    )
    with pytest.raises(ManifestError, match="--generated"):
        command.run(config)


@pytest.mark.parametrize("text", ["", "A text of some words."])
def test_one_row_and_empty_texts(sample: Path, tmp_path: Path, text: str) -> None:
    texts = _write_texts(tmp_path / "texts.jsonl", sample, lambda _: text)
    report = _report(_judge(texts, sample, tmp_path, rows=1))
    scores = report["sides"]["unseen"]["scores"]["generated:texts.jsonl"]
    assert scores["rougeL"]["value"] is not None
    assert scores["rougeL"]["low"] is None
    line = _line(report, "gain_over_title")
    assert (line["outcome"], line["passed"], line["rows_needed"]) == ("too_few", None, 20)
    assert line["told"].endswith("; too few rows to tell: it takes 20 at least")
    assert "no interval" in (tmp_path / "out" / "report.html").read_text()


def test_a_missing_chart_is_explained(trained: Path, sample: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(trained, bare)
    (bare / "metrics.jsonl").unlink()
    out = tmp_path / "out"
    command.run(
        EvaluateConfig(run=str(bare), subset=str(sample), out=str(out), rows=3, base=False, **BRIEF)
    )
    assert "so no loss is drawn" in (out / "report.html").read_text()
    scores = _report(out)["sides"]["unseen"]["scores"]["base"]
    assert list(scores) == ["perplexity"]


def test_the_gate_passes_where_nothing_is_asked(sample: Path, tmp_path: Path) -> None:
    texts = _write_texts(tmp_path / "texts.jsonl", sample, lambda row: row["title"])
    nothing = Thresholds(*[None] * 12)
    report = _report(_judge(texts, sample, tmp_path, gate=True, thresholds=nothing))
    assert report["verdicts"][0]["headline"] == "Nothing could be judged"
    with pytest.raises(GateError):
        _judge(texts, sample, tmp_path / "strict", gate=True)


def test_the_gate_fails_where_rows_are_too_few_to_tell(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = _write_texts(tmp_path / "texts.jsonl", sample, lambda row: f"Our {row['title']}.")
    config = tmp_path / "c.yaml"
    names = [field.name for field in dataclasses.fields(Thresholds)]
    alone = {name: 0.05 if name == "recited_unseen" else None for name in names}
    config.write_text(json.dumps({"thresholds": alone}))
    words = ["evaluate", "--config", str(config), "--generated", str(texts), "--rows", "20"]
    words += ["--subset", str(sample), "--out", str(tmp_path / "out"), "--resamples", "100"]
    assert main(words) == 0
    says = "0 of 20 texts, at most 16.8%; asked: at most 5.0%; too few rows to tell: about 72 would"
    printed = capsys.readouterr().out
    assert "Nothing against it, but 1 question has too few rows to tell: Does it rec" in printed
    assert f"  too few  Does it recite? {says}" in printed
    page = (tmp_path / "out" / "report.html").read_text()
    assert "0 of 1 thresholds surely met, 1 with too few rows to tell" in page
    assert main([*words, "--gate"]) == 3
    assert f"expected recited_unseen met, found {says}" in capsys.readouterr().err


def test_slices_stand_beside_the_scores(sample: Path, tmp_path: Path) -> None:
    texts = _write_texts(tmp_path / "texts.jsonl", sample, lambda row: row["title"])
    out = _judge(texts, sample, tmp_path)
    side = _report(out)["sides"]["unseen"]
    lengths = [part for part in side["slices"] if part["kind"] == "length"]
    assert sum(part["rows"] for part in lengths) == side["rows"]
    kept = [part["scores"]["generated:texts.jsonl"]["title_words"] for part in lengths]
    assert {score["value"] for score in kept} == {100}
    assert set(lengths[0]["scores"]["nearest"]) == {"rougeL", "title_words", "repeating"}
    page = (out / "report.html").read_text()
    assert all(f"{part['name']}<small>{part['rows']} rows" in page for part in lengths)


def test_ready_texts_need_no_torch(sample: Path, tmp_path: Path) -> None:
    texts = _write_texts(tmp_path / "texts.jsonl", sample, lambda row: row["title"])
    finished = run_python(
        "-c",
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; "
        "from inference.__main__ import main; sys.exit(main(sys.argv[1:]))",
        *("evaluate", "--generated", str(texts), "--subset", str(sample)),
        *("--out", str(tmp_path / "out"), "--resamples", "100"),
    )
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "out" / "report.html").is_file()


# What makes a report another one -----------------------------------------------------------------


@pytest.mark.parametrize("field", ["title", "content"])
def test_other_held_out_titles_or_texts_under_the_same_uids_are_another_report(
    sample: Path, tmp_path: Path, field: str
) -> None:
    official = tmp_path / "held"
    fresh = [(f"h{i}", f"Official {i}", f"An official text, number {i}.") for i in range(9)]
    write_clean(official, fresh, held_out=0.3)
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"uid": u, "description": c}) + "\n" for u, _, c in fresh))
    _judge(texts, sample, tmp_path, held_out=str(official))
    shutil.rmtree(official)
    changed = [
        (u, f"{t} anew", c) if field == "title" else (u, t, f"{c} Really.") for u, t, c in fresh
    ]
    write_clean(official, changed, held_out=0.3)
    with pytest.raises(OutputError, match=r"texts="):
        _judge(texts, sample, tmp_path, held_out=str(official))


def test_the_identity_holds_what_changes_a_report_and_no_more(
    trained: Path, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EvaluateConfig(run=str(trained), subset=str(sample), out=str(tmp_path / "o"), **BRIEF)
    case = command.find(config)
    first = command.identify(case)

    def changed(other: command.Case) -> set[str]:
        second = command.identify(other)
        return {name for name in first | second if first.get(name) != second.get(name)}

    copied = tmp_path / "elsewhere"
    shutil.copytree(trained, copied)
    moved = dataclasses.replace(config, run=str(copied), out="x", gate=True, overwrite=True)
    assert changed(command.find(moved)) == set()
    scale = copied / "adapter" / "adapter_config.json"
    scale.write_text(scale.read_text().replace('"lora_alpha": 8', '"lora_alpha": 9'))
    assert "settings" in changed(command.find(moved))
    path, model = case.runs[0]
    other = dataclasses.replace(model, prompt=Prompt("compact"))
    assert changed(dataclasses.replace(case, runs=[(path, other)])) == {"prompts"}
    shown = dataclasses.replace(model, neighbours_digest="0f")
    assert systems.base_of(shown) != systems.base_of(model)
    other = dataclasses.replace(model, longest=50)
    without = dataclasses.replace(config, max_new_tokens=None)
    assert (
        command.identify(dataclasses.replace(case, config=without))["decoding"][0]["max_new_tokens"]
        == 14
    )
    longer = command.identify(dataclasses.replace(case, config=without, runs=[(path, other)]))
    assert longer["decoding"][0]["max_new_tokens"] == 57
    shorter = [dataclasses.replace(side, left_out={"empty": 1}) for side in case.sides]
    assert changed(dataclasses.replace(case, sides=shorter)) == {"texts"}
    rows = {
        path: [dataclasses.replace(many[0], digest="0f")] for path, many in case.trained.items()
    }
    assert changed(dataclasses.replace(case, trained=rows)) == {"trained"}
    monkeypatch.setattr("inference.engine.choose_device", lambda _: "cuda")
    assert changed(case) == {"device", "precision"}
    monkeypatch.undo()
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "99")
    assert changed(case) == {"scorers"}


# Whose text is whose -----------------------------------------------------------------------------


def _ready(path: str, texts: dict[Any, Any], **fields: Any) -> Ready:
    return Ready(path, texts, "0f", **fields)


def _side(*rows: tuple[str, str]) -> EvalSet:
    return EvalSet("unseen", [u for u, _ in rows], [t for _, t in rows], ["Real."] * len(rows))


def test_repeated_uids_keep_the_text_of_their_own_title() -> None:
    side = _side(("a", "Kettle"), ("a", "Lamp"), ("b", "Tent"), ("a", "Kettle"), ("c", "New"))
    texts = {
        "a": {"Lamp": ("Shines.", True), "Kettle": ("Boils.", True)},
        "c": {"Old": ("C", True)},
    }
    ready = _ready("g", texts)
    kept = systems.covered(side, ready)
    assert kept.titles == ["Kettle", "Lamp", "Kettle"]
    assert kept.left_out == {"no_text": 1, "other_title": 1}
    assert systems.take_ready(ready, kept).texts == ["Boils.", "Shines.", "Boils."]


def test_texts_without_titles_cannot_serve_a_uid_of_two_titles() -> None:
    ready = _ready("g.jsonl", {"a": {None: ("Boils.", None)}, "b": {None: ("B.", None)}})
    assert systems.take_ready(ready, _side(("a", "Kettle"), ("a", "Kettle"))).texts == [
        *("Boils.", "Boils."),
    ]
    with pytest.raises(SourceError, match=r"g\.jsonl: .* uid a has several; give the output"):
        systems.covered(_side(("b", "Tent"), ("a", "Kettle"), ("a", "Lamp")), ready)


def test_a_uid_with_different_descriptions_is_refused_and_equal_ones_are_fine(
    sample: Path, tmp_path: Path
) -> None:
    texts = _write_texts(tmp_path / "texts.jsonl", sample, lambda row: row["title"])
    texts.write_text(texts.read_text() * 2)
    _judge(texts, sample, tmp_path)
    with texts.open("a") as file:
        for text in ("Other.", "Another."):
            file.write(json.dumps({"uid": "u3", "description": text}) + "\n")
    with pytest.raises(SourceError, match=r"found 3 different ones for uid u3; give each row"):
        _judge(texts, sample, tmp_path / "other")


def _written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """An output of generate with some rows."""
    artefact = commit_part(Folder(str(folder)), part_name(0), pa.Table.from_pylist(rows))
    Manifest(
        "generate", {}, {}, (), (artefact,), Counts(len(rows), len(rows))
    ).write(Folder(str(folder)))  # fmt: skip
    return folder


def test_an_output_without_finish_reasons_does_not_say_how_texts_ended(tmp_path: Path) -> None:
    row = {"uid": "a", "title": "Kettle", "description": "Boils."}
    ready = systems.read_ready(str(_written(tmp_path / "a", [row])))
    assert systems.take_ready(ready, _side(("a", "Kettle"))) == Written(["Boils."], None)
    both = [row | {"finish_reason": "stop"}, row | {"uid": "b", "finish_reason": None}]
    ready = systems.read_ready(str(_written(tmp_path / "b", both)))
    assert systems.take_ready(ready, _side(("a", "Kettle"))).ended == [True]
    assert systems.take_ready(ready, _side(("a", "Kettle"), ("b", "Kettle"))).ended is None
    with pytest.raises(SourceError, match="expected a column 'title'"):
        systems.read_ready(str(_written(tmp_path / "c", [{"uid": "a", "description": "B"}])))


def test_texts_written_in_another_way_are_no_stand_ins(trained: Path) -> None:
    model = Run.open(str(trained))
    config = EvaluateConfig(run="r", max_new_tokens=8)
    how = systems.decoding(model, config) | {"prompt": dataclasses.asdict(model.prompt)}

    def stands_in(weights: str = model.digest, **other: Any) -> bool:
        ready = _ready("g", {}, weights=weights, settings=how | other)
        return systems.stands_in(ready, model, config)

    assert stands_in()
    assert not stands_in(weights="0f")
    assert not stands_in(temperature=0.7)
    assert not stands_in(best_of=1)
    assert not stands_in(min_p=None)  # of an earlier version, which let texts loop
    assert not stands_in(seed=1)
    assert not stands_in(max_new_tokens=9)
    assert not stands_in(prompt={"template": "compact", "instruction": "x"})


def test_texts_for_other_rows_are_no_stand_ins_where_prompts_show_attributes(
    trained: Path, tmp_path: Path
) -> None:
    clean = write_clean(tmp_path / "clean", ROWS, held_out=0.2)
    made = _subset(tmp_path / "subset", clean)
    digest = manifest.read(Folder(str(clean))).digest
    plain = Run.open(str(trained))
    prompt = dataclasses.replace(plain.prompt, attributes=["brand"])
    model = dataclasses.replace(plain, prompt=prompt)
    config = EvaluateConfig(run="r", subset=str(made), max_new_tokens=8)
    how = systems.decoding(model, config) | {"prompt": prompt.recorded}
    for rows in (digest, "0f", None):
        ready = _ready("g", {}, weights=model.digest, settings=how, rows=rows)
        assert systems.stands_in(ready, model, config) == (rows == digest)


@pytest.fixture(scope="module")
def about(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A subset with brands and colours, and a run on it whose prompts show the brand."""
    root = tmp_path_factory.mktemp("about")
    brands = [f"Brand {i}" if i % 5 else "" for i in range(len(ROWS))]
    colours = ["red" if i % 2 else "blue" for i in range(len(ROWS))]
    clean = write_clean(root / "clean", ROWS, held_out=0.2, brand=brands, colour=colours)
    made = _subset(root / "subset", clean)
    folder = _train(root / "run", run, made)
    record = manifest.read(Folder(str(folder)))
    prompt = record.facts["prompt"] | {"attributes": ["brand"]}
    facts = record.facts | {"prompt": prompt}
    dataclasses.replace(record, facts=facts).write(Folder(str(folder)))
    return folder, made


def test_a_run_is_asked_with_the_attributes_of_the_rows(
    about: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, made = about
    prompts: dict[str, str] = {}
    of_side = systems.Writer._prompts

    def kept(self: Any, side: EvalSet) -> Any:
        requests = of_side(self, side)
        prompts.update({request.uid: request.prompt for request in requests})
        return requests

    monkeypatch.setattr(systems.Writer, "_prompts", kept)
    words = EvaluateConfig(
        run=str(folder), subset=str(made), out=str(tmp_path / "o"), rows=5, **BRIEF
    )
    command.run(words)
    report = _report(tmp_path / "o")
    assert {row["side"] for row in report["rows"]} == {"seen", "unseen"}
    for row in report["rows"]:
        place = int(row["uid"][1:])
        brand = f"Brand {place}" if place % 5 else ""
        assert row["attributes"] == {"brand": brand}
        line = f"Brand: {brand}\n" if brand else ""
        assert f"### Input:\n{line}{row['title']}\n\n" in prompts[row["uid"]]


def test_other_held_out_rows_must_have_the_attributes(
    about: tuple[Path, Path], clean: Path, tmp_path: Path
) -> None:
    folder, made = about
    config = EvaluateConfig(
        run=str(folder), subset=str(made), held_out=str(clean), out=str(tmp_path / "o"), **BRIEF
    )
    with pytest.raises(ManifestError, match="expected attributes brand, which prompts show, found"):
        command.find(config)
    case = command.find(dataclasses.replace(config, held_out=None))
    first = command.identify(case)
    other = [dataclasses.replace(s, attributes={"brand": [""] * len(s)}) for s in case.sides]
    second = command.identify(dataclasses.replace(case, sides=other))
    assert {name for name in first if first[name] != second[name]} == {"texts"}


def test_attributes_support_numbers() -> None:
    side = EvalSet("unseen", ["a", "b"], ["A", "B"], ["Real.", "R"], {}, {"price": ["9", ""]})
    assert side.records == ["Real.\n9", "R\n"]
    assert side.take([1], {"no_text": 1}) == EvalSet(
        "unseen", ["b"], ["B"], ["R"], {"no_text": 1}, {"price": [""]}
    )
    assert EvalSet("seen", ["a"], ["A"], ["Real."]).records == ["Real."]


def test_seen_rows_come_from_a_subset_that_has_the_attributes() -> None:
    columns = {"uid": ["a", "b"], "title": ["A", "B"], "content": ["x", "y"]}
    small = samples.Trained("0f", pa.table(columns).slice(0, 1))
    large = samples.Trained("1f", pa.table(columns | {"brand": ["Q", "R"]}))
    assert samples.seen([small, large], 5, ["brand"]).attributes == {"brand": ["Q"]}
    assert samples.seen([small, large], 5).uids == ["a"]
    with pytest.raises(SubsetError, match="one with the attributes brand"):
        samples.seen([small], 5, ["brand"])


def test_files_of_one_name_keep_two_columns(sample: Path, tmp_path: Path) -> None:
    paths = []
    for folder, text in (("a", "A text."), ("b", "Another one.")):
        (tmp_path / folder).mkdir()
        paths.append(
            str(_write_texts(tmp_path / folder / "t.jsonl", sample, lambda _, text=text: text))
        )
    config = EvaluateConfig(
        generated=paths, subset=str(sample), out=str(tmp_path / "o"), resamples=100, rows=3
    )
    command.run(config)
    report = _report(tmp_path / "o")
    assert [verdict["label"] for verdict in report["verdicts"]] == ["a/t.jsonl", "b/t.jsonl"]
    texts = report["rows"][0]["texts"]
    assert texts["generated:a/t.jsonl"]["text"] == "A text."
    assert texts["generated:b/t.jsonl"]["text"] == "Another one."
    with pytest.raises(ConfigError, match="each path once"):
        EvaluateConfig(generated=["a", "a/"])


def test_rows_of_more_than_2_gib_of_text_can_be_sorted() -> None:
    rows = {"uid": ["b", "a"], "title": ["B", "A"], "content": ["Boils.", "Shines."]}
    first = pa.record_batch(rows | {"sample_key": pa.array([2, 2], pa.uint64())})
    second = pa.record_batch(rows | {"sample_key": pa.array([3, 1], pa.uint64())})
    table = samples.by_sample_key([first, second])
    assert table.column("content").to_pylist() == ["Shines.", "Shines.", "Boils.", "Boils."]
    # Offsets of 32 bits end at 2 GiB.
    assert table.schema.field("content").type == pa.large_string()
    assert samples.by_sample_key([]).num_rows == 0


def test_the_nearest_row_is_never_the_row_itself() -> None:
    rows = [("a", "Kettle", "Boils."), ("a", "Lamp", "Shines."), ("b", "Kettles", "Boil.")]
    table = pa.table(dict(zip(samples.COLUMNS, zip(*rows, strict=True), strict=True)))
    side = EvalSet("seen", *([row[i] for row in rows] for i in range(3)))  # type: ignore[arg-type]
    near = systems.nearest_by_title(side, samples.Trained("0f", table))
    assert near.texts[0] == "Boil."
    assert near.texts[1] != "Shines."
    assert near.texts[2] == "Boils."
    assert near.alike is not None
    # Six letters and seven, one of them more.
    assert near.alike[[0, 2]].tolist() == pytest.approx([12 / 13, 12 / 13])
    assert systems.nearest_by_title(side, samples.Trained("0f", table.slice(0, 0))) == Written([])
    own = EvalSet("seen", ["a"], ["Kettle"], ["Boils."])
    assert systems.nearest_by_title(own, samples.Trained("0f", table.slice(0, 1))) == Written([])


def test_what_cannot_be_measured_is_said(sample: Path, tmp_path: Path) -> None:
    texts = _write_texts(tmp_path / "texts.jsonl", sample, lambda _: "!!!")
    out = _judge(texts, sample, tmp_path)
    scores = _report(out)["sides"]["unseen"]["scores"]["generated:texts.jsonl"]
    assert (scores["rougeL"]["value"], scores["bleu"]["value"]) == (0, None)
    assert scores["unsupported"] == {"value": None, "low": None, "high": None, "rows": 0}
    assert "no text with numbers" in (out / "report.html").read_text()


def test_a_russian_catalogue_is_scored(tmp_path: Path) -> None:
    rows = [
        (f"r{i}", f"Чайник {i}", f"Этот чайник {i} кипятит воду быстро, {i} раз.")
        for i in range(40)
    ]
    russian = _subset(tmp_path / "subset", write_clean(tmp_path / "clean", rows, held_out=0.3))
    texts = _write_texts(tmp_path / "texts.jsonl", russian, lambda row: row["content"])
    report = _report(_judge(texts, russian, tmp_path))
    scores = report["sides"]["unseen"]["scores"]["generated:texts.jsonl"]
    assert [scores[name]["value"] for name in ("rouge1", "rouge2", "rougeL", "bleu", "chrf")] == [
        *(100, 100, 100, 100, 100),
    ]
    assert "unicode" in report["settings"]["signatures"]["rouge"]


def _curve(folder: Path, line: str = "40,000 rows should reach 3.2") -> Path:
    payload = json.dumps(CURVE | {"lines": [line]}).encode()
    (to := Folder(str(folder))).commit("curve.json", payload)
    output = Artefact("curve.json", 0, len(payload), digest_bytes(payload))
    record = Manifest("curve", {}, {"line": line}, (), (output,), Counts(), facts={"lines": [line]})
    record.write(to)
    return folder


def test_a_curve_is_shown_with_its_line(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = _write_texts(tmp_path / "texts.jsonl", sample, lambda row: row["title"])
    curve = str(_curve(tmp_path / "curve", "<b> 40,000 rows should reach 3.2"))
    out = _judge(texts, sample, tmp_path, curve=curve)
    page = (out / "report.html").read_text()
    assert "&lt;b&gt; 40,000 rows should reach 3.2" in page
    assert 'aria-label="Loss by rows"' in page
    assert _report(out)["curve"]["lines"] == ["<b> 40,000 rows should reach 3.2"]
    _judge(texts, sample, tmp_path, curve=curve)
    assert "already finished" in capsys.readouterr().out
    other = str(_curve(tmp_path / "other"))
    for changed in (other, None):
        with pytest.raises(OutputError, match="curve="):
            _judge(texts, sample, tmp_path, curve=changed)
    (Path(curve) / "curve.json").write_text("{}")
    with pytest.raises(ManifestError, match="expected the bytes that its manifest lists"):
        _judge(texts, sample, tmp_path, curve=curve)


def test_a_report_without_a_curve_is_not_one_with_it(sample: Path, tmp_path: Path) -> None:
    texts = _write_texts(tmp_path / "texts.jsonl", sample, lambda row: row["title"])
    assert _report(_judge(texts, sample, tmp_path))["curve"] is None
    with pytest.raises(OutputError, match="curve="):
        _judge(texts, sample, tmp_path, curve=str(_curve(tmp_path / "curve")))
