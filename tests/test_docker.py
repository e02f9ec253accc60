"""The Dockerfiles: what they copy, install and run is there, and no artefact is built in.

A builder is seldom at hand, so the files are read as it would read them.
"""

import json
import re
import shlex
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from inference.__main__ import COMMANDS as INFERENCE
from preprocessing.__main__ import COMMANDS as PREPROCESSING
from training.__main__ import COMMANDS as TRAINING

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMANDS = {"inference": INFERENCE, "preprocessing": PREPROCESSING, "training": TRAINING}
KNOWN = {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}


def _instructions(file: Path) -> list[tuple[str, str]]:
    """List the instructions, continued lines joined, without comments."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest.strip()) for line in joined.splitlines() if line.strip()
            for name, _, rest in (line.strip().partition(" "),)]  # fmt: skip


def _of(file: Path, name: str) -> list[str]:
    return [rest for own, rest in _instructions(file) if own == name]


def _is_ignored(path: str) -> bool:
    """Whether .dockerignore leaves a file out: patterns begin at its folder, the last one wins."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        escaped = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{escaped}(?:/.*)?", path):
            ignored = not line.startswith("!")
    return ignored


def test_there_is_one_for_processors_and_one_for_a_gpu() -> None:
    assert [file.name for file in FILES] == ["cpu.Dockerfile", "gpu.Dockerfile"]


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_its_instructions_are_known_and_its_python_is_ours(file: Path) -> None:
    assert {name for name, _ in _instructions(file)} <= KNOWN
    [base] = _of(file, "FROM")
    minor = re.fullmatch(r"python:3\.(\d+)-slim", base)
    assert minor
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
    assert least
    assert int(minor[1]) >= int(least[1])


def test_it_copies_what_is_there_and_what_installing_needs(file: Path) -> None:
    for rest in _of(file, "COPY"):
        *sources, _ = rest.split()
        for source in sources:
            assert (ROOT / source).exists()
            assert source == "." or not _is_ignored(source)
    folders = ("data", "preprocessing", "training", "inference")
    needed = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    needed += [
        ROOT / name for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE")
    ]
    needed += [ROOT / "data/sample/trn.json.gz", ROOT / "data/store/.gitkeep"]
    needed += (ROOT / "training/recipes").glob("*.yaml")
    relative = [str(path.relative_to(ROOT)) for path in needed]
    kept = [path for path in relative if not path.startswith("data/store/") or "gitkeep" in path]
    assert [path for path in kept if _is_ignored(path)] == []
    assert all((ROOT / path).exists() for path in kept)


@pytest.mark.parametrize(
    "path",
    [".git/config", ".venv/bin/python", "data/store/runs/a/adapter.safetensors",
     "training/__pycache__/run.cpython-311.pyc", "tests/house.py", "a.egg-info/PKG-INFO"],
)  # fmt: skip
def test_what_is_large_or_private_is_not_sent_to_the_builder(path: str) -> None:
    assert _is_ignored(path)


def test_what_it_installs_is_named_in_our_project(file: Path) -> None:
    commands = _of(file, "RUN")
    [extras] = [found[1] for run in commands if (found := re.search(r"-e '\.\[([\w,]+)\]'", run))]
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert ("gpu" in extras) == (file.stem == "gpu")
    [pattern] = [found[1] for run in commands if (found := re.search(r"grep '([^']+)'", run))]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert len([line for line in lines if re.search(pattern, line)]) == 1


def test_what_it_starts_is_a_command(file: Path) -> None:
    [entry], [command] = _of(file, "ENTRYPOINT"), _of(file, "CMD")
    assert json.loads(entry) == ["python", "-m"]
    module, *flags = json.loads(command)
    assert find_spec(f"{module}.__main__")
    assert flags == ["--help"]


def test_the_commands_in_its_comments_are_right(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if line.startswith("#")]
    text = "\n".join(line.removeprefix("#") for line in lines).replace("\\\n", " ")
    runs = re.findall(r"^ +(docker .+)", text, re.MULTILINE)
    build, *started = [shlex.split(run) for run in runs]
    assert build[build.index("-f") + 1] == str(file.relative_to(ROOT))
    image = build[build.index("-t") + 1]
    for words in started:
        folder, name, *flags = words[words.index(image) + 1 :]
        fields = COMMANDS[folder][name].config.__dataclass_fields__
        names = {flag.removeprefix("--") for flag in flags if flag.startswith("--")}
        assert names - {"help", "config"} <= set(fields)
        assert f"{words[words.index('-v') + 1]}".endswith("/data/store:/app/data/store")
