"""The page's part on judges and votes. Pure: plain values in, HTML out."""

from typing import Any

from inference.evaluate.page import markup
from inference.evaluate.page.markup import Cell, table, text

NAME = "Which text is better?"


def section(report: dict[str, Any]) -> str:
    """Lay out what another model and people chose; empty where neither was asked."""
    labels = {system["key"]: system["label"] for system in report["candidates"]}
    judge, votes = report.get("judge"), report.get("votes")
    body = (_judge(judge, labels) if judge else "") + (_votes(votes, labels) if votes else "")
    return markup.section("judges", NAME, "unseen titles", body)


def _judge(judge: dict[str, Any], labels: dict[str, str]) -> str:
    rows = [(_names(one, labels), one) for one in judge["comparisons"]]
    rows.append(("Control: real descriptions against damaged ones", judge["control"]))
    body = [(text(name), [*_won(one), *_bias(one)]) for name, one in rows]
    cost = (
        f"{judge['questions']:,} questions, {judge['asked']:,} of them in this run, "
        f"{judge['tokens']:,} tokens; {judge['retries']:,} retries, {judge['failed']:,} stayed "
        f"without an answer, {judge['unclear']:,} answers named no side."
    )
    about = (
        f"{judge['model']} saw each pair in both orders; a pair counts as won where it chose the "
        "same text twice. Position bias: pairs for which it chose the same side twice, whatever "
        "stood there. A judge that does not see the damage of the control is none."
    )
    head = ("Texts", "Won", "Pairs", "Position bias", "Not judged")
    shown = table("What another model chose", head, body)
    return f"<h3>Another model</h3><p>{text(about)}</p>{shown}<p>{cost}</p>"


def _votes(votes: dict[str, Any], labels: dict[str, str]) -> str:
    body = []
    for one in votes["comparisons"]:
        people = f"{one['votes']:,}<small>{one['people']} people</small>"
        agreed = [_agreed(one["between"]), _agreed(one["within"]), Cell(_percent(one["chance"]))]
        body.append((text(_names(one, labels)), [*_won(one), Cell(people), *agreed]))
    about = (
        "People voted without knowing whose text is whose. Agreement: equal votes on the same pair "
        "by two people, or by one who was shown it twice; by chance so many would be equal."
    )
    head = ("Texts", "Won", "Pairs", "Votes", "People agree", "With themselves", "By chance")
    left_out = votes["left_out"]
    note = f"<p>{left_out:,} votes are on other texts and left out.</p>" if left_out else ""
    return f"<h3>People</h3><p>{about}</p>{table('What people chose', head, body)}{note}"


def _names(one: dict[str, Any], labels: dict[str, str]) -> str:
    return f"{labels[one['one']]} against {labels[one['other']].lower()}"


def _won(one: dict[str, Any]) -> list[Cell]:
    interval = "" if one["low"] is None else f"{one['low']:.1%} to {one['high']:.1%}"
    counts = f"{one['pairs']:,}<small>{one['won']} won, {one['lost']} lost</small>"
    return [Cell(f"{_percent(one['win_rate'])}<small>{interval}</small>"), Cell(counts)]


def _bias(one: dict[str, Any]) -> list[Cell]:
    sides = f"<small>{one['left']} left, {one['right']} right</small>"
    return [Cell(_percent(one["position_bias"]) + sides), Cell(str(one["unjudged"]))]


def _agreed(count: dict[str, int]) -> Cell:
    if not count["of"]:
        return Cell("–")
    return Cell(f"{count['same'] / count['of']:.0%}<small>of {count['of']:,}</small>")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
