"""The demo sums up honestly, and ends where a step does."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests import demo
from tests.demo import Step

ROW = {
    "side": "unseen", "title": "Acme Copper Kettle", "reference": "A kettle of copper.",
    "texts": {"adapter": {"text": "This kettle boils water."}, "base": {"text": "kett kett"}},
}  # fmt: skip


def report(passed: bool, *rows: dict[str, Any]) -> None:
    headline = "Fit to ship" if passed else "Do not ship: it invents numbers"
    folder = Path(demo.REPORT)
    folder.mkdir(parents=True)
    values = {
        "verdicts": [{"label": "Adapter", "headline": headline, "passed": passed}],
        "rows": [{**row, "uid": str(place)} for place, row in enumerate(rows)],
    }
    (folder / "report.json").write_text(json.dumps(values))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "STEPS", (Step("calendar 2026 11", 90),))


@pytest.mark.parametrize("passed", [True, False])
def test_it_says_how_long_it_takes_what_came_out_and_what_is_next(
    passed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    report(passed, ROW, ROW | {"side": "seen"})
    assert demo.main() == 0
    told = capsys.readouterr().out
    assert told.startswith("1 commands on 5,000 invented records: some 2 min")
    assert "\n1/1 calendar 2026: some 2 min\npython -m calendar 2026 11\n" in told
    assert "November 2026" in told
    assert "\n1/1 calendar 2026: 0 s\n" in told
    assert "base      kett kett\nadapter   This kettle boils water.\nreal      A kettle" in told
    assert "1 of 1 texts name their title's own noun" in told
    assert ("it shows that every stage works" in told) is not passed
    assert told.endswith("\nnext:\n  make serve\n")


def test_a_model_that_learned_nothing_fails() -> None:
    report(False, ROW, *[ROW | {"texts": {"adapter": {"text": "Words."}}}] * 2)
    assert demo.main() == 1


def test_it_ends_where_a_step_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "STEPS", (Step("calendar no", 1), Step("calendar 2026", 1)))
    assert demo.main() == 1
    printed = capsys.readouterr()
    assert "error: the demo ends here: calendar no" in printed.err
    assert "2/2" not in printed.out
