"""Choose the next token: the likeliest, or a draw whose chance is keyed by row and step.

Pure tensor arithmetic, the same on every device and in every engine: no generator, no state. The
noise of a token is a hash of (run seed, uid, step, token), so a row gets the same text in any
batch, order, worker or restart.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import xxhash

from data.sampling import derive_key

if TYPE_CHECKING:
    import torch

_WORD = 0xFFFFFFFF
# Odd constants of a multiplicative hash: 2**32 divided by the golden ratio, and two primes.
_TOKEN, _STEP, _OTHER = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D


def row_key(uid: str, seed: int) -> tuple[int, int]:
    """Derive a row's key from the run's seed and its uid: two words of 32 bits."""
    key = xxhash.xxh3_64_intdigest(uid.encode(), derive_key("generate", seed))
    return key & _WORD, key >> 32


@dataclass(frozen=True)
class Chooser:
    """How tokens are chosen."""

    temperature: float
    """0: the likeliest."""
    top_p: float

    def choose(
        self, logits: "torch.Tensor", keys: "torch.Tensor", steps: "torch.Tensor"
    ) -> "torch.Tensor":
        """Choose a token a row.

        The likeliest token after adding Gumbel noise to ``logits / temperature`` is a draw from
        their softmax (Gumbel-max, Gumbel 1954).

        Args:
            logits: [rows, vocabulary].
            keys: [rows, 2] int64, from ``row_key``.
            steps: [rows] int64, new tokens before this one.

        Returns:
            [rows] int64.
        """
        if not self.temperature:
            return logits.argmax(-1)
        scores = logits.float() / self.temperature
        if self.top_p < 1:
            scores = _likeliest(scores, self.top_p)
        return (scores + gumbel(keys, steps, scores.shape[-1])).argmax(-1)


def gumbel(keys: "torch.Tensor", steps: "torch.Tensor", vocabulary: int) -> "torch.Tensor":
    """Make standard Gumbel noise: float32 [rows, vocabulary] for keys [rows, 2], steps [rows]."""
    import torch

    first = _mix(keys[:, 0] ^ _mix(steps * _STEP & _WORD))
    second = _mix((keys[:, 1] + steps * _OTHER) & _WORD)
    tokens = torch.arange(vocabulary, device=keys.device) * _TOKEN & _WORD
    hashed = _mix((_mix(tokens[None] ^ first[:, None]) + second[:, None]) & _WORD)
    # 24 bits, in the middle of their interval: neither 0 nor 1.
    uniform = ((hashed >> 8).float() + 0.5) * 2.0**-24
    return -torch.log(-torch.log(uniform))


def _mix(word: "torch.Tensor") -> "torch.Tensor":
    """Mix 32 bits held in int64: lowbias32 (https://github.com/skeeto/hash-prospector)."""
    word = ((word ^ (word >> 16)) * 0x7FEB352D) & _WORD
    word = ((word ^ (word >> 15)) * 0x846CA68B) & _WORD
    return word ^ (word >> 16)


def _likeliest(scores: "torch.Tensor", top_p: float) -> "torch.Tensor":
    """Mask all but the likeliest tokens that together hold this probability."""
    import torch

    ordered, places = scores.sort(-1, descending=True)
    held = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    return scores.masked_fill(
        torch.zeros_like(scores, dtype=torch.bool).scatter(-1, places, held >= top_p), -torch.inf
    )
