"""A small subset of invented products, a tiny base made from it, and short runs on both."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# Before any library that reads them is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["UNSLOTH_DISABLE_STATISTICS"] = "1"
os.environ.setdefault("GOMP_SPINCOUNT", "500")

from data.subset import SubsetConfig, run
from data.synthetic.records import lines
from tests.builders import write_clean

ROWS = 330


@pytest.fixture(scope="session")
def subset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 180 train rows, and held-out ones."""
    folder = tmp_path_factory.mktemp("training")
    records = [json.loads(line) for line in lines(3407, 0, ROWS, ROWS)]
    rows = [
        (r["uid"], r["title"][:80].strip(), r["content"][:500].strip())
        for r in records
        if r["title"] and r["content"]
    ]
    clean = write_clean(folder / "clean", rows)
    run(SubsetConfig(clean=str(clean), out=str(folder / "subset")))
    return folder / "subset"


@pytest.fixture(scope="session")
def base(subset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base, hardly pre-trained."""
    from training.config import TinyBase
    from training.model import tiny

    folder = tmp_path_factory.mktemp("base") / "base"
    shape = TinyBase(vocabulary=600, hidden=32, intermediate=64, steps=40)
    tiny.build(tiny.TinyJob(str(subset), str(folder), shape, positions=640, seed=3407))
    return folder


@pytest.fixture(scope="session")
def tokenizer(base: Path) -> Any:
    from training.model.backend import load_tokenizer

    return load_tokenizer(base)


@pytest.fixture(scope="session")
def tokenized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenized")


@pytest.fixture(scope="session")
def words(subset: Path, base: Path, tokenized: Path) -> list[str]:
    """Flags of a run of a few steps; later words on the same flag win."""
    flags = {
        "subset": subset, "base": base, "tokenized": tokenized, "backend": "transformers",
        "max_length": 640, "optimisation.batch_size": 8, "optimisation.micro_batch_size": 4,
        "optimisation.max_steps": 6, "optimisation.learning_rate": 0.01,
        "optimisation.precision": "float32", "checkpoints.save_steps": 2,
    }  # fmt: skip
    return ["run", *(f"--{name}={value}" for name, value in flags.items())]


@pytest.fixture(scope="session")
def finished(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with evaluation and the best checkpoint kept."""
    from training.__main__ import main

    out = tmp_path_factory.mktemp("runs") / "finished"
    more = ["--checkpoints.eval_steps=2", "--checkpoints.keep_best=true"]
    assert main([*words, *more, f"--out={out}"]) == 0
    return out


@pytest.fixture
def interrupted_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Any]:
    """Return a context in which a run is interrupted at the end of so many steps."""
    from training.loop.callbacks import MetricsCallback

    end = MetricsCallback.on_step_end

    @contextmanager
    def interrupted(steps: int) -> Iterator[None]:
        def stop(self: Any, args: Any, state: Any, control: Any, **named: Any) -> None:
            end(self, args, state, control, **named)
            if state.global_step == steps:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(MetricsCallback, "on_step_end", stop)
            yield

    return interrupted
