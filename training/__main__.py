"""Commands of the training stage: plan, run, export."""

import sys
from collections.abc import Sequence

from data import cli
from data.cli import Command
from training.config import ExportConfig, PlanConfig, TrainConfig

COMMANDS = {
    "plan": Command(PlanConfig, "training.planning:run"),
    "run": Command(TrainConfig, "training.run:run"),
    "export": Command(ExportConfig, "training.export:run"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code."""
    return cli.main("training", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
