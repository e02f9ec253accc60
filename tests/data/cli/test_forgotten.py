"""An input that was not named: what there is to name, in one line."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from data.cli import forgotten
from data.cli.forgotten import RAW, Input
from data.errors import ConfigError


@dataclass(frozen=True)
class Config:
    run: str = "data/store/runs/all"
    texts: str = ""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("data/store")


def finish(folder: Path, stage: str, age: int = 0) -> None:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"stage": stage}))
    os.utime(folder / "manifest.json", (1_000_000 - age, 1_000_000 - age))


def refusal(kind: Input, *words: str, **fields: str) -> str:
    values = {"run": "data/store/runs/all", "texts": ""} | fields
    with pytest.raises(ConfigError) as refused:
        forgotten.check("python -m x y", Config, {"run": kind}, values, words)
    return str(refused.value)


def test_the_newest_of_the_stages_that_fit_are_named(store: Path) -> None:
    assert refusal(Input(("train", "export"))) == (
        "python -m x y: --run was not given; there is none in data/store yet: "
        "python -m training run makes one"
    )
    finish(store / "runs/sample", "train", age=5)
    finish(store / "exported/sample", "export")
    finish(store / "subsets/sample", "subset")
    (store / "runs/broken").mkdir()
    (store / "runs/broken/manifest.json").write_text("{")
    assert refusal(Input(("train", "export"))).endswith(
        "--run was not given; there is data/store/exported/sample, data/store/runs/sample"
    )
    for number in range(3):
        finish(store / f"runs/{number}", "train", age=10)
    assert refusal(Input(("train",))).endswith(" and 1 more")


def test_what_is_named_or_lies_where_it_should_is_not_refused(store: Path) -> None:
    def check(kind: Input, *words: str, **fields: str) -> None:
        values = {"run": "data/store/runs/all", "texts": ""} | fields
        forgotten.check("x", Config, {"run": kind}, values, words)

    kind = Input(("train",), unless="texts")
    check(kind, run="elsewhere")
    check(kind, "--run=data/store/runs/all")
    check(kind, "--run", "data/store/runs/all")
    check(kind, texts="a.jsonl")
    finish(store / "runs/all", "train")
    check(kind)


def test_raw_files_are_named_and_operands_have_no_dashes(store: Path) -> None:
    (store / "raw").mkdir(parents=True)
    (store / "raw/trn.json.gz").touch()
    assert refusal(Input((RAW,))).endswith("there is data/store/raw/trn.json.gz")
    with pytest.raises(ConfigError, match="x: run was not given"):
        forgotten.check("x", Config, {"run": Input()}, {}, ())
