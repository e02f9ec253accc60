"""Runs and models on disk: found, checked to be those that were trained, not loaded.

Safetensors only, and never a model's own code.
"""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import neighbours
from data.artefacts import manifest
from data.artefacts.folder import Artefact, Folder, digest_all, digest_bytes, digest_file
from data.artefacts.manifest import Manifest
from data.artefacts.weights import ADAPTER
from data.cli.forgotten import MAKERS
from data.errors import ModelError
from data.neighbours import Neighbours
from data.prompt import Chat, Neighbour, Prompt

log = logging.getLogger("catalogue")

BASE = "base"
"""Folder of a base that a run made itself, beside its adapter; also its name in the facts."""

# What a model is made of; other weights in a repository are the same ones in other forms.
_FILES = ["*.json", "*.safetensors", "tokenizer.model", "*.jinja"]
# JSON files beside the weights that say which tokens are special.
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_EXPECTED = "a local model folder or an id on the Hugging Face hub"
_HINT = "check the name, the network and HF_HUB_OFFLINE"
# Tokens of a description, for a model whose training is not recorded.
_USUAL_LONGEST = 256


@dataclass(frozen=True)
class Base:
    """A model on this machine's disk."""

    name: str
    """As the user named it: an id on the hub or a path."""
    folder: Path
    digest: str
    """Of its config and weights."""


@dataclass(frozen=True)
class RunFacts:
    """What the manifest of a run records for later stages; that of an export has all but ``base``.

    The fields are the keys in the manifest.
    """

    base: str = ""
    """An id on the hub or a path; ``BASE``: the folder in the run's own."""
    base_digest: str = ""
    prompt: Prompt | None = None
    max_length: int | None = None
    """Tokens of a trained row at most."""
    longest_completion_tokens: int | None = None
    mean_completion_tokens: int | None = None
    long_completion_tokens: int | None = None
    """98 % of the descriptions trained on keep within these."""
    chat: Chat | None = None
    """What stands around prompts of the template ``chat``."""

    @classmethod
    def of(cls, record: Manifest) -> "RunFacts":
        """Read them from the manifest of a run or an export; earlier versions wrote fewer."""
        names = {field.name for field in dataclasses.fields(cls)}
        facts = {name: value for name, value in record.facts.items() if name in names}
        if "prompt" in facts:
            facts["prompt"] = Prompt(**facts["prompt"])
        if "chat" in facts:
            facts["chat"] = Chat(**facts["chat"])
        return cls(**facts)

    def as_facts(self) -> dict[str, Any]:
        """Return what is set, as it stands in a manifest."""
        facts = dataclasses.asdict(self)
        if self.prompt:
            facts["prompt"] = self.prompt.recorded
        return {name: value for name, value in facts.items() if value not in (None, "")}

    def find_base(self, run: Path) -> Base:
        """Find the base of a run's adapter.

        Raises:
            ModelError: it is missing, or not the one that the adapter was trained on.
        """
        base = locate(str(run / BASE) if self.base == BASE else self.base)
        if base.digest != self.base_digest:
            expected = f"the base that the adapter was trained on ({self.base_digest[:12]})"
            other = f"another ({base.digest[:12]})"
            raise ModelError(base.name, expected, other, "bring back the base")
        return base


@dataclass(frozen=True)
class Run:
    """A finished training run, or a merged model: found on disk, not loaded."""

    base: str
    """Folder of the base, or of the merged model."""
    adapter: str | None
    """Its folder; none: a merged model."""
    digest: str
    """Of weights, tokenizer and neighbours: the same digest writes the same text."""
    prompt: Prompt
    longest: int
    """Tokens of the longest description that was trained on."""
    record: Manifest | None = None
    """Of the run, or of the export; none: a model from elsewhere."""
    settings: str = ""
    """Digest of the JSON files beside the weights that change the text as well."""
    base_digest: str = ""
    max_length: int | None = None
    """Tokens of a trained row at most, where that is recorded."""
    mean_completion_tokens: int | None = None
    """Tokens of a description that was trained on, where that is recorded."""
    long_completion_tokens: int | None = None
    """Tokens that 98 % of them keep within, where that is recorded."""
    neighbour_rows: str | None = None
    """File of the rows that its prompts show; none: they show none."""
    neighbours_digest: str = ""
    """Of that file."""
    chat: Chat | None = None
    """What stands around its prompts where the base's chat template renders them."""

    @classmethod
    def open(cls, path: str) -> "Run":
        """Find a run or a merged model, check its files and read its facts.

        Args:
            path: a run's folder (``adapter/`` and manifest), or a model's (``config.json``).

        Raises:
            ManifestError: the run is unfinished, or a file of it was changed.
            ModelError: neither is there, or the base is not the one that the adapter was trained
                on.
        """
        folder, record = Path(path), None
        if not folder.is_dir():
            hint = f"{MAKERS['train']} makes one"
            raise ModelError(path, "the folder of a run or of a model", "none", hint)
        is_merged = (folder / "config.json").is_file()
        if not is_merged or Folder(path).exists(manifest.NAME):
            record = manifest.read(Folder(path), "export" if is_merged else "train")
            record.check(Folder(path))
        facts = RunFacts.of(record) if record else RunFacts()
        rows = _neighbour_rows(folder, record, facts)
        base = locate(path) if is_merged else facts.find_base(folder)
        weights, settings = [base.digest], [base.folder / name for name in _SETTINGS]
        adapter, tokenizer = folder / "adapter", base.folder / "tokenizer.json"
        if is_merged:
            _warn_of_defaults(path, facts)
        elif (adapter / ADAPTER).is_file():
            weights.append(digest_file(adapter / ADAPTER))
            settings.insert(0, adapter / "adapter_config.json")
        else:
            raise ModelError(str(adapter), f"an adapter with {ADAPTER}", "none")
        if not tokenizer.is_file():
            raise ModelError(str(base.folder), "a tokenizer.json", "none")
        return cls(
            base=str(base.folder),
            adapter=None if is_merged else str(adapter),
            digest=digest_all(
                [*weights, digest_file(tokenizer), *_digests_of_prompts(rows, facts)]
            ),
            prompt=facts.prompt or Prompt(),
            longest=int(facts.longest_completion_tokens or _USUAL_LONGEST),
            record=record,
            settings=digest_all([digest_file(f.resolve()) for f in settings if f.is_file()]),
            base_digest=facts.base_digest or base.digest,
            max_length=facts.max_length,
            mean_completion_tokens=facts.mean_completion_tokens,
            long_completion_tokens=facts.long_completion_tokens,
            neighbour_rows=str(folder / rows.path) if rows else None,
            neighbours_digest=rows.digest if rows else "",
            chat=facts.chat,
        )

    @property
    def neighbours(self) -> Neighbours | None:
        """The index of the rows that its prompts show, built when it is first asked for."""
        if self.neighbour_rows is None:
            return None
        return neighbours.open_rows(self.neighbour_rows, self.neighbours_digest)

    def near(self, title: str) -> tuple[Neighbour, ...]:
        """Find what the prompt of a title shows, the most similar first."""
        index = self.neighbours
        return index.find(title, self.prompt.neighbours) if index else ()

    def render(self, title: str, uid: str, about: str = "") -> str:
        """Render the prompt of a row, with its neighbours and the lines of its attributes."""
        return self.prompt.render(title, uid, self.near(title), about)

    @property
    def max_new_tokens(self) -> int:
        """Tokens of a text at most, unless a command says otherwise: the longest and an eighth."""
        return self.longest + self.longest // 8 + 1

    def without_neighbours(self) -> "Run":
        """Return the same weights for prompts that show no other rows."""
        prompt = dataclasses.replace(self.prompt, neighbours=0)
        return dataclasses.replace(
            self, prompt=prompt, neighbour_rows=None, neighbours_digest="",
            digest=f"{self.digest} alone",
        )  # fmt: skip

    def without_adapter(self) -> "Run":
        """Return the base alone: same prompt, same limits."""
        return dataclasses.replace(self, adapter=None, digest=f"base of {self.digest}")


def _neighbour_rows(folder: Path, record: Manifest | None, facts: RunFacts) -> Artefact | None:
    """Find the file of the rows that a run's prompts show.

    Raises:
        ModelError: they show some, and its manifest lists none.
    """
    if not record or not facts.prompt or not facts.prompt.neighbours:
        return None
    if not (rows := record.part(neighbours.NAME)):
        raise ModelError(str(folder), f"the {neighbours.NAME} that its prompts show", "none")
    return rows


def _digests_of_prompts(rows: Artefact | None, facts: RunFacts) -> list[str]:
    """Digest what prompts hold that neither the weights nor the prompt's settings say."""
    chat = dataclasses.astuple(facts.chat) if facts.chat else ()
    return [*([rows.digest] if rows else ()), *(digest_bytes(part.encode()) for part in chat)]


def _warn_of_defaults(path: str, facts: RunFacts) -> None:
    """Warn of what a merged model does not record; one from elsewhere records nothing."""
    if facts.longest_completion_tokens is None:
        prompt = "" if facts.prompt else f"the {Prompt().template} prompt and "
        log.warning("%s does not tell how it was trained: %s%s tokens a description at most",
                    path, prompt, _USUAL_LONGEST)  # fmt: skip


def locate(name: str) -> Base:
    """Find a base on disk, or fetch it from the hub into the cache.

    Raises:
        ModelError: there is no such model, no network, or no safetensors in it.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _fetch(name)
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:4]) or "nothing"
        raise ModelError(name, "config.json and weights in safetensors", names)
    digests = [digest_file(file.resolve()) for file in (folder / "config.json", *weights)]
    return Base(name, folder, digest_all(digests))


def _fetch(name: str) -> Path:
    from huggingface_hub import errors, snapshot_download

    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise ModelError(name, _EXPECTED, "no such folder", _HINT)
    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except errors.HFValidationError as error:
        raise ModelError(name, _EXPECTED, "neither", _HINT) from error
    except (errors.RepositoryNotFoundError, errors.GatedRepoError) as error:
        reason = "no such model there, or no right to read it"
        raise ModelError(name, _EXPECTED, reason, _HINT) from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        reason = "not in the cache, and the hub cannot be reached"
        raise ModelError(name, _EXPECTED, reason, _HINT) from error
