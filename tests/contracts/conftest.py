"""Settings that libraries read when they are imported, here and in child processes; one chain."""

import json
import os
from pathlib import Path
from types import ModuleType

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["UNSLOTH_DISABLE_STATISTICS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "500")

import data.__main__ as data_stage
import inference.__main__ as inference_stage
import preprocessing.__main__ as preprocessing_stage
import training.__main__ as training_stage
from tests.builders import save_base

RECORDS = 900
INSTRUCTIONS = ["Write a product description.", "What is it like?"]


def command(stage: ModuleType, name: str, *words: str, **flags: object) -> None:
    """Run a command as its user would; its exit code must be 0."""
    assert stage.main([name, *words, *(f"--{flag}={value}" for flag, value in flags.items())]) == 0


@pytest.fixture(scope="package")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of every stage: records, clean, subset, run, export, and texts of run and export."""
    root = tmp_path_factory.mktemp("chain")
    command(data_stage, "synthesize", rows=RECORDS, out=root / "trn.json.gz", attributes="true")
    command(
        preprocessing_stage, "clean", "--rules.content_min=20", "--rules.content_max=180",
        "--shares.test=0.1", "--shares.validation=0.1",
        "--attributes=[brand, colour]", source=root / "trn.json.gz", out=root / "clean", workers=1,
    )  # fmt: skip
    command(data_stage, "subset", clean=root / "clean", out=root / "subset")
    command(
        training_stage, "run", "--prompt.template=compact", "--optimisation.batch_size=8",
        f"--prompt.instruction={json.dumps(INSTRUCTIONS)}", "--optimisation.max_steps=4",
        "--prompt.attributes=[colour, brand]",
        "--optimisation.precision=float32", base=save_base(root / "base"), max_length=256,
        max_truncated_share=0.1, subset=root / "subset", out=root / "run", backend="transformers",
    )  # fmt: skip
    command(training_stage, "export", run=root / "run", out=root / "export", precision="float32")
    for model in ("run", "export"):
        command(
            inference_stage, "generate", run=root / model, titles=root / "subset",
            out=root / f"texts of {model}", temperature=0, max_new_tokens=24,
            keep_columns="[brand, colour]",
        )  # fmt: skip
    return root
