"""Tokenised rows on disk: written once for all runs, memory-mapped in training.

They lie in ``<tokenized>/<digest of rows, tokenizer and form>/`` as an Arrow stream, and the next
run with the same ones takes them as they are.
"""

import contextlib
import logging
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from data import console
from data.artefacts import lock, manifest
from data.artefacts.folder import TEMPORARY, Artefact, Folder, digest_file
from data.artefacts.manifest import Counts, Manifest
from data.errors import BatchError, OutputError
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
# A folder of tokenised rows, or what an earlier version wrote them in.
_OURS = re.compile(rf"[0-9a-f]{{32}}|{re.escape(TEMPORARY)}[0-9a-f]{{32}}-\d+")


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
    """Tokenise a split, unless it is tokenised already.

    Args:
        split: at least one row.
        encoder: of the base's tokenizer.
        tokenized: folder of all tokenised rows.
        max_truncated_share: refuse a larger share of rows whose description is cut or has no
            room at all; the latter are left out.

    Raises:
        BatchError: too many rows are cut or left out, or a row must not be trained on.
    """
    if not len(split.rows):
        raise BatchError(split.name, "rows to train on", "none")
    identity = {
        "rows": split.digest,
        "tokenizer": encoder.digest,
        "form": asdict(encoder.form),
        "format": _FORMAT,
    }
    folder = Folder(os.path.join(tokenized, manifest.identity_digest(identity)))
    if not folder.exists(manifest.NAME):
        _remove_unfinished(Path(folder.path()).parent)
        with lock.locked(folder, wait=True):
            if not folder.exists(manifest.NAME):  # else another run wrote it meanwhile
                _write(split, encoder, folder, identity)
    record = manifest.read(folder, STAGE)
    record.check(folder)
    facts = {name: record.facts[name] for name in Seen.__dataclass_fields__}
    uids = {name: tuple(facts[name]) for name in ("truncated_uids", "left_out_uids")}
    seen = Seen(**facts | uids)
    _warn(split, seen, encoder.form.max_length)
    guards.check_truncated(
        seen.truncated, seen.left_out, seen.rows + seen.left_out,
        [*seen.left_out_uids, *seen.truncated_uids], max_truncated_share,
    )  # fmt: skip
    if not seen.rows:
        raise BatchError(split.name, "rows with room for a description", "none")
    return Tokenised(_open(folder), seen, folder.url)


def _warn(split: Split, seen: Seen, max_length: int) -> None:
    rows = f"{seen.rows + seen.left_out:,}"
    for count, uids, what in (
        (seen.truncated, seen.truncated_uids, "descriptions are cut"),
        (seen.left_out, seen.left_out_uids, "rows have no room for a description and are left out"),
    ):
        if count:
            first = ", ".join(uids[:3])
            log.warning(
                "%s: %s of %s %s at max_length=%s, first uids: %s",
                split.name, f"{count:,}", rows, what, max_length, first,
            )  # fmt: skip


def _open(folder: Folder) -> "Dataset":
    from datasets import Dataset
    from datasets.table import MemoryMappedTable

    table = MemoryMappedTable.from_file(folder.path(_ROWS))
    return Dataset(table, fingerprint=os.path.basename(folder.url)[:16])


def _remove_unfinished(tokenized: Path) -> None:
    """Remove what killed runs left; what another run is writing is locked, and stays."""
    for folder in [path for path in tokenized.glob("*") if _is_unfinished(path)]:
        # Another run holds it, or it is another user's.
        with contextlib.suppress(OutputError, OSError), lock.locked(Folder(str(folder))):
            if _is_unfinished(folder):
                for path in folder.iterdir():
                    if path.name != lock.NAME:
                        path.unlink()


def _is_unfinished(folder: Path) -> bool:
    if not _OURS.fullmatch(folder.name) or not folder.is_dir():
        return False
    return folder.name.startswith(TEMPORARY) or not (folder / manifest.NAME).exists()


def _write(split: Split, encoder: Encoder, folder: Folder, identity: dict[str, Any]) -> None:
    began = time.perf_counter()
    final = Path(folder.path(_ROWS))
    work = final.with_name(f"{TEMPORARY}{_ROWS}")
    try:
        seen = _write_stream(work, split, encoder)
        output = Artefact(_ROWS, seen.rows, work.stat().st_size, digest_file(work))
        os.replace(work, final)
    finally:
        work.unlink(missing_ok=True)
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
    ).write(folder)


def _write_stream(path: Path, split: Split, encoder: Encoder) -> Seen:
    seen = Seen()
    columns = split.rows.select_columns(["uid", "title", "content"])
    with (
        console.Progress(f"tokenise {split.name}", len(columns), "rows") as progress,
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_stream(file, TOKENISED) as writer,
    ):
        for start in range(0, len(columns), _ROWS_AT_ONCE):
            table, batch = encoder.encode_rows(columns[start : start + _ROWS_AT_ONCE])
            writer.write_table(table)
            seen += batch
            progress.advance(batch.rows + batch.left_out)
    return seen
