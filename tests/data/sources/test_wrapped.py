"""Records inside something else: what it is, and that the command named takes it off."""

import json
import shutil
import subprocess

import pytest

from data.sources import kinds, wrapped

ROWS = [{"uid": str(i), "title": f"t{i}", "content": "c"} for i in range(5)]
LINES = [json.dumps(row) for row in ROWS]


def converted(command: str, payload: bytes) -> list[object]:
    if "jq" in command and not shutil.which("jq"):
        pytest.skip("no jq here")
    run = subprocess.run(["bash", "-c", command], input=payload, capture_output=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ([json.dumps(line) for line in LINES], "JSON lines, each inside quotes"),
        ([json.dumps(list(row.values())) for row in ROWS], "a JSON array a line, not an object"),
        ([f"data: {line}\n" for line in LINES], "JSON lines with 'data: ' or the like before each"),
        ([f"{i}\t{line}" for i, line in enumerate(LINES)],
         "JSON lines with '0\\t' or the like before each"),
    ],
)  # fmt: skip
def test_records_inside_something_on_each_line(lines: list[str], name: str) -> None:
    payload = "".join(line + "\n" for line in lines).encode()
    found = kinds.recognise(payload)
    assert (found.name, found.form) == (name, "")
    assert converted(found.filter, payload) == ROWS


@pytest.mark.parametrize("before", ["var rows = ", ")]}',\n", "callback(", "while(1);"])
def test_code_around_json_is_named(before: str) -> None:
    found = kinds.recognise(f"{before}[{','.join(LINES)}]".encode())
    assert found.name == "code around JSON, such as JavaScript"
    assert found.hint("x") == "take off what stands before and behind the JSON"


def test_objects_that_hold_all_records() -> None:
    columns = {name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]}
    found = wrapped.holder(json.dumps(columns).encode())
    assert found is not None
    assert found.name == "one JSON object that holds a column a key"
    split = {"columns": list(ROWS[0]), "data": [list(row.values()) for row in ROWS]}
    found = wrapped.holder(json.dumps(split).encode())
    assert found is not None
    assert "orient='split'" in found.filter
    keyed = wrapped.holder(json.dumps({"k1": ROWS[0], "k2": ROWS[1]}).encode())
    assert keyed is not None
    assert keyed.name == "one JSON object that holds a record a key"
    # Several objects, the first of which alone looks like a holder.
    assert wrapped.holder(('{"index": {"_id": "1"}}\n' + LINES[0] + "\n").encode()) is None
