"""From a question to an answer with its evidence: the one path that command and page share.

The record that the question means, the prompt that the adapter was trained with, the answer as it
grows, and what it rests on. The same question, seed and weights give the same answer as data.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

from data.artefacts.run import Run
from data.errors import ConfigError
from inference import engine
from inference.ask import index, query, search
from inference.ask.attribution import Copied, Training
from inference.ask.index import Record
from inference.ask.shelf import Shelf
from inference.config import AssistantConfig
from inference.engine import Answerer, Settings

TRAINED_WORDING = "the wording that the adapter was trained with"
Status = Literal["answered", "invented", "which", "no_match"]


@dataclass(frozen=True)
class Found:
    """What a question was found to mean."""

    question: str
    matches: list[search.Match]
    """Best first."""
    row: int | None
    """Of the record meant; none: several may be, or none is."""
    title: str | None
    """Of the record meant, or given by the asker."""
    catalogue: str
    """Digest of the catalogue that the row is of."""


@dataclass(frozen=True)
class Answer:
    """An answer, whole or so far, and what it rests on."""

    question: str
    status: Status
    """``answered`` about a record of the catalogue; ``invented`` without one; ``which`` of several
    titles is meant is open; ``no_match``: no title of the catalogue is meant."""
    title: str | None
    matches: list[dict[str, Any]]
    """Titles that may be meant: ``title``, ``score`` 0 to 1, ``records``."""
    seed: int
    temperature: float
    instruction: str = ""
    """What the model was told to do with the title: the question, or what it was trained with."""
    answer: str | None = None
    finish_reason: str | None = None
    """``stop`` at its own end, ``length`` cut at the limit, ``stopped`` by the asker."""
    new_tokens: int = 0
    record: Record | None = None
    """The catalogue's own row; ``byte_offset`` of its line in ``source``, uncompressed."""
    training: str = "unknown"
    """Whether the adapter was trained on the title: one of ``evidence.STATES``."""
    copied: list[Copied] = field(default_factory=list)
    """Stretches of the answer that stand word for word in training texts."""
    base_answer: str | None = None
    """What the base says without the adapter, where that was asked."""
    model: str = ""
    """Digest of the weights."""
    catalogue: str = ""
    """Digest of the catalogue."""

    def as_data(self) -> dict[str, Any]:
        """Give it as plain values, for JSON."""
        return dataclasses.asdict(self)


class Assistant:
    """What answers: an index of titles, a model, its base once that is asked for."""

    def __init__(self, config: AssistantConfig, waiting: int = 1) -> None:
        self.config = config
        self._model = Run.open(config.run)
        self._settings = Settings.of(config, self._model, "fast")
        self._shelf = Shelf(config.catalogue, config.index)
        self._training = Training(self._model.record)
        self._waiting = waiting
        self._answerers: dict[str, Answerer] = {}
        self._one_loads = threading.Lock()
        # Each thread that computes keeps the interpreter from those that only pass on.
        self._one_computes = threading.Lock()
        # Beside the model's loading, not after the first answer.
        threading.Thread(target=self._sort_early, daemon=True).start()

    def _sort_early(self) -> None:
        with contextlib.suppress(ImportError):  # said by the first answer
            self._training.sort()

    @property
    def model(self) -> Run:
        """The weights that answer."""
        return self._model

    @property
    def sources(self) -> dict[str, str]:
        """Where each source of the catalogue lies, by its name."""
        return self._shelf.sources

    def titles(self, longest: int, most: int) -> tuple[int, list[str]]:
        """Count the catalogue's titles and give a few short ones."""
        with self._shelf.opened() as (db, _):
            return index.count(db), index.short_titles(db, longest, most)

    def suggest(self, begun: str, most: int = 6) -> list[str]:
        """Give titles that a half-typed question may mean."""
        with self._one_computes, self._shelf.opened() as (db, _):
            return [match.title for match in search.find(db, begun, most, typing=True)]

    def find(self, question: str, title: str | None = None) -> Found:
        """Find the record that a question means.

        Args:
            question: in any form.
            title: the title meant, where the asker names it.

        Raises:
            ConfigError: question or title is empty, too long or no text.
            ManifestError: the catalogue is gone, or being made anew.
        """
        check_question(question, self.config.max_characters)
        named = title if title and title.strip() else None
        if named:
            check_text("title", named, self.config.max_characters)
        with self._one_computes, self._shelf.opened() as (db, digest):
            matches = search.find(db, named or question, self.config.matches)
            if named:
                whole = index.row_of(db, named)
                if whole is not None:
                    return Found(question, matches, whole, named, digest)
        if search.is_sure(matches):
            return Found(question, matches, matches[0].row, matches[0].title, digest)
        return Found(question, matches, None, named, digest)

    def answer(
        self, found: Found, seed: int | None = None, compare: bool = False, anyway: bool = False
    ) -> Generator[Answer, None, None]:
        """Answer a question: what there is so far again and again, the whole of it last.

        Args:
            found: what it means.
            seed: of the draw; none: the config's.
            compare: let the base answer too.
            anyway: answer without a record too.

        Raises:
            ConfigError: the seed is no number of 64 bits.
            ManifestError: the catalogue is another one by now.
            ModelError: the prompt is too long, too many wait, or the model fails.
        """
        with self._one_computes:
            begun = self._begin(found, self.config.seed if seed is None else seed, anyway)
        yield begun
        if begun.title is None or begun.status in ("which", "no_match"):
            return
        prompt = self._model.prompt.ask(begun.instruction, begun.title)
        uid = begun.record.uid if begun.record else ""
        written = begun
        with closing(self._load("adapter").stream(prompt, uid, begun.seed)) as stream:
            for said in stream:
                written = dataclasses.replace(
                    begun, answer=said.text, finish_reason=said.finish_reason,
                    new_tokens=said.new_tokens,
                )  # fmt: skip
                yield written
        with self._one_computes:
            copied = self._training.copied(written.answer or "", begun.record)
        written = dataclasses.replace(written, copied=copied)
        if compare:
            with closing(self._load("base").stream(prompt, uid, begun.seed)) as stream:
                for said in stream:
                    yield dataclasses.replace(written, base_answer=said.text)
                written = dataclasses.replace(written, base_answer=said.text)
        yield written

    def _begin(self, found: Found, seed: int, anyway: bool) -> Answer:
        if not -(2**63) <= seed < 2**63:
            raise ConfigError("seed", "a signed 64-bit number", f"{seed:.3g}")
        record = None
        if found.row is not None:
            record = self._shelf.record(found.row, found.catalogue)
        status: Status = "answered"
        title = record.title if record else found.title
        if record is None:
            open_choice = bool(found.matches) and found.matches[0].score >= search.SURE
            status = "which" if open_choice and not anyway else "no_match"
            if anyway:
                status = "invented"
                title = title or query.named_title(found.question)
        return Answer(
            question=found.question,
            status=status,
            title=title,
            matches=[
                {"title": match.title, "score": match.score, "records": match.records}
                for match in found.matches
            ],
            seed=seed,
            temperature=self.config.temperature,
            instruction=self._instruction(found.question, record),
            record=record,
            training=self._training.state(title, record),
            model=self._model.digest,
            catalogue=found.catalogue,
        )

    def _instruction(self, question: str, record: Record | None) -> str:
        prompt, wording = self._model.prompt, self.config.wording
        # Of a model without a record of its training nothing tells what it knows.
        knows_one = self._model.record is not None and len(prompt.instructions) == 1
        if wording == "trained" or (wording == "auto" and knows_one):
            return prompt.choose(record.uid if record else "")
        return question.strip()

    def _load(self, which: Literal["adapter", "base"]) -> Answerer:
        """Load what answers, once, when it is first needed."""
        with self._one_loads:
            if which not in self._answerers:
                model = self._model if which == "adapter" else self._model.without_adapter()
                self._answerers[which] = engine.answerer(model, self._settings, self._waiting)
            return self._answerers[which]

    def health(self) -> dict[str, Any]:
        """Tell what answers and how busy it is."""
        loads = [each.load() for each in self._answerers.values()]
        return {
            "status": "ok",
            "model": self._model.digest,
            "catalogue": self._shelf.digest,
            "answering": sum(busy for busy, _ in loads),
            "waiting": sum(waiting for _, waiting in loads),
        }

    def warm_up(self) -> None:
        """Load the model, and sort the training texts, before anybody asks."""
        self._load("adapter")
        self._training.sort()

    def close(self) -> None:
        """Stop what answers."""
        for each in self._answerers.values():
            each.close()


def check_question(question: str, most: int) -> None:
    """Check that a question is one.

    Raises:
        ConfigError: it is empty, holds no word, is too long or no text.
    """
    check_text("question", question, most)
    if not query.words(question):
        found = "an empty one" if not question.strip() else "no word in it"
        raise ConfigError("question", "a question about a title", found)


def check_text(name: str, text: str, most: int) -> None:
    """Check a text before anything looks through it.

    Raises:
        ConfigError: it is longer than so many code points, or holds half of a character.
    """
    if len(text) > most:
        raise ConfigError(name, f"at most {most:,} characters", f"{len(text):,}", "shorten it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(name, "text", f"half a character at {error.start}") from None
