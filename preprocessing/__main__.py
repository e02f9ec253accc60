"""Commands of the cleaning stage: clean."""

from data import interrupts

if __name__ == "__main__":
    interrupts.catch()  # before the imports that take a while

import sys
from collections.abc import Sequence

from data import cli
from preprocessing.config import CleanConfig

COMMANDS = {"clean": cli.Command(CleanConfig, "preprocessing.pipeline:run")}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    return cli.main("preprocessing", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
