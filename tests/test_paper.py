"""What README, CONTRIBUTING and docs say is there: links, files, commands, flags, decisions."""

import dataclasses
import importlib
import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any, get_args, get_type_hints

import dask.dataframe as dd
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.builders import CATALOGUE, write_clean

ROOT = Path(__file__).parents[1]
PAPERS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
READMES = ROOT / "README.md", ROOT / "README.pt-BR.md"
DECISIONS = sorted(ROOT.glob("docs/decisions/[0-9]*.md"))
STAGES = ("data", "preprocessing", "training", "inference")
FOLDERS = (*STAGES, "tests", "docs")
EVERYWHERE = {"config", "help"}

FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
TICKED = re.compile(r"`([^`\n]+)`")


def name(paper: Path) -> str:
    return paper.relative_to(ROOT).as_posix()


def prose(paper: Path) -> str:
    return FENCE.sub("", paper.read_text())


def anchors(paper: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", prose(paper), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def fenced(paper: Path) -> list[str]:
    """Return the commands of the fenced blocks, continued lines joined, remarks cut off."""
    joined = re.sub(r"\\\n\s*", "", "\n".join(FENCE.findall(paper.read_text())))
    lines = (re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines())
    first = ("git ", "make ", "python ", ".venv/bin/", "dask ", "pip ", "torchrun ")
    return [re.sub("<[^>]+>", "<>", line) for line in lines if line.startswith(first)]


def fields(config: Any, prefix: str = "") -> Iterator[str]:
    hints = get_type_hints(config)
    for field in dataclasses.fields(config):
        yield prefix + field.name
        for kind in (hints[field.name], *get_args(hints[field.name])):
            if dataclasses.is_dataclass(kind):
                yield from fields(kind, f"{prefix}{field.name}.")


@pytest.fixture(scope="module")
def flags() -> dict[tuple[str, str], set[str]]:
    mains = {stage: importlib.import_module(f"{stage}.__main__") for stage in STAGES}
    return {
        (stage, command): EVERYWHERE | set(fields(entry.config))
        for stage, main in mains.items()
        for command, entry in main.COMMANDS.items()
    }


@pytest.mark.parametrize("paper", READMES, ids=name)
def test_a_readme_is_short_and_narrow(paper: Path) -> None:
    lines = paper.read_text().splitlines()
    assert len(lines) <= 130
    assert [line for line in lines if len(line) > 100] == []


def test_contributing_is_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 80


@pytest.mark.parametrize("paper", PAPERS, ids=name)
def test_links_lead_somewhere(paper: Path) -> None:
    for path, anchor in LINK.findall(prose(paper)):
        target = (paper.parent / path) if path else paper
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("paper", PAPERS, ids=name)
def test_files_and_modules_that_are_named_exist(paper: Path) -> None:
    folders = "|".join(FOLDERS)
    named = [word for ticked in TICKED.findall(prose(paper)) for word in ticked.split()]
    for word in named:
        if re.fullmatch(rf"(?:{folders})/[\w./-]*|[\w-]+\.(?:md|toml)|constraints\.txt", word):
            if not word.startswith("data/store/"):
                assert (ROOT / word).exists(), word
        elif re.fullmatch(rf"(?:{folders})(?:\.\w+)+", word):
            assert stands(word), word


def stands(dotted: str) -> bool:
    """Whether a module, or a name that a module holds, is there."""
    *path, last = dotted.split(".")
    place = ROOT.joinpath(*path)
    if (place / last).is_dir() or (place / f"{last}.py").exists():
        return True
    sources = [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.exists()]
    return any(re.search(rf"\b{last}\b", file.read_text()) for file in sources)


@pytest.mark.parametrize("paper", PAPERS, ids=name)
def test_commands_recipes_and_flags_exist(
    paper: Path, flags: dict[tuple[str, str], set[str]]
) -> None:
    text = re.sub(r"\\\n\s*", "", paper.read_text())
    for recipe in re.findall(r"\b\w+/recipes/[\w.-]+\.yaml", text):
        assert (ROOT / recipe).exists(), recipe
    for module in re.findall(r"-m (tests(?:\.\w+)+)", text):
        assert stands(module), module
    for stage, command, rest in re.findall(r"-m (data|\w+ing|inference) ([a-z]+)([^`\n]*)", text):
        assert (stage, command) in flags, f"{stage} {command}"
        for flag in re.findall(r"(?<= --)[a-z_.]+", rest):
            assert flag in flags[stage, command], f"{stage} {command} --{flag}"
    every = set().union(*flags.values())
    for flag in re.findall(r"`--([a-z_.]+)", text):
        assert flag in every, flag


@pytest.mark.parametrize("library", ["pyarrow", "pandas", "polars", "DuckDB", "Dask"])
def test_a_folder_is_read_as_the_page_says(library: str, tmp_path: Path) -> None:
    page = (ROOT / "docs/data.md").read_text()
    (line,) = re.findall(rf"^\| {library} \| `([^`]+)` \|$", page, re.MULTILINE)
    folder = write_clean(tmp_path / "clean", CATALOGUE)
    (folder / "quarantine").mkdir()
    pq.write_table(pa.table({"reason": ["invalid_json"]}), folder / "quarantine/part-00000.parquet")
    read = {"glob": glob, "pq": pq, "pd": pd, "pl": pl, "duckdb": duckdb, "dd": dd}
    assert len(eval(line.replace("data/store/clean", str(folder)), read)) == 3  # noqa: S307


def test_both_readmes_give_the_same_commands_in_the_same_sections() -> None:
    english, portuguese = READMES
    assert fenced(english) == fenced(portuguese)
    assert len(fenced(english)) >= 10
    sections = [len(re.findall(r"^## ", prose(readme), re.MULTILINE)) for readme in READMES]
    assert sections[0] == sections[1]


@pytest.mark.parametrize("paper", DECISIONS, ids=name)
def test_a_decision_says_what_why_what_was_measured_and_when_to_undo_it(paper: Path) -> None:
    lines = paper.read_text().splitlines()
    assert lines[0].startswith(f"# {int(paper.name[:4])}. ")
    parts = re.findall(r"^\*\*([^*]+)\.\*\* \S", paper.read_text(), re.MULTILINE)
    assert parts == ["What", "Why", "Measured", "When to undo"]
    assert 5 <= len(lines) <= 15


def test_the_index_names_every_decision_once() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text()
    assert re.findall(r"^- \[\d{4}\]\(([^)]+)\) \S", index, re.MULTILINE) == [
        paper.name for paper in DECISIONS
    ]
    assert [int(paper.name[:4]) for paper in DECISIONS] == list(range(1, len(DECISIONS) + 1))
