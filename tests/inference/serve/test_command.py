"""The server: what it answers, refuses and never fetches; the command and the page agree."""

import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the extra `ui` is not installed")

from inference.__main__ import main
from inference.ask import Assistant
from inference.config import ServeConfig
from inference.serve import page
from tests.builders import CATALOGUE, write_clean
from tests.serving import serving


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clean(tmp_path_factory.mktemp("web") / "clean", CATALOGUE, parts=1)


@pytest.fixture(scope="module")
def assistant(clean: Path, run: Path) -> Iterator[Assistant]:
    with closing(
        Assistant(ServeConfig(run=str(run), catalogue=str(clean), device="cpu"), 8)
    ) as made:
        yield made


@pytest.fixture(scope="module")
def server(
    clean: Path, run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    report = tmp_path_factory.mktemp("report") / "report.html"
    report.write_text("<p>92 % of the nouns</p>")
    words = (f"--run={run}", f"--catalogue={clean}", "--device=cpu", f"--report={report.parent}")
    with serving(*words) as started:
        yield started


@pytest.fixture(scope="module")
def client(server: tuple[str, Any]) -> Iterator[Any]:
    import httpx

    with httpx.Client(base_url=server[0], timeout=30) as made:
        yield made


def asked(assistant: Assistant, *told: Any) -> list[tuple[Any, ...]]:
    return list(page.updates(assistant, 0, *told))


def downloaded(update: tuple[Any, ...]) -> dict[str, Any]:
    import base64

    held = re.search('base64,([^"]+)', update[3])
    assert held is not None
    told: dict[str, Any] = json.loads(base64.b64decode(held[1]))
    return told


def test_health_tells_what_answers(client: Any, assistant: Assistant) -> None:
    told = client.get("/health").json()
    assert told == {
        **{"status": "ok", "model": assistant.model.digest, "catalogue": told["catalogue"]},
        **{"answering": 0, "waiting": 0},
    }


def test_the_page_names_nothing_elsewhere(client: Any) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    loaded = re.findall(
        r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"(https?:[^\"]+)", answer.text
    )
    assert loaded == []
    assert "connect-src 'self'" in answer.headers["content-security-policy"]
    assert client.get("/report").text == "<p>92 % of the nouns</p>"


def test_the_page_and_the_command_give_the_same_json(
    assistant: Assistant, clean: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question = "me fale sobre o quiet violn"
    words = (f"--run={run}", f"--catalogue={clean}", "--device=cpu", "--seed=11", "--compare")
    assert main(["ask", question, *words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["answer"]
    assert told["base_answer"] is not None
    assert downloaded(asked(assistant, question, None, True, False, 11)[-1]) == told


def test_an_answer_streams_onto_the_page(assistant: Assistant) -> None:
    shown = asked(assistant, "The Quiet Violin?", None, False, False, 4)
    assert "Looking" in shown[0][0]
    assert "tb-busy" in shown[1][1]
    assert "Done" in shown[-1][0]
    assert "tb-busy" not in shown[-1][1]
    assert "A novel of a violin" in shown[-1][3]
    # Ask, stop, another answer.
    assert [each["interactive"] for each in shown[0][5:8]] == [False, True, False]
    assert [each["interactive"] for each in shown[-1][5:8]] == [True, False, True]


@pytest.mark.parametrize(
    ("question", "told"),
    [("", "an empty one"), ("x" * 10_000, "10,000"), ("zanzibar teapot", "No title"),
     ("green copper kettle", "Several titles")],
)  # fmt: skip
def test_what_cannot_be_answered_is_told(assistant: Assistant, question: str, told: str) -> None:
    last = asked(assistant, question, None, False, False, None)[-1]
    assert told in last[0]
    assert 'role="alert"' in last[0]
    assert last[5]["interactive"]


def test_several_titles_are_offered_and_one_chosen(assistant: Assistant) -> None:
    titles = asked(assistant, "green copper kettle", None, False, False, None)[-1][4]
    assert titles["choices"] == [CATALOGUE[0][1], CATALOGUE[1][1]]
    last = asked(assistant, "green copper kettle", CATALOGUE[1][1], False, False, None)[-1]
    assert downloaded(last)["record"]["uid"] == "u1"


@pytest.mark.parametrize("seed", [None, "", "many", float("nan"), [1], 1e400])
def test_a_seed_that_is_no_number_is_the_usual_one(assistant: Assistant, seed: Any) -> None:
    assert (
        downloaded(asked(assistant, "The Quiet Violin", None, False, False, seed)[-1])["seed"]
        == 3407
    )


@pytest.mark.parametrize("question", [None, 7, ["quiet violin"], {"a": 1}])
def test_a_question_that_is_no_text_is_answered_or_refused(
    assistant: Assistant, question: Any
) -> None:
    assert asked(assistant, question, None, False, False, 1)[-1][5]["interactive"]


def test_an_invention_is_marked(assistant: Assistant) -> None:
    last = asked(assistant, "zanzibar teapot", None, False, True, None)[-1]
    assert "not in the catalogue: invented" in last[1]
    assert downloaded(last)["status"] == "invented"


def test_titles_are_suggested(assistant: Assistant) -> None:
    told = page.suggested(assistant, "what is the quiet vio")
    assert told["choices"][0] == "The Quiet Violin"
    assert "value" not in told  # what is chosen meanwhile stays chosen
    for nothing in ("", "wh", "x" * 10_000, "?????"):
        assert page.suggested(assistant, nothing)["visible"] is False


def test_what_cannot_be_served_is_told(
    clean: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = (f"--catalogue={clean}", "--port=0")
    assert main(["serve", *here, f"--run={tmp_path / 'none'}"]) == 1
    assert "the folder of a run or of a model" in capsys.readouterr().err
    assert main(["serve", *here, f"--run={run}", f"--report={tmp_path}"]) == 1
    assert "a report.html" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", f"--catalogue={clean}", f"--run={run}", f"--port={port}"]) == 2
        assert "free port" in capsys.readouterr().err


def test_rude_clients_lose_nobody_an_answer(server: tuple[str, Any]) -> None:
    from tests.benchmarks.serve import Tally, disturb, work

    address = server[0]
    asked = ["What is The Quiet Violin like?", "Green Copper Kettle, 2-Litre?"]
    alone, together = Tally(), Tally()
    work(address, asked, time.monotonic() + 1.5, alone)
    until = time.monotonic() + 4
    threads = [
        *(threading.Thread(target=work, args=(address, asked, until, together)) for _ in range(4)),
        *(
            threading.Thread(target=disturb, args=(address, asked, until, together, i))
            for i in (1, 2)
        ),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert together.errors == together.served == []
    assert together.answers
    for question, told in together.answers.items():
        assert told == alone.answers.get(question, told)
        assert len(told) == 1


def test_the_server_ends_when_it_is_told_to(server: tuple[str, "subprocess.Popen[str]"]) -> None:
    server[1].send_signal(signal.SIGINT)
    assert server[1].wait(30) in (0, 130)
