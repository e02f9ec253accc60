"""The Parquet parts of a folder: list, read, commit, with facts and with what is quarantined.

Knows nothing of what the columns mean.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.artefacts.folder import QUARANTINE, Artefact, Folder, changed, check_file, digest_bytes
from data.console import first_line
from data.errors import ManifestError, OutputError

# Small row groups let the sampler read only the key range it needs; 4,096 rows of 600
# characters are about 1 MB compressed, still large enough for zstd.
ROWS_PER_GROUP = 4_096
PART = re.compile(r"part-\d{5,}\.parquet")
_FACTS = b"catalogue"


def list_parts(folder: Folder) -> list[str]:
    """List the committed parts of a folder by name, in order."""
    return [name for name in folder.names() if PART.fullmatch(name)]


def part_name(index: int) -> str:
    """Name the part at a position: ``part-00003.parquet``."""
    return f"part-{index:05d}.parquet"


def commit_part(
    folder: Folder, name: str, table: pa.Table, facts: dict[str, Any] | None = None
) -> Artefact:
    """Write one Parquet part and read its footer back.

    The same table and facts result in the same bytes. The facts stand in the footer as JSON, so
    that a restart knows the part's counts.

    Raises:
        OSError: the file system refuses or is full.
        OutputError: the footer names another number of rows than were written.
    """
    sink = pa.BufferOutputStream()
    footer = {_FACTS: json.dumps(facts or {}, sort_keys=True).encode()}
    pq.write_table(
        table.replace_schema_metadata(footer),
        sink,
        compression="zstd",
        row_group_size=ROWS_PER_GROUP,
        use_dictionary=[n for n in ("split", "source", "reason") if n in table.column_names],
    )
    payload = sink.getvalue()
    folder.commit(name, payload)
    rows = _metadata(folder, name).num_rows
    if rows != table.num_rows:
        raise OutputError(folder.path(name), f"{table.num_rows:,} rows", f"{rows:,}")
    return Artefact(name, rows, payload.size, digest_bytes(payload))


def _metadata(folder: Folder, name: str) -> pq.FileMetaData:
    with folder.open(name) as file:
        return _parquet(folder, name, file).metadata


def _parquet(folder: Folder, name: str, opened: Any) -> pq.ParquetFile:
    """Read the footer of an opened part; ``opened`` is a file, or a path to map."""
    try:
        return pq.ParquetFile(opened, memory_map=isinstance(opened, str))
    except (pa.ArrowInvalid, OSError) as error:
        # Arrow's own faults are plain OSErrors; a time-out is one of a kind without a number.
        if isinstance(error, OSError) and (error.errno is not None or type(error) is not OSError):
            raise
        hint = "make its folder again with --overwrite true"
        raise ManifestError(folder.path(name), "a Parquet file", first_line(error), hint) from error


def read_facts(folder: Folder, name: str) -> dict[str, Any]:
    """Read the facts that ``commit_part`` put into a part's footer.

    Raises:
        ManifestError: the footer is damaged or holds none.
    """
    try:
        facts: dict[str, Any] = json.loads((_metadata(folder, name).metadata or {})[_FACTS])
    except ManifestError:
        raise
    except (KeyError, ValueError) as error:
        hint = "remove the file and run the same command again"
        raise ManifestError(folder.path(name), "a part of ours", first_line(error), hint) from error
    return facts


def inspect_part(folder: Folder, name: str) -> Artefact:
    """Describe a part that is already there: rows by its footer, digest by its bytes."""
    payload = folder.read(name)
    return Artefact(name, _metadata(folder, name).num_rows, len(payload), digest_bytes(payload))


def commit_with_quarantine(
    folder: Folder, name: str, table: pa.Table, quarantine: pa.Table, facts: dict[str, Any]
) -> tuple[Artefact, ...]:
    """Commit a part and, before it, its quarantine: where the part is, both are."""
    outputs = []
    if quarantine.num_rows:
        outputs.append(commit_part(folder, f"{QUARANTINE}/{name}", quarantine))
    facts = facts | {"quarantine": quarantine.num_rows}
    return (*outputs, commit_part(folder, name, table, facts))


def recall(folder: Folder, name: str) -> tuple[dict[str, Any], tuple[Artefact, ...]] | None:
    """Describe a part that ``commit_with_quarantine`` wrote in an earlier run.

    Returns:
        Its facts and files; None where one of them is missing or damaged.
    """
    try:
        facts = read_facts(folder, name)
        names = [f"{QUARANTINE}/{name}", name] if facts["quarantine"] else [name]
        return facts, tuple(inspect_part(folder, path) for path in names)
    except (ManifestError, FileNotFoundError, KeyError):
        return None


def read_part(
    folder: Folder,
    name: str,
    columns: list[str] | None = None,
    groups: list[int] | None = None,
    listed: Artefact | None = None,
) -> pa.Table:
    """Read one part, or some of its row groups and columns; see ``open_part``."""
    with open_part(folder, name, listed) as file:
        if groups is None:
            return file.read(columns=columns)
        return file.read_row_groups(groups, columns=columns)


def open_part(folder: Folder, name: str, listed: Artefact | None = None) -> pq.ParquetFile:
    """Open one part; local ones are memory-mapped.

    Its bytes are compared with what the folder's manifest has ``listed`` of it.

    Raises:
        ManifestError: its footer is damaged, or its bytes are not those that are listed.
    """
    if folder.is_local:
        if listed:
            check_file(folder, listed)
        return _parquet(folder, name, folder.path(name))
    if not listed:
        return _parquet(folder, name, folder.open(name))
    payload = folder.read(name)
    if digest_bytes(payload) != listed.digest:
        raise changed(folder.path(name))
    return _parquet(folder, name, pa.BufferReader(payload))


def read_batches(
    folder: Folder,
    columns: list[str] | None = None,
    rows: int = ROWS_PER_GROUP,
    listed: Sequence[Artefact] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Stream all rows of a folder's parts in order, a batch at a time.

    Args:
        folder: of the parts.
        columns: to read; none: all.
        rows: of a batch at most.
        listed: the parts as the folder's manifest has them; none: those that are there, unchecked.
    """
    parts = {part.path: part for part in listed or ()}
    for name in list_parts(folder) if listed is None else parts:
        with open_part(folder, name, parts.get(name)) as file:
            yield from file.iter_batches(batch_size=rows, columns=columns)
