"""How surely two reports' figures differ. Pure: plain values in, plain values out.

The interval of a difference is put together from the intervals of both figures (MOVER: Zou 2007,
"Toward using confidence intervals to compare correlations"; Zou and Donner 2008), so that it needs
no text and no model, holds for exact and bootstrap intervals alike, and for reports of other rows.
Where both are of the same rows, what these have in common narrows it by the correlation of their
scores a row; a figure that has no score a row is taken as of independent samples, which is wider.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

_FEWEST = 3


@dataclass(frozen=True)
class Judged:
    """A judged system of a report."""

    name: str
    """Unlike the others' names."""
    key: str
    """Within its report."""
    report: dict[str, Any]

    def estimate(self, side: str, metric: str) -> dict[str, Any] | None:
        """Return a figure with its interval; None where it was not measured."""
        scores = self.report["sides"].get(side, {}).get("scores", {})
        own: dict[str, Any] | None = scores.get(self.key, {}).get(metric)
        return own

    @property
    def verdict(self) -> dict[str, Any]:
        """Its verdict."""
        verdicts = self.report["verdicts"]
        return next(verdict for verdict in verdicts if verdict["candidate"] == self.key)

    def rows(self, side: str) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the rows of a side by uid and title."""
        rows = (row for row in self.report["rows"] if row["side"] == side)
        return {(row["uid"], row["title"]): row for row in rows}


def name_all(reports: dict[str, dict[str, Any]]) -> list[Judged]:
    """List the judged systems of reports by path, named by folder and, of several, by label."""
    judged = []
    folders = [path.rstrip("/").split("/") for path in reports]
    for path, report in reports.items():
        words = path.rstrip("/").split("/")
        length = 1
        while sum(other[-length:] == words[-length:] for other in folders) > 1:
            length += 1
        name = "/".join(words[-length:])
        several = len(report["verdicts"]) > 1
        judged += [
            Judged(f"{name}, {own['label']}" if several else name, own["candidate"], report)
            for own in report["verdicts"]
        ]
    return judged


def difference(one: Judged, other: Judged, side: str, metric: str) -> dict[str, Any] | None:
    """Return by how much the first figure is above the other; None where one was not measured."""
    mine, theirs = one.estimate(side, metric), other.estimate(side, metric)
    if not mine or not theirs or mine["value"] is None or theirs["value"] is None:
        return None
    value = mine["value"] - theirs["value"]
    if None in (mine["low"], theirs["low"]):
        return {"value": value, "low": None, "high": None}
    common = correlation(one, other, side, metric)
    down = _reach(mine["value"] - mine["low"], theirs["high"] - theirs["value"], common)
    up = _reach(mine["high"] - mine["value"], theirs["value"] - theirs["low"], common)
    return {"value": value, "low": value - down, "high": value + up}


def _reach(one: float, other: float, common: float) -> float:
    return math.sqrt(max(one**2 + other**2 - 2 * common * one * other, 0.0))


def correlation(one: Judged, other: Judged, side: str, metric: str) -> float:
    """Return how scores a row go together, -1 to 1; 0 where rows differ or have no such score."""
    mine, theirs = one.rows(side), other.rows(side)
    if mine.keys() != theirs.keys():
        return 0.0
    pairs = [
        (a, b)
        for key, row in mine.items()
        if (a := _score(row, one.key, metric)) is not None
        and (b := _score(theirs[key], other.key, metric)) is not None
    ]
    if len(pairs) < _FEWEST:
        return 0.0
    columns = np.array(pairs).T
    if metric == "perplexity":  # its mean is one of logarithms
        columns = np.log(columns)
    if not columns.std(axis=1).all():
        return 0.0
    return float(np.corrcoef(columns)[0, 1])


def _score(row: dict[str, Any], key: str, metric: str) -> float | None:
    value: float | None = row["texts"].get(key, {}).get("scores", {}).get(metric)
    return value


def collect(judged: list[Judged]) -> dict[str, Any]:
    """Collect what ``compare.json`` holds: who was compared, and the differences to the first."""
    first, *others = judged
    metrics = [metric["key"] for metric in first.report["metrics"]]
    sides = [
        side for side in first.report["sides"] if all(side in own.report["sides"] for own in others)
    ]
    return {
        "systems": [{"name": own.name, "headline": own.verdict["headline"]} for own in judged],
        "pairs": [
            {
                "side": side, "one": own.name, "other": first.name,
                "same_rows": own.rows(side).keys() == first.rows(side).keys(),
                "scores": {key: difference(own, first, side, key) for key in metrics},
            }
            for side in sides
            for own in others
        ],
    }  # fmt: skip
