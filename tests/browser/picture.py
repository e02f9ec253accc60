"""The README picture: ``python -m tests.browser.picture REPORT OUT [--run RUN --catalogue CLEAN]``.

The top of a report and, where a run and its clean shards are named, an answer on the page beside
it. Needs a Chromium or Chrome and the extra ``browser``.
"""

import argparse
import io
from contextlib import closing
from pathlib import Path
from typing import Any

from PIL import Image

from inference.ask import index
from tests.browser.conftest import find_browser
from tests.serving import serving

WINDOW = {"width": 960, "height": 860}
"""So high that the record's place in its file, a path of this machine, stays below."""
_SHARE = 0.68
_GAP, _AROUND = 16, "#8a8f98"
_COLOURS = 192
"""As many as text on plain ground needs: a picture of some 100 kB."""


def take_report(browser: Any, report: str) -> Image.Image:
    """Take the top of a report."""
    page = browser.new_page(viewport=WINDOW)
    page.goto((Path(report) / "report.html").resolve().as_uri())
    return _shot(page)


def take_answer(browser: Any, run: str, clean: str, report: str) -> Image.Image:
    """Take the page with an answer."""
    with closing(index.open_index(index.build(clean))) as db:
        title = index.short_titles(db, 60, 1)[0]
    flags = (f"--run={run}", f"--catalogue={clean}", f"--report={report}")
    with serving(*flags) as (address, _):
        page = browser.new_page(viewport=WINDOW, locale="en-US")
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        page.fill("#question", f"What is {title}?")
        page.press("#question", "Enter")
        page.wait_for_selector("[data-action=json]", timeout=60_000)
        page.wait_for_timeout(500)  # for what moves into its place
        return _shot(page)


def _shot(page: Any) -> Image.Image:
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.close()
    return shot


def compose(shots: list[Image.Image]) -> Image.Image:
    """Put pictures of one size side by side, in as few colours as they need."""
    width, height = (round(side * _SHARE) for side in shots[0].size)
    step = width + _GAP
    whole = Image.new("RGB", (step * len(shots) + _GAP, height + 2 * _GAP), _AROUND)
    for place, shot in enumerate(shots):
        scaled = shot.resize((width, height), Image.Resampling.LANCZOS)
        whole.paste(scaled, (_GAP + place * step, _GAP))
    return whole.quantize(_COLOURS, dither=Image.Dither.NONE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("report")
    parser.add_argument("out")
    parser.add_argument("--run")
    parser.add_argument("--catalogue")
    words = parser.parse_args()
    path = find_browser()
    if path is None:
        parser.exit(1, "error: browser: expected Chromium or Chrome, found none; install one\n")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        shots = [take_report(browser, words.report)]
        if words.run and words.catalogue:
            shots.insert(0, take_answer(browser, words.run, words.catalogue, words.report))
        browser.close()
    compose(shots).save(words.out, optimize=True)
    print(f"{words.out}: {Path(words.out).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
