"""The web page: Gradio's parts and what they do; ``cards`` draws what they show."""

import contextlib
import functools
import json
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import gradio as gr

from data.errors import CatalogueError
from inference.ask import Answer, Assistant
from inference.serve import cards

log = logging.getLogger("catalogue")

# Questions that are answered at a time; Gradio has 40 threads, and suggestions need some.
_AT_ONCE = 24
_EMPTY = "Ask in English or Portuguese. The answer appears here, with the record it is about."
_NO_REPORT = (
    "No report yet: make one with `python -m inference evaluate` and give it with --report."
)
_LEAST_TYPED = 3
# Visitors whose state Gradio keeps. By default it keeps 10,000, some 150 KB each.
_REMEMBERED = 256
# After an update of an answer comes a rest of so many times what the update took, so that the
# server never spends more than a fifth of its time on one answer's updates.
_REST = 4
_BUTTONS = ("Ask", "Stop", "Another answer")
_ON, _OFF = gr.update(interactive=True), gr.update(interactive=False)

Update = tuple[Any, ...]


class Parts(NamedTuple):
    """The parts of the page that an answer changes, in the order of an update."""

    status: Any
    answer: Any
    base: Any
    evidence: Any
    titles: Any
    ask: Any
    stop: Any
    again: Any
    seed: Any


def build(
    assistant: Assistant, titles: int, examples: list[str], report: str | None, waiting: int
) -> Any:
    """Lay out the page.

    Args:
        assistant: to ask.
        titles: how many the catalogue has.
        examples: questions to offer.
        report: path on this server of the run's report; none: there is none.
        waiting: how many may wait for an answer.
    """
    with gr.Blocks(title="Ask about a title", analytics_enabled=False) as page:
        gr.HTML(cards.heading(titles, assistant.config.run))
        with gr.Tabs():
            with gr.Tab("Ask"):
                _ask_tab(assistant, examples)
            with gr.Tab("Report of the run"):
                frame = f'<iframe class="tb-frame" src="{report}" title="Report of the run">'
                gr.HTML(f"{frame}</iframe>" if report else cards.empty_card(_NO_REPORT))
    page.state_session_capacity = _REMEMBERED
    page.queue(default_concurrency_limit=_AT_ONCE, max_size=waiting)
    return page


def theme() -> Any:
    """Return Gradio's plainest look with this machine's own fonts."""
    return gr.themes.Base(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def _ask_tab(assistant: Assistant, examples: list[str]) -> None:
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
            assistant.config.seed,
            label="Seed (same seed, same answer)",
            precision=0,
            elem_id="seed",
        )
    if examples:
        _offer(examples, question)
    status = gr.HTML(cards.status(""), elem_id="status")
    with gr.Row(elem_classes="tb-pair"):
        answer = gr.HTML(cards.empty_card(_EMPTY), elem_id="answer")
        base = gr.HTML(visible=False, elem_id="base")
    evidence = gr.HTML("", elem_id="evidence")
    parts = Parts(status, answer, base, evidence, titles, ask, stop, again, seed)
    _wire_answers(assistant, [question, titles, compare, anyway, seed], parts)
    _wire_titles(assistant, question, titles)


def _offer(examples: list[str], question: Any) -> None:
    """Offer questions; the browser itself puts the chosen one into its place."""
    offered = gr.Dataset(
        components=[question], samples=[[example] for example in examples], type="index",
        label="For example",
    )  # fmt: skip
    listed = json.dumps(examples).replace("<", "\\u003c")
    script = f"place => ({listed})[place]"
    offered.click(None, offered, question, js=script, api_visibility="private")


def _wire_answers(assistant: Assistant, inputs: list[Any], parts: Parts) -> None:
    """Connect the ways to ask, and the button that stops."""
    reply, other = (
        functools.partial(updates, assistant, 0),
        functools.partial(updates, assistant, 1),
    )
    quiet: dict[str, Any] = {
        # Each part shows by itself that it is at work; Gradio's veil would hide the growing text.
        "show_progress": "hidden",
        # Else Gradio refuses a title that newer suggestions have replaced since it was chosen.
        "preprocess": False,
        # One limit for all ways to ask, so that threads are left for suggestions.
        "concurrency_limit": _AT_ONCE,
        "concurrency_id": "answers",
    }
    outputs = list(parts)
    asking = [
        parts.ask.click(reply, inputs, outputs, api_name="ask", **quiet),
        inputs[0].submit(reply, inputs, outputs, api_visibility="private", **quiet),
        parts.again.click(other, inputs, outputs, api_visibility="private", **quiet),
    ]
    parts.stop.click(
        lambda: (cards.status("Stopped."), _ON, _OFF, _ON), None,
        [parts.status, parts.ask, parts.stop, parts.again], cancels=asking, queue=False,
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip


def _wire_titles(assistant: Assistant, question: Any, titles: Any) -> None:
    """Connect the titles that are suggested to the question that is typed."""
    # The browser undoes a choice as soon as the question changes, be it typed, pasted or an
    # example. The suggestions do not: they may come after the next choice.
    question.change(None, None, titles, js="() => null", api_visibility="private")
    question.change(
        functools.partial(suggested, assistant), question, titles, api_visibility="private",
        trigger_mode="always_last", show_progress="hidden", concurrency_limit=4,
    )  # fmt: skip


def suggested(assistant: Assistant, typed: Any) -> Any:
    """Offer the titles that a half-typed question may mean; what is chosen stays chosen."""
    typed = str(typed or "")
    titles: list[str] = []
    if len(typed.strip()) >= _LEAST_TYPED and len(typed) <= assistant.config.max_characters:
        with contextlib.suppress(CatalogueError):  # who asks will see it
            titles = assistant.suggest(typed)
    return gr.update(choices=titles, visible=bool(titles))


def updates(assistant: Assistant, step: int, *values: Any) -> Iterator[Update]:
    """Answer a question on the page: one update of all of ``Parts`` after the other.

    Args:
        assistant: to ask.
        step: added to the seed.
        values: of question, title, compare, anyway and seed. They may be anything: programs talk
            to the server without the page.
    """
    question, title, compare, anyway, seed = values
    try:
        seed = int(seed) + step
    except (TypeError, ValueError, OverflowError):
        seed = assistant.config.seed + step
    try:
        yield (
            cards.status("Looking for the title …"), cards.empty_card("…"),
            gr.update(value=cards.empty_card("…"), visible=compare), "", gr.skip(),
            _OFF, _ON, _OFF, seed,
        )  # fmt: skip
        answer = None
        resting_until = 0.0
        with closing(
            assistant.answer(
                str(question or ""), str(title) if title else None,
                seed=seed, compare=compare, anyway=anyway,
            )
        ) as answers:  # fmt: skip
            for answer in answers:
                began = time.monotonic()
                if not answer.is_open and began >= resting_until:
                    yield _growing(assistant, answer, compare)
                    # Among many the server is slow and rests for long; who asks alone sees every
                    # step.
                    now = time.monotonic()
                    resting_until = now + _REST * (now - began)
        assert answer is not None  # noqa: S101  # an answer always begins
        yield _whole(assistant, answer, compare)
    except CatalogueError as error:
        yield _refused(str(error), gr.skip(), seed)
    except Exception as error:
        log.warning("an answer failed: %s: %s", type(error).__name__, error)
        yield _refused("answers: expected one, found a fault here; ask again", gr.skip(), seed)


def _growing(assistant: Assistant, answer: Answer, compare: bool) -> Update:
    """Return the update for an answer so far.

    It holds values alone, for a button its label: if another property of a part changes, Gradio
    builds the part anew, which takes the server longer.
    """
    is_base = answer.base_answer is not None
    writing = "The base model is writing …" if is_base else "Writing …"
    base = cards.base_card(answer, is_whole=False) if compare else ""
    return (
        cards.status(writing), cards.answer_card(answer, is_whole=is_base), base,
        cards.evidence_card(answer, assistant.locate(answer), is_whole=False), gr.skip(),
        *_BUTTONS, answer.seed,
    )  # fmt: skip


def _whole(assistant: Assistant, answer: Answer, compare: bool) -> Update:
    if answer.is_open:
        choices = [match["title"] for match in answer.matches]
        titles = gr.update(choices=choices, value=None, visible=bool(choices))
        near = "Choose a near one above, or allow" if choices else "Allow"
        why = f"No title of the catalogue matches. {near} an invention."
        if answer.status == "which":
            why = "Several titles may be meant: choose one above and ask again."
        return _refused(why, titles, answer.seed)
    base = gr.update(value=cards.base_card(answer, is_whole=True), visible=compare)
    # What was chosen stays chosen, for another answer; on a phone the list would fill the screen.
    titles = gr.update(visible=False)
    return (
        cards.status(f"Done: {answer.new_tokens} tokens, seed {answer.seed}."),
        cards.answer_card(answer, is_whole=True), base,
        cards.evidence_card(answer, assistant.locate(answer)), titles, _ON, _OFF, _ON, answer.seed,
    )  # fmt: skip


def _refused(why: str, titles: Any, seed: int) -> Update:
    return (
        cards.status(why, is_error=True), cards.empty_card(_EMPTY),
        gr.update(value="", visible=False), "", titles, _ON, _OFF, _OFF, seed,
    )  # fmt: skip
