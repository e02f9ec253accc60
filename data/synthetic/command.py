"""The driver of ``synthesize``: an invented catalogue as a raw file, broken lines among it.

Worker processes invent blocks of records, which are written in order, a bounded number at a time.
The file appears only when whole.
"""

import collections
import concurrent.futures
import contextlib
import gzip
import math
import multiprocessing
import os
import signal
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from data.cli import interrupts
from data.cluster.client import cores
from data.console import Progress, say
from data.errors import CatalogueError, ConfigError
from data.synthetic import attributes, broken, records
from data.synthetic.draws import MASK

_BLOCK = 8192
"""Records a task of the process pool: some 7 MB."""


@dataclass(frozen=True)
class SynthesizeConfig:
    """What to invent, and where it goes."""

    out: str = "data/store/raw/trn.json.gz"
    """File to write; compressed where the name ends in `.gz`."""

    rows: int = records.ROWS
    """Lines; the default is the real file's number."""

    seed: int = 3407
    """Same seed, same bytes."""

    defects: float = 1.0
    """Factor on the real shares of entities, mojibake and odd white space; 0 gives clean text."""

    broken_share: float = 0.0
    """Share of lines broken in the ways that end in quarantine, 0 to 1."""

    attributes: bool = False
    """Give each record a `brand` and a `colour`, which its description names and its title does
    not."""

    workers: int | None = None
    """Processes; one a core where null."""

    def __post_init__(self) -> None:
        if not self.out or self.out.endswith("/"):
            raise ConfigError("--out", "a file name", repr(self.out))
        for name, is_sound, expected in (
            ("rows", 1 <= self.rows <= records.ROWS_LIMIT, f"1 to {records.ROWS_LIMIT}"),
            ("seed", 0 <= self.seed <= MASK, "0 to 2**64 - 1"),
            ("defects", 0 <= self.defects < math.inf, "a factor of at least 0"),
            ("broken_share", 0 <= self.broken_share <= 1, "0 to 1"),
            ("workers", self.workers is None or self.workers >= 1, "at least 1"),
        ):
            if not is_sound:
                raise ConfigError(f"--{name}", expected, str(getattr(self, name)))


def run(config: SynthesizeConfig) -> None:
    """Invent a catalogue.

    Raises:
        CatalogueError: a worker process died.
        ConfigError: a folder stands where the file is to go.
        OSError: the file system refuses or is full; nothing is left behind.
    """
    target = Path(config.out)
    if target.is_dir():
        raise ConfigError("--out", "a file name", f"the folder {config.out}")
    target.parent.mkdir(parents=True, exist_ok=True)
    # The same name each time: what a kill leaves behind, the next run writes over.
    temporary = target.with_name(f".tmp-{target.name}")
    try:
        with temporary.open("wb") as raw, _stream(raw, target.suffix == ".gz") as file:
            size = _write_blocks(config, file)
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = config.out  # a failed write does not say of which file
        raise
    say(f"{config.out}: {config.rows:,} lines, {size / 1e6:,.1f} MB before compression")


def _write_blocks(config: SynthesizeConfig, file: IO[bytes]) -> int:
    """Write all blocks; return their bytes."""
    workers = config.workers or cores()
    written = 0
    # Spawned, as a fork of a process with threads may hang (and Python 3.12 warns of it).
    context = multiprocessing.get_context("spawn")
    with (
        concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker) as pool,
        Progress("synthesize", config.rows, "lines") as progress,
    ):
        starts = iter(range(0, config.rows, _BLOCK))
        with interrupts.shielded():
            waiting = collections.deque(
                pool.submit(block, config, s) for s in islice(starts, 2 * workers)
            )
        try:
            while waiting:
                lines = waiting.popleft().result()
                waiting.extend(pool.submit(block, config, s) for s in islice(starts, 1))
                file.write(lines)
                written += len(lines)
                progress.advance(lines.count(b"\n"))
        except BrokenProcessPool as error:
            hint = "run the same command again, with fewer --workers where memory ran out"
            raise CatalogueError("workers", "", "a worker process died", hint) from error
        finally:
            pool.shutdown(cancel_futures=True)
    return written


def _start_worker() -> None:
    """Leave Ctrl-C, which reaches the workers too, to the driver, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.end_with_parent()


def block(config: SynthesizeConfig, start: int) -> bytes:
    """Invent the lines of one block, broken ones among them: the task of a worker process."""
    stop = min(start + _BLOCK, config.rows)
    lines = records.lines(config.seed, start, stop, config.rows, config.defects)
    if config.attributes:
        lines = (attributes.plant(config.seed, *row) for row in enumerate(lines, start))
    if not config.broken_share:
        return b"".join(lines)
    written = []
    for place, line in enumerate(lines, start):
        breakage = broken.choose(config.seed, place, config.broken_share)
        written.append(breakage.apply(line[:-1]) + b"\n" if breakage else line)
    return b"".join(written)


def _stream(raw: IO[bytes], compress: bool) -> Any:
    """Compress without a name or time in the header, so that the bytes are the same each time."""
    if not compress:
        return contextlib.nullcontext(raw)
    return gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0)
