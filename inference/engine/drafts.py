"""The texts that rows have written so far: what they rule out next, and when one ends or loops.

Tensor arithmetic on fixed shapes, the same in both engines and inside a CUDA graph. It sees the
tokens that a row has written, never its prompt: a title's words are not penalised for being named.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

# A text loops once its last tokens repeat those before them twice over, and so many at least.
_LEAST_LOOP = 16
_LONGEST_PERIOD = 128
_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？", "।")
_CLOSING = "\"'”’»)]"


class Draft(NamedTuple):
    """The tokens of one row so far."""

    ids: list[int]
    """With the end of sequence, where the row came to it."""
    is_done: bool
    tail: int
    """How many of the last tokens only repeat a loop that ended the row; 0: it is none."""


class Drafts:
    """What a fixed number of rows have written; all tensors are changed in place."""

    def __init__(self, rows: int, limit: int, eos: int, device: Any) -> None:
        import torch

        def numbers(*size: int) -> torch.Tensor:
            return torch.zeros(size, dtype=torch.int64, device=device)

        # One more place, where rows that are done write and nobody reads.
        self.tokens = numbers(rows, limit + 1)
        self.counts = numbers(rows)
        self.done = torch.ones(rows, dtype=torch.bool, device=device)
        self._limit, self._eos = limit, eos
        self._limits, self._tails = numbers(rows), numbers(rows)
        self._runs = numbers(rows, max(min(limit // 3, _LONGEST_PERIOD), 1))

    def begin(self, rows: "torch.Tensor", limits: "torch.Tensor") -> None:
        """Begin texts anew, of so many tokens at most: both int64 of one length."""
        self.counts[rows] = self._tails[rows] = self._runs[rows] = 0
        self._limits[rows] = limits
        self.done[rows] = False

    def append(self, chosen: "torch.Tensor") -> "torch.Tensor":
        """Write the next token of every row [rows]; return which rows were still going."""
        import torch

        place = torch.where(self.done, self._limit, self.counts)
        self._runs.copy_(_extend_runs(self._runs, self.tokens, self.counts, chosen))
        self.tokens.scatter_(1, place[:, None], chosen[:, None])
        going = ~self.done
        self.counts.add_(going)
        self._tails.copy_(torch.where(going, _loop_tails(self._runs), self._tails))
        is_over = (chosen == self._eos) | (self.counts >= self._limits) | (self._tails > 0)
        self.done.logical_or_(is_over)
        return going

    def read(self, rows: Sequence[int]) -> list[Draft]:
        """Copy some rows' texts to the host."""
        import torch

        if not rows:
            return []
        index = torch.tensor(rows, device=self.tokens.device)
        columns = (column[index].tolist() for column in (self.tokens, self.counts, self.done,
                                                         self._tails))  # fmt: skip
        return [
            Draft(ids[:count], is_done, tail)
            for ids, count, is_done, tail in zip(*columns, strict=True)
        ]


@dataclass(frozen=True)
class Ending:
    """Ends a text with its sentence once it is long."""

    after: int
    """New tokens from which on it does so."""
    eos: int
    sentence_ends: "torch.Tensor"
    """[vocabulary] bool: the tokens that end a sentence."""

    def apply(
        self, chosen: "torch.Tensor", written: "torch.Tensor", counts: "torch.Tensor"
    ) -> "torch.Tensor":
        """Choose the end of sequence for rows whose last token ended a sentence."""
        import torch

        last = written.gather(1, (counts - 1).clamp_min(0)[:, None])[:, 0]
        is_over = (counts >= self.after) & (counts > 0) & self.sentence_ends[last]
        return torch.where(is_over, self.eos, chosen)


def find_sentence_ends(tokenizer: Any, vocabulary: int) -> "torch.Tensor":
    """Mark the tokens of a vocabulary that end a sentence: [vocabulary] bool."""
    import torch

    pieces = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    marks = [piece.rstrip().rstrip(_CLOSING).endswith(_SENTENCE_ENDS) for piece in pieces]
    return torch.tensor((marks + [False] * vocabulary)[:vocabulary])


def penalise(
    scores: "torch.Tensor", written: "torch.Tensor", counts: "torch.Tensor", penalty: float
) -> "torch.Tensor":
    """Make the tokens that a row has written less likely: ``penalty`` times as far from 0 or to it.

    As in Keskar et al. 2019, positive scores are divided and negative ones multiplied.

    Args:
        scores: [rows, vocabulary] float32.
        written: [rows, width] int64, valid up to each row's count.
        counts: [rows] int64.
        penalty: at least 1.
    """
    import torch

    places = torch.arange(written.shape[1], device=written.device)
    # What lies behind the count stands for the first token, so that each token has one score.
    tokens = torch.where(places < counts[:, None], written, written[:, :1])
    own = scores.gather(1, tokens)
    lower = torch.where(own < 0, own * penalty, own / penalty)
    return scores.scatter(1, tokens, torch.where(counts[:, None] > 0, lower, own))


def forbid_repeats(
    scores: "torch.Tensor", written: "torch.Tensor", counts: "torch.Tensor", size: int
) -> "torch.Tensor":
    """Rule out the tokens that would write a run of ``size`` tokens that the row holds already.

    Every earlier run of ``size - 1`` tokens is compared with the last one; shapes as in
    ``penalise``.
    """
    import torch

    width, before = written.shape[1], size - 1
    if width < size:
        return scores
    step = torch.arange(before, device=written.device)
    last = written.gather(1, (counts[:, None] - before + step).clamp_min(0))
    runs = written.unfold(1, before, 1)[:, : width - before]
    followers = torch.arange(before, width, device=written.device)
    is_repeat = (runs == last[:, None]).all(-1) & (followers < counts[:, None])
    # Added, as one token may follow several runs, of which some match.
    barred = torch.where(is_repeat, -torch.inf, 0.0).to(scores.dtype)
    return scores.scatter_add(1, written[:, before:], barred)


def _extend_runs(
    runs: "torch.Tensor", written: "torch.Tensor", counts: "torch.Tensor", chosen: "torch.Tensor"
) -> "torch.Tensor":
    """Count on, for each period, how many of the last tokens equal those one period before.

    Args:
        runs: [rows, periods] int64, the counts without the chosen token, for periods 1, 2, ….
        written: [rows, width] int64, valid up to each row's count.
        counts: [rows] int64.
        chosen: [rows] int64, the token that comes next.
    """
    import torch

    places = counts[:, None] - torch.arange(1, runs.shape[1] + 1, device=runs.device)
    earlier = written.gather(1, places.clamp_min(0))
    is_same = (earlier == chosen[:, None]) & (places >= 0)
    return torch.where(is_same, runs + 1, 0)


def _loop_tails(runs: "torch.Tensor") -> "torch.Tensor":
    """Return how many tokens at the end of each row only repeat a loop, 0 for none: [rows]."""
    import torch

    period = torch.arange(1, runs.shape[1] + 1, device=runs.device)
    is_loop = runs >= (2 * period).clamp_min(_LEAST_LOOP)
    return torch.where(is_loop, runs, 0).amax(-1)
