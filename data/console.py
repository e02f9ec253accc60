"""The terminal: lines, tables, bars and sizes; foreign text carries no control characters to it."""

import codecs
import contextlib
import io
import os
import re
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, TextIO

from data.errors import ConfigError

# C0 but tab and newline, DEL, C1, line separators, bidirectional embeddings, overrides and
# isolates, halves of surrogates (names that are not UTF-8) and the invisible tags.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)
_ESCAPES = "catalogue_escapes"
_LAST_OF_FOUR_DIGITS = 0xFFFF


def printable(text: str) -> str:
    r"""Return a text as it may be shown: control characters as ``\u001b``, as JSON writes them.

    Tabs and newlines stay. JSON stays the same JSON.
    """
    return _UNSAFE.sub(lambda match: _escape(match[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    if code <= _LAST_OF_FOUR_DIGITS:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def _escape_all(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_escape, error.object[error.start : error.end])), error.end


def prepare() -> None:
    """Let standard output and error take any character, and stand in for closed ones."""
    codecs.register_error(_ESCAPES, _escape_all)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by who started us: `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # to the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPES)


def settle() -> OSError | None:
    """Write out standard output and return what went wrong; Python would complain at its end."""
    try:
        sys.stdout.flush()
    except OSError as error:
        drop_output()
        return error
    except ValueError:  # closed by the command itself
        pass
    return None


def drop_output() -> None:
    """Send the rest of standard output nowhere, as nobody can take it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(line: str, lead: str = "", colour: "Colour | None" = None) -> None:
    """Print a line to standard error, where that can be written, behind a coloured lead."""
    with contextlib.suppress(OSError, ValueError):
        print(painted(lead, colour, sys.stderr) + printable(line), file=sys.stderr, flush=True)


OUTPUT_CLOSED = 128 + 13
"""Exit code that a shell reports of a program that SIGPIPE ended."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text that says something, or its type's name."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def say(line: str = "", end: str = "\n", is_safe: bool = False) -> None:
    r"""Print a line of the result, or a piece of one, to standard output.

    Control characters, which titles and texts may hold, are printed as ``\u001b``, unless the line
    is safe: its own are intended, and what is foreign in it went through ``printable``.

    Raises:
        SystemExit: the reader has gone, as ``| head`` does when it has enough; no fault, so nothing
            is said.
    """
    try:
        print(line if is_safe else printable(line), end=end, flush=True)
    except BrokenPipeError:
        drop_output()
        raise SystemExit(OUTPUT_CLOSED) from None


Colour = Literal["green", "red", "yellow", "bold"]
_CODES: dict[str, str] = {"green": "32", "red": "31", "yellow": "33", "bold": "1"}


def has_colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal that takes colours, and nobody forbids them.

    NO_COLOR as https://no-color.org has it: set to anything but nothing.
    """
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not is_plain and stream.isatty()


def painted(text: str, colour: Colour | None, stream: TextIO | None = None) -> str:
    """Return a text as it may be shown, in a colour where the stream, standard output, takes one.

    To be printed with ``is_safe``: its control characters are our own.
    """
    safe = printable(text)
    if colour is None or not has_colours(stream or sys.stdout):
        return safe
    return f"\033[{_CODES[colour]}m{safe}\033[0m"


def item(lead: str, text: str, colour: Colour | None = None) -> None:
    """Print a text behind its lead, which may be coloured.

    On a terminal a long text is broken, and hangs below its own beginning; in a pipe an item stays
    one line.
    """
    lines = [printable(text).replace("\n", " ")]
    if sys.stdout.isatty():
        width = max(min(terminal_width(), _WIDEST) - len(lead), _NARROWEST)
        lines = textwrap.wrap(lines[0], width, break_on_hyphens=False) or [""]
    say(painted(lead, colour) + f"\n{' ' * len(lead)}".join(lines), is_safe=True)


_WIDEST, _NARROWEST = 100, 24
# Seconds between the lines of a log, where there is no terminal that redraws.
_EVERY = 15.0
# Seconds after which a person asks what is going on.
_SOON = 1.0


class _Ticker:
    """Calls something every few seconds, in a thread, until it is stopped."""

    def __init__(self, tick: Callable[[], None], every: float) -> None:
        self._tick, self._every = tick, every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            self._tick()

    def stop(self) -> None:
        """Return once the last call has."""
        self._over.set()
        self._thread.join()


class Progress:
    """A bar with rate and time left on a terminal; a plain line now and then elsewhere.

    Goes to standard error, so that results can be piped. Moves on where nothing advances.
    """

    def __init__(self, what: str, total: float | None, unit: str) -> None:
        from tqdm import tqdm

        self._what, self._unit = printable(what), unit
        self._is_log = not sys.stderr.isatty()
        self._figures: dict[str, str] = {}
        self._bar = tqdm(
            total=total, desc=self._what, unit=unit, unit_scale=True, dynamic_ncols=True,
            file=_Silent() if self._is_log else sys.stderr, mininterval=0.2,
            miniters=0,  # named figures may move before the first amount does
        )  # fmt: skip
        every = _EVERY if self._is_log else _SOON
        self._ticker = _Ticker(self._tick, every)

    def advance(self, amount: float, **figures: str) -> None:
        """Count an amount as done and show named figures behind the bar."""
        if figures:
            self._figures = {name: printable(figure) for name, figure in figures.items()}
            self._bar.set_postfix(self._figures, refresh=False)
        self._bar.update(amount)

    def _tick(self) -> None:
        if self._is_log:
            complain(self._line())
        else:
            self._bar.refresh()

    def _line(self) -> str:
        """Describe how far it is: ``clean: 45%, 1.20M of 2.67M B, 91.3k B/s, 16 s left``."""
        from tqdm import tqdm

        state: dict[str, Any] = self._bar.format_dict
        done, total, spent = state["n"], state["total"], state["elapsed"]
        whole = f" of {tqdm.format_sizeof(total)}" if total else ""
        words = [f"{done / total:.0%}"] if total else []
        words.append(f"{tqdm.format_sizeof(done)}{whole} {self._unit}")
        if done and spent:
            words.append(f"{tqdm.format_sizeof(done / spent)} {self._unit}/s")
            if total:
                words.append(f"{duration((total - done) * spent / done)} left")
        words += [f"{name}={figure}" for name, figure in self._figures.items()]
        return f"{self._what}: {', '.join(words)}"

    @property
    def share(self) -> float:
        """Share of the total that is done, 0 to 1; 0 where the total is unknown."""
        return float(self._bar.n / self._bar.total) if self._bar.total else 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._ticker.stop()
        self._bar.close()


class _Silent(io.StringIO):
    """What a bar draws into where there is no terminal."""

    def write(self, _text: str) -> int:
        return 0


class Waiting:
    """Says what is waited for, and since when: steps that cannot be counted, such as loading.

    On a terminal in a line that goes away at the end; elsewhere a plain line now and then. Short
    work says nothing.
    """

    def __init__(self, what: str) -> None:
        self._what, self._began = printable(what), time.monotonic()
        self._is_log, self._is_shown = not sys.stderr.isatty(), False

    def __enter__(self) -> "Waiting":
        self._ticker = _Ticker(self._tick, _EVERY if self._is_log else _SOON)
        return self

    def _tick(self) -> None:
        line = f"{self._what}: {duration(time.monotonic() - self._began)}"
        if self._is_log:
            complain(line)
        else:
            _draw(f"\r{line}\033[K")
            self._is_shown = True

    def __exit__(self, *exception: object) -> None:
        self._ticker.stop()
        if self._is_shown:
            _draw("\r\033[K")


def _draw(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def parse_memory(text: str) -> int:
    """Read an amount of memory such as ``11.65GiB`` as bytes.

    Raises:
        ConfigError: it is no positive number with one of the units.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]i?B)\s*", text)
    amount = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if amount <= 0:
        raise ConfigError("--memory_limit", f"a number with one of {', '.join(_UNITS)}", repr(text))
    return amount


def duration(seconds: float) -> str:
    """Write a time as a person says it: ``2 h 10``, ``5 min``, ``40 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02}"


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Lay out a small table as text: first column left, the others right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(header), rule, *(line(row) for row in rows)])


def terminal_width() -> int:
    """Return the width to print within."""
    try:
        return os.get_terminal_size().columns
    except OSError:
        return 100
