"""Whatever bytes are posted, the answer is the protocol's, and never a fault of the server."""

import asyncio
import json
import time
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from data.errors import ConfigError, ModelError
from inference import fidelity
from inference.ask import Answer
from inference.config import ServeConfig
from inference.engine import BusyError
from inference.serve.guard import Policy
from inference.serve.line import Line
from inference.serve.openai import Door

PATHS = st.sampled_from(["/v1/chat/completions", "/v1/completions"])
FUZZ = settings(max_examples=400)


class Assistant:
    """Answers at once what it is asked, or raises what it is told to."""

    config = SimpleNamespace(seed=1)

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault

    def answer(self, question: str, title: str | None, **_: Any) -> Generator[Answer, None, None]:
        if self.fault:
            raise self.fault
        question.encode()
        yield Answer(question, "invented", title, [], 1, 0.7)
        yield Answer(question, "invented", title, [], 1, 0.7, answer="Boils.", finish_reason="stop",
                     checks=fidelity.check("Boils.", title or "", ""))  # fmt: skip


def _client(assistant: Assistant, **config: Any) -> TestClient:
    return TestClient(_door(assistant, **config), base_url="http://localhost")


def _door(assistant: Assistant, **config: Any) -> Door:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError("handed on")

    policy = Policy(frozenset({"localhost"}), False, ())
    own = ServeConfig(run="store/run", **config)
    return Door(app, cast(Any, assistant), policy, own, Line(2, 4))


@pytest.fixture(scope="module")
def client() -> TestClient:
    return _client(Assistant())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["model", "messages", "prompt", "temperature", "seed", "stop", "max_tokens", "n", "stream",
     "stream_options", "title", "anyway", "top_p", "logit_bias", "tools", "best_of", "user",
     "max_completion_tokens", "response_format", "presence_penalty"]
)  # fmt: skip
GOOD = {"model": "run", "messages": [{"role": "user", "content": "Kettle?"}]}


def _check(client: TestClient, path: str, body: bytes) -> int:
    answer = client.post(path, content=body)
    assert answer.status_code in (200, 400, 404, 413), answer.text
    if answer.status_code != 200:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    return int(answer.status_code)


@FUZZ
@given(PATHS, st.binary(max_size=200))
@example("/v1/completions", b"[" * 50_000)
@example("/v1/completions", b'{"a":' * 20_000)
@example("/v1/completions", b'{"model": "run", "prompt": "\\ud800"}')
@example("/v1/completions", b'{"model": "run", "prompt": "x", "temperature": NaN}')
@example("/v1/completions", b'{"model": "run", "prompt": "x", "temperature": 1e999}')
@example("/v1/completions", b'{"model": "run", "prompt": "x", "seed": ' + b"9" * 5_000 + b"}")
@example("/v1/completions", b'{"model": "run", "prompt": "x", "n": 1e400}')
@example("/v1/completions", b'{"model": "run", "prompt": "x", "n": -9e30}')
@example("/v1/completions", b'{"\\ud800": 1}')
@example("/v1/completions", b'{"model": "run", "prompt": "x", "model": ["run"]}')
@example("/v1/completions", b"\xef\xbb\xbf{}")
@example("/v1/completions", b"null")
def test_bytes(client: TestClient, path: str, body: bytes) -> None:
    assert _check(client, path, body) != 200


@FUZZ
@given(PATHS, JSON)
def test_any_json(client: TestClient, path: str, value: Any) -> None:
    _check(client, path, json.dumps(value).encode())


@FUZZ
@given(PATHS, st.dictionaries(NAMES, JSON, max_size=4))
def test_wrong_values_of_right_fields(client: TestClient, path: str, fields: Any) -> None:
    good = GOOD if "chat" in path else {"model": "run", "prompt": "Kettle?"}
    _check(client, path, json.dumps(good | fields).encode())


def test_the_good_body_is_good(client: TestClient) -> None:
    assert _check(client, "/v1/chat/completions", json.dumps(GOOD).encode()) == 200
    body = json.dumps(GOOD | {"stream": True}).encode()
    answer = client.post("/v1/chat/completions", content=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (BusyError("answers", "fewer", "as many", "again"), 429, "overloaded"),
        (ModelError("question, title and more", "fewer", "more"), 400, "context_length_exceeded"),
        (ConfigError("question", "text", "none"), 400, "invalid_value"),
        (ModelError("answers", "a model", "none"), 503, None),
        (ZeroDivisionError("secret"), 500, None),
    ],
)
def test_faults_of_an_answer(fault: Exception, status: int, code: str | None, stream: bool) -> None:
    body = GOOD | {"stream": stream}
    answer = _client(Assistant(fault)).post("/v1/chat/completions", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert "secret" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 429)


class Endless(Assistant):
    """Writes until nobody reads any more."""

    is_closed = False

    def answer(self, question: str, title: str | None, **_: Any) -> Generator[Answer, None, None]:
        try:
            for count in range(10_000):
                time.sleep(0.001)
                yield Answer(question, "invented", title, [], 1, 0.7, answer="so " * count)
        finally:
            self.is_closed = True


async def _post(door: Door, body: bytes, seconds: float) -> list[dict[str, Any]]:
    """Post to a door, leave after so many seconds; return what was sent."""
    headers = [(b"host", b"localhost"), (b"content-length", str(len(body)).encode())]
    path = "/v1/chat/completions"
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    received = iter([{"type": "http.request", "body": body}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if message := next(received, None):
            return message
        await asyncio.sleep(seconds)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await asyncio.wait_for(door(scope, receive, send), 10)
    return sent


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_ends_when_its_client_has_gone(stream: bool) -> None:
    endless = Endless()
    body = json.dumps(GOOD | {"stream": stream}).encode()
    began = time.monotonic()
    asyncio.run(_post(_door(endless), body, 0.1))
    while not endless.is_closed:
        assert time.monotonic() < began + 5
        time.sleep(0.01)


def test_too_many_are_refused() -> None:
    door, body = _door(Endless()), json.dumps(GOOD).encode()

    async def ask_all() -> list[list[dict[str, Any]]]:
        # Two are in work, four wait.
        return await asyncio.gather(*(_post(door, body, 0.5) for _ in range(8)))

    answers = [sent for sent in asyncio.run(ask_all()) if sent]
    assert [start["status"] for start, _ in answers] == [429, 429]
    start, refusal = answers[0]
    assert json.loads(refusal["body"])["error"]["type"] == "rate_limit_error"
    assert b"retry-after" in dict(start["headers"])


def test_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_API_KEY", "sesame")
    client = _client(Assistant())
    assert client.get("/v1/models").status_code == 401
    for wrong in ("Bearer", "Bearer ", "Basic sesame", "sesame", "Bearer s\xe9same"):
        headers = {"authorization": wrong.encode("latin-1").decode("latin-1")}
        encoded = [(b"authorization", headers["authorization"].encode("latin-1"))]
        assert client.get("/v1/models", headers=cast(Any, encoded)).status_code == 401
    assert client.get("/v1/models", headers={"authorization": "bearer sesame"}).status_code == 200
    # A key of the command line stands before it.
    other = _client(Assistant(), api_key="open")
    assert other.get("/v1/models", headers={"authorization": "Bearer open"}).status_code == 200


def test_a_key_that_no_client_can_send_is_refused(tmp_path: Path) -> None:
    for key in ("", " ", "schlüssel"):
        with pytest.raises(ConfigError, match="--api_key"):
            ServeConfig(api_key=key)
