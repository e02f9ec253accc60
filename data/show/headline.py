"""What a person asks of an artefact first: its rows, what was dropped, its loss, speed and place.

Facts are read as manifests have them; one that is missing, as in an earlier version's, is left out.
"""

from collections.abc import Callable, Iterator
from typing import Any

from data.artefacts.folder import Folder
from data.artefacts.manifest import Manifest
from data.console import Colour, duration

Line = tuple[str, str, Colour | None]
"""Name, text, and the colour of the name."""
_NAMED_DROPS = 3
_OUTCOMES: dict[str, Colour] = {"met": "green", "missed": "red", "too_few": "yellow"}
_MARKS = {"met": "met", "missed": "NOT MET", "too_few": "too few"}
_OPENED = ("report.html", "curve.png", "tune.png", "best.yaml", "plan.json", "loss.png")
"""Files that a person opens."""


def of(record: Manifest, folder: Folder) -> Iterator[Line]:
    """Yield the lines that an artefact is shown with first."""
    facts = record.facts
    if record.stage == "evaluate":
        yield from _verdicts(facts)
    for name, text in _ABOUT.get(record.stage, _rows)(record, facts):
        yield name, text, None
    yield "time", duration(record.seconds), None
    opened = [output.path for output in record.outputs if output.path in _OPENED]
    yield "where", ", ".join([folder.url, *opened]), None


Pairs = Iterator[tuple[str, str]]


def _rows(record: Manifest, _facts: dict[str, Any]) -> Pairs:
    counts = record.counts
    if counts.read:
        yield "rows", f"{counts.kept:,} of {counts.read:,} kept ({counts.kept / counts.read:.1%})"
    gone = sorted(counts.dropped.items(), key=lambda pair: -pair[1])
    if gone:
        named = ", ".join(f"{count:,} {reason}" for reason, count in gone[:_NAMED_DROPS])
        more = sum(count for _, count in gone[_NAMED_DROPS:])
        yield "drops", named + (f", {more:,} for other reasons" if more else "")
    if broken := sum(counts.quarantined.values()):
        yield "broken", f"{broken:,} in quarantine"


def _clean(record: Manifest, facts: dict[str, Any]) -> Pairs:
    yield from _rows(record, facts)
    if record.seconds:
        yield "speed", f"{record.counts.read / record.seconds:,.0f} rows/s"


def _subset(record: Manifest, facts: dict[str, Any]) -> Pairs:
    splits = facts.get("rows", {})
    if splits:
        yield "splits", ", ".join(f"{count:,} {split}" for split, count in splits.items())
    yield from _rows(record, facts)


def _train(record: Manifest, facts: dict[str, Any]) -> Pairs:
    yield from _rows(record, facts)
    if facts.get("base"):
        yield "base", f"{facts['base']}, {facts.get('trainable_parameters', 0):,} weights trained"
    if facts.get("final_loss") is not None:
        best = facts.get("best_validation_loss")
        best_step = f" (step {facts['best_step']:,})" if facts.get("best_step") else ""
        validation = f", best on validation rows {best:.4f}{best_step}" if best is not None else ""
        yield "loss", f"{facts['final_loss']:.4f} after {facts.get('steps', 0):,} steps{validation}"
    if facts.get("samples_per_second"):
        memory = facts.get("peak_memory_gib")
        peak = f", peak {memory:.2f} GiB" if memory is not None else ""
        on = f" on {facts['device']}" if facts.get("device") else ""
        yield "speed", f"{facts['samples_per_second']:,.1f} samples/s{peak}{on}"


def _plan(_record: Manifest, facts: dict[str, Any]) -> Pairs:
    if "chosen" in facts:
        yield "chosen", str(facts["chosen"])
    if "samples_per_second" in facts:
        seconds = duration(facts.get("predicted_seconds", 0))
        yield "speed", f"{facts['samples_per_second']:,.1f} samples/s on {facts.get('device')}"
        yield "foretold", f"{seconds} for the whole run"


def _tune(_record: Manifest, facts: dict[str, Any]) -> Pairs:
    if "best" in facts:
        yield "best", ", ".join(f"{name} {value:g}" for name, value in facts["best"].items())
    if facts.get("validation_loss") is not None:
        again = facts.get("validation_loss_second_seed")
        second = f", {again:.4f} with a second seed" if again is not None else ""
        yield "loss", f"{facts['validation_loss']:.4f} on validation rows{second}"
    if "trials" in facts:
        yield "trials", f"{len(facts['trials']):,}, {facts.get('steps', 0):,} steps in all"


def _curve(_record: Manifest, facts: dict[str, Any]) -> Pairs:
    for place, line in enumerate(facts.get("lines", [])):
        yield "" if place else "says", line


def _export(_record: Manifest, facts: dict[str, Any]) -> Pairs:
    if "logits_apart" in facts:
        yield "apart", f"logits {facts['logits_apart']:.2e} from those of adapter and base"


def _generate(record: Manifest, facts: dict[str, Any]) -> Pairs:
    yield from _rows(record, facts)
    if "mean_characters" in facts:
        yield (
            "texts",
            (
                f"{facts['mean_characters']:.0f} characters on average, "
                f"{facts.get('cut_share', 0):.1%} cut, {facts.get('empty', 0):,} empty, "
                f"{facts.get('duplicates', 0):,} said before"
            ),
        )
    if "tokens_per_second" in facts:
        yield "speed", f"{facts['tokens_per_second']:,.0f} tokens/s, loading included"


def _verdicts(facts: dict[str, Any]) -> Iterator[Line]:
    for verdict in facts.get("verdicts", []):
        colour: Colour = "green" if verdict.get("passed") else "red"
        yield "verdict", f"{verdict['label']}: {verdict['headline']}", colour
        for line in verdict["lines"]:
            if mark := _MARKS.get(line["outcome"]):
                yield mark, f"{line['claim']}: {line['told']}", _OUTCOMES[line["outcome"]]


_ABOUT: dict[str, Callable[[Manifest, dict[str, Any]], Pairs]] = {
    "clean": _clean, "subset": _subset, "train": _train, "plan": _plan, "tune": _tune,
    "curve": _curve, "export": _export, "generate": _generate,
}  # fmt: skip
