"""Records that stand on one line: how many of them a line in quarantine hides."""

import pytest

from preprocessing.forms import hidden

ONE = b'{"uid": "1", "related": [{"a": {}}, {"b": 2}]}'


@pytest.mark.parametrize(
    ("line", "reason", "count"),
    [
        (ONE, "invalid_json", 0), (ONE[:-1], "invalid_json", 0), (b"junk", "invalid_json", 0),
        (b"\r".join([ONE] * 3), "invalid_json", 2), (ONE + ONE, "invalid_json", 1),
        (b"[" + b", ".join([ONE] * 5) + b"]", "not_an_object", 4), (b"[1]", "not_an_object", 0),
        (b"[" + b", ".join([ONE] * 5) + ONE[:9], "line_too_long", 4),
        (b"\0".join([ONE] * 3), "invalid_json", 2), (ONE + ONE, "missing_field", 0),
        (b"1,a\r2,b\r3,c\r", "wrong_columns", 2), (b"1,a,b", "wrong_columns", 0),
    ],
)  # fmt: skip
def test_records_beside_others_on_a_line_are_counted(line: bytes, reason: str, count: int) -> None:
    assert hidden(line, reason) == count
