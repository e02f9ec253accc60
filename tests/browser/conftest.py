"""A headless Chromium and two servers with the tiny model, one of them slow."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from data.artefacts import manifest
from data.artefacts.folder import Folder
from tests.builders import CATALOGUE, finish_run, save_adapter, save_base, write_clean
from tests.serving import serving

LONG = "An Extraordinarily Long Title " + "of Many, Many Words and Donaudampfschifffahrt " * 8
EVIL = "<script>window.hurt=1</script><img src=x onerror='window.hurt=1'>Bold Kettle"
REPORT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Report</title>
<style>p {color: green}</style><main><h1>Report</h1><p>92 % of the nouns</p></main>
<script>document.querySelector("p").dataset.ran = "yes"</script></html>"""
ROWS = [
    *CATALOGUE,
    ("u3", EVIL, "<script>window.hurt=1</script> is all that is known of it." + " word" * 30),
    ("u4", LONG.strip(), "Long as its title. " * 60 + "Unbroken" * 40),
]


ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
"""For a Chromium that asks nobody anything."""


def find_browser() -> str | None:
    """A Chromium or Chrome on this machine; CHROMIUM names one elsewhere."""
    named = os.environ.get("CHROMIUM")
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return named or next(filter(None, found), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for one module: while it is open, no other event loop can run in this thread."""
    pytest.importorskip("fastapi", reason="the extra `ui` is not installed")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the extra `browser` is not installed"
    )
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium or Chrome on this machine; install one, or name it by CHROMIUM")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The flags that name the model and the catalogue."""
    folder = tmp_path_factory.mktemp("browser")
    base = save_base(folder / "run/base")
    config = json.loads((base / "config.json").read_text())
    config["max_position_embeddings"] = 2_048  # for a long title in a long question
    (base / "config.json").write_text(json.dumps(config))
    save_adapter(folder / "run/adapter", folder / "run/base")
    finish_run(folder / "run")
    clean = write_clean(folder / "clean", ROWS, parts=1)
    return (f"--run={folder / 'run'}", f"--catalogue={clean}", "--device=cpu")


@pytest.fixture(scope="module")
def address(
    browser: Any, words: tuple[str, ...], votes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    report = tmp_path_factory.mktemp("report") / "report.html"
    report.write_text(REPORT)
    verdict = {"candidate": "a", "label": "a", "headline": "Do not ship: it recites"}
    digest = manifest.read(Folder(words[0].removeprefix("--run=")), "train").digest
    values = {
        "verdicts": [verdict | {"passed": False}],
        "candidates": [{"key": "a", "run": "here"}],
        "runs": [{"path": "here", "digest": digest}],
    }
    report.with_name("report.json").write_text(json.dumps(values))
    with serving(*words, f"--report={report}", f"--feedback={votes}") as (url, _):
        yield url


@pytest.fixture(scope="session")
def votes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that thumbs go to."""
    return tmp_path_factory.mktemp("votes") / "feedback"


@pytest.fixture(scope="module")
def slow_address(browser: Any, words: tuple[str, ...], votes: Path) -> Iterator[str]:
    many = ("--max_new_tokens=60", "--temperature=2", f"--feedback={votes}")
    with serving(*words, *many, module="tests.browser.slow") as (url, _):
        yield url


class Visitor:
    """A page that was opened, and what it asked for and complained of."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console",
            lambda said: self.complaints.append(said.text) if said.type == "error" else None,
        )
        page.goto(url)
        page.wait_for_selector("body[data-ready]")

    def ask(self, question: str) -> None:
        self.page.fill("#question", question)
        self.page.press("#question", "Enter")

    def status(self, text: str) -> None:
        """Wait until the page says so."""
        try:
            self.page.wait_for_function(
                """text => ['#status', '#alert'].some(
                    place => document.querySelector(place).textContent.includes(text))""",
                arg=text, timeout=30_000,
            )  # fmt: skip
        except Exception as error:
            found = self.text("#status") + self.text("#alert")
            raise AssertionError(f"the page says {found!r}, not {text!r}") from error

    def answer(self, question: str) -> dict[str, Any]:
        """Ask, wait for the whole answer and download it."""
        self.ask(question)
        self.page.wait_for_selector("[data-action=json]", timeout=15_000)
        return self.download()

    def download(self) -> dict[str, Any]:
        """Return the answer that is shown as its file holds it."""
        with self.page.expect_download() as waiting:
            self.page.click("[data-action=json]")
        assert waiting.value.suggested_filename == "answer.json"
        whole: dict[str, Any] = json.loads(Path(waiting.value.path()).read_text())
        return whole

    def choose(self, typed: str, title: str) -> None:
        """Type and choose one of the titles that are suggested."""
        self.page.fill("#question", "")
        self.page.type("#question", typed, delay=10)
        self.page.click(f"#titles li:has-text('{title}')")
        self.page.wait_for_selector("#chosen:visible")

    def text(self, selector: str) -> str:
        return str(self.page.text_content(selector))

    def overflow(self) -> int:
        """How many pixels the page is wider than its window."""
        wider: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return wider

    def violations(self) -> list[str]:
        """What axe-core finds serious or critical on the page as it is now."""
        return serious(self.page)


def serious(page: Any) -> list[str]:
    """Return what axe-core finds serious or critical on a page, a line each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visitor]]:
    opened = []

    def go(url: str, width: int = 1280, height: int = 900, **more: Any) -> Visitor:
        context = browser.new_context(
            viewport={"width": width, "height": height}, **{"locale": "en-US"} | more
        )
        opened.append(context)
        return Visitor(context.new_page(), url)

    yield go
    for context in opened:
        context.close()
