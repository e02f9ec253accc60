"""Cleaning on a cluster, from S3 to S3: the README's own commands, and one worker lost midway."""

import functools
import http.client
import http.server
import io
import lzma
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from data.__main__ import main as data
from preprocessing.__main__ import main
from tests import killing
from tests.builders import digest_files, raw_lines

for needed in ("moto", "flask", "flask_cors", "s3fs"):
    pytest.importorskip(needed)

BLOCK = "--block_bytes=250000"
BROKEN = ("--rows=4000", "--broken_share=0.005", "--workers=1")
PATIENCE = 60.0

Request = Callable[..., bytes]
Process = subprocess.Popen[bytes]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(words: list[str], log: Path, env: dict[str, str]) -> Iterator[Process]:
    """A process in a group of its own; none of it is left behind."""
    with log.open("ab") as file:
        process = subprocess.Popen(words, env=env, stdout=file, stderr=file, start_new_session=True)
    with killing.none_left(process):
        yield process


def wait_until(done: Callable[[], object], what: str, process: Process | None = None) -> None:
    give_up = time.monotonic() + PATIENCE
    while not done():
        assert process is None or process.poll() is None, f"it ended before {what}"
        assert time.monotonic() < give_up, f"waited in vain for {what}"
        time.sleep(0.02)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[tuple[Request, dict[str, str]]]:
    """An S3 server with a bucket: how to ask it, and the environment that leads there."""
    port = free_port()
    env = os.environ | {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }

    def request(method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        # The server checks no signature, but wants to see one.
        connection.request(method, path, body, {"Authorization": "AWS nobody:nothing"})
        answer = connection.getresponse()
        payload = answer.read()
        connection.close()
        assert answer.status < 300, payload
        return payload

    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with started(words, tmp_path / "s3.log", env) as server:
        wait_until(lambda: answers(port), "the S3 server", server)
        request("PUT", "/bucket")
        yield request, env


def keys(request: Request, prefix: str) -> list[str]:
    listing = request("GET", f"/bucket?list-type=2&prefix={prefix}").decode()
    return re.findall("<Key>(.*?)</Key>", listing)


def parts(request: Request) -> list[str]:
    return [key for key in keys(request, "clean/") if key.startswith("clean/part-")]


@pytest.fixture
def cluster(
    s3: tuple[Request, dict[str, str]], root: Path, tmp_path: Path
) -> Iterator[tuple[str, list[Process]]]:
    """A scheduler and two workers by docs/cluster.md, but for this machine's address."""
    port = free_port()
    page = (root / "docs/cluster.md").read_text().replace("10.0.0.1", "127.0.0.1")
    page = page.replace(":8786", f":{port}").replace("--nworkers 16", "--nworkers 1")
    scheduler, worker, *_ = re.findall(r"^dask [^#\n]+", page, re.MULTILINE)
    bin_folder = Path(sys.executable).parent
    with ExitStack() as stack:

        def start(line: str, *more: str) -> Process:
            words = [str(bin_folder / "dask"), *line.split()[1:], *more, "--no-dashboard"]
            return stack.enter_context(started(words, tmp_path / "dask.log", s3[1]))

        begun = start(scheduler, "--port", str(port))
        wait_until(lambda: answers(port), "the scheduler", begun)
        yield f"tcp://127.0.0.1:{port}", [start(worker) for _ in range(2)]


@pytest.mark.parametrize("name", ["trn.json", "trn.json.gz"])
def test_a_cluster_that_loses_a_worker_writes_to_s3_what_a_local_run_writes(
    s3: tuple[Request, dict[str, str]],
    cluster: tuple[str, list[Process]],
    root: Path,
    tmp_path: Path,
    scheduler: str,
    name: str,
) -> None:
    request, env = s3
    remote, workers = cluster
    raw, local = tmp_path / name, tmp_path / "clean"
    assert data(["synthesize", f"--out={raw}", *BROKEN]) == 0
    request("PUT", f"/bucket/raw/{name}", raw.read_bytes())
    here = f"--scheduler={scheduler}"
    assert main(["clean", f"--source={raw}", f"--out={local}", BLOCK, here]) == 0

    asked = (f"--source=s3://bucket/raw/{name}", "--out=s3://bucket/clean")
    words = [sys.executable, "-m", "preprocessing", "clean", f"--scheduler={remote}", *asked]
    log = tmp_path / "clean.log"
    with started([*words, BLOCK], log, env) as driver:
        wait_until(lambda: len(parts(request)) >= 3, "three parts", driver)
        os.killpg(workers[0].pid, signal.SIGKILL)
        done = len(parts(request))
        assert driver.wait(PATIENCE) == 0, log.read_text()

    expected = {str(path.relative_to(local)) for path in local.rglob("*") if path.is_file()}
    assert done < len([each for each in expected if each.startswith("part-")])
    assert {key.removeprefix("clean/") for key in keys(request, "clean/")} == expected
    for file in expected - {"manifest.json"}:
        assert request("GET", f"/bucket/clean/{file}") == (local / file).read_bytes(), file


FORMS = {
    "array.json": b"[" + b", ".join(raw_lines(200)[10:]) + b"]",
    "lines.zip": b"",
    "table.csv.xz": lzma.compress(
        b"uid,title,content\n" + b"".join(b"%d,Lamp,Bright and small.\n" % i for i in range(90))
    ),
}
KEEP = ("--rules.content_min=0", "--rules.content_max=null", "--max_quarantined_share=0.1")


def zipped(payload: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("trn.json", payload)
    return sink.getvalue()


FORMS["lines.zip"] = zipped(b"\n".join(raw_lines(200)))


def test_other_forms_on_s3_give_what_they_give_on_disk(
    s3: tuple[Request, dict[str, str]], tmp_path: Path, scheduler: str
) -> None:
    request, env = s3
    for name, payload in FORMS.items():
        (tmp_path / name).write_bytes(payload)
        local, remote = tmp_path / f"{name}-local", tmp_path / f"{name}-s3"
        words = (*KEEP, "--block_bytes=5000")
        here = f"--scheduler={scheduler}"
        assert main(["clean", f"--source={tmp_path / name}", f"--out={local}", here, *words]) == 0
        request("PUT", f"/bucket/raw/{name}", payload)
        command = [sys.executable, "-m", "preprocessing", "clean", "--workers=1", *words,
                   f"--source=s3://bucket/raw/**/{name}", f"--out={remote}"]  # fmt: skip
        subprocess.run(command, env=env, check=True, timeout=PATIENCE, capture_output=True)
        assert digest_files(remote) == digest_files(local)


class Ranged(http.server.SimpleHTTPRequestHandler):
    """A file server that can send a part of a file."""

    def do_GET(self) -> None:
        payload = Path(self.translate_path(self.path)).read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, stop = 0, len(payload)
        if asked:
            start, stop = int(asked[1]), min(int(asked[2] or stop) + 1, stop)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(payload)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(payload[start:stop])

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("name", FORMS)
def test_files_behind_http_give_what_they_give_on_disk(
    name: str, tmp_path: Path, scheduler: str
) -> None:
    (tmp_path / name).write_bytes(FORMS[name])
    handler = functools.partial(Ranged, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        found = {}
        for source in (str(tmp_path / name), url):
            out = tmp_path / f"out-{len(found)}"
            words = (f"--out={out}", f"--scheduler={scheduler}", "--block_bytes=5000", *KEEP)
            assert main(["clean", f"--source={source}", *words]) == 0
            found[source] = digest_files(out)
        server.shutdown()
    assert found[url] == found[str(tmp_path / name)]
