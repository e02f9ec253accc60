"""Settings of the cleaning stage. Imports nothing heavy, so that ``--help`` is quick."""

from dataclasses import dataclass, field
from typing import Literal

from data.artefacts.manifest import OPTIONAL, placement
from data.errors import ConfigError
from data.prompt import check_attributes
from data.sampling import SplitShares

MIB = 2**20
# A block and the rest of its last line together stay below Arrow's 2 GiB a column.
_LARGEST = 1_000 * MIB


@dataclass(frozen=True)
class RowRules:
    """Which rows to keep. Lengths are Unicode code points, bounds inclusive."""

    title_min: int = 1
    """Shortest title that is kept."""

    title_max: int | None = None
    """Longest title that is kept; none: any length."""

    content_min: int = 400
    """Shortest description that is kept."""

    content_max: int | None = 500
    """Longest description that is kept; none: any length."""

    measure: Literal["repaired", "raw"] = "repaired"
    """Which text the rules look at: as it will be written, or as the file has it."""

    content_excludes: list[str] = field(default_factory=list)
    """Drop a row whose description holds one of these, upper and lower case told apart."""

    remove_characters: str = ""
    """Characters to remove from both texts after repair, for instance -",;:_()"""

    def __post_init__(self) -> None:
        for name in ("title", "content"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if low < 0 or (high is not None and high < low):
                flag = f"--rules.{name}_min"
                raise ConfigError(flag, f"0 to {name}_max={high}", str(low))
        if "" in self.content_excludes:
            raise ConfigError("--rules.content_excludes", "words", "an empty one")


@dataclass(frozen=True)
class CleanConfig:
    """Clean raw catalogue lines into Parquet shards.

    Reads JSON lines, repairs the text, applies the row rules, gives each row its sample key and
    split, and keeps broken lines in quarantine. Run it again after an interruption: it goes on.
    """

    source: str = placement("data/store/raw/trn.json.gz")
    """JSON lines, plain or gzip: a file, a folder of .json, .jsonl and .ndjson files or a pattern;
    local or an fsspec URL."""

    out: str = placement("data/store/clean")
    """Folder for the shards; local or an fsspec URL."""

    rules: RowRules = field(default_factory=RowRules)
    """Which rows to keep."""

    attributes: list[str] = field(default_factory=list, metadata=OPTIONAL)
    """Further fields to keep, a column each, such as [brand, category, price]; empty where a record
    has none."""

    seed: int = 3407
    """Decides the sample key and the split of every row."""

    shares: SplitShares = field(default_factory=SplitShares)
    """Shares of titles held out for validation and test."""

    block_bytes: int = 16 * MIB
    """Bytes of uncompressed input a part; decides the parts, never the rows."""

    max_line_bytes: int = 4 * MIB
    """A longer line goes to quarantine as line_too_long."""

    max_gzip_ratio: int = placement(200)
    """Stop at a gzip file that expands to more than so many times its size: the text of a
    catalogue shrinks 3- to 20-fold, a decompression bomb 1,000-fold."""

    max_quarantined_share: float = placement(0.01)
    """Stop when a larger share of the lines is broken."""

    workers: int | None = placement(None)
    """Worker processes on this machine; none: one a core."""

    scheduler: str | None = placement(None)
    """Address of a running Dask scheduler, tcp://host:8786, instead of workers here."""

    overwrite: bool = placement(False)
    """Replace the output of an earlier run."""

    def __post_init__(self) -> None:
        check_attributes("--attributes", self.attributes)
        # The smallest block still holds the mark that some editors put at a file's start.
        for name, least in (("block_bytes", 16), ("max_line_bytes", 1)):
            if not least <= getattr(self, name) <= _LARGEST:
                expected = f"{least} to {_LARGEST:,}"
                raise ConfigError(f"--{name}", expected, str(getattr(self, name)))
        if not 0 <= self.max_quarantined_share <= 1:
            share = str(self.max_quarantined_share)
            raise ConfigError("--max_quarantined_share", "0 to 1", share)
        if self.max_gzip_ratio < 1:
            raise ConfigError("--max_gzip_ratio", "at least 1", str(self.max_gzip_ratio))
        if self.workers is not None and self.workers < 1:
            raise ConfigError("--workers", "at least 1", str(self.workers))
