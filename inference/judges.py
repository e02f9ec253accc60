"""Who judges texts besides the metrics, as flags that commands share. Imports nothing heavy."""

import re
from dataclasses import dataclass, field

from data.artefacts.manifest import OPTIONAL, placement
from data.errors import ConfigError

_NAME = re.compile(r"[\w .@-]{1,64}")


@dataclass(frozen=True)
class Judges:
    """Who judges the texts besides the metrics: another model, a measure of meaning, people."""

    judge: str | None = field(default=None, metadata=OPTIONAL)
    """Address of a model that judges pairs of texts by the OpenAI protocol, such as
    http://127.0.0.1:11434/v1; its key, where it needs one, is read from JUDGE_API_KEY. What it said
    is kept in --out with `-judge` behind its name, and never asked again."""

    judge_model: str | None = field(default=None, metadata=OPTIONAL)
    """The model of that server; none: the first that it lists."""

    judge_pairs: int = field(default=100, metadata=OPTIONAL)
    """Pairs of texts a comparison at most, of unseen titles; the judge sees each in both orders."""

    semantic: str | None = placement(None)
    """Local folder of a sentence-transformers model; adds how close in meaning each text is to the
    real description. Nothing is fetched."""

    votes: str | None = placement(None)
    """Folder of `inference rate` whose votes to show; local. Votes on other texts than these are
    left out and counted."""

    def __post_init__(self) -> None:
        if self.judge and not self.judge.startswith(("http://", "https://")):
            raise ConfigError("--judge", "an http:// or https:// address", self.judge)
        if self.judge_pairs < 1:
            raise ConfigError("--judge_pairs", "at least 1", str(self.judge_pairs))


@dataclass(frozen=True)
class RateConfig:
    """Serve a page on which people vote between two texts of a title, without knowing whose.

    Every vote is kept at once; run the same command again to go on. `evaluate --votes` shows the
    share of votes won, its interval and how far people agree.
    """

    report: str = "data/store/reports/all"
    """Folder of an `inference evaluate`, whose texts are voted on; local."""

    out: str = "data/store/votes/all"
    """Folder for the votes, a file a person; local."""

    one: str | None = None
    """Key of the system that is judged, `adapter` for instance; none: the report's first."""

    other: str | None = None
    """Key of the one it is set against, such as `base` or `reference`; none: its base, or the real
    descriptions where it has none."""

    pairs: int = 50
    """Pairs a person is shown at most, of unseen titles."""

    repeats: int = 5
    """Further pairs that a person is shown a second time, sides swapped, to see how sure the votes
    are."""

    seed: int = 3407
    """Of the order of pairs and of the sides."""

    host: str = "127.0.0.1"
    """Address to listen on; by default only this machine can connect."""

    port: int = 7861
    """Port to listen on; 0: any that is free."""

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ConfigError("--pairs", "at least 1", str(self.pairs))
        if not 0 <= self.repeats <= self.pairs:
            raise ConfigError("--repeats", "0 to --pairs", str(self.repeats))
        if not 0 <= self.port < 65_536:
            raise ConfigError("--port", "0 to 65535", str(self.port))


def check_person(name: str) -> str:
    """Return a voter's name, which becomes a file's.

    Raises:
        ConfigError: it is empty, too long or holds other signs than letters, digits and `. @_-`.
    """
    if not _NAME.fullmatch(name) or name.strip(" .") != name:
        raise ConfigError("name", "up to 64 letters and digits", repr(name[:80]))
    return name
