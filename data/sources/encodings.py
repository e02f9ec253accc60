"""The encoding of a text: as its mark tells it, or else as it was stated."""

from codecs import BOM_UTF8

_MARKS = ((BOM_UTF8, "utf-8"), (b"\xff\xfe\0\0", "utf-32-le"), (b"\0\0\xfe\xff", "utf-32-be"),
          (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))  # fmt: skip


def of_mark(start: bytes) -> str | None:
    """Return the encoding that a file's mark names, with the order of its bytes."""
    return next((name for mark, name in _MARKS if start.startswith(mark)), None)


def recode(start: bytes, encoding: str) -> bytes:
    """Write the start of a text in UTF-8, without its mark unless it is in UTF-8 already."""
    if encoding == "utf-8":
        return start
    return start.decode(encoding, "replace").removeprefix("\ufeff").encode()
