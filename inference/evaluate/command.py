"""The driver of ``evaluate``: runs and ready texts in, one page and one JSON file out."""

import dataclasses
import importlib.metadata
import json
import logging
from dataclasses import dataclass
from typing import Any

from data import console
from data.artefacts import manifest
from data.artefacts.folder import Artefact, Folder, digest_bytes
from data.artefacts.manifest import Counts, Manifest, Parent
from data.artefacts.run import Run
from data.artefacts.stage import Work, stage
from data.errors import GateError, ManifestError, SourceError
from inference import engine
from inference.config import EvaluateConfig
from inference.evaluate import report, samples, scores, systems, verdict
from inference.evaluate.samples import EvalSet, Trained
from inference.evaluate.systems import Ready, System, Writer, Written

log = logging.getLogger("catalogue")

STAGE = "evaluate"
JSON, HTML = "report.json", "report.html"
"""Says by how much an adapter's weights count."""
_SCORERS = ("rouge_score", "sacrebleu")
"""Libraries whose figures another version may change."""


@dataclass(frozen=True)
class Case:
    """Everything that is compared, found but not measured."""

    config: EvaluateConfig
    subset: Manifest
    runs: list[tuple[str, Run]]
    ready: list[Ready]
    own: dict[str, list[Ready]]
    """By run, the ready texts that stand in for writing its own anew."""
    beside: list[Ready]
    """The other ready texts: candidates of their own."""
    trained: dict[str, list[Trained]]
    """By run or ready texts, what it was trained on."""
    sides: list[EvalSet]


def run(config: EvaluateConfig) -> Manifest:
    """Evaluate runs or ready texts.

    Raises:
        ModelError: a run's base is not the one it was trained on.
        SubsetError: a run was trained on rows that were to be unseen.
        SourceError: ready texts have no uid of these rows.
        ManifestError: what a run was trained on cannot be found.
        GateError: a gate was asked for, and a threshold is not met.
    """
    case = find(config)
    with stage(STAGE, config, config.out, _identify(case), spoiled_by=(Exception,)) as work:
        result = work.finished or _write(work, case, _report(case))
    if work.finished:
        console.say(f"{config.out} is already finished for these runs, rows and settings")
    _say(result.facts["verdicts"])
    if not work.finished:
        console.say(f"\n{config.out}/{HTML} finished in {result.seconds:.1f} s")
    _gate(config, result.facts["verdicts"])
    return result


def _report(case: Case) -> dict[str, Any]:
    """Write all texts, measure and judge them."""
    config = case.config
    compared = write_all(case)
    measured = scores.measure(config, case.sides, compared)
    verdicts = [
        verdict.as_dict(
            verdict.judge(measured.samples, each.key, each.label, each.against, config.thresholds)
        )
        for each in compared
        if each.kind in ("adapter", "generated")
    ]
    return report.collect(config, case, compared, measured, verdicts)


def _identify(case: Case) -> dict[str, Any]:
    """Collect everything that changes a figure, a text or a verdict of the report."""
    models = [model for _, model in case.runs]
    device = engine.choose_device(case.config.device) if models else None
    written = {
        "settings": [model.settings for model in models],
        "made": [model.record.digest for model in models if model.record],
        "prompts": [dataclasses.asdict(model.prompt) for model in models],
        "limits": [case.config.max_new_tokens or model.max_new_tokens for model in models],
        "device": device,
        "precision": "bf16" if device == "cuda" else "float32",
    }
    return manifest.identify(
        case.config,
        subset=case.subset.digest,
        rows=_digest([side.uids for side in case.sides]),
        texts=_digest([[s.titles, s.references, s.left_out] for s in case.sides]),
        trained=[[each.digest for each in many] for many in case.trained.values()],
        runs=[model.digest for model in models],
        generated=[ready.digest for ready in case.ready],
        scorers={name: importlib.metadata.version(name) for name in _SCORERS},
        **(written if models else {}),
    )


def _digest(value: Any) -> str:
    return digest_bytes(json.dumps(value).encode())


def find(config: EvaluateConfig) -> Case:
    """Find runs, ready texts and rows, and check that unseen rows are unseen."""
    known = manifest.read(Folder(config.subset), "subset")
    runs = [(path, Run.open(path)) for path in config.runs]
    ready = [systems.read_ready(path) for path in config.ready]
    trained: dict[str, list[Trained]] = {}
    for path, model in runs:
        record = systems.check_run(path, model)
        parent = record.as_parent(manifest.absolute(path))
        trained[path] = samples.trained_on(parent, config.subset, known)
        trained[path] += samples.trained_before(record, config.subset, known)
    for each in ready:
        # Of foreign texts nothing tells what wrote them: the subset's own train rows are assumed.
        by = each.made_by or Parent("train", each.path, "", (known.as_parent(config.subset),))
        trained[each.path] = samples.trained_on(by, config.subset, known)
    for path, many in trained.items():
        if not many:
            mend = "judge its texts with --generated instead"
            raise ManifestError(path, "a run that tells its subset", "none", mend)
    every = [one for many in trained.values() for one in many]
    unseen = (
        samples.held_out(config.held_out, config.rows, every)
        if config.held_out
        else samples.unseen(config.subset, config.split, config.rows, every)
    )
    seen = samples.seen(every, len(unseen))
    own = {
        path: [each for each in ready if systems.stands_in(each, model, config)]
        for path, model in runs
    }
    beside = [each for each in ready if not any(each in many for many in own.values())]
    sides = [unseen, seen]
    for each in beside:
        sides = [systems.covered(side, each) for side in sides]
        if not len(sides[0]):
            raise _uncovered(each, unseen)
    sides = [side for side in sides if len(side)]
    return Case(config, known, runs, ready, own, beside, trained, sides)


def _uncovered(ready: Ready, side: EvalSet) -> SourceError:
    expected = f"texts for uids such as {side.uids[0]}"
    found = "none of them (first: " + ", ".join(list(ready.texts)[:2]) + ")"
    if side.uids[0] in ready.texts:
        expected, found = "texts for these rows", "texts of the same uids for other titles"
    mend = "name the titles' own subset or --held_out"
    return SourceError(ready.path, expected, found, mend)


def write_all(case: Case) -> list[System]:
    """Write or take the texts of every candidate, on every side."""
    made: list[System] = []
    bases: dict[str, str] = {}
    several = len(case.runs) > 1
    names = _names([path for path, _ in case.runs])
    for path, model in case.runs:
        name = names[path]
        shared = systems.base_of(model)
        if shared not in bases:
            base = System("base" if not bases else f"base:{name}",
                             "Base" if not bases else f"Base of {name}", "base")  # fmt: skip
            base.trained = case.trained[path][0]
            bases[shared] = base.key
            _have(base, Writer(model.without_adapter(), case.config), case, [], case.config.base)
            made.append(base)
        own = System(f"adapter:{name}" if several else "adapter",
                        f"Adapter {name}" if several else "Adapter", "adapter",
                        case.trained[path][0], path, bases[shared])  # fmt: skip
        _have(own, Writer(model, case.config), case, case.own[path], True)
        made.insert(len(made) - 1 if len(case.runs) == 1 else len(made), own)
    names = _names([each.path for each in case.beside])
    for each in case.beside:
        name = names[each.path]
        taken = System(f"generated:{name}", name, "generated", case.trained[each.path][0])
        taken.sides = {side.name: systems.take_ready(each, side) for side in case.sides}
        made.append(taken)
    return made + _without_model(case, next(iter(case.trained.values()))[0])


def _names(paths: list[str]) -> dict[str, str]:
    """Name paths by their last folder, or by as many as tell them apart."""
    split = {path: path.rstrip("/").split("/") for path in paths}
    named = {}
    for path, words in split.items():
        others = [each for other, each in split.items() if other != path]
        length = 1
        while length < len(words) and any(each[-length:] == words[-length:] for each in others):
            length += 1
        named[path] = "/".join(words[-length:])
    return named


def _have(candidate: System, writer: Writer, case: Case, ready: list[Ready], writes: bool) -> None:
    for side, cost in zip(case.sides, writer.score(case.sides), strict=True):
        found = systems.find_ready(ready, side)
        what = f"{candidate.label.lower()}, {side.name} titles"
        written = writer.write(side, found, what) if writes else Written([])
        candidate.sides[side.name] = dataclasses.replace(written, cost=cost)
    writer.close()


def _without_model(case: Case, trained: Trained) -> list[System]:
    title = System("title", "Title itself", "title")
    nearest = System("nearest", "Nearest trained row", "nearest")
    real = System("reference", "Real description", "reference", trained)
    for side in case.sides:
        title.sides[side.name] = Written(list(side.titles))
        nearest.sides[side.name] = Written(systems.nearest_by_title(side, trained))
        real.sides[side.name] = Written(list(side.references))
    return [nearest, title, real]


def _write(work: Work, case: Case, told: dict[str, Any]) -> Manifest:
    config: EvaluateConfig = work.config
    outputs = []
    rows = sum(len(side) for side in case.sides)
    for name, text in ((JSON, report.as_json(told)), (HTML, report.as_html(told, config))):
        payload = text.encode()
        work.folder.commit(name, payload)
        outputs.append(Artefact(name, rows, len(payload), digest_bytes(payload)))
    parents = [m.record.as_parent(manifest.absolute(path)) for path, m in case.runs if m.record]
    parents += [each.parent for each in case.ready if each.parent]
    parents.append(case.subset.as_parent(manifest.absolute(config.subset)))
    left_out: dict[str, int] = {}
    for side in case.sides:
        for reason, count in side.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + count
    return work.finish(
        outputs=tuple(outputs),
        counts=Counts(rows + sum(left_out.values()), rows, left_out),
        made_from=tuple(parents),
        facts={"verdicts": told["verdicts"]},
    )


def _say(verdicts: list[dict[str, Any]]) -> None:
    """Print the verdicts: met or not, the question, the figures."""
    for each in verdicts:
        console.say(f"\n{each['label']}: {each['headline']}")
        for line in each["lines"]:
            mark = {True: "met", False: "NOT MET", None: "-"}[line["passed"]]
            console.say(f"  {mark:<8} {line['question']} {line['told']}")


def _gate(config: EvaluateConfig, verdicts: list[dict[str, Any]]) -> None:
    """Refuse where a gate was asked for and a threshold is not met."""
    failed = [
        (each, line) for each in verdicts for line in each["lines"] if line["passed"] is False
    ]
    if config.gate and failed:
        each, line = failed[0]
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        expected = f"{line['key']} met"
        raise GateError(
            f"{each['label']}", expected, f"{line['told']}{more}", f"see {config.out}/{HTML}"
        )
