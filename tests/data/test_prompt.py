"""The prompt: the notebooks' text, character for character."""

import pickle
from collections import Counter

import pytest

from data.errors import ConfigError
from data.prompt import SHOPPER, Prompt

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


def test_the_compact_prompt_does_without_the_preamble() -> None:
    rendered = Prompt("compact", "What is it?").render("{title}")
    assert rendered == "What is it?\nTitle: {title}\nDescription:\n"


def test_a_row_gets_always_the_same_of_several_questions() -> None:
    prompt = Prompt(instruction=list(SHOPPER))
    first = [prompt.render("Kettle", f"{uid:010d}") for uid in range(600)]
    assert first == [prompt.render("Kettle", f"{uid:010d}") for uid in range(600)]
    counts = Counter(first)
    assert set(counts) == {prompt.ask(question, "Kettle") for question in SHOPPER}
    assert all(60 < count < 140 for count in counts.values())


def test_the_question_does_not_depend_on_the_title() -> None:
    prompt = Prompt(instruction=list(SHOPPER))
    one, other = (prompt.render(title, "17") for title in ("Kettle", "Lamp"))
    assert one.replace("Kettle", "Lamp") == other


def test_no_question_at_all_is_refused() -> None:
    for instruction in ([], ["What is it?", " "]):
        with pytest.raises(ConfigError, match=r"--prompt\.instruction"):
            Prompt(instruction=instruction)
