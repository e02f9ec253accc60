"""An answer as events: what was found, the text as it grows, what its checks say, all of it.

``found`` → ``text`` … → ``checks`` → ``base`` … → ``done``; ``refused`` where there is none. What
people read of them, the page says in their language.
"""

import json
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict
from threading import Lock
from typing import Any

from pydantic import BaseModel, ConfigDict

from data.errors import CatalogueError, ConfigError, ManifestError
from inference.ask import Answer, Assistant
from inference.engine import BusyError
from inference.serve.line import Event

log = logging.getLogger("catalogue")

# More updates of a growing text than eyes follow would take the server's time.
_SECONDS_BETWEEN = 0.05
_KEPT = 1_000


class Ask(BaseModel):
    """What is posted to ask."""

    model_config = ConfigDict(strict=True, extra="forbid")

    question: str
    title: str | None = None
    seed: int | None = None
    compare: bool = False
    anyway: bool = False


class Given:
    """The answers given last, by a name that only who asked knows."""

    def __init__(self, most: int = _KEPT) -> None:
        self._most, self._lock = most, Lock()
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    def keep(self, answer: Answer) -> str:
        """Keep an answer; return its name."""
        name = secrets.token_urlsafe(12)
        with self._lock:
            self._answers[name] = answer
            while len(self._answers) > self._most:
                self._answers.popitem(last=False)
        return name

    def get(self, name: str) -> Answer | None:
        """Return an answer, unless it is unknown or forgotten."""
        with self._lock:
            return self._answers.get(name)


def events(assistant: Assistant, given: Given, ask: Ask) -> Generator[Event, None, None]:
    """Answer a question: yield what happens."""
    limit = assistant.config.max_characters
    try:
        yield from _answered(assistant, given, ask)
    except CatalogueError as error:
        yield refusal(error, limit, ask.question, ask.title)
    except Exception as error:
        log.warning("an answer failed: %s: %s", type(error).__name__, error)
        yield {"event": "refused", "code": "failed", "detail": "a fault here"}


def _answered(assistant: Assistant, given: Given, ask: Ask) -> Generator[Event, None, None]:
    shown = Growing("text"), Growing("base")
    title = ask.title if ask.title and ask.title.strip() else None
    answers = assistant.answer(
        ask.question, title, seed=ask.seed, compare=ask.compare, anyway=ask.anyway
    )
    with closing(answers):
        answer = next(answers)
        yield _found(assistant, answer)
        is_checked = False
        for answer in answers:
            if answer.checks is None:
                yield from shown[0].update(answer.answer or "")
                continue
            if not is_checked:
                is_checked = True
                yield from shown[0].update(answer.answer or "", is_whole=True)
                yield {"event": "checks", **checks(answer)}
                if ask.compare and not assistant.has_loaded("base"):
                    yield {"event": "loading_base"}
            yield from shown[1].update(answer.base_answer or "")
    if ask.compare and not answer.is_open:
        yield from shown[1].update(answer.base_answer or "", is_whole=True)
    yield {"event": "done", "id": given.keep(answer), "answer": json.loads(answer.as_json())}


class Growing:
    """A text that grows: its last letters may change while a word is not whole."""

    def __init__(self, event: str) -> None:
        self._event, self._text, self._next = event, "", 0.0

    def update(self, text: str, is_whole: bool = False) -> Generator[Event, None, None]:
        """Yield what is new of it, in code points from where on, unless it is too soon."""
        now = time.monotonic()
        if text == self._text or (now < self._next and not is_whole):
            return
        self._next = now + _SECONDS_BETWEEN
        same = next(
            (i for i, (new, old) in enumerate(zip(text, self._text, strict=False)) if new != old),
            min(len(text), len(self._text)),
        )
        self._text = text
        yield {"event": self._event, "from": same, "text": text[same:]}


def _found(assistant: Assistant, answer: Answer) -> Event:
    """Say which record a question means, or which titles it may mean."""
    location = assistant.locate(answer)
    record = answer.record
    return {
        "event": "found",
        "status": answer.status,
        "title": answer.title,
        "matches": answer.matches,
        "seed": answer.seed,
        "training": answer.training,
        "record": record
        and {"uid": record.uid, "content": record.content, "attributes": record.listed},
        "location": location and asdict(location),
    }


def checks(answer: Answer) -> dict[str, Any]:
    """Say what a reader should know of a whole answer."""
    checked = answer.checks
    return {
        "finish_reason": answer.finish_reason,
        "new_tokens": answer.new_tokens,
        "title_words": checked
        and {"kept": checked.title_words_kept, "missing": checked.title_words_missing},
        "numbers": [asdict(number) for number in checked.unsupported] if checked else [],
        "unsupported": checked.unsupported_numbers if checked else [],
        "left_out": answer.left_out,
        "copied": [asdict(stretch) for stretch in answer.copied],
        "copied_share": answer.copied_share,
        "ground": answer.ground,
        "shown": [row.title for row in answer.shown],
        "instruction": answer.instruction if answer.wording else None,
    }


def refusal(error: CatalogueError, limit: int, *texts: str | None) -> Event:
    """Name what is wrong, for people to be told in their language."""
    where = str(error.args[0])
    if isinstance(error, BusyError):
        code = "busy"
    elif isinstance(error, ManifestError):
        code = "catalogue"
    elif isinstance(error, ConfigError) and where == "seed":
        code = "seed"
    elif isinstance(error, ConfigError) and where in ("question", "title"):
        code = "too_long" if any(len(text or "") > limit for text in texts) else "empty"
    elif where.startswith("question, title"):
        code = "too_long"
    else:
        code = "failed"
    return {"event": "refused", "code": code, "detail": str(error)}
