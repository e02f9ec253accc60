"""An answer and its evidence as pieces of a web page: pure text in, HTML out.

Everything that comes from a question, a title, a record or a model is escaped: markup in it is
shown as text.
"""

import base64
from html import escape

from data.sources.location import Location
from inference.ask import LEAST_COPIED, STATES, Answer, Copied
from inference.fidelity import Number


def status(text: str, is_error: bool = False) -> str:
    """Write how it stands, for eyes and for screen readers."""
    kind = " tb-error" if is_error else ""
    role = "alert" if is_error else "status"
    return f'<p class="tb-status{kind}" role="{role}" aria-live="polite">{escape(text)}</p>'


_CUT = {"length": "Cut at the limit of tokens.", "loop": "Stopped, as it only repeated itself."}


def answer_card(answer: Answer, is_whole: bool) -> str:
    """Show the answer, whole or so far; what it recites and its unsupported numbers are marked."""
    text = answer.answer or ""
    badge = note = ""
    if answer.status == "invented":
        badge = '<span class="tb-badge tb-invented">not in the catalogue: invented</span>'
    if is_whole and not text.strip():
        said = "nothing that title and record support" if answer.left_out else "nothing to say"
        note = _note(f"The model had {said}.")
    elif is_whole and answer.finish_reason in _CUT:
        note = _note(_CUT[answer.finish_reason])
    if is_whole and answer.title_words:
        note += _note(f"Title words: {escape(answer.title_words)}.")
    if is_whole and answer.omission:
        note += _note(f"Left out: {escape(answer.omission)}.")
    numbers = answer.checks.unsupported if answer.checks else []
    if is_whole and answer.checks and numbers:
        listed = ", ".join(map(_unsupported, answer.checks.unsupported_numbers))
        note += _note(f"Not supported by title or record: {listed}.")
    return (
        f'<div class="tb-card tb-answer"><h2>Answer</h2>{badge}'
        f'<p class="tb-title">{escape(answer.title or "")}</p>'
        f"{_growing(marked(text, answer.copied, numbers), is_whole)}{note}</div>"
    )


def base_card(answer: Answer, is_whole: bool) -> str:
    """Show what the base says without the adapter."""
    text = _growing(escape(answer.base_answer or ""), is_whole)
    return f'<div class="tb-card tb-base"><h2>Base model, without the adapter</h2>{text}</div>'


def _growing(html: str, is_whole: bool) -> str:
    return f'<p class="tb-text{"" if is_whole else " tb-busy"}">{html}</p>'


def _note(html: str) -> str:
    return f'<p class="tb-note">{html}</p>'


def _list(items: list[str]) -> str:
    return f'<ul class="tb-list">{"".join(f"<li>{item}</li>" for item in items)}</ul>'


def marked(text: str, copied: list[Copied], numbers: list[Number]) -> str:
    """Escape a text and mark its copied stretches, and within and beside them its numbers."""
    pieces, last = [], 0
    for stretch in copied:
        inside = _numbered(text, stretch.begin, stretch.end, numbers)
        pieces += [
            _numbered(text, last, stretch.begin, numbers),
            f'<mark title="{escape(_origin(stretch))}">{inside}</mark>',
        ]
        last = stretch.end
    return "".join(pieces) + _numbered(text, last, len(text), numbers)


def _numbered(text: str, begin: int, end: int, numbers: list[Number]) -> str:
    """Escape a piece of a text and mark what of the numbers lies in it."""
    pieces = []
    for number in numbers:
        first, last = max(number.begin, begin), min(number.end, end)
        if first < last:
            pieces += [escape(text[begin:first]), _unsupported(text[first:last])]
            begin = last
    return "".join(pieces) + escape(text[begin:end])


def _unsupported(number: str) -> str:
    return f'<u title="not supported by title or record">{escape(number)}</u>'


def _origin(copied: Copied) -> str:
    """Name the text that a copied stretch stands in."""
    if copied.where == "record":
        return "in this title's own record"
    if copied.where == "neighbour":
        return f"in what the prompt showed of: {copied.title}"
    return f"in the training text of: {copied.title}" if copied.title else "in several texts"


def evidence_card(answer: Answer, location: Location | None = None, is_whole: bool = True) -> str:
    """Show what an answer rests on; once it is whole, what it recites, and all as JSON."""
    state = answer.training
    badge = f'<span class="tb-badge tb-{state}">{state.replace("_", " ")}</span>'
    # The badge says the first words already.
    pieces = [f"<p>{badge}{escape(STATES[state].removeprefix('held out: '))}</p>"]
    if answer.shown:
        pieces.append(_note(escape(f"grounded in: {answer.grounds}")))
    if answer.wording:
        pieces.append(_note(escape(f"asked as: {answer.wording}")))
    if record := answer.record:
        content = escape(record.content) or "<em>without a description</em>"
        pieces += [
            f'<h3>Catalogue record</h3><p class="tb-record" tabindex="0">{content}</p>',
            *([_note(escape(record.listed))] if record.listed else []),
            _note(f"uid {escape(record.uid)}"),
        ]
    if location:
        where = escape(f"{location.path}, {location.place}")
        pieces.append(_note(f'line at <span class="tb-where">{where}</span>'))
        if location.command:
            pieces.append(_note(f'<span class="tb-where">{escape(location.command)}</span>'))
    if is_whole and answer.answer:
        pieces.append(f"<h3>Recited word for word</h3>{_recited(answer)}")
    others = [match for match in answer.matches if match["title"] != answer.title][:3]
    if others:
        items = [f"{escape(match['title'])} ({match['score']:.0%})" for match in others]
        pieces.append(f"<h3>Also found</h3>{_list(items)}")
    if is_whole:
        # The page itself holds the file: nothing is left on the server.
        payload = base64.b64encode(answer.as_json().encode()).decode()
        pieces.append(
            '<a class="tb-download" download="answer.json" '
            f'href="data:application/json;base64,{payload}">Download as JSON</a>'
        )
    body = "".join(pieces)
    return f'<div class="tb-card tb-evidence"><h2>What this rests on</h2>{body}</div>'


def _recited(answer: Answer) -> str:
    if not answer.copied:
        return _note(f"Nothing of {LEAST_COPIED} characters or more.")
    items = [
        f"<mark>{escape(stretch.text)}</mark><br>{escape(_origin(stretch))}"
        for stretch in answer.copied
    ]
    return _note(f"{answer.copied_share:.0%} of the answer.") + _list(items)


def empty_card(text: str) -> str:
    """Fill a place that has nothing to show yet."""
    return f'<div class="tb-card">{_note(escape(text))}</div>'


def heading(titles: int, run: str) -> str:
    """Write the head of the page."""
    return (
        '<div class="tb-head"><h1>Ask about a title</h1>'
        f"<p>{titles:,} titles · answers by {escape(run)}, with what each one rests on</p></div>"
    )
