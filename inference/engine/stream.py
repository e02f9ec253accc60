"""Answers, streamed to many askers at once: one thread decodes, every step takes all of them along.

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
from typing import Any, Protocol

from data.errors import ModelError
from inference.engine import batch, reference, texts, weights
from inference.engine.requests import Completion, Request, Settings
from inference.engine.sampler import Sampler, row_key
from inference.engine.weights import Model

# One step of a few slots costs about as much as one of one slot, and the shape never changes, so
# that a text does not depend on who else asks.
_SLOTS = 16
_STEPS_BETWEEN_LOOKS = 4
_LONGEST_PROMPT = 1_024
_WAIT = 0.1
# An asker without news comes back after so many of them, to be stopped where it has left.
_WAITS = 10


class BusyError(ModelError):
    """More are waiting for answers than may."""


class Answerer(Protocol):
    """What writes answers; called by any number of threads."""

    def stream(self, prompt: str, uid: str, seed: int) -> Generator[Completion, None, None]:
        """Write an answer: what there is so far again and again, the whole of it last.

        Closing the iterator ends the writing.
        """
        ...

    def load(self) -> tuple[int, int]:
        """Tell how many are answered now, and how many wait."""
        ...

    def close(self) -> None:
        """Stop; who still waits gets an error."""
        ...


def answerer(model: Model, settings: Settings, waiting: int) -> Answerer:
    """Load a model to answer with.

    Args:
        model: the weights; without an adapter it is the base that answers.
        settings: how to write; ``seed`` and ``batch_size`` are not looked at.
        waiting: how many may wait while others are answered.
    """
    if settings.engine == "fast" and batch.supports(model):
        return SlotAnswerer(model, settings, waiting)
    return WholeAnswerer(model, settings)


def base_of(model: Model) -> Model:
    """Give the model without its adapter."""
    return dataclasses.replace(model, adapter=None)


@dataclass
class _Job:
    """One answer in work; its news are all its tokens so far, or what went wrong."""

    row: Any
    news: queue.SimpleQueue[tuple[list[int], bool] | Exception] = field(
        default_factory=queue.SimpleQueue
    )
    is_stopped: bool = False
    written: int = 0
    """Tokens that its asker knows of: an answer begun anew is silent until it is longer."""


class SlotAnswerer:
    """Continuous batching: an asker takes a free slot at any step and gives it back when done.

    A fault while one answer is admitted is that answer's alone. A fault in a step, which all
    share, ends nobody's: each answer in work is written anew, alone, and only one that fails
    alone hears of the fault. As noise is keyed by record and step, it is the same text.
    """

    def __init__(self, model: Model, settings: Settings, waiting: int) -> None:
        from inference.engine.slots import SlotShape, round_up

        self._texts = texts.Texts(model, settings)
        device = self._texts.device
        weights.limit_memory(settings, device)
        loaded = weights.load_merged(model, device)
        weights.limit_threads(settings, loaded)
        self._texts.fit(loaded)
        context = self._texts.context
        most = settings.max_new_tokens
        length = min(round_up(_LONGEST_PROMPT + most), context)
        self._longest = min(_LONGEST_PROMPT, context - 1)
        self._shape = SlotShape(_SLOTS, length, most)
        chooser = Sampler(settings.temperature, settings.top_p)
        self._decoder = _slots(loaded, chooser, self._texts.eos, self._shape)
        # A tokenizer that two threads call at once may refuse one of them: «Already borrowed».
        self._one_tokenises = threading.Lock()
        self._most_waiting = waiting
        self._ready = threading.Condition()
        self._waiting: list[_Job] = []
        self._held: dict[int, _Job] = {}
        self._suspects: collections.deque[_Job] = collections.deque()
        self._closing = threading.Event()
        self._one_starts = threading.Lock()
        self._thread: threading.Thread | None = None
        self._see_to_it()

    def stream(self, prompt: str, uid: str, seed: int) -> Generator[Completion, None, None]:
        """Write an answer, its beginning again and again; closing the iterator stops it.

        Raises:
            BusyError: too many wait already.
            ModelError: the prompt is too long for the model, or the model fails at this answer.
        """
        from inference.engine.slots import SlotRow

        with self._one_tokenises:
            ids = self._texts.encode([Request(uid, prompt)])[0]
        if len(ids) > self._longest:
            expected, found = f"at most {self._longest} tokens", f"{len(ids)}"
            raise ModelError("question and title", expected, found, "shorten the question")
        limit = min(self._shape.limit, self._shape.length - len(ids))
        job = _Job(SlotRow(ids, row_key(uid, seed), limit))
        self._put(job)
        tokens: list[int] = []
        is_done = False
        try:
            while not is_done:
                tokens, is_done = self._next(job) or (tokens, False)
                with self._one_tokenises:
                    (written,) = self._texts.completions([ids], [tokens])
                yield written
        finally:
            job.is_stopped = True

    def _put(self, job: _Job) -> None:
        with self._ready:
            # Who has left takes nobody's place.
            self._waiting = [each for each in self._waiting if not each.is_stopped]
            if len(self._waiting) >= self._most_waiting:
                expected, found = f"fewer than {self._most_waiting} waiting", "as many"
                raise BusyError("answers", expected, found, "ask again in a moment")
            self._waiting.append(job)
            self._ready.notify()

    def _next(self, job: _Job) -> tuple[list[int], bool] | None:
        """Wait for news; none after a while, so that an asker who waits can be stopped."""
        for _ in range(_WAITS):
            try:
                news = job.news.get(timeout=_WAIT)
            except queue.Empty:
                if self._closing.is_set():
                    raise ModelError("answers", "a server that runs", "one that ends") from None
                self._see_to_it()
                continue
            while not job.news.empty():  # only the newest counts
                news = job.news.get()
            if isinstance(news, Exception):
                raise fault_of_model(news) from news
            return news
        return None

    def load(self) -> tuple[int, int]:
        """Tell how many are answered now, and how many wait."""
        waiting = [*self._waiting, *self._suspects]
        return len(self._held), sum(not each.is_stopped for each in waiting)

    def close(self) -> None:
        """Stop the thread that decodes."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _see_to_it(self) -> None:
        """Start the thread that decodes; again where it died, which loses no answer."""
        with self._one_starts:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        """Admit, step, tell; the only thread that touches the decoder."""
        self._suspect_all()  # what a thread that died held
        while not self._closing.is_set():
            self._admit()
            if self._held:
                try:
                    self._advance()
                except Exception as error:  # whatever it is, who waits must hear of it
                    self._blame(error)

    def _admit(self) -> None:
        """Fill free slots; while there are suspects, one of them is alone."""
        while len(self._held) < (1 if self._suspects else _SLOTS):
            job = self._suspects.popleft() if self._suspects else self._take()
            if job is None:
                return
            if job.is_stopped:
                continue
            slot = next(slot for slot in range(_SLOTS) if slot not in self._held)
            try:
                self._decoder.admit(job.row, slot)
            except Exception as error:  # this answer's alone
                job.news.put(error)
                continue
            self._held[slot] = job
            if self._suspects:
                return

    def _take(self) -> _Job | None:
        with self._ready:
            # Idle, it sleeps until somebody asks; busy, it only looks.
            if not self._held and not self._waiting:
                self._ready.wait(_WAIT)
            return self._waiting.pop(0) if self._waiting else None

    def _blame(self, error: Exception) -> None:
        """Tell a failed step to the one that was alone in it; of several, each is tried alone."""
        if len(self._held) == 1:
            (job,) = self._held.values()
            job.is_stopped = True
            job.news.put(error)
        self._suspect_all()

    def _suspect_all(self) -> None:
        for slot, job in list(self._held.items()):
            self._suspects.append(job)
            del self._held[slot]
            with contextlib.suppress(Exception):  # a slot that is not released is written over
                self._decoder.release(slot)

    def _advance(self) -> None:
        """Step all together and tell each asker what is written."""
        for slot, (tokens, is_done) in self._decoder.advance(list(self._held)).items():
            job = self._held[slot]
            if len(tokens) > job.written or is_done:
                job.written = len(tokens)
                job.news.put((tokens, is_done))
            if is_done or job.is_stopped:
                if not is_done:
                    self._decoder.release(slot)
                del self._held[slot]


def fault_of_model(error: Exception) -> ModelError:
    """Tell a fault of a library, whatever it is, in one line."""
    found = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelError("answers", "a model that writes", found, "ask again")


def _slots(loaded: Any, chooser: Sampler, eos: int, shape: Any) -> Any:
    """Make a decoder whose slots are admitted to and read one at a time."""
    import torch

    from inference.engine.slots import Decoder, SlotRow

    class Slots(Decoder):
        def admit(self, row: SlotRow, slot: int) -> None:
            with torch.inference_mode():
                # Each alone, whoever else comes: the same sums in the same order every time.
                self._admit([row], [slot], None)

        def advance(self, slots: list[int]) -> dict[int, tuple[list[int], bool]]:
            with torch.inference_mode():
                for _ in range(_STEPS_BETWEEN_LOOKS):
                    self._graph.replay() if self._graph is not None else self._advance()
                done, counts = self._done.tolist(), self._count.tolist()
                out = self._out.tolist()
            return {slot: (out[slot][: counts[slot]], done[slot]) for slot in slots}

        def release(self, slot: int) -> None:
            with torch.inference_mode():
                self._done[slot] = True

    with torch.inference_mode():
        return Slots(loaded, chooser, eos, shape, compiled=False)


class WholeAnswerer:
    """For models that the decoder does not support: one at a time, each text whole."""

    def __init__(self, model: Model, settings: Settings) -> None:
        # The key of a draw is a row's uid and the engine's one seed: each asker's seed goes into
        # the uid.
        self._engine = reference.ReferenceEngine(model, dataclasses.replace(settings, seed=0))

    def stream(self, prompt: str, uid: str, seed: int) -> Generator[Completion, None, None]:
        """Write an answer and give it whole.

        Raises:
            ModelError: the prompt is too long for the model.
        """
        request = Request(f"{uid} {seed}", prompt)
        room = self._engine.room([request])[0]
        if room < 1:
            expected, found = "a prompt that fits the model", f"{1 - room} tokens too many"
            raise ModelError("question and title", expected, found, "shorten the question")
        try:
            written = self._engine.generate([request])[0]
        except (RuntimeError, ValueError) as error:
            raise error if isinstance(error, ModelError) else fault_of_model(error) from error
        yield written

    def load(self) -> tuple[int, int]:
        """Tell that nobody is known to wait."""
        return 0, 0

    def close(self) -> None:
        """Nothing to stop."""
