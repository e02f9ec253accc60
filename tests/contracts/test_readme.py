"""Every command of README.md and README.pt-BR.md, on the sample, with flags that make it cheap."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from data.cli import command_line
from tests.builders import ROOT, save_base
from tests.contracts.test_mistakes import STAGES
from tests.demo import STEPS
from tests.serving import serving_forked

READMES = "README.md", "README.pt-BR.md"
CHEAP = {
    "data synthesize": "--rows 20",
    "preprocessing clean": "--rules.content_min 100 --rules.content_max 2000 --workers 1 "
    "--shares.test 0.1 --shares.validation 0.1",
    "data subset": "--size 60 --test 6 --validation 6",
    "training run": "--base {base} --backend transformers --plan null "
    "--optimisation.max_steps 2 --optimisation.batch_size 4 --checkpoints.eval_steps 1 "
    "--optimisation.gradient_checkpointing none --max_truncated_share 1 --prompt.neighbours 0",
    "inference generate": "--max_new_tokens 8 --best_of 1",
    "inference evaluate": "--max_new_tokens 8 --best_of 1 --resamples 100",
    "data show": "--rows 1",
    "inference ask": "--max_new_tokens 8",
    "inference serve": "--max_new_tokens 8",
}
"""Further flags of a command; the last word on a field wins."""
FENCE = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(readme: str) -> list[str]:
    """Return the commands of a README as they are typed, of its blocks and its sentences."""
    text = (ROOT / readme).read_text()
    blocks = re.sub(r"\\\n\s*", "", "\n".join(FENCE.findall(text)))
    sentences = re.findall(r"`((?:python -m|make) [^`]+)`", FENCE.sub("", text))
    lines = [re.sub(r"\s+#.*", "", line).strip() for line in [*blocks.splitlines(), *sentences]]
    return [line for line in lines if line.startswith(("make ", "python -m "))]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with the recipes and the sample, which is the raw file as well."""
    root = tmp_path_factory.mktemp("clone")
    for name in ("data/sample", *(f"{s}/recipes" for s in STAGES if s != "data")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(ROOT / name)
    raw = root / "data/store/raw/trn.json.gz"
    raw.parent.mkdir(parents=True)
    raw.symlink_to(ROOT / "data/sample/trn.json.gz")
    save_base(root / "base")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(root)
        yield root


def test_both_readmes_have_the_same_commands() -> None:
    english, portuguese = map(commands, READMES)
    assert english == portuguese
    ours = {" ".join(line.split()[2:4]) for line in english if line.startswith("python")}
    assert ours >= {"preprocessing clean", "data subset", "training run", "inference generate",
                    "inference evaluate", "inference ask", "inference serve"}  # fmt: skip


def test_every_command_runs_in_the_order_that_it_is_written_in(clone: Path) -> None:
    for line in dict.fromkeys(commands("README.md")):
        if line.startswith("make "):
            dry = subprocess.run(
                ["make", "-n", *line.split()[1:]], cwd=ROOT, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            assert dry.returncode == 0, dry.stderr
            continue
        _, _, stage, name, *words = shlex.split(line)
        words += shlex.split(CHEAP[f"{stage} {name}"].format(base=clone / "base"))
        if f"{stage} {name}" == "data synthesize":
            words += ["--out", "data/store/raw/invented.json.gz"]
        if name == "serve":
            here = [word.replace("data/store", f"{clone}/data/store") for word in words]
            with serving_forked(*here) as address:
                assert httpx.get(f"{address}/report").status_code == 200
            continue
        assert STAGES[stage]([name, *words]) == 0, line


@pytest.mark.parametrize("target", ["demo", "serve"])
def test_make_has_what_a_new_clone_needs(target: str) -> None:
    for readme in READMES:
        assert f"make {target}" in commands(readme)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.words.split()[1])
def test_the_demos_commands_are_taken(step: "object") -> None:
    import importlib

    stage, name, *words = str(getattr(step, "words", "")).split()
    chosen = {name: importlib.import_module(f"{stage}.__main__").COMMANDS[name]}
    parser = command_line._parser(stage, chosen, [name, *words])
    assert command_line._parse(parser, chosen, [name, *words])[0] == name


def test_what_is_installed_are_extras_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for readme in READMES:
        named = re.findall(r"'\.\[(\w+)\]'", (ROOT / readme).read_text())
        assert len(named) >= 5
        assert set(named) <= set(project["optional-dependencies"])
