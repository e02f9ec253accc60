"""The rest of the page: lists of titles, the report, languages, what axe-core says of all of it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from inference.ask import STATES
from tests.browser.conftest import LONG, Visitor, serious

Visit = Callable[..., Visitor]
TITLES = "The Quiet Violin\n\nZanzibar Teapot 7\n"


@pytest.fixture
def page(visit: Visit, address: str) -> Visitor:
    return visit(address)


def downloaded(visitor: Visitor, form: str) -> bytes:
    with visitor.page.expect_download() as waiting:
        visitor.page.click(f"#list-downloads a:has-text('{form}')")
    assert waiting.value.suggested_filename == f"descriptions.{form.lower()}"
    return Path(waiting.value.path()).read_bytes()


def test_a_pasted_list_becomes_a_file(page: Visitor) -> None:
    page.page.click("#tab-write")
    page.page.fill("#list-titles", TITLES)
    page.page.click("#list-write")
    page.page.wait_for_selector("#list-downloads a")
    assert page.text("#list-status") == "Done: 2 titles, 0 without a description."
    assert page.page.locator("#list-table tbody tr").count() == 2
    assert "not in the catalogue" in page.text("#list-table tbody tr:nth-child(2)")
    table = pq.read_table(io.BytesIO(downloaded(page, "Parquet")))
    assert table.column("title").to_pylist() == ["The Quiet Violin", "Zanzibar Teapot 7"]
    assert downloaded(page, "CSV").decode("utf-8-sig").startswith("uid,title,description")
    assert page.complaints == []


def test_a_csv_is_read_and_a_wrong_one_refused_in_a_sentence(page: Visitor, tmp_path: Path) -> None:
    page.page.click("#tab-write")
    for name, text, sentence in (
        ("right.csv", "uid,title\na,The Quiet Violin\n", ""),
        ("wrong.csv", "name\nx\n", "not a CSV with one column"),
        ("large.csv", "title\n" + "x" * 2**20, "at most 1 MB"),
    ):
        file = tmp_path / name
        file.write_text(text)
        page.page.set_input_files("#list-file", file)
        page.page.click("#list-write")
        if sentence:
            page.page.wait_for_selector(f"#list-alert:has-text('{sentence}')")
        else:
            page.page.wait_for_selector("#list-downloads a")
    page.page.fill("#list-titles", "\n")  # to type takes the file away
    page.page.click("#list-write")
    page.page.wait_for_selector("#list-alert:has-text('Please paste some titles')")
    page.page.fill("#list-titles", "Kettle\n" * 501)
    page.page.click("#list-write")
    page.page.wait_for_selector("#list-alert:has-text('at most 500 titles')")


def test_a_list_is_stopped(visit: Visit, slow_address: str) -> None:
    page = visit(slow_address)
    page.page.click("#tab-write")
    page.page.fill("#list-titles", "The Quiet Violin\n" * 60)
    page.page.click("#list-write")
    page.page.wait_for_selector("#list-status:has-text('of 60 written')")
    page.page.click("#list-stop")
    page.page.wait_for_selector("#list-status:has-text('Stopped.')")
    for _ in range(60):
        if page.page.request.get(f"{slow_address}/health").json()["answering"] == 0:
            return
        page.page.wait_for_timeout(100)
    pytest.fail("a list goes on for nobody")


def test_the_report_and_its_verdict_are_shown(page: Visitor) -> None:
    assert "Do not ship: it recites" in page.text("#verdict")
    page.page.click("#verdict button")
    frame = page.page.frame_locator("#panel-report iframe")
    assert frame.locator("p").inner_text() == "92 % of the nouns"
    assert frame.locator("p").get_attribute("data-ran") == "yes"  # its own script may run
    assert page.complaints == []


def test_tabs_are_changed_by_arrows(page: Visitor) -> None:
    page.page.focus("#tab-ask")
    page.page.keyboard.press("ArrowRight")
    assert page.page.is_visible("#panel-write")
    assert page.page.evaluate("document.activeElement.id") == "tab-write"
    page.page.keyboard.press("ArrowLeft")
    page.page.keyboard.press("ArrowLeft")
    assert page.page.is_visible("#panel-report")
    assert page.page.is_hidden("#panel-ask")


def test_the_browser_chooses_the_language(visit: Visit, address: str) -> None:
    page = visit(address, locale="pt-BR")
    assert page.page.get_attribute("html", "lang") == "pt"
    assert page.text("#ask") == "Perguntar"
    page.answer("O que é The Quiet Violin?")
    page.status("Pronto")
    assert "palavras do título" in page.text(".checks")
    page.ask("")
    page.status("Primeiro escreva uma pergunta")
    other = visit(address, locale="de-DE")
    assert other.page.get_attribute("html", "lang") == "en"


def test_both_languages_have_the_same_words_and_each_is_used(page: Visitor) -> None:
    from inference.serve.app import _static_files

    words: dict[str, dict[str, str]] = page.page.evaluate(
        "import('/static/words.js').then(words => words.WORDS)"
    )
    assert set(words["en"]) == set(words["pt"])
    for name, said in words["en"].items():
        values = [{part.split("}")[0] for part in text.split("{")[1:]}
                  for text in (said, words["pt"][name])]  # fmt: skip
        assert values[0] == values[1], name
    files = " ".join(content.decode() for content, _ in _static_files().values())
    unused = {name for name in words["en"] if files.count(name) < 3}
    assert unused <= set(STATES)  # are named by the server


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(visit: Visit, address: str, scheme: str, width: int) -> None:
    page = visit(address, width=width, color_scheme=scheme)
    assert page.violations() == []
    page.page.type("#question", "green copper", delay=10)
    page.page.wait_for_selector("#titles li")
    page.page.keyboard.press("ArrowDown")
    assert page.violations() == []
    page.page.keyboard.press("Escape")
    page.page.click("#settings summary")
    page.page.check("#compare")
    page.answer(LONG)
    page.page.click("[data-action=up]")
    page.page.wait_for_selector("#word")
    page.page.click("[data-action=another]")
    page.status("seed 3408")
    assert page.violations() == []
    page.ask("green copper kettle")
    page.status("Several titles")
    assert page.violations() == []
    page.page.click("#tab-write")
    page.page.fill("#list-titles", TITLES)
    page.page.click("#list-write")
    page.page.wait_for_selector("#list-downloads a")
    assert page.violations() == []
    page.page.click("#tab-report")
    page.page.wait_for_selector("iframe")
    assert page.violations() == []


def test_axe_would_find_what_is_wrong(page: Visitor) -> None:
    page.page.evaluate("document.querySelector('label[for=question]').remove()")
    assert any("label" in line or "name" in line for line in serious(page.page))


def contrast(one: list[float], other: list[float]) -> float:
    """WCAG 2.2's contrast of two colours, each three parts 0 to 255."""

    def light(colour: list[float]) -> float:
        parts = [part / 255 for part in colour[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast(visit: Visit, address: str, scheme: str) -> None:
    page = visit(address, color_scheme=scheme)
    pairs = [(text, ground) for text in ("text", "soft", "error", "accent", "fine", "look")
             for ground in ("ground", "card")]  # fmt: skip
    pairs += [(f"on-{name}", name) for name in ("accent", "mark", "blue", "green", "grey", "red")]
    pairs += [("text", "chosen")]
    names = sorted({name for pair in pairs for name in pair})
    colours: dict[str, Any] = page.page.evaluate(
        """names => {
            const probe = document.body.appendChild(document.createElement('i'));
            return Object.fromEntries(names.map(name => {
                probe.style.color = `var(--${name})`;
                return [name, getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number)];
            }));
        }""",
        names,
    )
    low = {pair: value for pair in pairs
           if (value := contrast(colours[pair[0]], colours[pair[1]])) < 4.5}  # fmt: skip
    assert low == {}
