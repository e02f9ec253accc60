"""A report's figures as tables of a card, and as the results that the hub shows."""

from typing import Any

from training.publish.lineage import Report
from training.publish.markdown import plain, table

_SHOWN = ("perplexity", "rougeL", "chrf", "bleu", "title_words", "title_numbers", "unsupported",
          "inventing", "repetition", "repeating", "ended", "copied", "recited")  # fmt: skip
_KINDS = ("adapter", "base", "nearest", "title", "reference")
_OUTCOMES = {"met": "met", "missed": "**not met**", "too_few": "too few rows to tell",
             "not_judged": "not judged", "not_measured": "not measured"}  # fmt: skip


def shown(value: float | None, digits: int, unit: str = "") -> str:
    """Write a figure as the report's page does."""
    return "" if value is None else f"{value:,.{digits}f}{unit}"


def metrics(report: Report) -> str:
    """Write a table of the figures of the run, its base and the baselines, on unseen rows."""
    values = report.values
    scores = values["sides"]["unseen"]["scores"]
    systems = [
        system
        for kind in _KINDS
        for system in values["candidates"]
        if system["kind"] == kind
        and system["key"] in scores
        and (kind != "adapter" or system["key"] == report.key)
    ]
    rows = []
    for metric in values["metrics"]:
        if metric["key"] not in _SHOWN or metric["key"] not in scores[report.key]:
            continue
        cells = [_cell(scores[system["key"]].get(metric["key"]), metric) for system in systems]
        rows.append([f"{plain(metric['label'])} ({plain(metric['about'])})", *cells])
    return table(["", *(plain(system["label"]) for system in systems)], rows)


def _cell(score: dict[str, Any] | None, metric: dict[str, Any]) -> str:
    if score is None or score["value"] is None:
        return ""
    digits, unit = metric["digits"], metric["unit"]
    value = shown(score["value"], digits, f" {unit}" if unit else "")
    if score["low"] is None or score["high"] is None:
        return value
    return f"{value} ({shown(score['low'], digits)} to {shown(score['high'], digits)})"


def verdict(report: Report) -> str:
    """Write a table of what was asked of the run and what was measured."""
    rows = [
        [plain(line["question"]), _OUTCOMES[line["outcome"]], plain(line["told"])]
        for line in report.verdict["lines"]
    ]
    return table(["asked", "", "measured"], rows)


def results(report: Report) -> list[dict[str, Any]]:
    """List the run's figures on unseen rows, for the hub: metric, name and the exact value."""
    scores = report.values["sides"]["unseen"]["scores"][report.key]
    labels = {metric["key"]: metric["label"] for metric in report.values["metrics"]}
    return [
        {"type": key, "name": labels[key], "value": scores[key]["value"]}
        for key in _SHOWN
        if key in scores and scores[key]["value"] is not None
    ]
