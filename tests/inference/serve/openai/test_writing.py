"""What of a growing text is sent: nothing that may change, no begun stop word."""

from inference.serve.openai.writing import Text, steady


def test_the_last_word_waits_until_it_is_whole() -> None:
    assert steady(Text(0, "It boils wat"), []) == "It boils"
    assert steady(Text(0, "It"), []) == ""
    assert steady(Text(0, "It boils wat", "stop"), []) == "It boils wat"


def test_a_begun_stop_word_waits() -> None:
    text = "It boils. The e"
    assert steady(Text(0, text), ["The end"]) == text[: len(text) - 6]
    assert "The" not in steady(Text(0, text), ["The end"])
