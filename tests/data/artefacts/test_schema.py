"""The check that a table has a schema."""

import pyarrow as pa
import pytest

from data.artefacts import schema
from data.errors import SchemaError

FITTING = pa.table(
    [["s"], [1], [b"x"], ["invalid_json"], [True]],
    schema=pa.schema([*schema.QUARANTINE, pa.field("more", pa.bool_())]),
)


def test_a_table_with_the_columns_fits_and_may_have_more() -> None:
    schema.check(FITTING, schema.QUARANTINE, "here")
    schema.check(FITTING.to_batches()[0], schema.QUARANTINE, "here")


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (FITTING.drop_columns("line"), "here: expected a column 'line', found ['source', "),
        (
            FITTING.set_column(1, "byte_offset", pa.array([1], pa.int32())),
            "here: expected byte_offset as int64, found int32",
        ),
        (
            FITTING.set_column(0, "source", pa.array([None], pa.string())),
            "here: expected no nulls in source, found 1 of them",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_told(table: pa.Table, told: str) -> None:
    with pytest.raises(SchemaError) as caught:
        schema.check(table, schema.QUARANTINE, "here")
    assert str(caught.value).startswith(told)


def test_attributes_are_texts_behind_the_fixed_columns() -> None:
    form = schema.with_attributes(schema.CLEAN, ["price", "brand"])
    assert form.names == [*schema.CLEAN.names, "price", "brand"]
    assert form.field("brand") == pa.field("brand", pa.string(), nullable=False)
    assert schema.with_attributes(schema.SUBSET, []) == schema.SUBSET


def test_the_clean_schema_is_that_of_the_design() -> None:
    expected = {
        "uid": "string", "title": "string", "content": "string", "split": "string",
        "sample_key": "uint64", "source": "string", "byte_offset": "int64",
    }  # fmt: skip
    assert {field.name: str(field.type) for field in schema.CLEAN} == expected
    assert not any(field.nullable for field in schema.CLEAN)
