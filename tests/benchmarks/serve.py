"""A load on the page: ``python -m tests.benchmarks.serve RUN CLEAN [CLIENTS] [SECONDS]``.

Clients ask as the page does, one question after the other; first one of them, then all at once,
among people who close, reload, read nothing, send rubbish or connect and say nothing. Told are
answers a second, waiting times, errors, answers lost or not the same as alone, the slowest
``/health`` and the server's memory along the way. Ends with 1 where one is not as promised.
"""

import json
import random
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from inference.ask import index
from tests import asking
from tests.phrasings import ask
from tests.serving import serving

QUESTIONS = 40
ALONE_SECONDS = 15.0
WARM_UP_SHARE = 0.25
RUDE_SHARE = 0.2
SILENT = 1_000
SLOWEST_HEALTH = 0.1
GROWN = 1.1
# Else each client reads all of this machine's certificates, which takes the server's time too.
TLS = ssl.create_default_context()


class Tally:
    """What the clients saw; shared by their threads."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self.answers: dict[str, set[str]] = {}
        self.health: list[float] = []
        self.served: list[str] = []
        self.rude = 0
        self._lock = threading.Lock()

    def add(self, question: str, seconds: float, answer: dict[str, Any]) -> None:
        with self._lock:
            self.seconds.append(seconds)
            self.answers.setdefault(question, set()).add(json.dumps(answer, sort_keys=True))

    def fail(self, error: str) -> None:
        with self._lock:
            self.errors.append(error)


def work(address: str, questions: list[str], until: float, tally: Tally) -> None:
    with httpx.Client(base_url=address, timeout=60, verify=TLS) as client:
        for question in questions * 10_000:
            if time.monotonic() > until:
                return
            began = time.perf_counter()
            try:
                answer = asking.answer(client, question, anyway=True, seed=7)
                tally.add(question, time.perf_counter() - began, answer)
            except (httpx.HTTPError, ValueError, KeyError) as error:
                tally.fail(f"{type(error).__name__}: {error}")


def disturb(address: str, questions: list[str], until: float, tally: Tally, seed: int) -> None:
    """Stop, close, reload and send rubbish until the time is over."""
    draw = random.Random(seed)  # noqa: S311
    while time.monotonic() < until:
        trick = draw.choice([close_early, press_stop, reload_page, leave_unread, send_rubbish])
        try:
            with httpx.Client(base_url=address, timeout=30, verify=TLS) as client:
                for path, status in trick(client, draw, draw.choice(questions)):
                    if not 400 <= status < 500:
                        tally.served.append(f"{path}: {status}")
        except httpx.HTTPError:
            pass  # dropped
        tally.rude += 1


def body(question: str) -> dict[str, Any]:
    return {"question": question, "anyway": True, "seed": 7}


def close_early(client: httpx.Client, draw: random.Random, question: str) -> list[Any]:
    with client.stream("POST", "/ask", json=body(question)) as stream:
        for _ in zip(range(draw.randrange(12)), stream.iter_lines(), strict=False):
            pass
    return []


def press_stop(client: httpx.Client, draw: random.Random, question: str) -> list[Any]:
    with client.stream("POST", "/ask", json=body(question)):
        time.sleep(draw.random() / 2)
    return []


def reload_page(client: httpx.Client, _: random.Random, question: str) -> list[Any]:
    with client.stream("POST", "/ask", json=body(question)):
        client.get("/").raise_for_status()
    return []


def leave_unread(client: httpx.Client, draw: random.Random, question: str) -> list[Any]:
    """Ask on a connection of its own, and never read."""
    post = json.dumps(body(question)).encode()
    head = "POST /ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as one:
        one.sendall(f"{head}Content-Length: {len(post)}\r\n\r\n".encode() + post)
        time.sleep(draw.random())
    return []


def send_rubbish(client: httpx.Client, draw: random.Random, question: str) -> list[Any]:
    """Send what must be refused; return the place of each request with its status."""
    long = draw.choice(["a", "\u201c", "'", "a b "]) * 15_000
    wrong: list[Any] = [{"question": [question]}, {"data": [question]}, [question], "x"]
    posts = [client.post("/ask", json=fields) for fields in wrong]
    evil = ({"host": "evil.example"}, {"origin": "http://evil.example"})
    posts += [client.post("/ask", json=body(question), headers=headers) for headers in evil]
    posts.append(client.post("/upload", files={"files": b"x" * 100_000}))
    posts.append(client.get("/static/../app.py"))
    posts.append(client.post("/ask", content=b"[" * 10_000))
    for fields in (body(long), body(question) | {"title": long}):
        answer = client.post("/ask", json=fields)
        if answer.status_code == 200:  # refused in the stream
            posts.append(httpx.Response(400 if '"too_long"' in answer.text else 200))
        else:
            posts.append(answer)
    if draw.random() < 0.1:
        posts.append(client.post("/ask", content=b"x" * 100_000_000))
    return [(str(place), post.status_code) for place, post in enumerate(posts)]


LOOK = """
import http.client, json, sys, time
connection = http.client.HTTPConnection(sys.argv[1], timeout=60)
until, took = time.monotonic() + float(sys.argv[2]), []
while time.monotonic() < until:
    began = time.perf_counter()
    connection.request("GET", "/health")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status
    took.append(time.perf_counter() - began)
    time.sleep(0.1)
print(json.dumps(took))
"""


def look(address: str, until: float, tally: Tally) -> None:
    """Ask for /health again and again, from a process that waits for none of the clients."""
    words = [address.removeprefix("http://"), str(until - time.monotonic())]
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *words], capture_output=True, text=True, check=True
    )
    tally.health += json.loads(done.stdout)


def connect_silently(address: str, many: int) -> list[socket.socket]:
    """Open connections that say nothing, or half of a request."""
    host, port = address.removeprefix("http://").split(":")
    opened = [socket.create_connection((host, int(port))) for _ in range(many)]
    for connection in opened[::2]:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\n")
    return opened


def load(
    address: str, questions: list[str], clients: int, seconds: float, process: int, rude: int = 0
) -> Tally:
    """Let clients ask for so many seconds, some of them rude, and watch the server."""
    tally, until = Tally(), time.monotonic() + seconds
    silent = connect_silently(address, SILENT) if rude else []
    threads = [threading.Thread(target=look, args=(address, until, tally))]
    for i in range(clients - rude):
        own = questions[i % len(questions) :] + questions[: i % len(questions)]
        threads.append(threading.Thread(target=work, args=(address, own, until, tally)))
    for i in range(rude):
        threads.append(threading.Thread(target=disturb, args=(address, questions, until, tally, i)))
    for thread in threads:
        thread.start()
    memory = []
    while any(thread.is_alive() for thread in threads):
        memory.append(resident(process))
        time.sleep(1)
    for connection in silent:
        connection.close()
    early = memory[int(len(memory) * WARM_UP_SHARE)]
    show(tally, clients, rude, seconds, memory)
    if rude and memory[-1] > GROWN * early:
        tally.fail(f"memory grew from {early:,.0f} to {memory[-1]:,.0f} MiB")
    if rude and max(tally.health) > SLOWEST_HEALTH:
        tally.fail(f"/health took {max(tally.health):.3f} s")
    for line in tally.served:
        tally.fail(f"rubbish was served: {line}")
    for error in tally.errors[:5]:
        print(f"  {error}")
    return tally


def show(tally: Tally, clients: int, rude: int, seconds: float, memory: list[float]) -> None:
    """Print what was seen."""
    times, health = sorted(tally.seconds), sorted(tally.health)
    early = memory[int(len(memory) * WARM_UP_SHARE)]
    print(
        f"{clients} clients, {rude} of them rude, {seconds:.0f} s: {len(times)} answers, "
        f"{len(times) / seconds:.2f} a second, median {times[len(times) // 2]:.2f} s, "
        f"95th percentile {times[int(len(times) * 0.95)]:.2f} s, errors {len(tally.errors)}, "
        f"disturbances {tally.rude}; /health median {health[len(health) // 2] * 1e3:.0f} ms, "
        f"99th percentile {health[int(len(health) * 0.99)] * 1e3:.0f} ms, at most "
        f"{health[-1] * 1e3:.0f} ms; memory {early:,.0f} MiB after a quarter, "
        f"{memory[-1]:,.0f} MiB at the end, {max(memory):,.0f} MiB at most"
    )


def resident(process: int) -> float:
    """Read the process's memory in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(match[1]) / 1024 if match else 0.0


def settle(address: str) -> None:
    """Wait until what was left unread is written."""
    for _ in range(300):
        health = httpx.get(f"{address}/health").json()
        if not health["answering"] and not health["waiting"]:
            return
        time.sleep(0.1)


def draw_questions(clean: str) -> list[str]:
    """Draw titles of a catalogue and ask about each, some of them with slips of the keys."""
    draw = random.Random(5)  # noqa: S311
    with closing(index.open_index(index.build(clean))) as db:
        titles = [row[0] for row in db.execute("SELECT title FROM titles ORDER BY id")]
    return [
        ask(title, draw, slips=i % 3 == 0) for i, title in enumerate(draw.sample(titles, QUESTIONS))
    ]


def main(run: str, clean: str, clients: int = 50, seconds: float = 60.0) -> int:
    questions = draw_questions(clean)
    with serving(f"--run={run}", f"--catalogue={clean}", "--device=cpu") as (address, server):
        alone = load(address, questions, 1, ALONE_SECONDS, server.pid)
        together = load(address, questions, clients, seconds, server.pid, int(clients * RUDE_SHARE))
        settle(address)
        health = httpx.get(f"{address}/health").json()
    both = {**alone.answers}
    for question, answers in together.answers.items():
        both[question] = both.get(question, set()) | answers
    differ = sum(len(answers) > 1 for answers in both.values())
    print(f"questions whose answer was not always the same: {differ} of {len(both)}")
    print(f"still answering: {health['answering']}, waiting: {health['waiting']}")
    busy = health["answering"] or health["waiting"]
    return 1 if alone.errors or together.errors or differ or busy else 0


if __name__ == "__main__":
    run, clean, *rest = sys.argv[1:]
    sys.exit(main(run, clean, *map(int, rest)))
