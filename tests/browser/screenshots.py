"""Pictures of the page: ``python -m tests.browser.screenshots RUN CLEAN [FOLDER] [--report FILE]``.

Every state at desktop and phone width, light and dark: empty, suggesting, answered, compared, open
which title, refused, a list, the report. Needs a Chromium or Chrome and the extra ``browser``.
"""

import argparse
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from inference.ask import index
from tests.browser.conftest import ARGUMENTS, find_browser
from tests.serving import serving

SIZES = {"desktop": (1280, 860), "phone": (390, 844)}
SCHEMES = {"light": "en-US", "dark": "pt-BR"}


class Camera:
    """One page and the folder that its pictures go to."""

    def __init__(self, page: Any, folder: Path, kind: str) -> None:
        self.page, self._folder, self._kind = page, folder, kind

    def take(self, name: str) -> None:
        self.page.wait_for_timeout(300)  # for what moves into its place
        path = self._folder / f"{name}-{self._kind}.png"
        self.page.screenshot(path=path, full_page=True)
        print(path)

    def ask(self, question: str, waits_for: str = "[data-action=json]") -> None:
        self.page.fill("#question", question)
        self.page.press("#question", "Enter")
        self.page.wait_for_selector(waits_for, timeout=60_000)


def take_all(camera: Camera, title: str, part: str) -> None:
    """Take a picture of every state."""
    page = camera.page
    camera.take("empty")
    page.type("#question", f"What is {title[:16]}", delay=20)
    page.wait_for_selector("#titles li")
    page.keyboard.press("ArrowDown")
    camera.take("typing")
    camera.ask(f"What is {title} like?")
    page.click("[data-action=up]")
    page.wait_for_selector("#word")
    page.click("[data-action=another]")
    page.wait_for_selector("[data-action=json]", timeout=60_000)
    camera.take("answered")
    page.click("#settings summary")
    page.check("#compare")
    camera.ask(f"O que é {title}?")
    camera.take("compared")
    page.click("#settings summary")
    camera.ask(f"Tell me about {part}", ".choices button")
    camera.take("which")
    camera.ask("x" * 3_000, "#alert:not(:empty)")
    camera.take("refused")
    page.click("#tab-write")
    page.fill("#list-titles", f"{title}\n{part}\nZanzibar Teapot 7")
    page.click("#list-write")
    page.wait_for_selector("#list-downloads a", timeout=60_000)
    camera.take("list")
    page.click("#tab-report")
    camera.take("report")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run")
    parser.add_argument("clean")
    parser.add_argument("folder", nargs="?", default="data/store/screenshots")
    parser.add_argument("--report")
    words = parser.parse_args()
    path = find_browser()
    if path is None:
        parser.exit(1, "error: browser: expected Chromium or Chrome, found none; install one\n")
    folder = Path(words.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with closing(index.open_index(index.build(words.clean))) as db:
        title = index.short_titles(db, 60, 1)[0]
    part = " ".join(title.split()[:3])
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as votes, sync_playwright() as started:
        flags = [f"--run={words.run}", f"--catalogue={words.clean}", f"--feedback={votes}"]
        flags += [f"--report={words.report}"] if words.report else []
        with serving(*flags) as (address, _):
            opened = started.chromium.launch(executable_path=path, args=ARGUMENTS)
            for size, (width, height) in SIZES.items():
                for scheme, locale in SCHEMES.items():
                    page = opened.new_page(
                        viewport={"width": width, "height": height}, color_scheme=scheme,
                        locale=locale,
                    )  # fmt: skip
                    page.goto(address)
                    page.wait_for_selector("body[data-ready]")
                    take_all(Camera(page, folder, f"{size}-{scheme}"), title, part)
                    page.close()
            opened.close()


if __name__ == "__main__":
    main()
