"""Settings of asking and serving. Imports nothing heavy, so that ``--help`` is quick."""

from dataclasses import dataclass
from typing import Literal

from data.cli import parse_memory
from data.errors import ConfigError


@dataclass(frozen=True)
class DeskConfig:
    """Ask about titles of a catalogue."""

    run: str = "data/store/runs/all"
    """Folder of a training run, or of a merged model; local."""

    catalogue: str = "data/store/clean"
    """Folder of the clean shards with the titles; local or an fsspec URL."""

    index: str | None = None
    """Local folder for the index of titles; none: beside the catalogue, its name with `-titles`."""

    matches: int = 5
    """Show so many titles that may be meant, at most."""

    max_characters: int = 2_500
    """Longest question, and longest title."""

    max_new_tokens: int | None = None
    """Tokens an answer at most; none: as many as the longest description that the model was trained
    on, or 256 where that is not known."""

    wording: Literal["auto", "question", "trained"] = "auto"
    """What the model is told to do with the title: the question as it stands, or what it was
    trained with. auto: the question, unless it was trained on one instruction alone and so knows
    no other."""

    temperature: float = 0.3
    """0 always takes the likeliest token; above, the higher the more daring."""

    top_p: float = 1.0
    """Draw from the likeliest tokens that together hold this probability."""

    seed: int = 3407
    """An answer depends on this, the question, the record and the settings alone."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; auto: on a GPU where there is one."""

    memory_limit: str | None = None
    """Use no more GPU memory than this, 11.65GiB for instance."""

    def __post_init__(self) -> None:
        for name in ("matches", "max_characters", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name}", "at least 1", str(value))
        if self.temperature and not 0.01 <= self.temperature <= 100:
            found = str(self.temperature)
            raise ConfigError("--temperature", "0 for greedy, or 0.01 to 100", found)
        if not 0 < self.top_p <= 1:
            raise ConfigError("--top_p", "more than 0, at most 1", str(self.top_p))
        if not -(2**63) <= self.seed < 2**63:
            raise ConfigError("--seed", "a signed 64-bit number", str(self.seed))
        if self.memory_limit is not None:
            parse_memory(self.memory_limit)


@dataclass(frozen=True)
class AskConfig(DeskConfig):
    """Ask a question about a title and see what the answer rests on.

    Finds the record that the question means, lets the adapter answer, and shows the record, whether
    its title was trained on, and what of the answer is recited. `-` reads questions from standard
    input, a line each, and writes JSON lines.
    """

    question: str = "-"
    """In English, Portuguese or whatever the model understands; `-` reads lines of them."""

    title: str | None = None
    """The title meant, where the question does not tell."""

    compare: bool = False
    """Show what the base says without the adapter, too."""

    anyway: bool = False
    """Answer also where no title of the catalogue is meant; marked as invented."""

    json: bool = False
    """Write the answer with its evidence as one line of JSON."""


@dataclass(frozen=True)
class ServeConfig(DeskConfig):
    """Serve a web page to ask about titles, with the evidence for each answer.

    Works offline. Several people may ask at once: their answers are written together.
    """

    host: str = "127.0.0.1"
    """Address to listen on; the default lets only this machine in."""

    port: int = 7860
    """Port to listen on; 0: any that is free."""

    allowed_hosts: tuple[str, ...] = ()
    """Other names that this server is reached by, behind a proxy for instance; the address it
    listens on and this machine's own are allowed. `[shop.example]`"""

    report: str | None = None
    """A report.html of `inference evaluate`, or its folder, to show on the page."""

    queue: int = 64
    """So many may wait for an answer; others are asked to come back."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.port < 65_536:
            raise ConfigError("--port", "0 to 65535", str(self.port))
        if self.queue < 1:
            raise ConfigError("--queue", "at least 1", str(self.queue))
