"""Row to tokens: prompt and description become ``input_ids`` and ``labels``, once for all runs.

Tokenised rows lie in ``<tokenized>/<digest of rows, tokenizer and form>/`` as an Arrow stream that
is memory-mapped in training, and the next run with the same ones takes them as they are. Knows
nothing of models or optimisation.
"""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from data import cli, manifest
from data.errors import BatchError, ModelError
from data.manifest import Counts, Manifest
from data.prompt import Prompt
from data.shards import Artefact, Folder, digest_bytes, digest_file
from training import guards

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger("catalogue")

STAGE = "tokenize"
IGNORED = guards.IGNORED
TOKENISED = pa.schema(
    [
        pa.field("input_ids", pa.list_(pa.int32())),
        pa.field("labels", pa.list_(pa.int32())),
        pa.field("length", pa.int32()),
    ]
)
"""A row as the model sees it; ``labels`` is ``IGNORED`` where nothing is learned."""

# Counted into the digest, so that a change of the rules below makes new files.
_FORMAT = 1
_ROWS = "rows.arrow"
_ROWS_AT_ONCE = 1_000
_NAMED = 20


@dataclass(frozen=True)
class Form:
    """How a row becomes tokens."""

    prompt: Prompt
    loss_on: Literal["completion", "full"]
    max_length: int


@dataclass(frozen=True)
class Split:
    """The rows of one split of a subset."""

    name: str
    rows: "Dataset"
    """With ``uid``, ``title`` and ``content``."""
    digest: str
    """Of the rows' files."""


@dataclass(frozen=True)
class Seen:
    """What tokenising told about the rows; adding two adds every number."""

    rows: int = 0
    tokens: int = 0
    learned: int = 0
    """Tokens with a label."""
    truncated: int = 0
    truncated_uids: tuple[str, ...] = ()
    """Of the first rows whose description was cut."""
    split_boundaries: int = 0
    """Rows where prompt and description, written together, would have shared a token."""
    longest: int = 0
    longest_completion: int = 0

    def __add__(self, other: "Seen") -> "Seen":
        return Seen(
            self.rows + other.rows,
            self.tokens + other.tokens,
            self.learned + other.learned,
            self.truncated + other.truncated,
            (self.truncated_uids + other.truncated_uids)[:_NAMED],
            self.split_boundaries + other.split_boundaries,
            max(self.longest, other.longest),
            max(self.longest_completion, other.longest_completion),
        )


@dataclass(frozen=True)
class Tokenised:
    """The tokenised rows of one split."""

    rows: "Dataset"
    """Memory-mapped, schema ``TOKENISED``, in the subset's order."""
    seen: Seen
    folder: str


@dataclass
class Encoder:
    """Turns texts into ids with a fast tokenizer; the end-of-sequence id is added by us.

    Special tokens are told apart from text that happens to spell one: a description that
    holds ``</s>``, which old web pages do, must not end there.
    """

    tokenizer: Any
    form: Form
    _backend: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from tokenizers import Tokenizer

        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        name = str(self.tokenizer.name_or_path)
        if backend is None:
            raise ModelError(name, "a fast tokenizer (tokenizer.json)", "a slow one")
        if self.tokenizer.eos_token_id is None:
            raise ModelError(name, "a tokenizer with an end-of-sequence token", "none")
        # A copy, as truncation and padding that others set on the original would reach us.
        self._backend = Tokenizer.from_str(backend.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True

    @property
    def digest(self) -> str:
        """Digest all that decides the ids."""
        told = f"{self._backend.to_str()}\n{self.tokenizer.eos_token_id}"
        return digest_bytes(told.encode())

    def encode(self, texts: list[str], special: bool = True) -> list[list[int]]:
        """Encode texts, with the tokenizer's own begin-of-sequence where it adds one.

        An end-of-sequence that some tokenizers add is dropped: a prompt has none, and a row gets
        its own. Text cannot make one, so the last id tells.
        """
        encoded = self._backend.encode_batch_fast(texts, add_special_tokens=special)
        end = self.tokenizer.eos_token_id
        return [one.ids[:-1] if one.ids[-1:] == [end] else one.ids for one in encoded]

    def encode_rows(self, rows: dict[str, list[str]]) -> tuple[pa.Table, Seen]:
        """Tokenise a batch of rows.

        Args:
            rows: lists of N ``uid``, ``title`` and ``content``.

        Returns:
            N rows of schema ``TOKENISED`` and what was seen.

        Raises:
            BatchError: a prompt leaves no room for a single token of its description.
        """
        prompts = [self.form.prompt.render(title) for title in rows["title"]]
        wholes = [p + text for p, text in zip(prompts, rows["content"], strict=True)]
        heads, bodies = self.encode(prompts), self.encode(wholes)
        # With a token across the boundary, inference could never feed what was trained on.
        split = [i for i, head in enumerate(heads) if bodies[i][: len(head)] != head]
        tails = self.encode([rows["content"][i] for i in split], special=False) if split else []
        for i, tail in zip(split, tails, strict=True):
            bodies[i] = heads[i] + tail
        lengths = [len(head) for head in heads]
        table, seen = self._lay_out(rows["uid"], lengths, bodies)
        guards.check_rows(table, rows["uid"], self.tokenizer.eos_token_id, self.form.max_length)
        if self.form.loss_on == "completion":
            guards.check_prompt_unlearned(table, lengths, rows["uid"])
        return table, replace(seen, split_boundaries=len(split))

    def _lay_out(
        self, uids: list[str], heads: list[int], bodies: list[list[int]]
    ) -> tuple[pa.Table, Seen]:
        limit, eos = self.form.max_length, self.tokenizer.eos_token_id
        ids, labels, cut = [], [], []
        for uid, head, body in zip(uids, heads, bodies, strict=True):
            row = [*body, eos]
            if len(row) > limit:
                row = row[:limit]
                cut.append(uid)
            ids.append(np.array(row, np.int32))
            label = ids[-1].copy()
            if self.form.loss_on == "completion":
                label[:head] = IGNORED
            labels.append(label)
        lengths = np.array([len(row) for row in ids], np.int32)
        if (short := lengths <= np.array(heads)).any():
            named = [uid for uid, none in zip(uids, short, strict=True) if none]
            raise guards.no_room(named, limit)
        columns = [_list_column(ids), _list_column(labels), pa.array(lengths)]
        learned = sum(int((label != IGNORED).sum()) for label in labels)
        completions = lengths - np.array(heads)
        seen = Seen(
            len(uids), int(lengths.sum()), learned, len(cut), tuple(cut[:_NAMED]),
            longest=int(lengths.max()), longest_completion=int(completions.max()),
        )  # fmt: skip
        return pa.table(columns, schema=TOKENISED), seen


def _list_column(rows: list[np.ndarray]) -> pa.Array:
    offsets = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(rows)))


def prepare(
    split: Split, encoder: Encoder, tokenized: str, max_truncated_share: float
) -> Tokenised:
    """Tokenise a split, or find it tokenised already.

    Args:
        split: at least one row.
        encoder: of the base's tokenizer.
        tokenized: folder of all tokenised rows.
        max_truncated_share: refuse a larger share of rows whose description is cut.

    Raises:
        BatchError: rows have no room for a label, or too many are cut.
    """
    identity = {
        "rows": split.digest,
        "tokenizer": encoder.digest,
        "form": asdict(encoder.form),
        "format": _FORMAT,
    }
    folder = Folder(os.path.join(tokenized, manifest.identity_digest(identity)))
    if not folder.exists(manifest.NAME):
        _write(split, encoder, folder, identity)
    record = manifest.read(folder, STAGE)
    told = {name: record.facts[name] for name in Seen.__dataclass_fields__}
    seen = replace(Seen(**told), truncated_uids=tuple(told["truncated_uids"]))
    _tell_truncated(split, seen, encoder.form.max_length)
    guards.check_truncated(
        seen.truncated, seen.rows, list(seen.truncated_uids), max_truncated_share
    )
    return Tokenised(_open(folder), seen, folder.url)


def _tell_truncated(split: Split, seen: Seen, max_length: int) -> None:
    if seen.truncated:
        named = ", ".join(seen.truncated_uids[:3])
        log.warning(
            "%s: %s of %s descriptions are cut at max_length=%s, first uids: %s",
            split.name, f"{seen.truncated:,}", f"{seen.rows:,}", max_length, named,
        )  # fmt: skip


def _open(folder: Folder) -> "Dataset":
    from datasets import Dataset
    from datasets.table import MemoryMappedTable

    table = MemoryMappedTable.from_file(folder.path(_ROWS))
    return Dataset(table, fingerprint=os.path.basename(folder.url)[:16])


def _write(split: Split, encoder: Encoder, folder: Folder, identity: dict[str, Any]) -> None:
    """Write the rows beside their final place, then rename the folder."""
    began = time.perf_counter()
    final = Path(folder.path())
    work = final.parent / f".tmp-{final.name}-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        seen = _write_stream(work / _ROWS, split, encoder)
        file = work / _ROWS
        output = Artefact(_ROWS, seen.rows, file.stat().st_size, digest_file(file))
        Manifest(
            stage=STAGE,
            config=identity["form"],
            identity=identity,
            inputs=(),
            outputs=(output,),
            counts=Counts(len(split.rows), seen.rows),
            facts={"split": split.name, **asdict(seen)},
            versions=manifest.versions(),
            seconds=round(time.perf_counter() - began, 3),
        ).write(Folder(str(work)))
        if folder.exists(manifest.NAME):  # another run was quicker: the bytes are the same
            return
        shutil.rmtree(final, ignore_errors=True)
        os.replace(work, final)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_stream(path: Path, split: Split, encoder: Encoder) -> Seen:
    seen = Seen()
    with (
        cli.Progress(f"tokenise {split.name}", len(split.rows), "rows") as progress,
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_stream(file, TOKENISED) as writer,
    ):
        for rows in _batches(split.rows):
            table, told = encoder.encode_rows(rows)
            writer.write_table(table)
            seen += told
            progress.advance(told.rows)
    if not seen.rows:
        raise BatchError(split.name, "rows to train on", "none")
    return seen


def _batches(rows: "Dataset") -> Iterator[dict[str, list[str]]]:
    columns = rows.select_columns(["uid", "title", "content"])
    for start in range(0, len(columns), _ROWS_AT_ONCE):
        yield columns[start : start + _ROWS_AT_ONCE]
