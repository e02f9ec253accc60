"""Chance is splitmix64, and the same for one place as for many."""

import numpy as np
import pytest

from data.synthetic import draws


def test_the_generator_is_splitmix64() -> None:
    # The first outputs for the state 0, as its authors' own code gives them.
    golden = 0x9E3779B97F4A7C15
    outputs = [draws.mix(golden * step & draws.MASK) for step in (1, 2, 3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_one_word_equals_the_first_of_many() -> None:
    index = np.array([0, 1, 5, 9_999_999])
    for seed, stream in ((0, 0), (3407, 5), (draws.MASK, 3)):
        words = draws.draw(seed, stream, index, 3)
        assert words.shape == (4, 3)
        assert [draws.word(seed, stream, int(place)) for place in index] == words[:, 0].tolist()


def test_streams_and_places_draw_apart() -> None:
    words = [draws.draw(3407, stream, np.arange(1_000), 64) for stream in range(6)]
    assert len(np.unique(words)) == 6 * 64_000


def test_units_fill_zero_to_one_and_bytes_are_those_of_the_words() -> None:
    words = draws.draw(3407, 0, np.arange(10_000), 1)
    units = draws.unit(words[:, 0])
    assert 0 <= units.min() < 0.001 < 0.999 < units.max() < 1
    assert units.mean() == pytest.approx(0.5, abs=0.01)
    assert draws.as_bytes(words)[7] == int(words[7, 0]).to_bytes(8, "little")
