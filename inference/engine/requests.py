"""What goes into an engine and comes out: requests, settings, completions, progress.

Imports torch only inside functions, as all of this room but ``slots`` does. Loads safetensors only,
never remote code. Knows nothing of files of titles or of Dask.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Literal, Protocol

from data.artefacts.run import Run
from data.cluster.client import cores
from data.errors import ConfigError
from inference.config import AssistantConfig, EvaluateConfig, GenerateConfig
from inference.decoding import Decoding


@dataclass(frozen=True)
class Request:
    """One text to write."""

    uid: str
    """Keys the draws, so that a row's text does not depend on its batch."""
    prompt: str
    draw: int = 0
    """Which of several texts of this uid it is; each has draws of its own."""
    about: str = ""
    """The lines of attributes in the prompt, which may support numbers of the text."""


@dataclass(frozen=True)
class Completion:
    """One text written."""

    text: str
    finish_reason: str
    """``stop`` at the end of sequence, ``length`` at the limit, ``loop`` where it only repeated
    itself; what it repeated is left out."""
    prompt_tokens: int
    new_tokens: int
    """Without the end of sequence."""


@dataclass(frozen=True)
class Wish:
    """What one answer asks for, where not what the settings of all say."""

    temperature: float | None = None
    """0, or 0.01 to 100; none: as set."""
    most_tokens: int | None = None
    """New tokens at most; none, or more than the settings allow: as set."""


AS_SET = Wish()


class Engine(Protocol):
    """What the driver needs of an engine; several threads may call it, one of them decodes."""

    def room(self, requests: Sequence[Request]) -> list[int]:
        """Count the tokens that each prompt leaves in the model's context, below 0 for none."""
        ...

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Write the texts, in the order of the requests."""
        ...


@dataclass(frozen=True, kw_only=True)
class Settings(Decoding):
    """How an engine writes; without ``end_after`` texts may be of any length."""

    max_new_tokens: int
    seed: int
    batch_size: int | None
    """Titles at a time; none: as many as memory allows, 64 in the reference engine."""
    engine: Literal["fast", "reference"]
    device: str
    memory_limit: str | None
    threads: int | None
    """CPU threads of one worker; none: as torch likes."""
    texts: int | None = None
    """Texts that are going to be asked for in all, where that is known: what compiling pays for."""

    @classmethod
    def of(
        cls,
        config: GenerateConfig | AssistantConfig | EvaluateConfig,
        model: Run,
        engine: Literal["fast", "reference"],
        threads: int | None = None,
    ) -> "Settings":
        """Choose how a command writes with a model.

        Args:
            config: of the command.
            model: to write with.
            engine: to write with.
            threads: CPU threads; none: one per core that this process may use.
        """
        device = choose_device(config.device)
        decoding = {item.name: getattr(config, item.name) for item in fields(Decoding)}
        if config.end_after is None:
            decoding["end_after"] = model.long_completion_tokens
        return cls(
            **decoding,
            max_new_tokens=config.max_new_tokens or model.max_new_tokens,
            seed=config.seed,
            batch_size=None if isinstance(config, AssistantConfig) else config.batch_size,
            engine=engine,
            device=device,
            memory_limit=config.memory_limit,
            threads=None if device == "cuda" else threads or cores(),
        )


def choose_device(device: str) -> str:
    """Choose ``cuda`` or ``cpu`` for ``auto``.

    Raises:
        ConfigError: a GPU was named and there is none.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise ConfigError("--device", "a CUDA device", "none that torch can use")
    return device if device != "auto" else ("cuda" if has_gpu else "cpu")


Listener = Callable[[int, int], None]
"""Called with how many more rows are done and how many more tokens are written, about."""

# A context variable, so that an engine needs no further parameter and threads do not mix.
_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Pass the progress that engines report in this thread to a listener."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def report(rows: int, tokens: int) -> None:
    """Report that so many more rows are done and so many more tokens written."""
    if (listener := _LISTENER.get()) is not None:
        listener(rows, tokens)
