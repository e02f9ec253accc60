"""An answer and its evidence as pieces of a web page: pure text in, HTML out.

Everything that comes from a question, a title, a record or a model is escaped: markup in it is
shown as text.
"""

import base64
import json
from html import escape

from inference.ask.assistant import TRAINED_WORDING, Answer
from inference.ask.attribution import LEAST_COPIED, STATES, Copied

STYLE = """
.gradio-container {width: 100% !important; max-width: 1080px !important; margin: 0 auto !important}
.tb-head h1 {font-size: 1.7rem; margin: .6rem 0 .1rem; line-height: 1.2}
.tb-head p {margin: 0; opacity: .75}
.tb-card {border: 1px solid var(--border-color-primary); border-radius: 12px; padding: 1rem 1.2rem;
  background: var(--background-fill-primary); overflow-wrap: anywhere}
.tb-card h2, .tb-card h3 {font-size: .78rem; letter-spacing: .06em; text-transform: uppercase;
  opacity: .7; margin: 0 0 .5rem; font-weight: 600}
.tb-card h3 {margin-top: 1.1rem}
.tb-title {font-weight: 650; font-size: 1.05rem; margin: 0 0 .5rem}
.tb-text {font-size: 1.05rem; line-height: 1.6; white-space: pre-wrap; margin: 0}
.tb-record {max-height: 16rem; overflow: auto; white-space: pre-wrap; line-height: 1.5; margin: 0}
.tb-card mark {background: #ffe08a; color: #1c1c1c; border-radius: 3px; padding: 0 .1em}
.tb-badge {display: inline-block; border-radius: 999px; padding: .15rem .7rem; font-size: .85rem;
  font-weight: 600; margin: 0 .4rem .3rem 0; border: 1px solid transparent}
.tb-trained {background: #dbeafe; color: #123a75} .tb-held_out {background: #d9f2e3; color: #0f4d2c}
.tb-unseen, .tb-untold {background: #ececf1; color: #333}
.tb-unknown, .tb-invented {background: #fde2d6; color: #7a2c0a}
.tb-note {opacity: .75; margin: .3rem 0 0; font-size: .92rem}
.tb-list {margin: .2rem 0 0; padding-left: 1.2rem} .tb-list li {margin: .15rem 0}
.tb-where {font-family: ui-monospace, monospace; font-size: .85rem}
.tb-status {min-height: 1.5rem; margin: 0; font-size: .95rem}
.tb-error {color: #b3261e; font-weight: 600} .dark .tb-error {color: #ffb4ab}
.tb-download {display: inline-block; margin-top: 1rem; font-weight: 600}
.tb-busy::after {content: "▍"; animation: tb-blink 1s steps(2) infinite; margin-left: .1em}
@keyframes tb-blink {50% {opacity: 0}}
.tb-frame {width: 100%; height: 78vh; border: 1px solid var(--border-color-primary);
  border-radius: 12px; background: white}
.tb-pair {gap: 12px} .tb-pair > *, .tb-choices > * {min-width: min(100%, 260px) !important}
.tb-pair, .tb-choices, .tb-choices .form, .tb-buttons {flex-wrap: wrap !important}
.tb-choices .form > * {min-width: min(100%, 240px) !important; flex: 1 1 240px}
.tb-buttons > * {min-width: min(100%, 130px) !important; flex: 1 1 130px}
.html-container {padding: 0 !important}
footer {display: none !important}
:focus-visible {outline: 3px solid #2f6fed !important; outline-offset: 2px}
"""
"""For the whole page; no fonts or pictures from elsewhere."""


def status(text: str, is_error: bool = False) -> str:
    """Say how it stands, to eyes and to screen readers."""
    kind = " tb-error" if is_error else ""
    role = "alert" if is_error else "status"
    return f'<p class="tb-status{kind}" role="{role}" aria-live="polite">{escape(text)}</p>'


def answer_card(answer: Answer, is_whole: bool) -> str:
    """Show the answer, whole or so far; what it recites is marked."""
    title = escape(answer.title or "")
    badge = ""
    if answer.status == "invented":
        badge = '<span class="tb-badge tb-invented">not in the catalogue: invented</span>'
    busy = "" if is_whole else " tb-busy"
    text = marked(answer.answer or "", answer.copied)
    cut = ""
    if is_whole and answer.finish_reason == "length":
        cut = '<p class="tb-note">Cut at the limit of tokens.</p>'
    if is_whole and not (answer.answer or "").strip():
        cut = '<p class="tb-note">The model had nothing to say.</p>'
    return (
        f'<div class="tb-card tb-answer"><h2>Answer</h2>{badge}<p class="tb-title">{title}</p>'
        f'<p class="tb-text{busy}">{text}</p>{cut}</div>'
    )


def base_card(answer: Answer, is_whole: bool) -> str:
    """Show what the base says without the adapter."""
    busy = "" if is_whole else " tb-busy"
    return (
        '<div class="tb-card tb-base"><h2>Base model, without the adapter</h2>'
        f'<p class="tb-text{busy}">{escape(answer.base_answer or "")}</p></div>'
    )


def marked(text: str, copied: list[Copied]) -> str:
    """Escape a text and mark its copied stretches."""
    pieces, last = [], 0
    for each in copied:
        origin = origin_of(each)
        pieces.append(escape(text[last : each.begin]))
        stretch = escape(text[each.begin : each.end])
        pieces.append(f'<mark title="{escape(origin)}">{stretch}</mark>')
        last = each.end
    return "".join(pieces) + escape(text[last:])


def origin_of(copied: Copied) -> str:
    """Tell where a copied stretch stands."""
    if copied.where == "record":
        return "in this title's own record"
    return f"in the training text of: {copied.title}" if copied.title else "in several texts"


def evidence_card(answer: Answer, sources: dict[str, str], is_whole: bool = True) -> str:
    """Show what an answer rests on; once it is whole, what it recites, and all as JSON."""
    state = answer.training
    badge = f'<span class="tb-badge tb-{state}">{state.replace("_", " ")}</span>'
    pieces = [
        '<div class="tb-card tb-evidence"><h2>What this rests on</h2>',
        # The badge says the first words already.
        f"<p>{badge}{escape(STATES[state].removeprefix('held out: '))}</p>",
    ]
    if answer.instruction != answer.question.strip():
        asked = f"asked as: {answer.instruction} ({TRAINED_WORDING})"
        pieces.append(f'<p class="tb-note">{escape(asked)}</p>')
    if answer.record is not None:
        record = answer.record
        content = escape(record.content) or "<em>without a description</em>"
        where = f"{sources.get(record.source, record.source)}, byte {record.byte_offset:,}"
        pieces += [
            f'<h3>Catalogue record</h3><p class="tb-record" tabindex="0">{content}</p>',
            f'<p class="tb-note">uid {escape(record.uid)} · line at '
            f'<span class="tb-where">{escape(where)}</span></p>',
        ]
    if is_whole:
        pieces.append(_recited(answer))
    others = [match for match in answer.matches if match["title"] != answer.title][:3]
    if others:
        listed = "".join(
            f"<li>{escape(match['title'])} ({match['score']:.0%})</li>" for match in others
        )
        pieces.append(f'<h3>Also found</h3><ul class="tb-list">{listed}</ul>')
    if is_whole:
        pieces.append(_download(answer))
    return "".join([*pieces, "</div>"])


def _recited(answer: Answer) -> str:
    if not answer.answer:
        return ""
    head = "<h3>Recited word for word</h3>"
    if not answer.copied:
        return f'{head}<p class="tb-note">Nothing of {LEAST_COPIED} characters or more.</p>'
    share = sum(each.end - each.begin for each in answer.copied) / len(answer.answer)
    items = "".join(
        f"<li><mark>{escape(each.text)}</mark><br>{escape(origin_of(each))}</li>"
        for each in answer.copied
    )
    return (
        f'{head}<p class="tb-note">{share:.0%} of the answer.</p><ul class="tb-list">{items}</ul>'
    )


def _download(answer: Answer) -> str:
    """Offer the answer as a file that the page itself holds: nothing is left on the server."""
    text = json.dumps(answer.as_data(), ensure_ascii=False, sort_keys=True)
    held = base64.b64encode(text.encode()).decode()
    href = f"data:application/json;base64,{held}"
    return f'<a class="tb-download" download="answer.json" href="{href}">Download as JSON</a>'


def empty_card(text: str) -> str:
    """Fill a place that has nothing to show yet."""
    return f'<div class="tb-card"><p class="tb-note">{escape(text)}</p></div>'


def heading(titles: int, run: str) -> str:
    """Head the page."""
    return (
        '<div class="tb-head"><h1>Ask about a title</h1>'
        f"<p>{titles:,} titles · answers by {escape(run)}, with what each one rests on</p></div>"
    )
