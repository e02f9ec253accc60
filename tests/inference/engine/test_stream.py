"""Answers streamed from slots: the engine's own texts, whoever else asks, stopped or refused."""

import dataclasses
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from data.artefacts.run import Run
from data.errors import ModelError
from inference.engine.reference import ReferenceEngine
from inference.engine.requests import Completion, Request, Wish
from inference.engine.slots.decoder import Decoder
from inference.engine.stream import _WAIT, BusyError, SlotAnswerer, WholeAnswerer, answerer
from inference.engine.weights import Texts
from tests.builders import greedy, some_titles

GREEDY = greedy(seed=0)
DRAWN = dataclasses.replace(GREEDY, temperature=0.8)


@pytest.fixture(scope="module")
def greedy(model: Run) -> Iterator[SlotAnswerer]:
    with closing(SlotAnswerer(model, GREEDY, 64)) as made:
        yield made


@pytest.fixture(scope="module")
def drawn(model: Run) -> Iterator[SlotAnswerer]:
    with closing(SlotAnswerer(model, DRAWN, 64)) as made:
        yield made


@pytest.fixture(scope="module")
def long_prompt(model: Run, greedy: SlotAnswerer) -> str:
    """A prompt whose answer goes on to the limit."""
    prompts = [model.prompt.ask("What is it like?", title) for title in some_titles(12)]
    whole = {prompt: last(greedy.stream(prompt, "", 1)) for prompt in prompts}
    return next(prompt for prompt in prompts if whole[prompt].finish_reason == "length")


def last(stream: Iterator[Completion]) -> Completion:
    *_, whole = stream
    return whole


def test_the_texts_are_those_of_generate(model: Run, greedy: SlotAnswerer) -> None:
    prompts = [model.prompt.ask("What is it like?", title) for title in some_titles(12)]
    reference = ReferenceEngine(model, GREEDY)
    expected = reference.generate([Request("", prompt) for prompt in prompts])
    assert [last(greedy.stream(prompt, "", 1)) for prompt in prompts] == expected
    assert {each.finish_reason for each in expected} == {"stop", "length"}


def test_a_text_grows(greedy: SlotAnswerer, long_prompt: str) -> None:
    seen = list(greedy.stream(long_prompt, "", 1))
    assert len(seen) > 1
    lengths = [each.new_tokens for each in seen]
    assert lengths == sorted(lengths)


def test_a_text_does_not_depend_on_who_else_asks(model: Run, drawn: SlotAnswerer) -> None:
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


def test_the_seed_and_the_record_draw_the_text(model: Run, drawn: SlotAnswerer) -> None:
    prompt = model.prompt.ask("What is it like?", "Green kettle No. 0")
    texts = {seed: last(drawn.stream(prompt, "u", seed)).text for seed in range(6)}
    assert last(drawn.stream(prompt, "u", 3)).text == texts[3]
    assert len(set(texts.values())) > 1
    assert len({last(drawn.stream(prompt, f"u{i}", 3)).text for i in range(6)}) > 1


def test_answers_of_one_batch_have_temperatures_and_lengths_of_their_own(
    model: Run, greedy: SlotAnswerer, drawn: SlotAnswerer
) -> None:
    prompts = [model.prompt.ask("What is it like?", title) for title in some_titles(12)]
    wishes = [Wish(0.0), Wish(), Wish(0.8), Wish(0.8, 3)]
    expected = [
        last((greedy if i % 4 == 0 else drawn).stream(prompt, f"u{i}", 7))
        for i, prompt in enumerate(prompts)
    ]
    together: dict[int, Completion] = {}

    def ask(i: int) -> None:
        together[i] = last(drawn.stream(prompts[i], f"u{i}", 7, wishes[i % 4]))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for i, whole in enumerate(expected):
        if i % 4 < 3:
            assert together[i] == whole
        else:
            assert together[i].new_tokens <= 3
            assert whole.text.startswith(together[i].text)
    hotter = [last(drawn.stream(prompt, "u", 7, Wish(5.0))) for prompt in prompts]
    assert hotter != [last(drawn.stream(prompt, "u", 7)) for prompt in prompts]


def test_the_reference_engine_writes_as_wished(model: Run) -> None:
    prompt = model.prompt.ask("What is it like?", "Green kettle No. 0")
    whole = WholeAnswerer(model, DRAWN)
    cold = last(WholeAnswerer(model, GREEDY).stream(prompt, "u", 7))
    assert last(whole.stream(prompt, "u", 7, Wish(0.0))) == cold
    assert last(whole.stream(prompt, "u", 7, Wish(most_tokens=2))).new_tokens <= 2


def test_closing_a_stream_gives_its_slot_back(model: Run, long_prompt: str) -> None:
    settings = dataclasses.replace(GREEDY, max_new_tokens=120)
    with closing(SlotAnswerer(model, settings, 64)) as answers:
        for _ in range(20):  # more than there are slots
            stream = answers.stream(long_prompt, "", 1)
            next(stream)
            stream.close()
        settle(answers)
        assert last(answers.stream(long_prompt, "", 1)).new_tokens >= 14


def test_too_many_and_too_long_are_refused(model: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlotAnswerer, "_work", lambda self: None)
    monkeypatch.setattr("inference.engine.stream._WAIT", 0.01)
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
    model: Run, long_prompt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no memory left")

    with closing(SlotAnswerer(model, GREEDY, 4)) as answers:
        with monkeypatch.context() as patch:
            patch.setattr(Decoder, "advance", fails)
            with pytest.raises(ModelError, match="no memory left"):
                last(answers.stream(long_prompt, "", 1))
        assert last(answers.stream(long_prompt, "", 1)).new_tokens == 14


def test_stoppers_lose_nobody_an_answer(model: Run, drawn: SlotAnswerer) -> None:
    prompts = [model.prompt.ask("What is it like?", title) for title in some_titles(12)]
    alone = [last(drawn.stream(prompt, f"u{i}", 7)) for i, prompt in enumerate(prompts)]
    together: dict[int, list[Completion]] = {i: [] for i in range(12)}
    is_over = threading.Event()

    def ask(i: int) -> None:
        for _ in range(2):
            together[i].append(last(drawn.stream(prompts[i], f"u{i}", 7)))

    def stop(after: int) -> None:
        while not is_over.is_set():
            stream = drawn.stream(prompts[after], f"s{after}", 7)
            time.sleep(0.01)
            for _ in zip(range(after), stream, strict=False):
                pass
            stream.close()

    askers = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
    stoppers = [threading.Thread(target=stop, args=(i,)) for i in (1, 2, 3)]
    for thread in askers + stoppers:
        thread.start()
    for thread in askers:
        thread.join(60)
    is_over.set()
    for thread in stoppers:
        thread.join(20)
    assert together == {i: [alone[i]] * 2 for i in range(12)}
    settle(drawn)


def settle(answers: SlotAnswerer) -> None:
    """Wait until nobody is answered any more."""
    until = time.monotonic() + 20
    while answers.load() != (0, 0):
        assert time.monotonic() < until, answers.load()
        time.sleep(0.02)


def all_together(answers: SlotAnswerer, prompts: list[str]) -> list[Completion | ModelError]:
    """Ask all at once; an answer or its fault for each."""
    told: dict[int, Completion | ModelError] = {}

    def ask(i: int) -> None:
        try:
            told[i] = last(answers.stream(prompts[i], f"u{i}", 7))
        except ModelError as error:
            told[i] = error

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [told[i] for i in range(len(prompts))]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("fails", ["one admission", "one step", "every step of one", "the thread"])
def test_a_fault_is_that_of_one_answer_alone(
    model: Run,
    drawn: SlotAnswerer,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
) -> None:  # fmt: skip
    prompts = [model.prompt.ask("What is it like?", title) for title in some_titles(20)]
    alone = [last(drawn.stream(prompt, f"u{i}", 7)) for i, prompt in enumerate(prompts)]
    culprit = Texts(model, DRAWN).encode([Request("", prompts[3])])[0]
    admit, advance = Decoder.admit, Decoder.advance
    steps = iter(range(10_000))
    prompt_in: dict[int, list[int]] = {}

    def admits(self: Decoder, row: Any, slot: int) -> None:
        if fails == "one admission" and row.ids == culprit:
            raise RuntimeError("no memory left")
        prompt_in[slot] = row.ids
        admit(self, row, slot)

    def advances(self: Decoder, slots: list[int], some: int) -> Any:
        step = next(steps)
        if fails == "one step" and step == 2:
            raise RuntimeError("no memory left")
        if fails == "every step of one" and any(prompt_in[slot] == culprit for slot in slots):
            raise RuntimeError("no memory left")
        if fails == "the thread" and step == 2:
            raise SystemExit
        return advance(self, slots, some)

    monkeypatch.setattr(Decoder, "admit", admits)
    monkeypatch.setattr(Decoder, "advance", advances)
    told = all_together(drawn, prompts)
    if fails in ("one admission", "every step of one"):
        assert "no memory left" in str(told.pop(3))
        del alone[3]
    assert told == alone
    settle(drawn)


def test_who_waits_can_leave_and_takes_no_place(model: Run, long_prompt: str) -> None:
    with closing(SlotAnswerer(model, GREEDY, 2)) as answers:
        admit = answers._admit
        answers._admit = lambda: time.sleep(0.01)  # type: ignore[method-assign]
        time.sleep(2 * _WAIT)  # for one who is just being looked for
        streams = [answers.stream(long_prompt, "", 1) for _ in range(4)]
        # Without news it comes back, so that it can be closed.
        assert [next(stream).new_tokens for stream in streams[:2]] == [0, 0]
        with pytest.raises(BusyError):
            next(streams[2])
        streams[1].close()
        assert next(streams[3]).new_tokens == 0
        answers._admit = admit  # type: ignore[method-assign]
        assert last(streams[0]) == last(streams[3])


def test_other_models_answer_whole(model: Run, greedy: SlotAnswerer) -> None:
    whole = WholeAnswerer(model, dataclasses.replace(GREEDY, engine="reference"))
    prompt = model.prompt.ask("What is it like?", "Green kettle No. 0")
    assert list(whole.stream(prompt, "", 1)) == [last(greedy.stream(prompt, "", 1))]
    with pytest.raises(ModelError, match="tokens too many"):
        next(whole.stream("ß" * 300, "", 1))
    whole.close()


def test_the_base_answers_without_the_adapter(model: Run) -> None:
    base = model.without_adapter()
    assert base.adapter is None
    prompt = model.prompt.ask("What is it like?", "Green kettle No. 0")
    with closing(answerer(base, GREEDY, 4)) as answers:
        said = last(answers.stream(prompt, "", 1))
    expected = ReferenceEngine(base, GREEDY).generate([Request("", prompt)])
    assert [said] == expected
