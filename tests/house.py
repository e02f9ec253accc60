"""The rules of the house: ``python -m tests.house [FOLDER]`` prints each figure and its limit.

A room is a folder of product code. Ends with 1 where a rule is broken; run by ``make lint``.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STAGES = ("data", "preprocessing", "training", "inference")
_DATA_FILES = {"store", "sample", "recipes"}
_MOST_FILES, _MOST_LINES, _MOST_FILLER = 11, 400, 0.01
MOST_PRODUCT_LINES = 37_385
"""Follows the code down; up only for what an issue adds (19,480 before decoding, 20,600 before
searches and curves, 23,100 before families and neighbours, 27,200 before fp16 and nf4, 28,500
before the page, export, publishing, the OpenAI protocol and judges, 36,100 before arrow-rs, 36,200
before layers of our own, 37,325 before what several GPUs exchange)."""
# Names that say nothing of what a variable holds.
_FILLER = {
    *("told", "found", "each", "made", "held", "asked", "given", "taken", "known", "shown"),
    *("wanted", "got", "meant"),
}


@dataclass(frozen=True)
class Rule:
    """One rule with its figure."""

    name: str
    value: str
    limit: str
    broken: tuple[str, ...] = ()
    """The places that break it, or the figure itself."""


def rooms(root: Path) -> Iterator[Path]:
    """List the folders of product code."""
    for stage in STAGES:
        for folder in sorted([root / stage, *(root / stage).rglob("*/")]):
            parts = set(folder.relative_to(root).parts)
            if not parts & (_DATA_FILES | {"__pycache__"}):
                yield folder


def modules(root: Path) -> list[Path]:
    """List the files of product code."""
    return [file for room in rooms(root) for file in sorted(room.glob("*.py"))]


def room_sizes(root: Path) -> Rule:
    """Count the files of each room, front doors left out."""
    counts = {
        str(room.relative_to(root)): sum(
            file.is_file() and file.name != "__init__.py" for file in room.iterdir()
        )
        for room in rooms(root)
    }
    broken = tuple(f"{room}: {count}" for room, count in counts.items() if count > _MOST_FILES)
    return Rule("files in a room", str(max(counts.values())), str(_MOST_FILES), broken)


def file_sizes(root: Path) -> Rule:
    """Count the lines of each file."""
    counts = {str(file.relative_to(root)): _lines(file) for file in modules(root)}
    broken = tuple(f"{file}: {count}" for file, count in counts.items() if count > _MOST_LINES)
    return Rule("lines in a file", str(max(counts.values())), str(_MOST_LINES), broken)


def product_size(root: Path) -> Rule:
    """Count the lines of all product code."""
    total = sum(_lines(file) for file in modules(root))
    broken = (f"{total:,}",) if total > MOST_PRODUCT_LINES else ()
    return Rule("lines of product code", f"{total:,}", f"{MOST_PRODUCT_LINES:,}", broken)


def filler_names(root: Path) -> Rule:
    """Measure the share of filler words among assigned names."""
    names = [(name, file) for file in modules(root) for name in _assigned(file)]
    filler = [(name, file) for name, file in names if name in _FILLER]
    share = len(filler) / max(len(names), 1)
    places = sorted({f"{file.relative_to(root)}: {name}" for name, file in filler})
    broken = tuple(places) if share >= _MOST_FILLER else ()
    return Rule("filler words among assigned names", f"{share:.1%}", f"{_MOST_FILLER:.0%}", broken)


def import_contracts(root: Path) -> Rule:
    """Run import-linter's contracts."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    summary = next((line for line in run.stdout.splitlines() if line.startswith("Contracts:")), "")
    broken = tuple(run.stdout.splitlines() + run.stderr.splitlines()) if run.returncode else ()
    return Rule("import contracts", summary.removeprefix("Contracts: ").rstrip("."), "kept", broken)


def _lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def _assigned(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


CHECKS = (room_sizes, file_sizes, product_size, filler_names, import_contracts)


def main(root: Path) -> int:
    """Print all rules; return 1 where one is broken."""
    rules = [check(root) for check in CHECKS]
    for rule in rules:
        print(f"{rule.name:<36} {rule.value:>12}   limit {rule.limit:>7}"
              f"   {'BROKEN' if rule.broken else 'kept'}")  # fmt: skip
        for place in rule.broken:
            print(f"    {place}")
    return int(any(rule.broken for rule in rules))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
