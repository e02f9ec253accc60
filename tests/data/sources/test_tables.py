"""Tables: what is one, and what only looks like it."""

import pytest

from data.sources import kinds


@pytest.mark.parametrize(
    "text",
    [
        ",uid,title,content\n0,1,a,b\n1,2,c,d\n",  # as pandas writes its index
        "uid,title,content,\n1,a,b,\n2,c,d,\n",
        "uid,title,content\n1,a,b,c\n2,d,e,f\n",  # named as ours: its rows are at fault
    ],
)
def test_a_header_may_lack_a_name_or_rows_that_fit(text: str) -> None:
    found = kinds.recognise(text.encode())
    assert (found.form, found.separator) == ("table", ",")


@pytest.mark.parametrize("text", ["\0\0,\0\0\n1,2\n3,4\n", ",\n1,2\n3,4\n", "a,,b\n1,2,3\n4,5,6\n"])
def test_what_can_be_no_header_makes_no_table(text: str) -> None:
    assert kinds.recognise(text.encode()).form != "table"
