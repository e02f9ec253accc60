"""Closeness in meaning: a model of a few words, made here."""

from pathlib import Path

import numpy as np
import pytest

from data.errors import ModelError
from inference.evaluate.judging import pairs, semantic
from inference.evaluate.judging.semantic import Meaning
from tests.builders import save_meaning

WORDS = [
    "kettle",
    "boils",
    "water",
    "quickly",
    "lamp",
    "shines",
    "softly",
    "at",
    "night",
    "book",
    "tells",
    "of",
    "harbours",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_meaning(tmp_path_factory.mktemp("meaning") / "model", WORDS)


def test_the_same_words_are_closest_and_no_words_are_far(folder: str) -> None:
    one = "kettle boils water"
    texts = [one, "water boils", "lamp shines", ""]
    close = Meaning(folder).closeness(texts, [one] * 4)
    assert close[:, 1].tolist() == [1] * 4
    assert close[0, 0] == pytest.approx(1)
    assert 1 > close[1, 0] > close[2, 0] >= 0
    assert close[3, 0] == 0


def test_damaged_texts_are_further_in_at_least_90_of_100(folder: str) -> None:
    chance = np.random.default_rng(1)
    texts, references = [], []
    for _ in range(100):
        words = [str(word) for word in chance.choice(WORDS, 9)]
        references.append(" ".join(words))
        texts.append(" ".join(words[:6]))
    damaged = [pairs.damage(text, str(i)) for i, text in enumerate(texts)]
    meaning = Meaning(folder)
    whole, broken = (meaning.closeness(own, references)[:, 0] for own in (texts, damaged))
    assert (whole > broken).sum() >= 90


def test_a_folder_without_a_model_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        semantic.identify(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"none")
    with pytest.raises(ModelError, match="a model2vec model"):
        Meaning(str(tmp_path))
    assert semantic.identify(folder)["weights"]
