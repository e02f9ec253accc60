"""The command compare: two reports become one page, and what is no report is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.artefacts.folder import Artefact, Folder, digest_bytes
from data.artefacts.manifest import Counts, Manifest
from data.errors import ConfigError, ManifestError
from inference.__main__ import main
from inference.compare import command
from inference.compare.config import CompareConfig
from tests.reports import estimate, make_report


def _write(folder: Path, report: dict[str, Any]) -> str:
    payload = json.dumps(report).encode()
    (to := Folder(str(folder))).commit("report.json", payload)
    output = Artefact("report.json", 0, len(payload), digest_bytes(payload))
    Manifest("evaluate", {}, {"run": folder.name}, (), (output,), Counts()).write(to)
    return str(folder)


@pytest.fixture
def reports(tmp_path: Path) -> list[str]:
    """Reports of 1,000 and of 10,000 rows; the second keeps more title words and copies more."""
    one, two = make_report(run="1k"), make_report(run="10k", missed=[])
    two["sides"]["unseen"]["scores"]["adapter"] |= {
        "title_words": estimate(60.0), "copied": estimate(70.0),
    }  # fmt: skip
    two["rows"][0]["texts"]["adapter"]["scores"]["rougeL"] = 44.0
    two["rows"][1]["texts"]["adapter"]["text"] = "<b>It</b> steams."
    two["rows"][1]["texts"]["adapter"]["scores"]["rougeL"] = 2.0
    return [_write(tmp_path / "1k", one), _write(tmp_path / "10k", two)]


def test_runs_stand_side_by_side(
    reports: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["compare", "--reports", json.dumps(reports), "--out", out]) == 0
    said = capsys.readouterr().out
    assert "10k against 1k, unseen titles" in said
    assert "surely better  Title words kept, +30.0%" in said
    assert "surely worse   Copied share, +40.0%" in said
    html = (tmp_path / "out/compare.html").read_text()
    assert "Surely better</b>: Title words kept" in html
    assert "Both were asked about the same rows" in html
    order = ["Gained most", "ROUGE-L +34.0 points", "Lost most", "ROUGE-L -8.0 points"]
    places = [html.index(words) for words in order]
    assert places == sorted(places)
    assert "&lt;b&gt;It&lt;/b&gt; steams." in html
    for banned in ("<script", " style=", "src=", "http://"):
        assert banned not in html
    values = json.loads((tmp_path / "out/compare.json").read_text())
    assert values["pairs"][0]["scores"]["title_words"]["value"] == 30


def test_the_outcomes_of_every_line_stand_beside_each_other(
    reports: list[str], tmp_path: Path
) -> None:
    command.run(CompareConfig(reports=reports, out=str(tmp_path / "out")))
    table = (tmp_path / "out/compare.html").read_text().split("<tbody>")[1].split("</tbody>")[0]
    assert "unsupported?" in table
    assert 'data-name="1k" class="worse">✕ missed' in table
    assert 'data-name="10k" class="empty">–' in table
    assert "2,000 rows" in table


def test_a_finished_comparison_is_left_alone_and_other_reports_are_another(
    reports: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CompareConfig(reports=reports, out=str(tmp_path / "out"))
    first = command.run(config)
    assert command.run(config).digest == first.digest
    assert "already finished" in capsys.readouterr().out
    code = main(["compare", "--reports", json.dumps(reports[::-1]), "--out", config.out])
    assert code == 1
    assert "--overwrite" in capsys.readouterr().err


def test_other_rows_are_told(reports: list[str], tmp_path: Path) -> None:
    other = make_report(run="other", texts=["Only one."])
    paths = [reports[0], _write(tmp_path / "other", other)]
    command.run(CompareConfig(reports=paths, out=str(tmp_path / "out")))
    assert "asked about different rows" in (tmp_path / "out/compare.html").read_text()


def test_what_is_no_report_is_refused(reports: list[str], tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    for given in ([], reports[:1], reports[0], [reports[0], reports[0] + "/"]):
        with pytest.raises(ConfigError, match="--reports"):
            CompareConfig(reports=given, out=out)
    with pytest.raises(ManifestError):
        command.run(CompareConfig(reports=[reports[0], str(tmp_path / "none")], out=out))
    (Path(reports[1]) / "report.json").write_text("{}")
    with pytest.raises(ManifestError):
        command.run(CompareConfig(reports=reports, out=out))
