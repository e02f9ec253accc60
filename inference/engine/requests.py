"""Prompts in, texts out: the protocol, and the reference engine on transformers' ``generate``.

The only file of this stage that imports torch, transformers and peft, and only inside functions.
Loads safetensors only, never remote code. Knows nothing of files of titles or of Dask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Request:
    """One text to write."""

    uid: str
    """Keys the draws, so that a row's text does not depend on its batch."""
    prompt: str


@dataclass(frozen=True)
class Completion:
    """One text written."""

    text: str
    finish_reason: str
    """``stop`` at the end of sequence, ``length`` at the limit."""
    prompt_tokens: int
    new_tokens: int
    """Without the end of sequence."""


class Engine(Protocol):
    """What the driver needs of an engine; several threads may call it, one of them decodes."""

    def room(self, requests: Sequence[Request]) -> list[int]:
        """Tell how many tokens each prompt leaves in the model's context, below 0 for none."""
        ...

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Write the texts, in the order of the requests."""
        ...


@dataclass(frozen=True)
class Settings:
    """How an engine writes."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    batch_size: int | None
    """Titles at a time; none: as many as memory allows, 64 in the reference engine."""
    engine: Literal["fast", "reference"]
    device: str
    memory_limit: str | None
    threads: int | None
    """CPU threads of one worker; none: as torch likes."""
