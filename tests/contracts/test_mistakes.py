"""Five usual mistakes with every command: each ends in one line that helps and in its exit code."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import data.__main__ as data_stage
import inference.__main__ as inference_stage
import preprocessing.__main__ as preprocessing_stage
import training.__main__ as training_stage
from tests.builders import ROOT

STAGES: dict[str, Callable[[list[str]], int]] = {
    "data": data_stage.main, "preprocessing": preprocessing_stage.main,
    "training": training_stage.main, "inference": inference_stage.main,
}  # fmt: skip
CPU = "--config {code}/training/recipes/cpu.yaml --max_length 256"
RIGHT = {
    "preprocessing clean": "--source {store}/trn.json.gz --out {new}",
    "data synthesize": "--rows 3 --out {new}.json.gz",
    "data subset": "--clean {store}/clean --out {new}",
    "data show": "{store}/clean",
    "training plan": CPU + " --subset {store}/subset --plans {new}",
    "training tune": CPU + " --subset {store}/subset --out {new}",
    "training run": CPU + " --subset {store}/subset --out {new}",
    "training curve": CPU + " --subset {store}/subset --sizes [10,20,40] --out {new}",
    "training export": "--run {store}/run --out {new}",
    "training publish": "--to u/n --model {store}/export --dry_run true --out {new}",
    "inference generate": "--run {store}/run --titles {store}/subset --out {new}",
    "inference evaluate": "--run {store}/run --subset {store}/subset --out {new}",
    "inference rate": "--report {store}/report --out {new}",
    "inference compare": "--reports [{store}/report,{store}/other] --out {new}",
    "inference ask": "--run {store}/run --catalogue {store}/clean --index {new} What?",
    "inference serve": "--run {store}/run --catalogue {store}/clean --index {new}",
}
"""Words that are right; a mistake changes one of them."""
OF_REPORTS = ("inference rate", "inference compare")
"""Commands that read reports, which no test here makes: a report takes long."""
READ = {
    "preprocessing clean": "source", "data subset": "clean", "training plan": "subset",
    "training tune": "subset", "training run": "subset", "training curve": "subset",
    "training export": "run", "training publish": "model", "inference generate": "run",
    "inference evaluate": "run", "inference ask": "run", "inference serve": "run",
}  # fmt: skip
"""The flag of what a command reads first."""
LACKING = {
    "preprocessing clean": ("pycld2", " --rules.languages [en]"),
    "data subset": ("s3fs", " --clean s3://bucket/clean"),
    "data show": ("matplotlib", " --plot a.png"),
    **dict.fromkeys(("training plan", "training run", "training curve"), ("trl", "")),
    "training tune": ("optuna", ""),
    **dict.fromkeys(("training export", "inference generate", "inference ask"), ("peft", "")),
    "training publish": ("huggingface_hub", ""),
    "inference evaluate": ("sacrebleu", ""),
    **dict.fromkeys(("inference serve", "inference rate"), ("fastapi", "")),
}  # fmt: skip
"""A module that a command needs and that is not installed, and what asks for it."""


@pytest.fixture
def refuse(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[str, str], tuple[int, str]]:  # fmt: skip
    """Run a command in an empty folder; return its exit code and the one line that it printed."""
    monkeypatch.chdir(tmp_path)

    def run(command: str, words: str) -> tuple[int, str]:
        stage, name = command.split()
        split = shlex.split(words.format(store=chain, code=ROOT, new=tmp_path / "new"))
        capsys.readouterr()
        try:
            code = STAGES[stage]([name, *split])
        except SystemExit as stopped:
            code = int(str(stopped.code))
        printed = capsys.readouterr()
        assert printed.out == ""
        assert re.fullmatch(r"error: \S.*\n", printed.err), printed.err
        assert len(printed.err) < 400
        return code, printed.err

    return run


Refuse = Callable[[str, str], tuple[int, str]]


@pytest.mark.parametrize("command", [name for name in RIGHT if name != "data synthesize"])
def test_a_wrong_path_is_named(command: str, refuse: Refuse) -> None:
    words = re.sub(r"\{store\}/(clean|report)", "{new}/no", RIGHT[command], count=1)
    if flag := READ.get(command):
        words = re.sub(rf"--{flag} \S+", f"--{flag} {{new}}/no", RIGHT[command])
    code, line = refuse(command, words)
    assert code == 1
    assert "new/no" in line
    assert "expected" in line
    assert "python -m" in line or command == "data show"  # what makes one


@pytest.mark.parametrize("command", RIGHT)
def test_an_unknown_flag_is_named_with_the_help(command: str, refuse: Refuse) -> None:
    code, line = refuse(command, RIGHT[command] + " --sise 3")
    assert code == 2
    assert "--sise" in line
    assert line.endswith(f"see python -m {command} --help\n")


@pytest.mark.parametrize("command", LACKING)
def test_a_missing_extra_is_named_with_what_installs_it(
    command: str, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, words = LACKING[command]
    monkeypatch.setattr("data.cli.extras.is_installed", lambda name: name != module)
    code, line = refuse(command, RIGHT[command] + words)
    assert code == 1
    assert re.search(rf"found no {module}; pip install -c constraints.txt -e '\.\[\w+\]'", line)


@pytest.mark.parametrize("command", [*READ, "data show"])
def test_a_forgotten_input_is_named_with_what_there_is(
    command: str, refuse: Refuse, tmp_path: Path, chain: Path
) -> None:
    flag = READ.get(command, "path")
    words = re.sub(rf"--{flag} \S+", "", RIGHT[command]) if command in READ else ""
    code, line = refuse(command, words)
    assert code == 2
    named = f"--{flag} was not given" if command in READ else "path was not given"
    assert line.startswith(f"error: python -m {command}: {named}; there is none in data/store yet")
    store = tmp_path / "data" / "store"
    store.mkdir(parents=True)
    for folder in ("export",) if flag == "model" else ("clean", "subset", "run"):
        (store / f"the-{folder}").symlink_to(chain / folder)
    (store / "raw").mkdir()
    (store / "raw" / "my.json.gz").touch()
    there = {"source": "raw/my.json.gz", "path": "the-", "model": "the-export"}.get(
        flag, f"the-{flag}"
    )
    code, line = refuse(command, words)
    assert code == 2
    assert f"; there is data/store/{there}" in line


@pytest.mark.parametrize("command", [name for name in RIGHT if name not in OF_REPORTS])
def test_an_output_that_exists_is_left_alone(command: str, refuse: Refuse, tmp_path: Path) -> None:
    words, kept = RIGHT[command], tmp_path / "new" / "mine.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    if command == "data synthesize":
        words = words.replace("{new}.json.gz", "{new}")
    elif command == "data show":
        words += " --plot {new}"
    elif command == "training plan":  # its folder is named by what it depends on
        words = words.replace("--plans {new}", "--plans {new}/mine.txt")
    code, line = refuse(command, words)
    assert code in (1, 2)
    assert str(kept.parent) in line
    assert kept.read_text() == "mine"
