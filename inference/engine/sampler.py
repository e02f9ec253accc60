"""Choose the next token: the likeliest, or a draw whose chance is keyed by row and step.

Pure tensor arithmetic, the same on every device and in every engine: no generator, no state. The
noise of a token is a hash of (run seed, uid, step, token), so a row gets the same text in any
batch, order, worker or restart.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import xxhash

from data.sampling import derive_key
from inference.engine.drafts import Drafts, Ending, forbid_repeats, penalise

if TYPE_CHECKING:
    import torch

NOISE = 2
"""Version of the noise: with another one, the same seed draws other texts."""

_WORD = 0xFFFFFFFF
# Odd constants of a multiplicative hash: 2**32 divided by the golden ratio, and two primes. The
# first as a signed word, as compiled code counts tokens in 32 bits: the same modulo 2**32.
_TOKEN, _STEP, _OTHER = 0x9E3779B1 - 2**32, 0x85EBCA77, 0xC2B2AE3D


def row_key(uid: str, seed: int, draw: int = 0) -> tuple[int, int]:
    """Derive the key of a row's text from the run's seed and its uid: two words of 32 bits."""
    name = uid.encode() + (b"\0%d" % draw if draw else b"")
    key = xxhash.xxh3_64_intdigest(name, derive_key("generate", seed))
    return key & _WORD, key >> 32


@dataclass(frozen=True)
class Sampler:
    """How tokens are chosen."""

    temperature: float
    """0: the likeliest."""
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    ending: Ending | None = None

    def next_tokens(
        self,
        logits: "torch.Tensor",
        keys: "torch.Tensor",
        drafts: Drafts,
        temperatures: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """Choose the next token of each draft; shapes as in ``choose``."""
        scores, so_far = logits, (drafts.tokens, drafts.counts)
        if self.repetition_penalty != 1:
            scores = penalise(scores.float(), *so_far, self.repetition_penalty)
        if self.no_repeat_ngram:
            scores = forbid_repeats(scores.float(), *so_far, self.no_repeat_ngram)
        chosen = self.choose(scores, keys, drafts.counts, temperatures)
        return self.ending.apply(chosen, *so_far) if self.ending else chosen

    def choose(
        self,
        logits: "torch.Tensor",
        keys: "torch.Tensor",
        steps: "torch.Tensor",
        temperatures: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """Choose a token a row.

        The likeliest token after adding Gumbel noise to ``logits / temperature`` is a draw from
        their softmax (Gumbel-max, Gumbel 1954).

        Args:
            logits: [rows, vocabulary].
            keys: [rows, 2] int64, from ``row_key``.
            steps: [rows] int64, new tokens before this one.
            temperatures: [rows] float32, of each row its own; none: the sampler's for all.

        Returns:
            [rows] int64.
        """
        import torch

        if temperatures is None:
            if not self.temperature:
                return logits.argmax(-1)
            return self._draw(logits.float(), keys, steps, self.temperature)
        likeliest = logits.argmax(-1)
        # A graph on a GPU has one shape for all steps.
        if not logits.is_cuda and not temperatures.any():
            return likeliest
        least = torch.finfo(torch.float32).tiny
        drawn = self._draw(logits.float(), keys, steps, temperatures[:, None].clamp_min(least))
        return torch.where(temperatures > 0, drawn, likeliest)

    def _draw(
        self,
        logits: "torch.Tensor",
        keys: "torch.Tensor",
        steps: "torch.Tensor",
        temperature: "float | torch.Tensor",
    ) -> "torch.Tensor":
        """Draw a token a row; shapes as in ``choose``, the temperature one or [rows, 1]."""
        import torch

        scores = _scale(logits, temperature)
        if self.top_p < 1:
            scores = _likeliest(scores, self.top_p)
        if self.min_p:
            scores = scores.masked_fill(scores < math.log(self.min_p), -torch.inf)
        if scores.is_cuda:
            return (scores + gumbel(keys, steps, scores.shape[-1])).argmax(-1)
        # The same noise, for the tokens alone that are left: 20 of 32,000, say. A graph on a GPU
        # has one shape for all steps, and there all noise is one cheap kernel.
        rows, tokens = torch.isfinite(scores).nonzero(as_tuple=True)
        words = hashes(keys[rows], steps[rows], tokens)
        return scores.index_put((rows, tokens), noise(words), accumulate=True).argmax(-1)


def gumbel(keys: "torch.Tensor", steps: "torch.Tensor", vocabulary: int) -> "torch.Tensor":
    """Make standard Gumbel noise: float32 [rows, vocabulary] for keys [rows, 2], steps [rows]."""
    import torch

    tokens = torch.arange(vocabulary, device=keys.device)
    return noise(hashes(keys[:, None], steps[:, None], tokens))


def hashes(keys: "torch.Tensor", steps: "torch.Tensor", tokens: "torch.Tensor") -> "torch.Tensor":
    """Hash to words of 32 bits in int64; keys [..., 2], steps and tokens are broadcast."""
    first = _mix(keys[..., 0] ^ _mix(steps * _STEP & _WORD))
    second = _mix((keys[..., 1] + steps * _OTHER) & _WORD)
    spread = tokens * _TOKEN & _WORD
    return _mix((_mix(spread ^ first) + second) & _WORD)


def noise(words: "torch.Tensor") -> "torch.Tensor":
    """Turn words of 32 bits, held in int64, into standard Gumbel noise: -2.8 to 22.9, float32.

    Finite for every word: infinite noise would choose its token, or none, whatever the scores.
    The chance that noise exceeds a draw is what becomes small, so it is that which the word
    tells: near 0 float32 keeps all 32 bits, near 1 only 24 are left of them.
    """
    import torch

    exceeded = ((words.float() + 0.5) * 2.0**-32).clamp_max(1 - 2.0**-24)
    return -torch.log(-torch.log1p(-exceeded))


def _mix(word: "torch.Tensor") -> "torch.Tensor":
    """Mix 32 bits held in int64: lowbias32 (https://github.com/skeeto/hash-prospector)."""
    word = ((word ^ (word >> 16)) * 0x7FEB352D) & _WORD
    word = ((word ^ (word >> 15)) * 0x846CA68B) & _WORD
    return word ^ (word >> 16)


def _scale(logits: "torch.Tensor", temperature: "float | torch.Tensor") -> "torch.Tensor":
    """Divide by the temperature, measured from the likeliest token, which is at 0.

    However small the temperature, nothing but the others' distance can become infinite.
    """
    import torch

    highest = logits.amax(-1, keepdim=True)
    # A GPU multiplies by the inverse, which is infinite below the smallest normal number.
    if isinstance(temperature, float | int):
        temperature = max(temperature, torch.finfo(torch.float32).tiny)
    apart = (logits - highest) / temperature
    return torch.where(logits == highest, 0.0, apart)


def _likeliest(scores: "torch.Tensor", top_p: float) -> "torch.Tensor":
    """Mask all but the likeliest tokens that together hold this probability, one at least.

    Of equally likely ones the first are taken, on any device.
    """
    import torch

    ordered, places = scores.sort(dim=-1, descending=True, stable=True)
    shares = ordered.softmax(-1)
    before = torch.nn.functional.pad(shares.cumsum(-1)[:, :-1], (1, 0))
    # Float32 knows no top_p below 1e-45: the likeliest, before which nothing stands, stays.
    is_beyond = (before >= top_p) & (before > 0)
    return scores.masked_fill(
        torch.zeros_like(is_beyond).scatter(-1, places, is_beyond), -torch.inf
    )
