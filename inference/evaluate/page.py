"""The report as one page: verdict first, then figures, pictures, lineage and an explorer of rows.

Pure: plain values in, HTML out. Everything is inside the page: it opens offline, and its few lines
of script only search, sort and turn pages.
"""

import html
import importlib.resources
import json
from string import Template
from typing import Any

import numpy as np

from inference.evaluate import charts
from inference.evaluate.charts import Series

_GROUPS = {
    "learned": "Has it learned?",
    "recites": "Does it recite?",
    "faithful": "Is it true to the title?",
}
_SIDES = {"unseen": "Unseen titles", "seen": "Trained titles"}
_MARKS = {True: ("met", "✓"), False: ("missed", "✕"), None: ("none", "–")}
_SHADES = {"adapter": "adapter", "generated": "adapter", "base": "base", "reference": "reference"}


def build(told: dict[str, Any], shown_rows: int) -> str:
    """Build the page.

    Args:
        told: the report, as ``report.json`` holds it.
        shown_rows: rows a side in the explorer.
    """
    template = (
        importlib.resources.files("inference.evaluate").joinpath("report.html").read_text("utf-8")
    )
    sections = {
        "title": _text(", ".join(each["label"] for each in told["verdicts"]) or "Evaluation"),
        "verdicts": "".join(_verdict(each) for each in told["verdicts"]),
        "sides": "".join(_scores(told, name) for name in told["sides"]),
        "differences": "".join(_differences(told, name) for name in told["sides"]),
        "charts": _charts(told),
        "provenance": _provenance(told),
        "methods": _methods(told),
        "data": _data(told, shown_rows),
    }
    return Template(template).substitute(sections)


def _text(value: Any) -> str:
    return html.escape(str(value))


def _verdict(verdict: dict[str, Any]) -> str:
    state = "good" if verdict["passed"] else "bad"
    if verdict["passed"] and not any(line["passed"] for line in verdict["lines"]):
        state = "open"
    groups = []
    for key, name in _GROUPS.items():
        lines = [line for line in verdict["lines"] if line["group"] == key]
        items = "".join(_line(line) for line in lines)
        groups.append(f'<div class="group"><h3>{name}</h3><ul>{items}</ul></div>')
    missed = sum(line["passed"] is False for line in verdict["lines"])
    asked = sum(line["passed"] is not None for line in verdict["lines"])
    return (
        f'<section class="verdict {state}"><p class="who">{_text(verdict["label"])}</p>'
        f"<h1>{_text(verdict['headline'])}</h1>"
        f'<p class="count">{asked - missed} of {asked} thresholds met</p>'
        f'<div class="groups">{"".join(groups)}</div></section>'
    )


def _line(line: dict[str, Any]) -> str:
    name, mark = _MARKS[line["passed"]]
    told, _, asked = line["told"].partition("; ")
    limit = f'<span class="asked">{_text(asked)}</span>' if asked else ""
    return (
        f'<li class="{name}"><i aria-label="{name}">{mark}</i><div>{_text(line["question"])}'
        f'<span class="told">{_text(told)}</span>{limit}</div></li>'
    )


def _scores(told: dict[str, Any], side: str) -> str:
    """Lay out the scores of one side: a metric a row, a candidate a column, intervals below."""
    own = told["sides"][side]
    columns = told["candidates"]
    head = "".join(f'<th scope="col">{_text(each["label"])}</th>' for each in columns)
    body = []
    for metric in told["metrics"]:
        cells = [own["scores"][each["key"]].get(metric["key"]) for each in columns]
        if any(cells):
            shown = "".join(_cell(cell, metric, rows=own["rows"]) for cell in cells)
            body.append(f"<tr>{_heading(metric)}{shown}</tr>")
    left = "".join(f", {count:,} left out ({reason})" for reason, count in own["left_out"].items())
    return (
        f"<section><h2>{_SIDES[side]} <small>{own['rows']:,} rows{_text(left)}</small></h2>"
        f'<div class="scroll"><table><thead><tr><th scope="col">Metric</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div></section>"
    )


def _heading(metric: dict[str, Any]) -> str:
    arrow = {"higher": "↑", "lower": "↓", "": ""}[metric["better"]]
    hint = {"higher": "higher is better", "lower": "lower is better", "": "no better or worse"}
    about = f"{metric['about']}; {hint[metric['better']]}"
    return (
        f'<th scope="row" title="{_text(about)}">{_text(metric["label"])} '
        f'<span class="arrow">{arrow}</span><small>{_text(metric["about"])}</small></th>'
    )


def _cell(
    cell: dict[str, Any] | None, metric: dict[str, Any], sign: str = "", rows: int = 0
) -> str:
    """Lay out a score; where it is of fewer than so many rows, or of none, that is said."""
    if not cell:
        return '<td class="empty">–</td>'
    if cell["value"] is None:
        return f'<td class="empty">–<small>no {_text(_bare(metric["needs"]))}</small></td>'
    form = f"{{:{sign},.{metric['digits']}f}}"
    value = form.format(cell["value"]) + metric["unit"]
    some = f"<small>of {cell['rows']:,} rows</small>" if cell.get("rows", rows) < rows else ""
    if cell["low"] is None:
        return f"<td>{value}<small>no interval</small>{some}</td>"
    low, high = form.format(cell["low"]), form.format(cell["high"])
    return f"<td>{value}<small>{low} to {high}</small>{some}</td>"


def _bare(need: str) -> str:
    return need.removeprefix("a ")


def _differences(told: dict[str, Any], side: str) -> str:
    """Lay out paired differences; those whose interval leaves 0 out are set off."""
    labels = {each["key"]: each["label"] for each in told["candidates"]}
    pairs = told["sides"][side]["differences"]
    if not pairs:
        return ""
    head = "".join(
        f'<th scope="col">{_text(labels[p["one"]])} − {_text(labels[p["other"]])}</th>'
        for p in pairs
    )
    body = []
    for metric in told["metrics"]:
        cells = [pair["scores"].get(metric["key"]) for pair in pairs]
        if any(cell and cell["value"] is not None for cell in cells):
            shown = "".join(_tinted(cell, metric) for cell in cells)
            body.append(f'<tr><th scope="row">{_text(metric["label"])}</th>{shown}</tr>')
    return (
        f'<h3>{_SIDES[side]}</h3><div class="scroll"><table><thead><tr><th scope="col">Metric</th>'
        f"{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _tinted(cell: dict[str, Any] | None, metric: dict[str, Any]) -> str:
    made = _cell(cell, metric, "+")
    if not cell or cell["low"] is None or not metric["better"]:
        return made
    if cell["low"] <= 0 <= cell["high"]:
        return made
    better = (cell["value"] > 0) == (metric["better"] == "higher")
    return made.replace("<td>", f'<td class="{"better" if better else "worse"}">', 1)


def _charts(told: dict[str, Any]) -> str:
    made = [_loss(each) for each in told["runs"]]
    kinds = {each["key"]: each for each in told["candidates"] if each["kind"] in _SHADES}
    for side in told["sides"]:
        rows = [row for row in told["rows"] if row["side"] == side]
        for name, drawn in (
            ("lengths", _lengths(told, side, kinds)),
            ("spans", _spans(rows, kinds)),
        ):
            if drawn:
                title = "Length of the texts" if name == "lengths" else "Longest copied span"
                made.append(f"<figure><figcaption>{title}<small>{_SIDES[side].lower()}</small>"
                            f"</figcaption>{drawn}</figure>")  # fmt: skip
    return "".join(made)


def _loss(run: dict[str, Any]) -> str:
    caption = f"<figcaption>Loss<small>{_text(run['name'])}</small></figcaption>"
    if run["no_curve"]:
        return f'<figure>{caption}<p class="missing">{_text(run["no_curve"])}</p></figure>'
    series = []
    for label, key, shade in (
        ("training", "loss", "adapter"), ("validation", "validation_loss", "base"),
    ):  # fmt: skip
        points = np.array(run[key], dtype=np.float64).reshape(-1, 2)
        series.append(Series(label, shade, points[:, 0], points[:, 1]))
    drawn = charts.lines(series, "step", "nats a token", f"Loss of {run['name']}")
    return f"<figure>{caption}{drawn}</figure>"


def _lengths(told: dict[str, Any], side: str, kinds: dict[str, Any]) -> str:
    lengths = told["sides"][side]["lengths"]
    values = [
        (each["label"], _SHADES[each["kind"]], np.array(lengths[key], dtype=np.float64))
        for key, each in kinds.items()
        if lengths.get(key)
    ]
    return charts.histogram(values, "characters", f"Length of the texts, {side}")


def _spans(rows: list[dict[str, Any]], kinds: dict[str, Any]) -> str:
    values = []
    for key, each in kinds.items():
        own = (row["texts"].get(key, {}).get("scores", {}).get("longest") for row in rows)
        numbers = np.array([value for value in own if value is not None], dtype=np.float64)
        values.append((each["label"], _SHADES[each["kind"]], numbers))
    return charts.histogram(values, "characters that also stand in a training text", "Copied spans")


def _provenance(told: dict[str, Any]) -> str:
    funnel = told["funnel"]
    bars = []
    for stage in funnel["stages"]:
        bars.append((f"{stage['stage']}: read", stage["read"], "reference"))
        bars += [(f"− {reason}", count, "base") for reason, count in stage["gone"].items()]
        bars.append((f"{stage['stage']}: kept", stage["kept"], "adapter"))
    missing = f'<p class="missing">{_text(funnel["missing"])}</p>' if funnel["missing"] else ""
    steps = "".join(
        f'<li style="--depth:{each["depth"]}"><b>{_text(each["stage"])}</b> '
        f"<span>{_text(each['path'])}</span> <code>{_text(each['digest'][:12])}</code></li>"
        for each in told["lineage"]
    )
    return (
        f"<div><h3>Where the rows went</h3>{charts.funnel(bars)}{missing}</div>"
        f'<div><h3>What was made from what</h3><ul class="lineage">{steps}</ul></div>'
    )


def _methods(told: dict[str, Any]) -> str:
    own = told["settings"]
    signs = "".join(f"<li><code>{_text(each)}</code></li>" for each in own["signatures"].values())
    return (
        f"<p>Intervals: 95 %, {own['resamples']:,} bootstrap resamples of the rows, seed "
        f"{own['seed']}, the same for every candidate, so that differences are paired. "
        f"A span is copied from {own['copied_span']} characters on; a text is recited where it is "
        f"at least {own['recited_alike']:.0%} alike to a training text. Perplexity is weighted by "
        f"tokens, the end of the text included. Where all rows agree, so do all resamples: an "
        f"interval without width says little. ROUGE is rouge-score's F1 without stemming, over "
        f"words of letters and digits of any script, and single characters where a script puts no "
        f"spaces between words; other measures count these apart as well. A row that lacks what "
        f"a measure needs is not counted by it, and the score says of how many rows it is.</p>"
        f"<ul>{signs}</ul>"
    )


def _data(told: dict[str, Any], shown_rows: int) -> str:
    """Give the rows of the explorer as JSON that cannot end its own script element."""
    shown: list[dict[str, Any]] = []
    for side in told["sides"]:
        shown += [row for row in told["rows"] if row["side"] == side][:shown_rows]
    value = {
        "rows": shown,
        "sides": {name: [_SIDES[name], each["rows"]] for name, each in told["sides"].items()},
        "metrics": told["metrics"],
        "candidates": [each for each in told["candidates"] if each["kind"] != "title"],
    }
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
