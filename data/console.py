"""The terminal: lines, tables, bars and sizes; foreign text carries no control characters to it."""

import codecs
import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence

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
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # open to the end
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


def complain(line: str) -> None:
    """Print a line to standard error, where that can be written."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(line), file=sys.stderr, flush=True)


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


class Progress:
    """A bar with rate and time left on a terminal; a plain line now and then elsewhere.

    Goes to standard error, so that results can be piped.
    """

    def __init__(self, what: str, total: float | None, unit: str) -> None:
        from tqdm import tqdm

        # Off a terminal, a bar that redraws would fill a log: one line every 15 seconds there.
        quiet = not sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            desc=printable(what),
            unit=unit,
            unit_scale=True,
            dynamic_ncols=True,
            file=sys.stderr,
            mininterval=15.0 if quiet else 0.2,
            miniters=0,  # named figures may move before the first amount does
            delay=15.0 if quiet else 0.0,
            ascii=quiet,
        )

    def advance(self, amount: float, **figures: str) -> None:
        """Count an amount as done and show named figures behind the bar."""
        if figures:
            safe = {name: printable(figure) for name, figure in figures.items()}
            self._bar.set_postfix(safe, refresh=False)
        self._bar.update(amount)

    @property
    def share(self) -> float:
        """Share of the total that is done, 0 to 1; 0 where the total is unknown."""
        return float(self._bar.n / self._bar.total) if self._bar.total else 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()


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
