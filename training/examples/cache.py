"""Tokenised rows on disk: made once for all runs, memory-mapped in training.

They lie in ``<tokenized>/<digest of rows, tokenizer and form>/`` as an Arrow stream, and the next
run with the same ones takes them as they are.
"""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from data import console
from data.artefacts import manifest
from data.artefacts.folder import Artefact, Folder, digest_file
from data.artefacts.manifest import Counts, Manifest
from data.errors import BatchError
from training import guards
from training.examples.encoder import TOKENISED, Encoder, Seen

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger("catalogue")

STAGE = "tokenize"
# Counted into the digest, so that a change of the encoder's rules makes new files.
_FORMAT = 2
_ROWS = "rows.arrow"
_ROWS_AT_ONCE = 1_000


@dataclass(frozen=True)
class Split:
    """The rows of one split of a subset."""

    name: str
    rows: "Dataset"
    """With ``uid``, ``title`` and ``content``."""
    digest: str
    """Of the rows' files."""


@dataclass(frozen=True)
class Tokenised:
    """The tokenised rows of one split."""

    rows: "Dataset"
    """Memory-mapped, schema ``TOKENISED``, in the subset's order."""
    seen: Seen
    folder: str


def prepare(
    split: Split, encoder: Encoder, tokenized: str, max_truncated_share: float
) -> Tokenised:
    """Tokenise a split, or find it tokenised already.

    Args:
        split: at least one row.
        encoder: of the base's tokenizer.
        tokenized: folder of all tokenised rows.
        max_truncated_share: refuse a larger share of rows whose description is cut or has no
            room at all; the latter are left out.

    Raises:
        BatchError: too many rows are cut or left out, or a row must not be trained on.
    """
    identity = {
        "rows": split.digest,
        "tokenizer": encoder.digest,
        "form": asdict(encoder.form),
        "format": _FORMAT,
    }
    if not len(split.rows):
        raise BatchError(split.name, "rows to train on", "none")
    folder = Folder(os.path.join(tokenized, manifest.identity_digest(identity)))
    if not folder.exists(manifest.NAME):
        _write(split, encoder, folder, identity)
    record = manifest.read(folder, STAGE)
    record.check(folder)
    told = {name: record.facts[name] for name in Seen.__dataclass_fields__}
    lists = {name: tuple(told[name]) for name in ("truncated_uids", "left_out_uids")}
    seen = Seen(**told | lists)
    _tell(split, seen, encoder.form.max_length)
    guards.check_truncated(
        seen.truncated, seen.left_out, seen.rows + seen.left_out,
        [*seen.left_out_uids, *seen.truncated_uids], max_truncated_share,
    )  # fmt: skip
    if not seen.rows:
        raise BatchError(split.name, "rows with room for a description", "none")
    return Tokenised(_open(folder), seen, folder.url)


def _tell(split: Split, seen: Seen, max_length: int) -> None:
    rows = f"{seen.rows + seen.left_out:,}"
    for count, uids, what in (
        (seen.truncated, seen.truncated_uids, "descriptions are cut"),
        (seen.left_out, seen.left_out_uids, "rows have no room for a description and are left out"),
    ):
        if count:
            named = ", ".join(uids[:3])
            log.warning(
                "%s: %s of %s %s at max_length=%s, first uids: %s",
                split.name, f"{count:,}", rows, what, max_length, named,
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
            counts=Counts(len(split.rows), seen.rows, seen.dropped),
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
        console.Progress(f"tokenise {split.name}", len(split.rows), "rows") as progress,
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_stream(file, TOKENISED) as writer,
    ):
        for rows in _batches(split.rows):
            table, told = encoder.encode_rows(rows)
            writer.write_table(table)
            seen += told
            progress.advance(told.rows + told.left_out)
    return seen


def _batches(rows: "Dataset") -> Iterator[dict[str, list[str]]]:
    columns = rows.select_columns(["uid", "title", "content"])
    for start in range(0, len(columns), _ROWS_AT_ONCE):
        yield columns[start : start + _ROWS_AT_ONCE]
