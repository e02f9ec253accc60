"""Rows with their texts: copied and unsupported stretches marked, missing words named. Pure."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from inference import fidelity
from inference.evaluate.page.markup import fold, number, text

_ORDER = ("adapter", "generated", "alone", "base", "nearest", "reference")
_FIGURES = ("rougeL", "perplexity", "longest")
_WORST = 3
"""Rows shown of each line of the verdict that is missed."""
_MOST_BYTES = 1_000_000
"""Of the rows that are listed as they come: a page stays readable on a phone, below 2 MB in all."""
Row = dict[str, Any]
Badness = Callable[[Row, Row], float | None]


def marked(written: str, copied: Sequence[Sequence[int]], numbers: Sequence[Sequence[int]]) -> str:
    """Mark stretches (begin, end) of a text in code points: copied ones, unsupported numbers."""
    if not written:
        return "<em>empty</em>"
    cuts = {0, len(written), *(end for span in (*copied, *numbers) for end in span)}
    points = sorted(cuts)
    parts = []
    for begin, end in itertools.pairwise(points):
        piece = text(written[begin:end])
        for name, spans in (("number", numbers), ("copied", copied)):
            if any(first <= begin and end <= last for first, last in spans):
                piece = f'<mark class="{name}">{piece}</mark>'
        parts.append(piece)
    return "".join(parts)


def card(
    row: Row, systems: Sequence[dict[str, Any]], report: dict[str, Any], note: str = ""
) -> str:
    """Show a row: its title, a remark in plain words, and the texts of some systems."""
    columns = sorted(systems, key=lambda system: _ORDER.index(system["kind"]))
    texts = "".join(_column(row, system, report) for system in columns)
    remark = f'<p class="note">{text(note)}</p>' if note else ""
    return (
        f'<article class="row"><h3>{text(row["title"])} <small>{text(row["uid"])}</small></h3>'
        f'{remark}<div class="texts">{texts}</div></article>'
    )


def _column(row: Row, system: dict[str, Any], report: dict[str, Any]) -> str:
    own = row["texts"].get(system["key"])
    if own is None:
        return ""
    is_real = system["kind"] == "reference"
    written = row["reference"] if is_real else own["text"]
    record = "\n".join([row["reference"], *row.get("attributes", {}).values()])
    checks = fidelity.check(written, row["title"], record)
    numbers = [] if is_real else [(found.begin, found.end) for found in checks.unsupported]
    below = _figures(own["scores"], report)
    if not is_real and checks.title_words_missing:
        below += f"<br>Title words missing: {text(', '.join(checks.title_words_missing))}"
    nearest = ""
    if own.get("nearest") and not is_real:
        share = f"Most alike training text, {own['alike']:.0%}"
        nearest = fold(share, "", f"<p>{text(own['nearest'])}</p>")
    return (
        f"<div><h4>{text(system['label'])}</h4><p>{marked(written, own.get('spans', ()), numbers)}"
        f'</p><p class="figures-of">{below}</p>{nearest}</div>'
    )


def _figures(scores: dict[str, Any], report: dict[str, Any]) -> str:
    told = [
        f"{text(metric['label'])} {number(scores[metric['key']], metric)}"
        for metric in report["metrics"]
        if metric["key"] in _FIGURES and scores.get(metric["key"]) is not None
    ]
    return " · ".join(told)


def examples(report: dict[str, Any], count: int) -> str:
    """Show the first unseen rows as they come: what was written, and the real description."""
    keys = {verdict["candidate"] for verdict in report["verdicts"]}
    systems = [s for s in report["candidates"] if s["key"] in keys or s["kind"] == "reference"]
    rows = [row for row in report["rows"] if row["side"] == "unseen"][:count]
    return "".join(card(row, systems, report) for row in rows)


def listed(report: dict[str, Any], side: str, most: int) -> tuple[str, int]:
    """Show rows of a side as they come, all systems, and return how many have room."""
    systems = [system for system in report["candidates"] if system["kind"] != "title"]
    room = _MOST_BYTES // len(report["sides"])
    cards: list[str] = []
    for row in [row for row in report["rows"] if row["side"] == side][:most]:
        own = card(row, systems, report)
        room -= len(own.encode())
        if room < 0:
            break
        cards.append(own)
    return "".join(cards), len(cards)


def worst(report: dict[str, Any], verdict: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Find the lines of a verdict that are missed, and show of each the rows that miss it most."""
    systems = {system["key"]: system for system in report["candidates"]}
    own = systems[verdict["candidate"]]
    shown = []
    for line in verdict["lines"]:
        if line["outcome"] != "missed" or line["key"] not in _RULES:
            continue
        side, kind, badness, remark = _RULES[line["key"]]
        beside = _other(report, own, kind)
        rows = _ranked(report, side, own["key"], beside["key"] if beside else None, badness)
        columns = [own, *([beside] if beside else []), systems["reference"]]
        columns = list({system["key"]: system for system in columns}.values())
        cards = "".join(
            card(row, columns, report, remark.format(value)) for value, row in rows[:_WORST]
        )
        if cards:
            shown.append((line, cards))
    return shown


def _other(report: dict[str, Any], own: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """Find what a system is measured against: its own base, else the one of a kind."""
    others: Iterable[dict[str, Any]] = (s for s in report["candidates"] if s["kind"] == kind)
    if kind == "base":
        others = (s for s in others if s["key"] == own["against"])
    return next(iter(others), None)


def _ranked(
    report: dict[str, Any], side: str, key: str, other: str | None, badness: Badness
) -> list[tuple[float, Row]]:
    """Sort the rows of a side that are bad at all, the worst first."""
    ranked = []
    for row in report["rows"]:
        if row["side"] == side and key in row["texts"]:
            value = badness(row, {"own": row["texts"][key], "other": row["texts"].get(other, {})})
            if value is not None and value > 0:
                ranked.append((value, row))
    return sorted(ranked, key=lambda pair: -pair[0])


def _score(texts: Row, which: str, name: str) -> float | None:
    value: float | None = texts[which].get("scores", {}).get(name)
    return value


def _inverted(name: str) -> Badness:
    """Call a percentage bad by what it lacks of the whole."""

    def badness(_: Row, texts: Row) -> float | None:
        value = _score(texts, "own", name)
        return None if value is None else 100 - value

    return badness


def _plain(name: str) -> Badness:
    return lambda _, texts: _score(texts, "own", name)


def _behind(_: Row, texts: Row) -> float | None:
    own, other = _score(texts, "own", "rougeL"), _score(texts, "other", "rougeL")
    return None if own is None else (other if other is not None else 100.0) - own


def _cost(_: Row, texts: Row) -> float | None:
    own, other = _score(texts, "own", "perplexity"), _score(texts, "other", "perplexity")
    return own / other if own and other else None


def _known(_: Row, texts: Row) -> float | None:
    own = _score(texts, "own", "perplexity")
    return 1 / own if own else None


def _recited(_: Row, texts: Row) -> float | None:
    alike = texts["own"].get("alike")
    return None if alike is None else 100 * alike


def _invented(row: Row, texts: Row) -> float | None:
    if not _score(texts, "own", "unsupported"):
        return None
    record = "\n".join([row["reference"], *row.get("attributes", {}).values()])
    return len(fidelity.check(texts["own"]["text"], row["title"], record).unsupported_numbers)


_AGAINST = "ROUGE-L {:.1f} points behind"
_RULES: dict[str, tuple[str, str, Badness, str]] = {
    "perplexity_drop": (
        "unseen", "base", _cost, "The real description costs {:.2f} times the base's perplexity",
    ),
    "gain_over_base": ("unseen", "base", _behind, _AGAINST + " the base"),
    "gain_over_title": ("unseen", "", _behind, "ROUGE-L {:.1f} points short of the whole"),
    "gain_over_nearest": ("unseen", "nearest", _behind, _AGAINST + " the nearest trained row"),
    "gain_over_alone": ("unseen", "alone", _behind, _AGAINST + " the text without neighbours"),
    "recited_unseen": ("unseen", "", _recited, "{:.0f}% alike to a training text"),
    "recited_seen": ("seen", "", _recited, "{:.0f}% alike to a training text"),
    "perplexity_gap": ("seen", "", _known, "A trained description that it finds most likely"),
    "excess_copied": ("unseen", "", _plain("copied"), "{:.0f}% of its characters are copied"),
    "title_kept": ("unseen", "", _inverted("title_words"), "{:.0f}% of the title's words missing"),
    "unsupported": ("unseen", "", _invented, "{:.0f} numbers that neither title nor record holds"),
    "ended": ("unseen", "", _inverted("ended"), "Did not end by itself"),
    "repetition": ("unseen", "", _plain("repetition"), "{:.0f}% of its word 4-grams repeated"),
}  # fmt: skip
"""By line of a verdict: side, what stands beside, how bad a row is, and that in words."""
