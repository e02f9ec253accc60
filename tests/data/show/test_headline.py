"""What an artefact is shown with first, of every kind, and of an earlier version's too."""

from pathlib import Path
from typing import Any

import pytest

from data.__main__ import main
from data.artefacts.folder import Artefact, Folder, digest_bytes
from data.artefacts.manifest import Counts, Manifest
from data.show import headline

VERDICT = {
    "label": "Adapter", "headline": "Do not ship: it invents numbers", "passed": False,
    "lines": [
        {"key": "ended", "claim": "Ends by itself", "told": "9 of 9 texts", "outcome": "met"},
        {"key": "unsupported", "claim": "Invents numbers", "told": "8 of 9", "outcome": "missed"},
        {"key": "gap", "claim": "Knows by heart?", "told": "not measured",
         "outcome": "not_measured"},
    ],
}  # fmt: skip
ABOUT: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "clean": ({}, [
        ("rows", "60 of 100 kept (60.0%)"),
        ("drops", "20 a, 10 b, 5 c, 1 for other reasons"), ("broken", "4 in quarantine"),
        ("speed", "50 rows/s"),
    ]),
    "subset": ({"rows": {"train": 50, "test": 10}}, [("splits", "50 train, 10 test")]),
    "train": (
        {"base": "base", "trainable_parameters": 1_000, "final_loss": 0.5, "steps": 1_000,
         "best_validation_loss": 0.45, "best_step": 900, "samples_per_second": 46.25,
         "peak_memory_gib": 0.67, "device": "cpu"},
        [("base", "base, 1,000 weights trained"),
         ("loss", "0.5000 after 1,000 steps, best on validation rows 0.4500 (step 900)"),
         ("speed", "46.2 samples/s, peak 0.67 GiB on cpu")],
    ),
    "plan": (
        {"chosen": "32 rows", "device": "H100", "samples_per_second": 331.0,
         "predicted_seconds": 600},
        [("chosen", "32 rows"), ("speed", "331.0 samples/s on H100"),
         ("foretold", "10 min for the whole run")],
    ),
    "tune": (
        {"best": {"learning_rate": 0.01, "batch_size": 4}, "validation_loss": 1.03,
         "validation_loss_second_seed": 1.04, "trials": [{}, {}], "steps": 300},
        [("best", "learning_rate 0.01, batch_size 4"),
         ("loss", "1.0300 on validation rows, 1.0400 with a second seed"),
         ("trials", "2, 300 steps in all")],
    ),
    "curve": ({"lines": ["one", "two"]}, [("says", "one"), ("", "two")]),
    "export": ({"logits_apart": 0.001},
               [("apart", "logits 1.00e-03 from those of adapter and base")]),
    "generate": (
        {"mean_characters": 410.4, "cut_share": 0.02, "empty": 1, "duplicates": 2,
         "tokens_per_second": 1_296.0},
        [("texts", "410 characters on average, 2.0% cut, 1 empty, 2 said before"),
         ("speed", "1,296 tokens/s, loading included")],
    ),
    "evaluate": (
        {"verdicts": [VERDICT]},
        [("verdict", "Adapter: Do not ship: it invents numbers"),
         ("met", "Ends by itself: 9 of 9 texts"), ("NOT MET", "Invents numbers: 8 of 9")],
    ),
}  # fmt: skip
COUNTS = Counts(100, 60, {"a": 20, "b": 10, "c": 5, "d": 1}, {"invalid_json": 4})


def record(stage: str, facts: dict[str, Any]) -> Manifest:
    return Manifest(stage, {}, {}, (), (), COUNTS, facts=facts, seconds=2.0)


@pytest.mark.parametrize("stage", ABOUT)
def test_each_artefact_is_led_by_what_is_asked_of_it(stage: str) -> None:
    facts, expected = ABOUT[stage]
    lines = list(headline.of(record(stage, facts), Folder("x")))
    pairs = [(name, text) for name, text, _ in lines]
    assert [pair for pair in pairs if pair in expected] == expected
    assert pairs[-2:] == [("time", "2 s"), ("where", "x")]


@pytest.mark.parametrize("stage", [*ABOUT, "titles", "of a later version"])
def test_facts_that_are_missing_are_left_out(stage: str) -> None:
    assert [name for name, _, _ in headline.of(record(stage, {}), Folder("x"))][-2:] == [
        "time", "where",
    ]  # fmt: skip


def test_outcomes_have_their_colours() -> None:
    lines = headline.of(record("evaluate", {"verdicts": [VERDICT]}), Folder("x"))
    colours = {name: colour for name, _, colour in lines if colour}
    assert colours == {"verdict": "red", "met": "green", "NOT MET": "red"}
    passed = {"verdicts": [VERDICT | {"passed": True}]}
    assert next(headline.of(record("evaluate", passed), Folder("x")))[2] == "green"


def test_a_report_is_shown_by_its_folder_or_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, page = Folder(str(tmp_path)), b"<html>"
    folder.commit("report.html", page)
    output = Artefact("report.html", 60, len(page), digest_bytes(page))
    made = Manifest("evaluate", {}, {}, (), (output,), COUNTS, facts={"verdicts": [VERDICT]})
    made.write(folder)
    shown = []
    for path in (tmp_path, tmp_path / "report.html"):
        assert main(["show", str(path)]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert f"\nwhere     {tmp_path}, report.html\n" in shown[0]
    assert "\nNOT MET   Invents numbers: 8 of 9\n" in shown[0]
