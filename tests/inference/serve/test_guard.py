"""What stands in front of the page: every route of it, hosts, origins, bodies, idle connections."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the extra `ui` is not installed")

import httpx

from inference.serve import connections, guard
from inference.serve.guard import Call, Policy, Refusal
from tests.builders import run_python, write_clean
from tests.serving import serving

ROWS = [("u0", "The Quiet Violin", "A novel of a violin that nobody plays until the storm comes.")]
POLICY = Policy(
    hosts=frozenset({"localhost", "127.0.0.1", "::1", "shop.example"}),
    any_address=False,
    largest=10_000,
    calls={1: Call(5, True), 4: Call(0, False)},
    triggers=frozenset({7}),
    asks=1,
)
ASKED: list[Any] = ["The Quiet Violin", None, False, False, 7]


@pytest.fixture(scope="module")
def address(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    clean = write_clean(tmp_path_factory.mktemp("guard") / "clean", ROWS, parts=1)
    with serving(f"--run={run}", f"--catalogue={clean}", "--device=cpu") as (url, _):
        yield url


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as made:
        yield made


# In a process of its own: Gradio leaves an event loop open.
ALL_ROUTES = """
import json
import gradio
from fastapi import FastAPI

def walk(app, before=""):
    for route in app.routes:
        path = before + getattr(route, "path", "")
        inner = getattr(route, "original_router", route)
        if getattr(inner, "routes", None):
            yield from walk(inner, path.rstrip("/"))
        for method in getattr(route, "methods", None) or ():
            yield method, path

app = gradio.mount_gradio_app(FastAPI(), gradio.Blocks(), path="/")
print(json.dumps(list(walk(app))))
"""


def test_every_route_that_the_page_does_not_use_is_refused(client: httpx.Client) -> None:
    done = run_python("-c", ALL_ROUTES)
    assert done.returncode == 0, done.stderr
    routes = {
        (method, path.replace("{path:path}", "x").replace("{", "").replace("}", ""))
        for method, path in json.loads(done.stdout.splitlines()[-1])
    }
    assert len(routes) > 80
    open_doors = {
        ("GET", "/"), ("GET", "/theme.css"), ("GET", "/favicon.ico"), ("GET", "/assets/x"),
        ("GET", "/gradio_api/queue/data"),
        *(("POST", path) for path in guard.POSTS if path != guard.ASK),
    }  # fmt: skip
    refused = {}
    for method, path in sorted(routes - open_doors):
        answer = client.request(method, path, json={"data": []} if method == "POST" else None)
        refused[method, path] = answer.status_code
    assert set(refused.values()) <= {404, 405}, refused
    for method, path in sorted(routes & open_doors):
        answer = client.request(method, path, json=[] if method == "POST" else None)
        expected = {422} if method == "POST" or "queue" in path else {200, 404}
        assert answer.status_code in expected, (method, path)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/", "/health", "/gradio_api/call/ask", "/gradio_api/upload"])
def test_other_methods_are_refused(client: httpx.Client, method: str, path: str) -> None:
    assert client.request(method, path).status_code in (404, 405)


@pytest.mark.parametrize(
    "path",
    [
        "/file=/etc/passwd", "/gradio_api/file=/etc/passwd", "/proxy=http://evil.example/",
        "/gradio_api/proxy=http://evil.example/", "/gradio_api/upload", "/config",
        "/gradio_api/process_recording", "/assets/../../x", "/assets/%2e%2e%2fx", "/static/..%2fx",
        "/gradio_api/info", "/docs", "/openapi.json", "/monitoring", "/gradio_api/call/other",
        "/gradio_api/startup-events", "/gradio_api/heartbeat/x",
    ],
)  # fmt: skip
def test_doors_that_are_known_to_be_tried_are_shut(client: httpx.Client, path: str) -> None:
    for method in ("GET", "POST"):
        answer = client.request(method, path, content=b"x" if method == "POST" else None)
        assert answer.status_code in (403, 404, 405), method
        assert len(answer.text.splitlines()) == 1


def test_foreign_hosts_and_origins_are_refused(client: httpx.Client, address: str) -> None:
    for headers in (
        {"host": "evil.example"}, {"host": "evil.example:7860"}, {"host": "127.0.0.1.evil.example"},
        {"host": "192.168.0.7"}, {"host": "localhost@evil.example"}, {"host": ""},
        {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://localhost:1"},
        {"x-forwarded-host": "evil.example"}, {"origin": "file://"},
    ):  # fmt: skip
        answer = client.get("/health", headers=headers)
        assert answer.status_code == 403, headers
        assert "access-control-allow-origin" not in answer.headers
        assert client.post(guard.ASK, headers=headers, json={"data": ASKED}).status_code == 403
    port = address.rpartition(":")[2]
    for headers in ({"origin": address}, {"host": f"localhost:{port}"}, {"host": f"[::1]:{port}"}):
        assert client.get("/health", headers=headers).status_code == 200, headers


def test_a_wildcard_address_is_any_literal_one() -> None:
    for host, told, is_in in (
        ("0.0.0.0", "192.168.0.7:7860", True), ("0.0.0.0", "evil.example", False),  # noqa: S104
        ("::", "[fe80::1]:7860", True), ("192.168.0.7", "192.168.0.7", True),
        ("192.168.0.7", "192.168.0.8", False), ("127.0.0.1", "shop.example:443", True),
    ):  # fmt: skip
        hosts, any_address = guard.names_of(host, ["Shop.Example"])
        policy = Policy(hosts, any_address, 1, {}, frozenset(), 0)
        try:
            guard.check_host({"host": told}, policy)
        except Refusal:
            assert not is_in, told
        else:
            assert is_in, told


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"x", 400), (b"\xff", 400), (b'{"data": ["\\ud800"]}', 400),
        (b"[" * 10_000, 400), (b'{"data":' + b"[" * 4_000 + b"]" * 4_000 + b"}", 400),
        (b'{"data": [NaN]}', 400), (b'{"data": [' + b"9" * 5_000 + b"]}", 400),
        (b"null", 422), (b"[]", 422), (b"{}", 422), (b'{"data": 1}', 422), (b'{"data": []}', 422),
        (b'{"data": ["q", null, false, false, 1e400]}', 422),
        (b'{"data": ["q", null, false, false, 7, 8]}', 422),
        (b'{"data": [["q"], null, false, false, 7]}', 422),
        (b'{"data": ["q", null, false, false, {"a": 1}]}', 422),
        (b'{"data": ["q", null, false, false, 7], "session_hash": "../x"}', 422),
        (b'{"data": ["q", null, false, false, 7], "batched": true}', 422),
        (b'{"data": ["q", null, false, false, 7]}', 0),
    ],
)  # fmt: skip
def test_a_body_is_what_the_page_would_send(body: bytes, status: int) -> None:
    assert status_of(guard.ASK, body) == status


def status_of(path: str, body: bytes) -> int:
    """The status that a post is refused with; 0 for none."""
    try:
        guard.check_post(path, body, POLICY)
    except Refusal as refusal:
        return refusal.status
    return 0


@pytest.mark.parametrize(
    ("more", "is_right"),
    [
        ({}, True), ({"trigger_id": 7}, True), ({"fn_index": 4}, False), ({"fn_index": 99}, False),
        ({"fn_index": True}, False), ({"fn_index": None}, False), ({"fn_index": -1}, False),
        ({"trigger_id": 8}, False), ({"event_data": {}}, False), ({"session_hash": 1}, False),
    ],
)  # fmt: skip
def test_the_page_calls_its_own_functions_only(more: dict[str, Any], is_right: bool) -> None:
    told = {"data": ASKED, "fn_index": 1, "session_hash": "x1"} | more
    status = status_of("/gradio_api/queue/join", json.dumps(told).encode())
    assert status == (0 if is_right else 422)


def test_large_odd_and_unasked_bodies_are_refused(client: httpx.Client) -> None:
    def post(content: Any, **headers: str) -> int:
        told = {"content-type": "application/json"} | headers
        return client.post(guard.ASK, content=content, headers=told).status_code

    assert post(b"x" * 1_000_000) == 413
    assert post(iter([b"x" * 50_000] * 10)) == 413  # in chunks, without its length
    assert post(b'{"data": []}', **{"content-type": "text/plain"}) == 415
    assert post(b"a=b", **{"content-type": "multipart/form-data; boundary=a"}) == 415
    assert client.request("GET", "/health", content=b"x").status_code == 413
    assert client.get("/health", headers={"x": "y" * 100_000}).status_code == 431
    assert client.get(f"/{'x' * 50_000}").status_code == 431


def test_the_reason_arrives_while_a_refused_body_is_still_sent(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as one:
        head = f"POST {guard.ASK} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
        one.sendall(head.encode() + b"x" * 500_000)
        time.sleep(0.3)  # answered by now
        one.sendall(b"x" * 500_000)
        answer = b"".join(iter(lambda: one.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 415")
    assert answer.endswith(b"found another\n")


@pytest.mark.parametrize("pieces", [1, 2, 50])
def test_a_long_head_is_refused_alike_in_any_pieces(address: str, pieces: int) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as one:
        one.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nx: ")
        for _ in range(pieces):
            one.sendall(b"y" * (100_000 // pieces))
            time.sleep(0.02)
        one.sendall(b"\r\n\r\n")
        answer = b"".join(iter(lambda: one.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 431")
    assert answer.endswith(guard.HEAD_IS_TOO_LONG.encode() + b"\n")


@pytest.mark.parametrize("place", [0, 1])
def test_a_long_field_is_refused_at_once(client: httpx.Client, place: int) -> None:
    for filler in ("a", "\u201c", "a b c ", "'"):
        data = list(ASKED)
        data[place] = (filler * 60_000)[: 60_000 // len(filler.encode())]
        began = time.monotonic()
        event = client.post(guard.ASK, json={"data": data})
        if event.status_code == 200:
            said = client.get(f"{guard.ASK}/{event.json()['event_id']}").text
            assert "expected at most 2,500 characters" in said
        else:
            assert event.status_code == 413
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 1e300])
def test_a_seed_that_is_too_large_is_told(client: httpx.Client, seed: float) -> None:
    event = client.post(guard.ASK, json={"data": [*ASKED[:4], seed]}).json()["event_id"]
    assert "expected a signed 64-bit number" in client.get(f"{guard.ASK}/{event}").text


def test_those_who_say_nothing_keep_nobody_out(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(300)]
    try:
        for each in silent[::2]:
            each.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        began = time.monotonic()
        for _ in range(5):
            assert httpx.get(f"{address}/health", timeout=10).status_code == 200
        assert time.monotonic() - began < 5
        # The first ones made room.
        silent[0].settimeout(10)
        assert is_dropped(silent[0])
    finally:
        for each in silent:
            each.close()


def is_dropped(one: socket.socket) -> bool:
    try:
        return one.recv(1) == b""
    except ConnectionResetError:
        return True


def test_half_a_body_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr("inference.serve.guard.BODY_SECONDS", 0.05)
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.sleep(10)

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(*_: Any) -> None:
        pytest.fail("half a body went through")

    headers = {"host": "localhost", "content-type": "application/json", "content-length": "100"}
    encoded = [(key.encode(), value.encode()) for key, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": guard.ASK, "headers": encoded}
    asyncio.run(guard.Guard(app, POLICY)(scope, never, send))
    assert sent[0]["status"] == 408
    assert b"within" in sent[1]["body"]


def test_half_a_head_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    import uvicorn

    monkeypatch.setattr("inference.serve.connections.SECONDS_TO_ASK", 0.2)

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        pytest.fail("half a head went through")

    async def try_it() -> None:
        settings = uvicorn.Config(
            app, http=connections.Connection, ws="none", lifespan="off", port=0, log_level="error"
        )
        server = uvicorn.Server(settings)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            running = asyncio.create_task(server.serve([listener]))
            while not server.started:
                await asyncio.sleep(0.01)
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
            server.should_exit = True
            await running

    asyncio.run(try_it())
