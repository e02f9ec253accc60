"""The driver of ``evaluate``: runs and ready texts in, one page and one JSON file out."""

import dataclasses
import json
import logging
import time
from dataclasses import dataclass
from typing import Any

from data import cli, manifest
from data.errors import GateError, SourceError
from data.manifest import Counts, Manifest, Parent
from data.shards import Artefact, Folder, digest_bytes
from inference import candidates, engine, measures, report, samples, verdict
from inference.candidates import Candidate, Ready, Writer, Written
from inference.criteria import EvaluateConfig
from inference.engine import Model
from inference.samples import Side, Trained

log = logging.getLogger("catalogue")

STAGE = "evaluate"
JSON, HTML = "report.json", "report.html"


@dataclass(frozen=True)
class Case:
    """Everything that is compared, found but not measured."""

    config: EvaluateConfig
    subset: Manifest
    runs: list[tuple[str, Model]]
    ready: list[Ready]
    trained: dict[str, list[Trained]]
    """By run or ready texts, what it was trained on."""
    sides: list[Side]


def run(config: EvaluateConfig) -> Manifest:
    """Evaluate runs or ready texts.

    Raises:
        ModelError: a run's base is not the one it was trained on.
        SubsetError: a run was trained on rows that were to be unseen.
        SourceError: ready texts have no uid of these rows.
        ManifestError: what a run was trained on cannot be found.
        GateError: a gate was asked for, and a threshold is not met.
    """
    began = time.perf_counter()
    case = find(config)
    folder = Folder(config.out)
    identity = manifest.identify(
        config,
        subset=case.subset.digest,
        rows=digest_bytes(json.dumps([side.uids for side in case.sides]).encode()),
        runs=[model.digest for _, model in case.runs],
        generated=[ready.digest for ready in case.ready],
    )
    done = manifest.begin(folder, STAGE, identity, config.overwrite)
    if done:
        cli.say(f"{config.out} is already finished for these runs, rows and settings")
        _say(done.facts["verdicts"])
        _gate(config, done.facts["verdicts"])
        return done
    try:
        compared = write_all(case)
        measured = measures.measure(config, case.sides, compared)
    except Exception:
        manifest.abandon(folder)  # nothing to go on from
        raise
    verdicts = [
        verdict.as_dict(
            verdict.judge(measured.samples, each.key, each.label, each.against, config.thresholds)
        )
        for each in compared
        if each.kind in ("adapter", "generated")
    ]
    told = report.collect(config, case, compared, measured, verdicts)
    result = _write(config, case, told, identity, time.perf_counter() - began)
    _say(verdicts)
    cli.say(f"\n{config.out}/{HTML} finished in {result.seconds:.1f} s")
    _gate(config, verdicts)
    return result


def find(config: EvaluateConfig) -> Case:
    """Find runs, ready texts and rows, and check that unseen rows are unseen."""
    known = manifest.read(Folder(config.subset), "subset")
    runs = [(path, engine.find_model(path)) for path in config.runs]
    ready = [candidates.read_ready(path) for path in config.ready]
    trained: dict[str, list[Trained]] = {}
    for path, model in runs:
        candidates.check_run(path, model)
        assert model.made is not None  # noqa: S101  # for the type checker
        parent = model.made.as_parent(manifest.absolute(path))
        trained[path] = samples.trained_on(parent, config.subset, known)
        trained[path] += samples.trained_before(model.made, config.subset, known)
    for each in ready:
        # Of foreign texts nothing tells what wrote them: the subset's own train rows are assumed.
        by = each.made_by or Parent("train", each.path, "", (known.as_parent(config.subset),))
        trained[each.path] = samples.trained_on(by, config.subset, known)
    every = [one for many in trained.values() for one in many]
    unseen = (
        samples.held_out(config.held_out, config.rows, every)
        if config.held_out
        else samples.unseen(config.subset, config.split, config.rows, every)
    )
    seen = samples.seen(every, len(unseen))
    sides = [_covered(side, runs, ready) for side in (unseen, seen)]
    if not len(sides[0]):
        path = ready[0].path
        found = "none of them (first: " + ", ".join(list(ready[0].texts)[:2]) + ")"
        expected = f"texts for uids such as {unseen.uids[0]}"
        raise SourceError(path, expected, found, "name the titles' own subset or --held_out")
    return Case(config, known, runs, ready, trained, [side for side in sides if len(side)])


def _covered(side: Side, runs: list[tuple[str, Model]], ready: list[Ready]) -> Side:
    """Keep the rows that every ready text without a run of its own covers."""
    for each in ready:
        if not any(candidates.is_by(each, model) for _, model in runs):
            side = samples.only(side, set(each.texts))
    return side


def write_all(case: Case) -> list[Candidate]:
    """Write or take the texts of every candidate, on every side."""
    made: list[Candidate] = []
    bases: dict[str, str] = {}
    several = len(case.runs) > 1
    for path, model in case.runs:
        name = path.rstrip("/").split("/")[-1]
        shared = candidates.base_of(model)
        if shared not in bases:
            base = Candidate("base" if not bases else f"base:{name}",
                             "Base" if not bases else f"Base of {name}", "base")  # fmt: skip
            base.trained = case.trained[path][0]
            bases[shared] = base.key
            _have(base, Writer(candidates.bare(model), case.config), case, {}, case.config.base)
            made.append(base)
        own = Candidate(f"adapter:{name}" if several else "adapter",
                        f"Adapter {name}" if several else "Adapter", "adapter",
                        case.trained[path][0], path, bases[shared])  # fmt: skip
        texts = {
            uid: text
            for each in case.ready
            if candidates.is_by(each, model)
            for uid, text in each.texts.items()
        }
        _have(own, Writer(model, case.config), case, texts, True)
        made.insert(len(made) - 1 if len(case.runs) == 1 else len(made), own)
    for each in case.ready:
        if not any(candidates.is_by(each, model) for _, model in case.runs):
            name = each.path.rstrip("/").split("/")[-1]
            taken = Candidate(f"generated:{name}", name, "generated", case.trained[each.path][0])
            taken.sides = {side.name: candidates.take_ready(each, side) for side in case.sides}
            made.append(taken)
    return made + _without_model(case, next(iter(case.trained.values()))[0])


def _have(
    candidate: Candidate, writer: Writer, case: Case,
    ready: dict[str, tuple[str, bool | None]], writes: bool,
) -> None:  # fmt: skip
    for side, cost in zip(case.sides, writer.score(case.sides), strict=True):
        covered = {uid: ready[uid] for uid in side.uids if uid in ready}
        what = f"{candidate.label.lower()}, {side.name} titles"
        written = writer.write(side, covered, what) if writes else Written([])
        candidate.sides[side.name] = dataclasses.replace(written, cost=cost)
    writer.close()


def _without_model(case: Case, trained: Trained) -> list[Candidate]:
    title = Candidate("title", "Title itself", "title")
    nearest = Candidate("nearest", "Nearest trained row", "nearest")
    real = Candidate("reference", "Real description", "reference", trained)
    for side in case.sides:
        title.sides[side.name] = Written(list(side.titles))
        nearest.sides[side.name] = Written(candidates.nearest_by_title(side, trained))
        real.sides[side.name] = Written(list(side.references))
    return [nearest, title, real]


def _write(
    config: EvaluateConfig,
    case: Case,
    told: dict[str, Any],
    identity: dict[str, Any],
    seconds: float,
) -> Manifest:
    folder = Folder(config.out)
    outputs = []
    rows = sum(len(side) for side in case.sides)
    for name, text in ((JSON, report.as_json(told)), (HTML, report.as_html(told, config))):
        payload = text.encode()
        folder.commit(name, payload)
        outputs.append(Artefact(name, rows, len(payload), digest_bytes(payload)))
    parents = [m.made.as_parent(manifest.absolute(path)) for path, m in case.runs if m.made]
    parents += [each.parent for each in case.ready if each.parent]
    parents.append(case.subset.as_parent(manifest.absolute(config.subset)))
    left_out: dict[str, int] = {}
    for side in case.sides:
        for reason, count in side.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + count
    result = Manifest(
        stage=STAGE,
        config=manifest.config_dict(config),
        identity=identity,
        inputs=(),
        outputs=tuple(outputs),
        counts=Counts(rows + sum(left_out.values()), rows, left_out),
        made_from=tuple(parents),
        facts={"verdicts": told["verdicts"]},
        versions=manifest.versions(),
        seconds=round(seconds, 3),
    )
    result.write(folder)
    return result


def _say(verdicts: list[dict[str, Any]]) -> None:
    """Print the verdicts: met or not, the question, the figures."""
    for each in verdicts:
        cli.say(f"\n{each['label']}: {each['headline']}")
        for line in each["lines"]:
            mark = {True: "met", False: "NOT MET", None: "-"}[line["passed"]]
            cli.say(f"  {mark:<8} {line['question']} {line['told']}")


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
