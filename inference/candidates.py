"""The texts that are compared: written by a model, read from disk, or made without any model."""

import dataclasses
import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from data import cli, manifest, shards
from data.errors import ManifestError, SourceError
from data.manifest import Parent
from data.shards import Folder
from inference import engine, titles
from inference.config import GenerateConfig
from inference.engine import Model, Request, Settings
from inference.intervals import Floats
from inference.samples import Side, SideName, Trained

if TYPE_CHECKING:
    from inference.criteria import EvaluateConfig

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
class Candidate:
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
    texts: dict[str, tuple[str, bool | None]]
    """By uid: the description, and whether it ended by itself, where that is told."""
    digest: str
    made_by: Parent | None = None
    """The run that wrote them, where lineage tells."""
    weights: str | None = None
    """Digest of the model that wrote them, where their manifest tells."""
    parent: Parent | None = None


def read_ready(path: str) -> Ready:
    """Read the output of ``generate``, or a file with columns ``uid`` and ``description``.

    Raises:
        SourceError: nothing is there, or a column is missing.
    """
    folder = Folder(path)
    if not manifest.is_output(folder.names()):
        return _read_foreign(path)
    made = manifest.read(folder, "generate")
    texts: dict[str, tuple[str, bool | None]] = {}
    for batch in shards.read_batches(folder, ["uid", "description", "finish_reason"]):
        for uid, text, reason in zip(*(batch.column(i).to_pylist() for i in range(3)), strict=True):
            texts[uid] = (text, reason == "stop")
    by = manifest.ancestor(made.made_from, "train")
    parent = made.as_parent(manifest.absolute(path))
    return Ready(path, texts, made.digest, by, made.identity.get("weights"), parent)


def _read_foreign(path: str) -> Ready:
    named = GenerateConfig(titles=path, title_column="description", uid_column="uid")
    texts: dict[str, tuple[str, bool | None]] = {}
    try:
        found = titles.find(named)
        for batch in found.batches():
            pairs = (batch.column(name).to_pylist() for name in ("uid", "title"))
            texts.update({uid: (text, None) for uid, text in zip(*pairs, strict=True)})
    except SourceError as error:
        mend = "give the output of generate, or a file with columns uid and description"
        where, expected, found_instead, _ = error.args
        raise SourceError(where, expected, found_instead, mend) from error
    if not texts:
        raise SourceError(path, "texts", "none")
    return Ready(path, texts, found.digest)


def is_by(ready: Ready, model: Model) -> bool:
    """Tell whether these very weights wrote the texts: a run's adapter may have been replaced."""
    return ready.weights == model.digest


def take_ready(ready: Ready, side: Side) -> Written:
    """Give the ready texts of a side whose every row has one."""
    told = [ready.texts[uid] for uid in side.uids]
    ended = [bool(end) for _, end in told] if all(end is not None for _, end in told) else None
    return Written([text for text, _ in told], ended)


class Writer:
    """A model that writes the texts it is asked for, loaded only when it has to."""

    def __init__(self, model: Model, config: "EvaluateConfig") -> None:
        self.model = model
        self.settings = _settings(model, config)
        self._engine: engine.Engine | None = None

    def prompts(self, side: Side) -> list[Request]:
        """Render the prompts of a side's titles."""
        rows = zip(side.uids, side.titles, strict=True)
        return [Request(uid, self.model.prompt.render(title, uid)) for uid, title in rows]

    def write(self, side: Side, ready: dict[str, tuple[str, bool | None]], what: str) -> Written:
        """Write a side's texts but those that are ready; no room gives an empty, unended text."""
        told = dict(ready)
        asked = [each for each in self.prompts(side) if each.uid not in told]
        if asked:
            self._engine = self._engine or _load(self.model, self.settings)
            room = self._engine.room(asked)
            told |= {each.uid: ("", False) for each, left in zip(asked, room, strict=True)}
            asked = [each for each, left in zip(asked, room, strict=True) if left > 0]
        step = _AT_ONCE[self.settings.device]
        with cli.Progress(what, len(asked), "rows") as progress:
            for start in range(0, len(asked), step):
                piece = asked[start : start + step]
                assert self._engine is not None  # noqa: S101  # for the type checker
                for each, made in zip(piece, self._engine.generate(piece), strict=True):
                    told[each.uid] = (made.text, made.finish_reason == "stop")
                progress.advance(len(piece))
        texts = [told[uid] for uid in side.uids]
        return Written([text for text, _ in texts], [bool(ended) for _, ended in texts])

    def score(self, sides: Sequence[Side]) -> list[Floats]:
        """Score the real descriptions of each side: [rows, 2] nats and tokens."""
        from inference import scoring

        prompts = [prompt for side in sides for prompt in self.prompts(side)]
        replies = [text for side in sides for text in side.references]
        costs = scoring.score(self.model, self.settings, prompts, replies)
        self._free()
        return np.split(costs, np.cumsum([len(side) for side in sides])[:-1])

    def close(self) -> None:
        """Give up the weights, as the next model needs the room."""
        self._engine = None
        self._free()

    def _free(self) -> None:
        """Hand back GPU memory that torch only keeps: an engine counts it as taken."""
        import torch

        gc.collect()
        if self.settings.device == "cuda":
            torch.cuda.empty_cache()


def bare(model: Model) -> Model:
    """Give the base of an adapter: same prompt, same limits."""
    return dataclasses.replace(model, adapter=None, digest=f"base of {model.digest}")


def _settings(model: Model, config: "EvaluateConfig") -> Settings:
    from inference import fast

    device = engine.choose_device(config.device)
    return Settings(
        # As generate: the longest description that was seen, with an eighth to spare.
        max_new_tokens=config.max_new_tokens or model.longest + model.longest // 8 + 1,
        temperature=0.0,
        top_p=1.0,
        seed=config.seed,
        batch_size=config.batch_size,
        engine="fast" if fast.supports(model) else "reference",
        device=device,
        memory_limit=config.memory_limit,
        threads=None if device == "cuda" else _cores(),
    )


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _load(model: Model, settings: Settings) -> engine.Engine:
    if settings.engine == "reference":
        return engine.ReferenceEngine(model, settings)
    from inference import fast

    return fast.FastEngine(model, settings)


def nearest_by_title(side: Side, trained: Trained) -> list[str]:
    """Give each row the description of the trained row whose title is nearest, never its own.

    Nearest: fewest insertions and deletions between the titles' words in small letters and
    alphabetic order, as a share of their lengths (rapidfuzz); the first of several.
    """
    from rapidfuzz import process
    from rapidfuzz.distance import Indel

    known = [_sorted_words(title) for title in trained.rows.column("title").to_pylist()]
    own = {uid: place for place, uid in enumerate(trained.rows.column("uid").to_pylist())}
    places: list[int] = []
    for start in range(0, len(side), _QUERIES):
        asked = [_sorted_words(title) for title in side.titles[start : start + _QUERIES]]
        alike = process.cdist(
            asked, known, scorer=Indel.normalized_similarity, dtype=np.float32, workers=-1
        )
        for row, uid in enumerate(side.uids[start : start + _QUERIES]):
            if side.name == "seen" and uid in own:
                alike[row, own[uid]] = -1
        places += alike.argmax(axis=1).tolist()
    taken: list[str] = trained.texts.take(pa.array(places, pa.int64())).to_pylist()
    return taken


def _sorted_words(title: str) -> str:
    return " ".join(sorted(title.casefold().split()))


def check_run(path: str, model: Model) -> None:
    """Check that a model tells what it was trained from.

    Raises:
        ManifestError: it is no training run, so nothing tells which rows it never saw.
    """
    if model.made is None or model.adapter is None:
        mend = "judge its texts with --generated instead"
        raise ManifestError(path, "a training run", "a merged model", mend)


def base_of(model: Model) -> str:
    """Digest what a base writes from: its weights and the prompt, which several runs may share."""
    prompt = dataclasses.asdict(model.prompt)
    base = model.made.facts["base_digest"] if model.made else model.digest
    return manifest.identity_digest({"base": base, "prompt": prompt})
