"""``show``: any artefact's manifest for a person: rows, drops by reason, lineage, first rows.

Reads only; knows the artefacts by their files and not by the code that made them.
"""

import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from data import cli, manifest, shards
from data.errors import ConfigError
from data.manifest import Manifest, Parent
from data.shards import Folder

_HIDDEN_CONFIG = {"overwrite"}


@dataclass(frozen=True)
class ShowConfig:
    """Show what a folder holds: rows, drops by reason, lineage, first rows."""

    path: str = "data/store/clean"
    """Folder of any artefact: clean, subset, tokenized, run or generated."""

    rows: int = 3
    """Rows to show."""

    def __post_init__(self) -> None:
        if self.rows < 0:
            raise ConfigError("--rows", "0 or more", str(self.rows))


def run(config: ShowConfig) -> Manifest:
    """Print an artefact's manifest and first rows.

    Raises:
        ManifestError: the folder holds no finished artefact.
    """
    folder = Folder(config.path)
    found = manifest.read(folder)
    size = sum(output.bytes for output in found.outputs)
    cli.say(f"{config.path}: {found.stage}, {found.seconds:.1f} s, digest {found.digest}")
    cli.say(f"{len(found.outputs):,} files, {_bytes(size)}\n")
    cli.say(manifest.funnel(found))
    _section("Settings", _settings(found))
    _section("Facts", list(_pairs(manifest.flatten(found.facts))))
    _section("Lineage", _lineage(found))
    _section("Versions", [", ".join(f"{name} {v}" for name, v in found.versions.items())])
    _section("First quarantined lines", _quarantined(folder, config.rows))
    _section("First rows", _first_rows(folder, config.rows))
    return found


def _section(title: str, lines: list[str]) -> None:
    if lines:
        cli.say(f"\n{title}")
        for line in lines:
            cli.say(f"  {line}")


def _bytes(size: int) -> str:
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = min(int(math.log2(max(size, 1)) // 10), len(units) - 1)
    return f"{size:,} bytes" if power == 0 else f"{size / 1024**power:,.1f} {units[power]}"


def _pairs(values: dict[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
        if value is not None:
            yield f"{name}: {textwrap.shorten(str(shown), 160)}"


def _settings(found: Manifest) -> list[str]:
    settings = manifest.flatten(found.config)
    return [
        f"{name}: {value}"
        for name, value in settings.items()
        if value not in (None, "", []) and name not in _HIDDEN_CONFIG
    ]


def _lineage(found: Manifest) -> list[str]:
    """Draw what was made from what, this artefact first."""
    lines: list[str] = []

    def walk(parent: Parent, depth: int) -> None:
        lines.append(f"{'  ' * depth}from {parent.stage} {parent.digest[:12]}  {parent.path}")
        for each in parent.made_from:
            walk(each, depth + 1)

    for parent in found.made_from:
        walk(parent, 0)
    if not found.made_from:
        for source in found.inputs:
            shown = f"{source.rows:,} lines, {_bytes(source.bytes)}"
            lines.append(f"from {source.path}  {shown}, digest {source.digest}")
    return lines


def _quarantined(folder: Folder, rows: int) -> list[str]:
    inside = Folder(folder.path("quarantine"))
    lines = []
    for batch in islice(shards.read_batches(inside, rows=max(rows, 1)), 1):
        for row in batch.slice(0, rows).to_pylist():
            where = f"{row['source']} byte {row['byte_offset']:,} " if "source" in row else ""
            text = row.get("line") or row.get("title") or ""
            lines.append(f"{where}{row['reason']}: {textwrap.shorten(repr(text), 90)}")
    return lines


def _first_rows(folder: Folder, rows: int) -> list[str]:
    lines: list[str] = []
    for number, row in enumerate(islice(_rows(folder), rows), 1):
        lines.append(f"row {number}")
        for name, value in row.items():
            shown = textwrap.shorten(str(value), 240, placeholder=" …")
            lines += textwrap.wrap(
                f"{name}: {shown}", cli.terminal_width() - 4, initial_indent="  ",
                subsequent_indent="    ",
            )  # fmt: skip
    return lines


def _rows(folder: Folder) -> Iterator[dict[str, Any]]:
    """Stream rows of Parquet parts, or of the Arrow streams of a dataset."""
    for batch in shards.read_batches(folder):
        yield from batch.to_pylist()
    if folder.is_local:
        root = Path(folder.path())
        for file in sorted(root.glob("*.arrow")) + sorted(root.glob("t*/*.arrow")):
            with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
                for batch in reader:
                    yield from batch.slice(0, 100).to_pylist()
