"""Where a row came from, for a person: its place in a file, and a command that prints it.

The command needs a shell and its usual programs, and Python where a record is more than a line.
"""

import contextlib
import functools
import io
import re
import shlex
import sys
from dataclasses import dataclass

from data.artefacts.folder import Folder
from data.artefacts.manifest import Manifest
from data.errors import SourceError
from data.sources import archives, encodings, kinds, streams
from data.sources.kind import Kind

_START = 2**16
# A member that starts further on in a compressed tar is not looked into.
_FURTHEST = 2**24
_LIMITS = streams.Limits(10_000, "", _FURTHEST)
_PROGRAMS = {"gz": "gzip -dc", "bz2": "bzip2 -dc", "xz": "xz -dc", "zst": "zstd -dc"}
_PYTHON = shlex.quote(sys.executable)
_COLUMNAR = ("parquet", "arrow")
_REMOTE = (
    "import sys, shutil, fsspec; "
    "shutil.copyfileobj(fsspec.open(sys.argv[1]).open(), sys.stdout.buffer)"
)
_OBJECT = (
    "import sys, json; text = sys.stdin.buffer.read({limit}).decode('utf-8', 'replace'); "
    "print(text[: json.JSONDecoder().raw_decode(text)[1]])"
)
_CELLS = (
    "import sys, io, csv; csv.field_size_limit({limit}); "
    "text = io.TextIOWrapper(sys.stdin.buffer, 'utf-8', 'replace', newline=''); "
    "print(next(csv.reader(text, delimiter=chr({separator}))))"
)


@dataclass(frozen=True)
class Location:
    """Where a row came from."""

    path: str
    """Of its file; of a member, that of its archive and its name in it."""
    place: str
    """In the file: its first byte, uncompressed, or its row in a file of columns."""
    command: str
    """Prints the record, run by a shell; empty where the file cannot be read now."""


@dataclass(frozen=True)
class _Stored:
    """How a shell reads a file's records."""

    reads: tuple[str, ...]
    """Programs that write them uncompressed, one into the next."""
    kind: Kind
    encoding: str = "utf-8"
    is_arrow_stream: bool = False


def locate(catalogue: Manifest, source: str, offset: int, line: bytes | None = None) -> Location:
    """Find where a row of a clean catalogue came from.

    Args:
        catalogue: manifest of its folder.
        source: of the row.
        offset: of the row, ``byte_offset``.
        line: a quarantined row, as it stands in its file.
    """
    paths = [item.path for item in catalogue.inputs if f"/{item.path}".endswith(f"/{source}")]
    path = min(paths, key=len, default=source)
    config = catalogue.config
    stored = _stored(path, config.get("encoding", "utf-8"), config.get("delimiter"))
    unit = "row" if stored.kind.form in _COLUMNAR else "byte"
    limit = config.get("max_line_bytes", 2**22)
    command = _command(stored, offset, line, limit) if stored.reads else ""
    return Location(path, f"{unit} {offset:,}", command)


@functools.lru_cache(maxsize=64)
def _stored(path: str, encoding: str, separator: str | None) -> _Stored:
    """Find out how a file is read, or a member of an archive; without programs where it is not."""
    try:
        return _look_into(path, encoding, separator)
    except Exception:  # whatever the client of a remote store raises
        return _Stored((), _by_name(path))


def _look_into(path: str, encoding: str, separator: str | None) -> _Stored:
    url, name = _outer(path)
    quoted, is_local = shlex.quote(url), Folder(url).is_local
    with streams.open_url(url) as stored:
        start = streams.read_exactly(stored, _START)
    layers, start = streams.unpack(url, (), start, _LIMITS)
    first = f"cat {quoted}" if is_local else f'{_PYTHON} -c "{_REMOTE}" {quoted}'
    reads = (first, *(_PROGRAMS[layer] for layer in layers))
    if kind := archives.archive(start):
        member = _member(url, layers, kind, name)
        if kind == archives.ZIP:
            inside = re.sub(r"([*?\[\]\\])", r"\\\1", member.stored)
            # Or it would be an option, as unzip knows no "--".
            inside = re.sub(r"^-", "[-]", inside)
            # unzip itself looks for the end of the file first.
            reads = (f"unzip -p {quoted} {shlex.quote(inside)}",) if is_local else ()
        elif is_local and len(layers) < 2:  # tar itself finds out how it is compressed
            reads = (f"tar -xPOf {quoted} -- {shlex.quote(member.stored)}",)
        else:
            reads = (*reads, f"tar -xPOf - -- {shlex.quote(member.stored)}")
        if not reads:
            return _Stored((), _by_name(name))
        if not member.start:
            programs = [run for kind, run in _PROGRAMS.items() if member.name.endswith(f".{kind}")]
            return _Stored((*reads, *programs), _by_name(name))
        own = (*layers, member.step)
        inner, start = streams.unpack(url, own, member.start, _LIMITS)
        reads = (*reads, *(_PROGRAMS[layer] for layer in inner[len(own) :]))
    encoding = encodings.of_mark(start) or encoding
    if not kinds.is_columnar(start):
        start = encodings.recode(start, encoding)
    is_stream = not start.startswith(b"ARROW1")
    return _Stored(reads, kinds.recognise(start, separator), encoding, is_stream)


def _outer(path: str) -> tuple[str, str]:
    """Return the stored file that a path names or leads into, and the rest of the path.

    Raises:
        SourceError: there is none.
    """
    import fsspec

    fs, _ = fsspec.core.url_to_fs(path)
    url, name = path, ""
    while not fs.isfile(fs._strip_protocol(url)):
        url, slash, last = url.rpartition("/")
        name = f"{last}/{name}" if name else last
        if not slash or not url:
            raise SourceError(path, "a file", "none")
    return url, name


def _member(url: str, layers: tuple[str, ...], kind: str, name: str) -> archives.Member:
    """Find a member of an archive; one that starts too far on has no start."""
    before, last = "", None
    with streams.open_packed(url, layers, _LIMITS) as (stream, _):
        if kind == archives.TAR:
            stream = io.BytesIO(streams.read_exactly(stream, _FURTHEST))
        with contextlib.suppress(SourceError):  # at the end of what is looked at
            for member in archives.members(stream, url, kind, _START):
                before = "./" if member.stored.startswith("./") else ""
                last = member if member.name == name else last
    return last or archives.Member("", name, 0, b"", before + name)


def _by_name(path: str) -> Kind:
    """Guess what a file is that cannot be looked into."""
    name = re.sub(r"\.(gz|bz2|xz|zstd?)$", "", path.lower())
    if name.endswith((".arrow", ".feather")):
        return Kind("", form="arrow")
    return Kind("", form="parquet" if name.endswith(".parquet") else "lines")


def _command(stored: _Stored, offset: int, line: bytes | None, limit: int) -> str:
    """Write the command that prints the record at an offset of an uncompressed file."""
    kind, (*_, last) = stored.kind, stored.reads
    path = last.removeprefix("cat ") if len(stored.reads) == 1 and last.startswith("cat ") else ""
    if kind.form in _COLUMNAR:
        return _row_command(stored, offset, path)
    at = f"tail -c +{offset + 1}"
    programs = [f"{at} {path}"] if path else [*stored.reads, at]
    if stored.encoding != "utf-8":
        name = re.sub(r"^(utf-(?:16|32))-", r"\1", stored.encoding)
        programs.append(f"iconv -c -f {name} -t utf-8")
    if kind.separator == "\r":
        programs.append(r"tr '\r' '\n'")
    if kind.form not in ("objects", "table"):
        programs.append("head -n 1")
    elif line is not None:
        programs.append(f"head -c {len(line)}")
    else:
        cells = _CELLS.format(limit=limit, separator=ord(kind.separator or ","))
        code = _OBJECT.format(limit=limit) if kind.form == "objects" else cells
        programs.append(f'python3 -c "{code}"')
    return " | ".join(programs)


def _row_command(stored: _Stored, row: int, path: str) -> str:
    # Of a file of Python's, Arrow's threads may still read when Python ends, and break it off.
    file = "sys.argv[1]" if path else "pa.BufferReader(sys.stdin.buffer.read())"
    module, table = "pyarrow.dataset as ds", f"ds.dataset({file}).take([{row}])"
    if stored.kind.form == "arrow":
        opens = "open_stream" if stored.is_arrow_stream else "open_file"
        file = f"pa.memory_map({file})" if path else file
        table = f"pa.ipc.{opens}({file}).read_all().slice({row}, 1)"
    elif not path:
        # Its threads may end the process by a signal when it exits (pyarrow 26.0.1).
        whole = f"pq.ParquetFile({file}).read(use_threads=False)"
        module, table = "pyarrow.parquet as pq", f"{whole}.slice({row}, 1)"
    code = f"import sys, pyarrow as pa, {module}; print({table}.to_pylist()[0])"
    program = f'{_PYTHON} -c "{code}"'
    return f"{program} {path}" if path else " | ".join([*stored.reads, program])
