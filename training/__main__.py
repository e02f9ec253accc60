"""Commands of the training stage: plan, tune, run, curve, export."""

import os
import sys
from collections.abc import Sequence

from data.cli import command_line, interrupts
from data.cli.command_line import Command
from data.cli.extras import MODEL, TRAINING, Need
from training.config import TRACKERS, PlanConfig, TrainConfig
from training.curve.config import CurveConfig
from training.export.config import ExportConfig
from training.tune.config import TuneConfig

if __name__ == "__main__":
    interrupts.catch()  # before the imports that take a while


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
COMMANDS = {
    "plan": Command(PlanConfig, "training.plan.command:run", _NEEDS),
    "tune": Command(TuneConfig, "training.tune.command:run", (*_NEEDS, Need(("optuna",)))),
    "run": Command(TrainConfig, "training.run:run", _NEEDS),
    "curve": Command(CurveConfig, "training.curve.command:run", (*_NEEDS, _MEASURES)),
    "export": Command(ExportConfig, "training.export.command:run", (MODEL, _GGUF)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code."""
    # Read when torch loads. By default OpenMP's threads spin while they wait: two processes on
    # two cores then get 4 steps/s of a tiny model each, with a short spin 20 (alone: 44 and 36).
    os.environ.setdefault("GOMP_SPINCOUNT", "500")
    return command_line.main("training", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
