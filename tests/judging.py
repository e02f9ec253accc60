"""A stand-in for a server with a model that judges: an OpenAI endpoint with a function inside."""

import contextlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Stub:
    """A judge, and what it was asked."""

    url: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    faults: list[tuple[int, str]] = field(default_factory=list)
    """Status and message of the next answers, before it answers as it should."""


@contextlib.contextmanager
def judging(choose: Callable[[str, str], str]) -> Iterator[Stub]:
    """Serve a judge that is shown two texts and says something."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [
                {"id": "stub", "object": "model", "created": 0, "owned_by": "us"}]})  # fmt: skip

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            stub.asked.append(body)
            stub.keys.add(self.headers.get("authorization", ""))
            if stub.faults:
                status, message = stub.faults.pop()
                self._send(status, {"error": {"message": message, "type": "x", "code": None}})
                return
            texts = re.search(r"<A>\n(.*?)\n</A>\n\n<B>\n(.*?)\n</B>",
                              body["messages"][-1]["content"], re.DOTALL)  # fmt: skip
            assert texts
            message = {"role": "assistant", "content": choose(texts[1], texts[2])}
            self._send(200, {
                "id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
            })  # fmt: skip

        def _send(self, status: int, value: dict[str, Any]) -> None:
            payload = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(payload)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = Stub(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def prefer_left(_left: str, _right: str) -> str:
    return "A"


def prefer_whole_words(left: str, right: str) -> str:
    """Prefer the text with fewer words that end in a capital, hold odd signs or come again."""
    faults = [_faults(text) for text in (left, right)]
    return "C" if faults[0] == faults[1] else "A" if faults[0] < faults[1] else "B"


def _faults(text: str) -> int:
    words = text.split()
    repeated = len(words) - len(set(itertools.pairwise(words)))
    return repeated + sum(bool(re.search(r"\w[A-Z.,;]\w|^[.,;]", word)) for word in words)
