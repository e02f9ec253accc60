"""Commands of the inference stage: generate."""

import sys
from collections.abc import Sequence

from data import cli
from data.cli import Command
from inference.config import GenerateConfig

COMMANDS = {"generate": Command(GenerateConfig, "inference.generate:run")}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code."""
    return cli.main("inference", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
