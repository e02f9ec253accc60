"""The server: what it answers, refuses and never fetches; the command and the page agree."""

import io
import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

pytest.importorskip("fastapi", reason="the extra `ui` is not installed")

import httpx

from data.artefacts.run import Run
from inference.__main__ import main
from tests import asking
from tests.builders import CATALOGUE, write_clean
from tests.serving import serving


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clean(tmp_path_factory.mktemp("web") / "clean", CATALOGUE, parts=1)


@pytest.fixture(scope="module")
def votes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("votes") / "feedback"


@pytest.fixture(scope="module")
def server(
    clean: Path, run: Path, votes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    report = tmp_path_factory.mktemp("report") / "report.html"
    report.write_text("<p>92 % of the nouns</p>")
    words = (f"--run={run}", f"--catalogue={clean}", "--device=cpu", f"--report={report.parent}")
    with serving(*words, f"--feedback={votes}") as started:
        yield started


@pytest.fixture(scope="module")
def client(server: tuple[str, Any]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server[0], timeout=30) as opened:
        yield opened


def named(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == name]


def test_health_says_what_answers(client: httpx.Client, run: Path) -> None:
    health = client.get("/health").json()
    assert health == {
        **{"status": "ok", "model": Run.open(str(run)).digest, "catalogue": health["catalogue"]},
        **{"answering": 0, "waiting": 0},
    }


def test_the_page_names_nothing_elsewhere_and_holds_no_script_or_style(
    client: httpx.Client,
) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    page = answer.text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    own = re.findall(r"(?:src|href)=\"([^\"#]+)", page)
    for path in own:
        assert path.startswith("/static/")
        file = client.get(path)
        assert file.status_code == 200
        assert "://" not in file.text.replace("http://www.w3.org/2000/svg", "")
    report = client.get("/report")
    assert report.text == "<p>92 % of the nouns</p>"
    assert "default-src 'none'" in report.headers["content-security-policy"]
    assert "script" not in report.headers["content-security-policy"]


def test_the_page_and_the_command_give_the_same_json(
    client: httpx.Client, clean: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question = "me fale sobre o quiet violn"
    words = (f"--run={run}", f"--catalogue={clean}", "--device=cpu", "--seed=11", "--compare")
    assert main(["ask", question, *words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["answer"]
    assert answer["base_answer"] is not None
    assert asking.answer(client, question, compare=True, seed=11) == answer


def test_an_answer_comes_as_events(client: httpx.Client) -> None:
    events = asking.events(client, {"question": "The Quiet Violin?", "seed": 4})
    found, *texts, checks, done = events
    assert (found["event"], found["status"]) == ("found", "answered")
    assert found["record"]["uid"] == "u2"
    assert "A novel of a violin" in found["record"]["content"]
    text = ""
    for event in texts:
        assert event["event"] == "text"
        text = text[: event["from"]] + event["text"]
    assert text == done["answer"]["answer"]
    assert checks["title_words"]["kept"] == done["answer"]["checks"]["title_words_kept"]
    assert done["answer"]["seed"] == 4


@pytest.mark.parametrize(
    ("question", "code"), [("", "empty"), ("?!", "empty"), ("x" * 3_000, "too_long")]
)
def test_what_cannot_be_answered_is_named(client: httpx.Client, question: str, code: str) -> None:
    (only,) = asking.events(client, {"question": question})
    assert (only["event"], only["code"]) == ("refused", code)


def test_several_titles_are_offered_and_one_chosen(client: httpx.Client) -> None:
    found, done = asking.events(client, {"question": "green copper kettle"})
    assert found["status"] == "which"
    assert [match["title"] for match in found["matches"]] == [CATALOGUE[0][1], CATALOGUE[1][1]]
    assert done["answer"]["answer"] is None
    answer = asking.answer(client, "green copper kettle", title=CATALOGUE[1][1])
    assert answer["record"]["uid"] == "u1"


def test_without_a_title_there_is_an_answer_only_where_it_may_be_invented(
    client: httpx.Client,
) -> None:
    assert asking.answer(client, "zanzibar teapot")["status"] == "no_match"
    answer = asking.answer(client, "zanzibar teapot", anyway=True)
    assert answer["status"] == "invented"
    assert answer["answer"] is not None


def test_titles_are_suggested(client: httpx.Client) -> None:
    def suggested(question: str) -> Any:
        return client.post("/suggest", json={"question": question}).json()["titles"]

    assert suggested("what is the quiet vio")[0] == "The Quiet Violin"
    for nothing in ("", "wh", "x" * 2_600, "?????"):
        assert suggested(nothing) == []


def test_votes_are_kept_with_what_they_are_about(client: httpx.Client, votes: Path) -> None:
    done = asking.events(client, {"question": "The Quiet Violin", "seed": 5})[-1]
    for vote in ({"thumb": "up"}, {"thumb": "down", "word": " made up "}):
        assert client.post("/feedback", json={"id": done["id"], **vote}).status_code == 200
    table = pq.read_table(votes).to_pylist()
    assert [(row["thumb"], row["word"]) for row in table] == [("up", ""), ("down", "made up")]
    assert {row["answer"] for row in table} == {done["answer"]["answer"]}
    assert {(row["uid"], row["seed"], row["answer_id"]) for row in table} == {("u2", 5, done["id"])}
    for wrong, status in (
        ({"id": "x", "thumb": "up"}, 404), ({"id": done["id"], "thumb": "so"}, 422),
        ({"id": done["id"], "thumb": "up", "word": "x" * 301}, 422),
    ):  # fmt: skip
        assert client.post("/feedback", json=wrong).status_code == status
    assert len(pq.read_table(votes)) == 2


def test_a_list_of_titles_becomes_a_table(client: httpx.Client) -> None:
    titles = ["The Quiet Violin", "", "Zanzibar  Teapot 7", "x" * 3_000]
    events = asking.events(client, {"titles": titles, "seed": 3}, "/write")
    begun, *rows, done = events
    assert begun == {"event": "begun", "rows": 3}
    assert [row["place"] for row in rows] == [1, 2, 3]
    assert [row["in_catalogue"] for row in rows] == [True, False, None]
    assert rows[1]["title"] == "Zanzibar Teapot 7"  # repaired as trained titles are
    assert "at most 2,500" in rows[2]["refused"]
    assert (done["rows"], done["refused"]) == (3, 1)
    parquet = client.get(f"/write/{done['id']}.parquet")
    table = pq.read_table(io.BytesIO(parquet.content)).to_pylist()
    for row, event in zip(table, rows, strict=True):
        assert {**row, "event": "row", "place": event["place"]} == event
    csv = client.get(f"/write/{done['id']}.csv")
    assert csv.headers["content-disposition"] == 'attachment; filename="descriptions.csv"'
    assert csv.text.splitlines()[0].lstrip("\ufeff").startswith("uid,title,description,")
    # The same seed writes the same, and the same as an answer to a question would be.
    again = asking.events(client, {"titles": titles[:1], "seed": 3}, "/write")[1]
    assert again["description"] == rows[0]["description"]
    answer = asking.answer(client, "The Quiet Violin", seed=3)
    assert answer["answer"] == again["description"]


def test_a_csv_of_titles_is_read_by_its_column(client: httpx.Client) -> None:
    def write(csv: str) -> list[dict[str, Any]]:
        return asking.events(client, {"csv": csv}, "/write")

    rows = named(write('uid,title\na,"Kettle, green"\nb\nc,\n'), "row")
    assert [(row["uid"], row["title"]) for row in rows[::2]] == [("a", "Kettle, green"), ("c", "")]
    assert [row["refused"] for row in rows] == [None, "wrong_field_count", "empty_title"]
    assert write("name\nKettle\n")[0]["code"] == "csv"
    assert write("title\n")[0]["code"] == "titles_none"
    assert write("title\n" + "Kettle\n" * 501)[0]["code"] == "titles_many"
    assert client.post("/write", json={"csv": "x" * 2**20}).status_code == 413


def test_what_cannot_be_served_is_said(
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
    for question, answers in together.answers.items():
        assert answers == alone.answers.get(question, answers)
        assert len(answers) == 1


def test_the_server_ends_when_it_is_told_to(server: tuple[str, "subprocess.Popen[str]"]) -> None:
    server[1].send_signal(signal.SIGINT)
    assert server[1].wait(30) in (0, 130)
