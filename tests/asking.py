"""Talk to a server as the page does: a question in, events out."""

import json
from typing import Any

import httpx


def events(client: httpx.Client, body: dict[str, Any], path: str = "/ask") -> list[dict[str, Any]]:
    """Post and read the stream to its end."""
    with client.stream("POST", path, json=body) as stream:
        stream.raise_for_status()
        return [json.loads(line) for line in stream.iter_lines()]


def answer(client: httpx.Client, question: str, **more: Any) -> dict[str, Any]:
    """Ask and return the whole answer."""
    last = events(client, {"question": question, **more})[-1]
    if last["event"] != "done":
        raise ValueError(f"the stream ended with {last}")
    whole: dict[str, Any] = last["answer"]
    return whole
