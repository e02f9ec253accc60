"""The driver of ``evaluate``: runs and ready texts in, one page and one JSON file out."""

import dataclasses
import importlib.metadata
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from data import console
from data.artefacts import manifest
from data.artefacts.folder import Artefact, Folder, digest_bytes
from data.artefacts.manifest import Counts, Manifest, Parent
from data.artefacts.run import Run
from data.artefacts.stage import Work, stage
from data.errors import GateError, ManifestError, SourceError
from data.prompt import Prompt
from inference import engine
from inference.config import EvaluateConfig
from inference.evaluate import judging, page, report, samples, scores, systems, verdict
from inference.evaluate.judging import semantic
from inference.evaluate.samples import EvalSet, Trained
from inference.evaluate.systems import Ready, System, Writer, Written

STAGE = "evaluate"
JSON, HTML = "report.json", "report.html"
_MARKS = {"met": "met", "missed": "NOT MET", "too_few": "too few"}
_COLOURS: dict[str, console.Colour] = {"met": "green", "missed": "red", "too_few": "yellow"}
_SCORERS = ("rouge_score", "sacrebleu")
"""Libraries whose figures another version may change."""


@dataclass(frozen=True)
class Case:
    """Everything that is compared, before any text is written or measured."""

    config: EvaluateConfig
    subset: Manifest
    runs: list[tuple[str, Run]]
    ready: list[Ready]
    beside: list[Ready]
    """Those of the ready texts that stand in for no run's own: systems of their own."""
    trained: dict[str, list[Trained]]
    """By run or ready texts, what it was trained on."""
    sides: list[EvalSet]
    curve: Manifest | None = None
    """Of the curve that is shown."""


def run(config: EvaluateConfig) -> Manifest:
    """Evaluate runs or ready texts.

    Raises:
        ModelError: a run's base is not the one it was trained on.
        SubsetError: a run was trained on rows that were to be unseen.
        SourceError: ready texts have no uid of these rows.
        ManifestError: what a run was trained on is not there.
        GateError: a gate was asked for, and a threshold is missed or has too few rows to tell.
    """
    case = find(config)
    with stage(STAGE, config, config.out, identify(case), spoiled_by=(Exception,)) as work:
        result = work.finished or _write(work, case)
    if work.finished:
        console.say(f"{config.out} is already finished for these runs, rows and settings")
    verdicts = result.facts["verdicts"]
    for item in verdicts:
        console.say(f"\n{item['label']}: {item['headline']}")
        for line in item["lines"]:
            mark = _MARKS.get(line["outcome"], "-")
            lead, colour = f"  {mark:<8} ", _COLOURS.get(line["outcome"])
            console.item(lead, verdict.sentence(line), colour)
    if not work.finished:
        console.say(f"\n{config.out}/{HTML} finished in {result.seconds:.1f} s")
    if config.gate:
        _check_gate(config, verdicts)
    return result


def identify(case: Case) -> dict[str, Any]:
    """Collect everything that changes a figure, a text or a verdict of the report."""
    models = [model for _, model in case.runs]
    written: dict[str, Any] = {}
    if models:
        device = engine.choose_device(case.config.device)
        written = {
            "settings": [model.settings for model in models],
            "made": [model.record.digest for model in models if model.record],
            "prompts": [model.prompt.recorded for model in models],
            "decoding": [systems.decoding(model, case.config) for model in models],
            "device": device,
            "precision": "bf16" if device == "cuda" else "float32",
        }
    return manifest.identify(
        case.config,
        subset=case.subset.digest,
        rows=_digest([side.uids for side in case.sides]),
        texts=_digest(
            [
                [s.titles, s.references, s.left_out, *([s.attributes] if s.attributes else [])]
                for s in case.sides
            ]
        ),
        trained=[[source.digest for source in several] for several in case.trained.values()],
        runs=[model.digest for model in models],
        generated=[ready.digest for ready in case.ready],
        scorers={name: importlib.metadata.version(name) for name in _SCORERS},
        verdict=verdict.VERSION,
        **written,
        **({"curve": case.curve.digest} if case.curve else {}),
        **_beside(case.config),
    )


def _beside(config: EvaluateConfig) -> dict[str, Any]:
    """Identify what is asked besides the metrics, where it is asked."""
    identity: dict[str, Any] = {}
    if config.judge:
        identity["judging"] = judging.VERSION
    if config.votes:
        identity["votes"] = _digest(sorted(map(dataclasses.astuple, judging.read(config.votes))))
    if config.semantic:
        identity["semantic"] = semantic.identify(config.semantic)
    return identity


def _digest(value: Any) -> str:
    return digest_bytes(json.dumps(value).encode())


def find(config: EvaluateConfig) -> Case:
    """Find runs, ready texts and rows, and check that unseen rows are unseen."""
    subset = manifest.read(Folder(config.subset), "subset")
    runs = [(path, Run.open(path)) for path in config.runs]
    ready = [systems.read_ready(path) for path in config.ready]
    prompts = [model.prompt for _, model in runs]
    prompts += [Prompt(**texts.settings["prompt"]) for texts in ready if texts.settings]
    attributes = list(dict.fromkeys(name for prompt in prompts for name in prompt.attributes))
    trained = _trained(config, subset, runs, ready, attributes)
    every = [source for several in trained.values() for source in several]
    unseen = (
        samples.held_out(config.held_out, config.rows, every, attributes)
        if config.held_out
        else samples.unseen(config.subset, config.split, config.rows, every, attributes)
    )
    sides = [unseen, samples.seen(every, len(unseen), attributes)]
    beside = [
        texts
        for texts in ready
        if not any(systems.stands_in(texts, model, config) for _, model in runs)
    ]
    for texts in beside:
        sides = [systems.covered(side, texts) for side in sides]
        if not len(sides[0]):
            raise _uncovered(texts, unseen)
    sides = [side for side in sides if len(side)]
    return Case(config, subset, runs, ready, beside, trained, sides, _curve(config))


def _curve(config: EvaluateConfig) -> Manifest | None:
    """Find the curve that is to be shown, and check its files."""
    if config.curve is None:
        return None
    folder = Folder(config.curve)
    record = manifest.read(folder, "curve")
    record.check(folder)
    return record


def _trained(
    config: EvaluateConfig,
    subset: Manifest,
    runs: list[tuple[str, Run]],
    ready: list[Ready],
    attributes: list[str],
) -> dict[str, list[Trained]]:
    """Open what each run, and what wrote each of the ready texts, was trained on."""
    trained: dict[str, list[Trained]] = {}
    for path, model in runs:
        record = systems.check_run(path, model)
        parent = record.as_parent(manifest.absolute(path))
        trained[path] = samples.trained_on(parent, config.subset, subset, attributes)
        trained[path] += samples.trained_before(record, config.subset, subset, attributes)
    for texts in ready:
        # Nothing says what wrote foreign texts: the subset's own train rows are assumed.
        by = texts.made_by or Parent("train", texts.path, "", (subset.as_parent(config.subset),))
        trained[texts.path] = samples.trained_on(by, config.subset, subset, attributes)
    for path, several in trained.items():
        if not several:
            hint = "judge its texts with --generated instead"
            raise ManifestError(path, "a run that tells its subset", "none", hint)
    return trained


def _uncovered(ready: Ready, side: EvalSet) -> SourceError:
    expected = f"texts for uids such as {side.uids[0]}"
    actual = "none of them (first: " + ", ".join(list(ready.texts)[:2]) + ")"
    if side.uids[0] in ready.texts:
        expected, actual = "texts for these rows", "texts of the same uids for other titles"
    hint = "name the titles' own subset or --held_out"
    return SourceError(ready.path, expected, actual, hint)


def _compare(case: Case) -> list[System]:
    """Write or take the texts of every system, on every side."""
    compared: list[System] = []
    bases: dict[str, str] = {}
    names = _names([path for path, _ in case.runs])
    for path, model in case.runs:
        name, trained = names[path], case.trained[path][0]
        weights = systems.base_of(model)
        if weights not in bases:
            key, label = (f"base:{name}", f"Base of {name}") if bases else ("base", "Base")
            bases[weights] = key
            base = System(key, label, "base", trained)
            _fill(base, Writer(model.without_adapter(), case.config), case, [], case.config.base)
            compared.append(base)
        key, label = ("adapter", "Adapter")
        if len(case.runs) > 1:
            key, label = f"adapter:{name}", f"Adapter {name}"
        own = System(key, label, "adapter", trained, path, {"base": bases[weights]})
        ready = [texts for texts in case.ready if systems.stands_in(texts, model, case.config)]
        _fill(own, Writer(model, case.config), case, ready, True)
        if model.prompt.neighbours:
            own.others["alone"] = key.replace("adapter", "alone", 1)
            alone = System(own.others["alone"], f"{label} without neighbours", "alone", trained)
            _fill(alone, Writer(model.without_neighbours(), case.config), case, [], True)
            compared.append(alone)
        compared.append(own)
    if len(case.runs) == 1:
        compared.reverse()  # the adapter first, its base beside it
    names = _names([texts.path for texts in case.beside])
    for texts in case.beside:
        name, trained = names[texts.path], case.trained[texts.path][0]
        sides = {side.name: systems.take_ready(texts, side) for side in case.sides}
        compared.append(System(f"generated:{name}", name, "generated", trained, sides=sides))
    first = next(iter(case.trained.values()))[0]
    nearest = System("nearest", "Nearest trained row", "nearest")
    title = System("title", "Title itself", "title")
    real = System("reference", "Real description", "reference", first)
    for side in case.sides:
        nearest.sides[side.name] = systems.nearest_by_title(side, first)
        title.sides[side.name] = Written(list(side.titles))
        # What a text shares with its neighbours by its nature.
        shown = next(filter(None, (other.sides[side.name].shown for other in compared)), None)
        real.sides[side.name] = Written(list(side.references), shown=shown)
    return [*compared, nearest, title, real]


def _names(paths: list[str]) -> dict[str, str]:
    """Name paths by their last folder, or by as many as make them different."""
    split = {path: path.rstrip("/").split("/") for path in paths}
    names = {}
    for path, words in split.items():
        others = [parts for other, parts in split.items() if other != path]
        length = 1
        while length < len(words) and any(parts[-length:] == words[-length:] for parts in others):
            length += 1
        names[path] = "/".join(words[-length:])
    return names


def _fill(system: System, writer: Writer, case: Case, ready: list[Ready], writes: bool) -> None:
    """Let a model score the real descriptions and write its own texts."""
    for side, cost in zip(case.sides, writer.score(case.sides), strict=True):
        what = f"{system.label.lower()}, {side.name} titles"
        texts = systems.find_ready(ready, side)
        written = writer.write(side, texts, what) if writes else Written([])
        shown = systems.shown(writer.model, side)
        system.sides[side.name] = dataclasses.replace(written, cost=cost, shown=shown)
    writer.close()


def _write(work: Work, case: Case) -> Manifest:
    """Write all texts, measure and judge them, and commit the report."""
    config = case.config
    compared = _compare(case)
    opinions = _ask_others(case, compared)
    measured = scores.measure(config, case.sides, compared)
    verdicts = [
        verdict.judge(measured.samples, system.key, system.label, system.others, config.thresholds)
        for system in compared
        if system.is_judged
    ]
    values = report.collect(case, compared, measured, verdicts) | opinions
    as_json = json.dumps(values, ensure_ascii=False, allow_nan=False, indent=1)
    outputs = []
    rows = sum(len(side) for side in case.sides)
    for name, text in ((JSON, as_json), (HTML, page.build(values, config.shown_rows))):
        payload = text.encode()
        work.folder.commit(name, payload)
        outputs.append(Artefact(name, rows, len(payload), digest_bytes(payload)))
    parents = [m.record.as_parent(manifest.absolute(path)) for path, m in case.runs if m.record]
    parents += [ready.parent for ready in case.ready if ready.parent]
    parents.append(case.subset.as_parent(manifest.absolute(config.subset)))
    left_out: Counter[str] = Counter()
    for side in case.sides:
        left_out.update(side.left_out)
    return work.finish(
        outputs=tuple(outputs),
        counts=Counts(rows + left_out.total(), rows, dict(left_out)),
        made_from=tuple(parents),
        facts={"verdicts": verdicts},
    )


def _ask_others(case: Case, compared: list[System]) -> dict[str, Any]:
    """Collect what another model and people say of the texts for unseen titles."""
    config, side = case.config, case.sides[0]
    return {
        "judge": judging.ask(config, config.out, side, compared) if config.judge else None,
        "votes": judging.rated(config.votes, side, compared) if config.votes else None,
    }


def _check_gate(config: EvaluateConfig, verdicts: list[dict[str, Any]]) -> None:
    """Refuse a report of which a threshold is missed, or has too few rows to tell.

    Raises:
        GateError: names the first one, missed ones before others, and how many more there are.
    """
    lines = [(item, line) for item in verdicts for line in item["lines"]]
    failed = [pair for why in ("missed", "too_few") for pair in lines if pair[1]["outcome"] == why]
    if failed:
        first, line = failed[0]
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        expected, actual = f"{line['key']} met", f"{line['told']}{more}"
        raise GateError(first["label"], expected, actual, f"see {config.out}/{HTML}")
