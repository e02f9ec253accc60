"""The driver of ``ask``: a question, the answer as it is written, and the evidence below it."""

import json
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing

from data import console
from data.errors import CatalogueError, ConfigError, SourceError
from data.sources.location import Location
from inference.ask.assistant import Answer, Assistant
from inference.ask.attribution import LEAST_COPIED, STATES, Copied
from inference.config import AskConfig

_WIDEST = 100
_INDENT = " " * 12


def run(config: AskConfig) -> None:
    """Answer one question, or one a line.

    Raises:
        ConfigError: the question is empty or too long.
        SourceError: no title is meant, or several may be.
    """
    with closing(Assistant(config)) as assistant:
        if config.question == "-":
            _answer_lines(assistant, config)
        elif config.json:
            *_, answer = _ask(assistant, config, config.question)
            console.say(answer.as_json())
            if answer.is_open:
                raise _no_title(answer)
        else:
            _converse(assistant, config)


def _ask(assistant: Assistant, config: AskConfig, question: str) -> Iterator[Answer]:
    return assistant.answer(question, config.title, compare=config.compare, anyway=config.anyway)


def _answer_lines(assistant: Assistant, config: AskConfig) -> None:
    """Write a line of JSON for each line of standard input: the answer, or an error instead."""
    for question in filter(None, map(str.strip, sys.stdin)):
        try:
            *_, answer = _ask(assistant, config, question)
            console.say(answer.as_json())
        except CatalogueError as error:
            console.say(json.dumps({"question": question, "error": str(error)}, ensure_ascii=False))


def _no_title(answer: Answer) -> SourceError:
    if answer.status == "which":
        several = f"{len(answer.matches)} that may be meant"
        return SourceError("question", "one title", several, "name it with --title")
    hint = "name it with --title, or let the model invent with --anyway true"
    return SourceError("question", "a title of the catalogue", "none", hint)


def _converse(assistant: Assistant, config: AskConfig) -> None:
    """Print the answer while it is written and its evidence below; ask which title is meant."""
    answers = _ask(assistant, config, config.question)
    answer = next(answers)
    if answer.is_open:
        answers = assistant.answer(config.question, _choose(answer), compare=config.compare)
        answer = next(answers)
    if answer.status == "invented":
        console.say("Not in the catalogue: what follows is invented.")
    console.say(f"{answer.title}\n")
    answer = _stream(answers, answer)
    _show_evidence(answer, config.compare, assistant.locate(answer))


_NOTHING = "(nothing that title and record support)"
_CUT = {"length": " [cut at the limit]", "loop": " [stopped, as it only repeated itself]"}


def _stream(answers: Iterator[Answer], answer: Answer) -> Answer:
    """Print the answer while it grows; return it whole."""
    printed = 0
    for answer in answers:
        text = answer.answer or ""
        # The last letters may change while a word is not whole.
        until = len(text) if answer.finish_reason == "stop" else max(len(text) - 8, printed)
        console.say(text[printed:until], end="")
        printed = max(until, printed)
    nothing = _NOTHING if answer.left_out and not answer.answer else ""
    rest = (answer.answer or "")[printed:]
    console.say(rest + nothing + _CUT.get(answer.finish_reason or "", ""))
    return answer


def _choose(answer: Answer) -> str:
    """Ask which title is meant, on a terminal.

    Raises:
        ConfigError: nothing was chosen.
        SourceError: there is nothing to choose from, or nobody to ask.
    """
    if answer.matches:
        about = "Several titles may be meant" if answer.status == "which" else "Nearest titles"
        console.say(f"{about}:")
        for place, match in enumerate(answer.matches, 1):
            console.say(f"  {place}. {match['title']}  ({match['score']:.0%})")
    if not (answer.matches and sys.stdin.isatty() and sys.stdout.isatty()):
        raise _no_title(answer)
    chosen = input("Which one? (a number, or Enter for none) ").strip()
    if not chosen.isdecimal() or not 1 <= int(chosen) <= len(answer.matches):
        raise ConfigError("title", f"1 to {len(answer.matches)}", chosen or "nothing")
    title: str = answer.matches[int(chosen) - 1]["title"]
    return title


def _show_evidence(answer: Answer, compare: bool, location: Location | None) -> None:
    """Print what the answer rests on."""
    width = min(console.terminal_width(), _WIDEST)

    def show(name: str, text: str) -> None:
        console.say(textwrap.fill(f"{name:<12}{text}", width, subsequent_indent=_INDENT))

    console.say()
    if answer.title_words:
        show("title words", answer.title_words)
    if answer.checks and answer.checks.unsupported_numbers:
        numbers = ", ".join(answer.checks.unsupported_numbers)
        show("numbers", f"not supported by title or record: {numbers}")
    if answer.omission:
        show("left out", answer.omission)
    if compare:
        show("base says", answer.base_answer or "nothing")
    if answer.record is not None:
        show("record", answer.record.content or "without a description")
        if answer.record.listed:
            show("attributes", answer.record.listed)
    if location is not None:
        to_see = "; to see it:" if location.command else ""
        show("line", f"{location.path}, {location.place}{to_see}")
        if location.command:
            console.say(_INDENT + location.command)
    if answer.shown:
        show("grounded in", answer.grounds)
    show("training", STATES[answer.training])
    if answer.wording:
        show("asked as", answer.wording)
    if answer.record is not None or answer.copied:
        show("recited", _recited(answer))
    if len(answer.matches) > 1:
        also = "; ".join(f"{m['title']} ({m['score']:.0%})" for m in answer.matches[1:3])
        show("also found", also)
    show("seed", f"{answer.seed}, temperature {answer.temperature:g}")


def _recited(answer: Answer) -> str:
    if not answer.copied:
        return f"nothing of {LEAST_COPIED} characters or more"
    stretches = (f"“{copied.text.strip()}” ({_origin(copied)})" for copied in answer.copied)
    return f"{answer.copied_share:.0%} of the answer: {'; '.join(stretches)}"


def _origin(copied: Copied) -> str:
    if copied.where == "record":
        return "its own record"
    if copied.where == "neighbour":
        return f"{copied.title}, which its prompt showed"
    return copied.title or "put together from several titles"
