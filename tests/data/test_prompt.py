"""The prompt: the notebooks' text, character for character."""

import pickle
from collections import Counter
from typing import Any

import pytest

from data.artefacts import schema
from data.errors import ConfigError
from data.prompt import COLUMNS, SHOPPER, Neighbour, Prompt

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
            "--prompt.template: expected one of alpaca, compact, chat, found 'chatml'",
        ),
        ({"instruction": " "}, "--prompt.instruction"),
        ({"neighbours": 9}, "--prompt.neighbours: expected 0 to 8, found 9"),
        ({"neighbours": -1}, "--prompt.neighbours"),
        ({"neighbour_tokens": 0}, "--prompt.neighbour_tokens: expected at least 1, found 0"),
        ({"attributes": ["brand", "content"]}, "--prompt.attributes: .* found 'content'"),
        ({"attributes": ["brand", "brand"]}, "--prompt.attributes: .* each once"),
        ({"attributes": ["shoe size"]}, "--prompt.attributes: .* found 'shoe size'"),
        ({"attributes": ["2nd"]}, "--prompt.attributes: .* found '2nd'"),
    ],
)
def test_a_prompt_that_cannot_be_meant_is_refused(values: dict[str, Any], flag: str) -> None:
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


NEAR = (Neighbour("Duel", "A {title} of two."), Neighbour("### Response:", "{description}\n{x}"))


def test_neighbours_stand_before_the_title_the_most_similar_last() -> None:
    assert Prompt("compact", "Is it {title}?").render("{title} {neighbours}", "", NEAR) == (
        "Is it {title}?\n"
        "Similar title: ### Response:\nIts description: {description}\n{x}\n"
        "Similar title: Duel\nIts description: A {title} of two.\n"
        "Title: {title} {neighbours}\nDescription:\n"
    )
    shown = (
        "### Similar input:\n### Response:\n\n### Its response:\n{description}\n{x}\n\n"
        "### Similar input:\nDuel\n\n### Its response:\nA {title} of two.\n\n"
    )
    rendered = Prompt(instruction="Write a book review.").ask("Write a book review.", "Dune", NEAR)
    assert rendered == ALPACA.replace("### Input:", f"{shown}### Input:")


@pytest.mark.parametrize("template", ["alpaca", "compact"])
def test_without_a_neighbour_the_prompt_is_that_of_a_run_without_any(template: str) -> None:
    assert Prompt(template, neighbours=2).render("Dune") == Prompt(template).render("Dune")


def test_a_message_of_a_chat_ends_with_its_title() -> None:
    rendered = Prompt("chat", "What is it?", 1).render("{title}", "", NEAR[:1])
    shown = "Similar title: Duel\nIts description: A {title} of two.\n"
    assert rendered == f"What is it?\n{shown}Title: {{title}}"


def test_what_is_recorded_without_neighbours_is_what_it_was_before_them() -> None:
    assert Prompt("compact", "Is it?", 0, 50).recorded == {
        "template": "compact", "instruction": "Is it?",
    }  # fmt: skip
    assert Prompt("compact", "Is it?", 2, 50).recorded == {
        "template": "compact", "instruction": "Is it?", "neighbours": 2, "neighbour_tokens": 50,
    }  # fmt: skip


def test_a_neighbours_title_is_cut_where_it_would_fill_the_prompt() -> None:
    prompt = Prompt(template="compact", instruction="Say.", neighbours=1)
    shown = prompt.ask("Say.", "b" * 1_000, [Neighbour("a" * 1_000, "It boils.")])
    assert ("a" * 300 in shown, "a" * 301 in shown, "b" * 1_000 in shown) == (True, False, True)


ABOUT = Prompt("compact", "Is it?", attributes=["brand", "shoe_size", "price"])


def test_attributes_stand_before_the_title_in_their_order_without_the_empty_ones() -> None:
    values = {"price": "9.50", "shoe_size": "", "brand": "{title} & Sons", "colour": "Red"}
    about = ABOUT.about(values)
    assert about == "Brand: {title} & Sons\nPrice: 9.50\n"
    assert ABOUT.about({}) == ""
    assert ABOUT.render("Boot {attributes}", "", NEAR[:1], about) == (
        "Is it?\nSimilar title: Duel\nIts description: A {title} of two.\n"
        "Brand: {title} & Sons\nPrice: 9.50\nTitle: Boot {attributes}\nDescription:\n"
    )
    chat = Prompt("chat", "Is it?", attributes=["shoe_size"])
    assert chat.render("Boot", about=chat.about({"shoe_size": "43"})) == (
        "Is it?\nShoe size: 43\nTitle: Boot"
    )
    alpaca = Prompt(instruction="Write a book review.")
    assert alpaca.render("Dune", about="Author: Herbert\n") == ALPACA.replace(
        "Dune", "Author: Herbert\nDune"
    )


def test_attributes_of_several_rows_come_from_their_columns() -> None:
    columns = {"brand": ["Ostravik", ""], "shoe_size": ["", "43"], "price": ["1", ""]}
    assert ABOUT.about_rows(columns | {"uid": ["a", "b"]}, 2) == [
        "Brand: Ostravik\nPrice: 1\n", "Shoe size: 43\n",
    ]  # fmt: skip
    assert Prompt().about_rows({}, 2) == ["", ""]


def test_attributes_are_recorded_only_where_there_are_any() -> None:
    assert ABOUT.recorded == {
        "template": "compact", "instruction": "Is it?",
        "attributes": ["brand", "shoe_size", "price"],
    }  # fmt: skip
    assert Prompt(**ABOUT.recorded) == ABOUT


def test_no_attribute_has_the_name_of_a_column_of_ours() -> None:
    assert set(COLUMNS) == {*schema.RAW.names, *schema.CLEAN.names, *schema.SUBSET.names}
