"""The report as one page: verdict first, then texts, figures and, folded, everything else.

Pure: plain values in, HTML out. Everything is inside the page: it opens offline, without any
script.
"""

from collections import Counter
from typing import Any

import numpy as np

from inference.evaluate.page import charts, dots, judges, provenance, tables, texts
from inference.evaluate.page.charts import Series
from inference.evaluate.page.markup import document, fold, section, text

_GROUPS = {
    "learned": "Has it learned?",
    "recites": "Does it recite?",
    "faithful": "Is it true to the title?",
}
_MARKS = {"met": ("met", "✓"), "missed": ("missed", "✕"), "too_few": ("too few rows", "?")}
_SLICED = ("rougeL", "title_words", "repeating")
FIVE = ("perplexity", "rougeL", "copied", "title_words", "inventing")
"""What the verdict rests on most, two questions of it and more."""
_LOGARITHMIC = ("perplexity",)
SHADES = {"adapter": "adapter", "generated": "adapter", "base": "base", "reference": "reference"}
_EXAMPLES, _OPEN = 2, 2
_LEGEND = (
    '<p class="missing"><mark class="copied">Marked</mark> also stands in a training text, word '
    'for word; <mark class="number">underlined</mark> numbers stand in neither title nor record.'
    "</p>"
)


def build(report: dict[str, Any], shown_rows: int) -> str:
    """Build the page of a report, on which so many rows a side are listed, if there is room."""
    verdicts = report["verdicts"]
    title = ", ".join(verdict["label"] for verdict in verdicts) or "Evaluation"
    judged = "".join(_verdict(verdict) for verdict in verdicts)
    contents = [
        ("verdict", "Verdict", f'<div id="verdict">{judged}</div>'),
        ("examples", "Examples", _examples(report)),
        ("worst", "Worst", _worst(report)),
        ("figures", "Figures", section("figures", "Five figures", "", _five(report))),
        ("slices", "Slices", _slices(report)),
        ("judges", judges.NAME, judges.section(report)),
        ("curve", "Curve", _curve(report)),
        ("more", "All the rest", _more(report, shown_rows)),
    ]
    return document(f"{title}: evaluation", provenance.head(report), contents)


def _verdict(verdict: dict[str, Any]) -> str:
    lines = verdict["lines"]
    counts = Counter(line["outcome"] for line in lines)
    met, missed, few = counts["met"], counts["missed"], counts["too_few"]
    state = "bad" if missed else "open" if few or not met else "good"
    unsure = f", {few} with too few rows to tell" if few else ""
    groups = ""
    for key, name in _GROUPS.items():
        items = "".join(_line(line) for line in lines if line["group"] == key)
        if not items:
            continue
        groups += f'<div class="group"><h3>{name}</h3><ul>{items}</ul></div>'
    return (
        f'<section class="verdict {state}"><p class="who">{text(verdict["label"])}</p>'
        f"<h2>{text(verdict['headline'])}</h2>"
        f'<p class="count">{met} of {met + missed + few} thresholds surely met{unsure}</p>'
        f'<div class="groups">{groups}</div></section>'
    )


def _line(line: dict[str, Any]) -> str:
    name, mark = _MARKS.get(line["outcome"], ("not judged", "–"))
    figures, _, limit = (text(part) for part in line["told"].partition("; "))
    return (
        f'<li class="{line["outcome"]}"><i aria-hidden="true">{mark}</i>'
        f'<div>{text(line["claim"])}<span class="unseen"> ({name})</span>'
        f'<span class="told">{figures}</span>'
        + (f'<span class="asked">{limit}</span>' if limit else "")
        + "</div></li>"
    )


def _examples(report: dict[str, Any]) -> str:
    about = f"the first {_EXAMPLES} unseen titles, not chosen"
    shown = texts.examples(report, _EXAMPLES)
    return section("examples", "As it writes", about, shown and _LEGEND + shown)


def _worst(report: dict[str, Any]) -> str:
    parts = ""
    for verdict in report["verdicts"]:
        shown = texts.worst(report, verdict)
        name = f"<h3>{text(verdict['label'])}</h3>" if len(report["verdicts"]) > 1 else ""
        folded = [
            fold(line["claim"], line["told"].partition("; ")[0], cards, is_open=place < _OPEN)
            for place, (line, cards) in enumerate(shown)
        ]
        parts += name + "".join(folded) if folded else ""
    return section("worst", "Where it fails", "the worst rows of each line that is missed", parts)


def _five(report: dict[str, Any]) -> str:
    """Draw the five figures of every system, on unseen titles and on trained ones."""
    drawn = ""
    by_key = {metric["key"]: metric for metric in report["metrics"]}
    for key in FIVE:
        metric = scaled(by_key[key])
        rows = [
            dots.Row(system["label"], "", _by_side(report, system, key))
            for system in report["candidates"]
        ]
        drawn += figure(metric["label"], about(metric), dots.draw(rows, metric))
    return f'<div class="figures">{drawn}</div>' if drawn else ""


def _by_side(report: dict[str, Any], system: dict[str, Any], key: str) -> list[dots.Dot]:
    """Return a figure of a system on unseen titles and, hollow, on trained ones."""
    names = {"unseen": "unseen", "seen": "trained"}
    scores = {side: own["scores"][system["key"]] for side, own in report["sides"].items()}
    return [
        dots.Dot(names[side], shade_of(system), own[key], is_hollow=side == "seen")
        for side, own in scores.items()
        if key in own
    ]


def shade_of(system: dict[str, Any]) -> str:
    """Return the colour of a system, the name of a CSS class."""
    return SHADES.get(system["kind"], "other")


def scaled(metric: dict[str, Any]) -> dict[str, Any]:
    """Return a metric with whether its scale is logarithmic."""
    return metric | {"is_log": metric["key"] in _LOGARITHMIC}


def about(metric: dict[str, Any]) -> str:
    """Say what a metric is and which way is better."""
    better = {"higher": "; higher is better", "lower": "; lower is better"}
    scale = "; logarithmic scale" if metric["key"] in _LOGARITHMIC else ""
    return f"{metric['about']}{better.get(metric['better'], '')}{scale}"


def _slices(report: dict[str, Any]) -> str:
    """Draw the judged systems by kind of title, and the nearest row's texts beside them."""
    judged = {verdict["candidate"] for verdict in report["verdicts"]}
    by_key = {metric["key"]: metric for metric in report["metrics"]}
    drawn = {
        side: "".join(_sliced(report, side, by_key[key], judged) for key in _SLICED)
        for side in report["sides"]
    }
    unseen, seen = drawn.get("unseen", ""), drawn.get("seen", "")
    inside = f'<div class="figures">{unseen}</div>' if unseen else ""
    if seen:
        inside += fold("The same for trained titles", "", f'<div class="figures">{seen}</div>')
    return section("slices", "By kind of title", "unseen titles", inside)


def _sliced(report: dict[str, Any], side: str, metric: dict[str, Any], judged: set[str]) -> str:
    systems = [
        system
        for system in report["candidates"]
        if system["key"] in judged or (system["kind"] == "nearest" and metric["key"] == "rougeL")
    ]
    rows = []
    for part in report["sides"][side]["slices"]:
        scored = [(system, part["scores"].get(system["key"], {})) for system in systems]
        row = [
            dots.Dot(
                system["label"], shade_of(system), own[metric["key"]], system["kind"] == "nearest"
            )
            for system, own in scored
            if metric["key"] in own
        ]
        rows.append(dots.Row(part["name"], f"{part['rows']:,} rows", row))
    return figure(metric["label"], about(metric), dots.draw(rows, metric))


def _curve(report: dict[str, Any]) -> str:
    """Draw loss and quality against the size of the subset, where a curve was given."""
    curve = report["curve"]
    if not curve:
        return ""
    said = "".join(f"<p>{text(line)}</p>" for line in curve["lines"])
    drawn = figure("Loss", "on validation rows, by train rows", charts.sizes(curve))
    judged = [
        (size["rows"], own)
        for size in curve["sizes"]
        if (own := size.get("quality", {}).get("rougeL")) and own["value"] is not None
    ]
    if len(judged) > 1:
        rows = np.array([count for count, _ in judged], np.float64)
        points = charts.measured("ROUGE-L", rows, [own for _, own in judged])
        picture = charts.lines([points], "train rows", "ROUGE-L", "ROUGE-L by rows", is_log=True)
        drawn += figure("ROUGE-L", "on unseen titles, by train rows", picture)
    inside = f'{said}<div class="figures">{drawn}</div>'
    return section("curve", "How many rows are enough", curve["path"], inside)


def _more(report: dict[str, Any], shown_rows: int) -> str:
    sides = list(report["sides"])
    parts = [
        fold("All figures", "every metric, every system",
             "".join(tables.scores(report, side) for side in sides)),
        fold("Paired differences", "coloured where the interval leaves out 0",
             "".join(tables.differences(report, side) for side in sides)),
        fold("Lengths, copies and losses", "as pictures", _pictures(report)),
        *(_rows(report, side, shown_rows) for side in sides),
        fold("Where the rows went", "from the raw file on", provenance.funnel(report)),
        fold("What was made from what", "lineage", provenance.lineage(report)),
        fold("How it was measured", "", provenance.measured(report)),
    ]  # fmt: skip
    return section("more", "All the rest", "", "".join(parts))


def _rows(report: dict[str, Any], side: str, shown_rows: int) -> str:
    cards, count = texts.listed(report, side, shown_rows)
    rows = report["sides"][side]["rows"]
    about = f"{count:,} of {rows:,}, as sampled" + ("; all in report.json" if count < rows else "")
    return fold(f"{tables.SIDES[side]}, one by one", about, cards)


def _pictures(report: dict[str, Any]) -> str:
    figures = [_loss(run) for run in report["runs"]]
    systems = [system for system in report["candidates"] if system["kind"] in SHADES]
    for side, own in report["sides"].items():
        rows = [row["texts"] for row in report["rows"] if row["side"] == side]
        lengths, spans = [], []
        for system in systems:
            key, label, shade = system["key"], system["label"], SHADES[system["kind"]]
            lengths.append((label, shade, np.array(own["lengths"].get(key, []), np.float64)))
            longest = (row.get(key, {}).get("scores", {}).get("longest") for row in rows)
            numbers = [number for number in longest if number is not None]
            spans.append((label, shade, np.array(numbers, np.float64)))
        for title, drawn in (
            ("Length of the texts",
             charts.histogram(lengths, "characters", f"Length of the texts, {side}")),
            ("Longest copied span",
             charts.histogram(spans, "characters that also stand in a training text",
                              "Copied spans")),
        ):  # fmt: skip
            figures.append(figure(title, tables.SIDES[side].lower(), drawn))
    return f'<div class="figures">{"".join(figures)}</div>'


def figure(title: str, about: str, drawn: str) -> str:
    """Return a drawing with its heading; empty where there is none."""
    head = f"<figcaption>{text(title)}<small>{text(about)}</small></figcaption>"
    return f"<figure>{head}{drawn}</figure>" if drawn else ""


def _loss(run: dict[str, Any]) -> str:
    if run["no_curve"]:
        return figure("Loss", run["name"], f'<p class="missing">{text(run["no_curve"])}</p>')
    series = []
    for label, key, shade in (
        ("training", "loss", "adapter"), ("validation", "validation_loss", "base"),
    ):  # fmt: skip
        points = np.array(run[key], dtype=np.float64).reshape(-1, 2)
        series.append(Series(label, shade, points[:, 0], points[:, 1]))
    drawn = charts.lines(series, "step", "nats a token", f"Loss of {run['name']}")
    return figure("Loss", run["name"], drawn)
