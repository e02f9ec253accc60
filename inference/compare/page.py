"""The page of a comparison: verdicts side by side, what differs surely, figures, texts. Pure."""

from typing import Any

from inference.compare.differences import Judged
from inference.evaluate import page
from inference.evaluate.page import Cell, Dot, Row

_SHADES = ("adapter", "base", "other", "reference")
_MARKS = {"met": "✓ met", "missed": "✕ missed", "too_few": "? too few rows"}
_TEXTS = 3
"""Rows shown that gained most, and as many that lost most."""


def build(judged: list[Judged], values: dict[str, Any]) -> str:
    """Build the page from the judged systems and what ``collect`` found of them."""
    names = [own.name for own in judged]
    title = f"{', '.join(names[:-1])} and {names[-1]}"
    head = f"<h1><small>Comparison of</small> {page.text(title)}</h1>"
    head += page.facts((own.name, own.verdict["headline"]) for own in judged)
    metrics = judged[0].report["metrics"]
    contents = [
        ("differs", "What differs", _differing(values, metrics)),
        ("figures", "Figures", page.section("figures", "Five figures", "", _five(judged, metrics))),
        ("verdict", "Verdicts", _verdicts(judged)),
        ("texts", "Texts", _texts(judged)),
        ("more", "All figures", _more(judged, values, metrics)),
    ]
    return page.document(f"{title}: comparison", head, contents)


def _verdicts(judged: list[Judged]) -> str:
    """Put the runs, their headlines and the lines of their verdicts side by side."""
    rows: list[tuple[str, list[Cell]]] = [
        (name, [Cell(page.text(value)) for value in values]) for name, values in _facts(judged)
    ]
    lines = [{line["key"]: line for line in own.verdict["lines"]} for own in judged]
    for key in dict.fromkeys(key for own in lines for key in own):
        own = [by_key.get(key) for by_key in lines]
        question = next(line["question"] for line in own if line)
        rows.append((page.text(question), [_outcome(line) for line in own]))
    head = ["Question", *(own.name for own in judged)]
    table = page.table("Verdicts", head, rows)
    return page.section("verdict", "Verdicts", "", f'<div class="sheet">{table}</div>')


def _facts(judged: list[Judged]) -> list[tuple[str, list[str]]]:
    def of(own: Judged, name: str) -> str:
        key = next((s["run"] for s in own.report["candidates"] if s["key"] == own.key), None)
        run = next((run for run in own.report["runs"] if run["path"] == key), None)
        if run is None:
            return "–"
        if name == "rows":
            return f"{run['rows']:,} rows"
        return str(run["facts"].get(name, "–"))

    unseen = [own.report["sides"]["unseen"]["rows"] for own in judged]
    return [
        ("Base", [of(own, "base") for own in judged]),
        ("Trained on", [of(own, "rows") for own in judged]),
        ("Card", [of(own, "device") for own in judged]),
        ("Asked about", [f"{rows:,} unseen titles" for rows in unseen]),
    ]


def _outcome(line: dict[str, Any] | None) -> Cell:
    if line is None:
        return Cell("–", "empty")
    mark = _MARKS.get(line["outcome"], "– not judged")
    kind = {"met": "better", "missed": "worse"}.get(line["outcome"], "")
    return Cell(f"{mark}<small>{page.text(line['told'].partition('; ')[0])}</small>", kind)


def _differing(values: dict[str, Any], metrics: list[dict[str, Any]]) -> str:
    """Draw the differences on unseen titles, a figure a row, the surely different ones named."""
    parts = ""
    for pair in values["pairs"]:
        if pair["side"] != "unseen":
            continue
        said: dict[str, list[str]] = {"better": [], "worse": []}
        for metric in metrics:
            if kind := page.verdict_of(pair["scores"][metric["key"]], metric):
                said[kind].append(metric["label"])
        lines = "".join(
            f'<p><b class="{kind}">Surely {kind}</b>: {page.text(", ".join(labels) or "nothing")}'
            "</p>"
            for kind, labels in said.items()
        )
        heading = page.text(f"{pair['one']} against {pair['other']}")
        note = f'<p class="missing">{page.text(_paired(pair))}</p>'
        parts += f"<h3>{heading}</h3>{lines}{note}"
    return page.section("differs", "What differs", "on unseen titles", parts)


def _paired(pair: dict[str, Any]) -> str:
    if pair["same_rows"]:
        return "Both were asked about the same rows: what these have in common is left out."
    return "They were asked about different rows: differences are of separate samples, and wider."


def _five(judged: list[Judged], metrics: list[dict[str, Any]]) -> str:
    drawn = ""
    for metric in metrics:
        if metric["key"] not in page.FIVE:
            continue
        rows = [
            Row(own.name, "", _dots(own, metric["key"], _SHADES[place % len(_SHADES)]))
            for place, own in enumerate(judged)
        ]
        drawn += page.figure(
            metric["label"], page.about(metric), page.draw(rows, page.scaled(metric))
        )
    return f'<div class="figures">{drawn}</div>' if drawn else ""


def _dots(own: Judged, metric: str, shade: str) -> list[Dot]:
    """Return a figure on unseen titles and, hollow, on trained ones."""
    return [
        Dot(name, shade, estimate, is_hollow=side == "seen")
        for side, name in (("unseen", "unseen"), ("seen", "trained"))
        if (estimate := own.estimate(side, metric))
    ]


def _texts(judged: list[Judged]) -> str:
    """Show the common rows whose texts gained and lost most by ROUGE-L, first to last system."""
    first, last = judged[0], judged[-1]
    mine, theirs = last.rows("unseen"), first.rows("unseen")
    gains = []
    for key in mine.keys() & theirs.keys():
        scores = [
            rows[key]["texts"].get(own.key, {}).get("scores", {}).get("rougeL")
            for own, rows in ((last, mine), (first, theirs))
        ]
        if None not in scores:
            gains.append((scores[0] - scores[1], key))
    gains.sort()
    gained = [pair for pair in gains[::-1] if pair[0] > 0][:_TEXTS]
    lost = [pair for pair in gains if pair[0] < 0][:_TEXTS]
    parts = ""
    for name, chosen in (("Gained most", gained), ("Lost most", lost)):
        cards = "".join(_card(judged, key, gain) for gain, key in chosen)
        parts += page.fold(name, f"{last.name} against {first.name}, by ROUGE-L", cards, True)
    return page.section("texts", "Texts side by side", "unseen titles", parts)


def _card(judged: list[Judged], key: tuple[str, str], gain: float) -> str:
    rows = [(own, own.rows("unseen").get(key)) for own in judged]
    texts = {own.name: row["texts"][own.key] for own, row in rows if row}
    row = next(row for _, row in rows if row)
    systems = [{"key": own.name, "label": own.name, "kind": "adapter"} for own, _ in rows]
    systems.append({"key": "reference", "label": "Real description", "kind": "reference"})
    merged = row | {"texts": texts | {"reference": row["texts"]["reference"]}}
    return page.card(merged, systems, judged[0].report, f"ROUGE-L {gain:+.1f} points")


def _more(judged: list[Judged], values: dict[str, Any], metrics: list[dict[str, Any]]) -> str:
    parts = ""
    for side, name in page.SIDES.items():
        pairs = [pair for pair in values["pairs"] if pair["side"] == side]
        if not pairs:
            continue
        head = ["Metric", *(own.name for own in judged)]
        head += [f"{pair['one']} − {pair['other']}" for pair in pairs]
        rows = []
        for metric in metrics:
            scores = [own.estimate(side, metric["key"]) for own in judged]
            if not any(score and score["value"] is not None for score in scores):
                continue
            cells = [page.cell(score, metric) for score in scores]
            cells += [page.difference(pair["scores"][metric["key"]], metric) for pair in pairs]
            rows.append((page.text(metric["label"]), cells))
        parts += page.fold(name, "every metric", page.table(name, head, rows), side == "unseen")
    return page.section("more", "All figures", "coloured where the interval leaves out 0", parts)
