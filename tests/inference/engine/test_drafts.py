"""What a text so far rules out: both engines alike, token for token, and literal small cases."""

import dataclasses
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from data.artefacts.run import Run
from data.prompt import Prompt
from inference.engine import drafts
from inference.engine.batch import FastEngine
from inference.engine.drafts import Draft, Drafts, find_sentence_ends, forbid_repeats, penalise
from inference.engine.reference import ReferenceEngine
from inference.engine.requests import Request
from tests.builders import greedy, some_titles

PLAIN = greedy(max_new_tokens=40)
TITLES = int(os.environ.get("CATALOGUE_TITLES", "60"))
CONTROLS: dict[str, dict[str, Any]] = {
    "greedy, which loops": {},
    "penalty": {"repetition_penalty": 1.2},
    "no 3-gram twice": {"no_repeat_ngram": 3},
    "min-p": {"temperature": 1.0, "min_p": 0.1},
    "top-p": {"temperature": 0.9, "top_p": 0.9},
    "ending": {"end_after": 10},
    "all": {
        "temperature": 0.7, "top_p": 0.95, "min_p": 0.02, "repetition_penalty": 1.1,
        "no_repeat_ngram": 2, "end_after": 12,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def model(run: Path) -> Run:
    return Run.open(str(run))


@pytest.mark.parametrize("controls", CONTROLS.values(), ids=CONTROLS)
def test_each_control_writes_the_references_tokens_in_any_batch(
    controls: dict[str, Any], model: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "_LEAST_LOOP", 1)  # a small model loops in short periods
    settings = dataclasses.replace(PLAIN, **controls)
    requests = [
        Request(f"u{i}", Prompt().render(title), draw)
        for i, title in enumerate(some_titles(TITLES))
        for draw in range(2)
    ]
    reference = ReferenceEngine(model, dataclasses.replace(settings, batch_size=50))
    expected = dict(zip(requests, reference.generate(requests), strict=True))
    shuffled = random.Random(0).sample(requests, len(requests))  # noqa: S311
    for slots, some in ((1, requests[:9]), (7, requests[:40]), (64, shuffled)):
        writer = FastEngine(model, dataclasses.replace(settings, batch_size=slots))
        assert writer.generate(some) == [expected[request] for request in some]
    pairs = zip(requests[::2], requests[1::2], strict=True)
    differ = sum(expected[one].text != expected[other].text for one, other in pairs)
    assert (differ > 0) == (settings.temperature > 0)
    reasons = {text.finish_reason for text in expected.values()}
    is_barred = controls.keys() & {"no_repeat_ngram", "repetition_penalty"}
    assert reasons >= ({"stop"} if is_barred else {"stop", "loop"})


def write(*rows: list[int], limit: int = 60) -> Drafts:
    texts = Drafts(len(rows), limit, 1, "cpu")
    texts.begin(torch.arange(len(rows)), torch.full((len(rows),), limit))
    for tokens in zip(*rows, strict=True):
        texts.append(torch.tensor(tokens))
    return texts


def test_a_text_that_only_repeats_itself_ends_and_loses_what_it_repeats() -> None:
    period = [5, 6, 7, 8, 9, 10, 11, 12]
    loop = [3, 4, *period, *period, *period, 13, 14]
    (draft,) = write(loop).read([0])
    assert draft == Draft(loop[:-2], True, 16)
    assert draft.ids[: -draft.tail] == [3, 4, *period]
    ones = [3] + [4] * 17
    (draft,) = write(ones).read([0])
    assert draft == Draft(ones, True, 16)
    # Said twice is no loop, nor are 16 of one token.
    for text in ([3, *period, *period, 4], [3] + [4] * 16, [*range(2, 20)] * 2):
        assert write(text).read([0]) == [Draft(text, False, 0)]


def test_rows_end_apart_and_a_row_begun_anew_knows_nothing_of_the_one_before() -> None:
    texts = write([7, 1, 9, 9], [7, 8, 9, 9])
    assert texts.read([1, 0]) == [Draft([7, 8, 9, 9], False, 0), Draft([7, 1], True, 0)]
    texts.begin(torch.tensor([0]), torch.tensor([2]))
    for tokens in ([7, 5], [7, 5], [7, 5]):
        texts.append(torch.tensor(tokens))
    assert texts.read([0, 1]) == [Draft([7, 7], True, 0), Draft([7, 8, 9, 9, 5, 5, 5], False, 0)]
    assert texts.read([]) == []


def test_written_tokens_are_penalised_once_and_no_others() -> None:
    texts = write([2, 3, 2], [4, 4, 4])
    scores = torch.tensor([[1.0, -1.0, 2.0, -2.0, 4.0]]).repeat(2, 1)
    lower = penalise(scores, texts.tokens, texts.counts, 2.0)
    assert lower.tolist() == [[1.0, -1.0, 1.0, -4.0, 4.0], [1.0, -1.0, 2.0, -2.0, 2.0]]
    empty = Drafts(2, 9, 1, "cpu")
    assert torch.equal(penalise(scores, empty.tokens, empty.counts, 2.0), scores)


def test_tokens_that_would_repeat_a_run_are_ruled_out() -> None:
    texts = write([2, 3, 4, 2, 3, 5, 2, 3], [2, 3, 2, 3, 2, 3, 3, 2])
    scores = torch.zeros(2, 7)

    def barred(size: int) -> list[list[int]]:
        adjusted = forbid_repeats(scores, texts.tokens, texts.counts, size)
        return [torch.isinf(row).nonzero()[:, 0].tolist() for row in adjusted]

    assert barred(2) == [[4, 5], [3]]
    assert barred(3) == [[4, 5], [3]]
    assert barred(4) == [[], []]
    empty = Drafts(2, 9, 1, "cpu")
    assert torch.equal(forbid_repeats(scores, empty.tokens, empty.counts, 3), scores)


def test_tokens_that_end_sentences() -> None:
    pieces = ["a", " end.", "!", '."', "?)", " e.g", "。", "... ", '"', "", "”"]

    class Tokenizer:
        def __len__(self) -> int:
            return len(pieces)

        def batch_decode(self, ids: list[list[int]]) -> list[str]:
            return [pieces[token] for (token,) in ids]

    marks = find_sentence_ends(Tokenizer(), 13).tolist()
    assert [pieces[at] for at, mark in enumerate(marks) if mark] == [
        " end.", "!", '."', "?)", "。", "... ",
    ]  # fmt: skip
    assert len(marks) == 13
