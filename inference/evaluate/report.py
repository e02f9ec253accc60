"""What an evaluation found, as plain values: the contents of ``report.json`` and of the page."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.artefacts.manifest import Manifest, Parent
from data.errors import ManifestError
from inference.config import EvaluateConfig
from inference.evaluate import metrics
from inference.evaluate.bootstrap import Floats, Sample
from inference.evaluate.samples import EvalSet
from inference.evaluate.scores import Scores
from inference.evaluate.systems import System

if TYPE_CHECKING:
    from inference.evaluate.command import Case

FORMAT = 1
_DIGITS = 6


def collect(
    config: EvaluateConfig, case: "Case", compared: list[System], measured: Scores,
    verdicts: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """Collect everything that the report says; no value is NaN or infinite."""
    runs = [_run(path, model.record) for path, model in case.runs if model.record]
    return {
        "format": FORMAT,
        "verdicts": verdicts,
        "settings": {
            "split": config.split, "resamples": config.resamples, "seed": config.seed,
            "copied_span": config.copied_span, "recited_alike": config.recited_alike,
            "signatures": metrics.signatures(
                text
                for side in case.sides
                for many in (side.references, *(each.sides[side.name].texts for each in compared))
                for text in many
            ),
        },
        "candidates": [
            {"key": each.key, "label": each.label, "kind": each.kind, "run": each.run,
             "against": each.against}
            for each in compared
        ],
        "metrics": [
            {"key": m.key, "label": m.label, "better": m.better, "about": m.about,
             "needs": m.needs, "unit": m.unit, "digits": m.digits}
            for m in metrics.METRICS
        ],
        "sides": {side.name: _side(side, compared, measured) for side in case.sides},
        "runs": runs,
        "funnel": _funnel(case.subset),
        "lineage": _lineage(case),
        "rows": [
            row for side in case.sides for row in _rows(side, compared, measured)
        ],
    }  # fmt: skip


def as_json(told: dict[str, Any]) -> str:
    """Give the report as JSON text."""
    return json.dumps(told, ensure_ascii=False, allow_nan=False, indent=1)


def as_html(told: dict[str, Any], config: EvaluateConfig) -> str:
    """Give the report as one page that opens offline."""
    from inference.evaluate import page

    return page.build(told, config.shown_rows)


def _side(side: EvalSet, compared: list[System], measured: Scores) -> dict[str, Any]:
    samples, rows = measured.samples[side.name], measured.rows[side.name]
    return {
        "rows": len(side),
        "left_out": side.left_out,
        "scores": {
            each.key: {
                name: _estimate(sample) | {"rows": _measured_rows(name, rows[each.key][name])}
                for name, sample in samples[each.key].items()
            }
            for each in compared
        },
        "differences": _differences(compared, samples),
        "lengths": {
            each.key: [len(text) for text in each.sides[side.name].texts]
            for each in compared
            if each.kind != "title"
        },
    }


def _estimate(sample: Sample) -> dict[str, float | None]:
    found = sample.estimate()
    return {"value": _plain(found.value), "low": _plain(found.low), "high": _plain(found.high)}


_CORPUS = {"bleu", "chrf"}


def _measured_rows(name: str, table: Floats) -> int:
    """Count the rows that the score is of: the others have nothing to be measured by."""
    return len(table) if name in _CORPUS else int(np.count_nonzero(table[:, -1]))


def _plain(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{_DIGITS}g}")


def _differences(
    compared: list[System], samples: dict[str, dict[str, Sample]]
) -> list[dict[str, Any]]:
    """Pair every judged candidate with its base, the baselines, and the judged ones before it."""
    judged = [each for each in compared if each.kind in ("adapter", "generated")]
    found = []
    for place, one in enumerate(judged):
        others = [each for each in compared if each.key == one.against]
        others += [each for each in compared if each.kind in ("title", "nearest")]
        for other in others + judged[:place]:
            mine, theirs = samples[one.key], samples[other.key]
            found.append({
                "one": one.key,
                "other": other.key,
                "scores": {
                    name: _estimate(mine[name].minus(theirs[name]))
                    for name in mine
                    if name in theirs
                },
            })  # fmt: skip
    return found


def _rows(side: EvalSet, compared: list[System], measured: Scores) -> list[dict[str, Any]]:
    """Give every row with each candidate's text, its copied spans and its own scores."""
    shown = [each for each in compared if each.sides[side.name].texts and each.kind != "title"]
    scores = {each.key: _row_scores(measured, side, each) for each in shown}
    rows = []
    for place, uid in enumerate(side.uids):
        texts = {}
        for each in shown:
            recalled = measured.recalled[side.name].get(each.key)
            texts[each.key] = {
                **({"text": each.sides[side.name].texts[place]}
                   if each.kind != "reference" else {}),
                **({"spans": recalled.copies.spans[place],
                    "nearest": recalled.nearest[place],
                    "alike": _plain(float(recalled.alike[place]))} if recalled else {}),
                "scores": {name: _plain(float(v[place])) for name, v in scores[each.key].items()},
            }  # fmt: skip
        rows.append({
            "uid": uid, "side": side.name, "title": side.titles[place],
            "reference": side.references[place], "texts": texts,
        })  # fmt: skip
    return rows


_CORPUS_ONLY = {"bleu", "distinct1", "distinct2", "recited"}


def _row_scores(measured: Scores, side: EvalSet, candidate: System) -> dict[str, np.ndarray]:
    tables = measured.rows[side.name][candidate.key]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return {
            name: metrics.BY_KEY[name].score(table)
            for name, table in tables.items()
            if name not in _CORPUS_ONLY
        }


def _run(path: str, made: Manifest) -> dict[str, Any]:
    """Give what a run's folder tells of its training; a missing curve is told as such."""
    facts = made.facts
    told = {
        name: facts.get(name)
        for name in ("base", "backend", "steps", "epochs", "final_loss", "best_validation_loss",
                     "trainable_parameters", "device", "samples_per_second")
    }  # fmt: skip
    optimisation = made.config.get("optimisation", {})
    told["learning_rate"], told["batch_size"] = (
        optimisation.get(name) for name in ("learning_rate", "batch_size")
    )
    train, validation, why = _curves(Path(path) / "metrics.jsonl")
    return {"name": path.rstrip("/").split("/")[-1], "path": path, "digest": made.digest,
            "facts": {name: value for name, value in told.items() if value is not None},
            "loss": train, "validation_loss": validation, "no_curve": why}  # fmt: skip


Curve = list[tuple[float, float]]


def _curves(file: Path) -> tuple[Curve, Curve, str | None]:
    if not file.is_file():
        return [], [], f"{file}: none, so no loss is drawn"
    found: dict[str, Curve] = {"loss": [], "validation_loss": []}
    for line in file.read_text().splitlines():
        try:
            told = json.loads(line)
        except ValueError:  # the last line of a run that was killed
            continue
        for name, curve in found.items():
            value = told.get(name)
            if isinstance(value, int | float) and math.isfinite(value):
                curve.append((told.get("step", 0), round(value, 5)))
    why = None if len(found["loss"]) > 1 else f"{file}: no losses, so none is drawn"
    return found["loss"], found["validation_loss"], why


def _funnel(subset: Manifest) -> dict[str, Any]:
    """Tell where the rows went from the raw file on, as far as its manifests are there."""
    stages = []
    missing = None
    for parent in subset.made_from:
        try:
            clean = manifest.read(Folder(parent.path), "clean")
        except ManifestError:
            missing = f"{parent.path}: none any more, so its drops are not drawn"
            continue
        if clean.digest != parent.digest:
            missing = f"{parent.path}: made anew since, so its drops are not drawn"
            continue
        stages.append(_stage("clean", clean))
    return {"stages": [*stages, _stage("subset", subset)], "missing": missing}


def _stage(name: str, made: Manifest) -> dict[str, Any]:
    counts = made.counts
    gone = Counter(counts.dropped) + Counter(
        {f"quarantined: {r}": n for r, n in counts.quarantined.items()}
    )
    return {
        "stage": name,
        "read": counts.read,
        "kept": counts.kept,
        "gone": dict(gone.most_common()),
    }


def _lineage(case: "Case") -> list[dict[str, Any]]:
    """List what was made from what, from the raw files to the texts; depth in the tree."""
    found: list[dict[str, Any]] = []

    def walk(parent: Parent, depth: int) -> None:
        if any(each["digest"] == parent.digest for each in found):
            return
        found.append({"depth": depth, "stage": parent.stage, "path": parent.path,
                      "digest": parent.digest})  # fmt: skip
        for each in parent.made_from:
            walk(each, depth + 1)
        if parent.stage == "clean":
            found.extend(_sources(parent, depth + 1))

    # Texts first: the run that wrote them then stands below them.
    tops = [each.parent for each in case.ready if each.parent]
    tops += [model.record.as_parent(path) for path, model in case.runs if model.record]
    for top in tops or [case.subset.as_parent(case.config.subset)]:
        walk(top, 0)
    return found


def _sources(parent: Parent, depth: int) -> list[dict[str, Any]]:
    try:
        clean = manifest.read(Folder(parent.path), "clean")
    except ManifestError:
        return []
    return [
        {"depth": depth, "stage": "raw", "path": each.path, "digest": each.digest}
        for each in clean.inputs
    ]
