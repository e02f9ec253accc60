"""``--help``: what a command is for, three examples, the flags that matter; ``--help all``: all."""

import dataclasses
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from data import console

ASKED = ("--help", "-h")
ALL = "all"
_WIDEST = 100


@dataclass(frozen=True)
class Guide:
    """What the short help of a command shows; declared beside its config, and tested."""

    examples: tuple[str, ...]
    """Words behind ``python -m PROGRAM COMMAND``, as a shell takes them; each runs as it stands."""
    flags: tuple[str, ...]
    """Names of the fields that matter, the most wanted first; inner ones with dots."""


@dataclass(frozen=True)
class Flag:
    """What is known of a field."""

    about: str
    """Its docstring in one line."""
    default: str
    """As it is typed; empty: none."""
    choices: tuple[str, ...] = ()
    """All its values, where there are few."""


def is_short(words: Sequence[str]) -> bool:
    """Whether words ask for the short help of a command."""
    place = next((place for place, word in enumerate(words) if word in ASKED), 0)
    return place > 0 and ALL not in words[place + 1 : place + 2]


def without_all(words: Sequence[str]) -> list[str]:
    """Take the ``all`` of ``--help all`` out, which the parser does not know."""
    return [
        word
        for place, word in enumerate(words)
        if not (word == ALL and place and words[place - 1] in ASKED)
    ]


def short(command: str, config: type, guide: Guide, positional: Sequence[str] = ()) -> str:
    """Write the short help.

    Args:
        command: ``python -m PROGRAM COMMAND``.
        config: of the command.
        guide: what to show.
        positional: fields that are given without a flag.
    """
    width = min(console.terminal_width(), _WIDEST)
    operands = "".join(f" {name.upper()}" for name in positional)
    lines = [f"usage: {command}{operands} [--config recipe.yaml] [--FLAG VALUE …]", ""]
    lines += [*textwrap.wrap(" ".join((config.__doc__ or "").split()), width), "", "examples:"]
    lines += [_broken(f"  {command} {example}", width) for example in guide.examples]
    known = dict(flags(config))
    count = len(known) - len(positional)
    lines += ["", f"flags that matter, of {count} (--help all lists all of them):"]
    leads = {name: name.upper() if name in positional else f"--{name}" for name in guide.flags}
    column = max(map(len, leads.values())) + 4
    for name, lead in leads.items():
        flag = known[name]
        beginning = re.split(r"[.;:](?:\s|$)", flag.about, maxsplit=1)[0]
        text = f"{beginning} [{'|'.join(flag.choices)}]" if len(flag.choices) > 2 else beginning
        text += f" ({flag.default})" if flag.default else ""
        lines += textwrap.wrap(text, width, initial_indent=f"  {lead}".ljust(column),
                               subsequent_indent=" " * column, break_on_hyphens=False)  # fmt: skip
    return "\n".join(lines)


def _broken(line: str, width: int) -> str:
    """Break a command before flags, so that a shell still takes it as one."""
    rows = [""]
    for word in re.split(r" (?=--)", line):
        if rows[-1] and len(rows[-1]) + len(word) + 3 > width:
            rows[-1] += " \\"
            rows.append(f"      {word}")
        else:
            rows[-1] += f" {word}" if rows[-1] else word
    return "\n".join(rows)


def flags(config: Any, prefix: str = "") -> Iterator[tuple[str, Flag]]:
    """Yield a config's fields by the names of their flags, inner ones with dots."""
    about, hints = _documented(config), get_type_hints(config)
    for field in dataclasses.fields(config):
        hint = hints[field.name]
        kinds = [] if get_origin(hint) is Literal else [*get_args(hint)]
        kinds = [kind for kind in kinds or [hint] if kind is not type(None)]
        if len(kinds) == 1 and dataclasses.is_dataclass(kinds[0]):
            yield from flags(kinds[0], f"{prefix}{field.name}.")
            continue
        choices = [str(value) for kind in kinds if get_origin(kind) is Literal
                   for value in get_args(kind)]  # fmt: skip
        choices += ["true", "false"] if bool in kinds else []
        flag = Flag(about.get(field.name, ""), _default(field), tuple(choices))
        yield prefix + field.name, flag


def _documented(config: Any) -> dict[str, str]:
    """Return the docstrings under a dataclass's fields and those that it inherits, by name."""
    from docstring_parser import parse_from_object

    about: dict[str, str] = {}
    for kind in reversed(config.__mro__):
        if dataclasses.is_dataclass(kind):
            for field in parse_from_object(kind).params:
                about[field.arg_name] = " ".join((field.description or "").split())
    return about


def _default(field: Any) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value in (None, [], "") else str(value)
