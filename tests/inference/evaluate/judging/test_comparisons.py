"""What evaluate shows of a judge, of meaning and of votes: ready texts and a stub of a judge."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from data import subset
from data.subset import SubsetConfig
from inference.config import EvaluateConfig
from inference.evaluate import command
from inference.evaluate.judging.pairs import Pair
from inference.evaluate.judging.votes import Ballot
from tests.builders import save_meaning, write_clean
from tests.judging import judging, prefer_left, prefer_whole_words

NOUNS = ("kettle", "lamp", "novel", "jacket")
ROWS = [
    (f"u{i}", f"{NOUNS[i % 4].title()} No. {i}",
     f"This {NOUNS[i % 4]} is the {i} th of its kind, made by hand, and lasts {i * 7} years; "
     "nobody says more of it than that.")
    for i in range(60)
]  # fmt: skip


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    clean = write_clean(folder / "clean", ROWS, held_out=0.4)
    subset.run(SubsetConfig(clean=str(clean), out=str(folder / "subset")))
    return folder / "subset"


@pytest.fixture(scope="module")
def texts(sample: Path) -> list[str]:
    """Two files of ready texts: one of plain sentences, the other half as long and with an echo."""
    files = []
    for name, form in (
        ("plain", "This is {0}, made by hand for people who like good things."),
        ("echo", "{0} {0} and {0} {0} and {0} {0} mAde bY hAnd"),
    ):
        file = sample.parent / f"{name}.jsonl"
        lines = ({"uid": uid, "description": form.format(title)} for uid, title, _ in ROWS)
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        files.append(str(file))
    return files


def _evaluate(texts: list[str], sample: Path, out: Path, **fields: Any) -> dict[str, Any]:
    command.run(
        EvaluateConfig(
            generated=texts, subset=str(sample), out=str(out), resamples=100, **fields
        )
    )  # fmt: skip
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def test_a_judge_says_which_texts_are_better(
    texts: list[str], sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with judging(prefer_whole_words) as stub:
        report = _evaluate(texts, sample, out, judge=stub.url, judge_pairs=8)
        asked = len(stub.asked)
        page = (out / "report.html").read_text()
        shutil.rmtree(out)
        again = _evaluate(texts, sample, out, judge=stub.url, judge_pairs=8)
        assert len(stub.asked) == asked
    judge = report["judge"]
    by_pair = {(one["one"], one["other"]): one for one in judge["comparisons"]}
    assert set(by_pair) == {
        ("generated:plain.jsonl", "reference"), ("generated:echo.jsonl", "reference"),
        ("generated:echo.jsonl", "generated:plain.jsonl"),
    }  # fmt: skip
    assert by_pair["generated:echo.jsonl", "generated:plain.jsonl"]["won"] == 0
    assert by_pair["generated:echo.jsonl", "generated:plain.jsonl"]["lost"] == 8
    assert judge["control"]["won"] == 2
    assert judge["questions"] == judge["asked"] == asked == 2 * (3 * 8 + 2)
    assert "at most 52 questions" in capsys.readouterr().out
    assert again["judge"]["comparisons"] == judge["comparisons"]
    assert again["judge"]["asked"] == 0
    assert "Which text is better?" in page
    assert "Control: real descriptions against damaged ones" in page


def test_a_judge_of_sides_is_told_by_its_bias(
    texts: list[str], sample: Path, tmp_path: Path
) -> None:
    with judging(prefer_left) as stub:
        report = _evaluate(texts, sample, tmp_path / "out", judge=stub.url, judge_pairs=5)
    assert {(c["win_rate"], c["position_bias"]) for c in report["judge"]["comparisons"]} == {
        (0.5, 1)
    }
    page = (tmp_path / "out" / "report.html").read_text()
    assert ">100.0%<small>5 left, 0 right</small></td>" in page


def test_meaning_is_a_metric_where_a_model_is_named(
    texts: list[str], sample: Path, tmp_path: Path
) -> None:
    words = ("This", "made", "by", "hand", "kettle", "lamp", "novel", "jacket", "lasts", "years")
    folder = save_meaning(tmp_path / "model", words)
    report = _evaluate(texts, sample, tmp_path / "out", semantic=folder)
    scores = report["sides"]["unseen"]["scores"]
    plain, echo = (scores[f"generated:{name}.jsonl"]["semantic"] for name in ("plain", "echo"))
    assert plain["value"] > echo["value"] + 10
    assert plain["rows"] == report["sides"]["unseen"]["rows"]
    assert "semantic" not in scores["reference"]
    assert "Close in meaning" in (tmp_path / "out" / "report.html").read_text()


def test_votes_are_shown_and_those_on_other_texts_left_out(
    texts: list[str], sample: Path, tmp_path: Path
) -> None:
    plain = _evaluate(texts, sample, tmp_path / "first")
    assert plain["judge"] is plain["votes"] is None
    assert "Which text is better?" not in (tmp_path / "first" / "report.html").read_text()
    rows = [row for row in plain["rows"] if row["side"] == "unseen"][:4]
    ballots = [Ballot.open(str(tmp_path / "votes"), name) for name in ("ana", "bo")]
    for ballot in ballots:
        ballot.cast("another", 1)
        for row in rows:
            text = row["texts"]["generated:echo.jsonl"]["text"]
            ballot.cast(Pair(row["title"], text, row["reference"]).key, 0)
    report = _evaluate(texts, sample, tmp_path / "out", votes=str(tmp_path / "votes"))
    [voted] = report["votes"]["comparisons"]
    assert report["votes"]["left_out"] == 2
    assert (voted["one"], voted["other"]) == ("generated:echo.jsonl", "reference")
    assert (voted["votes"], voted["people"], voted["win_rate"]) == (8, 2, 0)
    assert voted["between"] == {"same": 4, "of": 4}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "2 votes are on other texts and left out." in page
