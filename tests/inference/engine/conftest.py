"""The tiny run, and requests for it."""

from pathlib import Path

import pytest

from data.artefacts.run import Run
from data.prompt import Prompt
from inference.engine.requests import Request
from tests.builders import some_titles


@pytest.fixture(scope="module")
def model(run: Path) -> Run:
    return Run.open(str(run))


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    return [Request(f"u{i}", Prompt().render(title)) for i, title in enumerate(some_titles(40))]
