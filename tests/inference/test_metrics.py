"""Scores equal the libraries' own on fixed pairs; what needs no library equals a hand count."""

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from inference import metrics

TEXTS = [
    "A green kettle of steel that boils water in two minutes.",
    "The novel tells of a quiet river, of a lamp and of 3,000 small boats.",
    "Bright lamp.",
    "",
]
REAL = [
    "This steel kettle, in green, boils a litre of water within two minutes!",
    "A novel about a quiet river and the boats on it.",
    "A copper lamp for the garden, small and bright.",
    "A jacket that lasts.",
]


def _score(name: str, table: np.ndarray) -> float:
    return float(metrics.BY_KEY[name].score(table.sum(axis=0, keepdims=True))[0])


def test_bleu_and_chrf_are_sacrebleus() -> None:
    found = metrics.against_references(TEXTS, REAL)
    assert _score("bleu", found["bleu"]) == BLEU().corpus_score(TEXTS, [REAL]).score
    chrf = CHRF(word_order=2)
    assert _score("chrf", found["chrf"]) == chrf.corpus_score(TEXTS, [REAL]).score
    rows = metrics.BY_KEY["chrf"].score(found["chrf"])
    for row, text, real in zip(rows, TEXTS, REAL, strict=True):
        assert row == chrf.sentence_score(text, [real]).score


@pytest.mark.parametrize("kind", ["rouge1", "rouge2", "rougeL"])
def test_rouge_is_rouge_scores(kind: str) -> None:
    found = metrics.against_references(TEXTS, REAL)[kind]
    scorer = RougeScorer([kind])
    own = [scorer.score(real, text)[kind].fmeasure for text, real in zip(TEXTS, REAL, strict=True)]
    assert found[:, 0].tolist() == own
    assert _score(kind, found) == pytest.approx(100 * np.mean(own))
    assert own[0] > 0


def test_signatures_tell_the_settings() -> None:
    told = metrics.signatures()
    assert "|nw:2|" in told["chrf"]
    assert "tok:13a" in told["bleu"]


def test_length_is_characters_over_characters() -> None:
    found = metrics.against_references(["abcd", ""], ["ab", "cd"])
    assert _score("length", found["length"]) == 1.0


def test_distinct_counts_different_ngrams_of_all_texts() -> None:
    found = metrics.of_texts(["A lamp", "a lamp lamp", ""])
    # a, lamp of five words; (a, lamp), (lamp, lamp) of three pairs.
    assert _score("distinct1", found["distinct1"]) == pytest.approx(2 / 5)
    assert _score("distinct2", found["distinct2"]) == pytest.approx(2 / 3)


def test_repetition_counts_what_the_same_text_said_before() -> None:
    found = metrics.of_texts(["one two three four one two three four", "one two three four"])
    # Five runs of four words with one of them twice, and one run.
    assert found["repetition"].tolist() == [[1, 5], [0, 1]]


def test_faithful_adds_up_what_rows_keep() -> None:
    found = metrics.faithful(
        ["A kettle of 2 litres.", "Some lamp, 7 watts."],
        ["Green Kettle", "Lamp 7W"],
        ["Boils.", "Shines."],
    )
    assert found["title_words"].tolist() == [[1, 2], [1, 1]]
    assert found["title_numbers"].tolist() == [[0, 0], [1, 1]]
    assert found["unsupported"].tolist() == [[1, 1], [0, 1]]


def test_no_rows() -> None:
    for name, table in metrics.of_texts([]).items():
        assert table.shape == (0, 2), name


def test_keys_are_unique() -> None:
    assert len(metrics.BY_KEY) == len(metrics.METRICS)
