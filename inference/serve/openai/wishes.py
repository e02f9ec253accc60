"""What clients post: bodies of ``/v1/chat/completions`` and ``/v1/completions``, read strictly.

What would change a text and is not done here is refused by name, unless it asks for nothing.
"""

import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.engine import Wish
from inference.serve.openai.errors import ApiError

MOST_CHOICES = 16
"""Texts that one request may ask for."""
_MOST_STOPS = 4
_LEAST_TEMPERATURE = 0.01
"""Of a draw: below it, as clients send for none, the likeliest token is taken."""
# Values of fields that are not done here with which they ask for nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (None, 0), "presence_penalty": (None, 0), "logit_bias": (None, {}),
    "logprobs": (None, False), "top_logprobs": (None,), "top_p": (None, 1),
    "response_format": (None, {"type": "text"}), "tools": (None, []), "tool_choice": (None, "none"),
    "functions": (None, []), "parallel_tool_calls": (None, False, True), "modalities":
    (None, ["text"]), "best_of": (None, 1), "echo": (None, False), "suffix": (None, ""),
    "store": (None, False), "service_tier": (None, "auto", "default"),
}  # fmt: skip
# Said of who asks, and kept nowhere.
_UNUSED = ("user", "metadata", "safety_identifier", "prompt_cache_key")
_STRICT = ConfigDict(strict=True, extra="forbid")


class _Part(BaseModel):
    model_config = _STRICT
    type: Literal["text"]
    text: str


class _Message(BaseModel):
    model_config = _STRICT
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]
    name: str | None = None


class _StreamOptions(BaseModel):
    model_config = _STRICT
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


_Stop = Annotated[str, Field(min_length=1, max_length=200)]


class _Body(BaseModel):
    model_config = _STRICT
    model: str
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: _Stop | Annotated[list[_Stop], Field(max_length=_MOST_STOPS)] | None = None
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    title: str | None = None
    anyway: bool | None = None


class _Chat(_Body):
    messages: Annotated[list[_Message], Field(min_length=1, max_length=1_000)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None


class _Completion(_Body):
    prompt: str | Annotated[list[str], Field(min_length=1, max_length=MOST_CHOICES)]


@dataclass(frozen=True)
class Asked:
    """What a client wants."""

    model: str
    questions: list[str]
    choices: int
    """Texts of each question."""
    seed: int | None
    stop: list[str]
    wish: Wish
    streams: bool
    tells_usage: bool
    """Whether a stream ends with what it used."""
    title: str | None
    anyway: bool
    unused: int = 0
    """Messages that are not the question."""


def read(body: bytes, is_chat: bool) -> Asked:
    """Read a body.

    Raises:
        ApiError: it is no JSON, lacks a field, or asks for what is not done here.
    """
    fields = _object(body)
    for name in _UNUSED:
        fields.pop(name, None)
    for name in [name for name in fields if name in _NEUTRAL]:
        if not any(_is_same(fields[name], value) for value in _NEUTRAL[name]):
            line = f"{name}: this server does not do that; leave it out"
            raise ApiError(400, line, name, "unsupported_value")
        del fields[name]
    try:
        own = _Chat(**fields) if is_chat else _Completion(**fields)
    except ValidationError as error:
        raise _fault(error) from None
    asked = _asked(own)
    if len(asked.questions) * asked.choices > MOST_CHOICES:
        line = f"n: expected at most {MOST_CHOICES} texts a request"
        raise ApiError(400, line, "n", "invalid_value")
    return asked


def _is_same(one: Any, other: Any) -> bool:
    """Compare values as JSON does: true is no 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _object(body: bytes) -> dict[str, Any]:
    """Read a JSON object as other programs would: no NaN, no half characters, no deep nesting."""
    try:
        fields = json.loads(body.decode(), parse_constant=_no_constant, parse_float=_finite)
        json.dumps(fields, ensure_ascii=False).encode()  # a lone surrogate is no character
    except (ValueError, RecursionError):
        raise ApiError(400, "body: expected JSON in UTF-8", None, "invalid_json") from None
    if not isinstance(fields, dict):
        raise ApiError(400, "body: expected a JSON object", None, "invalid_json")
    return fields


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(number)
    return value


def _fault(error: ValidationError) -> ApiError:
    """Name the first fault of a body; an unknown field before others."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    fault = min(faults, key=lambda item: item["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in fault["loc"])[:80] or None
    if fault["type"] == "extra_forbidden":
        return ApiError(400, f"{where}: unknown field", where, "unknown_parameter")
    code = "missing_required_parameter" if fault["type"] == "missing" else "invalid_value"
    return ApiError(400, f"{where}: {fault['msg']}", where, code)


def _asked(own: _Chat | _Completion) -> Asked:
    most = own.max_tokens
    if isinstance(own, _Chat):
        most = own.max_completion_tokens or own.max_tokens
        last = own.messages[-1]
        if last.role != "user":
            line = "messages: expected the user's question last"
            raise ApiError(400, line, "messages", "invalid_value")
        content = last.content
        said = content if isinstance(content, str) else "".join(part.text for part in content)
        questions, unused = [said], len(own.messages) - 1
    else:
        questions, unused = [own.prompt] if isinstance(own.prompt, str) else own.prompt, 0
    heat = own.temperature
    if heat is not None and heat < _LEAST_TEMPERATURE:
        heat = 0.0
    options = own.stream_options
    return Asked(
        model=own.model, questions=questions, choices=own.n or 1, seed=own.seed,
        stop=[own.stop] if isinstance(own.stop, str) else own.stop or [],
        wish=Wish(heat, most), streams=bool(own.stream),
        tells_usage=bool(options and options.include_usage), title=own.title,
        anyway=bool(own.anyway), unused=unused,
    )  # fmt: skip
