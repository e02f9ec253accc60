"""Texts as the protocol has them: written by the assistant, cut at stop words, told in pieces."""

import json
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

from inference.ask import Answer, Assistant
from inference.serve.openai.errors import ApiError
from inference.serve.openai.wishes import Asked

BASE = "-base"
"""Behind the adapter's name, its base's."""
_LAST_SEED = 2**63


@dataclass
class Text:
    """One text, whole or so far."""

    index: int
    text: str = ""
    finish_reason: Literal["stop", "length"] | None = None
    answer: Answer | None = None
    """What it rests on; None until its record is found."""
    tokens: int = 0


@dataclass
class Usage:
    """Tokens of a request."""

    prompt: int = 0
    completion: int = 0

    def body(self) -> dict[str, int]:
        """Write it as the protocol does."""
        return {"prompt_tokens": self.prompt, "completion_tokens": self.completion,
                "total_tokens": self.prompt + self.completion}  # fmt: skip


@dataclass
class Writing:
    """All texts of one request, one after the other."""

    assistant: Assistant
    asked: Asked
    usage: Usage = field(default_factory=Usage)

    def texts(self) -> Generator[Text, None, None]:
        """Write: yield each text so far again and again; the last of an index is whole.

        Raises:
            ApiError: no title is meant, or several.
            CatalogueError: as ``Assistant.answer``.
        """
        asked = self.asked
        seed = self.assistant.config.seed if asked.seed is None else asked.seed
        for place, question in enumerate(asked.questions):
            for draw in range(asked.choices):
                index = place * asked.choices + draw
                own = seed + draw
                # Behind the last seed comes the first.
                yield from self._write(index, question, own if own < _LAST_SEED else own - 2**64)
                if not draw:
                    self.usage.prompt += self._prompt_tokens

    def _write(self, index: int, question: str, seed: int) -> Generator[Text, None, None]:
        asked = self.asked
        title = asked.title if asked.title and asked.title.strip() else None
        by: Literal["adapter", "base"] = "base" if asked.model.endswith(BASE) else "adapter"
        text = Text(index)
        answers = self.assistant.answer(
            question, title, seed=seed, anyway=asked.anyway, wish=asked.wish, by=by
        )
        with closing(answers):
            for answer in answers:
                if answer.is_open:
                    raise _open(answer)
                cut = _before(answer.answer or "", asked.stop)
                text.answer, text.tokens = answer, answer.new_tokens
                text.text = answer.answer or "" if cut is None else cut
                if cut is not None:
                    break
                if answer.checks is None:
                    yield text
        is_cut = cut is None and answer.finish_reason == "length"
        text.finish_reason = "length" if is_cut else "stop"
        self.usage.completion += text.tokens
        self._prompt_tokens = answer.prompt_tokens
        yield text


def _before(text: str, stop: list[str]) -> str | None:
    """Return what stands before the first stop word; None: there is none."""
    places = [place for word in stop if (place := text.find(word)) >= 0]
    return text[: min(places)] if places else None


def _open(answer: Answer) -> ApiError:
    """Say that a title must be named."""
    hint = "name it in the field title, or set anyway to write without a record"
    if answer.status == "which":
        titles = "; ".join(match["title"] for match in answer.matches)
        return ApiError(400, f"several titles may be meant: {titles}; {hint}", "title",
                        "title_ambiguous")  # fmt: skip
    line = f"no title of the catalogue is meant; {hint}"
    return ApiError(400, line, "title", "title_not_found")


def steady(text: Text, stop: list[str]) -> str:
    """Return what of a text so far will not change: without its last word, or begun stop word."""
    if text.finish_reason:
        return text.text
    end = max(text.text.rfind(" "), text.text.rfind("\n"), 0)
    longest = max(map(len, stop), default=1) - 1
    return text.text[: max(min(end, len(text.text) - longest), 0)]


def evidence(text: Text, unused: int) -> dict[str, Any]:
    """Return what a text rests on, as ``inference ask --json`` says it."""
    if text.answer is None:
        return {}
    values: dict[str, Any] = json.loads(text.answer.as_json())
    del values["answer"]
    return values | {"messages_unused": unused}
