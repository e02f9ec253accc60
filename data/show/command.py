"""The driver of ``show``: any artefact for a person, what is asked most first.

Reads artefacts by their files alone, not by the code that wrote them; writes nothing but the
picture.
"""

import math
import os
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data import charts, console
from data.artefacts import manifest, schema
from data.artefacts.dataset import Subset
from data.artefacts.folder import QUARANTINE, Folder
from data.artefacts.manifest import Manifest, Parent
from data.artefacts.parts import read_batches
from data.cli import extras
from data.errors import ConfigError
from data.show import headline
from data.sources.location import Location, locate

_HIDDEN_CONFIG = {"overwrite"}
_BEGINNING = 80
"""Bytes of a quarantined line that are listed."""
_ROWS_AT_ONCE = 100
_FAMILIES, _FAMILY_TITLES = 3, 4
_LENGTHS = "content_lengths"
"""The fact that says how long the texts were, read and kept: drawn, not printed."""
_TEXT_OF = {"clean": "content", "subset": "content", "generate": "description"}
"""Artefacts of rows, and the column whose lengths are drawn."""


@dataclass(frozen=True)
class ShowConfig:
    """Show what a folder holds: rows, drops, loss, verdict and speed, then everything else."""

    path: str = "data/store/clean"
    """Folder of any artefact, or a file in it: clean, subset, plan, tune, run, curve, export,
    generated or report."""

    rows: int = 3
    """Rows to show."""

    quarantined: int | Literal["all"] = 10
    """Quarantined lines to list."""

    plot: str | None = None
    """PNG to draw the lengths and the funnel into; none: show.png in a local folder of rows."""

    def __post_init__(self) -> None:
        for name in ("rows", "quarantined"):
            value = getattr(self, name)
            if value != "all" and value < 0:
                raise ConfigError(f"--{name}", "0 or more", str(value))
        if self.plot and os.path.isdir(self.plot):
            raise ConfigError("--plot", "a file name", f"the folder {self.plot}")


def run(config: ShowConfig) -> Manifest:
    """Print an artefact's manifest and first rows.

    Raises:
        ManifestError: the folder holds no finished artefact.
    """
    # A report or a plan may be named itself.
    path = os.path.dirname(config.path) if os.path.isfile(config.path) else config.path
    config = replace(config, path=path or ".")
    folder = Folder(config.path)
    record = manifest.read(folder)
    _lead(folder, record)
    if record.counts.dropped or record.counts.quarantined or record.stage in ("clean", "subset"):
        console.say("\n" + manifest.funnel(record))
    _section("Largest families of train rows", _largest_families(folder, record))
    _section("First rows", _first_rows(folder, record, config.rows))
    _section("Quarantined lines", _quarantined(folder, record, config.quarantined))
    settings = manifest.flatten(record.config)
    _section("Settings", [
        f"{name}: {value}" for name, value in settings.items()
        if value not in (None, "", []) and name not in _HIDDEN_CONFIG
    ])  # fmt: skip
    facts = {name: value for name, value in record.facts.items() if name != _LENGTHS}
    _section("Facts", _pairs(manifest.flatten(facts)))
    _section("Lineage", [*_lineage(record), f"digest {record.digest}"])
    _section("Versions", [", ".join(f"{name} {v}" for name, v in record.versions.items())])
    _draw(config, folder, record)
    return record


def _lead(folder: Folder, record: Manifest) -> None:
    """Print what a person asks first."""
    size, files = sum(output.bytes for output in record.outputs), len(record.outputs)
    plural = "s" if files != 1 else ""
    console.say(f"{folder.url}: {record.stage}, {files:,} file{plural}, {_bytes(size)}\n")
    for name, text, colour in headline.of(record, folder):
        console.item(f"{name:<9} ", text, colour)


def _section(title: str, lines: Iterable[str]) -> None:
    lines = iter(lines)
    for first in lines:
        console.say()
        console.say(console.painted(title, "bold"), is_safe=True)
        for line in chain([first], lines):
            text = line.lstrip(" ")
            console.item("  " + " " * (len(line) - len(text)), text)


def _bytes(size: int) -> str:
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = min(int(math.log2(max(size, 1)) // 10), len(units) - 1)
    return f"{size:,} bytes" if power == 0 else f"{size / 1024**power:,.1f} {units[power]}"


def _pairs(values: dict[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
        if value is not None:
            yield f"{name}: {textwrap.shorten(str(text), 160)}"


def _lineage(record: Manifest) -> list[str]:
    """Draw what was made from what, this artefact first."""
    lines: list[str] = []

    def walk(parent: Parent, depth: int) -> None:
        lines.append(f"{'  ' * depth}from {parent.stage} {parent.digest[:12]}  {parent.path}")
        for older in parent.made_from:
            walk(older, depth + 1)

    for parent in record.made_from:
        walk(parent, 0)
    if not record.made_from:
        for source in record.inputs:
            size = f"{source.rows:,} lines, {_bytes(source.bytes)}"
            lines.append(f"from {source.path}  {size}, digest {source.digest}")
    return lines


def _quarantined(folder: Folder, record: Manifest, most: int | Literal["all"]) -> Iterator[str]:
    """List quarantined lines by reason, then one by one, then how to see more of them."""
    total = sum(record.counts.quarantined.values())
    if not total:
        return
    by_reason = sorted(record.counts.quarantined.items(), key=lambda item: -item[1])
    yield ", ".join(f"{count:,} {reason}" for reason, count in by_reason)
    listed = total if most == "all" else min(most, total)
    first: dict[str, Any] = {}
    broken = [part for part in record.outputs if part.path.startswith(f"{QUARANTINE}/")]
    rows = (row for batch in read_batches(folder, listed=broken) for row in batch.to_pylist())
    for row in islice(rows, listed):
        place = _locate(record, row).place if "source" in row else ""
        first = first or row
        where = f"{row['source']} {place} " if place else ""
        text = row.get("line") or row.get("title") or ""
        yield f"{where}{row['reason']}: {_beginning(text)}"
    if listed < total:
        yield f"… and {total - listed:,} more: --quarantined all lists them"
    if "source" in first and (command := _locate(record, first).command):
        yield f"the first as it stands: {command}"


def _locate(record: Manifest, row: dict[str, Any]) -> Location:
    return locate(record, row["source"], row["byte_offset"], row["line"])


def _largest_families(folder: Folder, record: Manifest) -> Iterator[str]:
    """List the titles of the largest families of a subset, each once."""
    if "families" not in record.facts:  # no subset, or an earlier version's
        return
    rows = Subset.open(folder.url).rows("train", ["title", "family"])
    _, first, places, sizes = np.unique(
        rows.column("family").to_numpy(), return_index=True, return_inverse=True,
        return_counts=True,
    )  # fmt: skip
    for family in np.lexsort((first, -sizes))[:_FAMILIES]:
        if sizes[family] > 1:
            titles = rows.column("title").take(np.flatnonzero(places == family))
            listed = "; ".join(islice(dict.fromkeys(titles.to_pylist()), _FAMILY_TITLES))
            yield f"{sizes[family]:,} rows: {textwrap.shorten(listed, 240, placeholder=' …')}"


def _beginning(text: bytes | str) -> str:
    return repr(text) if len(text) <= _BEGINNING else f"{text[:_BEGINNING]!r} …"


def _first_rows(folder: Folder, record: Manifest, rows: int) -> list[str]:
    lines: list[str] = []
    every = (
        row
        for batch in _batches(folder, record)
        for start in range(0, batch.num_rows, _ROWS_AT_ONCE)
        for row in batch.slice(start, _ROWS_AT_ONCE).to_pylist()
    )
    for number, row in enumerate(islice(every, rows), 1):
        lines.append(f"row {number}")
        for name, value in row.items():
            value = ", ".join(map(str, value)) or "none" if isinstance(value, list) else value
            lines.append(f"  {name}: {textwrap.shorten(str(value), 240, placeholder=' …')}")
    return lines


def _batches(
    folder: Folder, record: Manifest, columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Stream the rows of Parquet parts, or of a subset."""
    if record.stage == "subset":
        subset = Subset.open(folder.url)
        for split in schema.SPLITS:
            yield from subset.batches(split)
    else:
        yield from read_batches(folder, columns, listed=record.parts)


def _draw(config: ShowConfig, folder: Folder, record: Manifest) -> None:
    """Draw the funnel and the lengths into a PNG, or say in a line why not."""
    if record.stage not in _TEXT_OF:
        return
    if not charts.available():
        console.say(f"\nno picture: it needs matplotlib; {extras.command(['matplotlib'])}")
        return
    if config.plot is None and not folder.is_local:
        console.say("\nno picture in a remote folder: name a file with --plot")
        return
    read, kept = record.counts.read, record.counts.kept
    title = f"{config.path}: {read:,} read, {kept:,} kept" + (
        f" ({kept / read:.1%})" if read else ""
    )
    figure = charts.draw(title, _funnel(record), lengths_of(folder, record))
    path = config.plot or folder.path("show.png")
    directory, name = os.path.split(path)
    try:
        Folder(directory or ".").commit(name, charts.picture(figure))
    except OSError as error:
        if config.plot:
            raise
        console.say(f"\nno picture in {path} ({error.strerror}): name another file with --plot")
        return
    console.say(f"\npicture: {path}")


def _funnel(record: Manifest) -> list[tuple[str, int]]:
    """Return what was read, what was taken from it, most first, and what was kept."""
    counts = record.counts
    losses = [(f"quarantined: {reason}", count) for reason, count in counts.quarantined.items()]
    losses += [(f"dropped: {reason}", count) for reason, count in counts.dropped.items()]
    losses.sort(key=lambda item: -item[1])
    return [("read", counts.read), *losses, ("kept", counts.kept)]


def lengths_of(folder: Folder, record: Manifest) -> charts.Lengths | None:
    """Return the lengths that the manifest holds, or else count those of the rows."""
    rules = record.config.get("rules", {})
    low, high = rules.get("content_min"), rules.get("content_max")
    if counts := record.facts.get(_LENGTHS):
        return charts.Lengths(counts["edges"], counts["kept"], counts["read"], low, high)
    column = _TEXT_OF[record.stage]
    batches = _batches(folder, record, [column])
    counted = [pc.utf8_length(batch.column(column)).to_numpy() for batch in batches]
    lengths = np.concatenate(counted) if counted else np.array([], dtype=np.int64)
    if not len(lengths):
        return None
    return replace(charts.bins(lengths, "description"), low=low, high=high)
