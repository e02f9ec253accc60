"""Every command without the extras that it needs, and their help without any."""

import re
import sys
import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from data.__main__ import main as data
from data.cli import extras
from data.cli.extras import Need
from data.errors import ExtraError
from inference.__main__ import main as inference
from preprocessing.__main__ import main as preprocessing
from tests.builders import run_python
from training.__main__ import main as training

FOLDERS: dict[str, Callable[[list[str]], int]] = {
    "data": data,
    "preprocessing": preprocessing,
    "training": training,
    "inference": inference,
}
EVALUATE = "inference evaluate --generated a.jsonl --subset s"
# Of each extra one module is missing at a time: what needs it.
WITHOUT = {
    ("train", "torch"): ["inference ask --run r question", "training export --run r"],
    ("train", "tokenizers"): ["inference generate --run r --titles t"],
    ("train", "peft"): ["inference evaluate --run r --subset s", "training plan --subset s"],
    ("train", "transformers"): ["inference serve --run r"],
    ("train", "trl"): ["training run --subset s"],
    ("train", "matplotlib"): ["data show /no/such --plot a.png"],
    ("evaluate", "sacrebleu"): [EVALUATE],
    ("evaluate", "pydivsufsort"): [EVALUATE],
    ("ui", "fastapi"): ["inference serve --run r"],
    ("gpu", "unsloth"): ["training run --subset s --backend unsloth"],
    ("gguf", "gguf"): ["training export --run r --format gguf"],
    ("track", "tensorboard"): ["training run --report_to [tensorboard]"],
    ("track", "trackio"): ["training run --report_to [trackio]"],
    ("s3", "s3fs"): [
        "data show s3://bucket/a",
        "data subset --clean s3://bucket/a",
        "preprocessing clean --source s3://bucket/a",
        "preprocessing clean --source gs://bucket/a --out s3://b/c",
        "inference generate --run r --titles s3://bucket/a",
    ],
}


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a module look as if it were not installed, and the others as if they were."""

    def lack(module: str) -> None:
        monkeypatch.setattr("data.cli.extras.is_installed", lambda name: name != module)

    return lack


@pytest.mark.parametrize(
    ("extra", "module", "line"),
    [(*need, line) for need, lines in WITHOUT.items() for line in lines],
)
def test_a_command_without_its_extra_names_what_installs_it(
    lacking: Callable[[str], None], capsys: Any, extra: str, module: str, line: str
) -> None:
    lacking(module)
    folder, command, *words = line.split()
    assert FOLDERS[folder]([command, *words]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(
        f"error: python -m {folder} {command}: expected the extra {extra}, found no {module}; "
        f"pip install -c constraints.txt -e '.[{extra}]'"
    )
    assert printed.err.count("\n") == 1


def test_several_missing_modules_are_one_command() -> None:
    assert extras.command(["torch", "sacrebleu", "wandb"]) == (
        "pip install -c constraints.txt -e '.[evaluate,train]' wandb (on a GPU: '.[gpu]')"
    )
    assert extras.command(["sshfs"]) == "pip install sshfs"
    assert extras.command(["gcsfs"]) == "pip install -c constraints.txt -e '.[gs]'"


def test_what_a_config_does_not_ask_for_is_not_needed(lacking: Callable[[str], None]) -> None:
    lacking("torch")
    from inference.__main__ import _RUNS
    from inference.config import EvaluateConfig

    ready = EvaluateConfig(generated=["a.jsonl"], run=[], subset="s")
    extras.check("evaluate", [_RUNS], ready)
    with pytest.raises(ExtraError):
        extras.check("evaluate", [Need(("torch",))], ready)


def test_a_module_is_installed_where_python_would_find_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert extras.is_installed("pyarrow")
    assert not extras.is_installed("no_such_module")
    assert not extras.is_installed("no_such_module.inner")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert not extras.is_installed("pyarrow")


def test_extras_are_those_of_the_project(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    brings = {
        name: {re.split(r"[\[>=<]", each)[0].replace("-", "_") for each in packages}
        for name, packages in project["optional-dependencies"].items()
    }
    brought_along = {"aiobotocore", "botocore", "safetensors"}
    for module, extra in extras._EXTRA_OF.items():
        assert module in brings[extra] | brought_along, module


BLOCK = """
import sys, runpy, time
sys.argv = ["x", *{words!r}]
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
runpy.run_module({folder!r}, run_name="__main__", alter_sys=False)
"""


@pytest.mark.parametrize(
    ("folder", "words", "code"),
    [
        *((folder, [command, "--help"], 0) for folder, command in (
            ("data", "show"), ("preprocessing", "clean"), ("training", "run"),
            ("inference", "serve"),
        )),
        ("inference", ["ask", "--run", "r", "q"], 1),
    ],
)  # fmt: skip
def test_without_any_extra_help_is_there_and_a_command_ends_in_one_line(
    folder: str, words: list[str], code: int
) -> None:
    blocked = {name for name in extras._EXTRA_OF if find_spec(name)}
    done = run_python("-c", BLOCK.format(folder=folder, words=words, blocked=blocked))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code:
        assert "pip install -c constraints.txt -e '.[train]'" in done.stderr
