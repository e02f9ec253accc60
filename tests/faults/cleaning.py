"""What the fault scripts of cleaning share: the command, and what an output folder holds."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data.artefacts import manifest
from data.artefacts.folder import QUARANTINE, Folder
from data.artefacts.manifest import Counts, Manifest

OPEN = ("--rules.title_min=0", "--rules.content_min=0", "--rules.content_max=null")
"""Rules that keep every row."""


def command(source: Path, out: Path, *words: str) -> list[str]:
    asked = (f"--source={source}", f"--out={out}", *words)
    return [sys.executable, "-m", "preprocessing", "clean", *asked]


def synthesize(out: Path, *words: str) -> None:
    """Invent a raw file, unless an earlier run left it."""
    if not out.exists():
        invent = [sys.executable, "-m", "data", "synthesize", f"--out={out}", *words]
        subprocess.run(invent, check=True)


def finished(out: Path) -> Manifest:
    return manifest.read(Folder(str(out)), "clean")


def counts(out: Path) -> Counts:
    """The counts of a finished folder, which balance."""
    found = finished(out).counts
    found.check(str(out))
    return found


def parts(out: Path, inside: str = "") -> list[Path]:
    return sorted((out / inside).glob("part-*.parquet"))


def quarantined(out: Path) -> Iterator[dict[str, Any]]:
    for part in parts(out, QUARANTINE):
        yield from pq.read_table(part).to_pylist()


def digests(out: Path) -> dict[str, str]:
    """The digest of every file below a folder but its manifest, which holds seconds."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path != out / manifest.NAME
    }


def expect(condition: bool, told: str) -> None:
    """End the script with 1 where what it promises does not hold."""
    if not condition:
        raise SystemExit(f"error: {told}")
