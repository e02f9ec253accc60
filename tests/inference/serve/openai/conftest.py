"""A server of a tiny run and a few titles, and a client of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra `ui` is not installed")

import openai

from tests.builders import CATALOGUE, write_clean
from tests.serving import serving_forked

KEY = "sesame"


@pytest.fixture(scope="session")
def words(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("api")
    clean = write_clean(folder / "clean", CATALOGUE, parts=1)
    return (f"--run={run}", f"--catalogue={clean}", "--device=cpu")


@pytest.fixture(scope="session")
def address(words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    votes = tmp_path_factory.mktemp("votes")
    with serving_forked(*words, f"--api_key={KEY}", f"--feedback={votes}") as url:
        yield url


@pytest.fixture(scope="session")
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0, timeout=60) as made:
        yield made
