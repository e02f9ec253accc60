"""Sections that the cards of models and subsets share: the rows and the lineage."""

from typing import Any

from data.artefacts.manifest import Manifest
from training.publish.lineage import Lineage
from training.publish.markdown import code, plain, table


def data(lineage: Lineage) -> list[str]:
    """Say where the rows came from, by which rules, and where the others went."""
    sections = []
    if clean := lineage.stages.get("clean"):
        files = ", ".join(code(file.path.replace("\\", "/").rpartition("/")[2])
                          for file in clean.inputs[:5])  # fmt: skip
        rules = {name: value for name, value in clean.config.get("rules", {}).items()
                 if value not in (None, False, "", [])}  # fmt: skip
        sections += [f"Cleaned from {files}. Rules: {listed(rules)}.", _funnel(clean)]
    if subset := lineage.stages.get("subset"):
        rows = ", ".join(f"{count:,} {split}" for split, count in subset.facts["rows"].items())
        sections += [f"Rows of the subset: {rows}.", _funnel(subset)]
    missing = [stage for stage in ("clean", "subset") if stage not in lineage.stages]
    if missing:
        sections.append(f"Not recorded where this card was made: {', '.join(missing)}.")
    return sections


def _funnel(record: Manifest) -> str:
    counts = record.counts
    gone = counts.dropped | {f"quarantined: {name}": n for name, n in counts.quarantined.items()}
    rows = [("read", counts.read), *((name, -count) for name, count in gone.items()),
            ("kept", counts.kept)]  # fmt: skip
    return table([record.stage, "rows"], [[plain(name), f"{count:,}"] for name, count in rows])


def listed(values: dict[str, Any]) -> str:
    """Write settings in a line."""
    return ", ".join(f"{plain(name)} {code(value)}" for name, value in values.items()) or "none"


def digests(lineage: Lineage) -> str:
    """Write a table of the stages with their digests."""
    return table(
        ["stage", "digest"], [[stage, code(digest)] for stage, digest in lineage.digests()]
    )
