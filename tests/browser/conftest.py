"""A headless Chromium and two servers with the tiny model, one of them slow."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.builders import CATALOGUE, finish_run, save_adapter, save_base, write_clean
from tests.serving import serving

LONG = "An Extraordinarily Long Title " + "of Many, Many Words and Donaudampfschifffahrt " * 8
EVIL = "<script>window.hurt=1</script><img src=x onerror='window.hurt=1'>Bold Kettle"
ROWS = [
    *CATALOGUE,
    ("u3", EVIL, "<script>window.hurt=1</script> is all that is known of it." + " word" * 30),
    ("u4", LONG.strip(), "Long as its title. " * 60 + "Unbroken" * 40),
]


def find_browser() -> str | None:
    """A Chromium or Chrome on this machine; CHROMIUM names one elsewhere."""
    named = os.environ.get("CHROMIUM")
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return named or next(filter(None, found), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    pytest.importorskip("gradio", reason="the extra `ui` is not installed")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the extra `browser` is not installed"
    )
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium or Chrome on this machine; install one, or name it by CHROMIUM")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
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


@pytest.fixture(scope="session")
def address(
    browser: Any, words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    report = tmp_path_factory.mktemp("report") / "report.html"
    report.write_text("<h1>Report</h1><p>92 % of the nouns</p>")
    with serving(*words, f"--report={report}") as (url, _):
        yield url


@pytest.fixture(scope="session")
def slow_address(browser: Any, words: tuple[str, ...]) -> Iterator[str]:
    many = ("--max_new_tokens=60", "--temperature=2")
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
        page.wait_for_selector("#question textarea")
        page.wait_for_load_state("networkidle")

    def ask(self, question: str) -> None:
        # Not to take what the page says of the last answer for what it says of this one.
        self.page.evaluate("document.querySelector('.tb-status').textContent = ''")
        self.page.fill("#question textarea", question)
        self.page.press("#question textarea", "Enter")

    def status(self, text: str) -> None:
        """Wait until the page says so."""
        said = f".tb-status:has-text('{text}')"
        try:
            self.page.wait_for_selector(said, timeout=15_000)
        except Exception as error:
            found = self.text(".tb-status")
            raise AssertionError(f"the page says {found!r}, not {text!r}") from error

    def text(self, selector: str) -> str:
        held: str = self.page.inner_text(selector)
        return held

    def overflow(self) -> int:
        """How many pixels the page is wider than its window."""
        wider: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return wider


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visitor]]:
    opened = []

    def go(url: str, width: int = 1280, height: int = 900) -> Visitor:
        page = browser.new_page(viewport={"width": width, "height": height})
        opened.append(page)
        return Visitor(page, url)

    yield go
    for page in opened:
        page.close()
