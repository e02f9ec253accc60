"""Arrow schemas of the artefacts, and the check that a table has one.

Pure: no I/O, no Dask. Every stage reads and writes tables of these schemas only.
"""

from collections.abc import Sequence

import pyarrow as pa

from data.errors import SchemaError

SPLITS = ("train", "validation", "test")

# A line that is too long is kept in quarantine by its first bytes only; its offset is exact.
QUARANTINED_LINE_BYTES = 65_536


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_LINE = [_required("source", pa.string()), _required("byte_offset", pa.int64())]
_TEXT = [
    _required("uid", pa.string()),
    _required("title", pa.string()),
    _required("content", pa.string()),
]

RAW = pa.schema([*_TEXT, *_LINE])
"""Parsed lines: text as in the file, ``byte_offset`` of the line in the uncompressed stream."""

CLEAN = pa.schema(
    [*_TEXT, _required("split", pa.string()), _required("sample_key", pa.uint64()), *_LINE]
)
"""Repaired rows that passed the rules; ``split`` is one of ``SPLITS``."""

QUARANTINE = pa.schema([*_LINE, _required("line", pa.binary()), _required("reason", pa.string())])
"""Lines that are no records, as they stand (the first ``QUARANTINED_LINE_BYTES`` bytes)."""

SUBSET = pa.schema(
    [*_TEXT, _required("sample_key", pa.uint64()), *_LINE, _required("family", pa.uint64())]
)
"""Rows of one split of a subset, in sample-key order; ``family`` is the same for rows that say
nearly the same, in whatever subset of the catalogue."""

GENERATED = pa.schema(
    [
        _required("uid", pa.string()),
        _required("title", pa.string()),
        _required("description", pa.string()),
        _required("finish_reason", pa.string()),
        _required("prompt_tokens", pa.int32()),
        _required("new_tokens", pa.int32()),
        _required("seed", pa.int64()),
    ]
)
"""Generated descriptions; ``finish_reason`` is ``stop`` (end of sequence), ``length`` (the limit)
or ``loop`` (it only repeated itself; the repeats are left out)."""

CANDIDATES = pa.field(
    "candidates",
    pa.list_(
        pa.struct([*(GENERATED.field(name) for name in ("description", "finish_reason",
                                                        "new_tokens")),
                   _required("score", pa.float64())])
    ),
    nullable=False,
)  # fmt: skip
"""All texts of a title, the best first, where they are kept."""

CHECKS = pa.schema(
    [
        _required("title_words_kept", pa.list_(pa.string())),
        _required("title_words_missing", pa.list_(pa.string())),
        _required("unsupported_numbers", pa.list_(pa.string())),
        _required("repeated_share", pa.float64()),
    ]
)
"""Behind the columns of ``GENERATED`` on request: content words of the title that the description
holds and does not hold, its numbers that neither title nor record supports (each once, as it is
written), and the share of its word 4-grams that stand in it earlier."""

REASONS = (
    "invalid_json", "invalid_utf8", "not_an_object", "missing_field", "wrong_type",
    "line_too_long",
)  # fmt: skip
"""Why a line went to quarantine; a row of a table or a Python dictionary besides as
``wrong_columns``, ``invalid_csv``, ``repeated_header`` or ``invalid_dict``."""


def with_attributes(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """Put a column an attribute behind those of RAW, CLEAN or SUBSET; "" where a row has none."""
    return pa.schema([*schema, *(_required(name, pa.string()) for name in names)])


def check(table: pa.Table | pa.RecordBatch, schema: pa.Schema, where: str) -> None:
    """Check that a table has the columns of a schema, their types, and no nulls.

    Further columns are allowed; ``where`` names the table in an error.

    Raises:
        SchemaError: a column is missing, has another type or holds nulls.
    """
    for field in schema:
        if field.name not in table.schema.names:
            raise SchemaError(where, f"a column {field.name!r}", str(table.schema.names))
        kind = table.schema.field(field.name).type
        if kind != field.type:
            raise SchemaError(where, f"{field.name} as {field.type}", str(kind))
        if nulls := table.column(field.name).null_count:
            raise SchemaError(where, f"no nulls in {field.name}", f"{nulls:,} of them")
