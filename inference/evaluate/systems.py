"""The texts that are compared: written by a model, read from disk, or made without any model."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from data import console
from data.artefacts import manifest
from data.artefacts.folder import Artefact, Folder
from data.artefacts.manifest import Manifest, Parent
from data.artefacts.parts import read_batches
from data.artefacts.run import Run
from data.errors import ManifestError, SourceError
from data.prompt import Prompt
from inference import engine
from inference.config import GenerateConfig
from inference.engine import Request, Settings
from inference.evaluate import samples
from inference.evaluate.bootstrap import Floats
from inference.evaluate.samples import EvalSet, SideName, Trained
from inference.tables import titles

if TYPE_CHECKING:
    from inference.config import EvaluateConfig

Text = tuple[str, bool | None]
"""A description, and whether it ended by itself, where that is told."""
Kind = Literal["adapter", "base", "generated", "title", "nearest", "reference"]
_AT_ONCE = {"cuda": 8_192, "cpu": 256}
_QUERIES = 64


@dataclass(frozen=True)
class Written:
    """The texts of one side, a row each."""

    texts: list[str]
    ended: list[bool] | None = None
    """Whether each ended by itself; None where that is not known."""
    cost: Floats | None = None
    """[rows, 2] what the real description cost the model: nats and tokens."""


@dataclass
class System:
    """One way to come by a description."""

    key: str
    label: str
    kind: Kind
    trained: Trained | None = None
    """Where copied spans are looked for."""
    run: str | None = None
    against: str | None = None
    """Key of the base that an adapter is measured against."""
    sides: dict[SideName, Written] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """Texts from disk."""

    path: str
    texts: dict[str, dict[str | None, Text]]
    """By uid and title, as a uid may stand for several rows; a file tells no titles: None."""
    digest: str
    made_by: Parent | None = None
    """The run that wrote them, where lineage tells."""
    weights: str | None = None
    """Digest of the model that wrote them, where their manifest tells."""
    settings: dict[str, Any] = field(default_factory=dict)
    """How it wrote them: ``temperature``, ``max_new_tokens``, ``prompt``."""
    parent: Parent | None = None

    def find(self, uid: str, title: str) -> Text | None:
        """Find the text of a row; none where there is none for this very title."""
        own = self.texts.get(uid, {})
        return own.get(title) or own.get(None)


def read_ready(path: str) -> Ready:
    """Read the output of ``generate``, or a file with columns ``uid`` and ``description``.

    Raises:
        SourceError: nothing is there, a column is missing, or a row has several texts.
    """
    folder = Folder(path)
    if not manifest.is_output(folder.names()):
        return _read_foreign(path)
    made = manifest.read(folder, "generate")
    texts = _by_row(path, _read_parts(folder, made.parts))
    by = manifest.ancestor(made.made_from, "train")
    parent = made.as_parent(manifest.absolute(path))
    named = ("temperature", "max_new_tokens", "prompt", "settings")
    how = {name: made.identity.get(name) for name in named}
    return Ready(path, texts, made.digest, by, made.identity.get("weights"), how, parent)


def _read_parts(folder: Folder, parts: Sequence[Artefact]) -> Iterator[tuple[str, str, Text]]:
    for batch in read_batches(folder, listed=parts):
        names = batch.schema.names
        if missing := [name for name in ("uid", "title", "description") if name not in names]:
            expected, found = f"a column {missing[0]!r}", ", ".join(names)
            raise SourceError(folder.url, expected, found, "write them anew with generate")
        uids, names_, texts = (batch.column(n).to_pylist() for n in ("uid", "title", "description"))
        reasons = (
            batch.column("finish_reason").to_pylist()
            if "finish_reason" in names
            else [None] * batch.num_rows
        )
        for uid, title, text, reason in zip(uids, names_, texts, reasons, strict=True):
            yield uid, title, (text or "", None if reason is None else reason == "stop")


def _by_row(path: str, rows: Iterable[tuple[str, str | None, Text]]) -> dict[Any, Any]:
    """Sort texts by uid and title; the same text twice is one.

    Raises:
        SourceError: a row has several texts, so that none could be called its own.
    """
    texts: dict[str, dict[str | None, Text]] = {}
    others: dict[str, set[str]] = {}
    for uid, title, text in rows:
        first = texts.setdefault(uid, {}).setdefault(title, text)
        if first[0] != text[0]:
            others.setdefault(uid, {first[0]}).add(text[0])
    if others:
        uid, several = next(iter(others.items()))
        more = f", and several for {len(others) - 1:,} other uids" if len(others) > 1 else ""
        found = f"{len(several)} different ones for uid {uid}{more}"
        raise SourceError(path, "one description a uid", found, "give each row a uid of its own")
    return texts


def _read_foreign(path: str) -> Ready:
    named = GenerateConfig(titles=path, title_column="description", uid_column="uid")
    try:
        found = titles.find(named)
        pairs = (
            pair
            for batch in found.batches()
            for pair in zip(*(batch.column(n).to_pylist() for n in ("uid", "title")), strict=True)
        )
        texts = _by_row(path, ((uid, None, (text, None)) for uid, text in pairs))
    except SourceError as error:
        where, expected, found_instead, mend = error.args
        if not mend.startswith("give"):
            mend = "give the output of generate, or a file with columns uid and description"
        raise SourceError(where, expected, found_instead, mend) from error
    if not texts:
        raise SourceError(path, "texts", "none")
    return Ready(path, texts, found.digest)


def stands_in(ready: Ready, model: Run, config: "EvaluateConfig") -> bool:
    """Tell whether texts are what these weights would write here.

    A run's adapter may have been replaced since, and what was drawn at a temperature or under
    another limit is to be judged for itself, beside the run's own.
    """
    how = ready.settings
    return bool(
        ready.weights == model.digest
        and how.get("settings") in (None, model.settings)  # none: written by an earlier version
        and how["temperature"] == 0
        and how["max_new_tokens"] == (config.max_new_tokens or model.max_new_tokens)
        and Prompt(**how["prompt"]) == model.prompt
    )


def take_ready(ready: Ready, side: EvalSet) -> Written:
    """Give the ready texts of a side whose every row has one."""
    return _written(list(find_ready([ready], side).values()))


def _written(texts: Sequence[Text]) -> Written:
    is_told = all(end is not None for _, end in texts)
    ended = [bool(end) for _, end in texts] if is_told else None
    return Written([text for text, _ in texts], ended)


def find_ready(ready: Sequence[Ready], side: EvalSet) -> dict[int, Text]:
    """Find the ready texts of a side by place; of several the first that has one."""
    found: dict[int, Text] = {}
    for place, row in enumerate(zip(side.uids, side.titles, strict=True)):
        text = next((text for each in ready if (text := each.find(*row)) is not None), None)
        if text is not None:
            found[place] = text
    return found


def covered(side: EvalSet, ready: Ready) -> EvalSet:
    """Keep the rows that have a ready text, and count why the others have none.

    Raises:
        SourceError: the texts tell no titles, and a uid stands for several.
    """
    named: dict[str, set[str]] = {}
    for uid, title in zip(side.uids, side.titles, strict=True):
        named.setdefault(uid, set()).add(title)
        if len(named[uid]) > 1 and None in ready.texts.get(uid, {}):
            expected, found = "texts that tell their titles", f"none, and uid {uid} has several"
            raise SourceError(ready.path, expected, found, "give the output of generate")
    places = list(find_ready([ready], side))
    missing = [uid for place, uid in enumerate(side.uids) if place not in set(places)]
    renamed = sum(uid in ready.texts for uid in missing)
    gone = {"no_text": len(missing) - renamed, "other_title": renamed}
    return samples.only(side, places, {reason: n for reason, n in gone.items() if n})


class Writer:
    """A model that writes the texts it is asked for, loaded only when it has to."""

    def __init__(self, model: Run, config: "EvaluateConfig") -> None:
        self.model = model
        self.settings = Settings.of(config, model, engine.choose("auto", model))
        self._engine: engine.Engine | None = None

    def prompts(self, side: EvalSet) -> list[Request]:
        """Render the prompts of a side's titles."""
        rows = zip(side.uids, side.titles, strict=True)
        return [Request(uid, self.model.prompt.render(title, uid)) for uid, title in rows]

    def write(self, side: EvalSet, ready: dict[int, Text], what: str) -> Written:
        """Write a side's texts but those that are ready; no room gives an empty, unended text.

        Args:
            side: the rows.
            ready: texts by place.
            what: is written, for people.
        """
        prompts = self.prompts(side)
        texts = {place: ready.get(place, ("", False)) for place in range(len(side))}
        wanted = [place for place in texts if place not in ready]
        if wanted:
            self._engine = self._engine or engine.load(self.model, self.settings)
        step = _AT_ONCE[self.settings.device]
        with (
            console.Progress(what, len(wanted), "rows") as bar,
            engine.heard_by(lambda rows, _: bar.advance(rows)),
        ):
            for start in range(0, len(wanted), step):
                places = wanted[start : start + step]
                texts |= self._write({place: prompts[place] for place in places})
        return _written(list(texts.values()))

    def _write(self, prompts: dict[int, Request]) -> dict[int, Text]:
        """Write what there is room for."""
        assert self._engine is not None  # noqa: S101  # for the type checker
        room = self._engine.room(list(prompts.values()))
        fitting = [place for place, left in zip(prompts, room, strict=True) if left > 0]
        made = self._engine.generate([prompts[place] for place in fitting])
        return {
            place: (text.text, text.finish_reason == "stop")
            for place, text in zip(fitting, made, strict=True)
        }

    def score(self, sides: Sequence[EvalSet]) -> list[Floats]:
        """Score the real descriptions of each side: [rows, 2] nats and tokens."""
        prompts = [prompt for side in sides for prompt in self.prompts(side)]
        replies = [text for side in sides for text in side.references]
        costs = engine.score(self.model, self.settings, prompts, replies)
        engine.free_memory(self.settings.device)
        return np.split(costs, np.cumsum([len(side) for side in sides])[:-1])

    def close(self) -> None:
        """Give up the weights, as the next model needs the room."""
        self._engine = None
        engine.free_memory(self.settings.device)


def nearest_by_title(side: EvalSet, trained: Trained) -> list[str]:
    """Give each row the description of the trained row whose title is nearest, never its own.

    Nearest: fewest insertions and deletions between the titles' words in small letters and
    alphabetic order, as a share of their lengths (rapidfuzz); the first of several. No texts where
    a row has no other than itself.
    """
    from rapidfuzz import process
    from rapidfuzz.distance import Indel

    columns = [trained.rows.column(name).to_pylist() for name in samples.COLUMNS]
    known = [_sorted_words(title) for title in columns[1]]
    own: dict[tuple[str, str, str], list[int]] = {}
    if side.name == "seen":
        for place, row in enumerate(zip(*columns, strict=True)):
            own.setdefault(row, []).append(place)
    rows = list(zip(side.uids, side.titles, side.references, strict=True))
    if not known or any(len(own.get(row, [])) == len(known) for row in rows):
        return []
    places: list[int] = []
    for start in range(0, len(side), _QUERIES):
        asked = [_sorted_words(title) for title in side.titles[start : start + _QUERIES]]
        alike = process.cdist(
            asked, known, scorer=Indel.normalized_similarity, dtype=np.float32, workers=-1
        )
        for row, key in zip(alike, rows[start : start + _QUERIES], strict=True):
            row[own.get(key, [])] = -1
        places += alike.argmax(axis=1).tolist()
    taken: list[str] = trained.texts.take(pa.array(places, pa.int64())).to_pylist()
    return taken


def _sorted_words(title: str) -> str:
    return " ".join(sorted(title.casefold().split()))


def check_run(path: str, model: Run) -> Manifest:
    """Return the manifest of a run, which says what it was trained from.

    Raises:
        ManifestError: it is no training run, so nothing tells which rows it never saw.
    """
    if model.record is None or model.adapter is None:
        mend = "judge its texts with --generated instead"
        raise ManifestError(path, "a training run", "a merged model", mend)
    return model.record


def base_of(model: Run) -> str:
    """Digest what a base writes from: its weights and the prompt, which several runs may share."""
    prompt = dataclasses.asdict(model.prompt)
    return manifest.identity_digest({"base": model.base_digest, "prompt": prompt})
