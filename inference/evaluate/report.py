"""What an evaluation measured, as plain values: the contents of ``report.json`` and of the page."""

import json
import math
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.artefacts.manifest import Manifest, Parent
from data.errors import ManifestError
from inference.evaluate import metrics, systems
from inference.evaluate.metrics import Sample
from inference.evaluate.samples import EvalSet
from inference.evaluate.scores import Scores
from inference.evaluate.systems import System

if TYPE_CHECKING:
    from inference.evaluate.command import Case

FORMAT = 1
_DIGITS = 6
_FACTS = ("base", "backend", "steps", "epochs", "final_loss", "best_validation_loss",
          "trainable_parameters", "device", "samples_per_second")  # fmt: skip
_CORPUS = {"bleu", "chrf"}
"""Metrics that are of all rows, also of those that add nothing."""
_CORPUS_ONLY = {"bleu", "distinct1", "distinct2", "recited", "inventing", "repeating"}
"""Metrics that say nothing of a single row."""

Curve = list[tuple[float, float]]


def collect(
    case: "Case", compared: list[System], measured: Scores, verdicts: list[dict[str, Any]]
) -> dict[str, Any]:
    """Collect everything that the report says; no value is NaN or infinite."""
    texts = (
        text
        for side in case.sides
        for column in (side.references, *(system.sides[side.name].texts for system in compared))
        for text in column
    )
    settings = ("split", "resamples", "seed", "copied_span", "recited_alike")
    return {
        "format": FORMAT,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "verdicts": verdicts,
        "settings": {name: getattr(case.config, name) for name in settings}
        | {"repeats": metrics.REPEATS, "signatures": metrics.signatures(texts)}
        | {"decoding": {path: systems.decoding(model, case.config) for path, model in case.runs}},
        "candidates": [_fields(system, "key label kind run against") for system in compared],
        "metrics": metrics.METRICS,
        "sides": {side.name: _side(side, compared, measured) for side in case.sides},
        "runs": [_run(path, model.record) for path, model in case.runs if model.record],
        "curve": _curve(case),
        "funnel": _funnel(case.subset),
        "lineage": _lineage(case),
        "rows": [row for side in case.sides for row in _rows(side, compared, measured)],
    }


def _fields(item: Any, names: str) -> dict[str, Any]:
    return {name: getattr(item, name) for name in names.split()}


def _side(side: EvalSet, compared: list[System], measured: Scores) -> dict[str, Any]:
    samples, tables = measured.samples[side.name], measured.rows[side.name]
    scores: dict[str, Any] = {}
    for key, own in samples.items():
        scores[key] = _estimates(own)
        for name, score in scores[key].items():
            # Other rows have nothing to be measured by: their last sum is 0.
            table = tables[key][name]
            score["rows"] = len(table) if name in _CORPUS else int(np.count_nonzero(table[:, -1]))
    return {
        "rows": len(side),
        "left_out": side.left_out,
        "scores": scores,
        "slices": [
            {"kind": part.kind, "name": part.name, "rows": part.rows}
            | {"scores": {key: _estimates(own) for key, own in part.samples.items() if own}}
            for part in measured.slices[side.name]
        ],
        "differences": _differences(compared, samples),
        "lengths": {
            system.key: [len(text) for text in system.sides[side.name].texts]
            for system in compared
            if system.kind != "title"
        },
    }


def _estimates(samples: dict[str, Sample]) -> dict[str, Any]:
    return {name: _estimate(sample) for name, sample in samples.items()}


def _estimate(sample: Sample) -> dict[str, Any]:
    return {name: _plain(value) for name, value in vars(sample.estimate()).items()}


def _plain(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{_DIGITS}g}")


def _differences(
    compared: list[System], samples: dict[str, dict[str, Sample]]
) -> list[dict[str, Any]]:
    """Pair every judged system with its base, the baselines, and the judged ones before it."""
    judged = [system for system in compared if system.is_judged]
    pairs = []
    for place, one in enumerate(judged):
        others = [system for system in compared if system.key in one.others.values()]
        others += [system for system in compared if system.kind in ("title", "nearest")]
        for other in others + judged[:place]:
            mine, theirs = samples[one.key], samples[other.key]
            scores = {name: mine[name].minus(theirs[name]) for name in mine if name in theirs}
            pairs.append({"one": one.key, "other": other.key, "scores": _estimates(scores)})
    return pairs


def _rows(side: EvalSet, compared: list[System], measured: Scores) -> list[dict[str, Any]]:
    """Collect every row with each system's text, its copied spans and its own scores."""
    rows: list[dict[str, Any]] = [
        {"uid": uid, "side": side.name, "title": title, "reference": reference, "texts": {}}
        for uid, title, reference in zip(side.uids, side.titles, side.references, strict=True)
    ]
    for name, column in side.attributes.items():
        for row, value in zip(rows, column, strict=True):
            row.setdefault("attributes", {})[name] = value
    for system in compared:
        texts = system.sides[side.name].texts
        if not texts or system.kind == "title":
            continue
        tables = measured.rows[side.name][system.key]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            scores = {
                name: metrics.SCORES[name](table)
                for name, table in tables.items()
                if name not in _CORPUS_ONLY
            }
        recalled = measured.recalled[side.name].get(system.key)
        for place, row in enumerate(rows):
            own: dict[str, Any] = {} if system.kind == "reference" else {"text": texts[place]}
            if recalled:
                own["spans"] = recalled[place].spans
                own["nearest"] = recalled[place].nearest
                own["alike"] = _plain(recalled[place].alike)
            own["scores"] = {name: _plain(float(of[place])) for name, of in scores.items()}
            row["texts"][system.key] = own
    return rows


def _run(path: str, record: Manifest) -> dict[str, Any]:
    """Collect what a run's folder says of its training, and why a loss curve is missing."""
    facts = {name: record.facts.get(name) for name in _FACTS}
    if record.config.get("tiny"):
        facts["base"] = "a tiny one, made from its rows"
    optimisation = record.config.get("optimisation", {})
    facts |= {name: optimisation.get(name) for name in ("learning_rate", "batch_size")}
    train, validation, why = _curves(Path(path) / "metrics.jsonl")
    return {"name": path.rstrip("/").split("/")[-1], "path": path, "digest": record.digest,
            "rows": record.counts.kept, "seconds": record.seconds,
            "facts": {name: value for name, value in facts.items() if value is not None},
            "loss": train, "validation_loss": validation, "no_curve": why}  # fmt: skip


def _curves(file: Path) -> tuple[Curve, Curve, str | None]:
    if not file.is_file():
        return [], [], f"{file}: none, so no loss is drawn"
    curves: dict[str, Curve] = {"loss": [], "validation_loss": []}
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # the last line of a run that was killed
            continue
        for name, curve in curves.items():
            value = event.get(name)
            if isinstance(value, int | float) and math.isfinite(value):
                curve.append((event.get("step", 0), round(value, 5)))
    why = None if len(curves["loss"]) > 1 else f"{file}: no losses, so none is drawn"
    return curves["loss"], curves["validation_loss"], why


def _curve(case: "Case") -> dict[str, Any] | None:
    """Take what the curve measured and foretells; None: none is shown."""
    if case.curve is None or case.config.curve is None:
        return None
    curve = json.loads(Folder(case.config.curve).read("curve.json"))
    return {"path": case.config.curve} | {
        name: curve[name] for name in ("lines", "sizes", "band", "foretold")
    }


def _funnel(subset: Manifest) -> dict[str, Any]:
    """Count where the rows went from the raw file on, as far as its manifests are there."""
    stages = []
    missing = None
    for parent in subset.made_from:
        clean = _clean(parent)
        if clean is None:
            missing = f"{parent.path}: none any more, so its drops are not drawn"
        elif clean.digest != parent.digest:
            missing = f"{parent.path}: made anew since, so its drops are not drawn"
        else:
            stages.append(_stage("clean", clean))
    return {"stages": [*stages, _stage("subset", subset)], "missing": missing}


def _clean(parent: Parent) -> Manifest | None:
    try:
        return manifest.read(Folder(parent.path), "clean")
    except ManifestError:
        return None


def _stage(name: str, record: Manifest) -> dict[str, Any]:
    counts = record.counts
    gone = Counter(counts.dropped)
    gone += Counter({f"quarantined: {reason}": n for reason, n in counts.quarantined.items()})
    return {"stage": name, "read": counts.read, "kept": counts.kept,
            "gone": dict(gone.most_common())}  # fmt: skip


def _lineage(case: "Case") -> list[dict[str, Any]]:
    """List what was made from what, from the texts to the raw files; depth in the tree."""
    entries: list[dict[str, Any]] = []

    def walk(parent: Parent, depth: int) -> None:
        if any(entry["digest"] == parent.digest for entry in entries):
            return
        entries.append({"depth": depth} | _fields(parent, "stage path digest"))
        for source in parent.made_from:
            walk(source, depth + 1)
        if parent.stage == "clean" and (clean := _clean(parent)):
            entries.extend(
                {"depth": depth + 1, "stage": "raw", "path": file.path, "digest": file.digest}
                for file in clean.inputs
            )

    # Texts first: the run that wrote them then stands below them.
    tops = [ready.parent for ready in case.ready if ready.parent]
    tops += [model.record.as_parent(path) for path, model in case.runs if model.record]
    for top in tops or [case.subset.as_parent(case.config.subset)]:
        walk(top, 0)
    return entries
