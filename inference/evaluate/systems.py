"""The texts that are compared: written by a model, read from disk, or made without any model."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from data import console
from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.artefacts.manifest import Manifest, Parent
from data.artefacts.parts import read_batches
from data.artefacts.run import Run
from data.errors import ManifestError, SourceError
from data.prompt import Prompt
from inference import engine, selection
from inference.config import EvaluateConfig, GenerateConfig
from inference.decoding import Decoding
from inference.engine import Request, Settings
from inference.evaluate.metrics import Floats
from inference.evaluate.samples import COLUMNS, EvalSet, SideName, Trained
from inference.tables import titles

Text = tuple[str, bool | None]
"""A description, and whether it ended by itself; None where that is not recorded."""
Kind = Literal["adapter", "base", "alone", "generated", "title", "nearest", "reference"]
_AT_ONCE = {"cuda": 8_192, "cpu": 256}
_QUERIES = 64


@dataclass(frozen=True)
class Written:
    """The texts of one side, a row each."""

    texts: list[str]
    ended: list[bool] | None = None
    """Whether each text ended by itself; None where that is not recorded."""
    cost: Floats | None = None
    """[rows, 2] what the real description cost the model: nats and tokens."""
    alike: Floats | None = None
    """[rows] of texts copied from trained rows, how alike the titles are, 0 to 1."""
    shown: list[str] | None = None
    """What the prompts show of neighbours; None where they show none."""


@dataclass
class System:
    """One way to come by a description."""

    key: str
    label: str
    kind: Kind
    trained: Trained | None = None
    """Where copied spans are looked for."""
    run: str | None = None
    others: dict[str, str] = field(default_factory=dict)
    """Keys of what an adapter is measured against: its ``base``, and itself ``alone``, without
    neighbours in its prompts."""
    sides: dict[SideName, Written] = field(default_factory=dict)

    @property
    def against(self) -> str | None:
        """Key of the base that an adapter is measured against."""
        return self.others.get("base")

    @property
    def is_judged(self) -> bool:
        """Whether it gets a verdict; the others are what it is compared with."""
        return self.kind in ("adapter", "generated")


@dataclass(frozen=True)
class Ready:
    """Texts from disk."""

    path: str
    texts: dict[str, dict[str | None, Text]]
    """By uid and title, as a uid may stand for several rows; None where a file has no titles."""
    digest: str
    made_by: Parent | None = None
    """The run that wrote them, where lineage names it."""
    weights: str | None = None
    """Digest of the model that wrote them, where their manifest names it."""
    settings: dict[str, Any] = field(default_factory=dict)
    """How it wrote them: what ``decoding`` returns, and ``prompt``."""
    parent: Parent | None = None
    rows: str | None = None
    """Digest of the clean rows that the titles, and with them attributes, came from."""

    def find(self, uid: str, title: str) -> Text | None:
        """Find the text of a row, written for this very title where titles are recorded."""
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
    record = manifest.read(folder, "generate")
    batches = read_batches(folder, listed=record.parts)
    texts = _by_row(path, (row for batch in batches for row in _rows(folder.url, batch)))
    named = [item.name for item in dataclasses.fields(Decoding)]
    named += ["max_new_tokens", "best_of", "seed", "prompt", "settings"]
    return Ready(
        path, texts, record.digest, manifest.ancestor(record.made_from, "train"),
        record.identity.get("weights"), {name: record.identity.get(name) for name in named},
        record.as_parent(manifest.absolute(path)),
        _clean_rows(*record.made_from),
    )  # fmt: skip


def _rows(where: str, batch: pa.RecordBatch) -> Iterator[tuple[str, str, Text]]:
    columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
    for name in ("uid", "title", "description"):
        if name not in columns:
            expected, actual = f"a column {name!r}", ", ".join(columns)
            raise SourceError(where, expected, actual, "write them anew with generate")
    reasons = columns.get("finish_reason", [None] * batch.num_rows)
    rows = zip(columns["uid"], columns["title"], columns["description"], reasons, strict=True)
    for uid, title, text, reason in rows:
        yield uid, title, (text or "", None if reason is None else reason == "stop")


def _by_row(path: str, rows: Iterable[tuple[str, str | None, Text]]) -> dict[Any, Any]:
    """Sort texts by uid and title; the same text twice is one.

    Raises:
        SourceError: a row has several texts, so that none could be called its own.
    """
    texts: dict[str, dict[str | None, Text]] = {}
    several: dict[str, set[str]] = {}
    for uid, title, text in rows:
        first = texts.setdefault(uid, {}).setdefault(title, text)
        if first[0] != text[0]:
            several.setdefault(uid, {first[0]}).add(text[0])
    if several:
        uid, different = next(iter(several.items()))
        more = f", and several for {len(several) - 1:,} other uids" if len(several) > 1 else ""
        actual = f"{len(different)} different ones for uid {uid}{more}"
        raise SourceError(path, "one description a uid", actual, "give each row a uid of its own")
    return texts


def _read_foreign(path: str) -> Ready:
    config = GenerateConfig(titles=path, title_column="description", uid_column="uid")
    try:
        source = titles.find(config)
        pairs = (
            pair
            for batch in source.batches()
            for pair in zip(*(batch.column(n).to_pylist() for n in ("uid", "title")), strict=True)
        )
        texts = _by_row(path, ((uid, None, (text, None)) for uid, text in pairs))
    except SourceError as error:
        where, expected, actual, hint = error.args
        if not hint.startswith("give"):
            hint = "give the output of generate, or a file with columns uid and description"
        raise SourceError(where, expected, actual, hint) from error
    if not texts:
        raise SourceError(path, "texts", "none")
    return Ready(path, texts, source.digest)


def stands_in(ready: Ready, model: Run, config: EvaluateConfig) -> bool:
    """Return whether texts are what these weights would write here.

    A run's adapter may have been replaced since, and what was written in another way is to be
    judged for itself, beside the run's own.
    """
    how = ready.settings
    return bool(
        ready.weights == model.digest
        and how.get("settings") in (None, model.settings)  # none: written by an earlier version
        and all(how.get(name) == value for name, value in decoding(model, config).items())
        and Prompt(**how["prompt"]) == model.prompt
        and (not model.prompt.attributes or ready.rows in _clean_rows_of(config))
    )


def _clean_rows(*parents: Parent) -> str | None:
    clean = manifest.ancestor(parents, "clean")
    return clean.digest if clean else None


def _clean_rows_of(config: EvaluateConfig) -> list[str]:
    """Digest the clean rows that held-out and trained titles come from."""
    folders = [path for path in (config.subset, config.held_out) if path]
    records = [manifest.read(Folder(path)).as_parent(path) for path in folders]
    return [digest for record in records if (digest := _clean_rows(record))]


def decoding(model: Run, config: EvaluateConfig) -> dict[str, Any]:
    """Return how a model writes the texts that are judged, as its outputs' manifests say it."""
    settings = Settings.of(config, model, "fast")
    names = [item.name for item in dataclasses.fields(Decoding)]
    names += ["max_new_tokens", *(["seed"] if config.temperature else [])]
    return {name: getattr(settings, name) for name in names} | {"best_of": config.texts_per_title}


def take_ready(ready: Ready, side: EvalSet) -> Written:
    """Return the ready texts of a side whose every row has one."""
    return _written(list(find_ready([ready], side).values()))


def _written(texts: Sequence[Text]) -> Written:
    ended = [end for _, end in texts if end is not None]
    return Written([text for text, _ in texts], ended if len(ended) == len(texts) else None)


def find_ready(ready: Sequence[Ready], side: EvalSet) -> dict[int, Text]:
    """Find the ready texts of a side by place; of several the first that has one."""
    texts: dict[int, Text] = {}
    for place, row in enumerate(zip(side.uids, side.titles, strict=True)):
        if text := next(filter(None, (source.find(*row) for source in ready)), None):
            texts[place] = text
    return texts


def covered(side: EvalSet, ready: Ready) -> EvalSet:
    """Keep the rows that have a ready text, and count why the others have none.

    Raises:
        SourceError: the texts have no titles, and a uid stands for several.
    """
    first: dict[str, str] = {}
    for uid, title in zip(side.uids, side.titles, strict=True):
        if first.setdefault(uid, title) != title and None in ready.texts.get(uid, {}):
            expected, actual = "texts that tell their titles", f"none, and uid {uid} has several"
            raise SourceError(ready.path, expected, actual, "give the output of generate")
    texts = find_ready([ready], side)
    missing = [uid for place, uid in enumerate(side.uids) if place not in texts]
    renamed = sum(uid in ready.texts for uid in missing)
    gone = {"no_text": len(missing) - renamed, "other_title": renamed}
    return side.take(list(texts), dict(Counter(side.left_out) + Counter(gone)))


class Writer:
    """A model that writes the texts it is asked for; loaded when the first one is."""

    def __init__(self, model: Run, config: EvaluateConfig) -> None:
        self.model = model
        self.settings = Settings.of(config, model, engine.choose("auto", model))
        self._texts_per_title = config.texts_per_title
        self._engine: engine.Engine | None = None

    def write(self, side: EvalSet, ready: dict[int, Text], what: str) -> Written:
        """Write a side's texts but those that are ready by place; ``what`` is for people.

        A row whose prompt leaves no room gets an empty text that did not end.
        """
        prompts = self._prompts(side)
        texts = [ready.get(place, ("", False)) for place in range(len(side))]
        missing = [place for place in range(len(side)) if place not in ready]
        if not missing:
            return _written(texts)
        if self._engine is None:
            with console.Waiting("loading the model"):
                self._engine = engine.load(self.model, self.settings)
        writer = self._engine
        step, several = _AT_ONCE[self.settings.device], self._texts_per_title
        with (
            console.Progress(what, len(missing) * several, "texts") as bar,
            engine.heard_by(lambda texts, _: bar.advance(texts)),
        ):
            for start in range(0, len(missing), step):
                places = missing[start : start + step]
                room = writer.room([prompts[place] for place in places])
                places = [place for place, left in zip(places, room, strict=True) if left > 0]
                titles_of = [side.titles[place] for place in places]
                ranked = selection.write(
                    writer, [prompts[place] for place in places], titles_of, several,
                    self.model.mean_completion_tokens,
                )  # fmt: skip
                for place, ((_, best), *_) in zip(places, ranked, strict=True):
                    texts[place] = best.text, best.finish_reason == "stop"
        return _written(texts)

    def score(self, sides: Sequence[EvalSet]) -> list[Floats]:
        """Score the real descriptions of each side: [rows, 2] nats and tokens."""
        prompts = [prompt for side in sides for prompt in self._prompts(side)]
        replies = [text for side in sides for text in side.references]
        with console.Waiting(f"scoring {len(replies):,} real descriptions"):
            costs = engine.score(self.model, self.settings, prompts, replies)
        engine.free_memory(self.settings.device)
        return np.split(costs, np.cumsum([len(side) for side in sides])[:-1])

    def _prompts(self, side: EvalSet) -> list[Request]:
        about = self.model.prompt.about_rows(side.attributes, len(side))
        return [
            Request(uid, self.model.render(title, uid, lines), about=lines)
            for uid, title, lines in zip(side.uids, side.titles, about, strict=True)
        ]

    def close(self) -> None:
        """Free the weights, as the next model needs the room."""
        self._engine = None
        engine.free_memory(self.settings.device)


def shown(model: Run, side: EvalSet) -> list[str] | None:
    """Return what a model's prompts show of neighbours, a text a row; None where they show none."""
    if not model.prompt.neighbours:
        return None
    return [
        "\n".join(f"{neighbour.title}\n{neighbour.description}" for neighbour in model.near(title))
        for title in side.titles
    ]


def nearest_by_title(side: EvalSet, trained: Trained) -> Written:
    """Return for each row the description of the trained row whose title is nearest, never its own.

    Nearest: fewest insertions and deletions between the titles' words in small letters and
    alphabetic order, as a share of their lengths (rapidfuzz); the first of several. No texts where
    a row has no other than itself.
    """
    from rapidfuzz import process
    from rapidfuzz.distance import Indel

    columns = [trained.rows.column(name).to_pylist() for name in COLUMNS]
    choices = [_sorted_words(title) for title in columns[1]]
    own: dict[tuple[str, str, str], list[int]] = {}
    if side.name == "seen":
        for place, row in enumerate(zip(*columns, strict=True)):
            own.setdefault(row, []).append(place)
    rows = list(zip(side.uids, side.titles, side.references, strict=True))
    if not choices or any(len(own.get(row, [])) == len(choices) for row in rows):
        return Written([])
    nearest: list[str] = []
    likeness: list[float] = []
    for start in range(0, len(side), _QUERIES):
        queries = [_sorted_words(title) for title in side.titles[start : start + _QUERIES]]
        alike = process.cdist(
            queries, choices, scorer=Indel.normalized_similarity, dtype=np.float32, workers=-1
        )
        for row, key in zip(alike, rows[start : start + _QUERIES], strict=True):
            row[own.get(key, [])] = -1
        nearest += [columns[2][place] for place in alike.argmax(axis=1).tolist()]
        likeness += alike.max(axis=1).tolist()
    return Written(nearest, alike=np.array(likeness))


def _sorted_words(title: str) -> str:
    return " ".join(sorted(title.casefold().split()))


def check_run(path: str, model: Run) -> Manifest:
    """Return the manifest of a run, which records what it was trained on.

    Raises:
        ManifestError: it is no training run, so its unseen rows are unknown.
    """
    if model.record is None or model.adapter is None:
        hint = "judge its texts with --generated instead"
        raise ManifestError(path, "a training run", "a merged model", hint)
    return model.record


def base_of(model: Run) -> str:
    """Digest what a base writes from: its weights and prompts, which several runs may share."""
    shown: dict[str, Any] = {}
    if model.neighbours_digest:
        shown["neighbours"] = model.neighbours_digest
    if model.chat:
        shown["chat"] = dataclasses.astuple(model.chat)
    how = {"base": model.base_digest, "prompt": model.prompt.recorded}
    return manifest.identity_digest(how | shown)
