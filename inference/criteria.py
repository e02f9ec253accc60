"""Settings of ``evaluate``: what is compared, and what a run must reach. Imports nothing heavy."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Literal

from data.cli import parse_memory
from data.errors import ConfigError
from data.manifest import placement

# As manifest.placement, for a default that is made anew.
_PLACE = {"identity": False}


@dataclass(frozen=True)
class Thresholds:
    """What a run must reach to be called fit; none: told, but not judged."""

    perplexity_drop: float | None = 0.05
    """Perplexity of unseen descriptions must fall from base to adapter by at least this share."""

    gain_over_base: float | None = 0.0
    """Points of ROUGE-L on unseen titles by which the adapter must surely beat its base."""

    gain_over_title: float | None = 0.0
    """Points of ROUGE-L by which it must surely beat the title itself."""

    gain_over_nearest: float | None = None
    """Points of ROUGE-L by which it must surely beat the description of the trained row whose
    title is nearest."""

    recited_unseen: float | None = 0.05
    """Share of the texts for unseen titles that may almost equal a training text."""

    recited_seen: float | None = 0.3
    """The same for trained titles."""

    perplexity_gap: float | None = 2.0
    """How many times the perplexity of trained descriptions that of unseen ones may be."""

    excess_copied: float | None = 0.25
    """By how much the share of copied characters may exceed that of real descriptions."""

    title_kept: float | None = 0.8
    """Content words of the title kept, at least this share of what real descriptions keep."""

    unsupported: float | None = None
    """Share of the texts' numbers that neither title nor record may hold."""

    ended: float | None = 0.95
    """Share of texts that must end by themselves."""

    repetition: float | None = 0.1
    """Share of word 4-grams that may repeat earlier ones of the same text."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"--thresholds.{item.name}", "0 or more, or null", str(value))


@dataclass(frozen=True)
class EvaluateConfig:
    """Judge whether a run learned, recites or invents: one page and one JSON file.

    Compares adapter, base, the title itself and the trained row of the nearest title, on rows
    never trained on and on trained ones. With --generated alone no model is needed.
    """

    run: list[str] | str = field(default_factory=list, metadata=_PLACE)
    """Folder of a training run, or a list of them, '[a,b]'; none: judge --generated alone."""

    subset: str = placement("data/store/subsets/all")
    """Subset whose held-out rows are asked about; local."""

    out: str = placement("data/store/reports/all")
    """Folder for report.html and report.json; local or an fsspec URL."""

    generated: list[str] | str = field(default_factory=list, metadata=_PLACE)
    """Ready texts, one or a list: outputs of generate, or files with uid and description. Those
    that a --run wrote at temperature 0 and this limit stand in for writing them anew."""

    split: Literal["validation", "test"] = "test"
    """Held-out rows of the subset to ask about."""

    held_out: str | None = placement(None)
    """Other rows never trained on, such as the dataset's own test file after cleaning: clean
    shards or a subset. Rows that a run was trained on are left out and counted."""

    rows: int | None = None
    """Held-out rows at most, and as many trained ones; none: all of the split."""

    base: bool = True
    """Have the base write too; without, it is judged by its perplexity alone."""

    resamples: int = 2_000
    """Bootstrap resamples of the rows."""

    seed: int = 3407
    """Of the resamples."""

    copied_span: int = 50
    """Characters from which a span that also stands in a training text counts as copied."""

    recited_alike: float = 0.9
    """Likeness (0 to 1, of edits) to a training text from which a text counts as recited."""

    shown_rows: int = 500
    """Rows a side in the page; report.json holds all."""

    thresholds: Thresholds = field(default_factory=Thresholds)
    """What a run must reach."""

    gate: bool = placement(False)
    """End with exit code 3 where a threshold is not met."""

    max_new_tokens: int | None = None
    """Tokens a text at most; none: as generate would."""

    batch_size: int | None = None
    """Texts written at a time; none: as many as memory allows."""

    device: Literal["auto", "cpu", "cuda"] = placement("auto")
    """Where the models run."""

    memory_limit: str | None = placement(None)
    """Use no more GPU memory than this, 11.65GiB for instance."""

    overwrite: bool = placement(False)
    """Replace the report of an earlier evaluation."""

    def __post_init__(self) -> None:
        for name in ("rows", "max_new_tokens", "batch_size", "copied_span"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name}", "at least 1", str(value))
        if self.shown_rows < 0:
            raise ConfigError("--shown_rows", "0 or more", str(self.shown_rows))
        if self.resamples < 100:
            found = str(self.resamples)
            raise ConfigError("--resamples", "at least 100", found)
        if not 0 < self.recited_alike <= 1:
            found = str(self.recited_alike)
            raise ConfigError("--recited_alike", "more than 0, at most 1", found)
        if not self.runs and not self.ready:
            expected = "a run, or ready texts with --generated"
            raise ConfigError("--run", expected, "neither")
        for name, paths in (("run", self.runs), ("generated", self.ready)):
            if len({path.rstrip("/") for path in paths}) < len(paths):
                raise ConfigError(f"--{name}", "each path once", ", ".join(paths))
        if self.memory_limit is not None:
            parse_memory(self.memory_limit)

    @property
    def runs(self) -> list[str]:
        """The runs to judge."""
        return [self.run] if isinstance(self.run, str) else list(self.run)

    @property
    def ready(self) -> list[str]:
        """The ready texts."""
        return [self.generated] if isinstance(self.generated, str) else list(self.generated)
