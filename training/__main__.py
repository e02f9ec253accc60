# PYTHON_ARGCOMPLETE_OK
"""Commands of the training stage: plan, tune, run, curve, export, publish."""

import os
import platform
import sys
from collections.abc import Sequence

from data.cli import interrupts

if __name__ == "__main__":
    interrupts.catch()  # before the imports that take a while

from data import next_step
from data.cli import command_line
from data.cli.command_line import Command
from data.cli.extras import MODEL, TRAINING, Need
from data.cli.forgotten import Input
from data.cli.usage import Guide
from training.config import TRACKERS, PlanConfig, TrainConfig
from training.curve.config import CurveConfig
from training.export.config import ExportConfig
from training.publish.config import PublishConfig
from training.tune.config import TuneConfig


def _tracked_by(tracker: str) -> Need:
    return Need((TRACKERS[tracker],), lambda config: tracker in config.report_to)


_NEEDS = (
    TRAINING,
    Need(("unsloth", "unsloth_zoo"), lambda config: config.backend == "unsloth"),
    Need(("bitsandbytes",), lambda config: config.quantize is not None),
    *(_tracked_by(tracker) for tracker in TRACKERS),
)
_MEASURES = Need(
    ("pydivsufsort", "rapidfuzz", "rouge_score", "sacrebleu"),
    lambda config: config.evaluate,
)
_GGUF = Need(("gguf",), lambda config: config.format == "gguf")
_HUB = Need(("huggingface_hub",))
_RUN = {"run": Input(("train", "export"))}
_SUBSET = {"subset": Input(("subset",))}
_LEARNING = ("optimisation.epochs", "optimisation.learning_rate", "optimisation.batch_size")
_GPU = "--config training/recipes/rtx3060.yaml --subset data/store/subsets/10k"
_CPU = "--config training/recipes/cpu.yaml --subset data/store/subsets/all"
COMMANDS = {
    "plan": Command(
        PlanConfig, "training.plan.command:run", _NEEDS, inputs=_SUBSET,
        after=next_step.after_plan,
        guide=Guide(
            examples=(_GPU, _CPU, f"{_GPU} --memory_limit 11.65GiB"),
            flags=("subset", "base", "backend", "optimisation.batch_size", "max_length", "lora.r",
                   "memory_limit", "steps", "plans", "overwrite"),
        ),
    ),
    "tune": Command(
        TuneConfig, "training.tune.command:run", (*_NEEDS, Need(("optuna",))), inputs=_SUBSET,
        after=next_step.after_tune,
        guide=Guide(
            examples=(
                f"{_GPU} --plan auto --budget 2h",
                f"{_CPU} --trials 6",
                f"{_CPU} --space.learning_rate '{{low: 1e-4, high: 1e-2}}' --budget 30m",
            ),
            flags=("subset", "out", "budget", "trials", "space.learning_rate", "space.batch_size",
                   "space.rank", "space.epochs", "plan", "overwrite"),
        ),
    ),
    "run": Command(
        TrainConfig, "training.run:run", _NEEDS, inputs=_SUBSET, after=next_step.after_train,
        guide=Guide(
            examples=(
                f"{_GPU} --out data/store/runs/10k --plan auto",
                f"{_CPU} --out data/store/runs/all",
                f"{_GPU} --preview 3",
            ),
            flags=("subset", "out", "base", *_LEARNING, "lora.r", "max_length", "plan",
                   "preview"),
        ),
    ),
    "curve": Command(
        CurveConfig, "training.curve.command:run", (*_NEEDS, _MEASURES), inputs=_SUBSET,
        after=next_step.after_curve,
        guide=Guide(
            examples=(
                f"{_GPU} --sizes '[1000,3000,10000]' --plan auto",
                f"{_CPU} --sizes '[500,1000,2000]' --seeds 1",
                f"{_CPU} --sizes '[500,1000,2000]' --evaluate true",
            ),
            flags=("subset", "sizes", "out", "seeds", "predict", "evaluate", "base",
                   "optimisation.epochs", "plan", "overwrite"),
        ),
    ),
    "export": Command(
        ExportConfig, "training.export.command:run", (MODEL, _GGUF), inputs=_RUN,
        after=next_step.after_export,
        guide=Guide(
            examples=(
                "--run data/store/runs/all --out data/store/exported/all",
                "--run data/store/runs/all --format gguf --precision q8_0 "
                "--out data/store/exported/gguf",
                "--run data/store/runs/all --format adapter --out data/store/exported/adapter",
            ),
            flags=("run", "out", "format", "precision", "overwrite"),
        ),
    ),
    "publish": Command(
        PublishConfig, "training.publish.command:run", (_HUB,),
        inputs={"model": Input(("export",), unless="subset")},
        guide=Guide(
            examples=(
                "--to user/name --model data/store/exported/all --dry_run true",
                "--to user/name --model data/store/exported/all --report data/store/reports/all",
                "--to user/name --subset data/store/subsets/all",
            ),
            flags=("to", "model", "report", "subset", "license", "dry_run", "out", "overwrite"),
        ),
    ),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code."""
    # Read when torch loads. By default OpenMP's threads spin while they wait: two processes on
    # two cores then get 4 steps/s of a tiny model each, with a short spin 20 (alone: 44 and 36).
    os.environ.setdefault("GOMP_SPINCOUNT", "500")
    # Memory for wider rows grows out of that for narrower ones; drivers of WSL and ARM boards fail.
    if platform.machine() == "x86_64" and "microsoft" not in platform.release().lower():
        earlier = os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
        os.environ.setdefault("PYTORCH_ALLOC_CONF", earlier)
    return command_line.main("training", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
