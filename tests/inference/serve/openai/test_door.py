"""The door by the real client: the texts of ask, streams, limits, and refusals in its form."""

import json
from typing import Any

import httpx
import openai
import pytest

from inference.__main__ import main
from tests.inference.serve.openai.conftest import KEY

QUESTION = "me fale sobre o quiet violn"
MODEL = "run"


def _ask(question: str, words: tuple[str, ...], capsys: Any, *more: str) -> dict[str, Any]:
    assert main(["ask", question, *words, *more, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def _chat(client: openai.OpenAI, question: str = QUESTION, **fields: Any) -> Any:
    messages: Any = [{"role": "user", "content": question}]
    return client.chat.completions.create(**{"model": MODEL, "messages": messages} | fields)


def test_adapter_and_base_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list().data] == [MODEL, f"{MODEL}-base"]
    assert client.models.retrieve(f"{MODEL}-base").id == f"{MODEL}-base"
    with pytest.raises(openai.NotFoundError, match="gpt-4"):
        client.models.retrieve("gpt-4")


def test_the_text_and_its_evidence_are_those_of_ask(
    client: openai.OpenAI, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = _ask(QUESTION, words, capsys, "--seed=11", "--compare")
    said = _chat(client, seed=11)
    [choice] = said.choices
    assert choice.message.content == expected["answer"] != ""
    assert choice.finish_reason in ("stop", "length")
    evidence = choice.evidence
    assert evidence["record"] == expected["record"]
    assert evidence["checks"] == expected["checks"]
    assert (evidence["status"], evidence["seed"], evidence["messages_unused"]) == (
        "answered", 11, 0,
    )  # fmt: skip
    assert said.usage.completion_tokens == expected["new_tokens"] > 0
    assert said.usage.prompt_tokens == expected["prompt_tokens"] > 0
    base = _chat(client, seed=11, model=f"{MODEL}-base")
    assert base.choices[0].message.content == expected["base_answer"]
    [old] = client.completions.create(model=MODEL, prompt=QUESTION, seed=11).choices
    assert old.text == expected["answer"]


@pytest.mark.parametrize("temperature", [0, 0.3, 1.5])
def test_a_temperature_of_its_own(
    client: openai.OpenAI, words: tuple[str, ...], capsys: pytest.CaptureFixture[str],
    temperature: float,
) -> None:  # fmt: skip
    expected = _ask(QUESTION, words, capsys, "--seed=5", f"--temperature={temperature}")
    said = _chat(client, seed=5, temperature=temperature)
    assert said.choices[0].message.content == expected["answer"]
    assert said.choices[0].evidence["temperature"] == temperature


def test_a_stream_is_the_same_text_in_pieces(client: openai.OpenAI) -> None:
    whole = _chat(client, seed=3, n=2)
    texts = ["", ""]
    usage, reasons, evidence = None, {}, {}
    options = {"include_usage": True}
    for piece in _chat(client, seed=3, n=2, stream=True, stream_options=options):
        usage = piece.usage or usage
        for choice in piece.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
                evidence[choice.index] = choice.evidence
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == {choice.index: choice.finish_reason for choice in whole.choices}
    assert [evidence[i] for i in (0, 1)] == [choice.evidence for choice in whole.choices]
    assert usage == whole.usage
    old = client.completions.create(model=MODEL, prompt=QUESTION, seed=3, stream=True)
    assert "".join(piece.choices[0].text for piece in old) == texts[0]


def test_several_texts_are_those_of_the_next_seeds(client: openai.OpenAI) -> None:
    texts = [choice.message.content for choice in _chat(client, seed=20, n=3).choices]
    assert texts == [_chat(client, seed=20 + i).choices[0].message.content for i in range(3)]
    both = client.completions.create(
        model=MODEL, prompt=[QUESTION, "The Quiet Violin?"], seed=20, n=2
    )
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in both.choices[:2]] == texts[:2]


def test_fewer_tokens_and_stop_words_end_a_text(client: openai.OpenAI) -> None:
    whole = _chat(client, seed=3).choices[0].message.content
    for field in ("max_tokens", "max_completion_tokens"):
        short = _chat(client, seed=3, **{field: 3})
        assert short.usage.completion_tokens <= 3
        assert whole.startswith(short.choices[0].message.content)
        assert short.choices[0].finish_reason == "length"
    word = whole[len(whole) // 2 :][:3]
    cut = _chat(client, seed=3, stop=["never in it", word])
    assert cut.choices[0].message.content == whole[: whole.index(word)]
    assert cut.choices[0].finish_reason == "stop"
    pieces = _chat(client, seed=3, stop=word, stream=True)
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text == cut.choices[0].message.content


def test_a_title_that_is_not_meant_is_refused_or_invented(client: openai.OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            _chat(client, "zzzz qqqq xxxx?", stream=stream)
        assert refused.value.code == "title_not_found"
    said = _chat(client, "zzzz qqqq xxxx?", extra_body={"anyway": True})
    assert said.choices[0].evidence["status"] == "invented"
    named = _chat(client, "What is it?", extra_body={"title": "The Quiet Violin"})
    assert named.choices[0].evidence["record"]["uid"] == "u2"


def test_earlier_messages_are_counted_and_parts_are_joined(client: openai.OpenAI) -> None:
    messages: Any = [
        {"role": "system", "content": "You are a shop."},
        {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": [{"type": "text", "text": "The Quiet "},
                                     {"type": "text", "text": "Violin?"}]},
    ]  # fmt: skip
    said = client.chat.completions.create(model=MODEL, messages=messages, seed=1)
    assert said.choices[0].evidence["messages_unused"] == 3
    expected = _chat(client, "The Quiet Violin?", seed=1)
    assert said.choices[0].message.content == expected.choices[0].message.content


def test_a_wrong_key_is_refused(address: str) -> None:
    for key in ("wrong", "sésame"[:1] + "esam", KEY + "x"):
        other = openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0)
        with pytest.raises(openai.AuthenticationError) as refused:
            other.models.list()
        assert refused.value.status_code == 401
        assert refused.value.code == "invalid_api_key"
    assert httpx.get(f"{address}/v1/models").status_code == 401
    assert httpx.get(f"{address}/health").status_code == 200


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"extra_body": {"colour": "red"}}, "colour", "unknown_parameter"),
        ({"presence_penalty": 0.5}, "presence_penalty", "unsupported_value"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools",
         "unsupported_value"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"n": 17}, "n", "invalid_value"), ({"n": 0}, "n", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "user", "content": "x" * 9_000}]}, "question", "invalid_value"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", "invalid_value"),
    ],
)  # fmt: skip
def test_what_is_not_done_here_is_refused_by_name(
    client: openai.OpenAI, fields: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        _chat(client, **fields)
    assert (refused.value.param, refused.value.code) == (param, code)
    assert refused.value.type == "invalid_request_error"


def test_what_asks_for_nothing_is_let_through(client: openai.OpenAI) -> None:
    neutral: dict[str, Any] = {
        "frequency_penalty": 0, "logprobs": False, "user": "ana", "metadata": {"a": "b"},
        "response_format": {"type": "text"}, "top_p": 1, "parallel_tool_calls": False,
    }  # fmt: skip
    said = _chat(client, seed=1, **neutral)
    assert said.choices[0].message.content == _chat(client, seed=1).choices[0].message.content


def test_other_refusals_have_the_form_too(address: str, client: openai.OpenAI) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=address, headers=headers) as plain:
        for answer, status in (
            (plain.get("/v1/embeddings"), 404), (plain.get("/v1/completions"), 405),
            (plain.post("/v1/models", json={}), 405),
            (plain.post("/v1/completions", content=b"x" * 3_000_000), 413),
            (plain.post("/v1/completions", content=b"\xff"), 400),
            (plain.post("/v1/completions", content=b"[]"), 400),
            (plain.get("/v1/models", headers={"host": "evil.test"}), 403),
            (plain.get("/v1/models", headers={"origin": "http://evil.test"}), 403),
        ):  # fmt: skip
            assert answer.status_code == status
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
    with pytest.raises(openai.NotFoundError, match="no 'gpt-4'"):
        _chat(client, model="gpt-4")
