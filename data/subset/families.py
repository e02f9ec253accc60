"""Families: rows that say nearly the same, found without comparing all with all.

Two rows are near duplicates where their descriptions share enough of the triples of words that
either has (Jaccard), as MinHash estimates it (Broder 1997), or their titles normalise to the same
text. A family is what such pairs join. Pairs are looked for among rows that share a band of their
signatures (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4).

Pure: texts and numbers in, numbers out; about 230 bytes a row.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from data import words

_BANDS, _PER_BAND = 25, 5
_SIGNATURE = _BANDS * _PER_BAND
_SEED = 3407
# Of each number of a signature the lowest byte is kept: two that differ have it once in 256.
_BY_CHANCE = 1 / 256
_TEXTS_AT_ONCE = 20_000
_PAIRS_AT_ONCE = 2**18
_ODD = np.uint64(0x9E3779B185EBCA87)


def sign(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sign texts by the triples of their words.

    Args:
        texts: N of them.

    Returns:
        Signatures, [N, 125] uint8: texts of a Jaccard of 0.8 agree in 80 % of them, with a
        standard error of 3.6 %. And the keys of their bands, [N, 25] uint32: such texts share one
        but once in 20,000 times, texts of 0.6 seven times in eight.
    """
    from rensa import RMinHash

    minima = np.empty((len(texts), _SIGNATURE), np.uint32)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        some = [triples(text) for text in texts[start : start + _TEXTS_AT_ONCE]]
        matrix = RMinHash.digest_matrix_from_token_sets(some, _SIGNATURE, _SEED)
        minima[start : start + len(some)] = matrix.to_rows()
    keys = np.zeros((len(texts), _BANDS), np.uint64)
    for place in range(_PER_BAND):
        keys = (keys ^ minima[:, place::_PER_BAND]) * _ODD
        keys ^= keys >> np.uint64(29)
    return minima.astype(np.uint8), (keys >> np.uint64(32)).astype(np.uint32)


def triples(text: str) -> list[str]:
    """Return the triples of words of a text; of fewer words, or none, the text is the only one."""
    spoken = words.words(text)
    if len(spoken) < 3:
        return [" ".join(spoken) or text]
    return list(map(" ".join, zip(spoken, spoken[1:], spoken[2:], strict=False)))


def join(
    alike: Iterable[np.ndarray], signatures: np.ndarray, keys: np.ndarray, similarity: float
) -> np.ndarray:
    """Join rows into families.

    Args:
        alike: arrays of N values; rows of an equal value in any of them are of one family.
        signatures: [N, 125], from ``sign``.
        keys: [N, 25], from ``sign``.
        similarity: the estimated Jaccard from which on rows are near duplicates, 0 to 1.

    Returns:
        The position of the first row of each row's family, [N] int64.
    """
    heads = np.arange(len(signatures))
    for values in alike:
        first, rows = _repeated(values)
        _unite(heads, first, rows)
    least = (similarity - 1e-9) * (1 - _BY_CHANCE) + _BY_CHANCE
    for band in range(_BANDS):
        for one, other in _pairs(keys[:, band]):
            is_open = heads[one] != heads[other]
            one, other = one[is_open], other[is_open]
            is_near = (signatures[one] == signatures[other]).mean(axis=1) >= least
            _unite(heads, one[is_near], other[is_near])
    return heads


def _repeated(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows whose value stands earlier, each behind the first row that has it."""
    _, first, group = np.unique(values, return_index=True, return_inverse=True)
    rows = np.flatnonzero(first[group] != np.arange(len(values)))
    return first[group][rows], rows


def _pairs(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pair each row that shares its key with the first of that key, and with the one before it.

    So a key of many rows, which boilerplate gives, costs no more than its rows.
    """
    order = np.argsort(keys, kind="stable")
    follows = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    first, rows = _repeated(keys)
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        yield first[start : start + _PAIRS_AT_ONCE], rows[start : start + _PAIRS_AT_ONCE]
    for start in range(0, len(follows), _PAIRS_AT_ONCE):
        some = follows[start : start + _PAIRS_AT_ONCE]
        yield order[some], order[some + 1]


def _unite(heads: np.ndarray, one: np.ndarray, other: np.ndarray) -> None:
    """Join the families of pairs of rows, in place: a head is the first row of its family."""
    while len(one):
        low, high = np.minimum(heads[one], heads[other]), np.maximum(heads[one], heads[other])
        is_open = low < high
        one, other = one[is_open], other[is_open]
        np.minimum.at(heads, high[is_open], low[is_open])
        while (higher := heads[heads] != heads).any():
            heads[higher] = heads[heads[higher]]
