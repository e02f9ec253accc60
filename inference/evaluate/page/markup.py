"""Pieces of a page: plain values in, HTML out; whatever comes from outside is escaped.

A page is one file without script, and says so to the browser: its policy lets in this very style
and nothing else.
"""

import base64
import functools
import hashlib
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_POLICY = "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"


@functools.cache
def _style() -> str:
    return Path(__file__).with_name("report.css").read_text("utf-8")


def document(title: str, head: str, contents: Sequence[tuple[str, str, str]]) -> str:
    """Put a page together.

    Args:
        title: plain text, of the window.
        head: HTML above the sections.
        contents: sections as id, name in the list of contents (empty: not listed) and HTML; one
            without HTML is left out.
    """
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    shown = [part for part in contents if part[2]]
    links = "".join(f'<a href="#{key}">{text(name)}</a>' for key, name, _ in shown if name)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY.format(digest)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(title)}</title>\n<style>{_style()}</style>\n</head>\n<body>\n"
        f'<header>{head}<nav aria-label="Contents">{links}</nav></header>\n'
        "<main>\n" + "\n".join(part[2] for part in shown) + "\n</main>\n</body>\n</html>\n"
    )


def text(value: Any) -> str:
    """Return a value as text of a page."""
    return html.escape(str(value))


def section(key: str, name: str, about: str, inside: str) -> str:
    """Return a section with its heading; empty where nothing is inside."""
    small = f"<small>{text(about)}</small>" if about else ""
    heading = f"<h2>{text(name)} {small}</h2>"
    return f'<section id="{key}">{heading}{inside}</section>' if inside else ""


def fold(name: str, about: str, inside: str, is_open: bool = False) -> str:
    """Return what a reader may unfold; empty where nothing is inside."""
    small = f" <small>{text(about)}</small>" if about else ""
    state = " open" if is_open else ""
    summary = f"<summary>{text(name)}{small}</summary>"
    return (
        f'<details{state}>{summary}<div class="folded">{inside}</div></details>' if inside else ""
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a list of names with their plain values; those without one are left out."""
    items = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in pairs if value
    )
    return f'<dl class="facts">{items}</dl>'


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    inside: str
    """HTML."""
    kind: str = ""
    """CSS class."""


def table(name: str, head: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell]]]) -> str:
    """Return a table, whose rows a narrow window shows one below the other.

    Args:
        name: for screen readers.
        head: names of all columns, plain.
        rows: of each its heading, HTML, and its cells.
    """
    columns = "".join(f'<th scope="col">{text(own)}</th>' for own in head)
    body = "".join(
        f'<tr><th scope="row">{heading}</th>'
        + "".join(
            f'<td data-name="{text(own)}" class="{cell.kind}">{cell.inside}</td>'
            for own, cell in zip(head[1:], cells, strict=True)
        )
        + "</tr>"
        for heading, cells in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(name)}"><table>'
        f"<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def number(value: float, metric: dict[str, Any], sign: str = "") -> str:
    """Write a figure of a metric; ``sign="+"`` writes plus signs, too."""
    return f"{value:{sign},.{metric['digits']}f}{metric['unit']}"


def span(estimate: dict[str, Any], metric: dict[str, Any], sign: str = "") -> str:
    """Write an interval; empty where there is none."""
    if estimate["low"] is None or estimate["high"] is None:
        return ""
    low, high = (number(estimate[end], metric, sign) for end in ("low", "high"))
    return f"{low.removesuffix(metric['unit'])} to {high}"
