"""The question tab in a real browser: asked, stopped, compared, voted on, linked, by keys alone."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from inference.__main__ import main
from tests.browser.conftest import EVIL, LONG, Visitor

Visit = Callable[..., Visitor]


@pytest.fixture
def page(visit: Visit, address: str) -> Visitor:
    return visit(address)


def test_an_answer_shows_what_it_rests_on(page: Visitor) -> None:
    page.answer("What is the quiet violin about?")
    assert page.text(".answer h2") == "The Quiet Violin"
    assert "What is the quiet violin about?" in page.text(".asked")
    assert "A novel of a violin that nobody plays" in page.text(".evidence")
    assert "byte 200" in page.text(".evidence")
    checks = page.text(".checks")
    assert "words of the title" in checks
    assert "umber" in checks
    assert page.complaints == []
    elsewhere = [url for url in page.requests if not url.startswith((page.url, "blob:"))]
    assert elsewhere == []


def test_the_download_is_what_the_command_gives(
    page: Visitor, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    question = "me fale sobre o quiet violn"
    page.page.click("#settings summary")
    page.page.check("#compare")
    page.page.fill("#seed", "21")
    answer = page.answer(question)
    assert main(["ask", question, *words, "--seed=21", "--compare", "--json"]) == 0
    assert answer == json.loads(capsys.readouterr().out)
    assert page.text(".base-text") == answer["base_answer"]


def test_suggestions_float_and_are_chosen_by_keys(page: Visitor) -> None:
    before = page.page.locator("#settings").bounding_box()
    keys = page.page.keyboard
    assert page.page.evaluate("document.activeElement.id") == "question"
    keys.type("what is the green cop", delay=10)
    page.page.wait_for_selector("#titles li:has-text('3-Litre')")
    assert page.page.locator("#settings").bounding_box() == before
    assert page.page.get_attribute("#question", "aria-expanded") == "true"
    options = page.page.locator("#titles li").all_inner_texts()
    place = options.index("Green Copper Kettle, 3-Litre")
    keys.press("Escape")
    assert page.page.is_hidden("#titles")
    keys.press("ArrowDown")
    for _ in range(place):
        keys.press("ArrowDown")
    assert page.page.get_attribute("#question", "aria-activedescendant") == f"title-{place}"
    keys.press("Enter")
    assert page.page.is_hidden("#titles")
    assert page.text("#chosen-title") == "Green Copper Kettle, 3-Litre"
    assert page.page.input_value("#question") == "what is the Green Copper Kettle, 3-Litre"
    assert page.page.evaluate("document.activeElement.id") == "question"
    assert page.page.is_hidden("#result")
    keys.press("Enter")
    page.page.wait_for_selector("[data-action=json]")
    assert page.download()["record"]["uid"] == "u1"


def test_enter_after_more_was_typed_asks_and_chooses_nothing(page: Visitor) -> None:
    page.page.type("#question", "green copper", delay=10)
    page.page.wait_for_selector("#titles li")
    page.page.keyboard.press("ArrowDown")
    page.page.fill("#question", "The Quiet Violin")
    page.page.keyboard.press("Enter")
    page.page.wait_for_selector("[data-action=json]")
    assert page.download()["record"]["uid"] == "u2"


def test_the_question_is_one_stop_of_the_tab_key(page: Visitor) -> None:
    page.page.type("#question", "green copper", delay=10)
    page.page.wait_for_selector("#titles li")
    page.page.keyboard.press("Tab")
    assert page.page.evaluate("document.activeElement.id") == "ask"
    assert page.page.is_hidden("#titles")


def test_an_open_question_asks_which_title(page: Visitor) -> None:
    page.ask("Tell me about the green copper kettle")
    page.status("Several titles may be meant")
    page.page.click(".choices button:has-text('2-Litre')")
    page.page.wait_for_selector("[data-action=json]")
    assert page.download()["record"]["uid"] == "u0"
    assert page.text("#chosen-title") == "Green Copper Kettle, 2-Litre"


def test_another_answer_is_another_version_of_it(page: Visitor) -> None:
    first = page.answer("The Quiet Violin")
    assert page.page.locator(".versions").count() == 0
    page.page.click("[data-action=another]")
    page.status("seed 3408")
    second = page.download()
    assert (first["seed"], second["seed"]) == (3407, 3408)
    assert page.text(".versions span") == "2/2"
    page.page.click("[data-action=earlier]")
    assert page.text(".versions span") == "1/2"
    assert page.download() == first
    assert page.page.evaluate("document.activeElement.dataset.action") == "json"
    page.page.click("[data-action=later]")
    assert page.download() == second


def test_an_answer_grows_and_is_stopped(visit: Visit, slow_address: str) -> None:
    page = visit(slow_address)
    page.ask("The Quiet Violin")
    page.status("Writing")
    length = "document.querySelector('.answer .text').textContent.length"
    page.page.wait_for_function(f"() => {length} > 0")
    first = page.page.evaluate(length)
    page.page.wait_for_function(f"n => {length} > n", arg=first)
    page.page.click("#stop")
    page.status("Stopped.")
    assert page.page.is_hidden("#stop")
    page.page.wait_for_timeout(700)
    stopped = page.text(".answer .text")
    page.page.wait_for_timeout(700)
    assert page.text(".answer .text") == stopped
    with urllib.request.urlopen(f"{slow_address}/health") as answer:  # noqa: S310
        assert json.load(answer)["answering"] == 0
    page.ask("The Quiet Violin")
    page.status("Done")


def test_leaving_the_page_stops_its_answer(visit: Visit, slow_address: str) -> None:
    page = visit(slow_address)
    page.ask("The Quiet Violin")
    page.status("Writing")
    page.page.close()
    other = visit(slow_address)
    for _ in range(40):
        with urllib.request.urlopen(f"{slow_address}/health") as answer:  # noqa: S310
            if json.load(answer)["answering"] == 0:
                return
        other.page.wait_for_timeout(100)
    pytest.fail("an answer goes on for nobody")


def test_a_new_question_takes_the_place_of_one_that_is_written(
    visit: Visit, slow_address: str
) -> None:
    page = visit(slow_address)
    page.ask("The Quiet Violin")
    page.status("Writing")
    page.ask("Green Copper Kettle, 2-Litre")
    page.page.wait_for_selector("[data-action=json]", timeout=15_000)
    assert page.text(".answer h2") == "Green Copper Kettle, 2-Litre"
    assert page.download()["record"]["uid"] == "u0"


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("", "Please type a question"),
        ("?!", "Please type a question"),
        ("a" * 10_000, "too long: at most 2,500"),
        ("How deep is the ocean?", "No title of the catalogue matches"),
    ],
)
def test_what_cannot_be_answered_is_said(page: Visitor, question: str, sentence: str) -> None:
    page.answer("The Quiet Violin")
    page.ask(question)
    page.status(sentence)
    assert sentence in page.text("#alert")
    assert page.page.get_attribute("#alert", "role") == "alert"
    assert page.page.locator(".answer .text").count() == 0  # the old answer is gone
    page.answer("The Quiet Violin")
    assert page.text("#alert") == ""


def test_an_invention_is_marked(page: Visitor) -> None:
    page.page.click("#settings summary")
    page.page.check("#anyway")
    page.answer("What is the Zanzibar Teapot like?")
    assert page.text(".badge") == "Not in the catalogue: invented"
    assert "Zanzibar Teapot" in page.text(".answer h2")


def test_markup_is_shown_as_text(page: Visitor) -> None:
    page.page.type("#question", "<img src=x onerror='window.hurt=1'> bold kettle", delay=5)
    page.page.wait_for_selector("#titles li")
    assert EVIL in page.text("#titles")
    page.page.press("#question", "Enter")
    page.page.wait_for_selector("[data-action=json]")
    assert EVIL in page.text(".answer")
    assert "<script>window.hurt=1</script>" in page.text(".evidence")
    page.page.click("#settings summary")
    page.page.check("#anyway")
    page.answer("<script>window.hurt=1</script> zanzibar <b>")
    assert page.page.evaluate("window.hurt") is None


def fill(page: Visitor, text: str) -> None:
    page.page.fill("#question", text)


def paste(page: Visitor, text: str) -> None:
    """Put a text into the question as the clipboard does."""
    page.page.evaluate(
        """text => {
            const area = document.querySelector('#question');
            area.focus(); area.select();
            document.execCommand('insertText', false, text);
        }""",
        text,
    )


def drop(page: Visitor, text: str) -> None:
    """Set the text as a script or an extension of the browser does."""
    page.page.evaluate(
        """text => {
            const area = document.querySelector('#question');
            area.value = text;
            const how = {bubbles: true, inputType: 'insertFromPaste'};
            area.dispatchEvent(new InputEvent('input', how));
        }""",
        text,
    )


@pytest.mark.parametrize("change", [paste, fill, drop])
def test_another_question_is_not_about_the_title_chosen_before(
    page: Visitor, change: Callable[[Visitor, str], None]
) -> None:
    page.choose("what is the green cop", "3-Litre")
    page.page.click("#ask")
    page.page.wait_for_selector("[data-action=json]")
    assert page.download()["record"]["uid"] == "u1"
    change(page, "O que é The Quiet Violin?")
    assert page.page.is_hidden("#chosen")
    page.page.click("#ask")
    page.page.wait_for_selector(".asked:has-text('Violin')")
    page.page.wait_for_selector("[data-action=json]")
    assert page.download()["record"]["uid"] == "u2"
    assert page.complaints == []


def test_an_example_is_asked_at_once(page: Visitor) -> None:
    page.page.click("#examples button:has-text('The Quiet Violin')")
    page.page.wait_for_selector("[data-action=json]")
    assert "The Quiet Violin" in page.page.input_value("#question")
    assert page.download()["record"]["uid"] == "u2"


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_long_texts_stay_within_the_window(visit: Visit, address: str, width: int) -> None:
    page = visit(address, width=width, height=844)
    assert page.overflow() <= 0
    page.page.click("#settings summary")
    page.page.check("#compare")
    page.answer(LONG)
    assert "Unbroken" in page.text(".record")
    assert page.overflow() <= 0
    if width < 640:  # the two answers one below the other, and both wide enough to read
        own = page.page.locator(".answer .text").first.bounding_box()
        base = page.page.locator(".base").bounding_box()
        assert min(own["width"], base["width"]) > 0.7 * width
        assert base["y"] >= own["y"] + own["height"]


def test_on_a_phone_the_answer_comes_into_sight(visit: Visit, address: str) -> None:
    page = visit(address, width=390, height=600, reduced_motion="reduce")
    page.ask("The Quiet Violin")
    page.page.wait_for_selector("[data-action=json]")
    top = "() => document.querySelector('.answer').getBoundingClientRect().top"
    page.page.wait_for_function(f"{top} < 80")
    assert page.page.evaluate(top) >= 0


def test_a_link_brings_the_same_answer_back(visit: Visit, address: str) -> None:
    page = visit(address)
    page.page.click("#settings summary")
    page.page.fill("#seed", "77")
    page.choose("what is the green cop", "3-Litre")
    page.page.press("#question", "Enter")
    page.page.wait_for_selector("[data-action=another]")
    page.page.click("[data-action=another]")
    page.status("seed 78")
    answer = page.download()
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.page.click("[data-action=link]")
    page.status("Link copied")
    link = page.page.evaluate("navigator.clipboard.readText()")
    page.page.click("[data-action=copy]")
    page.status("Copied.")
    assert page.page.evaluate("navigator.clipboard.readText()") == answer["answer"]
    other = visit(link)
    other.status("Done")
    assert other.download() == answer
    assert other.page.input_value("#seed") == "78"
    assert not any("q=" in url for url in other.requests if "#" not in url)


def test_earlier_answers_come_back(visit: Visit, address: str) -> None:
    page = visit(address)
    first = page.answer("The Quiet Violin")
    second = page.answer("Green Copper Kettle, 2-Litre")
    assert page.page.locator("#history li").count() == 1
    page.page.click("#history li button:has-text('Violin')")
    assert page.download() == first
    assert page.page.input_value("#question") == "The Quiet Violin"
    page.page.click("#history li button:has-text('Kettle')")
    assert page.download() == second
    page.page.goto("about:blank")
    page.page.goto(address)
    page.page.wait_for_selector("#history li button:has-text('Kettle')")


def test_votes_reach_the_store(page: Visitor, votes: Path) -> None:
    answer = page.answer("The Quiet Violin")
    page.page.click("[data-action=down]")
    page.status("Thank you")
    assert page.page.get_attribute("[data-action=down]", "aria-pressed") == "true"
    page.page.fill("#word", "wooden")
    page.page.press("#word", "Enter")
    page.page.wait_for_timeout(500)
    rows = [row for row in pq.read_table(votes).to_pylist() if row["seed"] == answer["seed"]]
    assert [(row["thumb"], row["word"]) for row in rows[-2:]] == [("down", ""), ("down", "wooden")]
    assert rows[-1]["answer"] == answer["answer"]


def test_everything_is_reached_by_keys_alone(visit: Visit, address: str) -> None:
    page = visit(address)
    keys = page.page.keyboard
    keys.type("The Quiet Violin", delay=10)
    keys.press("Enter")
    page.status("Done")
    for action in ("another", "copy", "link", "json", "up", "down"):
        assert walk(page, action)
    keys.press("Enter")
    page.status("Thank you")
    keys.press("Shift+Tab")
    assert page.page.evaluate("document.activeElement.dataset.action") == "up"


def walk(page: Visitor, action: str, most: int = 40) -> bool:
    """Press Tab until the focus is on the button of this action."""
    for _ in range(most):
        page.page.keyboard.press("Tab")
        if page.page.evaluate("document.activeElement.dataset.action") == action:
            return True
    return False
