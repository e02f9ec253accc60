"""The judge: both orders, its cache, its retries and faults, and what its answers mean."""

import json
from pathlib import Path

import pytest

from data.errors import ModelError, NetworkError
from inference.evaluate.judging import judge, pairs
from inference.evaluate.judging.judge import Judge
from inference.evaluate.judging.pairs import Pair
from tests.judging import judging, prefer_left, prefer_whole_words

TEXTS = [
    (f"Kettle No. {i}",
     f"This kettle boils {i} litres in a few minutes. Its handle stays cool, and the lid opens by "
     f"one button; the {i} th of its series comes with a filter for hard water.")
    for i in range(100)
]  # fmt: skip
SAME = [Pair(title, text, text + " Buy it.") for title, text in TEXTS[:20]]


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(judge.KEY, raising=False)


def test_who_prefers_the_left_gives_half_and_position_bias_of_all(tmp_path: Path) -> None:
    with judging(prefer_left) as stub:
        said = Judge.open(stub.url, None, str(tmp_path / "out")).compare(SAME)
    assert len(stub.asked) == 40
    assert (said["win_rate"], said["position_bias"], said["unjudged"]) == (0.5, 1, 0)


def test_damaged_texts_lose_at_least_90_of_100(tmp_path: Path) -> None:
    damaged = [Pair(t, text, pairs.damage(text, str(i))) for i, (t, text) in enumerate(TEXTS)]
    with judging(prefer_whole_words) as stub:
        said = Judge.open(stub.url, "stub", str(tmp_path / "out")).compare(damaged)
    assert said["pairs"] == 100
    assert said["won"] >= 90
    assert said["position_bias"] == 0


def test_a_rerun_asks_nothing_again(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    with judging(prefer_whole_words) as stub:
        first = Judge.open(stub.url, "stub", out).compare(SAME)
        count = len(stub.asked)
        again = Judge.open(stub.url, "stub", out)
        assert again.compare(SAME) == first
        assert len(stub.asked) == count
        assert (again.bill.questions, again.bill.asked, again.bill.tokens) == (40, 0, 0)
        # Another model is another judge.
        Judge.open(stub.url, "other", out).compare(SAME[:1])
        assert len(stub.asked) == count + 2


def test_equal_texts_are_ties_that_nobody_is_asked_about(tmp_path: Path) -> None:
    with judging(prefer_left) as stub:
        said = Judge.open(stub.url, "stub", str(tmp_path / "o")).compare([Pair("t", "a", "a")])
    assert not stub.asked
    assert (said["win_rate"], said["position_bias"]) == (0.5, 0)


def test_faults_are_retried_and_counted(tmp_path: Path) -> None:
    with judging(prefer_left) as stub:
        stub.faults = [(503, "busy"), (429, "slow down")]
        asked = Judge.open(stub.url, "stub", str(tmp_path / "out"))
        said = asked.compare(SAME[:2])
    assert (said["unjudged"], asked.bill.failed, asked.bill.retries) == (0, 0, 2)


def test_a_server_that_stays_away_ends_it_but_keeps_what_was_said(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with judging(prefer_left) as stub:
        Judge.open(stub.url, "stub", str(out)).compare(SAME[:2])
        stub.faults = [(500, "broken")] * 1_000
        with pytest.raises(NetworkError, match="10 questions stayed without an answer"):
            Judge.open(stub.url, "stub", str(out)).compare(SAME)
    lines = (tmp_path / "out-judge" / judge.CACHE).read_text().splitlines()
    assert len(lines) == 4
    assert {json.loads(line)["side"] for line in lines} == {"left"}
    with pytest.raises(NetworkError, match="a judge that answers"):
        Judge.open("http://127.0.0.1:9/v1", None, str(out))


def test_the_key_comes_from_the_environment_and_a_wrong_one_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(judge.KEY, "sesame")
    with judging(prefer_left) as stub:
        Judge.open(stub.url, "stub", str(tmp_path / "out")).compare(SAME[:1])
        assert stub.keys == {"Bearer sesame"}
        stub.faults = [(401, "no such key")]
        with pytest.raises(ModelError, match="JUDGE_API_KEY"):
            Judge.open(stub.url, "stub", str(tmp_path / "new")).compare(SAME[:1])


def test_models_that_think_get_other_limits(tmp_path: Path) -> None:
    with judging(prefer_left) as stub:
        stub.faults = [(400, "'temperature' is not supported"), (400, "'max_tokens' is unknown")]
        one = Judge.open(stub.url, "stub", str(tmp_path / "out"))
        one.compare([Pair("t", "a", "a b")])
        stub.faults = [(400, "the model is on holiday")]
        with pytest.raises(ModelError, match="on holiday"):
            one.compare([Pair("t", "b", "a b")])
    assert all("messages" in body for body in stub.asked)
    assert "max_completion_tokens" in stub.asked[-1]
    assert "temperature" not in stub.asked[-1]


@pytest.mark.parametrize(
    ("said", "side"),
    [
        ("A", "left"), (" b.", "right"), ("**C**", "neither"), ("Answer: B", "right"),
        ("The better one is A, as B repeats itself.", "left"),
        ("<think>A is short, B longer</think>\nB", "right"), ("<think>A or B, hm", None),
        ("Both are fine.", None), ("", None), ("Apples", None),
        ("A good text, both of them.", None), ("I think B is clearly better.", "right"),
    ],
)  # fmt: skip
def test_what_an_answer_means(said: str, side: str | None) -> None:
    assert judge.side_of(said) == side
