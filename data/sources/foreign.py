"""Files that hold no records that are read: what they are, and what turns them into such.

Pure: the first bytes or the text of a file in; a kind out.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from data.sources.kind import Kind

_WRITTEN = "write it as Parquet with the program that made it"
_PICKLE = ("a Python pickle", _WRITTEN)
_OTHER_FILE = "give the file with titles and descriptions"
_PICTURE = ("a picture, not a catalogue", _OTHER_FILE)
_FETCH = "fetch the file itself again"
_ORC, _FEATHER = b"ORC", b"FEA1"
_MAGIC = (
    (b"SQLite format 3\0", "an SQLite database",
     "write a table of it as CSV: sqlite3 -csv -header PATH 'select * from TABLE'"),
    *((start, *_PICKLE) for start in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05",
                                      b"]q\0", b"}q\0", b"(lp0\n", b"(dp0\n")),
    (b"\xd0\xcf\x11\xe0", "an old Office document", "save its table as CSV in UTF-8"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first: 7z x PATH"),
    (b"Rar!", "a rar archive", "unpack it first: unrar x PATH"),
    (b"%PDF", "a PDF document", "export the catalogue as CSV or JSON"),
    (b"Obj\x01", "Avro", "convert it: pip install fastavro; fastavro PATH > lines.jsonl"),
    (_ORC, "ORC", "write it as Parquet: "
     "python3 -c \"import sys, pyarrow.orc as o, pyarrow.parquet as p; "
     "p.write_table(o.read_table(sys.argv[1]), 'catalogue.parquet')\" PATH"),
    (_FEATHER, "Feather of version 1", "write it anew: "
     "python3 -c \"import sys, pyarrow.feather as f; "
     "f.write_feather(f.read_table(sys.argv[1]), 'catalogue.arrow')\" PATH"),
    (b"PARE", "Parquet that is encrypted", "write it without encryption, where its keys are"),
    (b"\x89HDF\r\n", "HDF5", _WRITTEN),
    (b"\x93NUMPY", "a NumPy array", _WRITTEN),
    (b"<stata_dta>", "a table of Stata", _WRITTEN), (b"$FL2", "a table of SPSS", _WRITTEN),
    (b"RDX2\n", "data of R", _WRITTEN), (b"RDX3\n", "data of R", _WRITTEN),
    (b"\0\x01\0\0Standard ", "an Access database", "export its table as CSV in UTF-8"),
    (b"L\0\0\0\x01\x14\x02\0", "a Windows shortcut", "name the file that it leads to"),
    *((start, *_PICTURE) for start in (b"\x89PNG", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")),
)  # fmt: skip
_POINTER = b"version https://git-lfs.github.com/spec/"
_ANNEX = re.compile(rb"(\.\./)*(\.git)?/annex/objects/|(\.\./)*\.git/annex/objects/")
_DVC = re.compile(rb"outs:\s+- (md5|hash|size|path): ")
_PAGE = re.compile(rb"<(!doctype|html|head|body|\?xml|error)\b", re.IGNORECASE)
_TAG = re.compile(r"<(!--|[a-z][\w:.-]*[\s/>])", re.IGNORECASE)
_OBJECT = re.compile(rb"^\s*\{", re.MULTILINE)
_IN_TEXT = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_CONTROLS = bytes([*range(9), 11, *range(14, 27), *range(28, 32)])
# Of the bytes of text, at most.
_MOST_CONTROLS = 0.05
_YAML = re.compile(
    r"(%YAML \d|---[ \t]*\r?\n|(- )?[\w .-]+:([ \t][^\n]*)?\r?\n\s*(- )?[\w .-]+:[ \t\r\n])"
)
_TO_JSON = (
    'python3 -c "import sys, json, yaml; '
    'json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout, default=str)"'
)
_MAILBOX = re.compile(r"From \S+ [^\n]*\d\d\d\d\r?\n[\w-]+:")
_SQL = re.compile(
    r"(--[^\n]*\n\s*)*(/\*!|(insert into|(create|drop) (table|database)|pragma|set) [^,\n])",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"\s*(//|#|/\*)")
# Whole lines, those behind a bracket or a comma, and /* … */ on a line; never inside a text.
NO_COMMENTS = (
    r"sed -E 's@^[[:space:]]*(//|#).*@@; s@^([[:space:]]*)/\*.*\*/@\1@; "
    r"s@([],{}[])[[:space:]]*//[^\"]*$@\1@'"
)
"""Takes comments out of JSON."""
_SHOWN, _MOST_BRACES = 80, 200
_DECODER = json.JSONDecoder()
# What is longer may not have been seen to its end.
_WHOLE = 60_000


def of_bytes(start: bytes, separator: str | None = None) -> Kind | None:
    """Recognise a file that is no text, or none of the user's; None for any other.

    Args:
        start: of the file.
        separator: of a table, where it is stated: no sign of binary data.
    """
    for magic, name, advice in _MAGIC:
        # A text may well begin with ORC.
        if start.startswith(magic) and (magic not in (_ORC, _FEATHER) or b"\0" in start):
            return Kind(name, advice=advice)
    begun = start.lstrip()
    if begun.startswith(_POINTER):
        return Kind("a pointer to a large file, not the file", advice="fetch it with git lfs pull")
    if _ANNEX.match(begun):
        return Kind("a pointer to a large file, not the file", advice="fetch it with git annex get")
    if _DVC.match(begun):
        return Kind("a pointer to a large file, not the file", advice="fetch it with dvc pull")
    if start and not start.strip(b"\0"):
        return Kind("nothing but zeros", advice=_FETCH)
    if _PAGE.match(begun):
        return Kind("a web page or XML", advice=_FETCH)
    own = bytes(set(_CONTROLS) - set((separator or "").encode()))
    controls = len(begun) - len(begun.translate(None, own))
    if controls > _MOST_CONTROLS * len(begun) and not _OBJECT.search(begun):
        return Kind("binary data", advice=_FETCH)
    return None


def of_text(text: str) -> Kind | None:
    """Recognise text that holds neither a table nor records; None where it may yet hold some.

    Args:
        text: the start of a file, without white space before it.
    """
    if commented := with_comments(text):
        return commented
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not text or any(line.startswith(("{", "[")) or _is_json(line) for line in lines):
        return None
    if _MAILBOX.match(text):
        return Kind("a mailbox, not a catalogue", advice=_OTHER_FILE)
    if _YAML.match(text):
        return Kind("YAML", filter=_TO_JSON)
    if len(text) > _WHOLE:  # there may be records behind broken lines
        return None
    shown = repr(lines[0][:_SHOWN])
    if len(lines) > 1 and re.fullmatch(r'"?[a-z]\w*"?', lines[0], re.IGNORECASE):
        name = f"a table of one column, {lines[0].strip(chr(34))}, or plain text"
        return Kind(name, advice=_OTHER_FILE)
    advice = "write its records as CSV, JSON lines or Parquet"
    return Kind(f"plain text, no records, from {shown} on", advice=advice)


def code(text: str) -> Kind | None:
    """Recognise a web page and statements of SQL, whose commas are no table's.

    Returns:
        None for anything else, and where records may follow.
    """
    if _OBJECT.search(text.encode()):
        return None
    if _TAG.match(text):
        return Kind("a web page or XML", advice=_FETCH)
    if _SQL.match(text):
        return Kind("a dump of an SQL database", advice="export its table as CSV in UTF-8")
    return None


def is_loose_json(line: str) -> bool:
    """Whether a line is an object of JSON but for control characters inside its texts."""
    try:
        return isinstance(json.loads(line, strict=False), dict)
    except (ValueError, RecursionError):
        return False


def has_controls(start: bytes) -> bool:
    """Whether control characters stand among objects of JSON, or inside their texts."""
    lines = start.decode("utf-8", "replace").split("\n")
    return bool(_IN_TEXT.search(start)) or any(
        is_loose_json(line) for line in lines if "\t" in line and not _is_json(line)
    )


def with_comments(text: str) -> Kind | None:
    """Recognise JSON with comments, but for lines of records behind a comment."""
    body = _without_comments(text)
    commented = Kind("JSON with comments", filter=NO_COMMENTS)
    if body.startswith("["):
        inner = body[1:].lstrip()
        between = r"\s*,?\s*(//|/\*)"
        if body != text.lstrip() or _COMMENT.match(inner):
            return commented
        end = _end(inner)
        return commented if end and re.match(between, inner[end:]) else None
    is_object = body != text.lstrip() and body.startswith("{")
    # Else there are records, maybe behind broken ones.
    has_records = any(_is_json(line.strip()) for line in body.split("\n") if line.startswith("{"))
    return commented if is_object and not has_records else None


def begins_with_comment(start: bytes) -> bool:
    """Whether comments stand before anything else."""
    return bool(_COMMENT.match(start.decode("utf-8", "replace")))


def _without_comments(text: str) -> str:
    return re.sub(r"\A(\s*(//|#)[^\n]*\n|\s*/\*.*?\*/)+", "", text, flags=re.DOTALL).lstrip()


def nested(text: str, fits: Any) -> dict[str, Any] | None:
    """Find the first object inside others of some JSON that fits; None where none does.

    Args:
        text: the start of a file.
        fits: whether an object's names are a record's.
    """
    first = text.find("{")
    try:
        candidates = _inside(_DECODER.raw_decode(text, max(first, 0))[0])
    except (ValueError, RecursionError):  # it goes on behind what is seen of it
        begins = [match.start() for match in re.finditer(r"\{", text)][1:_MOST_BRACES]
        candidates = (value for at in begins if (value := _object(text, at)))
    return next((value for value in candidates if fits(value)), None)


def _inside(value: Any) -> Iterator[dict[str, Any]]:
    """List the objects inside a value of JSON."""
    items = value.values() if isinstance(value, dict) else value
    for item in items if isinstance(value, (dict, list)) else ():
        if isinstance(item, dict):
            yield item
        yield from _inside(item)


def _object(text: str, at: int) -> dict[str, Any]:
    try:
        value, _ = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return {}
    return dict(value)


def _end(text: str) -> int:
    try:
        return _DECODER.raw_decode(text)[1]
    except (ValueError, RecursionError):
        return 0


def _is_json(line: str) -> bool:
    """Whether a line is JSON, and no text in quotes, which may stand in any file."""
    return bool(line) and not line.startswith('"') and _end(line) == len(line)
