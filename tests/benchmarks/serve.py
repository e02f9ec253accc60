"""A load on the page: ``python -m tests.benchmarks.serve RUN CLEAN [CLIENTS] [SECONDS]``.

Clients ask through the page's own queue, one question after the other; first one of them, then all
at once. Told are answers a second, waiting times, errors, answers lost or not the same as alone,
and the server's memory along the way.
"""

import base64
import json
import random
import re
import secrets
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from inference import catalogue
from tests.phrasings import ask
from tests.serving import serving

QUESTIONS = 40
ALONE_SECONDS = 15.0
WARM_UP_SHARE = 0.25


class Tally:
    """What the clients saw; shared by their threads."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self.answers: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def add(self, question: str, seconds: float, told: dict[str, Any]) -> None:
        with self._lock:
            self.seconds.append(seconds)
            self.answers.setdefault(question, set()).add(json.dumps(told, sort_keys=True))

    def fail(self, error: str) -> None:
        with self._lock:
            self.errors.append(error)


def one_answer(client: httpx.Client, question: str, visitor: str) -> dict[str, Any]:
    """Ask as the page does, and read the stream to its end."""
    data = {"data": [question, None, False, True, 7], "session_hash": visitor}
    event = client.post("/gradio_api/call/ask", json=data).raise_for_status().json()["event_id"]
    last, kind = "", ""
    with client.stream("GET", f"/gradio_api/call/ask/{event}") as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: ") and kind in ("complete", "error"):
                last = line.removeprefix("data: ")
    if kind != "complete":
        raise ValueError(f"the stream ended with {kind!r}: {last[:200]}")
    held = re.search('base64,([^"\\\\]+)', json.loads(last)[3])
    if held is None:
        raise ValueError(f"no answer: {last[:200]}")
    told: dict[str, Any] = json.loads(base64.b64decode(held[1]))
    return told


def work(address: str, asked: list[str], until: float, tally: Tally) -> None:
    visitor = secrets.token_hex(8)
    with httpx.Client(base_url=address, timeout=60) as client:
        for question in asked * 10_000:
            if time.monotonic() > until:
                return
            began = time.perf_counter()
            try:
                told = one_answer(client, question, visitor)
                tally.add(question, time.perf_counter() - began, told)
            except (httpx.HTTPError, ValueError, KeyError) as error:
                tally.fail(f"{type(error).__name__}: {error}")


def load(address: str, asked: list[str], clients: int, seconds: float, process: int) -> Tally:
    """Let clients ask for so many seconds and watch the server's memory."""
    tally, until = Tally(), time.monotonic() + seconds
    threads = []
    for i in range(clients):
        own = asked[i:] + asked[:i]
        threads.append(threading.Thread(target=work, args=(address, own, until, tally)))
    for thread in threads:
        thread.start()
    memory = []
    while any(thread.is_alive() for thread in threads):
        memory.append(resident(process))
        time.sleep(1)
    for thread in threads:
        thread.join()
    times = sorted(tally.seconds)
    rate = len(times) / seconds
    early = memory[int(len(memory) * WARM_UP_SHARE)]
    print(
        f"{clients} clients, {seconds:.0f} s: {len(times)} answers, {rate:.2f} a second, median "
        f"{times[len(times) // 2]:.2f} s, 95th percentile {times[int(len(times) * 0.95)]:.2f} s, "
        f"errors {len(tally.errors)}; memory {early:,.0f} MiB after a quarter, "
        f"{memory[-1]:,.0f} MiB at the end, {max(memory):,.0f} MiB at most"
    )
    for error in tally.errors[:5]:
        print(f"  {error}")
    return tally


def resident(process: int) -> float:
    """The process's memory in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def main(run: str, clean: str, clients: int = 20, seconds: float = 60.0) -> int:
    draw = random.Random(5)  # noqa: S311
    with closing(catalogue.open_index(catalogue.build(clean))) as db:
        titles = [row[0] for row in db.execute("SELECT title FROM titles ORDER BY id")]
    asked = [
        ask(title, draw, slips=i % 3 == 0) for i, title in enumerate(draw.sample(titles, QUESTIONS))
    ]
    with serving(f"--run={run}", f"--catalogue={clean}", "--device=cpu") as (address, server):
        alone = load(address, asked, 1, ALONE_SECONDS, server.pid)
        together = load(address, asked, clients, seconds, server.pid)
        health = httpx.get(f"{address}/health").json()
    both = {**alone.answers}
    for question, told in together.answers.items():
        both[question] = both.get(question, set()) | told
    differ = sum(len(told) > 1 for told in both.values())
    print(f"questions whose answer was not always the same: {differ} of {len(both)}")
    print(f"still answering: {health['answering']}, waiting: {health['waiting']}")
    return 1 if alone.errors or together.errors or differ else 0


if __name__ == "__main__":
    run, clean, *rest = sys.argv[1:]
    sys.exit(main(run, clean, *map(int, rest)))
