"""The files of a source: found, looked into, and told apart by what they hold.

What a file is, its content says; its name only decides whether a folder's file is looked at.
"""

import contextlib
import dataclasses
import fnmatch
import logging
import os
import posixpath
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from data.artefacts.folder import Folder, digest_all, digest_bytes
from data.console import first_line
from data.errors import SourceError
from data.sources import archives, encodings, header, kinds, streams
from data.sources.kind import Form, Kind
from preprocessing.fields import Fields

log = logging.getLogger("catalogue")

_RAW = re.compile(
    r"\.(json|jsonl|ndjson|csv|tsv|parquet|arrow|feather)(\.(gz|bz2|xz|zst|zstd))?$"
    r"|\.(zip|tar|tgz|tar\.(gz|bz2|xz|zst|zstd))$",
    re.IGNORECASE,
)
_PACKED = re.compile(
    r"\.(json|jsonl|ndjson|csv|tsv)\.(lz4|7z|rar|br|z)$|\.(7z|rar|xlsx?|pkl|sqlite)$", re.IGNORECASE
)
_PACKING = re.compile(r"\.(gz|bz2|xz|zstd?)$")
# A header that ends in a bare CR.
_CR = re.compile(rb"[^\r\n]*\r(?!\n)")
_SHOWN_NAMES = 5
_SAMPLES = 16
_SAMPLE_BYTES = 2**16
_FURTHER = 2**21
_MOST_FREE = 2**24


@dataclass(frozen=True)
class SourceFile:
    """One raw file, or member of an archive, as it was at the start of a run."""

    url: str
    """Of the stored file."""
    name: str
    """Relative to the source's folder: what the ``source`` column holds."""
    size: int
    """Bytes as stored, so compressed ones for gzip; of a member those that the archive unpacks."""
    sampled: str
    """Digest of evenly spaced samples: most other files have another, but it proves nothing."""
    packing: tuple[str, ...] = ()
    """Layers around the records, from the outside in; see ``streams.open_packed``."""
    form: Form = "lines"
    separator: str = ""
    """Of the cells of a table."""
    encoding: str = "utf-8"
    columns: tuple[str, ...] = ()
    """Of a table or a file of columns, all; of other forms, those of the first records."""
    has_commas: bool = False
    """Whether a comma stands behind each line."""
    is_cr: bool = False
    """Whether lines end in a bare CR."""
    is_array: bool = False
    is_arrow_stream: bool = False
    max_ratio: int = 200
    """Unpacked bytes a stored one at most."""

    @property
    def compressed(self) -> bool:
        """Whether more bytes come of it than its size says."""
        return bool(self.packing) and "/" not in self.packing[-1]

    @property
    def where(self) -> str:
        """Where it lies, for errors."""
        member = next((step for step in self.packing if "/" in step), "")
        name = archives.member_name(member.partition("/")[2])
        return f"{self.url}/{name}" if member else self.url

    @property
    def is_lines(self) -> bool:
        """Whether a record starts behind each newline, whatever stands before it."""
        plain = self.encoding == "utf-8" and not self.is_cr
        return self.form in ("lines", "dicts") and plain

    @property
    def is_ranged(self) -> bool:
        """Whether blocks of it are byte ranges that can be read apart."""
        return self.is_lines and not self.packing

    @property
    def is_exact(self) -> bool:
        """Whether no more bytes come of it than its size says."""
        return not self.compressed and self.form not in ("parquet", "arrow")

    def open(self) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Open the stored bytes."""
        return streams.open_url(self.url)

    def open_packed(
        self, free: int = _MOST_FREE
    ) -> contextlib.AbstractContextManager[tuple[IO[bytes], Callable[[], int]]]:
        """Open the records' bytes, and what tells how many stored ones are read.

        Args:
            free: unpacked bytes that may come of any file, whatever its size.
        """
        return streams.open_packed(self.url, self.packing, self.limits(free))

    def limits(self, free: int = _MOST_FREE) -> streams.Limits:
        """Bound what it expands to."""
        hint = "where the file is sound, raise --max_gzip_ratio"
        return streams.Limits(self.max_ratio, hint, free)


def find(
    source: str, encoding: str = "utf-8", separator: str | None = None, max_ratio: int = 200
) -> list[SourceFile]:
    """Find the raw files of a source, sorted by name; members of a compressed tar in its order.

    Args:
        source: a file, a folder, an archive or a pattern such as ``raw/**/part-*.json.gz``.
        encoding: of text without a mark.
        separator: of the cells of tables; none: found.
        max_ratio: unpacked bytes a stored one at most.

    Raises:
        SourceError: nothing is there, or something that holds no records that can be read.
        NetworkError: it could not be read to its end.
    """
    parent, base = posixpath.split(source.rstrip("/"))
    beside = Folder(parent or ".")
    kind = _type(source)
    if kind == "directory":
        folder = Folder(source)
        found = [(posixpath.join(folder.url, name), name) for name in _raw_names(folder)]
    elif kind is not None:
        found = [(posixpath.join(beside.url, base), base)]
    elif not any(mark in source for mark in "*?["):
        hint = "name the file with --source, or invent one: python -m data synthesize"
        raise SourceError(source, "a file or folder", "none", hint)
    elif any(mark in parent for mark in "*?[") or "**" in base:
        found = _glob(source)
    else:
        found = _fitting(source, beside, base)
    about = SourceFile("", "", 0, "", encoding=encoding, max_ratio=max_ratio)
    outer = [dataclasses.replace(about, url=url, name=name) for url, name in found]
    return [file for stored in outer for file in _describe(stored, separator)]


def _fitting(source: str, beside: Folder, base: str) -> list[tuple[str, str]]:
    fitting = fnmatch.filter(beside.names(), base)
    names = [name for name in fitting if base.startswith(".") or not name.startswith(".")]
    if not names:
        raise SourceError(source, "at least one file", "none that fits")
    _log_left_out(source, fitting, names)
    return [(posixpath.join(beside.url, name), name) for name in names]


def _glob(source: str) -> list[tuple[str, str]]:
    """Find the files that a pattern over folders fits; their names start where it has its marks."""
    import fsspec

    fs, path = fsspec.core.url_to_fs(Folder(source).url)
    still = []
    for part in path.split("/"):
        if any(mark in part for mark in "*?["):
            break
        still.append(part)
    root = "/".join(still)
    names = sorted(
        name
        for file, about in fs.glob(path, detail=True).items()
        if not _is_folder(about) and (name := file[len(root) :].lstrip("/"))
        and not any(part.startswith(".") for part in name.split("/"))
    )  # fmt: skip
    if not names:
        raise SourceError(source, "at least one file", "none that fits")
    return [(fs.unstrip_protocol(f"{root}/{name}").removeprefix("file://"), name) for name in names]


def _is_folder(about: dict[str, Any]) -> bool:
    """Whether what fsspec says of a path is a folder, or a link to one."""
    is_link = about["type"] == "link" or about.get("islink")
    return about["type"] == "directory" or (bool(is_link) and os.path.isdir(about["name"]))


def _type(url: str) -> str | None:
    """Return what is at a path or URL, as fsspec names it; None where there is nothing."""
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(url)
    except ValueError as error:
        expected = "a local path or a URL of a known kind, such as s3://"
        raise SourceError(url, expected, first_line(error)) from error
    try:
        return str(fs.info(path)["type"])
    except FileNotFoundError:
        return "link" if Folder(url).is_local and os.path.islink(path) else None


def modified(url: str) -> float:
    """Return when a file was last written, in seconds since 1970; 0 where nothing tells."""
    import fsspec

    fs, path = fsspec.core.url_to_fs(url)
    with contextlib.suppress(NotImplementedError):
        return float(fs.modified(path).timestamp())
    return 0.0


def _raw_names(folder: Folder) -> list[str]:
    """Choose the raw files of a folder by their endings, and log which files are left out.

    Raises:
        SourceError: there is none, or one beside them holds records packed in a way not read here.
    """
    inside = folder.names()
    visible = [name for name in inside if not name.startswith(".")]
    names = [name for name in visible if _RAW.search(name)]
    if packed := [name for name in visible if _PACKED.search(name)]:
        hint = "unpack it, or move it out of the folder"
        raise SourceError(folder.url, "files that can be read", packed[0], hint)
    if not names:
        others = ", ".join(inside[:3]) or "nothing"
        endings = "files that end in .json, .jsonl, .ndjson, .csv, .tsv, .parquet, .arrow, .feather"
        raise SourceError(folder.url, f"{endings}, .zip or .tar, compressed or not", others)
    _log_left_out(folder.url, inside, names)
    return names


def _log_left_out(source: str, inside: Sequence[str], names: Sequence[str], why: str = "") -> None:
    left = sorted(set(inside) - set(names))
    if left:
        more = f" and {len(left) - _SHOWN_NAMES:,} more" if len(left) > _SHOWN_NAMES else ""
        log.warning("%s: left out %s%s%s", source, ", ".join(left[:_SHOWN_NAMES]), more, why)


def _describe(file: SourceFile, separator: str | None) -> list[SourceFile]:
    """Look into a stored file; return it, or those of an archive's members that hold records."""
    samples = []
    with file.open() as stored:
        size = stored.seek(0, 2)
        if size == 0:
            raise SourceError(file.url, "records", "an empty file", "fetch it again")
        places = [size * i // _SAMPLES for i in range(_SAMPLES)]
        for at in (*places, max(size - _SAMPLE_BYTES, 0)):
            stored.seek(at)
            samples.append(stored.read(_SAMPLE_BYTES))
    sampled = digest_all([digest_bytes(sample) for sample in samples])
    file, start = _unpack(dataclasses.replace(file, size=size, sampled=sampled), samples[0])
    if kind := archives.archive(start):
        return _members(file, kind, separator)
    return [_recognise(file, start, separator)]


def _unpack(file: SourceFile, start: bytes) -> tuple[SourceFile, bytes]:
    """Find the compressed layers at the start of a file; return it with all, and what is inside."""
    packing, start = streams.unpack(file.url, file.packing, start, file.limits())
    return dataclasses.replace(file, packing=packing), start


def _start(file: SourceFile, size: int = _SAMPLE_BYTES) -> bytes:
    with file.open_packed() as (stream, _):
        return streams.read_exactly(stream, size)


def _members(outer: SourceFile, kind: str, separator: str | None) -> list[SourceFile]:
    """Describe the members of an archive that hold records, and log those that do not.

    Raises:
        SourceError: none does, or one does not whose name says that it would.
    """
    if kind == archives.ZIP and outer.packing:
        raise SourceError(outer.url, "records", "a zip archive inside another packing", "unpack it")
    files = dict[str, SourceFile]()
    refused = dict[str, SourceError]()
    names = Counter[str]()
    with outer.open_packed() as (stream, _):
        for member in archives.members(stream, outer.url, kind, _SAMPLE_BYTES):
            names[member.name] += 1
            # Of one name the last is read, as whoever unpacks finds it.
            files.pop(member.name, None)
            refused.pop(member.name, None)
            parts = member.name.split("/")
            if any(part.startswith((".", "__MACOSX")) for part in parts) or not member.size:
                continue
            try:
                files[member.name] = _member(outer, member, separator)
            except SourceError as error:
                refused[member.name] = error
    for name, fault in refused.items():
        if not files or _RAW.search(name):
            raise fault
    if not files:
        inside = ", ".join(list(names)[:3]) or "no member"
        raise SourceError(outer.url, "records in the archive", f"{inside}, hidden, empty or a link")
    why = "".join(f"; {fault}" for fault in [*refused.values()][:_SHOWN_NAMES])
    _log_left_out(outer.url, [*refused], [], why)
    _log_left_out(outer.url, [*names], [*files, *refused], ": hidden, empty or a link")
    twice = [name for name in files if names[name] > 1]
    _log_left_out(outer.url, twice, [], ": the earlier of that name")
    if outer.packing:  # read in one pass
        return [*files.values()]
    return sorted(files.values(), key=lambda file: file.name)


def _member(outer: SourceFile, member: archives.Member, separator: str | None) -> SourceFile:
    name, where = f"{outer.name}/{member.name}", f"{outer.url}/{member.name}"
    packing = (*outer.packing, member.step)
    file = dataclasses.replace(outer, name=name, size=member.size, packing=packing)
    file, start = _unpack(file, member.start)
    if archives.archive(start):
        raise SourceError(where, "records", "an archive in an archive", "unpack the outer one")
    if not _RAW.search(member.name) and "." in posixpath.basename(member.name):
        raise SourceError(
            where, "a file of records", f"one named {posixpath.basename(member.name)}"
        )
    return _recognise(file, start, separator)


def _recognise(file: SourceFile, start: bytes, separator: str | None) -> SourceFile:
    """Find out the form of a file from its first bytes.

    Raises:
        SourceError: it is of none that can be read.
    """
    if marked := encodings.of_mark(start):  # which is read again, and tells the order of the bytes
        file = dataclasses.replace(file, encoding=re.sub(r"-[bl]e$", "", marked))
    text = start if kinds.is_columnar(start) else encodings.recode(start, file.encoding)
    kind = kinds.recognise(text, separator)
    if not kind.form:
        stated = kind.encoding and f"state it: --encoding {kind.encoding}"
        if file.encoding != "utf-8" and kinds.recognise(start, separator).form:
            stated = "it can be read without --encoding"
        raise SourceError(file.where, "records", kind.name, stated or conversion(kind, file))
    file = dataclasses.replace(
        file,
        form=kind.form,
        separator=kind.separator if kind.form == "table" else "",
        has_commas=kind.form == "lines" and kind.separator == ",",
        is_cr=kind.separator == "\r" or (kind.form == "table" and bool(_CR.match(text))),
        is_array=kind.form == "objects" and text.removeprefix(BOM_UTF8).lstrip()[:1] == b"[",
        is_arrow_stream=kind.form == "arrow" and not text.startswith(b"ARROW1"),
    )
    if kind.form in ("parquet", "arrow"):
        columns = () if file.packing else header.of_schema(file.open, kind.form, file.where)
    else:
        columns = header.of_text(text.removeprefix(BOM_UTF8), kind, file.where)
    return dataclasses.replace(file, columns=columns)


def conversion(kind: Kind, file: SourceFile) -> str:
    """Name what turns a file into one that is read; it may have to be unpacked before."""
    if not file.packing or (file.packing == ("gz",) and kind.filter):
        return kind.hint(file.where, bool(file.packing))
    hint = kind.hint(_PACKING.sub("", posixpath.basename(file.where)))
    return f"unpack it, then {hint}" if kind.filter or "PATH" in kind.advice else hint


def without_labels(source: str, files: list[SourceFile], fields: Fields) -> list[SourceFile]:
    """Leave out files of titles alone, such as the titles of labels, where others have more."""
    if not any(fields.content in file.columns for file in files):
        return files
    titles = set(fields.required) - {fields.content}
    alone = [file for file in files if titles <= set(file.columns)
             and fields.content not in file.columns
             and (file.form not in ("lines", "dicts", "objects")
                  or fields.content not in field_names(file))]  # fmt: skip
    rest = [file for file in files if file not in alone]
    why = ": titles without descriptions"
    _log_left_out(source, [file.name for file in files], [file.name for file in rest], why)
    return rest


def field_names(file: SourceFile) -> tuple[str, ...]:
    """Return the names of the fields in the first 2 MiB of a file of text: some are rare."""
    kind = Kind("", form=file.form, separator="\r" if file.is_cr else "")
    return header.of_text(read_start(file, _FURTHER).removeprefix(BOM_UTF8), kind, file.where)


def read_start(file: SourceFile, size: int = _SAMPLE_BYTES) -> bytes:
    """Read the first bytes of a file, some 64 KiB, uncompressed and in UTF-8."""
    start = _start(file, size)
    if file.encoding == "utf-8":
        return start
    return start.decode(file.encoding, "replace").encode()


def file_facts(file: SourceFile) -> list[Any]:
    """Return what identifies a file, for the output's identity."""
    return [file.name, file.size, file.sampled]
