"""The page in a real browser: asked, streamed, stopped, compared, downloaded, by keys alone."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference.__main__ import main
from tests.browser.conftest import EVIL, LONG, Visitor

Visit = Callable[..., Visitor]


@pytest.fixture
def page(visit: Visit, address: str) -> Visitor:
    return visit(address)


def downloaded(visitor: Visitor) -> dict[str, Any]:
    with visitor.page.expect_download() as waiting:
        visitor.page.click(".tb-download")
    assert waiting.value.suggested_filename == "answer.json"
    held: dict[str, Any] = json.loads(Path(waiting.value.path()).read_text())
    return held


def test_an_answer_shows_what_it_rests_on(page: Visitor) -> None:
    page.ask("What is the quiet violin about?")
    page.status("Done")
    assert "The Quiet Violin" in page.text(".tb-answer")
    assert "A novel of a violin that nobody plays" in page.text(".tb-evidence")
    assert "byte 200" in page.text(".tb-evidence")
    assert page.complaints == []
    elsewhere = [url for url in page.requests if not url.startswith((page.url, "data:", "blob:"))]
    assert elsewhere == []


def test_the_download_is_what_the_command_gives(
    page: Visitor, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    question = "me fale sobre o quiet violn"
    page.page.check("#compare input")
    page.page.fill("#seed input", "21")
    page.ask(question)
    page.status("Done")
    told = downloaded(page)
    assert main(["ask", question, *words, "--seed=21", "--compare", "--json"]) == 0
    assert told == json.loads(capsys.readouterr().out)
    assert page.text(".tb-base .tb-text").strip() == told["base_answer"].strip()


def test_titles_are_suggested_while_typing(page: Visitor) -> None:
    page.page.type("#question textarea", "what is the green cop", delay=15)
    page.page.wait_for_selector("#titles label:has-text('Green Copper Kettle, 3-Litre')")
    page.page.click("#titles label:has-text('Green Copper Kettle, 3-Litre')")
    page.page.click("#ask")
    page.status("Done")
    assert downloaded(page)["record"]["uid"] == "u1"


def test_an_open_question_asks_which_title(page: Visitor) -> None:
    page.ask("Tell me about the green copper kettle")
    page.status("Several titles may be meant")
    page.page.wait_for_selector("#titles label:has-text('3-Litre')")
    assert page.page.is_enabled("#ask")
    page.page.click("#titles label:has-text('2-Litre')")
    page.page.click("#ask")
    page.status("Done")
    assert downloaded(page)["record"]["uid"] == "u0"


def test_another_answer_has_another_seed(page: Visitor) -> None:
    page.ask("The Quiet Violin")
    page.status("seed 3407")
    page.page.click("#again")
    page.status("seed 3408")
    assert page.page.input_value("#seed input") == "3408"
    page.page.click("#ask")
    page.status("seed 3408")


def test_an_answer_grows_and_is_stopped(visit: Visit, slow_address: str) -> None:
    page = visit(slow_address)
    page.ask("The Quiet Violin")
    page.status("Writing")
    assert page.page.is_disabled("#ask")
    page.page.wait_for_function("document.querySelector('.tb-answer .tb-text').innerText.length")
    first = page.text(".tb-answer .tb-text")
    page.page.wait_for_function(
        "n => document.querySelector('.tb-answer .tb-text').innerText.length > n", arg=len(first)
    )
    page.page.click("#stop")
    page.status("Stopped.")
    assert page.page.is_enabled("#ask")
    page.page.wait_for_timeout(700)
    stopped = page.text(".tb-answer .tb-text")
    page.page.wait_for_timeout(700)
    assert page.text(".tb-answer .tb-text") == stopped
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


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("", "an empty one"),
        ("?!", "no word in it"),
        ("a" * 10_000, "found 10,000"),
        ("How deep is the ocean?", "No title of the catalogue matches"),
    ],
)
def test_what_cannot_be_answered_is_told(page: Visitor, question: str, told: str) -> None:
    page.ask(question)
    page.status(told)
    assert page.page.get_attribute(".tb-status", "role") == "alert"
    assert page.page.is_enabled("#ask")
    page.ask("The Quiet Violin")
    page.status("Done")
    assert page.complaints == []


def test_an_invention_is_marked(page: Visitor) -> None:
    page.page.check("#anyway input")
    page.ask("What is the Zanzibar Teapot like?")
    page.status("Done")
    assert "not in the catalogue: invented" in page.text(".tb-answer").lower()
    assert "Zanzibar Teapot" in page.text(".tb-answer")


def test_markup_is_shown_as_text(page: Visitor) -> None:
    page.page.type("#question textarea", "<img src=x onerror='window.hurt=1'> bold kettle", delay=5)
    page.page.wait_for_selector("#titles label")
    assert EVIL in page.text("#titles")
    page.page.press("#question textarea", "Enter")
    page.status("Done")
    assert EVIL in page.text(".tb-answer")
    assert "<script>window.hurt=1</script>" in page.text(".tb-evidence")
    assert page.page.evaluate("window.hurt") is None
    page.page.check("#anyway input")
    page.ask("<script>window.hurt=1</script> zanzibar <b>")
    page.status("Done")
    assert page.page.evaluate("window.hurt") is None


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_long_texts_stay_within_the_window(visit: Visit, address: str, width: int) -> None:
    page = visit(address, width=width, height=844)
    assert page.overflow() <= 0
    page.page.check("#compare input")
    page.ask(LONG)
    page.status("Done")
    assert "Unbroken" in page.text(".tb-record")
    assert page.overflow() <= 0
    if width < 640:  # the two answers one below the other, and both wide enough to read
        cards = [page.page.locator(each).bounding_box() for each in (".tb-answer", ".tb-base")]
        assert all(card["width"] > 0.7 * width for card in cards)
        assert cards[1]["y"] > cards[0]["y"] + cards[0]["height"]


def test_everything_is_reached_by_keys_alone(visit: Visit, address: str) -> None:
    page = visit(address)
    keys = page.page.keyboard
    page.page.wait_for_function("document.activeElement.tagName === 'TEXTAREA'")
    keys.type("Tell me about the green copper kettle", delay=10)
    page.page.wait_for_selector("#titles label")
    keys.press("Tab")
    keys.press("Space")  # chooses the title that has the focus
    page.page.wait_for_selector("#titles input:checked")
    reached = walk(page, "ask")
    assert reached
    keys.press("Enter")
    page.status("Done")
    assert walk(page, "tb-download")
    with page.page.expect_download() as waiting:
        keys.press("Enter")
    assert waiting.value.suggested_filename == "answer.json"


def walk(page: Visitor, name: str, most: int = 40) -> bool:
    """Press Tab until the focus is on an element of this id or class."""
    for _ in range(most):
        page.page.keyboard.press("Tab")
        held = page.page.evaluate(
            "[document.activeElement.id, ...document.activeElement.classList]"
        )
        if name in held:
            return True
    return False


def test_the_report_is_shown(page: Visitor) -> None:
    page.page.click("button[role=tab]:has-text('Report')")
    frame = page.page.frame_locator(".tb-frame")
    assert "92 % of the nouns" in frame.locator("p").inner_text()
    assert page.complaints == []


def test_a_choice_is_undone_by_typing_on(page: Visitor) -> None:
    page.page.type("#question textarea", "green copper kettle", delay=10)
    page.page.click("#titles label:has-text('3-Litre')")
    page.page.wait_for_selector("#titles input:checked")
    page.page.type("#question textarea", " and the quiet violin", delay=10)
    page.page.wait_for_selector("#titles label:has-text('The Quiet Violin')")
    assert page.page.locator("#titles input:checked").count() == 0


def paste(page: Visitor, text: str) -> None:
    """Put a text into the question as the clipboard does."""
    page.page.evaluate(
        """text => {
            const area = document.querySelector('#question textarea');
            area.focus(); area.select();
            document.execCommand('insertText', false, text);
        }""",
        text,
    )


def fill(page: Visitor, text: str) -> None:
    page.page.fill("#question textarea", text)


def drop(page: Visitor, text: str) -> None:
    """Set the text as a script or an extension of the browser does."""
    page.page.evaluate(
        """text => {
            const area = document.querySelector('#question textarea');
            area.value = text;
            const how = {bubbles: true, inputType: 'insertFromPaste'};
            area.dispatchEvent(new InputEvent('input', how));
        }""",
        text,
    )


def click_example(page: Visitor, _: str) -> None:
    page.page.click("text=/(What is|about|é) The Quiet Violin/")


@pytest.mark.parametrize("change", [paste, fill, drop, click_example])
def test_another_question_is_not_about_the_title_chosen_before(
    page: Visitor, change: Callable[[Visitor, str], None]
) -> None:
    page.page.type("#question textarea", "what is the green cop", delay=15)
    page.page.click("#titles label:has-text('Green Copper Kettle, 3-Litre')")
    page.page.click("#ask")
    page.status("Done")
    assert downloaded(page)["record"]["uid"] == "u1"
    page.page.evaluate("document.querySelector('.tb-status').textContent = ''")
    change(page, "O que é The Quiet Violin?")
    page.page.click("#ask")
    page.status("Done")
    assert downloaded(page)["record"]["uid"] == "u2"
    assert page.complaints == []
