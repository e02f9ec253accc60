"""The choice of a token: greedy, or a draw keyed by row and step alone."""

import pytest
import torch

from inference.choice import Chooser, gumbel, row_key


def draws(
    rows: int, scores: list[float], temperature: float, top_p: float = 1.0
) -> list[list[int]]:
    """The tokens that two successive steps choose for so many uids: [2, rows]."""
    keys = torch.tensor([row_key(str(i), 1) for i in range(rows)])
    logits, chooser = torch.tensor([scores]).repeat(rows, 1), Chooser(temperature, top_p)
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
