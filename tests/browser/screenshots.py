"""Pictures of the page: ``python -m tests.browser.screenshots RUN CLEAN [FOLDER] [--report FILE]``.

Every state at desktop and phone width: empty, suggesting, writing, answered, compared, open which
title, refused, long. Needs a Chromium or Chrome and the extra ``browser``.
"""

import argparse
from contextlib import closing
from pathlib import Path
from typing import Any

from inference.ask import index
from tests.browser.conftest import find_browser
from tests.serving import serving

SIZES = {"desktop": (1280, 860), "phone": (390, 844)}


class Camera:
    """One page and the folder that its pictures go to."""

    def __init__(self, page: Any, folder: Path, size: str) -> None:
        self.page, self._folder, self._size = page, folder, size

    def take(self, name: str) -> None:
        self.page.wait_for_timeout(500)  # for what moves into its place
        path = self._folder / f"{name}-{self._size}.png"
        self.page.screenshot(path=path, full_page=True)
        print(path)

    def ask(self, question: str, said: str) -> None:
        self.page.evaluate("document.querySelector('.tb-status').textContent = ''")
        self.page.fill("#question textarea", question)
        self.page.press("#question textarea", "Enter")
        self.page.wait_for_selector(f".tb-status:has-text('{said}')", timeout=60_000)


def take_all(camera: Camera, title: str, part: str, has_report: bool) -> None:
    """Take a picture of every state."""
    page = camera.page
    camera.take("empty")
    page.type("#question textarea", f"What is {title[:24]}", delay=20)
    page.wait_for_selector("#titles label")
    camera.take("typing")
    camera.ask(f"What is {title} like?", "Done")
    camera.take("answered")
    page.check("#compare input")
    camera.ask(f"O que é {title}?", "Done")
    camera.take("compared")
    page.uncheck("#compare input")
    camera.ask(f"Tell me about {part}", ".")
    camera.take("which")
    camera.ask("x" * 10_000, "expected at most")
    camera.take("refused")
    page.fill("#question textarea", "")
    if has_report:
        page.click("button[role=tab]:has-text('Report')")
        camera.take("report")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run")
    parser.add_argument("clean")
    parser.add_argument("folder", nargs="?", default="data/store/screenshots")
    parser.add_argument("--report")
    told = parser.parse_args()
    path = find_browser()
    if path is None:
        parser.exit(1, "error: browser: expected Chromium or Chrome, found none; install one\n")
    folder = Path(told.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with closing(index.open_index(index.build(told.clean))) as db:
        title = index.short_titles(db, 60, 1)[0]
    part = " ".join(title.split()[:4])
    words = [f"--run={told.run}", f"--catalogue={told.clean}"]
    words += [f"--report={told.report}"] if told.report else []

    from playwright.sync_api import sync_playwright

    with serving(*words) as (address, _), sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for size, (width, height) in SIZES.items():
            page = opened.new_page(viewport={"width": width, "height": height})
            page.goto(address)
            page.wait_for_load_state("networkidle")
            take_all(Camera(page, folder, size), title, part, bool(told.report))
            page.close()
        opened.close()


if __name__ == "__main__":
    main()
