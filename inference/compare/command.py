"""The driver of ``compare``: reports in, one page and one JSON file out."""

import json
from typing import Any

from data import console
from data.artefacts import manifest
from data.artefacts.folder import Artefact, Folder, digest_bytes
from data.artefacts.manifest import Manifest
from data.artefacts.stage import Work, stage
from data.errors import SourceError
from inference.compare import differences, page
from inference.compare.config import CompareConfig
from inference.compare.differences import Judged
from inference.evaluate.page import number, span, verdict_of

STAGE = "compare"
JSON, HTML = "compare.json", "compare.html"


def run(config: CompareConfig) -> Manifest:
    """Compare reports.

    Raises:
        ManifestError: a folder holds no report, or its files are not those that it lists.
        SourceError: the reports judge fewer than two systems.
    """
    records = {path: manifest.read(Folder(path), "evaluate") for path in config.paths}
    identity = manifest.identify(config, reports=[record.digest for record in records.values()])
    with stage(STAGE, config, config.out, identity) as work:
        result = work.finished or _write(work, records)
    if work.finished:
        console.say(f"{config.out} is already finished for these reports")
    else:
        console.say(f"\n{config.out}/{HTML} finished in {result.seconds:.1f} s")
    return result


def _write(work: Work, records: dict[str, Manifest]) -> Manifest:
    judged = _read(records)
    values = differences.collect(judged)
    _say(judged, values["pairs"])
    as_json = json.dumps(values, ensure_ascii=False, allow_nan=False, indent=1)
    outputs = []
    for name, text in ((JSON, as_json), (HTML, page.build(judged, values))):
        payload = text.encode()
        work.folder.commit(name, payload)
        outputs.append(Artefact(name, 0, len(payload), digest_bytes(payload)))
    parents = [own.as_parent(manifest.absolute(path)) for path, own in records.items()]
    return work.finish(outputs=tuple(outputs), made_from=tuple(parents))


def _read(records: dict[str, Manifest]) -> list[Judged]:
    reports = {}
    for path, record in records.items():
        folder = Folder(path)
        record.check(folder)
        reports[path] = json.loads(folder.read("report.json"))
    judged = differences.name_all(reports)
    if len(judged) < 2:
        raise SourceError(", ".join(records), "two judged systems or more", str(len(judged)))
    return judged


def _say(judged: list[Judged], pairs: list[dict[str, Any]]) -> None:
    """Say what surely differs on unseen titles."""
    metrics = {metric["key"]: metric for metric in judged[0].report["metrics"]}
    for own in judged:
        console.say(f"{own.name}: {own.verdict['headline']}")
    for pair in pairs:
        if pair["side"] != "unseen":
            continue
        console.say(f"\n{pair['one']} against {pair['other']}, unseen titles")
        for key, found in pair["scores"].items():
            if kind := verdict_of(found, metrics[key]):
                value = number(found["value"], metrics[key], "+")
                interval = span(found, metrics[key], "+")
                label = metrics[key]["label"]
                console.say(f"  surely {kind:<7} {label}, {value} ({interval})")
