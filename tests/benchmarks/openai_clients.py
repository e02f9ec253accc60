"""Real clients: ``python -m tests.benchmarks.openai_clients RUN CLEAN [CLIENTS] [SECONDS]``.

The page's own clients and as many ``openai`` ones, half of them by streams, ask in turns of a
quarter of the time, as a machine is not as quick all the time. Told are answers a second of both.
Ends with 1 where an answer is lost, differs from what ``ask`` says to the same question and seed,
or clients get less than 90 % of the page's answers a second.
"""

import contextlib
import io
import json
import sys
import threading
import time
from typing import Any

import openai

from inference.__main__ import main as inference
from tests.benchmarks.serve import QUESTIONS, TLS, Tally, draw_questions, settle, work
from tests.serving import serving

LEAST_SHARE = 0.9
TURNS = 4
SEED = 7


def texts_of_ask(questions: list[str], words: tuple[str, ...]) -> dict[str, str]:
    """Ask the command all questions at once."""
    written = io.StringIO()
    lines = io.StringIO("".join(f"{question}\n" for question in questions))
    before, sys.stdin = sys.stdin, lines
    try:
        with contextlib.redirect_stdout(written):
            assert inference(["ask", "-", *words, "--anyway", f"--seed={SEED}", "--json"]) == 0
    finally:
        sys.stdin = before
    answers = [json.loads(line) for line in written.getvalue().splitlines()]
    return {answer["question"]: answer["answer"] for answer in answers}


def chat(client: openai.OpenAI, model: str, question: str, streams: bool) -> str:
    """Ask one question; return the whole text."""
    how: dict[str, Any] = {"model": model, "seed": SEED, "extra_body": {"anyway": True}}
    how["messages"] = [{"role": "user", "content": question}]
    if not streams:
        return client.chat.completions.create(**how).choices[0].message.content or ""
    pieces = client.chat.completions.create(**how, stream=True)
    return "".join(piece.choices[0].delta.content or "" for piece in pieces)


def work_openai(
    client: openai.OpenAI, questions: list[str], until: float, tally: Tally, streams: bool
) -> None:
    """Ask one question after the other until the time is over."""
    model = client.models.list().data[0].id
    for question in questions * 10_000:
        if time.monotonic() > until:
            return
        began = time.perf_counter()
        try:
            text = chat(client, model, question, streams)
            tally.add(question, time.perf_counter() - began, {"answer": text})
        except openai.OpenAIError as error:
            tally.fail(f"{type(error).__name__}: {error}")


def connect(address: str) -> openai.OpenAI:
    """Make a client that does not read all of this machine's certificates."""
    http = openai.DefaultHttpxClient(verify=TLS)
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, http_client=http)


def load(tally: Tally, questions: list[str], clients: int, seconds: float, client: Any) -> None:
    """Let clients ask for so many seconds, each from another question on."""
    until = time.monotonic() + seconds
    threads = []
    for i in range(clients):
        own = questions[i % len(questions) :] + questions[: i % len(questions)]
        threads.append(threading.Thread(target=client, args=(own, until, tally, i)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main(run: str, clean: str, clients: int = 20, seconds: float = 60.0) -> int:
    questions = draw_questions(clean)
    words = (f"--run={run}", f"--catalogue={clean}", "--device=cpu")
    expected = texts_of_ask(questions, words)
    page, api = Tally(), Tally()
    with serving(*words) as (address, _):
        connected = [connect(address) for _ in range(clients)]

        def ask_page(own: list[str], until: float, tally: Tally, _: int) -> None:
            work(address, own, until, tally)

        def ask_api(own: list[str], until: float, tally: Tally, i: int) -> None:
            work_openai(connected[i], own, until, tally, streams=bool(i % 2))

        for turn in range(TURNS):
            start = turn * QUESTIONS // TURNS
            own = questions[start:] + questions[:start]
            for tally, client in ((page, ask_page), (api, ask_api)):
                load(tally, own, clients, seconds / TURNS, client)
                settle(address)
    differ = sum(
        answers != {json.dumps({"answer": expected[question]})}
        for question, answers in api.answers.items()
    )
    for name, tally in (("page", page), ("openai", api)):
        times = sorted(tally.seconds)
        print(
            f"{name}: {clients} clients, {seconds:.0f} s: {len(times)} answers, "
            f"{len(times) / seconds:.2f} a second, median {times[len(times) // 2]:.2f} s, "
            f"95th percentile {times[int(len(times) * 0.95)]:.2f} s, lost {len(tally.errors)}"
        )
    for error in api.errors[:5]:
        print(f"  {error}")
    share = len(api.seconds) / len(page.seconds)
    print(f"{share:.1%} of the page's; texts other than ask's: {differ} of {len(api.answers)}")
    return 1 if page.errors or api.errors or differ or share < LEAST_SHARE else 0


if __name__ == "__main__":
    run, clean, *rest = sys.argv[1:]
    sys.exit(main(run, clean, *map(int, rest)))
