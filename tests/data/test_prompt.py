"""The prompt: the notebooks' text, character for character."""

import pickle

import pytest

from data.errors import ConfigError
from data.prompt import Prompt

ALPACA = """Below is an instruction that describes a task, paired with an input that provides \
further context. Write a response that appropriately completes the request.

### Instruction:
Write a book review.

### Input:
Dune

### Response:
"""


def test_the_alpaca_prompt_is_the_notebooks() -> None:
    assert Prompt(instruction="Write a book review.").render("Dune") == ALPACA


@pytest.mark.parametrize("title", ["{title} {instruction}", "{0} {", "", "a\nb", "%s \\1"])
def test_a_title_is_taken_as_it_stands(title: str) -> None:
    rendered = Prompt(instruction="Write a book review.").render(title)
    assert rendered == ALPACA.replace("Dune", title)


def test_an_instruction_is_taken_as_it_stands() -> None:
    rendered = Prompt(instruction="Use {title} and {x}.").render("Dune")
    assert rendered == ALPACA.replace("Write a book review.", "Use {title} and {x}.")


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        (
            {"template": "chatml"},
            "--prompt.template: expected one of alpaca, compact, found 'chatml'",
        ),
        ({"instruction": " "}, "--prompt.instruction"),
    ],
)
def test_a_prompt_that_cannot_be_meant_is_refused(values: dict[str, str], flag: str) -> None:
    with pytest.raises(ConfigError, match=flag):
        Prompt(**values)


def test_prompts_survive_pickling() -> None:
    prompt = Prompt(instruction="Write.")
    assert pickle.loads(pickle.dumps(prompt)) == prompt
