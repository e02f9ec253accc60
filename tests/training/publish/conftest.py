"""A chain from clean rows to a report of a tiny random run, and a hub to publish it on."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from data.artefacts.dataset import Subset
from data.artefacts.folder import Folder
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.run import locate
from data.prompt import Prompt
from data.subset import SubsetConfig
from data.subset import run as make_subset
from inference.__main__ import main as inference
from tests.builders import (
    random_text,
    run_python,
    save_adapter,
    save_base,
    some_titles,
    write_clean,
)
from tests.training.export.conftest import with_tokenizer
from tests.training.publish.hub import TOKEN, Hub, running
from training.export import command
from training.export.config import ExportConfig

Publish = Callable[..., "subprocess.CompletedProcess[str]"]
CONFIG: dict[str, Any] = {
    "lora": {"r": 4, "alpha": 8}, "optimisation": {"learning_rate": 0.001, "batch_size": 32},
    "loss_on": "completion", "seed": 3407,
}  # fmt: skip


@dataclass(frozen=True)
class Chain:
    """Folders of what is published, and of what it was made from."""

    subset: Path
    run: Path
    report: Path
    merged: Path
    gguf: Path


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    root = tmp_path_factory.mktemp("published")
    rows = [
        (f"u{i}", title, random_text(90 + i, seed=i)) for i, title in enumerate(some_titles(80))
    ]
    clean = write_clean(root / "clean", rows, brand=[f"Brand {i % 3}" for i in range(len(rows))])
    make_subset(SubsetConfig(clean=str(clean), out=str(root / "subset")))
    run = finish(root)
    report, merged, gguf = root / "report", root / "merged", root / "gguf"
    words = ["evaluate", f"--run={run}", f"--subset={root / 'subset'}", f"--out={report}"]
    words += ["--rows=8", "--resamples=200", "--max_new_tokens=12", "--best_of=1", "--device=cpu"]
    assert inference(words) == 0
    command.run(ExportConfig(run=str(run), out=str(merged), precision="float32"))
    command.run(ExportConfig(run=str(run), out=str(gguf), format="gguf", precision="q8_0"))
    return Chain(root / "subset", run, report, merged, gguf)


def finish(root: Path) -> Path:
    """A run of a subset, as training leaves it."""
    run, subset = root / "run", Subset.open(str(root / "subset"))
    save_base(run / "base")
    save_adapter(run / "adapter", run / "base")
    with_tokenizer(run, run / "base")
    facts = {
        "base": "base", "base_digest": locate(str(run / "base")).digest,
        "prompt": Prompt("compact").recorded, "longest_completion_tokens": 12, "max_length": 200,
        "final_loss": 2.5, "steps": 6, "device": "cpu, 2 threads",
        "plan": {"predicted_seconds": 61.5, "actual_seconds": 60.2},
    }  # fmt: skip
    Manifest(
        "train", CONFIG, {"seed": 1}, subset.record.outputs, (), Counts(),
        made_from=(subset.parent,), facts=facts,
    ).write(Folder(str(run)))  # fmt: skip
    return run


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running() as own:
        yield own


@pytest.fixture
def publish(hub: Hub, tmp_path: Path) -> Publish:
    """Type the command in a process of its own, so that the hub's client reads its environment."""

    def typed(
        *words: str, start: tuple[str, str] = ("-m", "training"), **env: str
    ) -> "subprocess.CompletedProcess[str]":
        known = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        home = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        out = f"--out={tmp_path / 'out'}"
        return run_python(
            *start, "publish", "--to=user/kettles", out, *words,
            **known | home | {"HF_TOKEN": TOKEN} | env,
        )  # fmt: skip

    return typed
