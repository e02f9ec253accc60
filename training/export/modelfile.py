"""A run's prompt as Ollama's Modelfile, and as the chat template inside a GGUF file.

https://docs.ollama.com/modelfile: the template is Go's ``text/template``, between three quotes.
"""

import json
import unicodedata
import uuid
from dataclasses import dataclass

from data.artefacts.run import RunFacts
from data.prompt import Prompt

NAME = "Modelfile"
# The defaults of ``inference generate``, under Ollama's names; a test compares the two. Its own
# top_k is 40, and its repeat_penalty looks at prompts, which ours leaves alone.
PARAMETERS = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.05, "top_k": 0, "repeat_penalty": 1.0}
_OUR_OWN = (
    "of several texts the best is kept (best_of)",
    "no run of 8 tokens twice in a text (no_repeat_ngram)",
    "texts end with their sentence beyond the usual length (end_after)",
)
# Tokens of the context at least: Ollama's own default is more than many a model has.
_USUAL_CONTEXT = 2048
# Old enough that any Go prints what is printable in it.
_UNICODE = unicodedata.ucd_3_2_0


@dataclass(frozen=True)
class Model:
    """What a Modelfile says of the file beside it."""

    file: str
    context: int
    """Tokens that the model reads at most."""
    end: str
    """The token that ends a text."""


def frame(facts: RunFacts) -> tuple[str, str]:
    """Return what stands before and behind a title in a run's prompts.

    That is, in those of a title without neighbours, attributes or uid.
    """
    prompt, mark = facts.prompt or Prompt(), uuid.uuid4().hex
    head, _, tail = prompt.render(mark).partition(mark)
    return (facts.chat.head + head, tail + facts.chat.tail) if facts.chat else (head, tail)


def render(facts: RunFacts, model: Model, digest: str) -> str:
    """Write a Modelfile."""
    head, tail = frame(facts)
    longest = facts.longest_completion_tokens
    parameters: dict[str, float | int | str] = dict(PARAMETERS)
    usual = max(facts.max_length or 0, _USUAL_CONTEXT)
    parameters["num_ctx"] = min(model.context, usual)
    if longest:
        parameters["num_predict"] = longest + longest // 8 + 1
    parameters["stop"] = f'"{model.end}"'
    lines = [
        f"# A title in, its description out. Made by training export from {digest}.",
        *(f"# {line}" for line in _missing(facts.prompt or Prompt())),
        f"FROM ./{model.file}",
        f'TEMPLATE """{escaped(head)}{{{{ .Prompt }}}}{escaped(tail)}"""',
        *(f"PARAMETER {name} {_shown(value)}" for name, value in parameters.items()),
    ]
    return "\n".join(lines) + "\n"


def _shown(value: float | int | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _missing(prompt: Prompt) -> list[str]:
    """Say what a Modelfile cannot do that our commands do."""
    lines = [f"Not here, but in `inference generate`: {'; '.join(_OUR_OWN)}."]
    if len(prompt.instructions) > 1:
        count = len(prompt.instructions)
        lines.append(f"One of the {count} instructions that it was trained with stands here.")
    if prompt.neighbours:
        lines.append("Similar titles with their descriptions are not looked up and not shown.")
    if prompt.attributes:
        names = ", ".join(prompt.attributes)
        lines.append(f"Attributes ({names}) are not shown.")
    lines.append("Ollama reads the name of a special token in a title as that token.")
    return lines


def escaped(text: str) -> str:
    """Escape text for a template of Go between three quotes in a Modelfile.

    Ollama leaves out characters that Go does not print; braces begin what Go computes.
    """
    return "".join(
        character if _stays(character) else f'{{{{ "{_code(character)}" }}}}' for character in text
    )


def _stays(character: str) -> bool:
    if character in '{"':
        return False
    return character in "\n " or _UNICODE.category(character)[0] in "LMNPS"


def _code(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def jinja(facts: RunFacts) -> str:
    """Write the prompt of the last message as a chat template, for llama.cpp's own server."""
    head, tail = (json.dumps(part, ensure_ascii=False) for part in frame(facts))
    return f"{{{{ {head} + messages[-1]['content'] + {tail} }}}}"
