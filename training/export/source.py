"""What is exported: a training run, a merged model of ours, or a model from elsewhere."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from data.artefacts import manifest
from data.artefacts.folder import Artefact, Folder, digest_all, digest_file
from data.artefacts.manifest import Manifest, Parent
from data.artefacts.run import RunFacts, locate
from data.errors import ConfigError, ManifestError, ModelError
from data.tokens import chat_of
from training.export.config import ExportConfig
from training.model.backend import load_tokenizer

_PROMPT = "--prompt.template"


@dataclass(frozen=True)
class Source:
    """A folder to export from, checked against its manifest where it has one."""

    folder: Path
    facts: RunFacts
    """Its own, or for a model from elsewhere what the flags say."""
    digest: str
    is_merged: bool
    record: Manifest | None
    """Of the run or the export; none: a model from elsewhere."""

    @property
    def parents(self) -> tuple[Parent, ...]:
        """Its manifest as a parent of what is made from it."""
        path = manifest.absolute(str(self.folder))
        return (self.record.as_parent(path),) if self.record else ()

    @property
    def inputs(self) -> tuple[Artefact, ...]:
        """The files that its manifest lists."""
        return self.record.outputs if self.record else ()

    @property
    def tokenizer(self) -> Path:
        """The folder of its tokenizer."""
        return self.folder if self.is_merged else self.folder / "adapter"


def open_source(config: ExportConfig) -> Source:
    """Find what is to be exported.

    Raises:
        ManifestError: a run is unfinished or changed, or is no training run where one is needed.
        ModelError: there is no model in the folder.
        ConfigError: the prompt is neither recorded nor given, or is another than the recorded one.
    """
    folder = Path(config.run)
    is_merged = (folder / "config.json").is_file()
    if is_merged and config.format != "gguf":
        hint = "name the run, or --format gguf"
        raise ManifestError(config.run, "a training run", "a merged model", hint)
    record = None
    if not is_merged or Folder(config.run).exists(manifest.NAME):
        record = manifest.read(Folder(config.run), "export" if is_merged else "train")
        record.check(Folder(config.run))
    facts = RunFacts.of(record) if record else RunFacts()
    digest = record.digest if record else _digest(folder)
    return Source(folder, _with_prompt(facts, config), digest, is_merged, record)


def _digest(folder: Path) -> str:
    """Digest what a model from elsewhere is made of."""
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise ModelError(str(folder), "a tokenizer.json", "none")
    return digest_all([locate(str(folder)).digest, digest_file(tokenizer)])


def _with_prompt(facts: RunFacts, config: ExportConfig) -> RunFacts:
    """Complete facts that lack a prompt by the one that was given."""
    if facts.prompt:
        if config.prompt and config.prompt.recorded != facts.prompt.recorded:
            expected = f"the prompt that {config.run} records, or none of these flags"
            raise ConfigError(_PROMPT, expected, f"another ({config.prompt.template})")
        return facts
    if not config.prompt:
        if config.format != "gguf":
            return facts
        expected = f"how a title becomes a prompt, as {config.run} does not record it"
        raise ConfigError(_PROMPT, expected, "none", "take alpaca, compact or chat")
    chat = None
    if config.prompt.template == "chat":
        chat = chat_of(load_tokenizer(Path(config.run)))
    return dataclasses.replace(facts, prompt=config.prompt, chat=chat)
