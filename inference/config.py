"""Settings of the inference stage. Imports nothing heavy, so that ``--help`` is quick."""

from dataclasses import dataclass, field
from typing import Literal

from data.cli import parse_memory
from data.errors import ConfigError
from data.manifest import placement


@dataclass(frozen=True)
class GenerateConfig:
    """Write a description for every title, into Parquet.

    Reads titles from a subset, clean shards, Parquet, CSV, JSON lines or text. A title that
    cannot be read or written for is kept in quarantine. Run it again after an interruption: it
    goes on.
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
    """Further columns of the titles to carry through to the output, as they are; a column of JSON
    lines that holds values of several kinds as text."""

    engine: Literal["auto", "fast", "reference"] = "auto"
    """What writes: the fast engine, or transformers' own generate; auto: the fast one where it
    supports the model (Llama)."""

    batch_size: int | None = None
    """Titles that go through the model at a time; it may move the last bit of a sum, and so a
    rare word. None: as many as GPU memory allows, 64 on a
    CPU and with the reference engine."""

    part_rows: int | None = None
    """Titles an output part; an interruption costs the parts that were in work. None: 8,192 on a
    GPU, 2,048 on a CPU."""

    max_new_tokens: int | None = None
    """Tokens a description at most; none: as many as the longest that the model was trained
    on, or 256 where that is not known."""

    temperature: float = 0.0
    """0 always takes the likeliest token; above, the higher the more daring."""

    top_p: float = 1.0
    """When sampling, draw from the likeliest tokens that together hold this probability."""

    seed: int = 3407
    """When sampling, a title's text depends on this, its uid and the settings alone."""

    device: Literal["auto", "cpu", "cuda"] = placement("auto")
    """Where the model runs; auto: on the GPUs that this machine has, else on the CPU. bf16 on a
    GPU and float32 on a CPU, so one output cannot be made partly here and partly there."""

    workers: int | None = placement(None)
    """Worker processes on this machine; none: one a GPU, or 1 on a CPU."""

    scheduler: str | None = placement(None)
    """Address of a running Dask scheduler, tcp://host:8786, instead of workers here; name
    --device as well where this machine has another one than the workers."""

    memory_limit: str | None = placement(None)
    """Use no more memory a GPU than this, 11.65GiB for instance."""

    overwrite: bool = placement(False)
    """Replace the output of an earlier run."""

    def __post_init__(self) -> None:
        for name in ("limit", "batch_size", "part_rows", "max_new_tokens", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name}", "at least 1", str(value))
        # A temperature of almost 0 divides the logits into infinities.
        if self.temperature and not 0.01 <= self.temperature <= 100:
            found = str(self.temperature)
            raise ConfigError("--temperature", "0 for greedy, or 0.01 to 100", found)
        if not 0 < self.top_p <= 1:
            raise ConfigError("--top_p", "more than 0, at most 1", str(self.top_p))
        if self.top_p < 1 and not self.temperature:
            expected = "1, as --temperature 0 draws nothing"
            raise ConfigError("--top_p", expected, str(self.top_p), "set --temperature 0.7")
        if not -(2**63) <= self.seed < 2**63:
            raise ConfigError("--seed", "a signed 64-bit number", str(self.seed))
        if self.memory_limit is not None:
            parse_memory(self.memory_limit)
        if len(set(self.keep_columns)) < len(self.keep_columns):
            found = ", ".join(self.keep_columns)
            raise ConfigError("--keep_columns", "each name once", found)
