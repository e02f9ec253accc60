"""Reports in a browser: read at any width, in both colour schemes, and by screen readers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.compare import differences
from inference.compare import page as comparison
from inference.evaluate import page as evaluation
from tests.browser import picture
from tests.reports import make_report

LONG = "An unbroken Donaudampfschifffahrtsgesellschaftskapitänswitwenversicherung of 7 litres. "
MISSED = ["unsupported", "title_kept", "gain_over_nearest", "perplexity_drop"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report and a comparison, as files."""
    folder = tmp_path_factory.mktemp("pages")
    first = make_report(texts=[LONG * 6, "It boils."], title=LONG * 2, missed=MISSED, run="1k")
    first["rows"][0]["texts"]["adapter"]["spans"] = [[0, 40]]
    second = make_report(texts=[LONG, "It boils."], title=LONG * 2, missed=[], run="x/" + "y" * 90)
    second["rows"][0]["texts"]["adapter"]["scores"]["rougeL"] = 40.0
    judged = differences.name_all({"1k": first, "y" * 90: second})
    built = {
        "report": evaluation.build(first, 5),
        "comparison": comparison.build(judged, differences.collect(judged)),
    }
    for name, html in built.items():
        (folder / f"{name}.html").write_text(html)
    return {name: folder / f"{name}.html" for name in built}


@pytest.fixture(params=[("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)])
def window(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    scheme, width = request.param
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    yield page
    page.close()


@pytest.fixture(params=["report", "comparison"])
def opened(window: Any, pages: dict[str, Path], request: pytest.FixtureRequest) -> Any:
    """A page with all that is folded opened, and what the browser said and asked for."""
    window.said = []
    window.on("console", lambda line: window.said.append(line.text))
    window.on("request", lambda asked: window.said.append(asked.url))
    window.goto(f"file://{pages[request.param]}")
    window.evaluate("document.querySelectorAll('details').forEach(own => own.open = true)")
    return window


def test_nothing_scrolls_sideways_and_nothing_is_asked_for(opened: Any) -> None:
    wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert opened.evaluate(wider) == 0
    assert [line for line in opened.said if not line.startswith("file://")] == []
    assert len(opened.said) == 1


def test_axe_finds_nothing(opened: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(opened).response["violations"]
    assert [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in found] == []


def test_the_dots_of_a_figure_share_one_scale(opened: Any) -> None:
    widths = """[...document.querySelectorAll('.dots')].map(figure =>
      new Set([...figure.querySelectorAll('.dot-line svg, .dot-scale')]
        .map(own => Math.round(own.getBoundingClientRect().width))).size)"""
    assert set(opened.evaluate(widths)) == {1}


def test_the_picture_of_a_report_is_small(browser: Any, pages: dict[str, Path]) -> None:
    folder = pages["report"].parent
    shot = picture.take_report(browser, str(folder))
    whole = picture.compose([shot, shot])
    whole.save(folder / "picture.png", optimize=True)
    assert whole.size == (1354, 617)
    assert (folder / "picture.png").stat().st_size < 200_000
