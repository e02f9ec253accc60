"""Answers, streamed to many askers at once: one thread decodes, every step takes all of them along.

Prompts in, growing texts out. Built on the decoder's slots where it supports the model, else on
the reference engine, whose texts come whole. Knows nothing of titles, catalogues or pages.
"""

import dataclasses
import queue
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Protocol

from data.errors import ModelError
from inference import engine, fast
from inference.choice import Chooser, row_key
from inference.engine import Completion, Model, Request, Settings

# One step of a few slots costs about as much as one of one slot, and the shape never changes, so
# that a text does not depend on who else asks.
_SLOTS = 16
_STEPS_BETWEEN_LOOKS = 4
_LONGEST_PROMPT = 1_024
_WAIT = 0.1


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
    if settings.engine == "fast" and fast.supports(model):
        return SlotAnswerer(model, settings, waiting)
    return WholeAnswerer(model, settings)


def base_of(model: Model) -> Model:
    """Give the model without its adapter."""
    return dataclasses.replace(model, adapter=None)


@dataclass
class _Job:
    """One answer in work; ``done`` holds all its tokens, or what went wrong."""

    row: Any
    news: queue.SimpleQueue[tuple[list[int], bool] | Exception] = field(
        default_factory=queue.SimpleQueue
    )
    is_stopped: bool = False


class SlotAnswerer:
    """Continuous batching: an asker takes a free slot at any step and gives it back when done."""

    def __init__(self, model: Model, settings: Settings, waiting: int) -> None:
        from inference.decoder import Shape, round_up

        self._texts = engine.Texts(model, settings)
        device = self._texts.device
        engine.limit_memory(settings, device)
        loaded = engine.load_merged(model, device)
        engine.limit_threads(settings, loaded)
        self._texts.fit(loaded)
        context = self._texts.context
        most = settings.max_new_tokens
        length = min(round_up(_LONGEST_PROMPT + most), context)
        self._longest = min(_LONGEST_PROMPT, context - 1)
        self._shape = Shape(_SLOTS, length, most)
        chooser = Chooser(settings.temperature, settings.top_p)
        self._decoder = _slots(loaded, chooser, self._texts.eos, self._shape)
        self._waiting: queue.Queue[_Job] = queue.Queue(waiting)
        self._held: dict[int, _Job] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
        self._thread.start()

    def stream(self, prompt: str, uid: str, seed: int) -> Generator[Completion, None, None]:
        """Write an answer, its beginning again and again; closing the iterator stops it.

        Raises:
            BusyError: too many wait already.
            ModelError: the prompt is too long for the model.
        """
        from inference.decoder import Row

        ids = self._texts.encode([Request(uid, prompt)])[0]
        if len(ids) > self._longest:
            expected, found = f"at most {self._longest} tokens", f"{len(ids)}"
            raise ModelError("question and title", expected, found, "shorten the question")
        limit = min(self._shape.limit, self._shape.length - len(ids))
        job = _Job(Row(ids, row_key(uid, seed), limit))
        try:
            self._waiting.put_nowait(job)
        except queue.Full:
            expected, found = f"fewer than {self._waiting.maxsize} waiting", "as many"
            raise BusyError("answers", expected, found, "ask again in a moment") from None
        try:
            while True:
                tokens, is_done = self._next(job)
                (written,) = self._texts.completions([ids], [tokens])
                yield written
                if is_done:
                    return
        finally:
            job.is_stopped = True

    def _next(self, job: _Job) -> tuple[list[int], bool]:
        while True:
            try:
                told = job.news.get(timeout=_WAIT)
            except queue.Empty:
                if self._closing.is_set():
                    raise ModelError("answers", "a server that runs", "one that ends") from None
                continue
            while not job.news.empty():  # only the newest counts
                told = job.news.get()
            if isinstance(told, Exception):
                raise ModelError("answers", "a model that writes", str(told)) from told
            return told

    def load(self) -> tuple[int, int]:
        """Tell how many are answered now, and how many wait."""
        return len(self._held), self._waiting.qsize()

    def close(self) -> None:
        """Stop the thread that decodes."""
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        """Admit, step, tell; the only thread that touches the decoder."""
        held, free = self._held, list(range(_SLOTS))[::-1]
        while not self._closing.is_set():
            try:
                self._admit(held, free)
                if held:
                    self._advance(held, free)
            except Exception as error:  # whatever it is, who waits must hear of it
                for job in held.values():
                    job.news.put(error)
                held.clear()
                free = list(range(_SLOTS))[::-1]

    def _admit(self, held: dict[int, _Job], free: list[int]) -> None:
        while free:
            try:
                # Idle, it sleeps until somebody asks; busy, it only looks.
                job = self._waiting.get(block=not held, timeout=_WAIT)
            except queue.Empty:
                return
            if not job.is_stopped:
                slot = free.pop()
                held[slot] = job
                self._decoder.admit(job.row, slot)

    def _advance(self, held: dict[int, _Job], free: list[int]) -> None:
        for slot, (tokens, is_done) in self._decoder.advance(list(held)).items():
            job = held[slot]
            job.news.put((tokens, is_done))
            if is_done or job.is_stopped:
                if not is_done:
                    self._decoder.release(slot)
                del held[slot]
                free.append(slot)


def _slots(loaded: Any, chooser: Chooser, eos: int, shape: Any) -> Any:
    """Make a decoder whose slots are admitted to and read one at a time."""
    import torch

    from inference.decoder import Decoder, Row

    class Slots(Decoder):
        def admit(self, row: Row, slot: int) -> None:
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
            self._done[slot] = True

    with torch.inference_mode():
        return Slots(loaded, chooser, eos, shape, compiled=False)


class WholeAnswerer:
    """For models that the decoder does not support: one at a time, each text whole."""

    def __init__(self, model: Model, settings: Settings) -> None:
        # The key of a draw is a row's uid and the engine's one seed: each asker's seed goes into
        # the uid.
        self._engine = engine.ReferenceEngine(model, dataclasses.replace(settings, seed=0))

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
        yield self._engine.generate([request])[0]

    def load(self) -> tuple[int, int]:
        """Tell that nobody is known to wait."""
        return 0, 0

    def close(self) -> None:
        """Nothing to stop."""
