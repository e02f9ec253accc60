"""The report as one page: verdict first, then figures, charts, lineage and an explorer of rows.

Pure: plain values in, HTML out. Everything is inside the page: it opens offline, and its few lines
of script only search, sort and turn pages.
"""

import html
import json
from collections import Counter
from pathlib import Path
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
_MARKS = {"met": ("met", "✓"), "missed": ("missed", "✕"), "too_few": ("too few rows", "?")}
_SLICES = {
    "length": "Length of the title", "number": "Numbers in the title",
    "letters": "Letters of the title", "twin": "Near twins",
}  # fmt: skip
_SLICED = ("rougeL", "title_words", "repeating")
_SHADES = {"adapter": "adapter", "generated": "adapter", "base": "base", "reference": "reference"}
_ARROWS = {
    "higher": ("↑", "higher is better"),
    "lower": ("↓", "lower is better"),
    "": ("", "no better or worse"),
}


def build(report: dict[str, Any], shown_rows: int) -> str:
    """Build the page of a report, with so many rows a side in the explorer."""
    template = Path(__file__).with_name("report.html").read_text("utf-8")
    verdicts, settings = report["verdicts"], report["settings"]
    signatures = settings["signatures"].values()
    sections = {
        "title": _text(", ".join(verdict["label"] for verdict in verdicts) or "Evaluation"),
        "verdicts": "".join(_verdict(verdict) for verdict in verdicts),
        "sides": "".join(_scores(report, name) for name in report["sides"]),
        "slices": "".join(_slices(report, name) for name in report["sides"]),
        "differences": "".join(_differences(report, name) for name in report["sides"]),
        "charts": _charts(report),
        "provenance": _provenance(report),
        "decoding": "".join(
            f"<li>{_text(path)}: <code>{_text(_flags(how))}</code></li>"
            for path, how in settings["decoding"].items()
        ),
        "resamples": f"{settings['resamples']:,}",
        "seed": settings["seed"],
        "repeats": f"{settings['repeats']:.0%}",
        "copied_span": settings["copied_span"],
        "recited_alike": f"{settings['recited_alike']:.0%}",
        "signatures": "".join(f"<li><code>{_text(line)}</code></li>" for line in signatures),
        "data": _data(report, shown_rows),
    }
    return Template(template).substitute(sections)


def _text(value: Any) -> str:
    return html.escape(str(value))


def _flags(how: dict[str, Any]) -> str:
    """Write settings as the flags of ``inference generate``; what is not set has none."""
    return " ".join(f"--{name}={value:g}" for name, value in how.items() if value is not None)


def _verdict(verdict: dict[str, Any]) -> str:
    lines = verdict["lines"]
    counts = Counter(line["outcome"] for line in lines)
    met, missed, few = counts["met"], counts["missed"], counts["too_few"]
    state = "bad" if missed else "open" if few or not met else "good"
    unsure = f", {few} with too few rows to tell" if few else ""
    groups = ""
    for key, name in _GROUPS.items():
        items = "".join(_line(line) for line in lines if line["group"] == key)
        groups += f'<div class="group"><h3>{name}</h3><ul>{items}</ul></div>'
    return (
        f'<section class="verdict {state}"><p class="who">{_text(verdict["label"])}</p>'
        f"<h1>{_text(verdict['headline'])}</h1>"
        f'<p class="count">{met} of {met + missed + few} thresholds surely met{unsure}</p>'
        f'<div class="groups">{groups}</div></section>'
    )


def _line(line: dict[str, Any]) -> str:
    name, mark = _MARKS.get(line["outcome"], ("not judged", "–"))
    figures, _, limit = (_text(part) for part in line["told"].partition("; "))
    return (
        f'<li class="{line["outcome"]}"><i aria-label="{name}">{mark}</i>'
        f'<div>{_text(line["claim"])}<span class="told">{figures}</span>'
        + (f'<span class="asked">{limit}</span>' if limit else "")
        + "</div></li>"
    )


def _table(head: list[str], body: list[str], first: str = "Metric") -> str:
    columns = "".join(f'<th scope="col">{_text(name)}</th>' for name in head)
    return (
        f'<div class="scroll"><table><thead><tr><th scope="col">{first}</th>{columns}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _scores(report: dict[str, Any], side: str) -> str:
    """Lay out the scores of one side: a metric a row, a system a column, intervals below."""
    own, columns = report["sides"][side], report["candidates"]
    body = []
    for metric in report["metrics"]:
        cells = [own["scores"][system["key"]].get(metric["key"]) for system in columns]
        if any(cells):
            scores = "".join(_cell(cell, metric, rows=own["rows"]) for cell in cells)
            body.append(f"<tr>{_heading(metric)}{scores}</tr>")
    left = "".join(f", {count:,} left out ({reason})" for reason, count in own["left_out"].items())
    return (
        f"<section><h2>{_SIDES[side]} <small>{own['rows']:,} rows{_text(left)}</small></h2>"
        f"{_table([system['label'] for system in columns], body)}</section>"
    )


def _slices(report: dict[str, Any], side: str) -> str:
    """Lay out the judged systems' scores by kind of title, and the nearest row's beside them."""
    slices = report["sides"][side]["slices"]
    by_key = {metric["key"]: metric for metric in report["metrics"]}
    judged = {verdict["candidate"] for verdict in report["verdicts"]}
    columns = [
        (system, by_key[name])
        for system in report["candidates"]
        if system["key"] in judged or system["kind"] == "nearest"
        for name in (_SLICED if system["key"] in judged else _SLICED[:1])
    ]
    if not slices:
        return ""
    body = []
    for part in slices:
        cells = "".join(
            _cell(part["scores"].get(system["key"], {}).get(metric["key"]), metric)
            for system, metric in columns
        )
        about = f"{_SLICES[part['kind']]}<small>{_text(part['name'])}</small>"
        body.append(f'<tr><th scope="row">{about}</th><td>{part["rows"]:,}</td>{cells}</tr>')
    head = ["Rows", *(f"{metric['label']}, {system['label']}" for system, metric in columns)]
    return f"<h3>{_SIDES[side]}</h3>{_table(head, body, 'Titles')}"


def _heading(metric: dict[str, Any]) -> str:
    arrow, direction = _ARROWS[metric["better"]]
    about = _text(metric["about"])
    return (
        f'<th scope="row" title="{about}; {direction}">{_text(metric["label"])} '
        f'<span class="arrow">{arrow}</span><small>{about}</small></th>'
    )


def _cell(
    cell: dict[str, Any] | None, metric: dict[str, Any], sign: str = "", rows: int = 0
) -> str:
    """Lay out a score, and of how many rows it is where those are fewer than ``rows``."""
    if not cell:
        return '<td class="empty">–</td>'
    if cell["value"] is None:
        return (
            f'<td class="empty">–<small>no {_text(metric["needs"].removeprefix("a "))}</small></td>'
        )
    form = f"{{:{sign},.{metric['digits']}f}}"
    value = form.format(cell["value"]) + metric["unit"]
    some = f"<small>of {cell['rows']:,} rows</small>" if cell.get("rows", rows) < rows else ""
    if cell["low"] is None:
        return f"<td>{value}<small>no interval</small>{some}</td>"
    low, high = form.format(cell["low"]), form.format(cell["high"])
    return f"<td>{value}<small>{low} to {high}</small>{some}</td>"


def _differences(report: dict[str, Any], side: str) -> str:
    """Lay out paired differences; those whose interval leaves 0 out are coloured."""
    labels = {system["key"]: system["label"] for system in report["candidates"]}
    pairs = report["sides"][side]["differences"]
    if not pairs:
        return ""
    body = []
    for metric in report["metrics"]:
        cells = [pair["scores"].get(metric["key"]) for pair in pairs]
        if any(cell and cell["value"] is not None for cell in cells):
            coloured = "".join(_coloured(cell, metric) for cell in cells)
            body.append(f'<tr><th scope="row">{_text(metric["label"])}</th>{coloured}</tr>')
    head = [f"{labels[pair['one']]} − {labels[pair['other']]}" for pair in pairs]
    return f"<h3>{_SIDES[side]}</h3>{_table(head, body)}"


def _coloured(cell: dict[str, Any] | None, metric: dict[str, Any]) -> str:
    plain = _cell(cell, metric, "+")
    if not cell or cell["low"] is None or not metric["better"]:
        return plain
    if cell["low"] <= 0 <= cell["high"]:
        return plain
    better = (cell["value"] > 0) == (metric["better"] == "higher")
    return plain.replace("<td>", f'<td class="{"better" if better else "worse"}">', 1)


def _charts(report: dict[str, Any]) -> str:
    figures = [_loss(run) for run in report["runs"]]
    if curve := report["curve"]:
        said = _text("; ".join(curve["lines"]))
        drawn = f'<img alt="{said}" src="data:image/png;base64,{curve["picture"]}"><p>{said}</p>'
        figures.insert(0, _figure("How many rows are enough", _text(curve["path"]), drawn))
    systems = [system for system in report["candidates"] if system["kind"] in _SHADES]
    for side, own in report["sides"].items():
        texts = [row["texts"] for row in report["rows"] if row["side"] == side]
        lengths, spans = [], []
        for system in systems:
            key, label, shade = system["key"], system["label"], _SHADES[system["kind"]]
            lengths.append((label, shade, np.array(own["lengths"].get(key, []), np.float64)))
            longest = (row.get(key, {}).get("scores", {}).get("longest") for row in texts)
            numbers = [number for number in longest if number is not None]
            spans.append((label, shade, np.array(numbers, np.float64)))
        for title, drawn in (
            ("Length of the texts",
             charts.histogram(lengths, "characters", f"Length of the texts, {side}")),
            ("Longest copied span",
             charts.histogram(spans, "characters that also stand in a training text",
                              "Copied spans")),
        ):  # fmt: skip
            if drawn:
                figures.append(_figure(title, _SIDES[side].lower(), drawn))
    return "".join(figures)


def _figure(title: str, about: str, drawn: str) -> str:
    return f"<figure><figcaption>{title}<small>{about}</small></figcaption>{drawn}</figure>"


def _loss(run: dict[str, Any]) -> str:
    name = _text(run["name"])
    if run["no_curve"]:
        return _figure("Loss", name, f'<p class="missing">{_text(run["no_curve"])}</p>')
    series = []
    for label, key, shade in (
        ("training", "loss", "adapter"), ("validation", "validation_loss", "base"),
    ):  # fmt: skip
        points = np.array(run[key], dtype=np.float64).reshape(-1, 2)
        series.append(Series(label, shade, points[:, 0], points[:, 1]))
    drawn = charts.lines(series, "step", "nats a token", f"Loss of {run['name']}")
    return _figure("Loss", name, drawn)


def _provenance(report: dict[str, Any]) -> str:
    funnel = report["funnel"]
    bars = []
    for stage in funnel["stages"]:
        bars.append((f"{stage['stage']}: read", stage["read"], "reference"))
        bars += [(f"− {reason}", count, "base") for reason, count in stage["gone"].items()]
        bars.append((f"{stage['stage']}: kept", stage["kept"], "adapter"))
    missing = f'<p class="missing">{_text(funnel["missing"])}</p>' if funnel["missing"] else ""
    steps = "".join(
        f'<li style="--depth:{step["depth"]}"><b>{_text(step["stage"])}</b> '
        f"<span>{_text(step['path'])}</span> <code>{_text(step['digest'][:12])}</code></li>"
        for step in report["lineage"]
    )
    return (
        f"<div><h3>Where the rows went</h3>{charts.funnel(bars)}{missing}</div>"
        f'<div><h3>What was made from what</h3><ul class="lineage">{steps}</ul></div>'
    )


def _data(report: dict[str, Any], shown_rows: int) -> str:
    """Return the rows of the explorer as JSON that cannot end its own script element."""
    rows: list[dict[str, Any]] = []
    for side in report["sides"]:
        rows += [row for row in report["rows"] if row["side"] == side][:shown_rows]
    value = {
        "rows": rows,
        "sides": {name: [_SIDES[name], own["rows"]] for name, own in report["sides"].items()},
        "metrics": report["metrics"],
        "candidates": [system for system in report["candidates"] if system["kind"] != "title"],
    }
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
