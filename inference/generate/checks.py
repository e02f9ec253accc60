"""Columns that flag what is untrue of generated descriptions."""

from collections.abc import Sequence

import pyarrow as pa

from data.artefacts import schema
from inference import fidelity
from inference.tables.titles import RECORD


def add_checks(table: pa.Table, kept: Sequence[str], about: Sequence[str]) -> pa.Table:
    """Put the columns ``CHECKS`` behind those of ``GENERATED``.

    Args:
        table: N rows, schema GENERATED and further columns.
        kept: names to carry through; where the record is none of them, it goes.
        about: N texts of attributes, which support numbers as the record does.
    """
    has_record = RECORD in table.column_names
    records = table.column(RECORD).to_pylist() if has_record else [""] * table.num_rows
    texts, titles = (table.column(name).to_pylist() for name in ("description", "title"))
    rows = [
        fidelity.check(text, title, f"{record or ''}\n{lines}")
        for text, title, record, lines in zip(texts, titles, records, about, strict=True)
    ]
    for place, field in enumerate(schema.CHECKS, len(schema.GENERATED)):
        values = [getattr(row, field.name) for row in rows]
        table = table.add_column(place, field, pa.array(values, field.type))
    return table.drop_columns([RECORD]) if has_record and RECORD not in kept else table
