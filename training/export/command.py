"""The driver of ``export``: what is exported, in which form, and its manifest."""

import dataclasses
import os
from pathlib import Path

from data import console
from data.artefacts import manifest
from data.artefacts.folder import TEMPORARY, Artefact, digest_file, flush_names, local_path
from data.artefacts.manifest import Manifest
from data.artefacts.stage import stage
from training.export import adapter, gguf, merged
from training.export.config import ExportConfig
from training.export.source import open_source

STAGE = "export"
_WRITERS = {"merged": merged.write, "gguf": gguf.write, "adapter": adapter.write}


def run(config: ExportConfig) -> Manifest:
    """Write a run in another form.

    Raises:
        ConfigError: the prompt is neither recorded nor given.
        ManifestError: the run is not finished.
        ModelError: its base is missing or has changed, the form cannot hold it, or what was written
            says something else.
        OutputError: the folder holds another output.
    """
    source = open_source(config)
    out = local_path(config.out, "--out")
    identity = manifest.identify(config, run=source.digest)
    with stage(STAGE, config, config.out, identity, spoiled_by=(BaseException,)) as work:
        if work.finished:
            console.say(f"{config.out} is already exported from this run")
            return work.finished
        folder = out / f"{TEMPORARY}model-{os.getpid()}"
        folder.mkdir()
        with console.Waiting("writing the model"):
            written = _WRITERS[config.format](config, source, folder)
        result = work.finish(
            inputs=source.inputs,
            outputs=_move(folder, out),
            made_from=source.parents,
            facts={
                # For users who have no more than this folder.
                **dataclasses.replace(source.facts, base="").as_facts(),
                **written.facts,
            },
        )
    console.say(f"{config.out} written in {result.seconds:.1f} s: {written.line}")
    return result


def _move(folder: Path, out: Path) -> tuple[Artefact, ...]:
    """Give finished files their places; those of a folder go with it."""
    outputs = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        with file.open("rb+") as written:
            os.fsync(written.fileno())
        outputs.append(Artefact(name, 0, file.stat().st_size, digest_file(file)))
    for path in sorted(folder.iterdir()):
        os.replace(path, out / path.name)
    folder.rmdir()
    flush_names(str(out))
    return tuple(outputs)
