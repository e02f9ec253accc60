"""The web page: its parts and what they do. Gradio's, but for what ``rendering`` draws."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from data.errors import CatalogueError
from inference.ask.assistant import Answer, Assistant
from inference.serve import cards

log = logging.getLogger("catalogue")

# Askers that are answered at a time; Gradio's threads, 40, serve suggestions too.
_AT_ONCE = 24
_EMPTY = "Ask in English or Portuguese. The answer appears here, with the record it is about."
_LEAST_TYPED = 3
_REMEMBERED = 256
# Of the time between two updates of an answer, a fifth at most is the server's work on them.
_REST = 4
# Gradio would refuse a title that was chosen from suggestions that newer ones have replaced.
_AS_SENT = {"preprocess": False}
_BUTTONS = ("Ask", "Stop", "Another answer")
_ON, _OFF = gr.update(interactive=True), gr.update(interactive=False)

Update = tuple[Any, ...]


@dataclass(frozen=True)
class Shown:
    """The parts of the page that an answer changes."""

    status: Any
    answer: Any
    base: Any
    evidence: Any
    titles: Any
    ask: Any
    stop: Any
    again: Any
    seed: Any

    def listed(self) -> list[Any]:
        """Give them in the order of an update."""
        return [
            *(self.status, self.answer, self.base, self.evidence, self.titles),
            *(self.ask, self.stop, self.again, self.seed),
        ]


@dataclass(frozen=True)
class Layout:
    """What the page shows beside answers."""

    titles: int
    """How many the catalogue has."""
    examples: list[str]
    """Questions to offer."""
    report: str | None
    """Path on this server of the run's report; none: there is none."""
    waiting: int
    """How many may wait for an answer."""


def build(desk: Assistant, layout: Layout) -> Any:
    """Lay out the page; the desk answers."""
    with gr.Blocks(title="Ask about a title", analytics_enabled=False) as page:
        gr.HTML(cards.heading(layout.titles, desk.config.run))
        with gr.Tabs():
            with gr.Tab("Ask"):
                _ask_tab(desk, layout.examples)
            with gr.Tab("Report of the run"):
                gr.HTML(_report(layout.report))
    # Of the visitors seen last; Gradio would remember 10,000, some 150 KB each.
    page.state_session_capacity = _REMEMBERED
    page.queue(default_concurrency_limit=_AT_ONCE, max_size=layout.waiting)
    return page


def theme() -> Any:
    """Give Gradio's plainest look with this machine's own fonts."""
    return gr.themes.Base(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def _report(report: str | None) -> str:
    if report is None:
        return cards.empty_card(
            "No report yet: make one with `python -m inference evaluate` and give it with --report."
        )
    return f'<iframe class="tb-frame" src="{report}" title="Report of the run"></iframe>'


def _ask_tab(desk: Assistant, examples: list[str]) -> None:
    question = gr.Textbox(
        label="Question", placeholder="What is … like?  ·  O que é …?", max_lines=6, autofocus=True,
        elem_id="question",
    )  # fmt: skip
    titles = gr.Radio(
        [], label="Titles that may be meant: choose one, or just ask", visible=False,
        elem_id="titles",
    )  # fmt: skip
    with gr.Row(elem_classes="tb-buttons"):
        ask = gr.Button(_BUTTONS[0], variant="primary", elem_id="ask")
        stop = gr.Button(_BUTTONS[1], interactive=False, elem_id="stop")
        again = gr.Button(_BUTTONS[2], interactive=False, elem_id="again")
    with gr.Row(elem_classes="tb-choices"):
        compare = gr.Checkbox(label="Show the base model beside it", elem_id="compare")
        anyway = gr.Checkbox(label="Answer even if no title matches (invented)", elem_id="anyway")
        seed = gr.Number(
            desk.config.seed, label="Seed (same seed, same answer)", precision=0, elem_id="seed"
        )
    if examples:
        _offer(examples, question)
    status = gr.HTML(cards.status(""), elem_id="status")
    with gr.Row(elem_classes="tb-pair"):
        answer = gr.HTML(cards.empty_card(_EMPTY), elem_id="answer")
        base = gr.HTML(visible=False, elem_id="base")
    evidence = gr.HTML("", elem_id="evidence")
    shown = Shown(status, answer, base, evidence, titles, ask, stop, again, seed)
    _wire(desk, question, (compare, anyway), shown)


def _offer(examples: list[str], question: Any) -> None:
    """Offer questions; the browser itself puts the chosen one into its place."""
    offered = gr.Dataset(
        components=[question], samples=[[each] for each in examples], type="index",
        label="For example",
    )  # fmt: skip
    held = json.dumps(examples).replace("<", "\\u003c")
    offered.click(None, offered, question, js=f"place => ({held})[place]", api_visibility="private")


def _wire(desk: Assistant, question: Any, choices: tuple[Any, Any], shown: Shown) -> None:
    def reply(
        asked: str, title: str | None, compare: bool, anyway: bool, seed: float | None
    ) -> Iterator[Update]:
        yield from updates(desk, asked, title, (compare, anyway), seed)

    def other(
        asked: str, title: str | None, compare: bool, anyway: bool, seed: float | None
    ) -> Iterator[Update]:
        following = _whole_number(seed, desk.config.seed) + 1
        yield from updates(desk, asked, title, (compare, anyway), following)

    inputs, outputs = [question, shown.titles, *choices, shown.seed], shown.listed()
    # Each part tells by itself that it is at work; Gradio's veil would hide the growing text.
    quiet: dict[str, Any] = {"show_progress": "hidden", **_AS_SENT}
    # One limit for all ways to ask, so that threads are left for suggestions.
    quiet |= {"concurrency_limit": _AT_ONCE, "concurrency_id": "answers"}
    asking = [
        shown.ask.click(reply, inputs, outputs, api_name="ask", **quiet),
        question.submit(reply, inputs, outputs, api_visibility="private", **quiet),
        shown.again.click(other, inputs, outputs, api_visibility="private", **quiet),
    ]
    halt = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    shown.stop.click(
        _stopped, None, [shown.status, shown.ask, shown.stop, shown.again], cancels=asking, **halt
    )
    # A choice is undone by the browser as soon as the question changes, be it typed, pasted or an
    # example, and not by the suggestions: they may come when the next choice is already made.
    question.change(None, None, shown.titles, js="() => null", api_visibility="private")
    question.change(
        lambda typed: _suggested(desk, typed), question, shown.titles, api_visibility="private",
        trigger_mode="always_last", show_progress="hidden", concurrency_limit=4,
    )  # fmt: skip


def _suggested(desk: Assistant, typed: str) -> Any:
    """Offer the titles that a half-typed question may mean; what is chosen stays chosen."""
    try:
        typed = str(typed or "")
        is_one = len(typed.strip()) >= _LEAST_TYPED and len(typed) <= desk.config.max_characters
        found = desk.suggest(typed) if is_one else []
    except CatalogueError:  # it is told to who asks
        found = []
    return gr.update(choices=found, visible=bool(found))


def _stopped() -> Update:
    return cards.status("Stopped."), _ON, _OFF, _ON


def updates(
    desk: Assistant, asked: str, title: str | None, choices: tuple[bool, bool], seed: float | None
) -> Iterator[Update]:
    """Answer a question on the page: one update of all of ``Shown`` after the other."""
    compare, anyway = choices
    chosen = _whole_number(seed, desk.config.seed)
    try:
        yield (
            cards.status("Looking for the title …"), cards.empty_card("…"),
            gr.update(value=cards.empty_card("…"), visible=compare), "", gr.skip(),
            _OFF, _ON, _OFF, chosen,
        )  # fmt: skip
        found = desk.find(str(asked or ""), str(title) if title else None)
        last = None
        with closing(desk.answer(found, chosen, compare, anyway)) as answers:
            resting_until = 0.0
            for last in answers:
                began = time.monotonic()
                if last.status in ("answered", "invented") and began >= resting_until:
                    yield _growing(desk, last, compare)
                    # As long as the page took, many times over: who asks alone sees every step.
                    took = time.monotonic() - began
                    resting_until = time.monotonic() + _REST * took
        assert last is not None  # noqa: S101  # an answer always begins
        yield _whole(desk, last, compare)
    except CatalogueError as error:
        yield _refused(str(error), gr.skip(), chosen)
    except Exception as error:
        log.warning("an answer failed: %s: %s", type(error).__name__, error)
        yield _refused("answers: expected one, found a fault here; ask again", gr.skip(), chosen)


def _whole_number(told: Any, otherwise: int) -> int:
    """Read a seed; whoever talks to the server without the page may send anything."""
    try:
        return int(told)
    except (TypeError, ValueError, OverflowError):
        return otherwise


def _growing(desk: Assistant, answer: Answer, compare: bool) -> Update:
    """Return an answer so far, as plain values: of a changed property Gradio builds the part anew.

    A button's value is its label.
    """
    is_base = answer.base_answer is not None
    said = "The base model is writing …" if is_base else "Writing …"
    base = cards.base_card(answer, is_whole=False) if compare else ""
    return (
        cards.status(said), cards.answer_card(answer, is_whole=is_base), base,
        cards.evidence_card(answer, desk.sources, is_whole=False), gr.skip(),
        *_BUTTONS, answer.seed,
    )  # fmt: skip


def _whole(desk: Assistant, answer: Answer, compare: bool) -> Update:
    if answer.status in ("which", "no_match"):
        choices = [match["title"] for match in answer.matches]
        titles = gr.update(choices=choices, value=None, visible=bool(choices))
        near = "Choose a near one above, or allow" if choices else "Allow"
        said = f"No title of the catalogue matches. {near} an invention."
        if answer.status == "which":
            said = "Several titles may be meant: choose one above and ask again."
        return _refused(said, titles, answer.seed)
    base = gr.update(value=cards.base_card(answer, is_whole=True), visible=compare)
    # What was chosen stays chosen, for another answer; on a phone the list would fill the screen.
    titles = gr.update(visible=False)
    return (
        cards.status(f"Done: {answer.new_tokens} tokens, seed {answer.seed}."),
        cards.answer_card(answer, is_whole=True), base,
        cards.evidence_card(answer, desk.sources), titles, _ON, _OFF, _ON, answer.seed,
    )  # fmt: skip


def _refused(said: str, titles: Any, seed: int) -> Update:
    return (
        cards.status(said, is_error=True), cards.empty_card(_EMPTY),
        gr.update(value="", visible=False), "", titles, _ON, _OFF, _OFF, seed,
    )  # fmt: skip
