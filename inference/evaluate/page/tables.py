"""The report's tables: scores and paired differences of all metrics. Pure."""

from typing import Any

from inference.evaluate.page.markup import Cell, number, span, table, text

SIDES = {"unseen": "Unseen titles", "seen": "Trained titles"}
_ARROWS = {
    "higher": (" ↑", "higher is better"),
    "lower": (" ↓", "lower is better"),
    "": ("", "no better or worse"),
}


def scores(report: dict[str, Any], side: str) -> str:
    """Lay out the scores of one side: a metric a row, a system a column, intervals below."""
    own, systems = report["sides"][side], report["candidates"]
    rows = []
    for metric in report["metrics"]:
        cells = [own["scores"][system["key"]].get(metric["key"]) for system in systems]
        if any(cells):
            rows.append((_heading(metric), [_cell(cell, metric, own["rows"]) for cell in cells]))
    left = "".join(f", {count:,} left out ({reason})" for reason, count in own["left_out"].items())
    head = ["Metric", *(system["label"] for system in systems)]
    name = f"Scores, {SIDES[side].lower()}"
    about = f"{own['rows']:,} rows{left}"
    return f"<h3>{SIDES[side]} <small>{text(about)}</small></h3>{table(name, head, rows)}"


def differences(report: dict[str, Any], side: str) -> str:
    """Lay out paired differences; those whose interval leaves 0 out are coloured."""
    labels = {system["key"]: system["label"] for system in report["candidates"]}
    pairs = report["sides"][side]["differences"]
    rows = []
    for metric in report["metrics"]:
        cells = [pair["scores"].get(metric["key"]) for pair in pairs]
        if any(cell and cell["value"] is not None for cell in cells):
            coloured = [
                Cell(_cell(cell, metric, sign="+").inside, verdict_of(cell, metric))
                for cell in cells
            ]
            rows.append((text(metric["label"]), coloured))
    if not rows:
        return ""
    head = ["Metric", *(f"{labels[pair['one']]} − {labels[pair['other']]}" for pair in pairs)]
    name = f"Paired differences, {SIDES[side].lower()}"
    return f"<h3>{SIDES[side]}</h3>{table(name, head, rows)}"


def verdict_of(difference: dict[str, Any] | None, metric: dict[str, Any]) -> str:
    """Return ``better`` or ``worse`` where an interval leaves 0 out and a metric knows which is."""
    if not difference or difference["low"] is None or not metric["better"]:
        return ""
    if difference["low"] <= 0 <= difference["high"]:
        return ""
    return "better" if (difference["value"] > 0) == (metric["better"] == "higher") else "worse"


def _heading(metric: dict[str, Any]) -> str:
    arrow, direction = _ARROWS[metric["better"]]
    mark = f'<span aria-hidden="true">{arrow}</span><span class="unseen">{direction}</span>'
    return f"{text(metric['label'])}{mark}<small>{text(metric['about'])}</small>"


def _cell(
    cell: dict[str, Any] | None, metric: dict[str, Any], rows: int = 0, sign: str = ""
) -> Cell:
    """Lay out a score, and of how many rows it is where those are fewer than ``rows``."""
    if not cell:
        return Cell("–", "empty")
    if cell["value"] is None:
        return Cell(f"–<small>no {text(metric['needs'].removeprefix('a '))}</small>", "empty")
    some = f"<small>of {cell['rows']:,} rows</small>" if cell.get("rows", rows) < rows else ""
    interval = span(cell, metric, sign) or "no interval"
    return Cell(f"{number(cell['value'], metric, sign)}<small>{interval}</small>{some}")
