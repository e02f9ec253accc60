"""Answers, streamed to many users at once: one thread decodes, each step advances all answers.

Prompts in, growing texts out. Built on the decoder's slots where it supports the model, else on
the reference engine, whose texts come whole. Knows nothing of titles, catalogues or pages.
"""

import collections
import contextlib
import dataclasses
import queue
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from data.artefacts.run import Run
from data.errors import ModelError
from inference.engine import batch, reference, weights
from inference.engine.drafts import Draft
from inference.engine.requests import AS_SET, Completion, Request, Settings, Wish
from inference.engine.sampler import row_key

if TYPE_CHECKING:
    from inference.engine.slots.decoder import SlotRow

# One step of a few slots costs about as much as one of one slot, and the shape never changes, so
# that a text does not depend on who else asks.
_SLOTS = 16
_STEPS_BETWEEN_LOOKS = 4
# Tokens of a question and a title, and of a title's own description; other rows that the prompt
# shows come on top.
_LONGEST_PROMPT, _LONGEST_RECORD = 1_024, 512
_ASKED = "question, title and what the prompt shows of them"
_SHORTEN = "shorten the question, or the record's attributes"
_WAIT = 0.1
# A stream yields after so many waits without news, so that one whose user has left is stopped.
_WAITS = 10


class BusyError(ModelError):
    """More are waiting for answers than may."""


class Answerer(Protocol):
    """What writes answers; called by any number of threads."""

    def stream(
        self, prompt: str, uid: str, seed: int, wish: Wish = AS_SET
    ) -> Generator[Completion, None, None]:
        """Write an answer: yield it so far again and again, the whole of it last.

        Closing the iterator ends the writing.
        """
        ...

    def cut(self, description: str) -> str:
        """Cut a title's own description to what a prompt has room for."""
        ...

    def load(self) -> tuple[int, int]:
        """Count the answers in work, and those that wait."""
        ...

    def close(self) -> None:
        """Stop; a stream that still waits raises an error."""
        ...


def answerer(model: Run, settings: Settings, waiting: int) -> Answerer:
    """Load a model to answer with.

    Args:
        model: the weights; without an adapter it is the base that answers.
        settings: how to write; ``seed`` and ``batch_size`` are ignored.
        waiting: how many may wait while others are answered.
    """
    if settings.engine == "fast" and not batch.unsupported(model):
        return SlotAnswerer(model, settings, waiting)
    return WholeAnswerer(model, settings)


@dataclass
class _Job:
    """One answer in work; its news are all its tokens so far, or what went wrong."""

    row: "SlotRow"
    news: queue.SimpleQueue[Draft | Exception] = field(default_factory=queue.SimpleQueue)
    is_stopped: bool = False
    written: int = 0
    """Tokens that its stream has yielded: an answer begun anew is silent until it is longer."""


class SlotAnswerer:
    """Continuous batching: an answer takes a free slot at any step and returns it when done.

    A fault while one answer is admitted is that answer's alone. A fault in a step, which all
    share, ends none of them: each answer in work is written anew, alone, and only one that fails
    alone raises the fault. As noise is keyed by record and step, it is the same text.
    """

    def __init__(self, model: Run, settings: Settings, waiting: int) -> None:
        from inference.engine.slots.decoder import Decoder, SlotShape, round_up

        loaded, self._texts = weights.load(model, settings)
        context, most = self._texts.context, settings.max_new_tokens
        self._longest_record = _record_tokens(model, context, most)
        longest = _LONGEST_PROMPT + max(model.prompt.shown_tokens, self._longest_record)
        length = min(round_up(longest + most), context)
        self._longest = min(longest, context - 1)
        shape = SlotShape(_SLOTS, length, most, own_temperatures=True)
        self._temperature = settings.temperature
        sampler = weights.sampler(loaded, self._texts, settings)
        self._decoder = Decoder(loaded, sampler, self._texts.eos, shape)
        # A tokenizer that two threads call at once may refuse one of them: «Already borrowed».
        self._one_tokenises = threading.Lock()
        self._most_waiting = waiting
        self._ready = threading.Condition()
        self._waiting: list[_Job] = []
        self._working: dict[int, _Job] = {}
        self._suspects: collections.deque[_Job] = collections.deque()
        self._closing = threading.Event()
        self._one_starts = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ensure_thread()

    def stream(
        self, prompt: str, uid: str, seed: int, wish: Wish = AS_SET
    ) -> Generator[Completion, None, None]:
        """Write an answer, yield it so far again and again; closing the iterator stops it.

        Raises:
            BusyError: too many wait already.
            ModelError: the prompt is too long for the model, or the model fails at this answer.
        """
        from inference.engine.slots.decoder import SlotRow

        with self._one_tokenises:
            ids = self._texts.encode([Request(uid, prompt)])[0]
        if len(ids) > self._longest:
            expected = f"at most {self._longest} tokens"
            raise ModelError(_ASKED, expected, str(len(ids)), _SHORTEN)
        shape = self._decoder.shape
        limit = min(wish.most_tokens or shape.limit, shape.limit, shape.length - len(ids))
        heat = self._temperature if wish.temperature is None else wish.temperature
        job = _Job(SlotRow(ids, row_key(uid, seed), limit, heat))
        self._put(job)
        draft = Draft([], False, 0)
        try:
            while not draft.is_done:
                draft = self._next(job) or draft
                with self._one_tokenises:
                    written = self._texts.completion(ids, draft)
                yield written
        finally:
            job.is_stopped = True

    def _put(self, job: _Job) -> None:
        with self._ready:
            # A stopped one takes no place.
            self._waiting = [waiting for waiting in self._waiting if not waiting.is_stopped]
            if len(self._waiting) >= self._most_waiting:
                expected = f"fewer than {self._most_waiting} waiting"
                raise BusyError("answers", expected, "as many", "ask again in a moment")
            self._waiting.append(job)
            self._ready.notify()

    def _next(self, job: _Job) -> Draft | None:
        """Wait for news; return None after a while, so that a waiting stream can be closed."""
        for _ in range(_WAITS):
            try:
                news = job.news.get(timeout=_WAIT)
            except queue.Empty:
                if self._closing.is_set():
                    raise ModelError("answers", "a server that runs", "one that ends") from None
                self._ensure_thread()
                continue
            while not job.news.empty():  # only the newest counts
                news = job.news.get()
            if isinstance(news, Exception):
                raise _fault_of_model(news) from news
            return news
        return None

    def cut(self, description: str) -> str:
        """Cut a title's own description to what a prompt has room for."""
        with self._one_tokenises:
            return self._texts.tokens.cut([description], self._longest_record)[0]

    def load(self) -> tuple[int, int]:
        """Count the answers in work, and those that wait."""
        waiting = [*self._waiting, *self._suspects]
        return len(self._working), sum(not job.is_stopped for job in waiting)

    def close(self) -> None:
        """Stop the thread that decodes."""
        self._closing.set()
        with self._one_starts:  # a thread that is not started yet cannot be joined
            thread = self._thread
        if thread is not None:
            thread.join()

    def _ensure_thread(self) -> None:
        """Start the thread that decodes; again where it died, which loses no answer."""
        with self._one_starts:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        """Admit, step, pass on the tokens; the only thread that touches the decoder."""
        self._suspect_all()  # what a thread that died was working on
        while not self._closing.is_set():
            self._admit()
            if self._working:
                try:
                    self._advance()
                except Exception as error:  # whatever it is, the waiting stream must raise it
                    self._blame(error)

    def _admit(self) -> None:
        """Fill free slots; while there are suspects, one of them is alone."""
        while len(self._working) < (1 if self._suspects else _SLOTS):
            job = self._suspects.popleft() if self._suspects else self._take()
            if job is None:
                return
            if job.is_stopped:
                continue
            slot = next(slot for slot in range(_SLOTS) if slot not in self._working)
            try:
                self._decoder.admit(job.row, slot)
            except Exception as error:  # this answer's alone
                job.news.put(error)
                continue
            self._working[slot] = job
            if self._suspects:
                return

    def _take(self) -> _Job | None:
        with self._ready:
            # Idle, it sleeps until somebody asks; busy, it only looks.
            if not self._working and not self._waiting:
                self._ready.wait(_WAIT)
            return self._waiting.pop(0) if self._waiting else None

    def _blame(self, error: Exception) -> None:
        """Pass a failed step's fault to the answer that was alone in it; try several one by one."""
        if len(self._working) == 1:
            (job,) = self._working.values()
            job.is_stopped = True
            job.news.put(error)
        self._suspect_all()

    def _suspect_all(self) -> None:
        for slot, job in list(self._working.items()):
            self._suspects.append(job)
            del self._working[slot]
            with contextlib.suppress(Exception):  # a slot that is not released is written over
                self._decoder.release(slot)

    def _advance(self) -> None:
        """Step all together and pass on what is written."""
        written = self._decoder.advance(list(self._working), _STEPS_BETWEEN_LOOKS)
        for slot, draft in written.items():
            job = self._working[slot]
            if len(draft.ids) > job.written or draft.is_done:
                job.written = len(draft.ids)
                job.news.put(draft)
            if draft.is_done or job.is_stopped:
                if not draft.is_done:
                    self._decoder.release(slot)
                del self._working[slot]


def _record_tokens(model: Run, context: int, most_new: int) -> int:
    """Return the most tokens of a title's own description: those of a neighbour in a small model.

    Half of what answers leave of the context is for question and title.
    """
    if not model.prompt.neighbours:
        return 0
    return max(model.prompt.neighbour_tokens, min(_LONGEST_RECORD, (context - most_new) // 2))


def _fault_of_model(error: Exception) -> ModelError:
    """Describe a fault of a library, whatever it is, in one line."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelError("answers", "a model that writes", reason, "ask again")


class WholeAnswerer:
    """For models that the decoder does not support: one at a time, each text whole."""

    def __init__(self, model: Run, settings: Settings) -> None:
        # The key of a draw is a row's uid and the engine's one seed: an answer's seed goes into
        # the uid.
        self._engine = reference.ReferenceEngine(model, dataclasses.replace(settings, seed=0))
        context, most = self._engine.context, settings.max_new_tokens
        self._longest_record = _record_tokens(model, context, most)

    def stream(
        self, prompt: str, uid: str, seed: int, wish: Wish = AS_SET
    ) -> Generator[Completion, None, None]:
        """Write an answer and yield it whole.

        Raises:
            ModelError: the prompt is too long for the model.
        """
        request = Request(f"{uid} {seed}", prompt)
        room = self._engine.room([request])[0]
        if room < 1:
            expected, excess = "a prompt that fits the model", f"{1 - room} tokens too many"
            raise ModelError(_ASKED, expected, excess, _SHORTEN)
        try:
            written = self._engine.generate([request], wish)[0]
        except (RuntimeError, ValueError) as error:
            raise error if isinstance(error, ModelError) else _fault_of_model(error) from error
        yield written

    def cut(self, description: str) -> str:
        """Cut a title's own description to what a prompt has room for."""
        return self._engine.cut(description, self._longest_record)

    def load(self) -> tuple[int, int]:
        """Count none: nobody is known to wait."""
        return 0, 0

    def close(self) -> None:
        """Nothing to stop."""
