"""Settings of the inference stage. Imports nothing heavy, so that ``--help`` is quick."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Literal

from data.artefacts.manifest import placement
from data.console import parse_memory
from data.errors import ConfigError
from inference.decoding import BestOf, Decoding
from inference.judges import Judges


def _check(config: "GenerateConfig | AssistantConfig | EvaluateConfig", *counts: str) -> None:
    """Check what several commands share: counts and memory.

    Raises:
        ConfigError: one is out of bounds.
    """
    for name in counts:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name}", "at least 1", str(value))
    if config.memory_limit is not None:
        parse_memory(config.memory_limit)
    if not -(2**63) <= config.seed < 2**63:
        raise ConfigError("--seed", "a signed 64-bit number", str(config.seed))


@dataclass(frozen=True)
class GenerateConfig(BestOf):
    """Write a description for every title, into Parquet.

    Reads titles from a subset, clean shards, Parquet, CSV, JSON lines or text. A title that
    cannot be read, or has no room for a text, is kept in quarantine. After an interruption, run
    the same command again: it continues.
    """

    run: str = placement("data/store/runs/all")
    """Folder of a training run, or of a merged model; local."""

    titles: str = placement("data/store/subsets/all")
    """Subset, clean shards, folder of Parquet files, or a .parquet, .arrow, .csv, .jsonl, .json or
    .txt file, the last four also as .gz; local or, all but the subset, an fsspec URL. Titles of
    files get the repair that the training titles got; subset and shards have it already."""

    out: str = placement("data/store/generated/all")
    """Folder for the descriptions; local or an fsspec URL."""

    split: Literal["train", "validation", "test"] = "test"
    """Which rows of a subset or of clean shards; other titles have no splits."""

    limit: int | None = None
    """Take only the first so many titles; none: all of them."""

    title_column: str = "title"
    """Column or field that holds the title."""

    uid_column: str | None = None
    """Column or field that holds the uid; none: `uid` where there is one, else the row's
    position from 0."""

    keep_columns: list[str] = field(default_factory=list)
    """Further columns of the titles to copy to the output, as they are; a column of JSON lines
    that holds values of several kinds becomes text."""

    # Part of the identity only where it is true: outputs without it are what they were before.
    checks: bool = placement(False)
    """Add columns that flag what is untrue: `title_words_kept`, `title_words_missing`,
    `unsupported_numbers` (in neither title nor record; the record is the `content` of a subset or
    of clean shards, or where --keep_columns names it) and `repeated_share`."""

    engine: Literal["auto", "fast", "reference"] = "auto"
    """What writes: the fast engine, or transformers' own generate; auto: the fast one where it
    knows the model's family."""

    batch_size: int | None = None
    """Titles that go through the model at a time; it may change the last bit of a sum, and so,
    rarely, a word. None: as many as GPU memory allows, 64 on a CPU and with the reference
    engine."""

    part_rows: int | None = None
    """Titles per output part; after an interruption, unfinished parts are written again. None:
    8,192 on a GPU, 2,048 on a CPU."""

    max_new_tokens: int | None = None
    """Most tokens of a description; none: an eighth more than the longest that the model was
    trained on, 256 where that is not recorded."""

    keep_all: bool = False
    """Keep all texts of a title, the best first, in the column `candidates`: to make preference
    pairs of them."""

    seed: int = 3407
    """When sampling, a title's text depends on this, its uid and the settings alone."""

    device: Literal["auto", "cpu", "cuda"] = placement("auto")
    """Where the model runs; auto: on the GPUs that this machine has, else on the CPU. bf16 on a
    GPU and float32 on a CPU, so one output cannot be made partly here and partly there."""

    workers: int | None = placement(None)
    """Worker processes on this machine; none: one per GPU, or 1 on a CPU."""

    scheduler: str | None = placement(None)
    """Address of a running Dask scheduler, tcp://host:8786, instead of workers here; set --device
    too where this machine has another device than the workers."""

    memory_limit: str | None = placement(None)
    """Most memory to use per GPU, 11.65GiB for instance."""

    overwrite: bool = placement(False)
    """Replace the output of an earlier run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "limit", "batch_size", "part_rows", "max_new_tokens", "workers")
        if len(set(self.keep_columns)) < len(self.keep_columns):
            raise ConfigError("--keep_columns", "each name once", ", ".join(self.keep_columns))


Ground = Literal["record", "neighbours", "none"]
Weights = Literal["adapter", "base"]


@dataclass(frozen=True)
class AssistantConfig(Decoding):
    """Ask about titles of a catalogue."""

    run: str = "data/store/runs/all"
    """Folder of a training run, or of a merged model; local."""

    catalogue: str = "data/store/clean"
    """Folder of the clean shards with the titles; local or an fsspec URL."""

    index: str | None = None
    """Local folder for the index of titles; none: beside the catalogue, its name with `-titles`."""

    matches: int = 5
    """Most titles to show among those that may be meant."""

    max_characters: int = 2_500
    """Most characters of a question, and of a title."""

    max_new_tokens: int | None = None
    """Most tokens of an answer; none: an eighth more than the longest description that the model
    was trained on, 256 where that is not recorded."""

    temperature: float = 0.7
    """0 always takes the likeliest token; higher values take unlikely ones more often. Lower than
    for generate, which keeps the best of several texts."""

    wording: Literal["auto", "question", "trained"] = "auto"
    """The model's instruction: the question as it stands, or the wording that it was trained
    with. auto: the question, unless it was trained on one instruction alone and so knows
    no other."""

    ground: Ground | None = None
    """What the prompt shows beside the title: the description of the record that is meant (without
    one, as `neighbours`), the trained rows of the most similar titles, or nothing. Left out:
    `record` for a run that was trained with neighbours, `none` for others."""

    seed: int = 3407
    """An answer depends on this, the question, the record and the settings alone."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; auto: on a GPU where there is one."""

    memory_limit: str | None = None
    """Most GPU memory to use, 11.65GiB for instance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "matches", "max_characters", "max_new_tokens")


@dataclass(frozen=True)
class AskConfig(AssistantConfig):
    """Ask a question about a title and see what the answer rests on.

    Finds the record that the question means, lets the adapter answer, and shows the record, whether
    its title was trained on, and what of the answer is recited. `-` reads questions from standard
    input, a line each, and writes JSON lines.
    """

    question: str = "-"
    """In English, Portuguese or whatever the model understands; `-` reads lines of them."""

    title: str | None = None
    """The title meant, where the question does not name it."""

    compare: bool = False
    """Also show what the base says without the adapter."""

    anyway: bool = False
    """Answer also where no title of the catalogue is meant; marked as invented."""

    json: bool = False
    """Write the answer with its evidence as one line of JSON."""


@dataclass(frozen=True)
class ServeConfig(AssistantConfig):
    """Serve a web page to ask about titles, with the evidence for each answer.

    Works offline. Several people may ask at once: their answers are written together.
    """

    host: str = "127.0.0.1"
    """Address to listen on; by default only this machine can connect."""

    port: int = 7860
    """Port to listen on; 0: any that is free."""

    allowed_hosts: tuple[str, ...] = ()
    """Other names that this server is reached by, behind a proxy for instance; the address it
    listens on and this machine's own are allowed. `[shop.example]`"""

    report: str | None = None
    """A report.html of `inference evaluate`, or its folder, to show on the page."""

    feedback: str = "data/store/feedback"
    """Folder for the thumbs up and down of those who ask, as Parquet; local or an fsspec URL."""

    api_key: str | None = None
    """Key that clients of the OpenAI protocol (`/v1`) must send; none: that of the environment
    variable SERVE_API_KEY, where it is set, which other users of this machine cannot list."""

    queue: int = 64
    """Most questions that may wait for an answer; further ones are refused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.port < 65_536:
            raise ConfigError("--port", "0 to 65535", str(self.port))
        if self.queue < 1:
            raise ConfigError("--queue", "at least 1", str(self.queue))
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.strip()):
            raise ConfigError("--api_key", "a key of ASCII signs", "an empty or another one")


# As manifest.placement, for a default that is a new list each time.
_PLACE = {"identity": False}


@dataclass(frozen=True)
class Thresholds:
    """What a run must surely reach to be called fit; none: reported, but not judged."""

    perplexity_drop: float | None = 0.05
    """Perplexity of unseen descriptions must fall from base to adapter by at least this share."""

    gain_over_base: float | None = 0.0
    """Points of ROUGE-L on unseen titles by which the adapter must beat its base."""

    gain_over_title: float | None = 0.0
    """Points of ROUGE-L by which it must beat the title itself."""

    gain_over_nearest: float | None = 0.0
    """Points of ROUGE-L by which it must beat the description of the trained row whose title is
    nearest."""

    gain_over_alone: float | None = 0.0
    """Points of ROUGE-L by which a run that was trained with neighbours must beat its own texts for
    prompts without them."""

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

    unsupported: float | None = 0.1
    """Share of texts that may hold a number that neither title nor record holds."""

    ended: float | None = 0.95
    """Share of texts that must end by themselves."""

    repetition: float | None = 0.05
    """Share of texts that may repeat themselves: more than a fifth of their word 4-grams."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"--thresholds.{item.name}", "0 or more, or null", str(value))


@dataclass(frozen=True)
class EvaluateConfig(Judges, BestOf):
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
    that a --run wrote with these settings stand in for writing them anew."""

    split: Literal["validation", "test"] = "test"
    """Held-out rows of the subset to ask about."""

    held_out: str | None = placement(None)
    """Other rows never trained on, such as the dataset's own test file after cleaning: clean
    shards or a subset. Rows that a run was trained on are left out and counted."""

    curve: str | None = placement(None)
    """Folder of a `training curve` to show beside the losses; local or an fsspec URL."""

    rows: int | None = None
    """Held-out rows at most, and as many trained ones; none: all of the split."""

    base: bool = True
    """Let the base write too; else it is judged by its perplexity alone."""

    resamples: int = 2_000
    """Bootstrap resamples of the rows."""

    seed: int = 3407
    """Of the texts and of the resamples."""

    copied_span: int = 50
    """Characters from which a span that also stands in a training text counts as copied."""

    recited_alike: float = 0.9
    """Likeness (0 to 1, of edits) to a training text from which a text counts as recited."""

    shown_rows: int = 50
    """Rows per side that the page lists as they come; report.json holds all."""

    thresholds: Thresholds = field(default_factory=Thresholds)
    """What a run must reach."""

    gate: bool = placement(False)
    """End with exit code 3 where a threshold is missed, or has too few rows to tell."""

    max_new_tokens: int | None = None
    """Most tokens of a text; none: as generate would."""

    batch_size: int | None = None
    """Texts written at a time; none: as many as memory allows."""

    device: Literal["auto", "cpu", "cuda"] = placement("auto")
    """Where the models run."""

    memory_limit: str | None = placement(None)
    """Most GPU memory to use, 11.65GiB for instance."""

    overwrite: bool = placement(False)
    """Replace the report of an earlier evaluation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "rows", "max_new_tokens", "batch_size", "copied_span")
        if self.shown_rows < 0:
            raise ConfigError("--shown_rows", "0 or more", str(self.shown_rows))
        if self.resamples < 100:
            raise ConfigError("--resamples", "at least 100", str(self.resamples))
        if not 0 < self.recited_alike <= 1:
            expected = "more than 0, at most 1"
            raise ConfigError("--recited_alike", expected, str(self.recited_alike))
        if not self.runs and not self.ready:
            raise ConfigError("--run", "a run, or ready texts with --generated", "neither")
        for name, paths in (("run", self.runs), ("generated", self.ready)):
            if len({path.rstrip("/") for path in paths}) < len(paths):
                raise ConfigError(f"--{name}", "each path once", ", ".join(paths))

    @property
    def runs(self) -> list[str]:
        """The runs to judge."""
        return [self.run] if isinstance(self.run, str) else list(self.run)

    @property
    def ready(self) -> list[str]:
        """The ready texts."""
        return [self.generated] if isinstance(self.generated, str) else list(self.generated)
