"""Columns of checks: behind those of the description, with the record where there is one."""

import pyarrow as pa
import pytest

from data.artefacts import schema
from inference.generate.checks import add_checks

TITLE, TEXT = "Copper Kettle, 12 cups", "A kettle of 12 cups from 1998, 3 lids and 1998 lids."


def described(**carried: pa.Array) -> pa.Table:
    row = {
        **{"uid": "a", "title": TITLE, "description": TEXT, "finish_reason": "stop"},
        **{"prompt_tokens": 1, "new_tokens": 2, "seed": 3},
    }
    table = pa.Table.from_pylist([row], schema=schema.GENERATED)
    for name, column in carried.items():
        table = table.append_column(name, column)
    return table


@pytest.mark.parametrize(
    ("carried", "kept", "unsupported"),
    [
        ({}, [], ["1998", "3"]),
        ({"content": pa.array(["Since 1998."])}, [], ["3"]),
        ({"price": pa.array([9.5]), "content": pa.array([None], pa.string())}, ["price"],
         ["1998", "3"]),
        ({"content": pa.array(["Since 1998."])}, ["content"], ["3"]),
        # A user's own column of that name, whatever its type.
        ({"content": pa.array([["Three", "3"]])}, ["content"], ["1998"]),
    ],
)  # fmt: skip
def test_the_record_supports_numbers(
    carried: dict[str, pa.Array], kept: list[str], unsupported: list[str]
) -> None:
    table = add_checks(described(**carried), kept, [""])
    assert table.schema.names == [*schema.GENERATED.names, *schema.CHECKS.names, *kept]
    (row,) = table.select(schema.CHECKS.names).to_pylist()
    assert row == {
        **{"title_words_kept": ["Kettle", "cups"], "title_words_missing": ["Copper"]},
        **{"unsupported_numbers": unsupported, "repeated_share": 0.0},
    }


def test_columns_of_the_output_itself_stay() -> None:
    table = add_checks(described(content=pa.array(["3"]), candidates=pa.array([["x"]])), [], [""])
    assert table.schema.names == [*schema.GENERATED.names, *schema.CHECKS.names, "candidates"]


def test_no_rows_have_the_columns_too() -> None:
    table = add_checks(described().slice(0, 0), [], [])
    assert table.schema.equals(pa.schema([*schema.GENERATED, *schema.CHECKS]))


def test_attributes_support_numbers() -> None:
    table = add_checks(described(), [], ["Since: 1998\nPrice: 12\n"])
    assert table.column("unsupported_numbers").to_pylist() == [["3"]]
