"""Sample key and split of a record: which rows a subset takes, on every machine alike.

Pure and free of Arrow and Dask: strings in, numbers out. Both are keyed hashes (xxh3, 64 bits,
https://xxhash.com), so they depend on the record and the seed alone, never on the file's order,
the shards or the workers.

Key derivation: the key of a purpose is ``xxh3_64(b"<purpose>:<seed>")`` with the seed in
decimal, used as xxh3's own seed. The purposes are ``sample``, hashed over the UTF-8 bytes of the
uid, and ``split``, hashed over those of the normalised title.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import xxhash

from data.errors import ConfigError

_NOT_LETTERS = re.compile(r"[\W_]+")
# The same of ASCII, which takes half the time.
_NOT_ASCII_LETTERS = bytes(byte for byte in range(128) if not chr(byte).isalnum())
_SPAN = 2**64


@dataclass(frozen=True)
class SplitShares:
    """Which share of the titles is held out; the rest is for training."""

    validation: float = 0.01
    """Share of titles for validation, 0 to 1."""

    test: float = 0.01
    """Share of titles for test, 0 to 1."""

    def __post_init__(self) -> None:
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            shares = f"validation {self.validation}, test {self.test}"
            raise ConfigError("--shares", "shares from 0 that leave some for training", shares)


def derive_key(purpose: str, seed: int) -> int:
    """Derive the 64-bit key of one purpose from the recipe's seed."""
    key: int = xxhash.xxh3_64_intdigest(f"{purpose}:{seed}".encode())
    return key


def sample_keys(uids: Iterable[str], seed: int) -> list[int]:
    """Return the place of each uid in the sampling order: an unsigned 64-bit number.

    A subset of n holds the rows with the n smallest.
    """
    key = derive_key("sample", seed)
    return [xxhash.xxh3_64_intdigest(uid.encode(), key) for uid in uids]


def normalise_title(title: str) -> str:
    """Fold case and drop punctuation and spaces, so that spellings of one title agree.

    A title without a single letter or digit is only case-folded: ``???`` and ``!!!`` differ.
    """
    folded = title.casefold()
    if folded.isascii():
        return folded.encode().translate(None, _NOT_ASCII_LETTERS).decode() or folded
    return _NOT_LETTERS.sub("", folded) or folded


def title_key(title: str) -> int:
    """Hash a title to 64 bits so that its spellings agree."""
    key: int = xxhash.xxh3_64_intdigest(normalise_title(title).encode())
    return key


def splits(titles: Iterable[str], seed: int, shares: SplitShares) -> list[str]:
    """Assign each title to ``train``, ``validation`` or ``test``.

    Rows whose titles normalise to the same text fall on the same side, whatever their uid.
    """
    key = derive_key("split", seed)
    test_below = int(shares.test * _SPAN)
    validation_below = test_below + int(shares.validation * _SPAN)
    assigned = []
    for title in titles:
        place = xxhash.xxh3_64_intdigest(normalise_title(title).encode(), key)
        if place >= validation_below:
            assigned.append("train")
        else:
            assigned.append("test" if place < test_below else "validation")
    return assigned
