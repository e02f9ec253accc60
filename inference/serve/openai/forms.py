"""Bodies of answers in the protocol's form: whole ones, pieces of a stream, lists of models."""

import json
import secrets
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from inference.serve.openai import writing
from inference.serve.openai.wishes import Asked
from inference.serve.openai.writing import BASE, Text, Writing

DONE = b"data: [DONE]\n\n"
OWNER = "title-to-description"
# More pieces of a growing text than eyes follow would take the server's time.
_SECONDS_BETWEEN = 0.05


def models(adapter: str, made: int) -> dict[str, Any]:
    """List the adapter and its base."""
    data = [
        {"id": name, "object": "model", "created": made, "owned_by": OWNER}
        for name in (adapter, adapter + BASE)
    ]
    return {"object": "list", "data": data}


@dataclass
class Form:
    """One request's answer as the protocol has it."""

    asked: Asked
    is_chat: bool
    made: int = field(default_factory=lambda: int(time.time()))
    name: str = field(default_factory=lambda: secrets.token_hex(12))

    def _body(self, choices: list[dict[str, Any]], is_piece: bool = False) -> dict[str, Any]:
        kind = "chat.completion" + ".chunk" * is_piece if self.is_chat else "text_completion"
        return {
            "id": ("chatcmpl-" if self.is_chat else "cmpl-") + self.name,
            "object": kind,
            "created": self.made,
            "model": self.asked.model,
            "choices": choices,
        }

    def whole(self, texts: list[Text], usage: dict[str, int]) -> dict[str, Any]:
        """Write whole texts."""
        choices = []
        for text in texts:
            choice: dict[str, Any] = {"index": text.index, "logprobs": None}
            choice["finish_reason"] = text.finish_reason
            if self.is_chat:
                choice["message"] = {"role": "assistant", "content": text.text, "refusal": None}
            else:
                choice["text"] = text.text
            choices.append(choice | self._rests_on(text))
        return self._body(choices) | {"usage": usage}

    def _rests_on(self, text: Text) -> dict[str, Any]:
        return {"evidence": writing.evidence(text, self.asked.unused)}

    def pieces(self, work: Writing) -> Generator[bytes, None, None]:
        """Write texts as they grow; the first piece is there once the first record is found."""
        sent: dict[int, str] = {}
        due = 0.0
        with closing(work.texts()) as texts:
            for text in texts:
                if text.index not in sent:
                    sent[text.index] = ""
                    yield self._piece(text, "", is_first=True)
                if time.monotonic() < due and not text.finish_reason:
                    continue
                due = time.monotonic() + _SECONDS_BETWEEN
                so_far = writing.steady(text, self.asked.stop)
                before = sent[text.index]
                if len(so_far) > len(before) and so_far.startswith(before):
                    sent[text.index] = so_far
                    yield self._piece(text, so_far[len(before) :])
                if text.finish_reason:
                    yield self._piece(text, "", is_last=True)
        if self.asked.tells_usage:
            yield _event(self._body([], is_piece=True) | {"usage": work.usage.body()})
        yield DONE

    def _piece(self, text: Text, more: str, is_first: bool = False, is_last: bool = False) -> bytes:
        choice: dict[str, Any] = {"index": text.index, "logprobs": None}
        choice["finish_reason"] = text.finish_reason if is_last else None
        if self.is_chat:
            role = {"role": "assistant", "content": ""} if is_first else {}
            choice["delta"] = role or ({"content": more} if more else {})
        else:
            choice["text"] = more
        if is_last:
            choice |= self._rests_on(text)
        usage = {"usage": None} if self.asked.tells_usage else {}
        return _event(self._body([choice], is_piece=True) | usage)


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def error_event(value: dict[str, Any]) -> bytes:
    """Tell a fault in the middle of a stream."""
    return _event(value)
