"""What a user is told of files: how they are read, and what helps where they cannot be."""

import dataclasses
import json
import logging
import re
import shlex
from collections import Counter
from collections.abc import Iterable

from data import console
from data.errors import SourceError
from data.sources import foreign, header, kinds, wrapped
from data.sources.kind import Kind, to_columns
from preprocessing import files
from preprocessing.config import COLUMNS, PRESETS, CleanConfig
from preprocessing.fields import Fields, Number
from preprocessing.files import SourceFile

log = logging.getLogger("catalogue")

_SHOWN_FIELDS, _SHOWN_NAME, _SHOWN_RECORD = 12, 40, 200
# Take control characters out of lines, but for their ends.
_NO_CONTROLS = r"tr '\000-\011\013\014\016-\037' ' '"


def find(config: CleanConfig) -> list[SourceFile]:
    """Find the files of a source, and check that they have the columns that are read.

    Raises:
        SourceError: there is none, or a column is in none of a file's first records.
    """
    fields, about = Fields.of(config), (config.encoding, config.delimiter, config.max_gzip_ratio)
    found = files.without_labels(config.source, files.find(config.source, *about), fields)
    for file in found:
        missing = [name for name in fields.names if name not in file.columns]
        if file.columns and missing and file.form in ("lines", "dicts", "objects"):
            # Fields may be rare: look further before anybody is told that there is none.
            file = dataclasses.replace(file, columns=files.field_names(file))
            missing = [name for name in missing if name not in file.columns]
        if file.columns and missing:
            raise _other_columns(config, file, missing)
    return found


def _other_columns(config: CleanConfig, file: SourceFile, missing: list[str]) -> SourceError:
    """Build the error for a file without columns that are read, with the flag that helps."""
    more = ", …" if len(file.columns) > _SHOWN_FIELDS else ""
    shown = [" ".join(name.split())[:_SHOWN_NAME] for name in file.columns if name.strip()]
    columns = ", ".join(shown[:_SHOWN_FIELDS]) + more
    expected = f"the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
    start = files.read_start(file) if file.form == "objects" or file.form == "lines" else b""
    asked = Fields.of(config)
    if holder := wrapped.nested(start, (asked.title, asked.content)) or wrapped.holder(start):
        return SourceError(file.where, expected, holder.name, files.conversion(holder, file))
    kind = kinds.recognise(start)
    if kind.record and "$schema" in kind.record:
        hint = "give the data that it describes"
        return SourceError(file.where, expected, "a JSON schema, not records", hint)
    if missing == ["content"] and {"uid", "title"} <= set(file.columns):
        hint = "they are titles alone, as those of labels are: give the file with descriptions"
        return SourceError(file.where, expected, columns, hint)
    if file.form == "parquet" and not file.packing and header.has_nested(file.open, missing):
        name = shlex.quote(file.where)
        hint = (
            'flatten it: python3 -c "import sys, pyarrow.parquet as p; p.write_table('
            f"p.read_table(sys.argv[1]).flatten(), 'flat.parquet')\" {name}"
        )
        return SourceError(file.where, expected, f"{columns}, with columns inside", hint)
    fitting = to_columns(file.columns)
    stated = {name for name, theirs in Fields.of(config).attributes if theirs in missing}
    if fitting and not stated:
        flag = ", ".join(f"{ours}: {_in_yaml(theirs)}" for ours, theirs in fitting.items())
        hint = f"name them with --columns '{{{flag}}}'"
    elif stated:
        hint = "name those that are there with --attributes"
    else:
        first = "the first row has to name the columns; " if file.form == "table" else ""
        hint = f"{first}name those that are ours with --columns '{{uid: …, title: …, content: …}}'"
    if kind.record and file.form != "table":
        record = json.dumps(kind.record, ensure_ascii=False)[:_SHOWN_RECORD]
        columns = f"{columns} in the first records, such as {record}"
    return SourceError(file.where, expected, columns, hint)


def _in_yaml(name: str) -> str:
    """Return a name as it stands in --columns, in quotes where it needs them."""
    return name if re.fullmatch(r"[^\W\d]([\w .-]*\w)?", name) else json.dumps(name)


def say_columns(config: CleanConfig) -> None:
    """Say which columns stand in for those of the preset."""
    preset, columns = PRESETS[config.preset] if config.preset else {}, config.columns or {}
    other = [f"{ours}: {columns[ours]} for {theirs}" for ours, theirs in preset.items()
             if columns[ours] != theirs]  # fmt: skip
    if other:
        console.say(f"columns of {config.preset}, with {', '.join(other)}")


def say_forms(sources: list[SourceFile]) -> None:
    """Say how files are read that are no JSON lines in UTF-8."""
    by_form: dict[str, list[str]] = {}
    for file in sources:
        if described := _described(file):
            by_form.setdefault(described, []).append(file.name)
    for form, names in by_form.items():
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        console.say(f"{names[0]}{more}: read as {form}")


def say_hidden(sources: list[SourceFile], hidden: Iterable[tuple[str, int]]) -> None:
    """Warn of records beside others in quarantined lines: by file, how many."""
    counts: Counter[str] = Counter()
    for name, count in hidden:
        counts[name] += count
    for file in sources:
        if count := counts[file.name]:
            one = r"tr '\r' '\n'" if file.form == "table" else "jq -c '(arrays | .[]), objects'"
            what = f"lines in quarantine hold at least {count:,} records more"
            log.warning("%s: %s; %s", file.where, what, files.conversion(Kind("", one), file))


def _described(file: SourceFile) -> str:
    """Describe how a file is read, for a person; empty for JSON lines in UTF-8."""
    names = {"objects": "JSON objects one after the other", "dicts": "Python dictionaries",
             "parquet": "Parquet", "arrow": "Arrow", "table": "a table"}  # fmt: skip
    form = names.get(file.form, "JSON lines")
    if file.is_array:
        form = "a JSON array"
    if file.form == "table":
        separators = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}
        separator = separators.get(file.separator, file.separator)
        more = ", …" if len(file.columns) > _SHOWN_FIELDS else ""
        columns = ", ".join(filter(None, file.columns[:_SHOWN_FIELDS]))
        form = f"a table with {separator}, columns {columns}{more}"
    encoding = {"cp1252": "windows-1252", "iso8859-1": "latin-1"}.get(file.encoding, file.encoding)
    notes = [f"in {encoding}"] if encoding != "utf-8" else []
    notes += ["with a comma behind each line"] if file.has_commas else []
    notes += ["that end in a bare CR"] if file.is_cr else []
    described = " ".join([form, *notes])
    return "" if described == "JSON lines" else described


def hint(config: CleanConfig, file: SourceFile, reasons: dict[str, int]) -> str:
    """Describe what a file is and name what helps; empty where neither is sure.

    Args:
        config: with the columns that are read.
        file: to look into.
        reasons: how many of its records were quarantined, by reason; at least one.
    """
    most, fields = max(reasons, key=lambda reason: reasons[reason]), Fields.of(config)
    start = files.read_start(file)
    if most == "invalid_utf8":
        other = "windows-1252" if file.encoding == "utf-8" else "utf-8"
        if b"\0" in start:
            return "they look like binary data: fetch the file itself again"
        return f"they are no {file.encoding.upper()}; state what they are: --encoding {other}"
    if file.form == "table":
        return _of_table(file, start, most)
    ours = fields.title, fields.content
    is_ours = kinds.recognise(start).form == "objects" or most == "missing_field"
    if holder := (is_ours and wrapped.nested(start, ours)) or wrapped.holder(start):
        return f"it is {holder.name}; {files.conversion(holder, file)}"
    return _of_records(file, start, most, fields)


def _of_table(file: SourceFile, start: bytes, most: str) -> str:
    if most == "wrong_columns":
        names = f"the header names {len(file.columns)} columns, these rows hold more or fewer cells"
        return f"{names}: write each row whole, or state what is between the cells: --delimiter"
    if most == "invalid_csv" and b'\\"' in start:
        code = "w(sys.stdout).writerows(r(sys.stdin, escapechar=chr(92), doublequote=False))"
        mark = f", delimiter={file.separator!r}" if file.separator != "," else ""
        code = code.replace("w(sys.stdout", f"csv.writer(sys.stdout{mark}")
        code = code.replace("r(sys.stdin", f"csv.reader(sys.stdin{mark}")
        doubled = Kind("", f'python3 -c "import sys, csv; {code}"')
        return f"quotes in its cells follow a backslash; {doubled.hint(file.where, to='table.csv')}"
    return ""


def _of_records(file: SourceFile, start: bytes, most: str, fields: Fields) -> str:
    record = kinds.recognise(start).record
    if not record and foreign.begins_with_comment(start):
        without = Kind("", foreign.NO_COMMENTS)
        return f"it begins with a comment; {files.conversion(without, file)}"
    if most == "invalid_json" and foreign.has_controls(start):
        without = Kind("", _NO_CONTROLS)
        return f"control characters, such as tabs, stand in them; {files.conversion(without, file)}"
    if most == "invalid_json" and (mixed := kinds.mixed(start)):
        return f"they are {mixed.name}; {files.conversion(mixed, file)}"
    if most == "invalid_dict" and not record:
        return "they are no Python dictionaries, one a line, of texts, numbers and lists alone"
    if not record and most in ("invalid_json", "not_an_object"):
        return "they are none of what is read: JSON, Python dictionaries, CSV, Parquet, Arrow"
    if most not in ("missing_field", "wrong_type") or not record:
        return ""
    if most == "wrong_type" and fields.is_strict and _is_read_loosely(record):
        kept = ", ".join(f"{name}: {name}" for name in COLUMNS)
        return f"numbers for uid and lists of texts are read with --columns '{{{kept}}}'"
    if most == "wrong_type":
        texts = ", ".join(dict.fromkeys(fields.required))
        return f"{texts} have to be texts; accept the others with --max_quarantined_share"
    named = ", ".join(list(record)[:_SHOWN_FIELDS])
    return f"accept them with --max_quarantined_share; the first one has the fields {named}"


def _is_read_loosely(record: dict[str, object]) -> bool:
    """Whether a record is one where columns are stated, though none where they are not."""
    loose = dataclasses.replace(Fields(), is_strict=False)
    numbers = {name: Number(value) if type(value) in (int, float) else value
               for name, value in record.items()}  # fmt: skip
    return type(loose.texts(numbers, 0)) is tuple
