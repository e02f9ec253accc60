"""Answers streamed from slots: the engine's own texts, whoever else asks, stopped or refused."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from data.errors import ModelError
from inference import answering, engine
from inference.answering import BusyError, SlotAnswerer, WholeAnswerer
from inference.engine import Completion, Model, Request, Settings

GREEDY = Settings(14, 0.0, 1.0, 0, None, "fast", "cpu", None, 1)
DRAWN = dataclasses.replace(GREEDY, temperature=0.8)


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return engine.find_model(str(run))


@pytest.fixture(scope="module")
def greedy(model: Model) -> Iterator[SlotAnswerer]:
    with closing(SlotAnswerer(model, GREEDY, 64)) as made:
        yield made


@pytest.fixture(scope="module")
def drawn(model: Model) -> Iterator[SlotAnswerer]:
    with closing(SlotAnswerer(model, DRAWN, 64)) as made:
        yield made


@pytest.fixture(scope="module")
def long_prompt(model: Model, greedy: SlotAnswerer, some_titles: Callable[[int], list[str]]) -> str:
    """A prompt whose answer goes on to the limit."""
    prompts = [model.prompt.ask("What is it like?", title) for title in some_titles(12)]
    whole = {prompt: last(greedy.stream(prompt, "", 1)) for prompt in prompts}
    return next(prompt for prompt in prompts if whole[prompt].finish_reason == "length")


def last(stream: Iterator[Completion]) -> Completion:
    *_, whole = stream
    return whole


def test_the_texts_are_those_of_generate(
    model: Model, greedy: SlotAnswerer, some_titles: Callable[[int], list[str]]
) -> None:
    prompts = [model.prompt.ask("What is it like?", title) for title in some_titles(12)]
    reference = engine.ReferenceEngine(model, GREEDY)
    expected = reference.generate([Request("", prompt) for prompt in prompts])
    assert [last(greedy.stream(prompt, "", 1)) for prompt in prompts] == expected
    assert {each.finish_reason for each in expected} == {"stop", "length"}


def test_a_text_grows(greedy: SlotAnswerer, long_prompt: str) -> None:
    seen = list(greedy.stream(long_prompt, "", 1))
    assert len(seen) > 1
    lengths = [each.new_tokens for each in seen]
    assert lengths == sorted(lengths)


def test_a_text_does_not_depend_on_who_else_asks(
    model: Model, drawn: SlotAnswerer, some_titles: Callable[[int], list[str]]
) -> None:
    prompts = [model.prompt.ask("What is it like?", title) for title in some_titles(40)]
    alone = [last(drawn.stream(prompt, f"u{i}", 7)) for i, prompt in enumerate(prompts)]
    together: dict[int, Completion] = {}

    def ask(i: int) -> None:
        together[i] = last(drawn.stream(prompts[i], f"u{i}", 7))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [together[i] for i in range(40)] == alone


def test_the_seed_and_the_record_draw_the_text(model: Model, drawn: SlotAnswerer) -> None:
    prompt = model.prompt.ask("What is it like?", "Green kettle No. 0")
    texts = {seed: last(drawn.stream(prompt, "u", seed)).text for seed in range(6)}
    assert last(drawn.stream(prompt, "u", 3)).text == texts[3]
    assert len(set(texts.values())) > 1
    assert len({last(drawn.stream(prompt, f"u{i}", 3)).text for i in range(6)}) > 1


def test_closing_a_stream_gives_its_slot_back(model: Model, long_prompt: str) -> None:
    settings = dataclasses.replace(GREEDY, max_new_tokens=120)
    with closing(SlotAnswerer(model, settings, 64)) as answers:
        for _ in range(20):  # more than there are slots
            stream = answers.stream(long_prompt, "", 1)
            next(stream)
            stream.close()
        until = time.monotonic() + 20
        while answers.load() != (0, 0) and time.monotonic() < until:
            time.sleep(0.02)
        assert answers.load() == (0, 0)
        assert last(answers.stream(long_prompt, "", 1)).new_tokens >= 14


def test_too_many_and_too_long_are_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlotAnswerer, "_work", lambda self: None)
    monkeypatch.setattr(answering, "_WAIT", 0.01)
    answers = SlotAnswerer(model, GREEDY, 1)
    waiting = threading.Thread(target=_ask_and_fail, args=(answers,))
    waiting.start()
    while answers.load() != (0, 1):
        time.sleep(0.01)
    with pytest.raises(BusyError, match="fewer than 1 waiting"):
        next(answers.stream("a kettle", "", 1))
    with pytest.raises(ModelError, match="tokens"):
        next(answers.stream("ß" * 300, "", 1))
    answers.close()
    waiting.join(20)
    assert not waiting.is_alive()


def _ask_and_fail(answers: SlotAnswerer) -> None:
    with pytest.raises(ModelError, match="one that ends"):
        next(answers.stream("a kettle", "", 1))


def test_a_fault_of_the_model_reaches_who_asked(
    model: Model, long_prompt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SlotAnswerer(model, GREEDY, 4)) as answers:
        advance = answers._decoder.advance

        def fails(_: list[int]) -> None:
            raise RuntimeError("no memory left")

        monkeypatch.setattr(answers._decoder, "advance", fails)
        with pytest.raises(ModelError, match="no memory left"):
            last(answers.stream(long_prompt, "", 1))
        monkeypatch.setattr(answers._decoder, "advance", advance)
        assert last(answers.stream(long_prompt, "", 1)).new_tokens == 14


def test_other_models_answer_whole(model: Model, greedy: SlotAnswerer) -> None:
    whole = WholeAnswerer(model, dataclasses.replace(GREEDY, engine="reference"))
    prompt = model.prompt.ask("What is it like?", "Green kettle No. 0")
    assert list(whole.stream(prompt, "", 1)) == [last(greedy.stream(prompt, "", 1))]
    with pytest.raises(ModelError, match="tokens too many"):
        next(whole.stream("ß" * 300, "", 1))
    whole.close()


def test_the_base_answers_without_the_adapter(model: Model) -> None:
    base = answering.base_of(model)
    assert base.adapter is None
    prompt = model.prompt.ask("What is it like?", "Green kettle No. 0")
    with closing(answering.answerer(base, GREEDY, 4)) as answers:
        said = last(answers.stream(prompt, "", 1))
    expected = engine.ReferenceEngine(base, GREEDY).generate([Request("", prompt)])
    assert [said] == expected
