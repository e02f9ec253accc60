"""From a question to an answer with its evidence, the same for the command and the page.

Finds the record that the question means, asks the model with the prompt that it was trained with,
and says what the answer rests on. The same question, seed and weights give the same answer.
"""

import contextlib
import dataclasses
import json
import threading
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

from data import console
from data.artefacts.run import Run
from data.errors import ConfigError
from data.prompt import Neighbour
from data.sources.location import Location, locate
from inference import engine, fidelity
from inference.ask import grounding, index, query, search
from inference.ask.attribution import Copied, Training
from inference.ask.index import Record
from inference.ask.shelf import Shelf
from inference.config import AssistantConfig, Ground, Weights
from inference.engine import AS_SET, Answerer, Completion, Settings, Wish

Status = Literal["answered", "invented", "which", "no_match"]


@dataclass(frozen=True)
class Answer:
    """An answer, whole or so far, and what it rests on."""

    question: str
    status: Status
    """``answered`` about a record of the catalogue; ``invented`` without one; ``which``: several
    titles may be meant; ``no_match``: no title of the catalogue is meant."""
    title: str | None
    matches: list[dict[str, Any]]
    """Titles that may be meant: ``title``, ``score`` 0 to 1, ``records``."""
    seed: int
    temperature: float
    instruction: str = ""
    """What the model was told to do with the title: the question, or what it was trained with."""
    answer: str | None = None
    left_out: list[str] = field(default_factory=list)
    """Sentences that the model wrote but no reader should believe: grounded in a record, those with
    numbers that neither title nor record holds."""
    finish_reason: str | None = None
    """``stop`` at its own end, ``length`` cut at the limit, ``loop`` as it repeated itself."""
    new_tokens: int = 0
    prompt_tokens: int = 0
    record: Record | None = None
    """The catalogue's own row; ``byte_offset`` of its line in ``source``, uncompressed. In JSON
    without ``attributes`` where the catalogue keeps none."""
    training: str = "unknown"
    """Whether the adapter was trained on the title: one of ``attribution.STATES``."""
    ground: Ground = "none"
    """What its prompt showed beside the title: the record, similar trained titles, or nothing."""
    shown: list[Neighbour] = field(default_factory=list)
    """The rows that its prompt showed, the most similar first, their descriptions cut."""
    copied: list[Copied] = field(default_factory=list)
    """Stretches of the answer that stand word for word in what was shown or in training texts."""
    checks: fidelity.Checks | None = None
    """What the answer leaves out of its title and what it invents; none: it is not whole yet."""
    base_answer: str | None = None
    """What the base says without the adapter, where that was asked."""
    model: str = ""
    """Digest of the weights."""
    catalogue: str = ""
    """Digest of the catalogue."""

    def as_json(self) -> str:
        """Write all of it as one line of JSON."""
        values = dataclasses.asdict(self)
        if self.record and not self.record.attributes:
            del values["record"]["attributes"]
        return json.dumps(values, ensure_ascii=False, sort_keys=True)

    @property
    def is_open(self) -> bool:
        """Whether a title must be named before there can be an answer."""
        return self.status in ("which", "no_match")

    @property
    def copied_share(self) -> float:
        """Share of the answer's characters within its copied stretches."""
        copied = sum(stretch.end - stretch.begin for stretch in self.copied)
        return copied / max(len(self.answer or ""), 1)

    @property
    def title_words(self) -> str | None:
        """What the answer keeps of its title's words, for people to read; none: it has none."""
        kept = self.checks.title_words_kept if self.checks else []
        missing = self.checks.title_words_missing if self.checks else []
        if not kept + missing:
            return None
        counted = f"{len(kept)} of {len(kept + missing)} kept"
        return f"{counted}, missing: {', '.join(missing)}" if missing else counted

    @property
    def omission(self) -> str | None:
        """Its sentences that were left out, for people to read; none: there is none."""
        if not self.left_out:
            return None
        count = len(self.left_out)
        sentences = "a sentence" if count == 1 else f"{count} sentences"
        listed = " ".join(f"“{sentence}”" for sentence in self.left_out)
        return f"{sentences} with numbers that neither title nor record holds: {listed}"

    @property
    def grounds(self) -> str:
        """What its prompt showed, where it showed any, for people to read."""
        if self.ground == "record":
            return "its own record, whose description the prompt showed"
        titles = "; ".join(row.title for row in self.shown)
        return f"similar titles that the prompt showed: {titles}"

    @property
    def wording(self) -> str | None:
        """The instruction with its reason, for people to read; none: it is the question itself."""
        if self.instruction == self.question.strip():
            return None
        return f"{self.instruction} (the wording that the adapter was trained with)"


class Assistant:
    """What answers: an index of titles, a model, and its base once that is asked for."""

    def __init__(self, config: AssistantConfig, waiting: int = 1) -> None:
        self.config = config
        self.model = Run.open(config.run)
        """The weights that answer."""
        knows_rows = self.model.prompt.neighbours > 0
        if config.ground in ("record", "neighbours") and not knows_rows:
            expected = "a run trained with --prompt.neighbours"
            raise ConfigError("--ground", expected, config.run, "leave it out, or train one")
        self._ground: Ground = config.ground or ("record" if knows_rows else "none")
        self._settings = Settings.of(config, self.model, "fast")
        self._shelf = Shelf(config.catalogue, config.index)
        self._shelf.catalogue.check_attributes(config.catalogue, self.model.prompt.attributes)
        self._training = Training(self.model.record)
        self._waiting = waiting
        self._answerers: dict[str, Answerer] = {}
        self._one_loads = threading.Lock()
        # Python runs one thread at a time, in turns. If many searched at once, the thread that
        # serves the connections would wait for a turn of each; so one computes at a time.
        self._one_computes = threading.Lock()
        # Beside the loading of the model, so that the first answer need not wait for it.
        threading.Thread(target=self._sort_early, daemon=True).start()

    def _sort_early(self) -> None:
        with contextlib.suppress(ImportError):  # the first answer raises it again
            self._training.sort()

    def locate(self, answer: Answer) -> Location | None:
        """Find where the record of an answer came from; None where it has none."""
        if answer.record is None:
            return None
        return locate(self._shelf.catalogue, answer.record.source, answer.record.byte_offset)

    def titles(self, longest: int, most: int) -> tuple[int, list[str]]:
        """Count the catalogue's titles and list a few short ones."""
        with self._shelf.opened() as (db, _):
            return index.count(db), index.short_titles(db, longest, most)

    def suggest(self, begun: str, most: int = 6) -> list[str]:
        """List the titles that a half-typed question may mean."""
        with self._one_computes, self._shelf.opened() as (db, _):
            return [match.title for match in search.find(db, begun, most, typing=True)]

    def answer(
        self,
        question: str,
        title: str | None = None,
        *,
        seed: int | None = None,
        compare: bool = False,
        anyway: bool = False,
        wish: Wish = AS_SET,
        by: Weights = "adapter",
    ) -> Generator[Answer, None, None]:
        """Answer a question: yield what there is so far again and again, the whole of it last.

        Args:
            question: in any form.
            title: the title meant, where the asker names it.
            seed: of the draw; none: the config's.
            compare: let the base answer too.
            anyway: answer without a record too.
            wish: how this answer is to be written.
            by: what writes it.

        Raises:
            ConfigError: question or title is empty, too long or no text; the seed has no 64 bits.
            ManifestError: the catalogue is gone, being made anew or another one by now.
            ModelError: the prompt is too long, too many wait, or the model fails.
        """
        with self._one_computes:
            answer = self._begin(question, title, seed, anyway)
        heat = self.config.temperature if wish.temperature is None else wish.temperature
        yield from self._write(dataclasses.replace(answer, temperature=heat), compare, wish, by)

    def describe(self, title: str, *, seed: int | None = None) -> Generator[Answer, None, None]:
        """Describe a title in the wording that the model was trained with; yield as ``answer``.

        A title of the catalogue is written about with its record, any other is ``invented``.

        Args:
            title: as it stands; not looked up in other spellings.
            seed: of the draw; none: the config's.

        Raises:
            ConfigError: the title is empty, too long or no text.
            ManifestError: the catalogue is gone, being made anew or another one by now.
            ModelError: the prompt is too long, too many wait, or the model fails.
        """
        self._check_text("title", title)
        if not title.strip():
            raise ConfigError("title", "a title", "an empty one")
        with self._one_computes, self._shelf.opened() as (db, digest):
            row = index.row_of(db, title)
            record = None if row is None else self._record(row, digest)
            answer = self._open_answer("", record.title if record else title.strip(), record, seed)
        yield from self._write(dataclasses.replace(answer, catalogue=digest), compare=False)

    def _write(
        self, answer: Answer, compare: bool, wish: Wish = AS_SET, by: Weights = "adapter"
    ) -> Generator[Answer, None, None]:
        """Write an answer whose record was found; yield it so far, beginning with nothing."""
        yield answer
        if answer.title is None or answer.is_open:
            return
        answerer = self._load(by)
        with self._one_computes:
            answer = self._show(answer, answerer)
        about = self.model.prompt.about(answer.record.attributes if answer.record else {})
        prompt = self.model.prompt.ask(answer.instruction, answer.title or "", answer.shown, about)
        uid, own = (answer.record.uid, answer.record.support) if answer.record else ("", "")
        with closing(answerer.stream(prompt, uid, answer.seed, wish)) as stream:
            for text in stream:
                answer = _so_far(answer, text, own, is_whole=False)
                yield answer
        with self._one_computes:
            answer = _so_far(answer, text, own, is_whole=True)
            whole = answer.answer or ""
            answer = dataclasses.replace(
                answer,
                copied=self._training.copied(whole, answer.record, answer.shown),
                checks=fidelity.check(whole, answer.title or "", own),
            )
        if compare:
            yield answer  # to load the base may take a while
            with closing(self._load("base").stream(prompt, uid, answer.seed)) as stream:
                for text in stream:
                    answer = dataclasses.replace(answer, base_answer=text.text)
                    yield answer
        yield answer

    def _show(self, answer: Answer, answerer: Answerer) -> Answer:
        """Find what the prompt of an answer shows beside its title."""
        ground, record, shown = self._ground, answer.record, list[Neighbour]()
        if ground == "record" and record is not None and record.content.strip():
            shown = [Neighbour(record.title, answerer.cut(record.content))]
        elif ground != "none":
            shown = list(self.model.near(answer.title or ""))
            ground = "neighbours" if shown else "none"
        return dataclasses.replace(answer, ground=ground, shown=shown)

    def _begin(self, question: str, title: str | None, seed: int | None, anyway: bool) -> Answer:
        """Find the record that a question means; return the answer before its first word."""
        self._check_text("question", question)
        if not query.words(question):
            state = "no word in it" if question.strip() else "an empty one"
            raise ConfigError("question", "a question about a title", state)
        if title and title.strip():
            self._check_text("title", title)
        else:
            title = None
        with self._shelf.opened() as (db, digest):
            matches = search.find(db, title or question, self.config.matches)
            row = index.row_of(db, title) if title else None
        if row is None and search.is_sure(matches):
            row = matches[0].row
        record: Record | None = None
        status: Status = "answered"
        if row is not None:
            record = self._record(row, digest)
            title = record.title
        elif anyway:
            status, title = "invented", title or query.named_title(question)
        else:
            may_be_meant = matches and matches[0].score >= search.SURE
            status = "which" if may_be_meant else "no_match"
        return dataclasses.replace(
            self._open_answer(question, title, record, seed),
            status=status,
            matches=[
                {"title": match.title, "score": match.score, "records": match.records}
                for match in matches
            ],
            catalogue=digest,
        )

    def _record(self, row: int, digest: str) -> Record:
        """Read the record of an indexed title, with the attributes that prompts show."""
        # It may have been cleaned anew since, without them.
        self._shelf.catalogue.check_attributes(self.config.catalogue, self.model.prompt.attributes)
        return self._shelf.record(row, digest)

    def _open_answer(
        self, question: str, title: str | None, record: Record | None, seed: int | None
    ) -> Answer:
        """Return an answer before its first word; without a question it is a description."""
        if seed is None:
            seed = self.config.seed
        elif not -(2**63) <= seed < 2**63:
            raise ConfigError("seed", "a signed 64-bit number", f"{seed:.3g}")
        uid = record.uid if record else ""
        return Answer(
            question=question,
            status="answered" if record else "invented",
            title=title,
            matches=[],
            seed=seed,
            temperature=self.config.temperature,
            instruction=(
                self._instruction(question, uid) if question else self.model.prompt.choose(uid)
            ),
            record=record,
            training=self._training.state(title, record),
            model=self.model.digest,
        )

    def _check_text(self, name: str, text: str) -> None:
        """Check that a text is short enough and holds no halves of surrogates."""
        most = self.config.max_characters
        if len(text) > most:
            raise ConfigError(name, f"at most {most:,} characters", f"{len(text):,}", "shorten it")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(name, "text", f"half a character at {error.start}") from None

    def _instruction(self, question: str, uid: str) -> str:
        prompt, wording = self.model.prompt, self.config.wording
        # Only the record of a training says which instructions a model was trained with.
        knows_one = self.model.record is not None and len(prompt.instructions) == 1
        if wording == "trained" or (wording == "auto" and knows_one):
            return prompt.choose(uid)
        return question.strip()

    def has_loaded(self, which: Weights) -> bool:
        """Whether an answer by it can begin at once."""
        return which in self._answerers

    def _load(self, which: Weights) -> Answerer:
        """Load what answers, once, when it is first needed."""
        with self._one_loads:
            if which not in self._answerers:
                model = self.model if which == "adapter" else self.model.without_adapter()
                with console.Waiting("loading the model"):
                    self._answerers[which] = engine.answerer(model, self._settings, self._waiting)
            return self._answerers[which]

    def health(self) -> dict[str, Any]:
        """Return what answers and how busy it is."""
        loads = [answerer.load() for answerer in [*self._answerers.values()]]
        return {
            "status": "ok",
            "model": self.model.digest,
            "catalogue": self._shelf.digest,
            "answering": sum(busy for busy, _ in loads),
            "waiting": sum(waiting for _, waiting in loads),
        }

    def warm_up(self) -> None:
        """Load the model, sort the training texts and index neighbours, before anybody asks."""
        self._load("adapter")
        self._training.sort()
        if self._ground != "none":
            self.model.near("")

    def close(self) -> None:
        """Stop what answers."""
        for answerer in self._answerers.values():
            answerer.close()


def _so_far(answer: Answer, text: Completion, own: str, is_whole: bool) -> Answer:
    """Take over what is written by now: grounded in a record, the sentences that it supports."""
    written, left_out = text.text, list[str]()
    if answer.ground == "record":
        written, left_out = grounding.split(written, answer.title or "", own, is_whole)
    return dataclasses.replace(
        answer, answer=written, left_out=left_out, finish_reason=text.finish_reason,
        new_tokens=text.new_tokens, prompt_tokens=text.prompt_tokens,
    )  # fmt: skip
