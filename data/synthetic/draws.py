"""Chance that is a pure function of a seed and a place, so that any process can draw any range.

splitmix64 (Steele, Lea and Flood, 2014) over a counter: draw k of record i in a stream is
``mix(key(seed, stream) + golden * (64 i + k))``, made for whole blocks in numpy.
"""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Draws = NDArray[np.uint64]

MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mix(value: int) -> int:
    """Finish one splitmix64 draw."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & MASK
    return value ^ (value >> 31)


def key(seed: int, stream: int) -> int:
    """Return the start of a stream's counter."""
    return mix(mix((seed + _GOLDEN) & MASK) + stream * _GOLDEN & MASK)


def word(seed: int, stream: int, index: int) -> int:
    """Draw one 64-bit word at one place: the first of those that ``draw`` returns there."""
    return mix((index * 64 * _GOLDEN + key(seed, stream)) & MASK)


def draw(seed: int, stream: int, index: NDArray[np.int64], words: int) -> Draws:
    """Draw 64-bit words at the given places. [places, words], words at most 64."""
    counter = index.astype(np.uint64)[:, None] * np.uint64(64) + np.arange(words, dtype=np.uint64)
    value = cast("Draws", counter * np.uint64(_GOLDEN) + np.uint64(key(seed, stream)))
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def unit(draws: NDArray[Any]) -> NDArray[np.float64]:
    """Map words to [0, 1), exactly alike on every machine."""
    return (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53


def as_bytes(draws: Draws) -> list[bytes]:
    """Return each row's words as bytes, each of which then makes one choice."""
    width = draws.shape[1] * 8
    raw = draws.astype("<u8").tobytes()
    return [raw[place : place + width] for place in range(0, len(raw), width)]
