"""What a curve says: its figures as plain values, its table and its lines."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data import console
from training.curve.config import FEWEST
from training.curve.fit import Curve, Floats, Interval
from training.curve.runs import Planned

FORMAT = 1
LITTLE = 0.01
"""Share of the loss below which twice as many rows are said to gain little."""
# As many times the largest size as a law is followed.
_FARTHEST = 100
_BAND_POINTS = 60
QUALITY = {"rougeL": "ROUGE-L", "repeating": "repeat themselves", "ended": "end by themselves"}


@dataclass(frozen=True)
class Point:
    """A finished run on the curve."""

    run: Planned
    folder: str
    loss: float
    """On the validation rows, in nats a token."""
    steps: int
    seconds: float
    """From the first step to the last."""
    blocks: Floats
    """Nats and tokens of each block of validation rows, [blocks, 2]."""


def collect(
    curve: Curve, points: Sequence[Point], left_out: list[dict[str, Any]], rows: int,
    seconds: float | None,
) -> dict[str, Any]:  # fmt: skip
    """Collect what ``curve.json`` holds, but for the lines and the quality.

    Args:
        curve: through the points.
        points: of the finished runs.
        left_out: of the others, ``rows``, ``seed`` and ``why``.
        rows: to foretell.
        seconds: that a run on these should take.
    """
    return {
        "format": FORMAT,
        "sizes": [
            {"rows": size, "seeds": len(own := [p for p in points if p.run.rows == size])}
            | {"loss": loss.value, "low": loss.low, "high": loss.high}
            | {"seconds": float(np.mean([point.seconds for point in own]))}
            for size, loss in zip(curve.sizes, curve.losses, strict=True)
        ],
        "runs": [
            asdict(point.run)
            | {"run": point.folder, "loss": point.loss}
            | {"steps": point.steps, "seconds": point.seconds}
            for point in points
        ],
        "left_out": left_out,
        "fall": asdict(curve.fall),
        "spread": curve.spread,
        **_foretell(curve, rows, seconds),
    }


def _foretell(curve: Curve, rows: int, seconds: float | None) -> dict[str, Any]:
    """Collect what the law says; nothing where there is none."""
    if curve.law is None:
        return {"law": None, "foretold": None, "little_gain": None, "band": []}
    law, end = curve.law, max(rows, curve.sizes[-1])
    shown = np.unique(np.geomspace(curve.sizes[0], end, _BAND_POINTS).round().astype(int))
    return {
        "law": {"a": float(law.a), "b": float(law.factor), "c": float(law.c)},
        "foretold": {"rows": rows, **_loss(curve.foretell(rows)), "seconds": seconds},
        "little_gain": {"share": LITTLE, **_little_gain(curve)},
        "band": [{"rows": int(size), **_loss(curve.foretell(int(size)))} for size in shown],
    }


def _loss(interval: Interval) -> dict[str, float]:
    return {"loss": interval.value, "low": interval.low, "high": interval.high}


def _little_gain(curve: Curve) -> dict[str, int | None]:
    """Return from how many rows on doubling gains little; None: from none that the law is for."""
    assert curve.law is not None  # noqa: S101  # for the type checker
    assert curve.laws is not None  # noqa: S101
    every = sorted(law.gains_little_from(LITTLE) for law in curve.laws.each())
    value = curve.law.gains_little_from(LITTLE)
    low, high = every[len(every) // 40], every[-len(every) // 40]
    farthest = _FARTHEST * curve.sizes[-1]
    edges = {"rows": value, "low": min(low, value), "high": max(high, value)}
    return {name: _round_up(edge) if edge < farthest else None for name, edge in edges.items()}


def _round_up(rows: float) -> int:
    """Round up to two digits: a law knows no more."""
    if rows <= 1:
        return 1
    unit = 10 ** max(0, math.floor(math.log10(rows)) - 1)
    return int(math.ceil(rows / unit) * unit)


def lines(values: dict[str, Any]) -> list[str]:
    """Say what the curve tells, in plain words."""
    sizes, fall = values["sizes"], values["fall"]
    said = [
        f"left out: {run['rows']:,} rows with seed {run['seed']}: {run['why']}"
        for run in values["left_out"]
    ]
    first, last = sizes[0]["rows"], sizes[-1]["rows"]
    if len(sizes) < FEWEST:
        count = "1 size is" if len(sizes) == 1 else f"{len(sizes)} sizes are"
        return [*said, f"no curve can be fitted: {count} left, and it takes {FEWEST}"]
    if fall["low"] <= 0:
        course = "falls" if fall["value"] > 0 else "rises"
        how = f"by {abs(fall['value']):.3f}, which runs and rows differ by as well"
        if fall["high"] < 0:
            how = f"by {-fall['value']:.3f}: more rows make this recipe worse"
        said.append(f"from {first:,} to {last:,} rows the loss {course} {how}: no curve to go by")
    return [*said, _foretold(values)]


def _foretold(values: dict[str, Any]) -> str:
    own = values["foretold"]
    line = f"{own['rows']:,} rows should reach {_interval(own)}"
    if own["seconds"] is not None:
        line += f" in {console.duration(own['seconds'])}"
    if own["high"] - own["low"] > abs(values["fall"]["value"]):
        # Nobody should decide by such an interval, or by where its law flattens.
        return f"{line}: too wide to decide by, so add larger sizes or seeds"
    little, farthest = values["little_gain"], _FARTHEST * values["sizes"][-1]["rows"]
    share = f"{100 * LITTLE:g} %"
    gain = f"twice as many gain under {share}"
    if little["rows"] is None:
        return f"{line}; up to {farthest:,} rows twice as many gain {share} or more"
    if little["rows"] <= values["sizes"][0]["rows"]:
        return f"{line}; at all these sizes {gain}"
    high = f"{little['high']:,}" if little["high"] else f"over {farthest:,}"
    return f"{line}; beyond {little['rows']:,} rows ({little['low']:,} to {high}) {gain}"


def _interval(loss: dict[str, Any]) -> str:
    return f"{loss['loss']:.3f} ({loss['low']:.3f} to {loss['high']:.3f})"


def table(values: dict[str, Any]) -> str:
    """Lay out the sizes with their losses, seconds and, where measured, quality."""
    header = ["rows", "seeds", "loss", "95 % interval", "seconds"]
    with_quality = any("quality" in size for size in values["sizes"])
    rows = []
    for size in values["sizes"]:
        between = f"{size['low']:.4f} to {size['high']:.4f}"
        row = [f"{size['rows']:,}", str(size["seeds"]), f"{size['loss']:.4f}", between]
        row.append(f"{size['seconds']:,.1f}")
        if with_quality:
            row += [_score(size.get("quality", {}).get(key)) for key in QUALITY]
        rows.append(row)
    return console.table(rows, header + list(QUALITY.values()) * with_quality)


def _score(score: dict[str, Any] | None) -> str:
    if not score or score["value"] is None:
        return "–"
    if score["low"] is None:
        return f"{score['value']:.1f}"
    return f"{score['value']:.1f} ({score['low']:.1f} to {score['high']:.1f})"
