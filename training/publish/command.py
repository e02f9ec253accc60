"""The driver of ``publish``: card and files into a folder, then onto the hub."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data import console
from data.artefacts import manifest
from data.artefacts.dataset import Subset
from data.artefacts.folder import Artefact, Folder, digest_file, local_path
from data.artefacts.manifest import Manifest
from data.artefacts.stage import stage
from training.publish import dataset, dataset_card, hub, model_card
from training.publish.config import PublishConfig
from training.publish.lineage import Lineage, Report, open_report, without_paths
from training.publish.model_card import Model

STAGE = "publish"
REPOSITORY = "repository"
_CARD = "README.md"


@dataclass(frozen=True)
class Content:
    """What is published."""

    kind: str
    """model or dataset."""
    source: Manifest
    path: Path
    card: str
    fill: Callable[[Path], None]
    """Writes all but the card into a folder."""
    report: Report | None = None


def run(config: PublishConfig) -> Manifest | None:
    """Publish a model or a subset; with ``dry_run`` only write the folder.

    Raises:
        ConfigError: there is no token in the environment, or the hub refuses it.
        ManifestError: the model is unfinished or changed, or the report is of another run.
        NetworkError: the hub was not reached, or broke off.
        OutputError: the folder holds another output, or the hub something else than was sent.
    """
    if not config.dry_run:
        hub.token()
    content = _subset(config, config.subset) if config.subset is not None else _model(config)
    out = local_path(config.out, "--out")
    report = {"report": content.report.digest} if content.report else {}
    identity = manifest.identify(config, source=content.source.digest, **report)
    with stage(STAGE, config, config.out, identity, spoiled_by=()) as work:
        if work.finished:
            console.say(f"already published: {work.finished.facts['url']}")
            return work.finished
        folder = _write(content, out / REPOSITORY)
        if config.dry_run:
            console.say(f"{folder} is what would be sent to {config.to}; nothing was sent")
            return None
        console.say(f"sending {folder} to {config.to}")
        result = work.finish(
            inputs=content.source.outputs,
            outputs=_outputs(folder),
            made_from=(content.source.as_parent(manifest.absolute(str(content.path))),),
            facts=hub.upload(folder, config.to, content.kind),
        )
    console.say(f"published in {result.seconds:.1f} s: {result.facts['url']}")
    return result


def _model(config: PublishConfig) -> Content:
    """Read an exported model and what is recorded of it."""
    folder = Folder(str(local_path(config.model, "--model")))
    record = manifest.read(folder, "export")
    record.check(folder)
    trained = manifest.ancestor(record.made_from, "train")
    report = open_report(config.report, trained.digest if trained else None) if (
        config.report is not None
    ) else None  # fmt: skip
    model = Model(
        config.to, record.config.get("format", "merged"), Lineage.of(record), report, None
    )
    known = config.license or (hub.license_of(model.base) if model.base_on_hub else None)
    path = Path(folder.path())

    def fill(to: Path) -> None:
        for file in record.outputs:
            _link(path / file.path, to / file.path)
        without_paths(record).write(Folder(str(to)))

    return Content("model", record, path, model_card.render(model.licensed(known)), fill, report)


def _subset(config: PublishConfig, url: str) -> Content:
    """Read a subset."""
    subset = Subset.open(url)
    card = dataset_card.render(config.to, subset, config.license)

    def fill(to: Path) -> None:
        dataset.write(subset, to, config)

    return Content("dataset", subset.record, subset.path, card, fill)


def _write(content: Content, folder: Path) -> Path:
    """Write the folder as it is sent, anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    content.fill(folder)
    (folder / _CARD).write_text(content.card, encoding="utf-8", newline="\n")
    return folder


def _link(source: Path, to: Path) -> None:
    """Give a file a second name, or copy it where the file system has one name a file."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)


def _outputs(folder: Path) -> tuple[Artefact, ...]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        Artefact(f"{REPOSITORY}/{file.relative_to(folder).as_posix()}", 0, file.stat().st_size,
                 digest_file(file))
        for file in files
    )  # fmt: skip
