"""What stands in front of the page: every route of it, hosts, origins, bodies, idle connections."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `ui` is not installed")

import httpx

from inference.config import ServeConfig
from inference.serve import app, connections, guard
from inference.serve.guard import Policy, Refusal
from tests.builders import write_clean
from tests.serving import serving_forked

ROWS = [("u0", "The Quiet Violin", "A novel of a violin that nobody plays until the storm comes.")]
POLICY = app.policy(ServeConfig(allowed_hosts=("shop.example",)), ["page.js"], True)
ASK = "/ask"
ASKED: dict[str, Any] = {"question": "The Quiet Violin", "seed": 7}


@pytest.fixture(scope="module")
def address(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    clean = write_clean(tmp_path_factory.mktemp("guard") / "clean", ROWS, parts=1)
    with serving_forked(f"--run={run}", f"--catalogue={clean}", "--device=cpu") as url:
        yield url


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as made:
        yield made


def test_every_route_has_a_door_and_no_door_leads_nowhere(client: httpx.Client) -> None:
    reads = {"/": 200, "/health": 200, "/about": 200, f"/write/{'0' * 32}.csv": 404}
    reads |= {f"/static/{name}": 200 for name in app._static_files()}
    posts = {"/ask": 422, "/suggest": 422, "/feedback": 422, "/write": 422}
    for path, status in reads.items():
        assert client.get(path).status_code == status, path
        assert client.post(path, json={}).status_code == 405, path
    for path, status in posts.items():
        answer = client.post(path, json={"no": "such field"})
        assert answer.status_code == status, path
        assert len(answer.text.splitlines()) == 1
        assert client.get(path).status_code == 405, path
    policy = app.policy(ServeConfig(), list(app._static_files()), False)
    for path in {*reads, *posts}:
        assert sum(bool(door.path.fullmatch(path)) for door in policy.doors) == 1, path
    assert len(policy.doors) == len(reads) + len(posts)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/", "/health", "/ask", "/upload"])
def test_other_methods_are_refused(client: httpx.Client, method: str, path: str) -> None:
    assert client.request(method, path).status_code in (404, 405)


@pytest.mark.parametrize(
    "path",
    [
        "/file=/etc/passwd", "/gradio_api/file=/etc/passwd", "/proxy=http://evil.example/",
        "/gradio_api/proxy=http://evil.example/", "/gradio_api/upload", "/config",
        "/gradio_api/process_recording", "/assets/../../x", "/assets/%2e%2e%2fx", "/static/..%2fx",
        "/gradio_api/info", "/docs", "/openapi.json", "/monitoring", "/static/../app.py",
        "/static/%2e%2e/app.py", "/static/page.py", "/static/", "/write/x.csv", "/report",
        f"/write/{'0' * 32}.html", "/ask/", "/about/x",
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
        assert client.post(ASK, headers=headers, json=ASKED).status_code == 403
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
        policy = Policy(hosts, any_address, ())
        try:
            guard.check_host({"host": told}, policy)
        except Refusal:
            assert not is_in, told
        else:
            assert is_in, told


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"x", 400), (b"\xff", 400), (b'{"question": "\\ud800"}', 400),
        (b"[" * 10_000, 400), (b'{"seed":' + b"[" * 4_000 + b"]" * 4_000 + b"}", 400),
        (b'{"seed": NaN}', 400), (b'{"seed": ' + b"9" * 5_000 + b"}", 400),
        (b'{"question": "q", "seed": 1e400}', 400), (b"null", 422), (b"[]", 422), (b"{}", 422),
        (b'{"question": 1}', 422), (b'{"question": ["q"]}', 422), (b'{"question": null}', 422),
        (b'{"question": "q", "seed": "7"}', 422), (b'{"question": "q", "seed": 7.5}', 422),
        (b'{"question": "q", "seed": true}', 422), (b'{"question": "q", "compare": 1}', 422),
        (b'{"question": "q", "title": {"a": 1}}', 422), (b'{"question": "q", "more": 1}', 422),
        (b'{"question": "The Quiet Violin", "title": null, "seed": 7}', 200),
    ],
)  # fmt: skip
def test_a_body_is_what_the_page_would_send(client: httpx.Client, body: bytes, status: int) -> None:
    headers = {"content-type": "application/json"}
    answer = client.post(ASK, content=body, headers=headers)
    assert answer.status_code == status
    assert status == 200 or len(answer.text.splitlines()) == 1


def test_large_odd_and_unasked_bodies_are_refused(client: httpx.Client) -> None:
    def post(content: Any, **headers: str) -> int:
        told = {"content-type": "application/json"} | headers
        return client.post(ASK, content=content, headers=told).status_code

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
        head = f"POST {ASK} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
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


@pytest.mark.parametrize("place", ["question", "title"])
def test_a_long_field_is_refused_at_once(client: httpx.Client, place: str) -> None:
    for filler in ("a", "\u201c", "a b c ", "'"):
        body = ASKED | {place: (filler * 60_000)[: 60_000 // len(filler.encode())]}
        began = time.monotonic()
        answer = client.post(ASK, json=body)
        if answer.status_code == 200:
            assert json.loads(answer.text)["code"] == "too_long"
            assert "expected at most 2,500 characters" in answer.text
        else:
            assert answer.status_code == 413
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_a_seed_that_is_too_large_is_refused(client: httpx.Client, seed: int) -> None:
    answer = json.loads(client.post(ASK, json=ASKED | {"seed": seed}).text)
    assert (answer["event"], answer["code"]) == ("refused", "seed")


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
    scope = {"type": "http", "method": "POST", "path": ASK, "headers": encoded}
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
