"""Text of any encoding to UTF-8 and back to where each record stood in the file.

Bytes that are none of the encoding become halves of surrogate pairs, which are no UTF-8: the
record that holds them is quarantined, and its neighbours are not.
"""

import codecs
import itertools

import numpy as np

_ESCAPE = 0xDC00
_ERRORS = "catalogue"


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Decode what cannot be decoded, a half of a pair each byte, or encode such halves again."""
    if isinstance(error, UnicodeDecodeError):
        text = "".join(chr(_ESCAPE + byte) for byte in error.object[error.start : error.end])
        return text, error.end
    if isinstance(error, UnicodeEncodeError):
        codes = [ord(letter) - _ESCAPE for letter in error.object[error.start : error.end]]
        return bytes(code if 0 <= code < 256 else 63 for code in codes), error.end
    raise error


codecs.register_error(_ERRORS, _escape)


class Decoder:
    """Decodes a stream piece by piece."""

    def __init__(self, encoding: str) -> None:
        self._name = codecs.lookup(encoding).name
        self._decoder = codecs.getincrementaldecoder(encoding)(errors=_ERRORS)
        self._units = _units(self._name)

    @property
    def mark(self) -> int:
        """Bytes of the mark that the decoder takes off the start."""
        return {"utf-16": 2, "utf-32": 4}.get(self._name, 0)

    def decode(self, raw: bytes, final: bool) -> bytes:
        """Return the next bytes as UTF-8."""
        if self._name == "utf-8":
            return raw
        return self._decoder.decode(raw, final).encode("utf-8", "surrogatepass")

    def places(self, data: bytes, places: np.ndarray) -> np.ndarray:
        """Return where in the file, from the start of ``data``, its places in UTF-8 are."""
        if self._name == "utf-8" or not len(places):
            return places
        if not self._units:
            return self._encoded(data, places)
        view = np.frombuffer(data, dtype=np.uint8)
        sizes = ((view & 0xC0) != 0x80).astype(np.int8) * np.int8(self._units)
        if self._units == 2:
            sizes[view >= 0xF0] = 4
        # Only halves of surrogate pairs begin so: a byte that could not be decoded.
        escapes = np.flatnonzero(view[:-1] == 0xED)
        sizes[escapes[view[escapes + 1] >= 0xA0]] = 1
        before: np.ndarray = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])[places]
        return before

    def _encoded(self, data: bytes, places: np.ndarray) -> np.ndarray:
        bounds = [0, *places.tolist()]
        pieces = [data[a:b] for a, b in itertools.pairwise(bounds)]
        texts = [piece.decode("utf-8", "surrogatepass") for piece in pieces]
        return np.cumsum([len(text.encode(self._name, _ERRORS)) for text in texts])


def _units(name: str) -> int:
    """Return the bytes of a character, those beyond UTF-16's first plane apart; 0: they differ."""
    if name.startswith("utf-16"):
        return 2
    if name.startswith("utf-32"):
        return 4
    every = bytes(range(256))
    return int(len(every.decode(name, _ERRORS)) == len(every))


def as_stored(line: bytes) -> bytes:
    """Return a record in UTF-8 with bytes that could not be decoded as they stand."""
    try:
        return line.decode("utf-8", "surrogatepass").encode("utf-8", _ERRORS)
    except UnicodeDecodeError:
        return line
