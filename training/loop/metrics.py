"""Figures of a run: one JSON line a logged step. Knows nothing of models."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Line = dict[str, Any]


def read(path: Path) -> list[Line]:
    """Read the lines that are whole; a machine that stops may leave half a line."""
    lines: list[Line] = []
    if not path.exists():
        return lines
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def trim(path: Path, step: int) -> list[Line]:
    """Drop the lines after a step, which a resumed run will write again; give those left."""
    lines = [line for line in read(path) if line["step"] <= step]
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text("".join(_text(line) for line in lines))
    os.replace(temporary, path)
    return lines


def append(path: Path, line: Line) -> None:
    """Add a line."""
    with path.open("a") as file:
        file.write(_text(line))


def _text(line: Line) -> str:
    return json.dumps(line) + "\n"


def last(lines: list[Line], name: str) -> Any:
    """Give the last value of a figure; None where there is none."""
    return next((line[name] for line in reversed(lines) if name in line), None)


def final_loss(lines: list[Line]) -> float:
    """Give the mean training loss of the last tenth of the logged steps."""
    losses = [line["loss"] for line in lines if "loss" in line]
    last = losses[-max(1, len(losses) // 10) :]
    return float(np.mean(last)) if last else float("nan")


def best_validation(lines: list[Line]) -> tuple[int, float] | None:
    """Give step and loss of the best evaluation; None where there was none."""
    found = {line["step"]: line["validation_loss"] for line in lines if "validation_loss" in line}
    return next(((step, found[step]) for step in ranked(found)), None)


def ranked(losses: Mapping[int, float]) -> list[int]:
    """Order steps by their loss, the lowest first and of equal ones the earlier.

    Args:
        losses: by step; a step whose loss is not finite is left out, as it is never a best one.
    """
    finite = [step for step, loss in losses.items() if math.isfinite(loss)]
    return sorted(finite, key=lambda step: (losses[step], step))
