"""Blocks of very many records: parsed in pieces, with the same rows and faults."""

import json
from pathlib import Path

import pytest

from preprocessing import forms
from preprocessing.fields import Fields
from preprocessing.files import find
from preprocessing.forms import read

ROWS = [{"uid": str(i), "title": f"caf\u00e9 {i}", "content": 'it\'s "c"'} for i in range(40)]
JSON = [json.dumps(row, ensure_ascii=False) for row in ROWS]
TABLE = "".join(f'{i},caf\u00e9,"a\nb"\n' for i in range(40))
PAYLOADS = {
    "lines": "\n".join([*JSON[:9], "", "{broken", *JSON[9:], ""]).encode(),
    "array": f"[{', '.join([*JSON[:9], '17', *JSON[9:]])}]".encode(),
    "dicts": "\n".join([*map(str, ROWS[:20]), "{'uid': ", *map(str, ROWS[20:])]).encode(),
    "table": f"uid,title,content\n{TABLE[:300]}\n1,2\n{TABLE[300:]}".encode(),
    "utf-16": "\n".join([*JSON[:9], "{broken", *JSON[9:]]).encode("utf-16"),
}


@pytest.mark.parametrize("form", PAYLOADS)
@pytest.mark.parametrize("uid", ["uid", None])
def test_a_block_in_pieces_gives_the_same_rows_and_faults(
    form: str, uid: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "raw"
    path.write_bytes(PAYLOADS[form])
    (file,) = find(str(path))
    fields = Fields(uid=uid)
    [(block, _)] = forms.records(file, fields, 2**20, 10_000)
    whole = forms.parse(block, file, fields, 10_000)
    assert whole.rows.num_rows >= 39
    assert whole.quarantine.num_rows
    monkeypatch.setattr(read, "_MOST_RECORDS", 7)
    pieces = forms.parse(block, file, fields, 10_000)
    assert pieces.rows.equals(whole.rows)
    assert pieces.quarantine.equals(whole.quarantine)
    assert (pieces.lines, pieces.blank) == (whole.lines, whole.blank)
