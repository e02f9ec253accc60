"""Text on a terminal: what others wrote carries no control characters, and any stream takes it.

Titles, contents and file names come from others. Left as they are, they could move the cursor,
rename the window, answer for the user or turn the line's direction round.
"""

import codecs
import contextlib
import io
import os
import re
import sys

# C0 but tab and newline, DEL, C1, line separators, bidirectional embeddings, overrides and
# isolates, halves of surrogates (names that are not UTF-8) and the invisible tags.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)
_ESCAPES = "catalogue_escapes"
_LAST_OF_FOUR_DIGITS = 0xFFFF


def shown(text: str) -> str:
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
    return "".join(_escape(each) for each in error.object[error.start : error.end]), error.end


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
        print(shown(line), file=sys.stderr, flush=True)
