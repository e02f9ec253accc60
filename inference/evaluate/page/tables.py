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
            rows.append((_heading(metric), [cell(score, metric, own["rows"]) for score in cells]))
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
        if any(own and own["value"] is not None for own in cells):
            rows.append((text(metric["label"]), [difference(own, metric) for own in cells]))
    if not rows:
        return ""
    head = ["Metric", *(f"{labels[pair['one']]} − {labels[pair['other']]}" for pair in pairs)]
    name = f"Paired differences, {SIDES[side].lower()}"
    return f"<h3>{SIDES[side]}</h3>{table(name, head, rows)}"


def difference(estimate: dict[str, Any] | None, metric: dict[str, Any]) -> Cell:
    """Lay out a difference, coloured where its interval leaves 0 out."""
    plain = cell(estimate, metric, sign="+")
    return Cell(plain.inside, verdict_of(estimate, metric) or plain.kind)


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


def cell(
    score: dict[str, Any] | None, metric: dict[str, Any], rows: int = 0, sign: str = ""
) -> Cell:
    """Lay out a score, and of how many rows it is where those are fewer than ``rows``."""
    if not score:
        return Cell("–", "empty")
    if score["value"] is None:
        return Cell(f"–<small>no {text(metric['needs'].removeprefix('a '))}</small>", "empty")
    some = f"<small>of {score['rows']:,} rows</small>" if score.get("rows", rows) < rows else ""
    interval = span(score, metric, sign) or "no interval"
    return Cell(f"{number(score['value'], metric, sign)}<small>{interval}</small>{some}")
