"""Markdown of cards: tables, and text that cannot break out of them."""

from collections.abc import Iterable, Sequence

_SPECIAL = str.maketrans(
    {character: f"\\{character}" for character in "\\`*_[]<>|#"} | {"\n": " ", "\r": " "}
)


def plain(value: object) -> str:
    """Write a value as text that means no formatting."""
    return str(value).translate(_SPECIAL)


def code(value: object) -> str:
    """Write a value as code in a line, in as many backticks as it needs."""
    text = " ".join(str(value).split())
    fence = "`" * (text.count("`") + 1)
    inner = f" {text} " if "`" in text else text
    return f"{fence}{inner}{fence}".replace("|", "\\|")


def block(text: str, language: str = "") -> str:
    """Write text as it stands, in a fence that it does not hold."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
