"""The driver of ``ask``: a question, the answer as it is written, and the evidence below it."""

import json
import shlex
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import closing

from data import console
from data.errors import CatalogueError, ConfigError, SourceError
from inference.ask.assistant import TRAINED_WORDING, Answer, Assistant, Found
from inference.ask.attribution import LEAST_COPIED, STATES, Copied
from inference.config import AskConfig

_WIDEST = 100


def run(config: AskConfig) -> None:
    """Answer one question, or one a line.

    Raises:
        ConfigError: the question is empty or too long.
        SourceError: no title is meant, or it is open which.
    """
    with closing(Assistant(config)) as desk:
        if config.question == "-":
            _answer_lines(desk, config, sys.stdin)
        elif config.json:
            answer = _whole(desk, config, desk.find(config.question, config.title))
            console.say(as_json(answer))
            _refuse(answer)
        else:
            _converse(desk, config)


def as_json(answer: Answer) -> str:
    """Write an answer as one line of JSON."""
    return json.dumps(answer.as_data(), ensure_ascii=False, sort_keys=True)


def _whole(desk: Assistant, config: AskConfig, found: Found) -> Answer:
    *_, answer = desk.answer(found, compare=config.compare, anyway=config.anyway)
    return answer


def _answer_lines(desk: Assistant, config: AskConfig, lines: Iterable[str]) -> None:
    """Write a line of JSON for each line: an answer, or the error that stands in its place."""
    for line in lines:
        question = line.strip()
        if not question:
            continue
        try:
            answer = _whole(desk, config, desk.find(question, config.title))
            console.say(as_json(answer))
        except CatalogueError as error:
            console.say(json.dumps({"question": question, "error": str(error)}, ensure_ascii=False))


def _refuse(answer: Answer) -> None:
    """Leave with an error where there is no answer.

    Raises:
        SourceError: no title is meant, or it is open which.
    """
    if answer.status == "which":
        found = f"{len(answer.matches)} that may be meant"
        raise SourceError("question", "one title", found, "name it with --title")
    if answer.status == "no_match":
        mend = "name it with --title, or let the model invent with --anyway true"
        raise SourceError("question", "a title of the catalogue", "none", mend)


def _converse(desk: Assistant, config: AskConfig) -> None:
    found = desk.find(config.question, config.title)
    answers = desk.answer(found, compare=config.compare, anyway=config.anyway)
    begun = next(answers)
    if begun.status in ("which", "no_match"):
        title = _choose(begun)
        answers = desk.answer(desk.find(config.question, title), compare=config.compare)
        begun = next(answers)
    if begun.status == "invented":
        console.say("Not in the catalogue: what follows is invented.")
    console.say(f"{begun.title}\n")
    _show_evidence(_stream(answers, begun), config.compare, desk.sources)


def _stream(answers: Iterator[Answer], begun: Answer) -> Answer:
    """Print the answer while it grows; give it whole."""
    shown, answer = 0, begun
    for answer in answers:
        text = answer.answer or ""
        # The last letters may change while a word is not whole.
        until = len(text) if answer.finish_reason == "stop" else max(len(text) - 8, shown)
        console.say(text[shown:until], end="")
        shown = max(until, shown)
    cut = " [cut at the limit]" if answer.finish_reason == "length" else ""
    console.say((answer.answer or "")[shown:] + cut)
    return answer


def _choose(answer: Answer) -> str:
    """Ask which title is meant, on a terminal.

    Raises:
        SourceError: nobody is there to ask, or nothing was chosen.
    """
    if answer.matches:
        about = "Several titles may be meant" if answer.status == "which" else "Nearest titles"
        console.say(f"{about}:")
        for place, match in enumerate(answer.matches, 1):
            console.say(f"  {place}. {match['title']}  ({match['score']:.0%})")
    if not (answer.matches and _is_terminal()):
        _refuse(answer)
    chosen = input("Which one? (a number, or Enter for none) ").strip()
    if not chosen.isdecimal() or not 1 <= int(chosen) <= len(answer.matches):
        raise ConfigError("title", f"1 to {len(answer.matches)}", chosen or "nothing")
    title: str = answer.matches[int(chosen) - 1]["title"]
    return title


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _show_evidence(answer: Answer, compare: bool, sources: dict[str, str]) -> None:
    """Print what the answer rests on."""
    width = min(console.terminal_width(), _WIDEST)

    def show(name: str, text: str) -> None:
        console.say(textwrap.fill(f"{name:<12}{text}", width, subsequent_indent=" " * 12))

    console.say()
    if compare:
        show("base says", answer.base_answer or "nothing")
    if answer.record is not None:
        show("record", answer.record.content or "without a description")
        source = answer.record.source
        show("line", f"{source}, byte {answer.record.byte_offset:,}; to see it:")
        console.say(" " * 12 + line_command(sources.get(source, source), answer.record.byte_offset))
    show("training", STATES[answer.training])
    if answer.instruction != answer.question.strip():
        show("asked as", f"{answer.instruction} ({TRAINED_WORDING})")
    if answer.record is not None or answer.copied:
        show("recited", _recited(answer))
    if len(answer.matches) > 1:
        also = "; ".join(f"{m['title']} ({m['score']:.0%})" for m in answer.matches[1:3])
        show("also found", also)
    show("seed", f"{answer.seed}, temperature {answer.temperature:g}")


def _recited(answer: Answer) -> str:
    if not answer.copied:
        return f"nothing of {LEAST_COPIED} characters or more"
    share = sum(each.end - each.begin for each in answer.copied) / max(len(answer.answer or ""), 1)
    told = "; ".join(f"“{each.text.strip()}” ({_origin(each)})" for each in answer.copied)
    return f"{share:.0%} of the answer: {told}"


def _origin(copied: Copied) -> str:
    if copied.where == "record":
        return "its own record"
    return copied.title or "put together from several titles"


def line_command(source: str, byte_offset: int) -> str:
    """Give the shell command that prints the line of a record."""
    opened = "zcat" if source.endswith(".gz") else "cat"
    return f"{opened} {shlex.quote(source)} | tail -c +{byte_offset + 1} | head -n 1"
