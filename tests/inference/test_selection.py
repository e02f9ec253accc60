"""Best of several texts: what counts, and that of equals the earlier is kept."""

from collections.abc import Sequence

import pytest

from inference import selection
from inference.engine import Completion, Request

LONG = "A copper kettle that boils 2 litres of water on any hob, with a whistle and a cool handle."


def text(words: str, reason: str = "stop", tokens: int = 20) -> Completion:
    return Completion(words, reason, 5, tokens)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (text(LONG), text(LONG.replace("copper", "shiny"))),  # a word of the title
        (text(LONG), text(LONG.replace("2 litres", "lots"))),  # its number
        (text(LONG), text(LONG + " It weighs 7 pounds.")),  # a number that it lacks
        (text(LONG), text(f"{LONG} {LONG}")),  # says everything twice
        (text(LONG), text(LONG, "length")),
        (text(LONG), text(LONG, "loop")),
        (text(LONG), text(LONG, tokens=10)),  # half as long as usual
        (text(LONG), text("Copper kettle, 2 litres.")),
    ],
)
def test_a_text_scores_by_what_evaluation_measures(better: Completion, worse: Completion) -> None:
    title = "Copper Kettle, 2 l"
    assert selection.score(better, title, 20) > selection.score(worse, title, 20)


def test_without_a_usual_length_any_is_as_good() -> None:
    short, long = text(LONG, tokens=1), text(LONG, tokens=99)
    assert selection.score(short, "Kettle", None) == selection.score(long, "Kettle", None)


class Drawer:
    """An engine whose texts say their draw; only the third names the title."""

    def room(self, requests: Sequence[Request]) -> list[int]:
        return [9] * len(requests)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [
            text(f"{'kettle' if one.draw == 2 else 'thing'} {one.uid}{one.draw} " + "z" * 60)
            for one in requests
        ]


def test_the_best_comes_first_and_of_equals_the_earlier() -> None:
    requests = [Request("a", "p"), Request("b", "p")]
    first, second = selection.write(Drawer(), requests, ["Kettle", "Lamp"], 3, None)
    assert [one.text.split()[1] for _, one in first] == ["a2", "a0", "a1"]
    assert [one.text.split()[1] for _, one in second] == ["b0", "b1", "b2"]
    assert first[0][0] > first[1][0] == first[2][0]


def test_numbers_of_attributes_are_known() -> None:
    text = Completion("A kettle for 12 euros.", "stop", 9, 9)
    alone = selection.score(text, "Kettle", 9)
    assert selection.score(text, "Kettle", 9, "Price: 12\n") == pytest.approx(alone + 0.25)
