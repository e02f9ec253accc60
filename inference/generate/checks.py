"""Columns that flag what is untrue of generated descriptions."""

from collections.abc import Sequence

import pyarrow as pa

from data.artefacts import schema
from inference import fidelity
from inference.tables.titles import RECORD


def add_checks(table: pa.Table, kept: Sequence[str]) -> pa.Table:
    """Put the columns ``CHECKS`` behind those of ``GENERATED``.

    Args:
        table: N rows, schema GENERATED and the columns carried through.
        kept: names of those to keep; the record, where it is none of them, was only carried here.
    """
    records = [""] * table.num_rows
    if RECORD in table.column_names:
        records = [str(record or "") for record in table.column(RECORD).to_pylist()]
    texts, titles = (table.column(name).to_pylist() for name in ("description", "title"))
    rows = [fidelity.check(*row) for row in zip(texts, titles, records, strict=True)]
    for field in schema.CHECKS:
        values = [getattr(row, field.name) for row in rows]
        table = table.append_column(field, pa.array(values, field.type))
    return table.select([*schema.GENERATED.names, *schema.CHECKS.names, *kept])
