"""What to type next: whole commands with the paths that were used."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data import next_step
from data.__main__ import main
from data.artefacts.manifest import Counts, Manifest, Parent
from tests.builders import write_clean

CLEAN = Parent("clean", "/elsewhere/clean", "c")
SUBSET = Parent("subset", "/elsewhere/subset", "s", (CLEAN,))
RESULT = Manifest("train", {}, {}, (), (), Counts(), (SUBSET,))


def line(name: str, words: tuple[str, ...] = (), **config: Any) -> str | None:
    after = getattr(next_step, f"after_{name}")
    following: str | None = after(SimpleNamespace(**config), RESULT, words)
    return following


@pytest.mark.parametrize(
    ("name", "config", "following"),
    [
        ("synthesize", {"out": "a.json.gz"},
         "preprocessing clean --source a.json.gz --out data/store/clean"),
        ("clean", {"out": "data/store/clean"},
         "data subset --clean data/store/clean --out data/store/subsets/all"),
        ("clean", {"out": "my store/clean-sample/"},
         "data subset --clean 'my store/clean-sample/' --out 'my store/subsets/sample'"),
        ("clean", {"out": "s3://bucket/clean"},
         "data subset --clean s3://bucket/clean --out data/store/subsets/all"),
        ("subset", {"out": "x/subsets/10k"},
         "training run --config training/recipes/cpu.yaml --subset x/subsets/10k "
         "--out x/runs/10k"),
        ("tune", {"out": "x/tunes/a", "subset": "s", "plan": "auto"},
         "training run --config x/tunes/a/best.yaml --subset s --out x/runs/a --plan auto"),
        ("train", {"out": "x/runs/a", "subset": "s"},
         "inference generate --run x/runs/a --titles s --split train --out x/generated/a"),
        ("export", {"out": "x/exported/a"},
         "inference generate --run x/exported/a --titles /elsewhere/subset --split train "
         "--out x/generated/a"),
        ("generate", {"out": "x/generated/a", "run": "r", "titles": "t.csv", "split": "test"},
         "data show x/generated/a"),
        ("evaluate", {"out": "x/reports/a", "run": "r"},
         "inference serve --run r --catalogue /elsewhere/clean --report x/reports/a"),
        ("evaluate", {"out": "x/reports/a", "run": []}, "data show x/reports/a"),
        ("ask", {"run": "r", "catalogue": "c", "json": False, "question": "what?"},
         "inference serve --run r --catalogue c"),
    ],
)  # fmt: skip
def test_each_command_is_followed_by_a_whole_one(
    name: str, config: dict[str, Any], following: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert line(name, **config) == f"python -m {following}"


def test_where_there_is_a_gpu_its_recipe_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert "training/recipes/rtx3060.yaml" in str(line("subset", out="x/subsets/a"))


def test_a_plan_is_followed_by_a_run_of_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("plan", "--config", "a.yaml", "--steps", "3", "--subset=s")
    assert line("plan", words) == ("python -m training run --config a.yaml --subset=s --plan auto")
    assert "--steps" not in str(line("plan", ("plan", "--steps=3")))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    several = "torchrun --nproc-per-node 2 -m training run --subset=s --plan auto"
    assert line("plan", ("plan", "--subset=s")) == several


def test_an_export_for_others_is_for_them_to_take() -> None:
    gguf = line("export", out="x/exported/a", format="gguf")
    assert gguf == "ollama create a -f x/exported/a/Modelfile"
    assert line("export", out="x/a", format="adapter") == "python -m data show x/a"


def test_nothing_follows_where_a_program_reads() -> None:
    assert line("ask", run="r", catalogue="c", json=True, question="what?") is None
    assert line("ask", run="r", catalogue="c", json=False, question="-") is None
    assert next_step.after_train(SimpleNamespace(), None) is None  # a preview


def test_commands_print_it_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = write_clean(
        tmp_path / "clean", [(f"u{i}", f"Title {i}", f"Text {i}.") for i in range(40)]
    )
    out = tmp_path / "subsets" / "all"
    assert main(["subset", "--clean", str(clean), "--out", str(out)]) == 0
    followed = capsys.readouterr().out
    assert followed.rstrip().endswith(
        f"next:\n  python -m training run --config training/recipes/cpu.yaml --subset {out} "
        f"--out {tmp_path / 'runs/all'}"
    )
    assert main(["show", str(out), "--rows=0"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == followed.splitlines()[-1]
    monkeypatch.setenv("RANK", "1")  # the first of several processes prints it
    assert main(["show", str(out), "--rows=0"]) == 0
    assert "next:" not in capsys.readouterr().out
