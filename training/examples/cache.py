"""Tokenised rows on disk: written once for all runs, memory-mapped in training.

They lie in ``<tokenized>/<digest of rows, tokenizer and form>/`` as an Arrow stream, and the next
run with the same ones takes them as they are. So do the rows that prompts show as neighbours.
"""

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from data import console, neighbours
from data.artefacts import lock, manifest
from data.artefacts.dataset import Subset
from data.artefacts.folder import TEMPORARY, Artefact, Folder, digest_file
from data.artefacts.manifest import Counts, Manifest
from data.errors import BatchError, OutputError
from data.sampling import title_key
from training import guards
from training.examples.encoder import TOKENISED, Encoder, Near, Seen

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger("catalogue")

STAGE, NEAR_STAGE = "tokenize", "neighbours"
# Counted into the digest, so that a change of the encoder's rules makes new files.
_FORMAT, _NEAR_FORMAT = 2, 1
_ROWS = "rows.arrow"
_ROWS_AT_ONCE = 1_000
# A folder of tokenised rows, or what an earlier version wrote them in.
_OURS = re.compile(rf"[0-9a-f]{{32}}|{re.escape(TEMPORARY)}[0-9a-f]{{32}}-\d+")


@dataclass(frozen=True)
class Split:
    """The rows of one split of a subset."""

    name: str
    rows: "Dataset"
    """With ``uid``, ``title``, ``content`` and the attributes that prompts show."""
    digest: str
    """Of the rows' files."""


@dataclass(frozen=True)
class NearRows:
    """The rows that prompts show as neighbours."""

    path: str
    """Of their file, schema ``neighbours.ROWS``."""
    digest: str
    most: int
    """Neighbours of a title."""

    @property
    def find(self) -> Near:
        """What finds those of a title."""
        index = neighbours.open_rows(self.path, self.digest)
        return lambda title: index.find(title, self.most)


@dataclass(frozen=True)
class Tokenised:
    """The tokenised rows of one split."""

    rows: "Dataset"
    """Memory-mapped, schema ``TOKENISED``, in the subset's order."""
    seen: Seen
    folder: str


def prepare_near(subset: Subset, encoder: Encoder, tokenized: str) -> NearRows | None:
    """Write the rows that prompts show as neighbours, unless they are written already.

    Returns:
        All train rows, in order; None where prompts show none.
    """
    prompt = encoder.form.prompt
    if not prompt.neighbours:
        return None
    identity = {
        "stage": NEAR_STAGE,
        "rows": subset.digest("train"),
        "tokenizer": encoder.digest,
        "tokens": prompt.neighbour_tokens,
        "format": _NEAR_FORMAT,
    }
    folder = Folder(os.path.join(tokenized, manifest.identity_digest(identity)))
    _ensure(folder, lambda: _write_near(subset, encoder, folder, identity))
    record = manifest.read(folder, NEAR_STAGE)
    record.check(folder)
    (rows,) = record.outputs
    return NearRows(folder.path(rows.path), rows.digest, prompt.neighbours)


def prepare(
    split: Split,
    encoder: Encoder,
    tokenized: str,
    max_truncated_share: float,
    near: NearRows | None = None,
) -> Tokenised:
    """Tokenise a split, unless it is tokenised already.

    Args:
        split: at least one row.
        encoder: of the base's tokenizer.
        tokenized: folder of all tokenised rows.
        max_truncated_share: refuse a larger share of rows whose description is cut or has no
            room at all; the latter are left out.
        near: the rows that prompts show.

    Raises:
        BatchError: too many rows are cut or left out, or a row must not be trained on.
    """
    if not len(split.rows):
        raise BatchError(split.name, "rows to train on", "none")
    identity = {
        "rows": split.digest,
        "tokenizer": encoder.digest,
        "form": asdict(encoder.form) | {"prompt": encoder.form.prompt.recorded},
        "format": _FORMAT,
        **({"neighbours": near.digest} if near else {}),
    }
    folder = Folder(os.path.join(tokenized, manifest.identity_digest(identity)))
    _ensure(folder, lambda: _write(split, encoder, folder, identity, near))
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


def _ensure(folder: Folder, write: Callable[[], None]) -> None:
    """Let a folder be written, unless it is finished, by one process at a time."""
    if not folder.exists(manifest.NAME):
        _remove_unfinished(Path(folder.path()).parent)
        with lock.locked(folder, wait=True):
            if not folder.exists(manifest.NAME):  # else another run wrote it meanwhile
                write()


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
                    if not path.name.startswith(lock.NAME):
                        path.unlink()


def _is_unfinished(folder: Path) -> bool:
    if not _OURS.fullmatch(folder.name) or not folder.is_dir():
        return False
    return folder.name.startswith(TEMPORARY) or not (folder / manifest.NAME).exists()


@contextlib.contextmanager
def _committed(final: Path) -> Iterator[Path]:
    """Name a file to write; it gets its own name when it is whole."""
    work = final.with_name(f"{TEMPORARY}{final.name}")
    try:
        yield work
        os.replace(work, final)
    finally:
        work.unlink(missing_ok=True)


def _write_near(subset: Subset, encoder: Encoder, folder: Folder, identity: dict[str, Any]) -> None:
    began, rows = time.perf_counter(), subset.count("train")
    with _committed(Path(folder.path(neighbours.NAME))) as work:
        with (
            console.Progress("neighbours", rows, "rows") as progress,
            pa.OSFile(str(work), "wb") as file,
            pa.ipc.new_stream(file, neighbours.ROWS) as writer,
        ):
            for batch in subset.batches("train"):
                for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                    piece = batch.slice(start, _ROWS_AT_ONCE)
                    writer.write_table(_near_rows(piece, encoder))
                    progress.advance(piece.num_rows)
        output = Artefact(neighbours.NAME, rows, work.stat().st_size, digest_file(work))
    Manifest(
        stage=NEAR_STAGE, config={}, identity=identity, inputs=(), outputs=(output,),
        counts=Counts(rows, rows), versions=manifest.versions(),
        seconds=round(time.perf_counter() - began, 3),
    ).write(folder)  # fmt: skip


def _near_rows(batch: pa.RecordBatch, encoder: Encoder) -> pa.Table:
    """Cut the descriptions of train rows; a subset without families has one a title."""
    titles = batch.column("title")
    shown = encoder.cut(batch.column("content").to_pylist())
    if "family" in batch.schema.names:
        families = batch.column("family")
    else:
        families = pa.array([title_key(title) for title in titles.to_pylist()], pa.uint64())
    return pa.table([titles, pa.array(shown, pa.string()), families], schema=neighbours.ROWS)


def _write(
    split: Split,
    encoder: Encoder,
    folder: Folder,
    identity: dict[str, Any],
    near: NearRows | None,
) -> None:
    began = time.perf_counter()
    with _committed(Path(folder.path(_ROWS))) as work:
        seen = _write_stream(work, split, encoder, near)
        output = Artefact(_ROWS, seen.rows, work.stat().st_size, digest_file(work))
    Manifest(
        stage=STAGE, config=identity["form"], identity=identity, inputs=(), outputs=(output,),
        counts=Counts(len(split.rows), seen.rows, seen.dropped),
        facts={"split": split.name, **asdict(seen)}, versions=manifest.versions(),
        seconds=round(time.perf_counter() - began, 3),
    ).write(folder)  # fmt: skip


def _write_stream(path: Path, split: Split, encoder: Encoder, near: NearRows | None) -> Seen:
    seen, find = Seen(), near.find if near else lambda _title: ()
    columns = split.rows.select_columns(encoder.columns)
    with (
        console.Progress(f"tokenise {split.name}", len(columns), "rows") as progress,
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_stream(file, TOKENISED) as writer,
    ):
        for start in range(0, len(columns), _ROWS_AT_ONCE):
            table, batch = encoder.encode_rows(columns[start : start + _ROWS_AT_ONCE], find)
            writer.write_table(table)
            seen += batch
            progress.advance(batch.rows + batch.left_out)
    return seen
