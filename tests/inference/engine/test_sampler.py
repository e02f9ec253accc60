"""The choice of a token: greedy, or a draw keyed by row and step alone."""

import itertools
from typing import Any

import pytest
import torch

from inference.engine.sampler import Sampler, gumbel, noise, row_key

EXTREMES = [0, 1, 2**23, 2**24 - 1, 2**31, 2**32 - 2**9, 2**32 - 2**8, 2**32 - 2, 2**32 - 1]
"""Words of the hash at which noise is least, greatest or rounded."""
CONTROLS = [(t, p) for t in (1e-45, 1e-10, 0.01, 0.3, 1.0, 100.0) for p in (1.0, 0.9, 0.5, 1e-50)]


def draws(
    rows: int, scores: list[float], temperature: float, top_p: float = 1.0
) -> list[list[int]]:
    """The tokens that two successive steps choose for so many uids: [2, rows]."""
    keys = torch.tensor([row_key(str(i), 1) for i in range(rows)])
    logits, chooser = torch.tensor([scores]).repeat(rows, 1), Sampler(temperature, top_p)
    steps = [torch.full((rows,), step) for step in range(2)]
    return [chooser.choose(logits, keys, step).tolist() for step in steps]


def test_without_temperature_the_likeliest_is_taken() -> None:
    assert draws(3, [0.0, 2.0, 1.0], 0.0) == [[1] * 3] * 2


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_draws_follow_the_softmax_at_each_token(temperature: float) -> None:
    scores, rows = [2.0, 1.0, 0.0, -1.0], 4_000
    shares = torch.softmax(torch.tensor(scores) / temperature, 0)
    for tokens in draws(rows, scores, temperature):
        found = torch.bincount(torch.tensor(tokens), minlength=4) / rows
        # Four standard deviations of a share are at most 0.032.
        torch.testing.assert_close(found, shares, rtol=0, atol=0.032)


def test_successive_draws_of_a_row_are_independent() -> None:
    first, second = draws(4_000, [0.0, 0.0], 1.0)
    same = sum(a == b for a, b in zip(first, second, strict=True)) / 4_000
    assert abs(same - 0.5) < 0.04


def test_top_p_draws_from_the_likeliest_alone() -> None:
    # Shares 0.64, 0.24, 0.09, 0.03: the first two hold 0.8, three are needed for 0.9.
    scores = [3.0, 2.0, 1.0, 0.0]
    assert set(draws(2_000, scores, 1.0, 0.8)[0]) == {0, 1}
    assert set(draws(2_000, scores, 1.0, 0.9)[0]) == {0, 1, 2}
    assert set(draws(2_000, scores, 1.0, 0.01)[0]) == {0}


def test_the_noise_is_gumbels_and_alike_over_the_vocabulary() -> None:
    keys = torch.tensor([row_key(str(i), 3) for i in range(64)])
    noise = gumbel(keys, torch.arange(64), 32_000)
    # Mean 0.5772 (Euler) and variance pi**2 / 6 of the standard Gumbel distribution.
    assert abs(noise.mean().item() - 0.5772) < 0.005
    assert abs(noise.var().item() - 1.6449) < 0.02
    by_token = noise.mean(0)
    assert by_token.var().item() == pytest.approx(1.6449 / 64, rel=0.05)
    pairs = torch.corrcoef(noise[:, :4_000])
    assert (pairs - torch.eye(64)).abs().max() < 0.1


def test_the_noise_of_a_row_does_not_follow_its_place() -> None:
    keys = torch.tensor([row_key(str(i), 3) for i in range(5)])
    together = gumbel(keys, torch.arange(5), 100)
    alone = [gumbel(keys[i : i + 1], torch.tensor([i]), 100)[0] for i in range(5)]
    assert torch.equal(together, torch.stack(alone))
    assert row_key("a", 1) != row_key("a", 2) != row_key("b", 2)
    assert all(0 <= word < 2**32 for word in row_key("a", -5))


def test_the_noise_of_every_word_is_finite_and_grows_with_rarity() -> None:
    # Around each power of two, where float32 begins to round more coarsely, and at both ends.
    near = torch.cat([torch.arange(-300, 300) + 2**power for power in range(33)])
    words = near[(near >= 0) & (near < 2**32)].sort().values
    found = noise(words)
    assert torch.isfinite(found).all()
    assert (found.diff() <= 0).all()
    # -log(-log(1 - 2**-33)) and -log(-log(2**-24)).
    assert found[0].item() == pytest.approx(22.8739, abs=1e-3)
    assert found[-1].item() == pytest.approx(-2.8115, abs=1e-3)


@pytest.mark.parametrize(("temperature", "top_p"), CONTROLS)
def test_no_word_of_the_hash_draws_an_impossible_token(
    temperature: float, top_p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The impossible tokens get one extreme word and the possible one another, in all pairs."""
    # One certain token among impossible ones: infinitely, enormously and merely far apart.
    scores = torch.full((3, 50), -torch.inf)
    scores[1], scores[2] = -3e38, -30 * max(temperature, 1)
    scores[:, 7] = 0.0
    nothing = torch.zeros(3, 2, dtype=torch.int64)
    for own, others in itertools.product(EXTREMES, EXTREMES):

        def extreme(_: Any, __: Any, tokens: torch.Tensor, pair: Any = (own, others)) -> Any:
            return torch.where(tokens == 7, *pair)

        monkeypatch.setattr("inference.engine.sampler.hashes", extreme)
        chosen = Sampler(temperature, top_p).choose(scores, nothing, nothing[:, 0])
        assert chosen.tolist() == [7, 7, 7]


@pytest.mark.parametrize(("temperature", "top_p"), CONTROLS)
def test_equally_likely_tokens_share_the_draws_and_others_get_none(
    temperature: float, top_p: float
) -> None:
    scores = [-torch.inf, 2e4, -torch.inf, 2e4, 2e4, -torch.inf]
    found = set(draws(300, scores, temperature, top_p)[0])
    assert found == {1.0: {1, 3, 4}, 0.9: {1, 3, 4}, 0.5: {1, 3}, 1e-50: {1}}[top_p]


def test_a_tiny_temperature_takes_the_likeliest() -> None:
    scores = [1.0, 3e38, 2.9e38, -3e38]
    for temperature in (1e-45, 1e-30, 1e-10):
        assert draws(50, scores, temperature) == [[1] * 50] * 2


def test_the_highest_noises_differ() -> None:
    # Of 24 bits a row of 32,000 held its highest noise twice once in 400 times, and the first of
    # equals won.
    assert len(noise(torch.arange(2**16)).unique()) == 2**16
