"""Settings of the cleaning stage. Imports nothing heavy, so that ``--help`` is quick."""

import codecs
import re
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from data.artefacts.manifest import OPTIONAL, placement
from data.errors import ConfigError
from data.prompt import check_attributes
from data.sampling import SplitShares

MIB = 2**20
# A block and the rest of its last line together stay below Arrow's 2 GiB a column.
_LARGEST = 1_000 * MIB
_OF_CONTENT = {"strip_html", "drop_markup", "drop_boilerplate", "drop_shouting", "languages"}
COLUMNS = ("uid", "title", "content")
LENGTH_EDGES = [0, *sorted({round(10 ** (step / 10)) for step in range(54)})]
"""Where the bins begin by which descriptions are counted, in code points; the last has no end."""
_AMAZON = {"uid": "asin", "title": "title", "content": "description"}
PRESETS: dict[str, dict[str, str | None]] = {
    "amazon-titles": {"uid": "uid", "title": "title", "content": "content"},
    "amazon-2014": dict(_AMAZON),
    "amazon-2018": dict(_AMAZON),
}
# A byte of these does not say by itself what character it is, or they are no encodings of text.
_STATEFUL = (
    *("utf-7", "hz", "iso2022", "idna", "punycode", "unicode-escape", "raw-unicode-escape"),
    "undefined",
)


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

    strip_html: bool = False
    """Turn HTML into text: take tags, comments and scripts out of both texts after repair."""

    drop_markup: bool = False
    """Drop a row whose title is HTML, a style sheet or a script."""

    drop_boilerplate: bool = False
    """Drop a row whose description holds a notice of another edition ("This text refers to …"),
    of shipping or of returns."""

    drop_shouting: bool = False
    """Drop a row whose description is in capitals."""

    languages: list[str] = field(default_factory=list)
    """Drop a row whose description is surely in another language than these, for instance
    [en, pt]; none: any language."""

    def __post_init__(self) -> None:
        for name in ("title", "content"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if low < 0 or (high is not None and high < low):
                flag = f"--rules.{name}_min"
                raise ConfigError(flag, f"0 to {name}_max={high}", str(low))
        if "" in self.content_excludes:
            raise ConfigError("--rules.content_excludes", "words", "an empty one")
        for code in self.languages:
            if not re.fullmatch("[a-z]{2,3}", code):
                raise ConfigError("--rules.languages", "codes such as en or pt", repr(code))

    @property
    def recorded(self) -> dict[str, Any]:
        """What decides the rows, for manifests: rules of content only where they are on."""
        rules = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: rule for name, rule in rules.items() if rule or name not in _OF_CONTENT}


@dataclass(frozen=True)
class CleanConfig:
    """Clean raw catalogue lines into Parquet shards.

    Reads JSON, Python dictionaries, CSV, Parquet or Arrow, repairs the text, applies the row rules,
    gives each row its sample key and split, and keeps broken records in quarantine. Run it again
    after an interruption: it goes on.
    """

    source: str = placement("data/store/raw/trn.json.gz")
    """The catalogue: a file, a folder, a zip or tar archive or a pattern such as raw/**/*.csv.gz;
    local or an fsspec URL (s3://, gs://, az://, hf://). What a file is, its content says: JSON
    lines, a JSON array, Python dictionaries, CSV, Parquet or Arrow; plain, gz, bz2, xz or zst."""

    preset: Literal["amazon-titles", "amazon-2014", "amazon-2018"] | None = field(
        default=None, metadata=OPTIONAL | {"identity": False}
    )
    """The columns of a catalogue that is known: LF-AmazonTitles (trn.json, tst.json), or the Amazon
    metadata of 2014 or 2018. Those in --columns stand in for its own."""

    columns: dict[str, str | None] | None = field(default=None, metadata=OPTIONAL)
    """Which columns are ours: '{uid: asin, title: title, content: description}'. A list of texts is
    joined by spaces; uid: null takes the row's number in its file; attributes may be here too."""

    attributes: list[str] = field(default_factory=list, metadata=OPTIONAL)
    """Further columns to carry along as text, such as '[brand, category, price]'."""

    encoding: str = field(default="utf-8", metadata=OPTIONAL)
    """Of text: utf-8, utf-16, latin-1, windows-1252 or any that Python knows. A mark at the start
    of a file counts for more."""

    delimiter: str | None = field(default=None, metadata=OPTIONAL)
    """Between the cells of CSV; none: a comma, semicolon, tab or bar, as the first rows have it.
    Two marks that mean nothing in YAML need quotes of their own: '"~"' and '"#"'."""

    out: str = placement("data/store/clean")
    """Folder for the shards; local or an fsspec URL."""

    rules: RowRules = field(default_factory=RowRules)
    """Which rows to keep."""

    seed: int = 3407
    """Decides the sample key and the split of every row."""

    shares: SplitShares = field(default_factory=SplitShares)
    """Shares of titles held out for validation and test."""

    block_bytes: int = 16 * MIB
    """Bytes of uncompressed input a part; decides the parts, never the rows."""

    max_line_bytes: int = 4 * MIB
    """A longer line goes to quarantine as line_too_long."""

    max_gzip_ratio: int = placement(200)
    """Stop at a compressed file that expands to more than so many times its size: the text of a
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
        if self.preset:
            object.__setattr__(self, "columns", PRESETS[self.preset] | (self.columns or {}))
        self._check_columns()
        self._check_text()
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

    def _check_columns(self) -> None:
        check_attributes("--attributes", self.attributes)
        for ours, theirs in (self.columns or {}).items():
            if ours not in (*COLUMNS, *self.attributes):
                expected = f"of ours {', '.join((*COLUMNS, *self.attributes))}"
                hint = f"name it in --attributes '[{ours}]' too, to carry it along"
                raise ConfigError("--columns", expected, ours, hint)
            if not theirs and ours != "uid":
                raise ConfigError("--columns", f"the column that is {ours}", "none")

    def _check_text(self) -> None:
        try:
            name = codecs.lookup(self.encoding).name
            if name.startswith(_STATEFUL):
                expected = "one in which a byte means the same anywhere"
                raise ConfigError("--encoding", expected, self.encoding)
            b"a".decode(name, "replace")
        except LookupError as error:
            raise ConfigError("--encoding", "one that Python knows", self.encoding) from error
        object.__setattr__(self, "encoding", "utf-8" if name.startswith("utf-8") else name)
        # A bare ~ or # is nothing to YAML, and in quotes these stay.
        unquoted = self.delimiter and re.sub(r'^"([~#])"$', r"\1", self.delimiter)
        separator = "\t" if unquoted in ("\\t", "tab") else unquoted
        if separator is not None and not re.fullmatch(r'(?!["\w\r\n])[\0-\x7f]', separator):
            raise ConfigError("--delimiter", "one mark of ASCII, or tab", repr(separator))
        object.__setattr__(self, "delimiter", separator)
