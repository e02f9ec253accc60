"""Reports of invented figures, as ``inference evaluate`` collects them."""

import copy
from collections.abc import Sequence
from typing import Any

from inference.evaluate.metrics import METRICS

CURVE = {
    "path": "curves/ten", "lines": ["20,000 rows should reach 1.02"], "band": [],
    "sizes": [
        {"rows": rows, "loss": loss, "low": loss - 0.1, "high": loss + 0.1,
         "quality": {"rougeL": {"value": 20 / loss, "low": 18 / loss, "high": 22 / loss}}}
        for rows, loss in ((100, 1.9), (1_000, 1.4), (10_000, 1.1))
    ],
    "foretold": {"rows": 20_000, "loss": 1.02, "low": 0.9, "high": 1.2, "seconds": None},
}  # fmt: skip
_SYSTEMS = (
    ("adapter", "Adapter", "adapter"), ("base", "Base", "base"),
    ("nearest", "Nearest trained row", "nearest"), ("title", "Title itself", "title"),
    ("reference", "Real description", "reference"),
)  # fmt: skip
_SCORES = {"rougeL": 10.0, "perplexity": 5.0, "title_words": 50.0, "unsupported": 100.0,
           "copied": 10.0, "repetition": 1.0, "longest": 12.0}  # fmt: skip


def make_row(place: int, side: str, title: str, text: str) -> dict[str, Any]:
    """A row with a text of each system."""
    own = {"text": text, "spans": [], "nearest": "A trained text.", "alike": 0.4}
    texts: dict[str, Any] = {
        key: own | {"scores": dict(_SCORES)} for key in ("adapter", "base", "nearest")
    }
    texts["reference"] = {"scores": {"longest": 9.0}}
    return {"uid": f"u{place}", "side": side, "title": title, "reference": "The real one.",
            "texts": texts}  # fmt: skip


def estimate(value: float, reach: float = 1.0) -> dict[str, float]:
    """A figure with its interval."""
    return {"value": value, "low": value - reach, "high": value + reach}


def make_report(
    texts: Sequence[str] = ("It holds 3 litres.", "It boils.", "It whistles."),
    title: str = "Brass Kettle", missed: Sequence[str] = ("unsupported",), label: str = "Adapter",
    curve: dict[str, Any] | None = CURVE, slices: list[dict[str, Any]] | None = None,
    run: str = "ten",
) -> dict[str, Any]:  # fmt: skip
    """A whole report of one run; its texts are written for unseen and for trained titles."""
    systems = [
        {"key": key, "label": name, "kind": kind,
         "run": f"runs/{run}" if key == "adapter" else None,
         "against": "base" if key == "adapter" else None}
        for key, name, kind in _SYSTEMS
    ]  # fmt: skip
    systems[0]["label"] = label
    scores = {
        key: {metric["key"]: estimate(30.0) | {"rows": len(texts)} for metric in METRICS}
        for key, _, _ in _SYSTEMS
    }
    if slices is None:
        slices = [{"kind": "twin", "name": "near", "rows": 2, "scores": scores}]
    differences = {metric["key"]: estimate(3.0) for metric in METRICS}
    side = {
        "rows": len(texts), "left_out": {}, "scores": scores, "slices": slices,
        "differences": [{"one": "adapter", "other": "base", "scores": differences}],
        "lengths": {"adapter": [len(text) for text in texts]},
    }  # fmt: skip
    lines = [
        {"group": "faithful", "key": key, "question": f"{key}?", "claim": f"Misses {key}",
         "told": f"{key}: 9 of 9; asked: at most 1%", "outcome": "missed", "passed": False}
        for key in missed
    ]  # fmt: skip
    headline = "Do not ship: it invents" if missed else "Nothing could be judged"
    return copy.deepcopy(
        {
            "format": 1, "date": "2026-11-26",
            "verdicts": [{"candidate": "adapter", "label": label, "headline": headline,
                          "passed": not missed, "lines": lines}],
            "settings": {"split": "test", "resamples": 2_000, "seed": 1, "copied_span": 50,
                         "recited_alike": 0.9, "repeats": 0.2, "signatures": {"bleu": "b"},
                         "decoding": {run: {"temperature": 1.0, "top_k": None}}},
            "candidates": systems, "metrics": METRICS,
            "sides": {"unseen": side, "seen": side},
            "runs": [{"name": run, "path": f"runs/{run}", "digest": "d" * 32, "rows": 2_000,
                      "seconds": 222.0, "facts": {"base": "tiny", "device": "cpu, 2 threads"},
                      "loss": [[1, 3.0], [2, 2.0], [3, 1.5]], "validation_loss": [],
                      "no_curve": None}],
            "curve": curve,
            "funnel": {"missing": None, "stages": [
                {"stage": "clean", "read": 9, "kept": 5, "gone": {"content_empty": 4}}]},
            "lineage": [{"depth": 0, "stage": "train", "path": run, "digest": "d" * 32},
                        {"depth": 1, "stage": "subset", "path": "s", "digest": "e" * 32}],
            "rows": [make_row(place, name, title, text)
                     for name in ("unseen", "seen") for place, text in enumerate(texts)],
        }
    )  # fmt: skip
